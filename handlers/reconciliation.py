"""对账 days, the files behind them, and their differences."""

from datetime import date, datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

import payments
from handlers.route import Body, Call, Fen, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import BodyTooLarge, MoveNotAllowed, NotFound, NotPermitted
from models.reconciliation import (
    DayState,
    Difference,
    DifferenceAbout,
    DifferenceKind,
    DifferenceState,
    Statement,
    StatementKind,
    StatementSource,
    StatementState,
)
from services import rate_limit
from services import reconciliation as service

_TAG = "对账 reconciliation"
_DAYS = "/api/v1/staff/reconciliations"
_DIFFERENCES = "/api/v1/staff/differences"
MAX_BYTES = 8 * 1024 * 1024


class KindSumOut(Out):
    """The differences of one kind and state."""

    kind: DifferenceKind
    status: DifferenceState
    count: int
    difference_fen: Fen


class DayOut(Out):
    """A bill of a Beijing day. ``wechat_fen`` less ``our_fen`` is ``difference_fen``, which the ``differences`` add up
    to. Of a trade bill both are what was paid less what was refunded; of a fund-flow bill, by how much the balance at
    WeChat changed."""

    id: Id
    merchant_account_id: Id
    merchant_account_name: str
    kind: StatementKind
    bill_on: date
    status: DayState
    problem: str | None = Field(description="Why the bill could not be read at the last look")
    read_at: datetime | None
    next_check_at: datetime | None = Field(description="null: nothing more is awaited")
    row_count: int
    wechat_fen: Fen
    our_fen: Fen
    fee_fen: Fen
    difference_fen: Fen
    open_count: int
    differences: list[KindSumOut]


class StatementOut(Out):
    """A file as it came. Its bytes are kept and never changed."""

    id: Id
    merchant_account_id: Id
    kind: StatementKind | None
    bill_on: date | None
    source: StatementSource
    status: StatementState
    problem: str | None
    sha256: str = Field(description="Of the plain file")
    plain_bytes: int
    received_at: datetime
    superseded_at: datetime | None


class DayDetailOut(DayOut):
    """A day with every file that came for it, the newest first."""

    statements: list[StatementOut]


class DifferenceOut(Out):
    """One thing that the bill and the books say differently. Money that went is negative."""

    id: Id
    reconciliation_id: Id
    merchant_account_id: Id
    community_id: Id | None
    kind: DifferenceKind
    about: DifferenceAbout
    status: DifferenceState
    number: str = Field(description="out_trade_no, out_refund_no, or the flow's number")
    out_trade_no: str | None
    channel_number: str | None = Field(description="WeChat's own: transaction id or refund id")
    attempt_id: Id | None
    occurred_at: datetime
    wechat_fen: Fen | None
    our_fen: Fen | None
    difference_fen: Fen
    fee_fen: Fen
    wechat_status: str | None
    our_status: str | None
    in_suspense_fen: Fen
    resolution: str | None
    resolved_by: Id | None
    resolved_at: datetime | None


class DaysQuery(PageQuery):
    merchant_account_id: str | None = None
    kind: StatementKind | None = None


class DifferencesQuery(PageQuery):
    reconciliation_id: str | None = None
    status: DifferenceState | None = None
    kind: DifferenceKind | None = None


class ResolveDifferenceIn(Body):
    """What was found and done, in words."""

    resolution: Annotated[str, Field(min_length=2, max_length=200)]


class PlaceIn(Body):
    """Of which community the money is."""

    community_id: str


def _day(view: service.DayView) -> dict[str, object]:
    day = view.day
    return {
        "id": str(day.id),
        "merchant_account_id": str(day.merchant_account_id),
        "merchant_account_name": view.merchant_account_name,
        "kind": day.kind,
        "bill_on": day.bill_on,
        "status": day.state,
        "problem": day.problem,
        "read_at": day.read_at,
        "next_check_at": day.next_check_at,
        "row_count": day.row_count,
        "wechat_fen": day.wechat_fen,
        "our_fen": day.our_fen,
        "fee_fen": day.fee_fen,
        "difference_fen": day.wechat_fen - day.our_fen,
        "open_count": sum(one.number for one in view.sums if one.state is DifferenceState.OPEN),
        "differences": [
            KindSumOut(kind=one.kind, status=one.state, count=one.number, difference_fen=one.fen) for one in view.sums
        ],
    }


def _statement(statement: Statement) -> StatementOut:
    return StatementOut(
        id=str(statement.id),
        merchant_account_id=str(statement.merchant_account_id),
        kind=statement.kind,
        bill_on=statement.bill_on,
        source=statement.source,
        status=statement.state,
        problem=statement.problem,
        sha256=statement.sha256,
        plain_bytes=statement.plain_bytes,
        received_at=statement.created_at,
        superseded_at=statement.superseded_at,
    )


def _difference(found: Difference) -> DifferenceOut:
    return DifferenceOut(
        id=str(found.id),
        reconciliation_id=str(found.reconciliation_id),
        merchant_account_id=str(found.merchant_account_id),
        community_id=str(found.community_id) if found.community_id else None,
        kind=found.kind,
        about=found.about,
        status=found.state,
        number=found.number,
        out_trade_no=found.out_trade_no,
        channel_number=found.channel_number,
        attempt_id=str(found.attempt_id) if found.attempt_id else None,
        occurred_at=found.occurred_at,
        wechat_fen=found.wechat_fen,
        our_fen=found.our_fen,
        difference_fen=found.difference_fen,
        fee_fen=found.fee_fen,
        wechat_status=found.wechat_status,
        our_status=found.our_status,
        in_suspense_fen=found.placed_fen,
        resolution=found.resolution,
        resolved_by=str(found.resolved_by_staff_id) if found.resolved_by_staff_id else None,
        resolved_at=found.resolved_at,
    )


