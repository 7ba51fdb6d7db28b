"""Refunds as staff see and handle them, and what follows from one. What moves money is behind the door of payments/."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from tortoise.expressions import Q
from tortoise.queryset import QuerySet

import payments
from kit.money import format_yuan
from kit.paging import Page
from models.access import Act, Actor, require, require_somewhere
from models.base import get_visible
from models.community import Community
from models.discrepancy import Discrepancy
from models.message import MessageKind
from models.payment import Payment
from models.refund import UNDER_WAY, BillFate, Refund, RefundAttempt, RefundLine, RefundMethod, RefundState
from models.unit_of_work import unit_of_work
from services.listing import newest_first, wanted_id
from services.message import queue_message_tx

_HOW = {
    RefundMethod.WECHAT_ORIGINAL: "已原路退回付款账户",
    RefundMethod.BANK: "已转账到您的银行账户",
    RefundMethod.CASH: "已退现金",
}


@dataclass(frozen=True)
class RefundView:
    """A refund, the lines that it takes its money from, and its attempts at WeChat, the oldest first."""

    refund: Refund
    attempts: Sequence[RefundAttempt]
    lines: Sequence[RefundLine]


@dataclass(frozen=True)
class RefundFilter:
    """What to list."""

    status: RefundState | None = None
    method: RefundMethod | None = None
    community_id: str | None = None
    payment_id: str | None = None


async def list_refunds(actor: Actor, wanted: RefundFilter, cursor: str | None, limit: int) -> Page[RefundView]:
    """Newest first, of the communities whose refunds the staff member may read."""
    require_somewhere(actor, Act.REFUND_READ)
    query = Refund.visible_to(actor)
    if wanted.status is not None:
        query = query.filter(state=wanted.status)
    if wanted.method is not None:
        query = query.filter(method=wanted.method)
    for name in ("community_id", "payment_id"):
        value = getattr(wanted, name)
        if value is not None:
            # An id that is none, or not yours, lists what an unknown one lists: nothing.
            query = query.filter(**{name: wanted_id(value)})
    page = await newest_first(query, cursor, limit)
    return Page(await _views(page.items), page.next_cursor)


async def get_refund(actor: Actor, refund_id: UUID) -> RefundView:
    """One refund that the actor may see; NotFound otherwise."""
    refund = await get_visible(Refund.visible_to(actor), refund_id)
    require(actor, Act.REFUND_READ, community_id=refund.community_id)
    return (await _views([refund]))[0]


async def paid_lines(actor: Actor, payment_id: UUID) -> Sequence[payments.PaidLine]:
    """What a payment paid of which bill lines, and what of it can still be given back."""
    payment = await get_visible(Payment.visible_to(actor), payment_id)
    require(actor, Act.REFUND_READ, community_id=payment.community_id)
    return await payments.paid_lines(payment.id)


async def ask_refund(actor: Actor, payment_id: UUID, wish: payments.RefundWish) -> RefundView:
    """Ask that money of a payment goes back; somebody approves it. Refuses NotFound, NotPermitted, and as the money
    island does: PaymentNotPaid, RefundTooLarge, RefundKindsDiffer, NotThroughWechat."""
    payment = await get_visible(Payment.visible_to(actor), payment_id)
    require(actor, Act.REFUND_ASK, community_id=payment.community_id)
    refund = await unit_of_work(payments.ask_refund_tx)(actor, payment.id, wish)
    return await get_refund(actor, refund.id)


async def ask_my_refund(actor: Actor, payment_id: UUID, reason: str) -> Refund:
    """A resident asks for all that is left of what they paid themselves; finance decides. Refuses NotFound for what
    somebody else paid, and as ``ask_refund`` does; RefundAskedAlready while an earlier wish is undecided."""
    payment = await get_visible(Payment.visible_to(actor).filter(payer_resident_id=actor.id), payment_id)
    wish = payments.RefundWish(parts=(), fate=BillFate.OPEN, reason=reason)
    return await unit_of_work(payments.ask_refund_tx)(actor, payment.id, wish)


async def list_my_refunds(actor: Actor, cursor: str | None, limit: int) -> Page[Refund]:
    """Newest first: of what the resident paid or owed, as far as it concerns them."""
    return await newest_first(shown_to_payers(Refund.visible_to(actor)), cursor, limit)


async def get_my_refund(actor: Actor, refund_id: UUID) -> Refund:
    """One of them; NotFound otherwise."""
    return await get_visible(shown_to_payers(Refund.visible_to(actor)), refund_id)


def shown_to_payers(query: QuerySet[Refund]) -> QuerySet[Refund]:
    """What payers see: not what was given up, nor what staff only think about."""
    thought_about = Q(asked_by_resident_id__isnull=True, state__in=[RefundState.ASKED, RefundState.REJECTED])
    return query.exclude(state=RefundState.CANCELLED).filter(~thought_about)


async def approve_refund(actor: Actor, refund_id: UUID) -> RefundView:
    """Approve a refund that was asked for; it goes to WeChat, or waits to be paid out by hand. Refuses NotFound,
    NotPermitted, and as the money island does: MoveNotAllowed, RefundNeedsSecondPerson, RefundTooLarge,
    NotEnoughHeld, DepositReturnNotAsked."""
    refund = await get_visible(Refund.visible_to(actor), refund_id)
    require(actor, Act.REFUND_APPROVE, community_id=refund.community_id)
    await payments.approve_refund(actor, refund.id)
    return await get_refund(actor, refund_id)


async def reject_refund(actor: Actor, refund_id: UUID, reason: str) -> RefundView:
    """Turn a refund down; the payer may read why. Refuses NotFound, NotPermitted, MoveNotAllowed."""
    refund = await get_visible(Refund.visible_to(actor), refund_id)
    require(actor, Act.REFUND_APPROVE, community_id=refund.community_id)
    await unit_of_work(payments.reject_refund_tx)(actor, refund.id, reason)
    return await get_refund(actor, refund_id)


async def change_method(actor: Actor, refund_id: UUID, method: RefundMethod, given_up_at_wechat: bool) -> RefundView:
    """Let a person carry the refund out. Refuses NotFound, NotPermitted, and as the money island does: MoveNotAllowed,
    RefundJustSent, RefundAtWechat, WechatUnavailable."""
    refund = await get_visible(Refund.visible_to(actor), refund_id)
    require(actor, Act.REFUND_APPROVE, community_id=refund.community_id)
    await payments.change_refund_method(actor, refund.id, method, given_up_at_wechat=given_up_at_wechat)
    return await get_refund(actor, refund_id)


async def pay_out_refund(actor: Actor, refund_id: UUID, reference: str | None) -> RefundView:
    """Record that the money was handed over in cash, or transferred, which is finance's alone. Refuses NotFound,
    NotPermitted, and as the money island does: MoveNotAllowed, RefundNotByHand, BankSerialNeeded, BankSerialUsed."""
    refund = await get_visible(Refund.visible_to(actor), refund_id)
    act = Act.REFUND_PAY_OUT if refund.method is RefundMethod.CASH else Act.REFUND_APPROVE
    require(actor, act, community_id=refund.community_id)
    await payments.pay_out_refund(actor, refund.id, reference)
    return await get_refund(actor, refund_id)


async def record_foreign_refund(
    actor: Actor, discrepancy_id: UUID, parts: Sequence[payments.RefundPart] | None, fate: BillFate
) -> RefundView:
    """Enter a refund that was made at WeChat's own site, once WeChat confirms it. Refuses NotFound, NotPermitted, and
    as the money island does."""
    case = await get_visible(Discrepancy.visible_to(actor), discrepancy_id)
    if case.community_id is None:
        raise payments.NoForeignRefund()
    require(actor, Act.REFUND_APPROVE, community_id=case.community_id)
    refund = await payments.record_confirmed_refund(actor, case.id, parts, fate)
    return await get_refund(actor, refund.id)


async def check_refund(actor: Actor, refund_id: UUID) -> RefundView:
    """Ask WeChat about the refund now instead of waiting for its notice or the sweep."""
    refund = await get_visible(Refund.visible_to(actor), refund_id)
    require(actor, Act.REFUND_APPROVE, community_id=refund.community_id)
    newest = await RefundAttempt.filter(refund_id=refund.id).order_by("-created_at", "-id").first()
    if newest is not None and refund.method is RefundMethod.WECHAT_ORIGINAL and refund.state in UNDER_WAY:
        await payments.check_refund(newest.id)
    return await get_refund(actor, refund_id)


async def retry_refund(actor: Actor, refund_id: UUID) -> RefundView:
    """Try a failed refund again. Refuses as the money island does: MoveNotAllowed, RefundAtWechat."""
    refund = await get_visible(Refund.visible_to(actor), refund_id)
    require(actor, Act.REFUND_APPROVE, community_id=refund.community_id)
    await payments.retry_refund(actor, refund.id)
    return await get_refund(actor, refund_id)


async def cancel_refund(actor: Actor, refund_id: UUID, reason: str) -> RefundView:
    """Give a refund up that WeChat surely did not take on. Refuses as the money island does: MoveNotAllowed,
    RefundJustSent, RefundAtWechat, WechatUnavailable."""
    refund = await get_visible(Refund.visible_to(actor), refund_id)
    require(actor, Act.REFUND_APPROVE, community_id=refund.community_id)
    await payments.cancel_refund(actor, refund.id, reason)
    return await get_refund(actor, refund_id)


async def after_refund(refund_id: UUID) -> None:
    """What follows from a refund that is with the payer: they are told; may run again without telling twice."""
    refund = await Refund.get(id=refund_id)
    payment = await Payment.get(id=refund.payment_id)
    if refund.state is RefundState.REFUNDED and payment.payer_resident_id is not None:
        await _tell_payer(refund, payment.payer_resident_id)


@unit_of_work
async def _tell_payer(refund: Refund, resident_id: UUID) -> None:
    community = await Community.get(id=refund.community_id)
    # The names of the fields and their limits (thing: 20 characters) are those of the subscription template.
    await queue_message_tx(
        MessageKind.REFUNDED,
        refund.id,
        organization_id=refund.organization_id,
        community_id=refund.community_id,
        resident_id=resident_id,
        data={
            "thing1": f"{community.name}已退款"[:20],
            "amount2": f"{format_yuan(refund.amount_fen)}元",
            "thing3": _HOW[refund.method],
        },
    )


async def _views(refunds: Sequence[Refund]) -> list[RefundView]:
    attempts: dict[UUID, list[RefundAttempt]] = {}
    for attempt in await RefundAttempt.filter(refund_id__in=[one.id for one in refunds]).order_by("created_at", "id"):
        attempts.setdefault(attempt.refund_id, []).append(attempt)
    lines: dict[UUID, list[RefundLine]] = {}
    for line in await RefundLine.filter(refund_id__in=[one.id for one in refunds]).order_by("id"):
        lines.setdefault(line.refund_id, []).append(line)
    return [RefundView(refund, attempts.get(refund.id, []), lines.get(refund.id, [])) for refund in refunds]
