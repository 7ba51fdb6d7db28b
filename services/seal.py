"""Seals over what is only ever added to: entries, allocations, receipts and the audit.

They stand in services and not in the island, because the audit is no money of the island's; nothing here moves any. The
trap is the horizon, see ``horizon`` and ``docs/decisions``.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from kit import clock
from models.seal import NOTHING_BEFORE, Seal
from models.unit_of_work import row, rows, unit_of_work
from services.seal_text import NEWEST, Digest, Reading, reading_of

log = structlog.get_logger()

ROWS_A_SEAL = 10_000
ROWS_A_BATCH = 2_000
PATIENCE_S = 45  # longer than a statement of the application may take, so only somebody's open session is not awaited
BY_MONTH = frozenset({"audits"})  # tables whose months are let go of: each month is a scope of its own
_LOOK_S = 0.05  # how often the writers are looked at while they are awaited
_LOCK = 0x5EA1

# Whoever may have taken a number holds this lock until the end of its transaction.
_WRITERS = """
SELECT DISTINCT virtualtransaction AS writer FROM pg_locks
WHERE locktype = 'relation' AND relation = $1::text::regclass AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
"""
_SEALED_TO = "SELECT COALESCE(max(last_row), 0) AS last_row FROM seals WHERE scope = $1 OR scope LIKE $1 || '/%'"


@dataclass(frozen=True)
class Head:
    """The newest seal of a scope: with its digest written down elsewhere, nobody can exchange the chain unseen."""

    scope: str
    last_row: int
    digest: str


async def seal_books(patience_s: float = PATIENCE_S) -> int:
    """Seal every row below the horizon of its table; how many rows. May run twice, also at once: each is sealed once.

    A table in which somebody's transaction stays open longer than ``patience_s`` is left for the next run.
    """
    tables = list(NEWEST)
    marks = await asyncio.gather(*(horizon(table, patience_s) for table in tables))
    sealed = 0
    for table, mark in zip(tables, marks, strict=True):
        if mark is None:
            log.warning("seal_waits", table=table, reason="a transaction that may still add lower numbers is open")
            continue
        while count := await _seal_next(table, mark):
            sealed += count
    return sealed


async def horizon(table: str, patience_s: float) -> int | None:
    """A number up to which no row can appear any more; None when that was not so within ``patience_s``.

    Numbers come from sequences, so a lower one can be committed after a higher. First the highest committed number is
    noted, then every transaction that holds a writer's lock on the table: whoever took a lower number took it under
    that lock and keeps it to its end. When all of those have ended, every number up to the note is there or never will
    be. Transaction ids would not do: a row can have its number before its transaction has an id, and a restore or
    a freeze gives all rows others.
    """
    order = reading_of(table, NEWEST[table]).order
    (highest,) = await rows(f"SELECT COALESCE(max({order}), 0) AS number FROM {table}")  # noqa: S608 - our own names
    waiting = await _writers(table)
    until = time.monotonic() + patience_s
    while waiting:
        if time.monotonic() > until:
            return None
        await asyncio.sleep(_LOOK_S)
        waiting &= await _writers(table)
    return int(highest["number"])


async def _writers(table: str) -> set[str]:
    return {str(one["writer"]) for one in await rows(_WRITERS, table)}


async def sealed_to(table: str) -> int:
    """The highest number of the table that is under a seal; 0 for none."""
    (found,) = await rows(_SEALED_TO, table)
    return int(found["last_row"])


async def heads() -> list[Head]:
    """The newest seal of every scope, by scope."""
    newest = await rows("SELECT DISTINCT ON (scope) scope, last_row, digest FROM seals ORDER BY scope, first_row DESC")
    return [Head(one["scope"], one["last_row"], one["digest"]) for one in newest]


async def read_batch(reading: Reading, limit: int, where: str, *values: Any) -> Sequence[dict[str, Any]]:
    """The first ``limit`` rows in their order; ``where`` is our own text with ``$1 …`` for the values."""
    return await rows(f"{reading.select()} WHERE {where} ORDER BY sealed_row LIMIT {limit}", *values)


def scope_of(table: str, found: dict[str, Any]) -> str:
    """The scope a row belongs to: the table, or the month of it."""
    return f"{table}/{found['happened_at'][:7]}" if table in BY_MONTH else table


@unit_of_work
async def _seal_next(table: str, mark: int) -> int:
    """Seal the next rows up to the mark, one seal a scope; how many. While another sealer is at it, none."""
    (free,) = await rows("SELECT pg_try_advisory_xact_lock($1, $2) AS got", _LOCK, list(NEWEST).index(table))
    if not free["got"]:
        return 0
    reading, last = reading_of(table, NEWEST[table]), await sealed_to(table)
    digests: dict[str, Digest] = {}
    count = 0
    while count < ROWS_A_SEAL:
        where = f"{reading.order} > $1 AND {reading.order} <= $2"
        batch = await read_batch(reading, min(ROWS_A_BATCH, ROWS_A_SEAL - count), where, last, mark)
        for found in batch:
            digests.setdefault(scope_of(table, found), Digest()).add(found["sealed_row"], reading.text(found))
        count += len(batch)
        if not batch:
            break
        last = batch[-1]["sealed_row"]
    for scope, digest in digests.items():
        await _write_tx(scope, digest, NEWEST[table], last)
    return count


async def _write_tx(scope: str, digest: Digest, version: int, last_row: int) -> None:
    before = await row("SELECT last_row, digest FROM seals WHERE scope = $1 ORDER BY first_row DESC LIMIT 1", scope)
    said: dict[str, Any] = {
        "scope": scope,
        "version": version,
        "first_row": before["last_row"] + 1 if before else 1,
        "last_row": last_row,
        "previous_digest": before["digest"] if before else NOTHING_BEFORE,
        "sealed_at": clock.now(),
    }
    await Seal.create(**said, row_count=digest.row_count, outline=bytes(digest.outline), digest=digest.close(**said))
