"""Deposits: held from the moment that their bill is paid, deducted with evidence, and then given back what is left."""

from collections.abc import Sequence
from uuid import UUID

from kit import clock
from kit.errors import MoveNotAllowed, NotFound
from kit.ids import new_id
from kit.money import format_yuan
from models import audit
from models.access import Actor
from models.bill import Bill, BillKind, BillState
from models.deposit import DEDUCTIBLE, DEPOSIT_MACHINE, Deposit, DepositDeduction, DepositState
from models.payment import Channel, PaymentBill
from models.unit_of_work import rows
from payments.at_once import Portion, Tender, pay_at_once_tx
from payments.errors import BillOfAnother, NotEnoughHeld
from payments.refund_deposit import going_back_tx

_HOLD = """
INSERT INTO deposits (id, created_at, organization_id, community_id, room_id, customer_id, legal_entity_id, bill_id,
                      title, amount_fen, deducted_fen, state)
SELECT $1, $2, organization_id, community_id, room_id, customer_id, legal_entity_id, id, title, amount_fen, 0, 'held'
FROM bills WHERE id = $3 ON CONFLICT (bill_id) DO NOTHING
"""


async def hold_deposits_tx(payment_id: UUID) -> None:
    """Afterwards every bill of kind deposit that the payment paid in full has its deposit; again is nothing new."""
    chosen = await PaymentBill.filter(payment_id=payment_id).values_list("bill_id", flat=True)
    for bill in await Bill.filter(id__in=chosen, kind=BillKind.DEPOSIT, state=BillState.PAID).order_by("id"):
        await rows(_HOLD, new_id(), clock.now(), bill.id)


async def deduct_deposit_tx(
    actor: Actor, deposit_id: UUID, portion: Portion, reason: str, attachments: Sequence[str]
) -> DepositDeduction:
    """Pay ``portion`` — a charge of the same debtor and legal entity — from a deposit, for a reason and with evidence.

    Afterwards the bill is paid so far, the deposit holds as much less, and the deduction is on record for good. Refuses
    with NotFound, NotEnoughHeld beyond what is left of this deposit, MoveNotAllowed once its return was asked for or
    nothing is left, and as ``pay_at_once_tx`` does.
    """
    assert actor.id is not None, "somebody answers for a deduction"
    bill = await Bill.select_for_update().get_or_none(id=portion.bill_id)  # bills before what hangs on them
    deposit = await Deposit.select_for_update().get(id=deposit_id)
    if bill is None or bill.community_id != deposit.community_id:
        raise NotFound()
    if bill.legal_entity_id != deposit.legal_entity_id:
        raise BillOfAnother(bill_title=bill.title, bill_id=str(bill.id))
    if deposit.state not in DEDUCTIBLE:
        raise MoveNotAllowed(noun="deposit", before=str(deposit.state), after=str(DepositState.PART_DEDUCTED))
    if portion.amount_fen > deposit.left_fen:
        raise NotEnoughHeld(yuan=format_yuan(deposit.left_fen), held_fen=deposit.left_fen)
    after = DepositState.SPENT if portion.amount_fen == deposit.left_fen else DepositState.PART_DEDUCTED
    assigned = DEPOSIT_MACHINE.enter(deposit, after, deducted_fen=deposit.deducted_fen + portion.amount_fen)
    payment = await pay_at_once_tx(actor, [portion], Tender(Channel.DEPOSIT, deposit.customer_id, clock.now()))
    await deposit.save(update_fields=list(assigned))
    deduction = await DepositDeduction.create(
        organization_id=deposit.organization_id,
        community_id=deposit.community_id,
        deposit_id=deposit.id,
        payment_id=payment.id,
        bill_id=portion.bill_id,
        amount_fen=portion.amount_fen,
        reason=reason,
        attachments=list(attachments),
        staff_id=actor.id,
    )
    await audit.record_tx(
        actor,
        "deposit.deduct",
        "deposit_deduction",
        deduction.id,
        organization_id=deposit.organization_id,
        community_id=deposit.community_id,
        after={
            "deposit_id": str(deposit.id),
            "amount_fen": portion.amount_fen,
            "left_fen": deposit.left_fen,
            "bill_id": str(portion.bill_id),
            "attachments": len(attachments),
        },
    )
    return deduction


async def ask_deposit_return_tx(actor: Actor, deposit_id: UUID, reason: str) -> Deposit:
    """Ask that what is left of a deposit goes back; from then on nothing is deducted from it. MoveNotAllowed when that
    was asked before, or nothing is left."""
    deposit = await Deposit.select_for_update().get(id=deposit_id)
    assigned = DEPOSIT_MACHINE.enter(
        deposit,
        DepositState.RETURN_ASKED,
        return_asked_at=clock.now(),
        return_asked_by_staff_id=actor.id,
        return_reason=reason,
    )
    await deposit.save(update_fields=list(assigned))
    await _record_tx(actor, "deposit.ask_return", deposit)
    return deposit


async def withdraw_deposit_return_tx(actor: Actor, deposit_id: UUID) -> Deposit:
    """What was asked for is not wanted any more: the deposit is held as before. MoveNotAllowed unless it was asked, and
    once a refund of it is on its way or back."""
    deposit = await Deposit.select_for_update().get(id=deposit_id)
    if deposit.state is not DepositState.RETURN_ASKED or await going_back_tx(deposit):
        raise MoveNotAllowed(noun="deposit", before=str(deposit.state), after=str(DepositState.HELD))
    assigned = DEPOSIT_MACHINE.enter(
        deposit,
        DepositState.PART_DEDUCTED if deposit.deducted_fen else DepositState.HELD,
        return_asked_at=None,
        return_asked_by_staff_id=None,
        return_reason=None,
    )
    await deposit.save(update_fields=list(assigned))
    await _record_tx(actor, "deposit.withdraw_return", deposit)
    return deposit


async def _record_tx(actor: Actor, act: str, deposit: Deposit) -> None:
    await audit.record_tx(
        actor,
        act,
        "deposit",
        deposit.id,
        organization_id=deposit.organization_id,
        community_id=deposit.community_id,
        after={"state": str(deposit.state), "left_fen": deposit.left_fen},
    )
