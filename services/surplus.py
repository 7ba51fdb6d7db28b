"""What becomes of money that found no bill: finance decides once, and who paid hears of it."""

from collections.abc import Sequence
from uuid import UUID

import structlog

import payments
from kit import clock
from kit.errors import NotFound
from kit.ids import parse_id
from kit.money import format_yuan
from models.access import Act, Actor, require
from models.base import get_visible
from models.bill import Bill
from models.community import Community
from models.discrepancy import DISCREPANCY_MACHINE, Discrepancy, DiscrepancyState
from models.message import MessageKind
from models.payment import Payment
from models.pool import DatabaseBusy
from models.refund import Refund
from models.unit_of_work import unit_of_work
from services.message import queue_message_tx
from services.payment import PaymentView, get_payment
from services.refund import RefundView, get_refund

log = structlog.get_logger()


async def return_surplus(actor: Actor, discrepancy_id: UUID, reason: str) -> RefundView:
    """Decide that the surplus of a case goes back to who paid it.

    Afterwards the case is resolved, a refund is approved and was sent to WeChat; that it was refunded is said by WeChat
    later. Refuses NotFound, NotPermitted, and as the money island does: NoSurplus, SurplusDecided.
    """
    case = await _decidable(actor, discrepancy_id)
    require(actor, Act.REFUND_APPROVE, community_id=case.community_id)
    refund = await _return(actor, case, reason)
    try:
        await payments.submit_refund(refund.id)
    except DatabaseBusy:
        log.warning("refund_left_to_the_sweep", refund_id=str(refund.id))  # approved all the same
    return await get_refund(actor, refund.id)


@unit_of_work
async def _return(actor: Actor, case: Discrepancy, reason: str) -> Refund:
    refund = await payments.return_surplus_tx(actor, case, reason)
    await _resolve_tx(actor, case, "surplus_returned")
    return refund


async def keep_surplus(actor: Actor, discrepancy_id: UUID, bill_ids: Sequence[str]) -> PaymentView:
    """Decide that the surplus of a case stays: it pays the chosen bills, and what is left is the debtor's prepaid
    balance; the payment that it made.

    Afterwards the case is resolved, and who paid has a message. Refuses NotFound (also for a bill that is not the
    actor's to see), NotPermitted, and as the money island does: NoSurplus, SurplusDecided, BillOfAnother, BillVoided,
    BillAlreadyPaid, PaymentInProgress.
    """
    case = await _decidable(actor, discrepancy_id)
    ids = [parse_id(bill_id) for bill_id in bill_ids]
    found = await Bill.visible_to(actor).filter(id__in=[one for one in ids if one])
    if None in ids or len(found) != len(set(ids)):
        raise NotFound()
    payment = await _keep(actor, case, [bill.id for bill in found])
    return await get_payment(actor, payment.id)


@unit_of_work
async def _keep(actor: Actor, case: Discrepancy, bill_ids: Sequence[UUID]) -> Payment:
    payment = await payments.keep_surplus_tx(actor, case, bill_ids)
    await _resolve_tx(actor, case, "surplus_kept")
    source = await Payment.get(id=case.payment_id)
    if source.payer_resident_id is not None:
        community = await Community.get(id=payment.community_id)
        await queue_message_tx(
            MessageKind.SURPLUS_KEPT,
            payment.id,
            organization_id=payment.organization_id,
            community_id=payment.community_id,
            resident_id=source.payer_resident_id,
            data={
                "thing1": f"{community.name}溢收款处理"[:20],
                "amount2": f"{format_yuan(payment.amount_fen)}元",
                "thing3": "已抵扣账单" if bill_ids else "已转为预存款",
            },
        )
    return payment


async def _decidable(actor: Actor, discrepancy_id: UUID) -> Discrepancy:
    case = await get_visible(Discrepancy.visible_to(actor), discrepancy_id)
    require(actor, Act.SURPLUS_DECIDE, community_id=case.community_id)
    return case


async def _resolve_tx(actor: Actor, case: Discrepancy, resolution: str) -> None:
    """The decision resolves the case; one that was resolved in words before the decision stays so."""
    locked = await Discrepancy.select_for_update().get(id=case.id)
    if locked.state is DiscrepancyState.OPEN:
        DISCREPANCY_MACHINE.enter(
            locked,
            DiscrepancyState.RESOLVED,
            resolved_at=clock.now(),
            resolved_by_staff_id=actor.id,
            resolution=resolution,
        )
        await locked.save(update_fields=["state", "resolved_at", "resolved_by_staff_id", "resolution"])
