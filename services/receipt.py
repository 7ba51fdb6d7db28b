"""Receipts as people see them, and what follows from a settled payment."""

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
from models.unit_of_work import unit_of_work
from services.listing import newest_first
from services.message import queue_message_tx


async def after_settlement(payment_id: UUID) -> None:
    """Everything that follows from a settled payment; may run again at any point without doing anything twice.

    Afterwards the receipt is numbered, the payer's message is queued, and other payments that were under way for the
    same bills are closed at WeChat.
    """
    receipt = await payments.issue_receipt(payment_id)
    payment = await Payment.get(id=payment_id)
    if receipt is None or payment.state is not PaymentState.PAID:
        return
    if payment.payer_resident_id is not None:
        await _tell_payer(payment, receipt)
    chosen = await PaymentBill.filter(payment_id=payment_id).values_list("bill_id", flat=True)
    rivals = await PaymentBill.filter(bill_id__in=chosen, live=True).exclude(payment_id=payment_id)
    for rival_id in {rival.payment_id for rival in rivals}:
        await payments.close_payment(rival_id, CloseReason.BILL_CHANGED)


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


async def get_receipt(actor: Actor, receipt_id: UUID) -> Receipt:
    """One receipt that the actor may see; NotFound otherwise."""
    if actor.is_staff:
        receipt = await get_visible(Receipt.visible_to(actor), receipt_id)
        require(actor, Act.RECEIPT_READ, community_id=receipt.community_id)
        return receipt
    return await get_visible(Receipt.visible_to(actor), receipt_id)


async def list_receipts(actor: Actor, cursor: str | None, limit: int) -> Page[Receipt]:
    """Newest first: those of the resident, or of the communities whose receipts the staff member may read."""
    if actor.is_staff:
        require_somewhere(actor, Act.RECEIPT_READ)
    return await newest_first(Receipt.visible_to(actor), cursor, limit)


def customer_name_for(actor: Actor, receipt: Receipt) -> str:
    """The debtor's name as this reader may see it: somebody who paid for another household sees the surname only."""
    name = str(receipt.content["customer"])
    return name if actor.is_staff or receipt.customer_id in actor.customer_ids else mask_name(name)
