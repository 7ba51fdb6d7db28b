"""Payments: open, look, confirm, cancel."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

import payments
from handlers.route import Body, Call, Fen, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotFound, NotPermitted
from models.payment import Channel, CloseReason, PaymentState
from services import payment as service


class WechatOrderOut(Out):
    """The parameters of ``wx.requestPayment``, freshly signed: pass them on as they are."""

    timeStamp: str
    nonceStr: str
    package: str
    signType: str
    paySign: str


class PaymentOut(Out):
    """A payment. ``status`` is decided by WeChat's word to us alone, never by what the phone says."""

    id: Id
    status: PaymentState
    amount_fen: Fen
    surplus_fen: Fen
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


def _differ(values: list[str]) -> list[str]:
    if len(set(values)) != len(values):
        raise PydanticCustomError("repeated", "a value is repeated")
    return values


class OpenPaymentIn(Body):
    """The bills to pay in full; no amount: what is owed is ours to know."""

    bill_ids: Annotated[list[str], Field(min_length=1, max_length=100), AfterValidator(_differ)]
    channel: Literal["wechat_jsapi"]


class PaymentQuery(PageQuery):
    status: PaymentState | None = None


class StaffPaymentQuery(PaymentQuery):
    community_id: str | None = None


_SUSPENDED = {
    "zh": "您的付款金额正在核实，物业财务会尽快处理，请不要重复支付。",
    "en": "Your payment is being verified by the property's finance; please do not pay again.",
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
        "channel": payment.channel,
        "bill_ids": [str(bill_id) for bill_id in view.bill_ids],
        "created_at": payment.created_at,
        "paid_at": payment.paid_at,
        "close_reason": payment.close_reason,
        "receipt_id": str(view.receipt_id) if view.receipt_id else None,
        "notice": _SUSPENDED[language] if payment.state is PaymentState.SUSPENDED else None,
    }


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


@route("GET", "/api/v1/staff/payments", who=Who.STAFF, tag="缴费 payments", summary="查询支付单",
       query=StaffPaymentQuery, response=PageOut[PaymentOut], refusals=(NotPermitted,))  # fmt: skip
async def list_payments(call: Call) -> PageOut[PaymentOut]:
    query = call.query
    page = await service.list_payments(call.actor, query.status, query.community_id, query.cursor, query.limit)
    return PageOut[PaymentOut](
        items=[payment_out(view, call.language) for view in page.items], next_cursor=page.next_cursor
    )
