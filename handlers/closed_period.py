"""Closing the month (月结) of a legal entity."""

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any
from uuid import UUID

import payments
from handlers.route import Call, Fen, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import InvalidCursor, NotFound, NotPermitted
from models.closed_period import ClosedPeriod
from models.ledger import AccountKind
from services import closed_period as service

TAG = "财务 finance"
_MONTH = re.compile(r"20\d\d-(0[1-9]|1[0-2])")


class ClosedPeriodOut(Out):
    """``amount_fen`` is what all entries of the month moved: its debits, and its credits."""

    id: Id
    legal_entity_id: Id
    month: str
    entry_count: int
    amount_fen: Fen
    closed_at: datetime
    closed_by_staff_id: Id


class FrozenBalanceOut(Out):
    community_id: Id
    account: AccountKind
    debit_fen: Fen
    credit_fen: Fen


class FrozenMonthOut(ClosedPeriodOut):
    """As it was when it was closed; ``linli check`` compares it with the entries."""

    balances: list[FrozenBalanceOut]


class BlockerOut(Out):
    """``code``: month_not_over, earlier_month_open (``month``), unread_bill (``bill_on``: the first day whose bill was
    not read yet), open_case (``discrepancy_id``) or open_difference (``difference_id``)."""

    code: str
    month: str | None = None
    discrepancy_id: Id | None = None
    difference_id: Id | None = None
    bill_on: date | None = None
    kind: str | None = None
    amount_fen: Fen | None = None


class ChecklistOut(Out):
    """Closable when it is not closed and nothing blocks. Of open cases and differences 50 each are listed; the counts
    are of all."""

    month: str
    closed: ClosedPeriodOut | None
    blockers: list[BlockerOut]
    open_cases: int
    open_differences: int


def _month(call: Call) -> date:
    if not _MONTH.fullmatch(call.path["month"]):
        raise NotFound()
    return date.fromisoformat(f"{call.path['month']}-01")


def _facts(period: ClosedPeriod) -> Mapping[str, Any]:
    return {
        "id": str(period.id),
        "legal_entity_id": str(period.legal_entity_id),
        "month": f"{period.month:%Y-%m}",
        "entry_count": period.entry_count,
        "amount_fen": period.amount_fen,
        "closed_at": period.closed_at,
        "closed_by_staff_id": str(period.closed_by_staff_id),
    }


def _frozen(found: service.FrozenMonth) -> FrozenMonthOut:
    return FrozenMonthOut(
        **_facts(found.period),
        balances=[
            FrozenBalanceOut(
                community_id=str(one.community_id), account=one.kind, debit_fen=one.debit_fen, credit_fen=one.credit_fen
            )
            for one in found.balances
        ],
    )


async def _replay(call: Call, period_id: UUID) -> FrozenMonthOut:
    return _frozen(await service.get_month(call.actor, period_id))


@route("GET", "/api/v1/staff/finance/legal-entities/{legal_entity_id}/months", who=Who.STAFF, tag=TAG,
       summary="已结账月份", query=PageQuery, response=PageOut[ClosedPeriodOut],
       refusals=(NotFound, NotPermitted, InvalidCursor))  # fmt: skip
async def list_months(call: Call) -> PageOut[ClosedPeriodOut]:
    """The closed months of a legal entity, the latest first."""
    page = await service.list_months(call.actor, call.id("legal_entity_id"), call.query.cursor, call.query.limit)
    return PageOut[ClosedPeriodOut](
        items=[ClosedPeriodOut(**_facts(one)) for one in page.items], next_cursor=page.next_cursor
    )


@route("GET", "/api/v1/staff/finance/legal-entities/{legal_entity_id}/months/{month}/checklist", who=Who.STAFF, tag=TAG,
       summary="结账检查清单", response=ChecklistOut, refusals=(NotFound, NotPermitted))  # fmt: skip
async def check_month(call: Call) -> ChecklistOut:
    """What stands in the way of closing ``2026-11``."""
    found = await service.check_month(call.actor, call.id("legal_entity_id"), _month(call))
    return ChecklistOut(
        month=f"{found.month:%Y-%m}",
        closed=ClosedPeriodOut(**_facts(found.period)) if found.period else None,
        blockers=[BlockerOut(code=one.code, **one.facts) for one in found.blockers],
        open_cases=found.open_cases,
        open_differences=found.open_differences,
    )


@route("POST", "/api/v1/staff/finance/legal-entities/{legal_entity_id}/months/{month}/close", who=Who.STAFF, tag=TAG,
       summary="月结", status=201, response=FrozenMonthOut, replay=_replay, makes="closed_period",
       refusals=(NotFound, NotPermitted, service.FreshSecondFactorNeeded, service.MonthNotReady,
                 payments.MonthClosed))  # fmt: skip
async def close_month(call: Call) -> FrozenMonthOut:
    """For good: nothing is posted in the month any more, and it is never opened again. It takes a second factor of the
    last 15 minutes."""
    return _frozen(await service.close_month(call.actor, call.id("legal_entity_id"), _month(call)))


@route("GET", "/api/v1/staff/finance/months/{closed_period_id}", who=Who.STAFF, tag=TAG, summary="已结账月份的冻结余额",
       response=FrozenMonthOut, refusals=(NotFound, NotPermitted))  # fmt: skip
async def get_month(call: Call) -> FrozenMonthOut:
    """A closed month with its frozen totals, per community and account kind."""
    return _frozen(await service.get_month(call.actor, call.id("closed_period_id")))
