"""The reports of finance. Each line carries, for each figure, the address that lists what it sums."""

import re
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from handlers.route import Call, Fen, Id, Out, PageOut, PageQuery, Who, route
from kit import clock
from kit.errors import InvalidCursor, NotPermitted
from services import finance_report as service
from services.finance_arrears import ARREARS
from services.finance_cashier import CASHIER
from services.finance_collection import COLLECTION
from services.finance_income import INCOME
from services.finance_ledger import BALANCES, TRIAL
from services.finance_words import word

TAG = "财务 finance"
_MONTH = re.compile(r"20\d\d-(0[1-9]|1[0-2])")


def _month(text: str) -> str:
    if not _MONTH.fullmatch(text):
        raise ValueError("2026-11")
    return text


Month = Annotated[str, AfterValidator(_month), Field(max_length=7, examples=["2026-11"])]
Chosen = Annotated[
    str | None, Field(max_length=40, pattern=r"^[^\x00]*$", description="Only this; `none`: only what has none")
]


class MemberOut(Out):
    """What a line is of: ``name`` is the dimension, ``value`` its id or code (null: it has none)."""

    name: str
    value: str | None
    label: str


class LineOut(Out):
    """``figures`` in fen, rates (``…_bp``) in basis points, rounded down, null where there is nothing to divide by.
    ``details``: the address under each figure that is not 0; follow it as it is."""

    group: list[MemberOut]
    figures: dict[str, int | None]
    details: dict[str, str]


class ReportOut(PageOut[LineOut]):
    """``totals`` are those of the whole selection: all its pages together."""

    row_count: int
    totals: dict[str, int | None]


class DetailOut(Out):
    """One thing that a figure sums. ``source`` is bill, bill_line, allocation or entry; ``amount_fen`` its part."""

    source: str
    key: str
    on: date
    text: str
    amount_fen: Fen
    bill_id: Id | None
    payment_id: Id | None


class DetailsOut(PageOut[DetailOut]):
    """``total_fen`` is the figure: what all pages add up to."""

    row_count: int
    total_fen: Fen


class SpanQuery(PageQuery):
    """Days are inclusive; without them there is no bound."""

    from_on: date | None = None
    to_on: date | None = None
    legal_entity_id: Chosen = None
    community_id: Chosen = None


_OWN = {"cursor", "limit", "by", "figure", "from_on", "to_on", "from_month", "to_month", "on"}


def selection(query: Any, first: date | None, last: date | None) -> service.Selection:
    """What the query chooses between two days."""
    chosen = {name: value for name, value in query.model_dump().items() if name not in _OWN and value is not None}
    return service.Selection(first, last, chosen)


def first_of(month: str | None) -> date | None:
    """The first day of ``2026-11``."""
    return date.fromisoformat(f"{month}-01") if month else None


def last_of(month: str | None) -> date | None:
    """The last day of ``2026-11``."""
    first = first_of(month)
    return (first + timedelta(days=31)).replace(day=1) - timedelta(days=1) if first else None


def member_out(one: service.Member, language: str) -> MemberOut:
    """A dimension of a line, with a name for people."""
    label = one.label or (word(one.value, language) if one.value is not None else word("none", language))
    return MemberOut(name=one.name, value=one.value, label=label)


async def _report(call: Call, family: service.Family, wanted: service.Selection) -> ReportOut:
    query = call.query
    found = await service.make_report(call.actor, family, query.by, wanted, query.cursor, query.limit)
    return ReportOut(
        items=[
            LineOut(
                group=[member_out(member, call.language) for member in line.group],
                figures=dict(line.figures),
                details=dict(line.details),
            )
            for line in found.page.items
        ],
        next_cursor=found.page.next_cursor,
        row_count=found.row_count,
        totals=dict(found.totals),
    )


async def _details(call: Call, family: service.Family) -> DetailsOut:
    query = call.query
    wanted = selection(query, query.from_on, query.to_on)
    found = await service.list_details(call.actor, family, query.figure, wanted, query.cursor, query.limit)
    return DetailsOut(
        items=[_detail_out(one, call.language) for one in found.page.items],
        next_cursor=found.page.next_cursor,
        row_count=found.row_count,
        total_fen=found.total_fen,
    )


def _detail_out(one: Mapping[str, Any], language: str) -> DetailOut:
    return DetailOut(
        source=one["source"],
        key=one["source_key"],
        on=one["happened_on"],
        text=word(one["text"], language),
        amount_fen=one["amount_fen"],
        bill_id=str(one["bill_id"]) if one["bill_id"] else None,
        payment_id=str(one["payment_id"]) if one["payment_id"] else None,
    )


