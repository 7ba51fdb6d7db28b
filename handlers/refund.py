"""Refunds: ask for one, decide, see it through; what residents see of theirs is in handlers/payment.py."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

import payments
from handlers.route import Body, Call, Fen, Id, Out, PageOut, PageQuery, PositiveFen, Who, route
from kit.errors import MoveNotAllowed, NotFound, NotPermitted
from kit.ids import parse_id
from models.refund import BillFate, RefundAttemptState, RefundKind, RefundMethod, RefundState
from services import refund as service

TAG = "退款 refunds"
WORDS = {
    RefundState.ASKED: {"zh": "待审批", "en": "Waiting for approval"},
    RefundState.REJECTED: {"zh": "已驳回", "en": "Rejected"},
    RefundState.APPROVED: {"zh": "退款处理中", "en": "Being refunded"},
    RefundState.PROCESSING: {"zh": "退款处理中", "en": "Being refunded"},
    RefundState.FAILED: {"zh": "退款受阻，待财务处理", "en": "Held up; finance takes the next step"},
    RefundState.REFUNDED: {"zh": "已退款", "en": "Refunded"},
    RefundState.CANCELLED: {"zh": "退款已取消", "en": "Cancelled"},
}


class RefundAttemptOut(Out):
    """One number at WeChat. ``accepted`` means taken on, not refunded."""

    out_refund_no: str
    status: RefundAttemptState
    wechat_refund_id: str | None
    sent_at: datetime | None
    succeeded_at: datetime | None


class RefundLineOut(Out):
    """What is taken from which bill line, and what becomes of the bill: owed again, or credited (冲销)."""

    bill_id: Id
    bill_line_id: Id
    amount_fen: Fen
    bill_becomes: BillFate


class RefundOut(Out):
    """A refund. Only ``refunded`` means that the money is back; ``problem`` is WeChat's code for what is in the way.
    ``lines`` is empty for a surplus; ``pay_out_reference`` is the bank's serial."""

    id: Id
    kind: RefundKind
    method: RefundMethod
    status: RefundState
    status_text: str
    community_id: Id
    payment_id: Id
    amount_fen: Fen
    reason: str
    problem: str | None
    created_at: datetime
    asked_by_staff_id: Id | None
    asked_by_resident_id: Id | None
    approved_by_staff_id: Id | None
    reject_reason: str | None
    paid_out_by_staff_id: Id | None
    pay_out_reference: str | None
    refunded_at: datetime | None
    cancelled_at: datetime | None
    cancel_reason: str | None
    lines: list[RefundLineOut]
    attempts: list[RefundAttemptOut]


class RefundQuery(PageQuery):
    status: RefundState | None = None
    method: RefundMethod | None = None
    community_id: str | None = None
    payment_id: str | None = None


class PaidLineOut(Out):
    """A bill line that a payment paid; ``left_fen`` can still be given back."""

    bill_id: Id
    bill_title: str
    kind: RefundKind
    bill_line_id: Id
    line_title: str
    paid_fen: Fen
    left_fen: Fen


class PaidLinesOut(Out):
    """Oldest bill first."""

    lines: list[PaidLineOut]


class RefundPartIn(Body):
    """Of this bill, or of this line of it, so much; without an amount all that is left of it."""

    bill_id: str
    bill_line_id: str | None = None
    amount_fen: PositiveFen | None = None


class AskRefundIn(Body):
    """What shall go back, why (the payer may read it in WeChat), and what becomes of the bills: owed again, or credited
    (冲销). No parts: all that is left of the payment; no method: the way the money came."""

    parts: Annotated[list[RefundPartIn], Field(max_length=200)] = Field(default_factory=list)
    bill_becomes: BillFate = BillFate.OPEN
    method: RefundMethod | None = None
    reason: Annotated[str, Field(min_length=2, max_length=80)]


class RejectRefundIn(Body):
    """Why not; whoever asked may read it."""

    reason: Annotated[str, Field(min_length=2, max_length=200)]


class RefundMethodIn(Body):
    """How it shall go back instead. ``given_up_at_wechat``: somebody made sure at WeChat's merchant platform that an
    abnormal refund is not delivered there."""

    method: Literal["bank", "cash"]
    given_up_at_wechat: bool = False


class PayOutIn(Body):
    """The bank's serial of a transfer; nothing for cash."""

    reference: Annotated[str, Field(min_length=4, max_length=64)] | None = None


class RecordRefundIn(Body):
    """Which bill lines the money was taken from, as much together as WeChat gave back; null: the payment's surplus."""

    parts: Annotated[list[RefundPartIn], Field(min_length=1, max_length=200)] | None = None
    bill_becomes: BillFate = BillFate.OPEN


class CancelRefundIn(Body):
    """Why nothing shall be given back."""

    reason: Annotated[str, Field(min_length=2, max_length=200)]


