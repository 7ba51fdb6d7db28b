"""Receipts as files: asked for here, made by a job in the worker, kept for a while; prints on paper are counted."""

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import structlog

from kit import clock
from kit.errors import Refusal
from kit.ids import new_id
from kit.paging import Page
from kit.text import mask_name
from models import audit, idempotency
from models.access import Act, Actor, require
from models.base import get_visible
from models.job import enqueue_tx
from models.receipt import (
    RECEIPT_FILE_MACHINE,
    Receipt,
    ReceiptFile,
    ReceiptFileState,
    ReceiptFormat,
    ReceiptPrint,
)
from models.staff import Staff
from models.unit_of_work import row, rows, unit_of_work
from services.listing import newest_first
from services.receipt import WHOLE, Standing, check_code, get_receipt, sees_debtor, standings
from services.receipt_pdf import TEMPLATE_VERSION, PrintMark, ReceiptDocument, ReceiptPdf, receipt_pdf

log = structlog.get_logger()

RETRY_S = (10, 60, 600, 3600, 6 * 3600)
"""After a file could not be made; after the last one it has failed."""
KEPT_DAYS = 90
_LEASE_S = 60

# One at a time: each takes tens of megabytes while it is drawn, and the loop of the worker goes on beside it.
_drawing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="receipt")

_ASK = """
INSERT INTO receipt_files (id, created_at, community_id, receipt_id, format, masked, print_id, template_version, state,
    attempts, next_check_at, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'queued', 0, $9, '')
ON CONFLICT (receipt_id, format, masked, print_id, template_version) DO NOTHING RETURNING id
"""
_COUNT = """
INSERT INTO receipt_prints (id, created_at, organization_id, community_id, receipt_id, format, copy_number, staff_id,
    printed_by)
SELECT $1, $2, $3, $4, $5, $6, 1 + COALESCE((SELECT max(copy_number) FROM receipt_prints WHERE receipt_id = $5), 0),
    $7, $8
ON CONFLICT (receipt_id, copy_number) DO NOTHING RETURNING id
"""
_FORGET = """
DELETE FROM receipt_files WHERE id IN (
    SELECT id FROM receipt_files WHERE made_at < $1 ORDER BY made_at LIMIT 1000)
RETURNING id
"""


class ReceiptFileNotMade(Refusal):
    """The file could not be made for hours; it is tried again, and the log says why."""

    status = 503
    zh = "收据文件暂时无法生成，请稍后再试；收据本身有效，可先查看网页版。"
    en = "The file cannot be made at the moment; the receipt itself is valid."
    retry_after_s = 60


async def receipt_file(actor: Actor, receipt_id: UUID, paper: ReceiptFormat) -> ReceiptFile | None:
    """The electronic file of a receipt that the actor may see; None while it is being made: ask again in a second.

    Asking starts the making, once. NotFound, ReceiptFileNotMade.
    """
    receipt = await get_receipt(actor, receipt_id)
    return await _made_or_asked(receipt, paper, masked=not sees_debtor(actor, receipt), print_id=None)


async def print_file(actor: Actor, receipt_id: UUID, print_id: UUID) -> ReceiptFile | None:
    """The file of a print, marked as the copy that it is; None while it is being made. NotFound, ReceiptFileNotMade."""
    receipt = await get_receipt(actor, receipt_id)
    copy = await get_visible(ReceiptPrint.visible_to(actor).filter(receipt_id=receipt.id), print_id)
    return await _made_or_asked(receipt, copy.format, masked=False, print_id=copy.id)


async def print_receipt(actor: Actor, receipt_id: UUID, paper: ReceiptFormat) -> ReceiptPrint:
    """Count one more copy on paper, and have its file made. The second and later ones say 补打.

    NotFound, NotPermitted.
    """
    receipt = await get_receipt(actor, receipt_id)
    require(actor, Act.RECEIPT_PRINT, community_id=receipt.community_id)
    return await _count_print(actor, receipt, paper)