@route("GET", _DAYS, who=Who.STAFF, tag=_TAG, summary="对账日列表", query=DaysQuery, response=PageOut[DayOut],
       refusals=(NotPermitted,))  # fmt: skip
async def list_days(call: Call) -> PageOut[DayOut]:
    """The newest day first."""
    query = call.query
    page = await service.list_days(call.actor, query.merchant_account_id, query.kind, query.cursor, query.limit)
    return PageOut[DayOut](items=[DayOut(**_day(view)) for view in page.items], next_cursor=page.next_cursor)


@route("GET", _DAYS + "/{reconciliation_id}", who=Who.STAFF, tag=_TAG, summary="对账日详情",
       response=DayDetailOut)  # fmt: skip
async def get_day(call: Call) -> DayDetailOut:
    day_id = call.id("reconciliation_id")
    view = await service.get_day(call.actor, day_id)
    statements = await service.list_statements(call.actor, day_id)
    return DayDetailOut(**_day(view), statements=[_statement(one) for one in statements])


@route("POST", _DAYS + "/{reconciliation_id}/run", who=Who.STAFF, tag=_TAG, summary="立即重新对账", response=DayOut,
       limits=(rate_limit.READ_BILL_FILE,), refusals=(NotPermitted,))  # fmt: skip
async def run_again(call: Call) -> DayOut:
    """A job fetches the bill from WeChat now and compares it; a corrected one supersedes what was there. The answer is
    the day as it stands: look again."""
    return DayOut(**_day(await service.run_again(call.actor, call.id("reconciliation_id"))))


async def _replay_statement(call: Call, statement_id: UUID) -> StatementOut:
    return _statement(await service.get_statement(call.actor, statement_id))


@route("POST", "/api/v1/staff/merchant-accounts/{merchant_account_id}/statements", who=Who.STAFF, tag=_TAG,
       summary="上传账单文件", response=StatementOut, status=201, limits=(rate_limit.READ_BILL_FILE,),
       refusals=(NotFound, NotPermitted, BodyTooLarge, service.StatementUnreadable), replay=_replay_statement,
       makes="statement", raw_type="application/octet-stream", max_bytes=MAX_BYTES)  # fmt: skip
async def give_statement(call: Call) -> StatementOut:
    """The body is the file itself, plain or gzip, at most 8 MB; larger ones are given with `linli reconcile`. A job
    reads it: ask for the statement until its status is ``current`` or ``refused``."""
    return _statement(await service.give_statement(call.actor, call.id("merchant_account_id"), call.raw))


@route("GET", "/api/v1/staff/statements/{statement_id}", who=Who.STAFF, tag=_TAG, summary="账单文件详情",
       response=StatementOut)  # fmt: skip
async def get_statement(call: Call) -> StatementOut:
    return _statement(await service.get_statement(call.actor, call.id("statement_id")))


@route("GET", _DIFFERENCES, who=Who.STAFF, tag=_TAG, summary="对账差异列表", query=DifferencesQuery,
       response=PageOut[DifferenceOut], refusals=(NotPermitted,))  # fmt: skip
async def list_differences(call: Call) -> PageOut[DifferenceOut]:
    """Of one day, or of all; with ``status=open`` what finance has to look at."""
    query = call.query
    page = await service.list_differences(
        call.actor, query.reconciliation_id, query.status, query.kind, query.cursor, query.limit
    )
    return PageOut[DifferenceOut](items=[_difference(one) for one in page.items], next_cursor=page.next_cursor)


@route("GET", _DIFFERENCES + "/{difference_id}", who=Who.STAFF, tag=_TAG, summary="对账差异详情",
       response=DifferenceOut)  # fmt: skip
async def get_difference(call: Call) -> DifferenceOut:
    return _difference(await service.get_difference(call.actor, call.id("difference_id")))


@route("POST", _DIFFERENCES + "/{difference_id}/resolve", who=Who.STAFF, tag=_TAG, summary="处理对账差异",
       body=ResolveDifferenceIn, response=DifferenceOut, refusals=(NotPermitted, MoveNotAllowed))  # fmt: skip
async def resolve_difference(call: Call) -> DifferenceOut:
    """Notes what was done; moves no money."""
    found = await service.resolve_difference(call.actor, call.id("difference_id"), call.body.resolution)
    return _difference(found)


@route("POST", _DIFFERENCES + "/{difference_id}/place", who=Who.STAFF, tag=_TAG, summary="款项挂账到小区",
       body=PlaceIn, response=DifferenceOut,
       refusals=(NotFound, NotPermitted, payments.DifferenceNotConfirmed))  # fmt: skip
async def place_difference(call: Call) -> DifferenceOut:
    """For money that only WeChat knew, where several communities share the merchant account: once, to suspense."""
    found = await service.place_difference(call.actor, call.id("difference_id"), call.body.community_id)
    return _difference(found)
