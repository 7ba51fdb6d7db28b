"""Prepaid balances: top up, look, pay; for staff, also what was agreed and the runs over all balances."""

from datetime import date, datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

import payments
from handlers.bill import BillOut, bill_out
from handlers.payment import PaymentOut, differ, payment_out
from handlers.route import Body, Call, Fen, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotFound, NotPermitted
from models.prepaid import PrepaidRunLine, PrepaidRunOutcome, PrepaidRunState
from services import bill as bill_service
from services import payment as payment_service
from services import prepaid as service
from services import prepaid_run as run_service
from services import rate_limit

TAG = "预存款 prepaid"

TopUpFen = Annotated[
    int, Field(strict=True, ge=service.LEAST_FEN, le=service.MOST_FEN, description="Amount in fen, 1 to 100,000 yuan")
]


class PrepaidAccountOut(Out):
    """A customer's balance with one legal entity in one community. ``fee_item_ids`` empty: it pays every charge."""

    id: Id
    community_id: Id
    customer_id: Id
    customer: str
    legal_entity: str
    balance_fen: Fen
    fee_item_ids: list[Id]
    pays_monthly: bool


class StatementLineOut(Out):
    """One movement: ``in_fen`` or ``out_fen``, and what there was after it."""

    kind: str
    text: str
    occurred_at: datetime
    posted_on: date
    in_fen: Fen
    out_fen: Fen
    balance_fen: Fen
    payment_id: Id | None
    channel: str | None


class StaffPrepaidQuery(PageQuery):
    community_id: str | None = None
    customer_id: str | None = None


class RunQuery(PageQuery):
    community_id: str | None = None


class TopUpIn(Body):
    """For one of the resident's own rooms; the balance is theirs."""

    room_id: str
    amount_fen: TopUpFen


class StaffTopUpIn(Body):
    """Without a fee item the community's own for top-ups says whose money it is."""

    customer_id: str
    fee_item_id: str | None = None
    amount_fen: TopUpFen


class PayIn(Body):
    """The bills to pay; none means all that is owed. Oldest first, as far as the balance reaches."""

    bill_ids: Annotated[list[str], Field(max_length=100), AfterValidator(differ)]


class AgreementIn(Body):
    """``fee_item_ids`` empty: the balance pays every charge."""

    fee_item_ids: Annotated[list[str], Field(max_length=50), AfterValidator(differ)]
    pays_monthly: bool


class RunOut(Out):
    """A run over the balances of a community. ``done`` of ``account_count`` are worked; what they did adds up."""

    id: Id
    community_id: Id
    month: date | None = Field(description="The month whose run by the clock it is; null: staff started it")
    status: PrepaidRunState
    account_count: int
    done: int
    paid: int
    part_paid: int
    nothing_owed: int
    failed: int
    bills: int
    paid_fen: Fen
    still_owed_fen: Fen
    created_at: datetime
    finished_at: datetime | None


class RunLineOut(Out):
    """What a run did with one balance."""

    account_id: Id
    outcome: PrepaidRunOutcome
    payment_id: Id | None
    bill_count: int
    paid_fen: Fen
    still_owed_fen: Fen


_WORDS = {
    ("payment", True): "存入",
    ("payment", False): "抵扣账单",
    ("refund_approved", False): "退款",
    ("refund_cancelled", True): "退款撤销",
}


def _out(view: service.PrepaidView) -> PrepaidAccountOut:
    return PrepaidAccountOut(
        id=str(view.id),
        community_id=str(view.community_id),
        customer_id=str(view.customer_id),
        customer=view.customer,
        legal_entity=view.legal_entity,
        balance_fen=view.balance_fen,
        fee_item_ids=list(view.fee_item_ids),
        pays_monthly=view.pays_monthly,
    )


def _line_out(line: service.StatementLine) -> StatementLineOut:
    return StatementLineOut(
        kind=str(line.kind),
        text=_WORDS.get((str(line.kind), line.in_fen > 0), "调整"),
        occurred_at=line.occurred_at,
        posted_on=line.posted_on,
        in_fen=line.in_fen,
        out_fen=line.out_fen,
        balance_fen=line.balance_fen,
        payment_id=str(line.payment_id) if line.payment_id else None,
        channel=line.channel,
    )