# --- 应收实收 collection ---------------------------------------------------------------------------------------------


class CollectionChoice(PageQuery):
    legal_entity_id: Chosen = None
    community_id: Chosen = None
    building_id: Chosen = None
    fee_item_id: Chosen = None


class CollectionQuery(CollectionChoice):
    """Months are those in which bills accrued; without them there is no bound."""

    by: Literal["community", "building", "fee_item", "month", "fee_item_month"] = "community"
    from_month: Month | None = None
    to_month: Month | None = None


class CollectionDetailQuery(CollectionChoice):
    figure: Literal["billed_fen", "received_fen", "advance_fen", "owed_fen"]
    month: Chosen = None
    from_on: date | None = None
    to_on: date | None = None


@route("GET", "/api/v1/staff/finance/collection", who=Who.STAFF, tag=TAG, summary="应收、实收、预收与收缴率",
       query=CollectionQuery, response=ReportOut, refusals=(NotPermitted, InvalidCursor))  # fmt: skip
async def collection(call: Call) -> ReportOut:
    """Charges by the month they accrued in: billed (应收), received (实收), what of that came before the month (预收),
    owed, and the rate received / billed."""
    query = call.query
    return await _report(call, COLLECTION, selection(query, first_of(query.from_month), last_of(query.to_month)))


@route("GET", "/api/v1/staff/finance/collection/details", who=Who.STAFF, tag=TAG, summary="应收实收明细",
       query=CollectionDetailQuery, response=DetailsOut, refusals=(NotPermitted, InvalidCursor))  # fmt: skip
async def collection_details(call: Call) -> DetailsOut:
    """The bill lines and allocations that a figure sums."""
    return await _details(call, COLLECTION)


# --- 账龄 arrears ----------------------------------------------------------------------------------------------------


class ArrearsChoice(PageQuery):
    legal_entity_id: Chosen = None
    community_id: Chosen = None
    building_id: Chosen = None
    room_id: Chosen = None
    customer_id: Chosen = None


class ArrearsQuery(ArrearsChoice):
    by: Literal["community", "building", "room", "customer"] = "community"


class ArrearsDetailQuery(ArrearsChoice):
    figure: Literal["not_due_fen", "days_0_30_fen", "days_31_90_fen", "days_91_180_fen", "days_181_365_fen",
                    "over_365_fen", "owed_fen"]  # fmt: skip
    from_on: date | None = None
    to_on: date


@route("GET", "/api/v1/staff/finance/arrears", who=Who.STAFF, tag=TAG, summary="欠费账龄", query=ArrearsQuery,
       response=ReportOut, refusals=(NotPermitted, InvalidCursor))  # fmt: skip
async def arrears(call: Call) -> ReportOut:
    """What is owed now, by how many days it is past due today. Top-ups that nobody paid are not owed."""
    return await _report(call, ARREARS, selection(call.query, None, clock.today()))


@route("GET", "/api/v1/staff/finance/arrears/details", who=Who.STAFF, tag=TAG, summary="欠费账单",
       query=ArrearsDetailQuery, response=DetailsOut, refusals=(NotPermitted, InvalidCursor))  # fmt: skip
async def arrears_details(call: Call) -> DetailsOut:
    """The bills that a figure sums. Ages are counted to ``to_on``; what is owed is what is owed now."""
    return await _details(call, ARREARS)


# --- 收入 income -----------------------------------------------------------------------------------------------------


class IncomeChoice(SpanQuery):
    fee_item_id: Chosen = None
    channel: Chosen = None


class IncomeQuery(IncomeChoice):
    by: Literal["fee_item_channel", "fee_item", "channel", "day", "month"] = "fee_item_channel"


class IncomeDetailQuery(IncomeChoice):
    figure: Literal["received_fen", "refunded_fen", "income_fen"]
    day: Chosen = None
    month: Chosen = None


@route("GET", "/api/v1/staff/finance/income", who=Who.STAFF, tag=TAG, summary="收入汇总", query=IncomeQuery,
       response=ReportOut, refusals=(NotPermitted, InvalidCursor))  # fmt: skip
async def income(call: Call) -> ReportOut:
    """What came for charges, by the day it was posted; what went back is negative."""
    return await _report(call, INCOME, selection(call.query, call.query.from_on, call.query.to_on))


@route("GET", "/api/v1/staff/finance/income/details", who=Who.STAFF, tag=TAG, summary="收入明细",
       query=IncomeDetailQuery, response=DetailsOut, refusals=(NotPermitted, InvalidCursor))  # fmt: skip