async def get_print(actor: Actor, receipt_id: UUID, print_id: UUID) -> ReceiptPrint:
    """One print of a receipt; NotFound otherwise."""
    receipt = await get_receipt(actor, receipt_id)
    return await get_visible(ReceiptPrint.visible_to(actor).filter(receipt_id=receipt.id), print_id)


async def list_prints(actor: Actor, receipt_id: UUID, cursor: str | None, limit: int) -> Page[ReceiptPrint]:
    """The prints of a receipt, newest first. NotFound."""
    receipt = await get_receipt(actor, receipt_id)
    return await newest_first(ReceiptPrint.visible_to(actor).filter(receipt_id=receipt.id), cursor, limit)


@unit_of_work
async def _count_print(actor: Actor, receipt: Receipt, paper: ReceiptFormat) -> ReceiptPrint:
    assert actor.id is not None
    staff = await Staff.get(id=actor.id)
    counted = None
    while counted is None:  # somebody else took the number between the look and the insert
        counted = await row(_COUNT, new_id(), clock.now(), receipt.organization_id, receipt.community_id, receipt.id,
                            paper.value, staff.id, staff.name)  # fmt: skip
    copy = await ReceiptPrint.get(id=counted["id"])
    await _ask_tx(receipt, paper, masked=False, print_id=copy.id)
    await audit.record_tx(
        actor, "receipt.print", "receipt", receipt.id, organization_id=receipt.organization_id,
        community_id=receipt.community_id, after={"format": paper.value, "copy_number": copy.copy_number},
    )  # fmt: skip
    await idempotency.note_tx("receipt_print", copy.id)
    return copy


async def _made_or_asked(
    receipt: Receipt, paper: ReceiptFormat, *, masked: bool, print_id: UUID | None
) -> ReceiptFile | None:
    file = await ReceiptFile.get_or_none(
        receipt_id=receipt.id, format=paper, masked=masked, print_id=print_id, template_version=TEMPLATE_VERSION
    )
    if file is None:
        await unit_of_work(_ask_tx)(receipt, paper, masked=masked, print_id=print_id)
        return None
    if file.state is ReceiptFileState.FAILED:
        await _ask_again(file.id)
        raise ReceiptFileNotMade()
    return file if file.state is ReceiptFileState.MADE else None


async def _ask_tx(receipt: Receipt, paper: ReceiptFormat, *, masked: bool, print_id: UUID | None) -> None:
    soon = clock.now() + timedelta(seconds=RETRY_S[0])
    asked = await row(_ASK, new_id(), clock.now(), receipt.community_id, receipt.id, paper.value, masked, print_id,
                      TEMPLATE_VERSION, soon)  # fmt: skip
    if asked is not None:
        await enqueue_tx("make_receipt_file", {"file_id": str(asked["id"])})


@unit_of_work
async def _ask_again(file_id: UUID) -> None:
    """One more try for a file that was given up; the sweep takes it, so that asking often does not make it busy."""
    file = await ReceiptFile.select_for_update().get_or_none(id=file_id)
    if file is not None and file.state is ReceiptFileState.FAILED:
        RECEIPT_FILE_MACHINE.enter(
            file, ReceiptFileState.QUEUED, next_check_at=clock.now() + timedelta(seconds=RETRY_S[1])
        )
        await file.save(update_fields=["state", "next_check_at"])


async def make_receipt_file(file_id: UUID) -> ReceiptFileState | None:
    """Draw a file that was asked for, in a thread of its own; its state afterwards, None when there was nothing to do.

    Whatever goes wrong is tried again later and never touches the receipt itself.
    """
    file = await _take(file_id)
    if file is None:
        return None
    try:
        receipt = await Receipt.get(id=file.receipt_id)
        copy = await ReceiptPrint.get(id=file.print_id) if file.print_id else None
        standing = (await standings([receipt]))[receipt.id]
        document = receipt_document(receipt, masked=file.masked, copy=copy, standing=standing)
        made = await asyncio.get_running_loop().run_in_executor(_drawing, receipt_pdf, document, file.format)
    except Exception as error:
        log.exception("receipt_file_failed", file_id=str(file_id))
        return await _later(file_id, type(error).__name__)
    if made.missing:
        codes = " ".join(f"U+{ord(one):04X}" for one in made.missing)
        log.warning("receipt_characters_missing", receipt_id=str(receipt.id), characters=codes)
    return await _keep(file_id, made, standing)


