"""Payments: open, look, confirm, cancel."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

import payments
from handlers.refund import WORDS
from handlers.route import Body, Call, Fen, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotFound, NotPermitted
from kit.money import format_yuan
from models.payment import Channel, CloseReason, PaymentState, SurplusFate
from models.refund import Refund, RefundKind, RefundMethod, RefundState
from services import payment as service
from services import rate_limit
from services import refund as refund_service


class WechatOrderOut(Out):
    """The parameters of ``wx.requestPayment``, freshly signed: pass them on as they are."""

    timeStamp: str
    nonceStr: str
    package: str
    signType: str
    paySign: str


class GivenBack(StrEnum):
    """How far giving back is, as the payer is told: accepted by WeChat is not yet refunded."""

    ASKED = "asked"  # the payer asked for it, nobody decided yet
    REJECTED = "rejected"
    PROCESSING = "processing"
    REFUNDED = "refunded"


class PaymentRefundOut(Out):
    """Money of a payment that goes back. ``reason`` says why not, of what was asked for and turned down."""

    id: Id
    payment_id: Id
    status: GivenBack
    status_text: str
    method: RefundMethod
    amount_fen: Fen
    reason: str | None
    refunded_at: datetime | None


class AskMyRefundIn(Body):
    """Why."""

    reason: Annotated[str, Field(min_length=2, max_length=80)]


class PaymentOut(Out):
    """A payment. ``status`` is decided by WeChat's word to us alone, never by what the phone says. ``surplus_fate`` is
    null until it was decided what becomes of ``surplus_fen``."""

    id: Id
    status: PaymentState
    amount_fen: Fen
    surplus_fen: Fen
    surplus_fate: SurplusFate | None
    refunds: list[PaymentRefundOut]
    channel: Channel
    bill_ids: list[Id]
    created_at: datetime
    paid_at: datetime | None
    close_reason: CloseReason | None
    receipt_id: Id | None
    notice: str | None = Field(description="A sentence for the payer, where the status alone would worry them")


class OpenedPaymentOut(PaymentOut):
    """A payment that the phone can pay now; ``wechat`` is null when it was paid or closed in the meantime."""

    wechat: WechatOrderOut | None


def differ(values: list[str]) -> list[str]:
    """A list in which nothing stands twice."""
    if len(set(values)) != len(values):
        raise PydanticCustomError("repeated", "a value is repeated")
    return values


class OpenPaymentIn(Body):
    """The bills to pay in full; no amount: what is owed is ours to know."""

    bill_ids: Annotated[list[str], Field(min_length=1, max_length=100), AfterValidator(differ)]
    channel: Literal["wechat_jsapi"]


class PaymentQuery(PageQuery):
    status: PaymentState | None = None


class StaffPaymentQuery(PaymentQuery):
    community_id: str | None = None


_GIVEN_BACK = {
    RefundState.ASKED: GivenBack.ASKED,
    RefundState.REJECTED: GivenBack.REJECTED,
    RefundState.REFUNDED: GivenBack.REFUNDED,
}
_FOR_PAYERS = {
    GivenBack.ASKED: {"zh": "退款申请已提交，等待物业审核", "en": "You asked for a refund; it is being looked at"},
    GivenBack.REJECTED: {
        "zh": "退款申请未通过，可向物业了解原因",
        "en": "Not granted; ask the property why",
    },
    GivenBack.PROCESSING: WORDS[RefundState.PROCESSING],
    GivenBack.REFUNDED: WORDS[RefundState.REFUNDED],
}
_SUSPENDED = {
    "zh": "您的付款金额正在核实，物业财务会尽快处理，请不要重复支付。",
    "en": "Your payment is being verified by the property's finance; please do not pay again.",
}


_SURPLUS = {
    None: {
        "zh": "多付的{yuan}元由物业财务核实，将退回或留存，届时通知您。",
        "en": "CNY {yuan} more than was owed came in; the property's finance will return or keep it and tell you.",
    },
    SurplusFate.RETURNED: {
        "zh": "多付的{yuan}元{state}。",
        "en": "CNY {yuan} more than was owed: {state}.",
    },
    SurplusFate.KEPT: {
        "zh": "多付的{yuan}元已留存，用于抵扣账单或转为预存款。",
        "en": "CNY {yuan} more than was owed was kept, to pay other bills or as your prepaid balance.",
    },
}


def payment_out(view: service.PaymentView, language: str) -> PaymentOut:
    """The payment as it is shown."""
    return PaymentOut(**_members(view, language))


def _members(view: service.PaymentView, language: str) -> dict[str, object]:
    payment = view.payment
    return {
        "id": str(payment.id),
        "status": payment.state,
        "amount_fen": payment.amount_fen,
        "surplus_fen": payment.surplus_fen,
        "surplus_fate": payment.surplus_fate,
        "refunds": [_refund_out(refund, language) for refund in view.refunds],
        "channel": payment.channel,
        "bill_ids": [str(bill_id) for bill_id in view.bill_ids],
        "created_at": payment.created_at,
        "paid_at": payment.paid_at,
        "close_reason": payment.close_reason,
        "receipt_id": str(view.receipt_id) if view.receipt_id else None,
        "notice": _notice(view, language),
    }


def _refund_out(refund: Refund, language: str) -> PaymentRefundOut:
    """What stands in the way of a refund is finance's to see: for the payer it is under way until it is there."""
    status = _GIVEN_BACK.get(refund.state, GivenBack.PROCESSING)
    return PaymentRefundOut(
        id=str(refund.id),
        payment_id=str(refund.payment_id),
        status=status,
        status_text=_FOR_PAYERS[status][language],
        method=refund.method,
        amount_fen=refund.amount_fen,
        reason=refund.reject_reason,
        refunded_at=refund.refunded_at,
    )


