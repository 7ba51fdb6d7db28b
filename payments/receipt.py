"""Receipts: one a payment, numbered without gaps per legal entity, community and year."""

from uuid import UUID

from kit import clock
from kit.money import chinese_capitals
from models.bill import Bill, BillLine
from models.community import Community
from models.customer import Customer
from models.ledger import Allocation, Entry
from models.organization import LegalEntity
from models.payment import AttemptState, Payment, PaymentAttempt, PaymentState
from models.receipt import Receipt
from models.room import Room
from models.unit_of_work import row, unit_of_work

# The counter's row is locked from here to the commit: the next number waits for this one to be surely given.
_NEXT = """
INSERT INTO receipt_counters (community_id, legal_entity_id, year, last_sequence) VALUES ($1, $2, $3, 1)
ON CONFLICT (legal_entity_id, community_id, year) DO UPDATE SET last_sequence = receipt_counters.last_sequence + 1
RETURNING last_sequence
"""


@unit_of_work
async def issue_receipt(payment_id: UUID) -> Receipt | None:
    """The receipt of a paid payment, issued now or before: calling again gives the same one.

    None when the payment is not paid. A transaction of its own, short, because the number is taken under a lock; if
    it rolls back the number goes back with it, so there are no gaps.
    """
    payment = await Payment.select_for_update().get(id=payment_id)
    if payment.state is not PaymentState.PAID:
        return None
    existing = await Receipt.get_or_none(payment_id=payment_id)
    if existing:
        return existing
    attempt = await PaymentAttempt.get(payment_id=payment_id, state=AttemptState.PAID)
    entry = await Entry.filter(source_id=attempt.id).first()
    assert entry is not None, "a paid attempt has entries"
    community = await Community.get(id=payment.community_id)
    content = await _content(payment, attempt, community)
    year = entry.posted_on.year
    counter = await row(_NEXT, payment.community_id, payment.legal_entity_id, year)
    assert counter is not None
    return await Receipt.create(
        organization_id=payment.organization_id,
        community_id=payment.community_id,
        legal_entity_id=payment.legal_entity_id,
        customer_id=payment.customer_id,
        payer_resident_id=payment.payer_resident_id,
        payment_id=payment.id,
        year=year,
        sequence=counter["last_sequence"],
        number=f"{community.code}-{payment.legal_entity_id.hex[-4:].upper()}-{year}-{counter['last_sequence']:06d}",
        amount_fen=payment.amount_fen,
        issued_on=entry.posted_on,
        content=content,
    )


async def _content(payment: Payment, attempt: PaymentAttempt, community: Community) -> dict[str, object]:
    """Everything that is printed, as it is now: later changes of names or rooms must not change a receipt."""
    allocations = await Allocation.filter(payment_id=payment.id, refund_id=None).order_by("id")
    bills = {bill.id: bill for bill in await Bill.filter(id__in=[row.bill_id for row in allocations])}
    lines = {line.id: line for line in await BillLine.filter(id__in=[row.bill_line_id for row in allocations])}
    rooms = {room.id: room.name for room in await Room.filter(id__in=[b.room_id for b in bills.values() if b.room_id])}
    customer = await Customer.get(id=payment.customer_id)
    entity = await LegalEntity.get(id=payment.legal_entity_id)
    items = [
        {
            "room": rooms.get(bill.room_id) if (bill := bills[row.bill_id]).room_id else None,
            "title": lines[row.bill_line_id].title,
            "period_from": _iso(lines[row.bill_line_id].period_from),
            "period_to": _iso(lines[row.bill_line_id].period_to),
            "amount_fen": row.amount_fen,
        }
        for row in allocations
    ]
    if payment.surplus_fen:
        items.append({"room": None, "title": "暂存余额", "amount_fen": payment.surplus_fen})
    return {
        "legal_entity": entity.name,
        "tax_number": entity.tax_number,
        "community": community.name,
        "customer": customer.name,
        "items": items,
        "amount_fen": payment.amount_fen,
        "amount_in_capitals": chinese_capitals(payment.amount_fen),
        "channel": str(payment.channel),
        "transaction_id": payment.reference or attempt.transaction_id,
        "paid_at": payment.paid_at.astimezone(clock.BEIJING).isoformat(timespec="seconds") if payment.paid_at else None,
    }


def _iso(day: object) -> str | None:
    return day.isoformat() if hasattr(day, "isoformat") else None
