"""Receipts as people see them, and what follows from a settled payment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

import payments
from kit.money import format_yuan
from kit.paging import Page
from kit.text import mask_name
from models.access import Act, Actor, require, require_somewhere
from models.base import get_visible
from models.community import Community
from models.message import MessageKind
from models.payment import CloseReason, Payment, PaymentBill, PaymentState
from models.receipt import Receipt
from models.secret import blind_index
from models.unit_of_work import rows, unit_of_work
from services.listing import newest_first
from services.message import queue_message_tx
from services.shipping import queue_upload

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # none that is misread


async def after_settlement(payment_id: UUID) -> None:
    """Everything that follows from a settled payment; may run again at any point without doing anything twice.

    Afterwards the receipt is numbered, a deposit that was paid is held, the payer's message is queued, other payments
    that were under way for the same bills are closed at WeChat, and where the app has to tell WeChat of it (发货信息),
    that is queued.
    """
    receipt = await payments.issue_receipt(payment_id)
    payment = await Payment.get(id=payment_id)
    if receipt is None or payment.state is not PaymentState.PAID:
        return
    await unit_of_work(payments.hold_deposits_tx)(payment_id)
    if payment.payer_resident_id is not None:
        await _tell_payer(payment, receipt)
    chosen = await PaymentBill.filter(payment_id=payment_id).values_list("bill_id", flat=True)
    rivals = await PaymentBill.filter(bill_id__in=chosen, live=True).exclude(payment_id=payment_id)
    for rival_id in {rival.payment_id for rival in rivals}:
        await payments.close_payment(rival_id, CloseReason.BILL_CHANGED)
    await queue_upload(payment)


@unit_of_work
async def _tell_payer(payment: Payment, receipt: Receipt) -> None:
    community = await Community.get(id=payment.community_id)
    assert payment.payer_resident_id is not None
    # The names of the fields and their limits (thing: 20 characters) are those of the subscription template.
    await queue_message_tx(
        MessageKind.PAYMENT_RECEIVED,
        payment.id,
        organization_id=payment.organization_id,
        community_id=payment.community_id,
        resident_id=payment.payer_resident_id,
        data={
            "thing1": f"{community.name}缴费成功"[:20],
            "amount2": f"{format_yuan(payment.amount_fen)}元",
            "character_string3": receipt.number[:32],
        },
    )


@dataclass(frozen=True)
class Standing:
    """What became of the money of a receipt. ``voided_on``: all of it went back, and the receipt is 作废 since; its
    number stays its own."""

    refunded_fen: int = 0
    voided_on: date | None = None


WHOLE = Standing()
"""Nothing of it went back."""

_STANDING = """
SELECT p.id, p.refunded_fen, CASE WHEN p.refunded_fen = p.amount_fen THEN max(e.posted_on) END AS voided_on
FROM payments p JOIN refunds r ON r.payment_id = p.id AND r.state = 'refunded'
JOIN entries e ON e.source_id = r.id AND e.kind = 'refunded'
WHERE p.id = ANY($1::uuid[]) AND p.refunded_fen > 0 GROUP BY p.id
"""


async def standings(receipts: Sequence[Receipt]) -> Mapping[UUID, Standing]:
    """Receipt → what became of its money."""
    found = {
        one["id"]: Standing(one["refunded_fen"], one["voided_on"])
        for one in await rows(_STANDING, [receipt.payment_id for receipt in receipts])
    }
    return {receipt.id: found.get(receipt.payment_id, WHOLE) for receipt in receipts}


async def get_receipt(actor: Actor, receipt_id: UUID) -> Receipt:
    """One receipt that the actor may see; NotFound otherwise."""
    if actor.is_staff:
        receipt = await get_visible(Receipt.visible_to(actor), receipt_id)
        require(actor, Act.RECEIPT_READ, community_id=receipt.community_id)
        return receipt
    return await get_visible(Receipt.visible_to(actor), receipt_id)


async def list_receipts(actor: Actor, cursor: str | None, limit: int, number: str | None = None) -> Page[Receipt]:
    """Newest first: those of the resident, or of the communities whose receipts the staff member may read; with
    ``number`` the one that bears it."""
    if actor.is_staff:
        require_somewhere(actor, Act.RECEIPT_READ)
    query = Receipt.visible_to(actor)
    return await newest_first(query if number is None else query.filter(number=number), cursor, limit)


def customer_name_for(actor: Actor, receipt: Receipt) -> str:
    """The debtor's name as this reader may see it: somebody who paid for another household sees the surname only."""
    name = str(receipt.content["customer"])
    return name if sees_debtor(actor, receipt) else mask_name(name)


def sees_debtor(actor: Actor, receipt: Receipt) -> bool:
    """Whether this reader may see the debtor's whole name."""
    return actor.is_staff or receipt.customer_id in actor.customer_ids


def check_code(receipt: Receipt) -> str:
    """核验码: eight letters and digits that only we can make for this number, day and amount. A clerk finds a receipt
    by its number and compares: paper with another code was not printed here, or not so."""
    words = f"{receipt.number}|{receipt.issued_on}|{receipt.amount_fen}"
    number = int(blind_index(words, "receipts.check_code")[:10], 16)
    code = "".join(_LETTERS[number >> shift & 31] for shift in range(35, -1, -5))
    return f"{code[:4]}-{code[4:]}"