def _notice(view: service.PaymentView, language: str) -> str | None:
    payment = view.payment
    if payment.state is PaymentState.SUSPENDED:
        return _SUSPENDED[language]
    if not payment.surplus_fen:
        return None
    states = [_refund_out(refund, language).status_text for refund in view.refunds if refund.kind is RefundKind.SURPLUS]
    sentence = _SURPLUS[payment.surplus_fate][language]
    return sentence.format(yuan=format_yuan(payment.surplus_fen), state="".join(states))


def _opened_out(view: service.PaymentView, opened: payments.OpenedPayment, language: str) -> OpenedPaymentOut:
    order = opened.phone_order
    wechat = order and WechatOrderOut(
        timeStamp=order.time_stamp,
        nonceStr=order.nonce_str,
        package=order.package,
        signType=order.sign_type,
        paySign=order.pay_sign,
    )
    return OpenedPaymentOut(**_members(view, language), wechat=wechat)


async def _replay_payment(call: Call, payment_id: UUID) -> OpenedPaymentOut:
    return _opened_out(*await service.resume_payment(call.actor, payment_id), call.language)


@route("POST", "/api/v1/payments", who=Who.RESIDENT, tag="缴费 payments", summary="发起支付", body=OpenPaymentIn,
       status=201, response=OpenedPaymentOut, replay=_replay_payment,
       limits=(rate_limit.OPEN_PAYMENT,),
       refusals=(NotFound, NotPermitted, service.OldestArrearsFirst, payments.BillAlreadyPaid, payments.BillVoided,
                 payments.BillNotPayableOnline, payments.BillsNeedSeparatePayments, payments.PaymentInProgress,
                 payments.AmountTooLarge, payments.WechatUnavailable, payments.WechatRefused))  # fmt: skip
async def open_payment(call: Call) -> OpenedPaymentOut:
    """Opens one payment for all that is owed on the chosen bills. The same payer with the same bills gets the live
    one again; somebody else hears payment_in_progress for a minute and may then take over."""
    return _opened_out(
        *await service.open_payment(call.actor, call.body.bill_ids, Channel(call.body.channel)), call.language
    )


@route("GET", "/api/v1/payments", who=Who.RESIDENT, tag="缴费 payments", summary="我的支付记录", query=PaymentQuery,
       response=PageOut[PaymentOut])  # fmt: skip