def _run_out(view: run_service.RunView) -> RunOut:
    run = view.run
    return RunOut(
        id=str(run.id),
        community_id=str(run.community_id),
        month=run.month,
        status=run.state,
        account_count=run.account_count,
        created_at=run.created_at,
        finished_at=run.finished_at,
        **view.totals,
    )


def _run_line_out(line: PrepaidRunLine) -> RunLineOut:
    return RunLineOut(
        account_id=str(line.account_id),
        outcome=line.outcome,
        payment_id=str(line.payment_id) if line.payment_id else None,
        bill_count=line.bill_count,
        paid_fen=line.paid_fen,
        still_owed_fen=line.still_owed_fen,
    )


async def _replay_bill(call: Call, bill_id: UUID) -> BillOut:
    return bill_out(await bill_service.get_bill(call.actor, bill_id))


async def _replay_payment(call: Call, payment_id: UUID) -> PaymentOut:
    return payment_out(await payment_service.get_payment(call.actor, payment_id), call.language)


async def _replay_run(call: Call, run_id: UUID) -> RunOut:
    return _run_out(await run_service.get_run(call.actor, run_id))


@route("POST", "/api/v1/prepaid-top-ups", who=Who.RESIDENT, tag=TAG, summary="预存款充值", body=TopUpIn, status=201,
       response=BillOut, replay=_replay_bill, makes="bill", limits=(rate_limit.OPEN_PAYMENT,),
       refusals=(NotFound, service.TopUpNotOffered))  # fmt: skip
async def top_up(call: Call) -> BillOut:
    """A bill to pay like any other. Nobody owes it: it is voided when it is not paid within two hours."""
    return bill_out(await service.top_up_own(call.actor, call.body.room_id, call.body.amount_fen))


@route("POST", "/api/v1/staff/communities/{community_id}/prepaid-top-ups", who=Who.STAFF, tag=TAG,
       summary="代业主充值预存款", body=StaffTopUpIn, status=201, response=BillOut, replay=_replay_bill, makes="bill",
       refusals=(NotFound, NotPermitted, service.TopUpNotOffered))  # fmt: skip
async def top_up_for(call: Call) -> BillOut:
    """A bill that is paid at the counter or by phone; voided when it is not paid within two hours."""
    given: StaffTopUpIn = call.body
    return bill_out(
        await service.top_up_for(
            call.actor, call.id("community_id"), given.customer_id, given.fee_item_id, given.amount_fen
        )
    )


@route("GET", "/api/v1/prepaid-accounts", who=Who.RESIDENT, tag=TAG, summary="我的预存款", query=PageQuery,
       response=PageOut[PrepaidAccountOut])  # fmt: skip
async def list_my_accounts(call: Call) -> PageOut[PrepaidAccountOut]:
    page = await service.list_accounts(call.actor, None, None, call.query.cursor, call.query.limit)
    return PageOut[PrepaidAccountOut](items=[_out(one) for one in page.items], next_cursor=page.next_cursor)


@route("GET", "/api/v1/staff/prepaid-accounts", who=Who.STAFF, tag=TAG, summary="预存款账户列表",
       query=StaffPrepaidQuery, response=PageOut[PrepaidAccountOut], refusals=(NotPermitted,))  # fmt: skip
async def list_accounts(call: Call) -> PageOut[PrepaidAccountOut]:
    """The newest account first."""
    query = call.query
    page = await service.list_accounts(call.actor, query.community_id, query.customer_id, query.cursor, query.limit)
    return PageOut[PrepaidAccountOut](items=[_out(one) for one in page.items], next_cursor=page.next_cursor)


@route("GET", "/api/v1/prepaid-accounts/{prepaid_account_id}", who=Who.RESIDENT, tag=TAG, summary="预存款余额",
       response=PrepaidAccountOut)  # fmt: skip
@route("GET", "/api/v1/staff/prepaid-accounts/{prepaid_account_id}", who=Who.STAFF, tag=TAG, summary="预存款余额",
       response=PrepaidAccountOut, refusals=(NotPermitted,))  # fmt: skip
async def get_account(call: Call) -> PrepaidAccountOut:
    return _out(await service.get_account(call.actor, call.id("prepaid_account_id")))


@route("GET", "/api/v1/prepaid-accounts/{prepaid_account_id}/statement", who=Who.RESIDENT, tag=TAG,
       summary="预存款流水", query=PageQuery, response=PageOut[StatementLineOut])  # fmt: skip
