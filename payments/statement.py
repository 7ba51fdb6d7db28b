"""Statements: WeChat's bills kept as they came, in pieces, so that no process ever holds one whole."""

import asyncio
import tempfile
from typing import BinaryIO
from uuid import UUID

from kit.ids import new_id
from models import audit
from models.access import Actor
from models.job import enqueue_tx
from models.merchant_account import MerchantAccount
from models.reconciliation import Statement, StatementSource
from models.unit_of_work import row, rows, unit_of_work
from payments.gateways.base import BillUnreadable
from payments.statement_file import MAX_PACKED_BYTES, Digest, digest_of, packed_pieces

PART_BYTES = 512 * 1024
_IN_MEMORY = 2 * 1024 * 1024

_PART = """
INSERT INTO statement_parts (id, created_at, statement_id, number, body)
SELECT $1, now(), $2, $3, $4 RETURNING length(body) AS size
"""


def spool() -> BinaryIO:
    """A file that lies in memory while it is small, then on disk; gone when it is closed."""
    return tempfile.SpooledTemporaryFile(_IN_MEMORY)  # type: ignore[return-value]


async def one_at_a_time_tx(merchant_account_id: UUID) -> None:
    """Files of one merchant account are kept and read one after the other. Not by a lock of its row: that one is what
    everybody who opens a payment there needs, and a large file takes a minute."""
    await rows("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"reconciliation:{merchant_account_id}")


async def keep(
    merchant_account_id: UUID, file: BinaryIO, source: StatementSource, *, by: Actor | None = None
) -> tuple[Statement, bool]:
    """Keep the file as it came; its row, and whether it is new. The very same file is kept once a merchant account.

    ``file`` stands at its beginning. Given ``by`` staff, that is audited, and a job reads it. Raises BillUnreadable for
    a file that is empty, too large, or no whole gzip.
    """
    digest = await asyncio.to_thread(digest_of, file)  # a small file may unpack to a large one
    if not digest.plain_bytes:
        raise BillUnreadable("空文件 / an empty file")
    return await _keep(merchant_account_id, file, digest, source, by)


@unit_of_work
async def _keep(
    merchant_account_id: UUID, file: BinaryIO, digest: Digest, source: StatementSource, by: Actor | None
) -> tuple[Statement, bool]:
    await one_at_a_time_tx(merchant_account_id)
    account = await MerchantAccount.get(id=merchant_account_id)
    statement = await Statement.get_or_none(merchant_account_id=account.id, sha256=digest.sha256)
    new = statement is None
    if statement is None:
        statement = await _write_tx(account, file, digest, source, by)
    if by is not None and by.is_staff:
        await audit.record_tx(
            by, "statement.give", "statement", statement.id, organization_id=account.organization_id,
            after={"sha256": digest.sha256, "plain_bytes": digest.plain_bytes, "new": new},
        )  # fmt: skip
        await enqueue_tx("read_statement", {"statement_id": str(statement.id)})
    return statement, new


async def _write_tx(
    account: MerchantAccount, file: BinaryIO, digest: Digest, source: StatementSource, by: Actor | None
) -> Statement:
    file.seek(0)
    # The file's row says how long it is, so the pieces are counted before it is written.
    packed_bytes = sum(len(piece) for piece in packed_pieces(file, PART_BYTES))
    if packed_bytes > MAX_PACKED_BYTES:
        raise BillUnreadable("文件太大 / too large")
    statement = await Statement.create(
        organization_id=account.organization_id,
        merchant_account_id=account.id,
        source=source,
        given_by_staff_id=by.id if by is not None and by.is_staff else None,
        sha256=digest.sha256,
        plain_bytes=digest.plain_bytes,
        packed_bytes=packed_bytes,
    )
    file.seek(0)
    for number, piece in enumerate(packed_pieces(file, PART_BYTES)):
        await rows(_PART, new_id(), statement.id, number, piece)
    return statement


async def open_statement(statement_id: UUID) -> BinaryIO:
    """The kept file, as it came (gzip), at its beginning; the caller closes it."""
    file = spool()
    number = 0
    while found := await row(
        "SELECT body FROM statement_parts WHERE statement_id = $1 AND number = $2", statement_id, number
    ):
        file.write(found["body"])
        number += 1
    file.seek(0)
    return file