async def list_my_payments(call: Call) -> PageOut[PaymentOut]:
    page = await service.list_payments(call.actor, call.query.status, None, call.query.cursor, call.query.limit)
    return PageOut[PaymentOut](
        items=[payment_out(view, call.language) for view in page.items], next_cursor=page.next_cursor
    )


@route("GET", "/api/v1/payments/{payment_id}", who=Who.RESIDENT, tag="缴费 payments", summary="支付结果",
       response=PaymentOut)  # fmt: skip
@route("GET", "/api/v1/staff/payments/{payment_id}", who=Who.STAFF, tag="缴费 payments", summary="支付单详情",
       response=PaymentOut)  # fmt: skip
async def get_payment(call: Call) -> PaymentOut:
    return payment_out(await service.get_payment(call.actor, call.id("payment_id")), call.language)


@route("POST", "/api/v1/payments/{payment_id}/confirm", who=Who.RESIDENT, tag="缴费 payments",
       summary="我已支付，请核实", response=PaymentOut)  # fmt: skip
@route("POST", "/api/v1/staff/payments/{payment_id}/check", who=Who.STAFF, tag="缴费 payments",
       summary="立即向微信查单", response=PaymentOut, refusals=(NotPermitted,))  # fmt: skip
async def confirm_payment(call: Call) -> PaymentOut:
    """WeChat is asked now instead of waiting for its callback; a phone calls it when wx.requestPayment returned."""
    return payment_out(await service.confirm_payment(call.actor, call.id("payment_id")), call.language)


@route("POST", "/api/v1/payments/{payment_id}/cancel", who=Who.RESIDENT, tag="缴费 payments", summary="放弃支付",
       response=PaymentOut, refusals=(payments.PaymentNotOpen, payments.WechatUnavailable))  # fmt: skip
async def cancel_my_payment(call: Call) -> PaymentOut:
    """Closed at WeChat first, so that nobody pays it afterwards."""
    return payment_out(await service.cancel_payment(call.actor, call.id("payment_id")), call.language)


async def _replay_refund(call: Call, refund_id: UUID) -> PaymentRefundOut:
    return _refund_out(await refund_service.get_my_refund(call.actor, refund_id), call.language)


@route("POST", "/api/v1/payments/{payment_id}/refunds", who=Who.RESIDENT, tag="退款 refunds", summary="申请退款",
       body=AskMyRefundIn, status=201, response=PaymentRefundOut, replay=_replay_refund, makes="refund",
       refusals=(payments.PaymentNotPaid, payments.RefundTooLarge, payments.RefundKindsDiffer,
                 payments.RefundAskedAlready))  # fmt: skip
async def ask_my_refund(call: Call) -> PaymentRefundOut:
    """Who paid asks for all of it; the property decides. The bills are owed again once the money is back."""
    refund = await refund_service.ask_my_refund(call.actor, call.id("payment_id"), call.body.reason)
    return _refund_out(refund, call.language)


@route("GET", "/api/v1/refunds", who=Who.RESIDENT, tag="退款 refunds", summary="我的退款", query=PageQuery,
       response=PageOut[PaymentRefundOut])  # fmt: skip
async def list_my_refunds(call: Call) -> PageOut[PaymentRefundOut]:
    """Newest first."""
    page = await refund_service.list_my_refunds(call.actor, call.query.cursor, call.query.limit)
    return PageOut[PaymentRefundOut](
        items=[_refund_out(refund, call.language) for refund in page.items], next_cursor=page.next_cursor
    )


@route("GET", "/api/v1/staff/payments", who=Who.STAFF, tag="缴费 payments", summary="查询支付单",
       query=StaffPaymentQuery, response=PageOut[PaymentOut], refusals=(NotPermitted,))  # fmt: skip
async def list_payments(call: Call) -> PageOut[PaymentOut]:
    query = call.query
    page = await service.list_payments(call.actor, query.status, query.community_id, query.cursor, query.limit)
    return PageOut[PaymentOut](
        items=[payment_out(view, call.language) for view in page.items], next_cursor=page.next_cursor
    )