@route("GET", "/api/v1/staff/prepaid-accounts/{prepaid_account_id}/statement", who=Who.STAFF, tag=TAG,
       summary="预存款流水", query=PageQuery, response=PageOut[StatementLineOut],
       refusals=(NotPermitted,))  # fmt: skip
async def read_statement(call: Call) -> PageOut[StatementLineOut]:
    """Newest first. Each balance is the one before it, plus in, less out."""
    account_id = call.id("prepaid_account_id")
    page = await service.read_statement(call.actor, account_id, call.query.cursor, call.query.limit)
    return PageOut[StatementLineOut](items=[_line_out(one) for one in page.items], next_cursor=page.next_cursor)


_PAY_REFUSALS = (NotFound, payments.NotEnoughHeld, payments.NothingOwed, payments.BillNotForPrepaid,
                 payments.BillAlreadyPaid, payments.PaymentInProgress)  # fmt: skip


@route("POST", "/api/v1/prepaid-accounts/{prepaid_account_id}/pay", who=Who.RESIDENT, tag=TAG,
       summary="用预存款缴费", body=PayIn, status=201, response=PaymentOut, replay=_replay_payment, makes="payment",
       refusals=_PAY_REFUSALS)  # fmt: skip
@route("POST", "/api/v1/staff/prepaid-accounts/{prepaid_account_id}/pay", who=Who.STAFF, tag=TAG,
       summary="代业主用预存款缴费", body=PayIn, status=201, response=PaymentOut, replay=_replay_payment,
       makes="payment", refusals=(NotPermitted, *_PAY_REFUSALS))  # fmt: skip
async def pay(call: Call) -> PaymentOut:
    """The payment, paid: nothing is waited for."""
    view = await service.pay(call.actor, call.id("prepaid_account_id"), call.body.bill_ids)
    return payment_out(view, call.language)


@route("PUT", "/api/v1/staff/prepaid-accounts/{prepaid_account_id}/agreement", who=Who.STAFF, tag=TAG,
       summary="约定预存款用途", body=AgreementIn, response=PrepaidAccountOut,
       refusals=(NotFound, NotPermitted))  # fmt: skip
async def agree(call: Call) -> PrepaidAccountOut:
    """What the balance may pay, and whether monthly runs take from it."""
    account_id = call.id("prepaid_account_id")
    return _out(await service.agree(call.actor, account_id, call.body.fee_item_ids, call.body.pays_monthly))


@route("POST", "/api/v1/staff/communities/{community_id}/prepaid-runs", who=Who.STAFF, tag=TAG,
       summary="用预存款批量缴费", status=201, response=RunOut, replay=_replay_run, makes="prepaid_run",
       refusals=(NotFound, NotPermitted, run_service.PrepaidRunUnderWay))  # fmt: skip
async def start_run(call: Call) -> RunOut:
    """Every balance of the community pays what its owner owes; look at the run for how far it is."""
    return _run_out(await run_service.start_run(call.actor, call.id("community_id")))


@route("GET", "/api/v1/staff/prepaid-runs", who=Who.STAFF, tag=TAG, summary="批量缴费记录", query=RunQuery,
       response=PageOut[RunOut], refusals=(NotPermitted,))  # fmt: skip
async def list_runs(call: Call) -> PageOut[RunOut]:
    """Newest first."""
    page = await run_service.list_runs(call.actor, call.query.community_id, call.query.cursor, call.query.limit)
    return PageOut[RunOut](items=[_run_out(one) for one in page.items], next_cursor=page.next_cursor)


@route("GET", "/api/v1/staff/prepaid-runs/{prepaid_run_id}", who=Who.STAFF, tag=TAG, summary="批量缴费进度",
       response=RunOut)  # fmt: skip
async def get_run(call: Call) -> RunOut:
    return _run_out(await run_service.get_run(call.actor, call.id("prepaid_run_id")))


@route("GET", "/api/v1/staff/prepaid-runs/{prepaid_run_id}/lines", who=Who.STAFF, tag=TAG, summary="批量缴费明细",
       query=PageQuery, response=PageOut[RunLineOut])  # fmt: skip
async def list_run_lines(call: Call) -> PageOut[RunLineOut]:
    """What was paid from each balance, newest first."""
    run_id = call.id("prepaid_run_id")
    page = await run_service.list_run_lines(call.actor, run_id, call.query.cursor, call.query.limit)
    return PageOut[RunLineOut](items=[_run_line_out(one) for one in page.items], next_cursor=page.next_cursor)