def refund_out(view: service.RefundView, language: str) -> RefundOut:
    """The refund as staff see it."""
    refund = view.refund
    return RefundOut(
        id=str(refund.id),
        kind=refund.kind,
        method=refund.method,
        status=refund.state,
        status_text=WORDS[refund.state][language],
        community_id=str(refund.community_id),
        payment_id=str(refund.payment_id),
        amount_fen=refund.amount_fen,
        reason=refund.reason,
        problem=refund.problem,
        created_at=refund.created_at,
        asked_by_staff_id=_id(refund.asked_by_staff_id),
        asked_by_resident_id=_id(refund.asked_by_resident_id),
        approved_by_staff_id=_id(refund.approved_by_staff_id),
        reject_reason=refund.reject_reason,
        paid_out_by_staff_id=_id(refund.paid_out_by_staff_id),
        pay_out_reference=refund.pay_out_reference,
        refunded_at=refund.refunded_at,
        cancelled_at=refund.cancelled_at,
        cancel_reason=refund.cancel_reason,
        lines=[
            RefundLineOut(
                bill_id=str(line.bill_id),
                bill_line_id=str(line.bill_line_id),
                amount_fen=line.amount_fen,
                bill_becomes=line.fate,
            )
            for line in view.lines
        ],
        attempts=[
            RefundAttemptOut(
                out_refund_no=attempt.out_refund_no,
                status=attempt.state,
                wechat_refund_id=attempt.wechat_refund_id,
                sent_at=attempt.sent_at,
                succeeded_at=attempt.succeeded_at,
            )
            for attempt in view.attempts
        ],
    )


def _id(found: UUID | None) -> str | None:
    return str(found) if found else None


def _parts(parts: Sequence[RefundPartIn]) -> list[payments.RefundPart]:
    """NotFound for an id that is none: it is nobody's bill."""
    found = [(parse_id(one.bill_id), one.bill_line_id and parse_id(one.bill_line_id), one) for one in parts]
    if any(bill_id is None or (one.bill_line_id and line_id is None) for bill_id, line_id, one in found):
        raise NotFound()
    return [payments.RefundPart(bill_id, line_id or None, one.amount_fen) for bill_id, line_id, one in found if bill_id]


@route("GET", "/api/v1/staff/refunds", who=Who.STAFF, tag=TAG, summary="退款列表", query=RefundQuery,
       response=PageOut[RefundOut], refusals=(NotPermitted,))  # fmt: skip
async def list_refunds(call: Call) -> PageOut[RefundOut]:
    """Newest first."""
    query = call.query
    wanted = service.RefundFilter(query.status, query.method, query.community_id, query.payment_id)
    page = await service.list_refunds(call.actor, wanted, query.cursor, query.limit)
    items = [refund_out(view, call.language) for view in page.items]
    return PageOut[RefundOut](items=items, next_cursor=page.next_cursor)


@route("GET", "/api/v1/staff/refunds/{refund_id}", who=Who.STAFF, tag=TAG, summary="退款详情",
       response=RefundOut)  # fmt: skip
async def get_refund(call: Call) -> RefundOut:
    return refund_out(await service.get_refund(call.actor, call.id("refund_id")), call.language)


@route("POST", "/api/v1/staff/refunds/{refund_id}/check", who=Who.STAFF, tag=TAG, summary="立即向微信查询退款",
       response=RefundOut, refusals=(NotPermitted,))  # fmt: skip
async def check_refund(call: Call) -> RefundOut:
    """WeChat is asked now instead of waiting for its notice."""
    return refund_out(await service.check_refund(call.actor, call.id("refund_id")), call.language)


async def replay_refund(call: Call, refund_id: UUID) -> RefundOut:
    """The refund that an earlier request made or moved, as it is now."""
    return refund_out(await service.get_refund(call.actor, refund_id), call.language)


@route("GET", "/api/v1/staff/payments/{payment_id}/refundable", who=Who.STAFF, tag=TAG, summary="可退明细",
       response=PaidLinesOut, refusals=(NotPermitted,))  # fmt: skip
async def paid_lines(call: Call) -> PaidLinesOut:
    """What the payment paid of which bill lines. A surplus is decided on its case."""
    return PaidLinesOut(
        lines=[
            PaidLineOut(
                bill_id=str(line.bill_id),
                bill_title=line.bill_title,
                kind=line.kind,
                bill_line_id=str(line.line_id),
                line_title=line.line_title,
                paid_fen=line.paid_fen,
                left_fen=line.left_fen,
            )
            for line in await service.paid_lines(call.actor, call.id("payment_id"))
        ]
    )


@route("POST", "/api/v1/staff/payments/{payment_id}/refunds", who=Who.STAFF, tag=TAG, summary="申请退款",
       body=AskRefundIn, status=201, response=RefundOut, replay=replay_refund, makes="refund",
       refusals=(NotFound, NotPermitted, payments.PaymentNotPaid, payments.RefundTooLarge, payments.RefundKindsDiffer,
                 payments.NotThroughWechat))  # fmt: skip
async def ask_refund(call: Call) -> RefundOut:
    """Moves nothing: somebody approves it first."""
    body = call.body
    wish = payments.RefundWish(_parts(body.parts), body.bill_becomes, body.reason, body.method)
    return refund_out(await service.ask_refund(call.actor, call.id("payment_id"), wish), call.language)


