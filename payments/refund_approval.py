"""Asking for a refund of what was paid on bills, and deciding about it.

Asking moves nothing and reserves nothing. Approving does, under the lock of the payment: two who approve at once are
one approval and one refusal, and of what two refunds want together, only what was paid is ever reserved.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from kit import clock
from kit.money import format_yuan
from models.access import Actor
from models.organization import LegalEntity
from models.payment import Payment, PaymentState
from models.pool import DatabaseBusy
from models.refund import REFUND_MACHINE, BillFate, Refund, RefundKind, RefundMethod, RefundState
from models.unit_of_work import unit_of_work
from payments.errors import NotThroughWechat, PaymentNotPaid, RefundAskedAlready, RefundNeedsSecondPerson
from payments.refund import default_method, lock_newest_tx, record_refund_tx, reserve_tx, submit_refund
from payments.refund_deposit import refuse_unreturnable_tx
from payments.refund_ledger import refuse_more_than_held_tx
from payments.refund_lines import RefundPart, chosen_lines, paid_lines, refuse_more_than_left_tx, write_lines_tx

log = structlog.get_logger()


@dataclass(frozen=True)
class RefundWish:
    """What somebody asks for. No parts: everything that is left; no method: the way the money came."""

    parts: Sequence[RefundPart]
    fate: BillFate
    reason: str
    method: RefundMethod | None = None


async def ask_refund_tx(actor: Actor, payment_id: UUID, wish: RefundWish) -> Refund:
    """Ask that money of a payment goes back; the refund, asked for. Nothing is reserved by it.

    Refuses with PaymentNotPaid, RefundTooLarge (also for bills that the payment did not pay), RefundKindsDiffer,
    NotThroughWechat, and, where a resident asks, RefundAskedAlready.
    """
    payment = await Payment.select_for_update().get(id=payment_id)
    if payment.state is not PaymentState.PAID:
        raise PaymentNotPaid()
    if actor.is_resident and await Refund.exists(payment_id=payment.id, state=RefundState.ASKED):
        raise RefundAskedAlready()
    kind, taken = chosen_lines(await paid_lines(payment.id), wish.parts)
    method = wish.method or default_method(payment)
    if method is RefundMethod.WECHAT_ORIGINAL and not payment.through_wechat:
        raise NotThroughWechat()
    refund = await Refund.create(
        organization_id=payment.organization_id,
        community_id=payment.community_id,
        payment_id=payment.id,
        customer_id=payment.customer_id,
        legal_entity_id=payment.legal_entity_id,
        merchant_account_id=payment.merchant_account_id,
        kind=kind,
        method=method,
        amount_fen=sum(taken.values()),
        reason=wish.reason,
        state=RefundState.ASKED,
        asked_by_staff_id=actor.id if actor.is_staff else None,
        asked_by_resident_id=actor.id if actor.is_resident else None,
    )
    await write_lines_tx(refund, taken, wish.fate)
    after: dict[str, object] = {"amount_fen": refund.amount_fen, "payment_id": str(payment.id), "fate": str(wish.fate)}
    await record_refund_tx(actor, "refund.ask", refund, after)
    return refund


async def approve_refund(actor: Actor, refund_id: UUID) -> None:
    """Approve a refund that was asked for, and send it to WeChat where WeChat gives it back.

    Afterwards its amount is reserved and has left its account. Refuses with MoveNotAllowed unless it is asked for,
    RefundNeedsSecondPerson, RefundTooLarge when others were quicker, NotEnoughHeld and DepositReturnNotAsked.
    """
    await _commit_approval(actor, refund_id)
    try:
        await submit_refund(refund_id)
    except DatabaseBusy:
        log.warning("refund_left_to_the_sweep", refund_id=str(refund_id))  # approved all the same


@unit_of_work
async def _commit_approval(actor: Actor, refund_id: UUID) -> None:
    payment, refund, _attempt = await lock_newest_tx(refund_id)
    now = clock.now()
    REFUND_MACHINE.enter(refund, RefundState.APPROVED, approved_by_staff_id=actor.id, approved_at=now)
    await _refuse_alone_tx(actor, refund)
    await refuse_more_than_left_tx(payment, refund)
    await refuse_unreturnable_tx(refund)
    await refuse_more_than_held_tx(refund)
    await refund.save(update_fields=["state", "approved_by_staff_id", "approved_at"])
    await reserve_tx(payment, refund, now)
    await record_refund_tx(actor, "refund.approve", refund, {"amount_fen": refund.amount_fen})


async def _refuse_alone_tx(actor: Actor, refund: Refund) -> None:
    """One person alone gives back at most the legal entity's limit of one payment, in however many pieces."""
    if refund.asked_by_staff_id != actor.id:
        return
    limit_fen = (await LegalEntity.get(id=refund.legal_entity_id)).refund_alone_fen
    alone = Refund.filter(payment_id=refund.payment_id, asked_by_staff_id=actor.id, approved_by_staff_id=actor.id)
    earlier = await alone.exclude(kind=RefundKind.SURPLUS).exclude(state=RefundState.CANCELLED)
    alone_fen = refund.amount_fen + sum(one.amount_fen for one in earlier)
    if alone_fen > limit_fen:
        raise RefundNeedsSecondPerson(limit_fen=limit_fen, limit_yuan=format_yuan(limit_fen))


async def reject_refund_tx(actor: Actor, refund_id: UUID, reason: str) -> Refund:
    """Turn down a refund that was asked for. MoveNotAllowed when it is decided already."""
    _payment, refund, _attempt = await lock_newest_tx(refund_id)
    REFUND_MACHINE.enter(
        refund, RefundState.REJECTED, rejected_by_staff_id=actor.id, rejected_at=clock.now(), reject_reason=reason
    )
    await refund.save(update_fields=["state", "rejected_by_staff_id", "rejected_at", "reject_reason"])
    await record_refund_tx(actor, "refund.reject", refund, {"amount_fen": refund.amount_fen})
    return refund