def receipt_document(
    receipt: Receipt, *, masked: bool, copy: ReceiptPrint | None = None, standing: Standing = WHOLE
) -> ReceiptDocument:
    """What the paper says: the frozen content, the debtor as its reader may see them, the mark of a print, and what
    became of the money since."""
    customer = str(receipt.content["customer"])
    return ReceiptDocument(
        number=receipt.number,
        issued_on=receipt.issued_on,
        check_code=check_code(receipt),
        customer=mask_name(customer) if masked else customer,
        content=receipt.content,
        mark=PrintMark(copy.copy_number, copy.printed_by, copy.created_at) if copy else None,
        voided_on=standing.voided_on,
        refunded_fen=standing.refunded_fen,
    )


@unit_of_work
async def _take(file_id: UUID) -> ReceiptFile | None:
    """Lease a queued file for a minute, unless somebody else has."""
    file = await ReceiptFile.select_for_update().get_or_none(id=file_id)
    soon = clock.now() + timedelta(seconds=RETRY_S[0])
    if file is None or file.next_check_at is None or file.next_check_at > soon:
        return None
    file.next_check_at = clock.now() + timedelta(seconds=_LEASE_S)
    await file.save(update_fields=["next_check_at"])
    return file


@unit_of_work
async def _keep(file_id: UUID, made: ReceiptPdf, drawn: Standing) -> ReceiptFileState | None:
    """Keep what was drawn, unless money went back meanwhile: then it says what is no longer so. A refund that is not
    committed yet waits for this row, and forgets it."""
    file = await ReceiptFile.select_for_update().get_or_none(id=file_id)
    if file is None:
        return None
    receipt = await Receipt.get(id=file.receipt_id)
    if (await standings([receipt]))[receipt.id] != drawn:
        file.next_check_at = clock.now()
        await file.save(update_fields=["next_check_at"])
        return file.state
    if file.state is ReceiptFileState.QUEUED:
        RECEIPT_FILE_MACHINE.enter(
            file,
            ReceiptFileState.MADE,
            body=made.body,
            sha256=hashlib.sha256(made.body).hexdigest(),
            made_at=clock.now(),
            next_check_at=None,
            detail=" ".join(f"U+{ord(one):04X}" for one in made.missing)[:200],
        )
        await file.save(update_fields=["state", "body", "sha256", "made_at", "next_check_at", "detail"])
    return file.state


@unit_of_work
async def _later(file_id: UUID, detail: str) -> ReceiptFileState | None:
    file = await ReceiptFile.select_for_update().get_or_none(id=file_id)
    if file is None or file.state is not ReceiptFileState.QUEUED:
        return file.state if file else None
    file.attempts += 1
    if file.attempts > len(RETRY_S):
        RECEIPT_FILE_MACHINE.enter(file, ReceiptFileState.FAILED, next_check_at=None)
    else:
        file.next_check_at = clock.now() + timedelta(seconds=RETRY_S[file.attempts - 1])
    file.detail = detail[:200]
    await file.save(update_fields=["state", "attempts", "next_check_at", "detail"])
    return file.state


async def sweep_receipt_files(limit: int = 20) -> int:
    """Make what is due again; how many were taken up."""
    due = await ReceiptFile.filter(next_check_at__lte=clock.now()).order_by("next_check_at").limit(limit).only("id")
    return sum([await make_receipt_file(file.id) is not None for file in due])


@unit_of_work
async def forget_receipt_files() -> int:
    """Let go of files made long ago, a batch of them; how many. Asked for again, they are made again, the same."""
    return len(await rows(_FORGET, clock.now() - timedelta(days=KEPT_DAYS)))
