"""Refunds as staff see and handle them, and what follows from one. What moves money is behind the door of payments/."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import payments
from kit.money import format_yuan
from kit.paging import Page
from models.access import Act, Actor, require, require_somewhere
from models.base import get_visible
from models.community import Community
from models.message import MessageKind
from models.payment import Payment
from models.refund import Refund, RefundAttempt, RefundState
from models.unit_of_work import unit_of_work
from services.listing import newest_first, wanted_id
from services.message import queue_message_tx


@dataclass(frozen=True)
class RefundView:
    """A refund and its attempts, the oldest first."""

    refund: Refund
    attempts: Sequence[RefundAttempt]


@dataclass(frozen=True)
class RefundFilter:
    """What to list."""

    status: RefundState | None = None
    community_id: str | None = None
    payment_id: str | None = None


async def list_refunds(actor: Actor, wanted: RefundFilter, cursor: str | None, limit: int) -> Page[RefundView]:
    """Newest first, of the communities whose refunds the staff member may read."""
    require_somewhere(actor, Act.REFUND_READ)
    query = Refund.visible_to(actor)
    if wanted.status is not None:
        query = query.filter(state=wanted.status)
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


async def check_refund(actor: Actor, refund_id: UUID) -> RefundView:
    """Ask WeChat about the refund now instead of waiting for its notice or the sweep."""
    refund = await get_visible(Refund.visible_to(actor), refund_id)
    require(actor, Act.REFUND_APPROVE, community_id=refund.community_id)
    newest = await RefundAttempt.filter(refund_id=refund.id).order_by("-created_at", "-id").first()
    if newest is not None and refund.state is not RefundState.CANCELLED:
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
    """What follows from a refund that WeChat confirmed: who paid is told; may run again without telling twice."""
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
            "thing3": "已原路退回付款账户",
        },
    )


async def _views(refunds: Sequence[Refund]) -> list[RefundView]:
    attempts: dict[UUID, list[RefundAttempt]] = {}
    for attempt in await RefundAttempt.filter(refund_id__in=[one.id for one in refunds]).order_by("created_at", "id"):
        attempts.setdefault(attempt.refund_id, []).append(attempt)
    return [RefundView(refund, attempts.get(refund.id, [])) for refund in refunds]
