"""A refund that is surely with the payer: posted, taken back from its bill lines, and what follows enqueued — once.

What the money had paid for is reversed here and not before: until it is sure that the money went back, the bill counts
as paid, so that nobody is asked to pay it twice. Bills are locked by id, after payment, refund and attempt.
"""

from datetime import datetime
from uuid import UUID

from kit import clock
from models.bill import BILL_MACHINE, Bill, BillState, CreditNote
from models.discrepancy import DiscrepancyKind
from models.job import enqueue_tx
from models.ledger import Allocation, EntryKind
from models.payment import Payment
from models.receipt import Receipt, ReceiptFile
from models.refund import REFUND_MACHINE, BillFate, Refund, RefundKind, RefundLine, RefundState
from payments.case import resolve_case_tx
from payments.refund_deposit import return_deposits_tx
from payments.refund_ledger import post_refund_tx


async def settle_refund_tx(
    payment: Payment,
    refund: Refund,
    refunded_at: datetime,
    *,
    drawer_id: UUID | None = None,
    from_suspense: bool = False,
) -> None:
    """Everything that is true once the money is back (payment and refund are locked).

    Afterwards the refund is refunded, its entry is posted, its lines are negative allocations, their bills are owed
    again or credited, papers that say otherwise are forgotten, and one job tells the payer. ``drawer_id`` is the shift
    whose cash was handed over; None is the safe. ``from_suspense``: WeChat's account was credited when the
    reconciliation found the refund.
    """
    REFUND_MACHINE.enter(refund, RefundState.REFUNDED, refunded_at=refunded_at, problem=None)
    await refund.save(
        update_fields=["state", "refunded_at", "problem", "paid_out_by_staff_id", "pay_out_reference"]
    )  # fmt: skip
    payment.reserved_fen -= refund.amount_fen
    payment.refunded_fen += refund.amount_fen
    await payment.save(update_fields=["reserved_fen", "refunded_fen"])
    await post_refund_tx(refund, EntryKind.REFUNDED, refunded_at, drawer_id=drawer_id, from_suspense=from_suspense)
    if refund.kind is not RefundKind.SURPLUS:
        await _take_back_tx(refund)
        await return_deposits_tx(refund)
    receipts = await Receipt.filter(payment_id=payment.id).values_list("id", flat=True)
    await ReceiptFile.filter(receipt_id__in=receipts).delete()  # made again when asked for, and then they say it
    await resolve_case_tx(DiscrepancyKind.REFUND_STUCK, refund.id, "refunded")
    await enqueue_tx("refund_settled", {"refund_id": str(refund.id)})


async def _take_back_tx(refund: Refund) -> None:
    lines = await RefundLine.filter(refund_id=refund.id).order_by("id")
    bills = await _lock_bills_tx({line.bill_id for line in lines})
    now = clock.now()
    for line in lines:
        bills[line.bill_id].paid_fen -= line.amount_fen
        bills[line.bill_id].credited_fen += line.amount_fen if line.fate is BillFate.CREDITED else 0
        await Allocation.create(
            community_id=line.community_id,
            payment_id=line.payment_id,
            refund_id=line.refund_id,
            bill_id=line.bill_id,
            bill_line_id=line.bill_line_id,
            amount_fen=-line.amount_fen,
            created_at=now,
        )
        if line.fate is BillFate.CREDITED:
            await CreditNote.create(
                community_id=line.community_id,
                refund_id=line.refund_id,
                bill_id=line.bill_id,
                bill_line_id=line.bill_line_id,
                amount_fen=line.amount_fen,
                created_at=now,
            )
    for bill in bills.values():
        after = state_of(bill)
        if after is not bill.state:
            BILL_MACHINE.enter(bill, after)
        await bill.save(update_fields=["state", "paid_fen", "credited_fen"])


async def _lock_bills_tx(bill_ids: set[UUID]) -> dict[UUID, Bill]:
    return {bill.id: bill for bill in await Bill.filter(id__in=bill_ids).order_by("id").select_for_update()}


def state_of(bill: Bill) -> BillState:
    """The state of a bill by what is paid and credited of it."""
    if bill.owed_fen:
        return BillState.PART_PAID if bill.paid_fen else BillState.OPEN
    return BillState.PAID if bill.paid_fen else BillState.CREDITED
