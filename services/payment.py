"""Payments as people ask for and see them. What moves money is behind the door of payments/."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import payments
from kit.errors import NotFound, NotSignedIn, Refusal
from kit.ids import parse_id
from kit.paging import Page
from models.access import Act, Actor, require, require_somewhere
from models.base import get_visible
from models.bill import PAYABLE, Bill
from models.community import Community
from models.payment import Channel, CloseReason, Payment, PaymentAttempt, PaymentBill, PaymentState
from models.receipt import Receipt
from models.refund import Refund
from models.resident import WechatIdentity
from models.wechat_app import WechatApp
from services import rate_limit
from services.listing import newest_first, wanted_id
from services.refund import shown_to_payers
from services.unique import unique


class OldestArrearsFirst(Refusal):
    """The community wants the oldest arrears paid first; ``bill_ids`` are the ones to add."""

    status = 409
    zh = "请先缴清较早的欠费：还有{count}笔，最早的是“{oldest}”。"
    en = "Older arrears of the same room have to be paid first: {count}, beginning with “{oldest}”."


@dataclass(frozen=True)
class PaymentView:
    """A payment with what is shown beside it."""

    payment: Payment
    bill_ids: Sequence[UUID]
    receipt_id: UUID | None
    refunds: Sequence[Refund] = ()  # oldest first, as far as they concern the payer


async def open_payment(
    actor: Actor, bill_ids: Sequence[str], channel: Channel
) -> tuple[PaymentView, payments.OpenedPayment]:
    """Open a payment for bills that the resident may see, or hand out the live one again.

    Refuses NotFound when any of the bills is not there for them, OldestArrearsFirst, and whatever the money island
    refuses. Afterwards the phone has what it needs to pay.
    """
    ids = [parse_id(bill_id) for bill_id in bill_ids]
    bills = await Bill.visible_to(actor).filter(id__in=[one for one in ids if one])
    if None in ids or len(bills) != len(set(ids)):
        raise NotFound()
    for bill in bills:
        if bill.customer_id not in actor.customer_ids:
            require(actor, Act.BILL_PAY, room_id=bill.room_id)
    await _refuse_out_of_order(actor, bills)
    app = await WechatApp.get(id=actor.app_id)
    identity = await WechatIdentity.filter(app_id=app.id, resident_id=actor.id).order_by("-created_at").first()
    if identity is None or actor.id is None:
        raise NotFound()
    payer = payments.Payer(actor.id, app.appid, identity.openid)
    with unique(payer_is_there=NotSignedIn):  # the account was closed since the request began
        opened = await payments.open_payment(actor, [bill.id for bill in bills], payer, channel)
    return (await _views([opened.payment]))[0], opened


async def _refuse_out_of_order(actor: Actor, bills: Sequence[Bill]) -> None:
    """Where the community says so, no chosen bill may be younger than an open one of the same room and debtor that is
    left out."""
    strict = await Community.filter(id__in={bill.community_id for bill in bills}, oldest_arrears_first=True)
    for community in strict:
        chosen = [bill for bill in bills if bill.community_id == community.id and bill.room_id]
        for room_id in {bill.room_id for bill in chosen}:
            debtors = {bill.customer_id for bill in chosen if bill.room_id == room_id}
            youngest = max(bill.accrued_on for bill in chosen if bill.room_id == room_id)
            left_out = (
                await Bill.visible_to(actor)
                .filter(room_id=room_id, state__in=PAYABLE, accrued_on__lt=youngest, customer_id__in=debtors)
                .filter(merchant_account_id__isnull=False)  # what cannot be paid online cannot be asked for here
                .exclude(id__in=[bill.id for bill in bills])
                .order_by("accrued_on", "id")
            )
            if left_out:
                raise OldestArrearsFirst(
                    count=len(left_out), oldest=left_out[0].title, bill_ids=[str(bill.id) for bill in left_out]
                )


async def get_payment(actor: Actor, payment_id: UUID) -> PaymentView:
    """One payment that the actor may see; NotFound otherwise."""
    payment = await get_visible(Payment.visible_to(actor), payment_id)
    if actor.is_staff:
        require(actor, Act.PAYMENT_READ, community_id=payment.community_id)
    return (await _views([payment]))[0]


async def resume_payment(actor: Actor, payment_id: UUID) -> tuple[PaymentView, payments.OpenedPayment]:
    """The same payment again for a repeated request: freshly signed while it is open, as it is afterwards."""
    payment = await get_visible(Payment.visible_to(actor).filter(payer_resident_id=actor.id), payment_id)
    if payment.state is PaymentState.OPEN:
        bill_ids = await PaymentBill.filter(payment_id=payment.id).values_list("bill_id", flat=True)
        return await open_payment(actor, [str(bill_id) for bill_id in bill_ids], payment.channel)
    view = (await _views([payment]))[0]
    return view, payments.OpenedPayment(payment, None)


async def confirm_payment(actor: Actor, payment_id: UUID) -> PaymentView:
    """The payer's phone says that it has paid: ask WeChat now instead of waiting for the callback.

    Asked at most every two seconds, so that phones that poll do not become our load on WeChat; the phone's word itself
    decides nothing.
    """
    payment = await get_visible(Payment.visible_to(actor), payment_id)
    if actor.is_staff:
        require(actor, Act.PAYMENT_CHECK, community_id=payment.community_id)
    attempt = await PaymentAttempt.filter(payment_id=payment.id).order_by("-created_at").first()
    undecided = payment.state in (PaymentState.OPEN, PaymentState.CLOSED)
    if attempt and undecided and await rate_limit.may_take(rate_limit.ASK_WECHAT, str(attempt.id)):
        await payments.check_attempt(attempt.id)
    return await get_payment(actor, payment_id)


async def cancel_payment(actor: Actor, payment_id: UUID) -> PaymentView:
    """The payer gives up, so that somebody else may pay at once. Closed at WeChat first; when it turns out to be paid,
    it is settled instead. Refuses with PaymentNotOpen."""
    payment = await get_visible(Payment.visible_to(actor).filter(payer_resident_id=actor.id), payment_id)
    if payment.state is not PaymentState.OPEN:
        raise payments.PaymentNotOpen()
    state = await payments.close_payment(payment.id, CloseReason.CANCELLED)
    if state is PaymentState.OPEN:
        raise payments.WechatUnavailable()
    return await get_payment(actor, payment_id)


async def list_payments(
    actor: Actor, state: PaymentState | None, community_id: str | None, cursor: str | None, limit: int
) -> Page[PaymentView]:
    """Newest first: the resident's own, or those of the staff member's communities."""
    if actor.is_staff:
        require_somewhere(actor, Act.PAYMENT_READ)
    query = Payment.visible_to(actor)
    if state is not None:
        query = query.filter(state=state)
    if community_id is not None:
        query = query.filter(community_id=wanted_id(community_id))
    page = await newest_first(query, cursor, limit)
    return Page(await _views(page.items), page.next_cursor)


async def _views(found: Sequence[Payment]) -> list[PaymentView]:
    ids = [payment.id for payment in found]
    chosen: dict[UUID, list[UUID]] = {}
    for choice in await PaymentBill.filter(payment_id__in=ids).order_by("id"):
        chosen.setdefault(choice.payment_id, []).append(choice.bill_id)
    receipts = dict(await Receipt.filter(payment_id__in=ids).values_list("payment_id", "id"))
    refunds: dict[UUID, list[Refund]] = {}
    paid = [payment.id for payment in found if payment.state is PaymentState.PAID]
    if paid:  # of others nothing can be given back
        for refund in await shown_to_payers(Refund.filter(payment_id__in=paid)).order_by("created_at", "id"):
            refunds.setdefault(refund.payment_id, []).append(refund)
    return [
        PaymentView(payment, chosen.get(payment.id, []), receipts.get(payment.id), refunds.get(payment.id, []))
        for payment in found
    ]
