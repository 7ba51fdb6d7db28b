"""Deposits: asked for, looked at, deducted with evidence, and asked back."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

import payments
from handlers.bill import BillOut, bill_out
from handlers.payment import differ
from handlers.route import Body, Call, Fen, Id, Out, PageOut, PageQuery, PositiveFen, Who, route
from kit.errors import MoveNotAllowed, NotFound, NotPermitted
from models.deposit import Deposit, DepositDeduction, DepositState
from services import bill as bill_service
from services import deposit as service

TAG = "押金 deposits"
WORDS = {
    DepositState.HELD: {"zh": "已收取", "en": "held"},
    DepositState.PART_DEDUCTED: {"zh": "部分扣除", "en": "partly deducted"},
    DepositState.SPENT: {"zh": "已扣完", "en": "nothing left"},
    DepositState.RETURN_ASKED: {"zh": "待退还", "en": "to be returned"},
    DepositState.RETURNED: {"zh": "已退还", "en": "returned"},
}


class DepositOut(Out):
    """A deposit that was paid. ``left_fen`` is what is still held: its amount less what was deducted."""

    id: Id
    status: DepositState
    status_text: str
    community_id: Id
    room_id: Id | None
    customer_id: Id
    bill_id: Id
    title: str
    amount_fen: Fen
    deducted_fen: Fen
    left_fen: Fen
    created_at: datetime
    return_asked_at: datetime | None
    return_reason: str | None


class DeductionOut(Out):
    """What was deducted, for which bill, and on what evidence."""

    id: Id
    deposit_id: Id
    bill_id: Id
    payment_id: Id
    amount_fen: Fen
    reason: str
    attachments: list[str]
    created_at: datetime


class DepositQuery(PageQuery):
    status: DepositState | None = None


class StaffDepositQuery(DepositQuery):
    community_id: str | None = None
    customer_id: str | None = None
    room_id: str | None = None


class NewDepositIn(Body):
    """The fee item says whose money it is held by."""

    community_id: str
    room_id: str
    customer_id: str
    fee_item_id: str
    title: Annotated[str, Field(min_length=1, max_length=100)]
    amount_fen: PositiveFen


Attachment = Annotated[str, Field(min_length=1, max_length=200)]


class DeductIn(Body):
    """Which charge it pays and why. ``attachments`` name the evidence: photos, a signed paper."""

    bill_id: str
    amount_fen: PositiveFen
    reason: Annotated[str, Field(min_length=2, max_length=200)]
    attachments: Annotated[list[Attachment], Field(min_length=1, max_length=20), AfterValidator(differ)]


class AskReturnIn(Body):
    """Why, as it will be told."""

    reason: Annotated[str, Field(min_length=2, max_length=200)]


def _out(deposit: Deposit, language: str) -> DepositOut:
    return DepositOut(
        id=str(deposit.id),
        status=deposit.state,
        status_text=WORDS[deposit.state][language],
        community_id=str(deposit.community_id),
        room_id=str(deposit.room_id) if deposit.room_id else None,
        customer_id=str(deposit.customer_id),
        bill_id=str(deposit.bill_id),
        title=deposit.title,
        amount_fen=deposit.amount_fen,
        deducted_fen=deposit.deducted_fen,
        left_fen=deposit.left_fen,
        created_at=deposit.created_at,
        return_asked_at=deposit.return_asked_at,
        return_reason=deposit.return_reason,
    )


def _deduction_out(one: DepositDeduction) -> DeductionOut:
    return DeductionOut(
        id=str(one.id),
        deposit_id=str(one.deposit_id),
        bill_id=str(one.bill_id),
        payment_id=str(one.payment_id),
        amount_fen=one.amount_fen,
        reason=one.reason,
        attachments=list(one.attachments),
        created_at=one.created_at,
    )


async def _replay_bill(call: Call, bill_id: UUID) -> BillOut:
    return bill_out(await bill_service.get_bill(call.actor, bill_id))


async def _replay_deduction(call: Call, deduction_id: UUID) -> DeductionOut:
    return _deduction_out(await service.get_deduction(call.actor, deduction_id))


async def _replay_deposit(call: Call, deposit_id: UUID) -> DepositOut:
    return _out(await service.get_deposit(call.actor, deposit_id), call.language)


@route("POST", "/api/v1/staff/deposits", who=Who.STAFF, tag=TAG, summary="收取押金", body=NewDepositIn, status=201,
       response=BillOut, replay=_replay_bill, makes="bill",
       refusals=(NotFound, NotPermitted, payments.LinesDoNotAddUp))  # fmt: skip
async def ask_for_deposit(call: Call) -> BillOut:
    """A bill of kind deposit; once it is paid, by whatever way, the deposit is held."""
    return bill_out(await service.ask_for_deposit(call.actor, service.NewDeposit(**dict(call.body))))


@route("GET", "/api/v1/deposits", who=Who.RESIDENT, tag=TAG, summary="我的押金", query=DepositQuery,
       response=PageOut[DepositOut])  # fmt: skip
async def list_my_deposits(call: Call) -> PageOut[DepositOut]:
    wanted = service.DepositFilter(call.query.status)
    page = await service.list_deposits(call.actor, wanted, call.query.cursor, call.query.limit)
    items = [_out(one, call.language) for one in page.items]
    return PageOut[DepositOut](items=items, next_cursor=page.next_cursor)


@route("GET", "/api/v1/staff/deposits", who=Who.STAFF, tag=TAG, summary="押金列表", query=StaffDepositQuery,
       response=PageOut[DepositOut], refusals=(NotPermitted,))  # fmt: skip
async def list_deposits(call: Call) -> PageOut[DepositOut]:
    """Newest first."""
    query = call.query
    wanted = service.DepositFilter(query.status, query.community_id, query.customer_id, query.room_id)
    page = await service.list_deposits(call.actor, wanted, query.cursor, query.limit)
    items = [_out(one, call.language) for one in page.items]
    return PageOut[DepositOut](items=items, next_cursor=page.next_cursor)


@route("GET", "/api/v1/deposits/{deposit_id}", who=Who.RESIDENT, tag=TAG, summary="押金详情",
       response=DepositOut)  # fmt: skip
@route("GET", "/api/v1/staff/deposits/{deposit_id}", who=Who.STAFF, tag=TAG, summary="押金详情", response=DepositOut,
       refusals=(NotPermitted,))  # fmt: skip
async def get_deposit(call: Call) -> DepositOut:
    return _out(await service.get_deposit(call.actor, call.id("deposit_id")), call.language)


@route("GET", "/api/v1/deposits/{deposit_id}/deductions", who=Who.RESIDENT, tag=TAG, summary="押金扣除记录",
       query=PageQuery, response=PageOut[DeductionOut])  # fmt: skip
@route("GET", "/api/v1/staff/deposits/{deposit_id}/deductions", who=Who.STAFF, tag=TAG, summary="押金扣除记录",
       query=PageQuery, response=PageOut[DeductionOut], refusals=(NotPermitted,))  # fmt: skip
async def list_deductions(call: Call) -> PageOut[DeductionOut]:
    """Newest first."""
    page = await service.list_deductions(call.actor, call.id("deposit_id"), call.query.cursor, call.query.limit)
    return PageOut[DeductionOut](items=[_deduction_out(one) for one in page.items], next_cursor=page.next_cursor)


@route("POST", "/api/v1/staff/deposits/{deposit_id}/deductions", who=Who.STAFF, tag=TAG, summary="扣除押金",
       body=DeductIn, status=201, response=DeductionOut, replay=_replay_deduction, makes="deposit_deduction",
       refusals=(NotFound, NotPermitted, MoveNotAllowed, payments.NotEnoughHeld, payments.BillOfAnother,
                 payments.BillIsNoCharge, payments.BillVoided, payments.BillAlreadyPaid,
                 payments.LessIsOwed))  # fmt: skip
async def deduct(call: Call) -> DeductionOut:
    """Pays a charge of the same customer, never more than is left of this deposit."""
    given: DeductIn = call.body
    return _deduction_out(
        await service.deduct(
            call.actor, call.id("deposit_id"), given.bill_id, given.amount_fen, given.reason, given.attachments
        )
    )


@route("POST", "/api/v1/staff/deposits/{deposit_id}/ask-return", who=Who.STAFF, tag=TAG, summary="申请退还押金",
       body=AskReturnIn, response=DepositOut, replay=_replay_deposit, makes="deposit",
       refusals=(NotFound, NotPermitted, MoveNotAllowed))  # fmt: skip
async def ask_return(call: Call) -> DepositOut:
    """From then on nothing is deducted."""
    deposit = await service.ask_return(call.actor, call.id("deposit_id"), call.body.reason)
    return _out(deposit, call.language)


@route("POST", "/api/v1/staff/deposits/{deposit_id}/withdraw-return", who=Who.STAFF, tag=TAG,
       summary="撤回退还申请", response=DepositOut, refusals=(NotFound, NotPermitted, MoveNotAllowed))  # fmt: skip
async def withdraw_return(call: Call) -> DepositOut:
    """The deposit is held as before."""
    return _out(await service.withdraw_return(call.actor, call.id("deposit_id")), call.language)