async def income_details(call: Call) -> DetailsOut:
    """The allocations that a figure sums."""
    return await _details(call, INCOME)


# --- 余额 balances, 试算平衡 trial balance ---------------------------------------------------------------------------


class AccountChoice(SpanQuery):
    account_kind: Chosen = None
    holder_id: Chosen = None
    account_id: Chosen = None


class BalanceQuery(AccountChoice):
    by: Literal["holder", "account"] = "holder"


class BalanceDetailQuery(AccountChoice):
    figure: Literal["debit_fen", "credit_fen", "balance_fen"]


class TrialChoice(PageQuery):
    legal_entity_id: Chosen = None
    community_id: Chosen = None
    account_kind: Chosen = None


class TrialQuery(TrialChoice):
    by: Literal["account", "community", "holder"] = "account"
    from_month: Month
    to_month: Month | None = Field(None, description="Without it: the one month")


class TrialDetailQuery(TrialChoice):
    figure: Literal["opening_fen", "debit_fen", "credit_fen", "closing_fen"]
    holder_id: Chosen = None
    account_id: Chosen = None
    from_on: date
    to_on: date


@route("GET", "/api/v1/staff/finance/balances", who=Who.STAFF, tag=TAG, summary="科目余额（按户）", query=BalanceQuery,
       response=ReportOut, refusals=(NotPermitted, InvalidCursor))  # fmt: skip
async def balances(call: Call) -> ReportOut:
    """Prepaid, deposit, surplus, suspense, cash, clearing, bank …: what each account holds, per holder. ``to_on`` asks
    for the balance at the end of that day; with ``from_on`` it is the movement between the two."""
    return await _report(call, BALANCES, selection(call.query, call.query.from_on, call.query.to_on))


@route("GET", "/api/v1/staff/finance/balances/details", who=Who.STAFF, tag=TAG, summary="科目余额明细",
       query=BalanceDetailQuery, response=DetailsOut, refusals=(NotPermitted, InvalidCursor))  # fmt: skip
async def balance_details(call: Call) -> DetailsOut:
    """The sides of entries that a figure sums."""
    return await _details(call, BALANCES)


@route("GET", "/api/v1/staff/finance/trial-balance", who=Who.STAFF, tag=TAG, summary="试算平衡表", query=TrialQuery,
       response=ReportOut, refusals=(NotPermitted, InvalidCursor))  # fmt: skip
async def trial_balance(call: Call) -> ReportOut:
    """Per legal entity and account kind: opening, debit, credit, closing. Debits equal credits; opening and closing,
    debit less credit, add up to 0. It covers the communities whose journal the caller may read."""
    query = call.query
    last = last_of(query.to_month or query.from_month)
    return await _report(call, TRIAL, selection(query, first_of(query.from_month), last))


@route("GET", "/api/v1/staff/finance/trial-balance/details", who=Who.STAFF, tag=TAG, summary="试算平衡明细",
       query=TrialDetailQuery, response=DetailsOut, refusals=(NotPermitted, InvalidCursor))  # fmt: skip
async def trial_balance_details(call: Call) -> DetailsOut:
    """The sides of entries that a figure sums."""
    return await _details(call, TRIAL)


# --- 收费员 cashiers -------------------------------------------------------------------------------------------------


class CashierChoice(SpanQuery):
    staff_id: Chosen = None
    channel: Chosen = None


class CashierQuery(CashierChoice):
    by: Literal["staff", "staff_channel", "staff_channel_day", "day"] = "staff_channel_day"


class CashierDetailQuery(CashierChoice):
    figure: Literal["amount_fen"] = "amount_fen"
    day: Chosen = None


@route("GET", "/api/v1/staff/finance/cashiers", who=Who.STAFF, tag=TAG, summary="收费员汇总", query=CashierQuery,
       response=ReportOut, refusals=(NotPermitted, InvalidCursor))  # fmt: skip
async def cashiers(call: Call) -> ReportOut:
    """What members of staff took or decided for others, by clerk, channel and day of posting."""
    return await _report(call, CASHIER, selection(call.query, call.query.from_on, call.query.to_on))


@route("GET", "/api/v1/staff/finance/cashiers/details", who=Who.STAFF, tag=TAG, summary="收费员明细",
       query=CashierDetailQuery, response=DetailsOut, refusals=(NotPermitted, InvalidCursor))  # fmt: skip
async def cashier_details(call: Call) -> DetailsOut:
    """The entries that a figure sums."""
    return await _details(call, CASHIER)
