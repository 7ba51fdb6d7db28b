"""Bills from a file, over HTTP: the file is the body, its name a parameter."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from handlers.route import Call, Fen, Id, Out, PageOut, PageQuery, Query, Reply, Who, route
from kit.errors import BodyTooLarge, NotPermitted
from services import bill_import, rate_limit
from services.bill_file import MAX_BYTES
from services.bill_import import BillImportHasErrors, BillsChangedMeanwhile, CommittedImport, ImportPlan
from services.bill_plan import PlannedBill
from services.bill_remark import Remark
from services.bill_template import bills_template

_BASE = "/api/v1/staff/communities/{community_id}/bill-imports"
_TAG = "账单导入 bill imports"
_SHOWN = 1_000  # errors, warnings
_SAMPLE = 50  # bills
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


class FileQuery(Query):
    """The file's name."""

    file_name: str = Field(min_length=1, max_length=200, description="如 2026年11月账单.xlsx")


class RemarkOut(Out):
    """Something wrong, or something to look at."""

    line: int | None = Field(description="Row number as a spreadsheet shows it; null: about the whole file")
    column: str | None = Field(description="The heading as the file writes it; null: about the whole row")
    code: str
    message: str


class PlannedLineOut(Out):
    line: int
    quantity: str | None
    unit: str
    unit_price: str | None = Field(description="In yuan")
    formula: str
    amount_fen: Fen


class PlannedBillOut(Out):
    """A bill that would be issued."""

    room_id: Id
    room: str
    debtor: str
    fee_item: str
    title: str
    due_on: str
    amount_fen: Fen
    lines: list[PlannedLineOut]


class FeeItemSumOut(Out):
    code: str
    name: str
    bill_count: int
    amount_fen: Fen


class BillImportOut(Out):
    """An import that was done."""

    id: Id
    community_id: Id
    file_name: str
    bill_count: int
    amount_fen: Fen
    imported_by: str = Field(description="staff:<id>, or system:<command>")
    imported_at: datetime
    already_imported: bool = Field(False, description="The very same file had been imported before: nothing was added")
    skipped_count: int = Field(0, description="Bills of the file that existed already; told in the first answer only")
    warnings: list[RemarkOut] = Field(default_factory=list)


class ImportPlanOut(Out):
    """What would happen. With any error nothing would be imported."""

    file_name: str
    file_sha256: str
    row_count: int
    can_be_imported: bool
    bill_count: int
    amount_fen: Fen
    sums: list[FeeItemSumOut]
    skipped_count: int = Field(description="Bills that exist already, exactly so")
    zero_count: int = Field(description="Rows that come to 0 and make no bill")
    error_count: int
    errors: list[RemarkOut] = Field(description="The first 1,000")
    warning_count: int
    warnings: list[RemarkOut] = Field(description="The first 1,000")
    sample: list[PlannedBillOut] = Field(description="The first 50 bills")
    already_imported: BillImportOut | None


def _remarks(remarks: tuple[Remark, ...], language: str) -> list[RemarkOut]:
    return [RemarkOut(**remark.as_dict(language)) for remark in remarks[:_SHOWN]]


def _done(done: CommittedImport, language: str) -> BillImportOut:
    return BillImportOut(
        id=str(done.id),
        community_id=str(done.community_id),
        file_name=done.file_name,
        bill_count=done.bill_count,
        amount_fen=done.amount_fen,
        imported_by=done.imported_by,
        imported_at=done.imported_at,
        already_imported=done.already_imported,
        skipped_count=done.skipped_count,
        warnings=_remarks(tuple(done.warnings), language),
    )


def _planned(bill: PlannedBill) -> PlannedBillOut:
    lines = [
        PlannedLineOut(
            line=row.line,
            quantity=format(row.quantity, "f") if row.quantity is not None else None,
            unit=row.unit,
            unit_price=format(row.unit_price, "f") if row.unit_price is not None else None,
            formula=row.formula,
            amount_fen=row.amount_fen,
        )
        for row in bill.rows
    ]
    return PlannedBillOut(
        room_id=str(bill.room.id),
        room=bill.room.name,
        debtor=bill.owner.name,
        fee_item=bill.item.name,
        title=bill.title,
        due_on=bill.due_on.isoformat(),
        amount_fen=bill.amount_fen,
        lines=lines,
    )


