"""Bills from a file: first what would happen, then all of it or nothing.

A file is read twice on purpose: the plan is for people, the commit plans anew inside its transaction and trusts nothing
that was shown before. The promises come from the database: one file a community (by hash), one live bill a purpose.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from tortoise.exceptions import IntegrityError

from kit import clock
from kit.errors import BodyTooLarge, NotFound, Refusal
from kit.ids import new_id
from kit.paging import Page, decode_cursor, page_of
from models import audit
from models.access import Act, Actor, ActorKind, require
from models.base import get_visible
from models.bill import BillImport
from models.community import Community
from models.unit_of_work import row, unit_of_work
from payments import NewBill, NewLine, issue_bills_tx
from services.bill_file import MAX_BYTES
from services.bill_plan import Item, PlannedBill, Resolution, difference, resolve
from services.bill_register import load_existing, load_overlaps, load_register
from services.bill_remark import Remark
from services.bill_sheet import COLUMNS, Sheet, SheetRow, read_sheet

_TOLD = 200  # errors that travel in a refusal; the plan has them all
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('bill_import:' || $1::uuid::text, 0))"
_IMPORTED = """
INSERT INTO bill_imports (id, created_at, organization_id, community_id, file_name, file_sha256, bill_count, amount_fen,
                          imported_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (community_id, file_sha256) DO NOTHING RETURNING id
"""


class BillImportHasErrors(Refusal):
    """``errors`` lists {line, column, code, message}, at most 200 of ``error_count``. Nothing was imported."""

    status = 422
    zh = "文件中有 {error_count} 处错误，没有导入任何账单。请改正后重新上传。"
    en = "The file has {error_count} errors; nothing was imported."


class BillsChangedMeanwhile(Refusal):
    """A bill for the same was issued by somebody else while the file was being imported."""

    status = 409
    zh = "导入期间有人新增了相同的账单，没有导入任何内容，请重新预览。"
    en = "Bills for the same were issued meanwhile; nothing was imported. Look at the plan again."
    retry_after_s = 1


@dataclass(frozen=True)
class FeeItemSum:
    """What the file adds for one fee item."""

    code: str
    name: str
    bill_count: int
    amount_fen: int


@dataclass(frozen=True)
class CommittedImport:
    """An import that is done. ``already_imported``: the very same file had been imported before, nothing was added."""

    id: UUID
    community_id: UUID
    file_name: str
    bill_count: int
    amount_fen: int
    imported_by: str
    imported_at: datetime
    already_imported: bool = False
    skipped_count: int = 0
    warnings: Sequence[Remark] = ()


@dataclass(frozen=True)
class ImportPlan:
    """What would happen. ``bills`` would be added; ``skipped_count`` bills exist already, exactly so; ``zero_count``
    rows come to 0. With any error nothing would be imported, and ``bills`` are those that could be read."""

    community_id: UUID
    file_name: str
    file_sha256: str
    row_count: int
    bills: Sequence[PlannedBill] = ()
    skipped_count: int = 0
    zero_count: int = 0
    errors: Sequence[Remark] = ()
    warnings: Sequence[Remark] = ()
    already_imported: CommittedImport | None = None
    sums: Sequence[FeeItemSum] = field(default_factory=tuple)

    @property
    def bill_count(self) -> int:
        return len(self.bills)

    @property
    def amount_fen(self) -> int:
        return sum(bill.amount_fen for bill in self.bills)

    @property
    def can_be_imported(self) -> bool:
        return not self.errors


async def plan_import(actor: Actor, community_id: UUID, file_name: str, content: bytes) -> ImportPlan:
    """What an import of the file would do; changes nothing. Holds every error of the file, not just the first.

    Refuses with NotPermitted without BILL_ISSUE there, BodyTooLarge over 8 MiB. A bad file is no refusal but a plan
    with errors; a file that was imported before is a plan with ``already_imported`` and nothing to add.
    """
    community = await _community(actor, community_id, Act.BILL_ISSUE)
    _refuse_too_large(content)
    return await _plan(community, file_name, content, await asyncio.to_thread(read_sheet, content))


async def commit_import(actor: Actor, community_id: UUID, file_name: str, content: bytes) -> CommittedImport:
    """Import the file: all of its bills in one transaction, or none.

    The same file again adds nothing and says so. Bills that exist already, exactly so, are skipped. Refuses as
    ``plan_import`` does, with BillImportHasErrors when anything is wrong, and with BillsChangedMeanwhile.
    """
    community = await _community(actor, community_id, Act.BILL_ISSUE)
    _refuse_too_large(content)
    before = await _imported_before(community, content)
    if before:
        return before
    sheet = await asyncio.to_thread(read_sheet, content)
    for _ in range(2):
        try:
            return await _commit(actor, community, file_name, content, sheet)
        except _LookAgain:
            continue
        except IntegrityError as error:
            # Somebody issued one of these bills between our look and our insert: look again, it may be the same.
            if "bills_one_live" not in str(error):
                raise
    raise BillsChangedMeanwhile()


class _LookAgain(Exception):
    """The file went in by other hands between our look and our insert."""


async def list_imports(actor: Actor, community_id: UUID, cursor: str | None, limit: int) -> Page[CommittedImport]:
    """The imports of a community, newest first; for staff who may read its bills."""
    community = await _community(actor, community_id, Act.BILL_READ)
    query = BillImport.filter(community_id=community.id)
    if cursor:
        (last,) = decode_cursor(cursor, (UUID,))
        query = query.filter(id__lt=last)
    found = await query.order_by("-id").limit(limit + 1)
    return page_of([_committed(one) for one in found], limit, lambda one: (one.id,))


async def get_import(actor: Actor, community_id: UUID, import_id: UUID) -> CommittedImport:
    """One import; NotFound for those of other communities."""
    community = await _community(actor, community_id, Act.BILL_READ)
    return _committed(await get_visible(BillImport.filter(community_id=community.id), import_id))


async def _community(actor: Actor, community_id: UUID, act: Act) -> Community:
    """The community, when the actor works there and may do this. Residents have no way to these routes."""
    query = Community.all() if actor.kind is ActorKind.SYSTEM else Community.visible_to(actor)
    if actor.is_resident:
        raise NotFound()
    community = await get_visible(query, community_id)
    require(actor, act, community_id=community.id)
    return community


def _refuse_too_large(content: bytes) -> None:
    if len(content) > MAX_BYTES:
        raise BodyTooLarge(limit_bytes=MAX_BYTES)


async def _imported_before(community: Community, content: bytes) -> CommittedImport | None:
    """The import that this very file was in this community, if it was."""
    digest = hashlib.sha256(content).hexdigest()
    before = await BillImport.get_or_none(community_id=community.id, file_sha256=digest)
    return _committed(before, already_imported=True) if before else None


async def _plan(community: Community, file_name: str, content: bytes, sheet: Sheet) -> ImportPlan:
    digest = hashlib.sha256(content).hexdigest()
    file_name = _shown(file_name)
    before = await _imported_before(community, content)
    if before:
        return ImportPlan(community.id, file_name, digest, sheet.row_count, already_imported=before)
    register = await load_register(community.id)
    resolution = await asyncio.to_thread(resolve, sheet, register)
    bills, skipped_count = await _without_existing(community.id, sheet, resolution)
    return ImportPlan(
        community.id,
        file_name,
        digest,
        sheet.row_count,
        bills=bills,
        skipped_count=skipped_count,
        zero_count=resolution.zero_count,
        errors=sorted(resolution.errors, key=_by_line),
        warnings=sorted(resolution.warnings, key=_by_line),
        sums=_sums(bills),
    )


def _by_line(remark: Remark) -> int:
    return remark.line or 0


def _sums(bills: Sequence[PlannedBill]) -> list[FeeItemSum]:
    totals: dict[UUID, tuple[Item, int, int]] = {}
    for bill in bills:
        _, count, fen = totals.get(bill.item.id, (bill.item, 0, 0))
        totals[bill.item.id] = bill.item, count + 1, fen + bill.amount_fen
    return [FeeItemSum(item.code, item.name, count, fen) for item, count, fen in totals.values()]


async def _without_existing(community_id: UUID, sheet: Sheet, resolution: Resolution) -> tuple[list[PlannedBill], int]:
    """The bills that are not there yet, and how many are. One that is there but differs becomes an error."""
    existing = await load_existing(community_id, [bill.key for bill in resolution.bills])
    new = [bill for bill in resolution.bills if bill.key not in existing]
    skipped_count = 0
    for bill in resolution.bills:
        there = existing.get(bill.key)
        if there is None:
            continue
        differs = difference(bill, there)
        if differs is None:
            skipped_count += 1
            continue
        name, mine, theirs = differs
        heading = sheet.headings.get(name, COLUMNS[name].heading)
        facts = {"name": COLUMNS[name].heading, "mine": mine, "theirs": theirs}
        resolution.errors.append(Remark(bill.rows[0].line, heading, "bill_exists_differs", facts))
    heading = sheet.headings.get("period", COLUMNS["period"].heading)
    for bill, title in await load_overlaps(community_id, new):
        facts = {"room": bill.room.name, "title": title}
        resolution.warnings.append(Remark(bill.rows[0].line, heading, "period_overlaps", facts))
    return new, skipped_count


@unit_of_work
async def _commit(actor: Actor, community: Community, file_name: str, content: bytes, sheet: Sheet) -> CommittedImport:
    # Imports of a community take turns; who comes second sees what the first one made.
    await row(_LOCK, community.id)
    plan = await _plan(community, file_name, content, sheet)
    if plan.already_imported:
        return plan.already_imported
    if plan.errors:
        told = [issue.as_dict() for issue in plan.errors[:_TOLD]]
        raise BillImportHasErrors(errors=told, error_count=len(plan.errors))
    made = await row(
        _IMPORTED,
        new_id(),
        clock.now(),
        community.organization_id,
        community.id,
        plan.file_name,
        plan.file_sha256,
        plan.bill_count,
        plan.amount_fen,
        actor.label()[:64],
    )
    if made is None:
        raise _LookAgain()
    await issue_bills_tx(community.id, [_new_bill(community.id, made["id"], bill) for bill in plan.bills])
    await audit.record_tx(
        actor,
        "bill.import",
        "bill_import",
        made["id"],
        organization_id=community.organization_id,
        community_id=community.id,
        after={
            "file_sha256": plan.file_sha256,
            "bill_count": plan.bill_count,
            "amount_fen": plan.amount_fen,
            "skipped_count": plan.skipped_count,
        },
    )
    done = await BillImport.get(id=made["id"])
    return _committed(done, skipped_count=plan.skipped_count, warnings=plan.warnings)


def _new_bill(community_id: UUID, import_id: UUID, bill: PlannedBill) -> NewBill:
    return NewBill(
        community_id=community_id,
        customer_id=bill.owner.customer_id,
        subject_kind="room",
        subject_id=bill.room.id,
        purpose=bill.purpose,
        title=bill.title,
        accrued_on=bill.rows[0].period.last,
        due_on=bill.due_on,
        lines=[_new_line(bill.item, row) for row in bill.rows],
        room_id=bill.room.id,
        bill_import_id=import_id,
    )


def _new_line(item: Item, row: SheetRow) -> NewLine:
    return NewLine(
        fee_item_id=item.id,
        title=item.name,
        amount_fen=row.amount_fen,
        period_from=row.period.first,
        period_to=row.period.last,
        quantity=row.quantity,
        unit=row.unit,
        unit_price=row.unit_price,
        formula=row.formula,
    )


def _committed(
    done: BillImport, *, already_imported: bool = False, skipped_count: int = 0, warnings: Sequence[Remark] = ()
) -> CommittedImport:
    return CommittedImport(
        done.id,
        done.community_id,
        done.file_name,
        done.bill_count,
        done.amount_fen,
        done.imported_by,
        done.created_at,
        already_imported,
        skipped_count,
        warnings,
    )


def _shown(file_name: str) -> str:
    """The bare name: no folders of somebody's computer, nothing unprintable."""
    bare = file_name.replace("\\", "/").rpartition("/")[2]
    return "".join(character for character in bare if character.isprintable())[-200:] or "—"
