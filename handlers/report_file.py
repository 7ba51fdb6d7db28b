"""The reports of finance as files: ask, look how far it is, fetch."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from handlers.finance_report import (
    TAG,
    ArrearsQuery,
    BalanceQuery,
    CashierQuery,
    CollectionQuery,
    IncomeQuery,
    TrialQuery,
    first_of,
    last_of,
    selection,
)
from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Query, Reply, Who, route
from kit import clock
from kit.errors import InvalidCursor, NotFound, NotPermitted
from models.report_file import ReportFile, ReportFileState, ReportFormat
from services import report_file as service
from services.report_lines import JOURNAL, Request

_TYPES = {
    ReportFormat.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ReportFormat.CSV: "text/csv; charset=utf-8",
}
_PLACE = "/api/v1/staff/finance"


class FormatIn(Body):
    format: ReportFormat


class JournalFileQuery(Query):
    """Days are inclusive; without them there is no bound."""

    from_on: date | None = None
    to_on: date | None = None
    community_id: str | None = None
    legal_entity_id: str | None = None


class ReportFileOut(Out):
    """``percent`` of the lines are written; ``ready``: fetch the file before ``expires_at``. ``failed``: ``problem``
    says why, e.g. too_many_rows (500,000 lines go into one)."""

    id: Id
    report: str
    format: ReportFormat
    status: ReportFileState
    percent: int
    row_count: int | None
    size_bytes: int | None
    problem: str | None
    created_at: datetime
    ready_at: datetime | None
    expires_at: datetime | None


def _out(file: ReportFile) -> ReportFileOut:
    ready = file.state is ReportFileState.READY
    return ReportFileOut(
        id=str(file.id),
        report=file.report,
        format=file.format,
        status=file.state,
        percent=100 if ready else file.rows_done * 100 // file.row_count if file.row_count else 0,
        row_count=file.row_count,
        size_bytes=file.size_bytes,
        problem=file.problem,
        created_at=file.created_at,
        ready_at=file.ready_at,
        expires_at=file.next_check_at if ready else None,
    )


async def _replay(call: Call, file_id: UUID) -> ReportFileOut:
    return _out(await service.get_file(call.actor, file_id))


async def _ask(call: Call, report: str, first: date | None, last: date | None) -> ReportFileOut:
    request = Request(getattr(call.query, "by", ""), selection(call.query, first, last))
    return _out(await service.request_file(call.actor, report, request, call.body.format))


_ASKING: dict[str, Any] = {
    "who": Who.STAFF, "tag": TAG, "body": FormatIn, "status": 201, "response": ReportFileOut, "replay": _replay,
    "makes": "report_file", "refusals": (NotPermitted, service.TooManyReportFiles),
}  # fmt: skip


@route("POST", f"{_PLACE}/collection/files", summary="导出应收实收与收缴率", query=CollectionQuery, **_ASKING)
async def collection_file(call: Call) -> ReportFileOut:
    """The report with the same query, all its lines and the totals, as a file."""
    return await _ask(call, "collection", first_of(call.query.from_month), last_of(call.query.to_month))


@route("POST", f"{_PLACE}/arrears/files", summary="导出欠费账龄", query=ArrearsQuery, **_ASKING)
async def arrears_file(call: Call) -> ReportFileOut:
    """The report with the same query, all its lines and the totals, as a file."""
    return await _ask(call, "arrears", None, clock.today())


@route("POST", f"{_PLACE}/income/files", summary="导出收入汇总", query=IncomeQuery, **_ASKING)
async def income_file(call: Call) -> ReportFileOut:
    """The report with the same query, all its lines and the totals, as a file."""
    return await _ask(call, "income", call.query.from_on, call.query.to_on)


@route("POST", f"{_PLACE}/balances/files", summary="导出科目余额", query=BalanceQuery, **_ASKING)
async def balances_file(call: Call) -> ReportFileOut:
    """The report with the same query, all its lines and the totals, as a file."""
    return await _ask(call, "balances", call.query.from_on, call.query.to_on)


@route("POST", f"{_PLACE}/trial-balance/files", summary="导出试算平衡表", query=TrialQuery, **_ASKING)
async def trial_balance_file(call: Call) -> ReportFileOut:
    """The report with the same query, all its lines and the totals, as a file."""
    last = last_of(call.query.to_month or call.query.from_month)
    return await _ask(call, "trial-balance", first_of(call.query.from_month), last)


@route("POST", f"{_PLACE}/cashiers/files", summary="导出收费员汇总", query=CashierQuery, **_ASKING)
async def cashiers_file(call: Call) -> ReportFileOut:
    """The report with the same query, all its lines and the totals, as a file."""
    return await _ask(call, "cashiers", call.query.from_on, call.query.to_on)


@route("POST", f"{_PLACE}/journal/files", summary="导出分录", query=JournalFileQuery, **_ASKING)
async def journal_file(call: Call) -> ReportFileOut:
    """Every entry between two posting days, the oldest first, as a file."""
    return await _ask(call, JOURNAL, call.query.from_on, call.query.to_on)


@route("GET", f"{_PLACE}/files", who=Who.STAFF, tag=TAG, summary="我导出的报表", query=PageQuery,
       response=PageOut[ReportFileOut], refusals=(InvalidCursor,))  # fmt: skip
async def list_files(call: Call) -> PageOut[ReportFileOut]:
    """What the caller asked for, newest first."""
    page = await service.list_files(call.actor, call.query.cursor, call.query.limit)
    return PageOut[ReportFileOut](items=[_out(one) for one in page.items], next_cursor=page.next_cursor)


@route("GET", f"{_PLACE}/files/{{report_file_id}}", who=Who.STAFF, tag=TAG, summary="导出进度", response=ReportFileOut,
       refusals=(NotFound,))  # fmt: skip
async def get_file(call: Call) -> ReportFileOut:
    """How far it is; for who asked only."""
    return _out(await service.get_file(call.actor, call.id("report_file_id")))


@route("GET", f"{_PLACE}/files/{{report_file_id}}/content", who=Who.STAFF, tag=TAG, summary="下载报表",
       refusals=(NotFound, NotPermitted, service.ReportFileNotReady, service.ReportFileGone))  # fmt: skip
async def fetch_file(call: Call) -> Reply:
    """For who asked only. Amounts are yuan; text that a spreadsheet would execute begins with an apostrophe."""
    file, body = await service.fetch_file(call.actor, call.id("report_file_id"))
    name = f"{file.report}-{clock.business_date(file.created_at):%Y%m%d}.{file.format}"
    return Reply(
        body,
        content_type=_TYPES[file.format],
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        },
    )