def _plan(plan: ImportPlan, language: str) -> ImportPlanOut:
    return ImportPlanOut(
        file_name=plan.file_name,
        file_sha256=plan.file_sha256,
        row_count=plan.row_count,
        can_be_imported=plan.can_be_imported,
        bill_count=plan.bill_count,
        amount_fen=plan.amount_fen,
        sums=[
            FeeItemSumOut(code=one.code, name=one.name, bill_count=one.bill_count, amount_fen=one.amount_fen)
            for one in plan.sums
        ],
        skipped_count=plan.skipped_count,
        zero_count=plan.zero_count,
        error_count=len(plan.errors),
        errors=_remarks(tuple(plan.errors), language),
        warning_count=len(plan.warnings),
        warnings=_remarks(tuple(plan.warnings), language),
        sample=[_planned(bill) for bill in plan.bills[:_SAMPLE]],
        already_imported=_done(plan.already_imported, language) if plan.already_imported else None,
    )


@route(
    "POST",
    _BASE + "/plan",
    who=Who.STAFF,
    summary="预览导入账单",
    tag=_TAG,
    query=FileQuery,
    response=ImportPlanOut,
    limits=(rate_limit.READ_BILL_FILE,),
    refusals=(NotPermitted, BodyTooLarge),
    raw_type="application/octet-stream",
    max_bytes=MAX_BYTES,
    answer_within_s=85,
)
async def post_plan(call: Call) -> ImportPlanOut:
    """The body is the .xlsx or .csv file itself. Changes nothing; a bad file answers 200 with its errors."""
    plan = await bill_import.plan_import(call.actor, call.id("community_id"), call.query.file_name, call.raw)
    return _plan(plan, call.language)


async def _replay(call: Call, import_id: UUID) -> BillImportOut:
    found = await bill_import.get_import(call.actor, call.id("community_id"), import_id)
    return _done(found, call.language)


@route(
    "POST",
    _BASE,
    who=Who.STAFF,
    summary="导入账单",
    tag=_TAG,
    query=FileQuery,
    response=BillImportOut,
    status=201,
    limits=(rate_limit.READ_BILL_FILE,),
    refusals=(NotPermitted, BodyTooLarge, BillImportHasErrors, BillsChangedMeanwhile),
    raw_type="application/octet-stream",
    max_bytes=MAX_BYTES,
    answer_within_s=85,
    replay=_replay,
    makes="bill_import",
)
async def post_import(call: Call) -> BillImportOut:
    """All bills of the file in one transaction, or none. The same file again adds nothing and says so."""
    done = await bill_import.commit_import(call.actor, call.id("community_id"), call.query.file_name, call.raw)
    return _done(done, call.language)


@route(
    "GET",
    _BASE,
    who=Who.STAFF,
    summary="账单导入记录",
    tag=_TAG,
    query=PageQuery,
    response=PageOut[BillImportOut],
    refusals=(NotPermitted,),
)
async def get_imports(call: Call) -> PageOut[BillImportOut]:
    """What was imported into the community, by whom and when."""
    page = await bill_import.list_imports(call.actor, call.id("community_id"), call.query.cursor, call.query.limit)
    return PageOut(items=[_done(one, call.language) for one in page.items], next_cursor=page.next_cursor)


@route(
    "GET",
    _BASE + "/{bill_import_id}",
    who=Who.STAFF,
    summary="一次账单导入",
    tag=_TAG,
    response=BillImportOut,
    refusals=(NotPermitted,),
)
async def get_import(call: Call) -> BillImportOut:
    """One import with its counts."""
    found = await bill_import.get_import(call.actor, call.id("community_id"), call.id("bill_import_id"))
    return _done(found, call.language)


@route(
    "GET",
    "/api/v1/staff/communities/{community_id}/bill-import-template",
    who=Who.STAFF,
    summary="下载账单导入模板",
    tag=_TAG,
    refusals=(NotPermitted,),
    content_type=_XLSX,
)
async def get_template(call: Call) -> Reply:
    """An .xlsx file with the headings, two examples that are never imported, and an explanation."""
    body = await bills_template(call.actor, call.id("community_id"))
    headers = {"Content-Disposition": "attachment; filename=\"bills.xlsx\"; filename*=UTF-8''%E8%B4%A6%E5%8D%95.xlsx"}
    return Reply(body, content_type=_XLSX, headers=headers)
