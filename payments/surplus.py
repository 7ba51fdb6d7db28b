"""Surplus: money that found no bill. It is decided once — returned to who paid, or kept for the debtor.

The decision is taken under the lock of the payment that brought the money, so that two clerks at once are one decision
and one refusal. What is kept pays bills through the same settle as any other money: the channel is ``surplus``, and the
debtor's surplus account stands where WeChat's clearing account would (``payments/at_once.py``).
"""

from collections.abc import Sequence
from uuid import UUID

from kit import clock
from kit.errors import NotFound
from models import audit
from models.access import Actor
from models.bill import PAYABLE, Bill, BillKind, BillLine, BillState
from models.discrepancy import Discrepancy, DiscrepancyKind
from models.fee_item import FeeItem
from models.payment import Channel, Payment, PaymentBill, SurplusFate
from models.refund import Refund
from payments.at_once import Portion, Tender, pay_at_once_tx
from payments.bill import NewBill, NewLine, issue_bill_tx
from payments.errors import (
    BillAlreadyPaid,
    BillOfAnother,
    BillVoided,
    NoSurplus,
    PaymentInProgress,
    SurplusDecided,
)
from payments.refund import return_all_tx

KEPT_TITLE = "溢收款转预存"


async def return_surplus_tx(actor: Actor, case: Discrepancy, reason: str) -> Refund:
    """Decide that the surplus of a case goes back to who paid; the approved refund.

    The caller calls ``submit_refund`` after the commit. Refuses with NoSurplus and SurplusDecided.
    """
    payment = await _decide_tx(case, SurplusFate.RETURNED)
    return await return_all_tx(actor, payment, payment.surplus_fen, reason)


async def keep_surplus_tx(actor: Actor, case: Discrepancy, bill_ids: Sequence[UUID]) -> Payment:
    """Decide that the surplus of a case stays: the payment that was made from it, settled.

    It pays what is owed on ``bill_ids``, the oldest first, as far as it reaches; what is left becomes the debtor's
    prepaid balance, by a bill of its own. Refuses with NoSurplus, SurplusDecided, NotFound (a bill that is not there),
    BillOfAnother (another debtor or legal entity), BillVoided, BillAlreadyPaid, and PaymentInProgress while somebody is
    paying one of the bills.
    """
    source = await _decide_tx(case, SurplusFate.KEPT)
    portions = await _portions_tx(source, bill_ids)
    left_fen = source.surplus_fen - sum(portion.amount_fen for portion in portions)
    if left_fen:
        top_up = await _top_up_tx(actor, source, case, left_fen)
        portions.append(Portion(top_up.id, left_fen))
    tender = Tender(Channel.SURPLUS, source.customer_id, clock.now(), surplus_of_payment_id=source.id)
    payment = await pay_at_once_tx(actor, portions, tender)
    await audit.record_tx(
        actor,
        "surplus.keep",
        "payment",
        payment.id,
        organization_id=payment.organization_id,
        community_id=payment.community_id,
        after={"amount_fen": payment.amount_fen, "bill_ids": [str(portion.bill_id) for portion in portions]},
    )
    return payment


async def _decide_tx(case: Discrepancy, fate: SurplusFate) -> Payment:
    """The payment of the surplus, locked, its fate decided now."""
    if case.kind is not DiscrepancyKind.SURPLUS:
        raise NoSurplus()
    payment = await Payment.select_for_update().get(id=case.payment_id)
    if payment.surplus_fate is not None:
        raise SurplusDecided(fate=str(payment.surplus_fate))
    payment.surplus_fate = fate
    await payment.save(update_fields=["surplus_fate"])
    return payment


async def _portions_tx(source: Payment, bill_ids: Sequence[UUID]) -> list[Portion]:
    """The chosen bills that the surplus reaches, oldest first; locked."""
    bills = await Bill.filter(id__in=list(bill_ids)).order_by("id").select_for_update()
    if len(bills) != len(set(bill_ids)):
        raise NotFound()
    for bill in bills:
        _refuse_unfit(source, bill)
    if await PaymentBill.exists(bill_id__in=[bill.id for bill in bills], live=True):
        raise PaymentInProgress(retry_after_s=60)
    portions, left_fen = [], source.surplus_fen
    for bill in sorted(bills, key=lambda bill: (bill.accrued_on, bill.due_on, bill.id)):
        portion_fen = min(left_fen, bill.owed_fen)
        if portion_fen:
            portions.append(Portion(bill.id, portion_fen))
            left_fen -= portion_fen
    return portions


def _refuse_unfit(source: Payment, bill: Bill) -> None:
    if bill.community_id != source.community_id or bill.state is BillState.DRAFT:
        raise NotFound()
    if (bill.customer_id, bill.legal_entity_id) != (source.customer_id, source.legal_entity_id):
        raise BillOfAnother(bill_title=bill.title, bill_id=str(bill.id))
    if bill.state in (BillState.VOID, BillState.CREDITED):
        raise BillVoided(bill_title=bill.title, bill_id=str(bill.id))
    if bill.state not in PAYABLE:
        raise BillAlreadyPaid(bill_title=bill.title, bill_id=str(bill.id))


async def _top_up_tx(actor: Actor, source: Payment, case: Discrepancy, amount_fen: int) -> Bill:
    """A bill of kind prepaid for what is left; its fee item is one that the payment was made for, whose money it is."""
    chosen = await PaymentBill.filter(payment_id=source.id).values_list("bill_id", flat=True)
    line = await BillLine.filter(bill_id__in=chosen).order_by("bill_id", "position").first()
    assert line is not None, "what was paid for has lines"
    item = await FeeItem.get(id=line.fee_item_id)
    today = clock.today()
    new = NewBill(
        community_id=source.community_id,
        customer_id=source.customer_id,
        subject_kind="discrepancy",
        subject_id=case.id,
        purpose="surplus",
        title=KEPT_TITLE,
        accrued_on=today,
        due_on=today,
        kind=BillKind.PREPAID,
        lines=[NewLine(item.id, KEPT_TITLE, amount_fen)],
    )
    return await issue_bill_tx(actor, new)