@route("POST", "/api/v1/staff/refunds/{refund_id}/approve", who=Who.STAFF, tag=TAG, summary="批准退款",
       response=RefundOut, replay=replay_refund, makes="refund",
       refusals=(NotPermitted, MoveNotAllowed, payments.RefundNeedsSecondPerson, payments.RefundTooLarge,
                 payments.NotEnoughHeld, payments.DepositReturnNotAsked))  # fmt: skip
async def approve_refund(call: Call) -> RefundOut:
    """Reserves the amount and sends it to WeChat, or has it wait to be paid out. Above the legal entity's limit it
    takes another person than the one who asked."""
    return refund_out(await service.approve_refund(call.actor, call.id("refund_id")), call.language)


@route("POST", "/api/v1/staff/refunds/{refund_id}/reject", who=Who.STAFF, tag=TAG, summary="驳回退款",
       body=RejectRefundIn, response=RefundOut, refusals=(NotPermitted, MoveNotAllowed))  # fmt: skip
async def reject_refund(call: Call) -> RefundOut:
    """Nothing was reserved, and nothing moves."""
    view = await service.reject_refund(call.actor, call.id("refund_id"), call.body.reason)
    return refund_out(view, call.language)


@route("POST", "/api/v1/staff/refunds/{refund_id}/method", who=Who.STAFF, tag=TAG, summary="变更退款方式",
       body=RefundMethodIn, response=RefundOut,
       refusals=(NotPermitted, MoveNotAllowed, payments.RefundJustSent, payments.RefundAtWechat,
                 payments.WechatUnavailable))  # fmt: skip
async def change_method(call: Call) -> RefundOut:
    """By bank transfer or in cash, once it is sure that WeChat does not carry it out."""
    method = RefundMethod(call.body.method)
    view = await service.change_method(call.actor, call.id("refund_id"), method, call.body.given_up_at_wechat)
    return refund_out(view, call.language)


@route("POST", "/api/v1/staff/refunds/{refund_id}/pay-out", who=Who.STAFF, tag=TAG, summary="登记转账或现金退款",
       body=PayOutIn, response=RefundOut, replay=replay_refund, makes="refund",
       refusals=(NotPermitted, MoveNotAllowed, payments.RefundNotByHand, payments.BankSerialNeeded,
                 payments.BankSerialUsed, payments.CashNotThere))  # fmt: skip
async def pay_out_refund(call: Call) -> RefundOut:
    """The money is with the payer: posted once. Transfers are finance's to record."""
    view = await service.pay_out_refund(call.actor, call.id("refund_id"), call.body.reference)
    return refund_out(view, call.language)


@route("POST", "/api/v1/staff/discrepancies/{discrepancy_id}/record-refund", who=Who.STAFF, tag=TAG,
       summary="登记在微信商户平台发起的退款", body=RecordRefundIn, status=201, response=RefundOut,
       replay=replay_refund, makes="refund",
       refusals=(NotFound, NotPermitted, payments.NoForeignRefund, payments.ForeignRefundRecorded,
                 payments.RefundNotConfirmed, payments.ForeignRefundUnmatched, payments.PaymentNotPaid,
                 payments.RefundTooLarge, payments.RefundKindsDiffer, payments.NotEnoughHeld,
                 payments.DepositReturnNotAsked, payments.SurplusDecided, payments.WechatUnavailable))  # fmt: skip
async def record_foreign_refund(call: Call) -> RefundOut:
    """WeChat is asked first; what it confirms is entered like a refund of ours, once."""
    parts = None if call.body.parts is None else _parts(call.body.parts)
    view = await service.record_foreign_refund(
        call.actor, call.id("discrepancy_id"), parts, call.body.bill_becomes
    )  # fmt: skip
    return refund_out(view, call.language)


@route("POST", "/api/v1/staff/refunds/{refund_id}/retry", who=Who.STAFF, tag=TAG, summary="重新退款",
       response=RefundOut, replay=replay_refund, makes="refund",
       refusals=(NotPermitted, MoveNotAllowed, payments.RefundAtWechat))  # fmt: skip
async def retry_refund(call: Call) -> RefundOut:
    """The same number goes to WeChat again; a new one only when WeChat said that the old one is closed."""
    return refund_out(await service.retry_refund(call.actor, call.id("refund_id")), call.language)


@route("POST", "/api/v1/staff/refunds/{refund_id}/cancel", who=Who.STAFF, tag=TAG, summary="取消退款",
       body=CancelRefundIn, response=RefundOut,
       refusals=(NotPermitted, MoveNotAllowed, payments.RefundJustSent, payments.RefundAtWechat,
                 payments.WechatUnavailable))  # fmt: skip
async def cancel_refund(call: Call) -> RefundOut:
    """Only what WeChat surely did not take on; the surplus is then to be decided anew."""
    view = await service.cancel_refund(call.actor, call.id("refund_id"), call.body.reason)
    return refund_out(view, call.language)
