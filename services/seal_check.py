"""Seals, verified: every row read again, every seal tied to the one before; what differs is named."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from kit import clock
from models.seal import NOTHING_BEFORE, Seal
from models.unit_of_work import row, rows
from services.seal import BY_MONTH, ROWS_A_BATCH, Head, heads, read_batch, sealed_to
from services.seal_text import NEWEST, Digest, Reading, differing, reading_of

_SEALS_A_BATCH = 50
_NAMED = 20  # rows that are named one by one

KEPT_YEARS = 10  # months of the audit: linli_drop_partitions in the migrations
_LET_GO = """
SELECT (after ->> 'rows')::bigint AS held, happened_at FROM audits
WHERE act = 'audit.let_go' AND target_kind = 'partition' AND actor = 'system:drop_partitions'
  AND after ->> 'month' = $1 ORDER BY id LIMIT 1
"""
# A row of the audit that its month's seals do not reach, though later rows of other months are sealed already.
_BEHIND = """
SELECT a.id FROM audits a LEFT JOIN unnest($2::text[], $3::bigint[]) AS s(month, last_row)
    ON s.month = to_char(a.happened_at AT TIME ZONE 'UTC', 'YYYY-MM')
WHERE a.id < 1 OR (a.id <= $1 AND a.id > COALESCE(s.last_row, 0)) ORDER BY a.id LIMIT 20
"""


@dataclass(frozen=True)
class SealFault:
    """Something that is not as it was sealed. ``found`` names the rows by what is the matter with them."""

    scope: str
    first_row: int
    last_row: int
    words: str
    found: dict[str, Sequence[int]] = field(default_factory=dict)


@dataclass
class SealReport:
    """What verifying found. ``let_go`` are the rows of months that retention took, by their own record."""

    faults: list[SealFault] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    rows_read: int = 0
    unsealed: int = 0
    let_go: dict[str, int] = field(default_factory=dict)


Tell = Callable[[str], None]


def _silent(_: str) -> None:
    return None


async def check_seals(
    *, since: datetime | None = None, known_heads: Collection[str] = (), tell: Tell = _silent
) -> SealReport:
    """Verify every chain, and read again every row that was sealed at or after ``since`` (all of them without).

    ``known_heads`` are digests that somebody wrote down earlier: each must still stand in a chain, else its end was
    cut off. ``tell`` hears of the progress. Changes nothing.
    """
    report = SealReport(heads=await heads())
    scopes = {head.scope for head in report.heads}
    for scope in sorted(scopes):
        await _check_scope(report, scope, since, tell)
    for table in NEWEST:
        await _check_outside(report, table)
    for digest in sorted(set(known_heads)):
        if not await Seal.exists(digest=digest):
            words = (
                f"no seal has the digest {digest}, which was noted before: the end of a chain was cut off or made anew"
            )
            report.faults.append(SealFault("seals", 0, 0, words))
    return report


async def _check_scope(report: SealReport, scope: str, since: datetime | None, tell: Tell) -> None:
    gone = await _let_go(scope)
    if gone is not None:
        report.let_go[scope] = gone
    last_row, digest, looked_to = 0, NOTHING_BEFORE, 0
    while seals := await Seal.filter(scope=scope, first_row__gt=looked_to).order_by("first_row").limit(_SEALS_A_BATCH):
        looked_to = seals[-1].first_row
        for seal in seals:
            if seal.first_row != last_row + 1 or seal.previous_digest != digest:
                words = "a seal before this one is missing or was changed: it is not tied to the one that is there"
                report.faults.append(SealFault(scope, last_row + 1, seal.first_row, words))
            if gone is None and (since is None or seal.sealed_at >= since):
                report.faults.extend(await _check_seal(report, seal))
                tell(f"{scope}: read up to {seal.last_row}")
            last_row, digest = seal.last_row, seal.digest


async def _check_seal(report: SealReport, seal: Seal) -> list[SealFault]:
    """Read the range of one seal again."""

    def fault(words: str, **found: Sequence[int]) -> list[SealFault]:
        return [SealFault(seal.scope, seal.first_row, seal.last_row, words, found)]

    try:
        reading = reading_of(seal.scope.split("/")[0], seal.version)
    except KeyError:
        return fault(f"this program does not know version {seal.version} of this seal")
    digest = await _read_again(seal, reading)
    report.rows_read += digest.row_count
    said = {
        name: getattr(seal, name)
        for name in ("scope", "version", "first_row", "last_row", "previous_digest", "sealed_at")
    }
    agrees = digest.close(**said) == seal.digest
    if agrees and seal.row_count == digest.row_count and bytes(seal.outline) == bytes(digest.outline):
        return []
    named = {what: found for what, found in differing(bytes(seal.outline), bytes(digest.outline)).items() if found}
    if named and not agrees:
        counts = ", ".join(f"{len(found)} {what}" for what, found in named.items())
        return fault(f"rows are not as they were sealed: {counts}", **{w: f[:_NAMED] for w, f in named.items()})
    return fault("the seal itself was changed: what it says does not give its digest")


async def _read_again(seal: Seal, reading: Reading) -> Digest:
    digest, last = Digest(), seal.first_row - 1
    where, values = f"{reading.order} > $1 AND {reading.order} <= $2", list[Any]()
    if "/" in seal.scope:
        where += " AND happened_at >= $3 AND happened_at < $4"
        values = list(_month(seal.scope))
    while batch := await read_batch(reading, ROWS_A_BATCH, where, last, seal.last_row, *values):
        for found in batch:
            digest.add(found["sealed_row"], reading.text(found))
        last = batch[-1]["sealed_row"]
    return digest


def _month(scope: str) -> Iterator[datetime]:
    """The first instant of a scope's month, and that of the month after."""
    first = datetime.fromisoformat(f"{scope.split('/')[1]}-01T00:00:00+00:00")
    yield first
    yield (first + timedelta(days=31)).replace(day=1)


async def _let_go(scope: str) -> int | None:
    """How many sealed rows of a month went by retention: all of them, on record, and not before their time."""
    if "/" not in scope:
        return None
    first, after = _month(scope)
    (sealed,) = await rows("SELECT sum(row_count)::bigint AS rows FROM seals WHERE scope = $1", scope)
    if await rows("SELECT FROM audits WHERE happened_at >= $1 AND happened_at < $2 LIMIT 1", first, after):
        return None
    record = await row(_LET_GO, scope.split("/")[1])
    if record is None or record["held"] < sealed["rows"]:
        return None
    in_time = record["happened_at"] >= first.replace(year=first.year + KEPT_YEARS)
    return int(sealed["rows"]) if in_time and record["happened_at"] <= clock.now() else None


async def _check_outside(report: SealReport, table: str) -> None:
    """Rows where no seal looks and none can have come honestly; and how many wait for their seal."""
    order, last = reading_of(table, NEWEST[table]).order, await sealed_to(table)
    (waiting,) = await rows(f"SELECT count(*) AS rows FROM {table} WHERE {order} > $1", last)  # noqa: S608 - our names
    report.unsealed += waiting["rows"]
    if table in BY_MONTH:
        months = [head for head in report.heads if head.scope.startswith(f"{table}/")]
        found = await rows(
            _BEHIND, last, [head.scope.split("/")[1] for head in months], [head.last_row for head in months]
        )
    else:
        found = await rows(f"SELECT {order} AS id FROM {table} WHERE {order} < 1 LIMIT 20")  # noqa: S608 - our names
    if found:
        words = "rows were put where the seals had passed already"
        ids = [one["id"] for one in found]
        report.faults.append(SealFault(table, ids[0], ids[-1], words, {"inserted": ids}))
