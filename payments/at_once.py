"""Paid at once: money that is in hand when it is written down, or that is here already, is posted in one transaction.

Nobody is asked and nothing is waited for, so the payment, its attempt and what it pays are made and settled together.
Money in hand — cash, a POS voucher, a transfer — is recorded whatever became of its bills meanwhile: what finds no bill
is the debtor's surplus, with its case. What the debtor has here already pays what is owed and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kit import clock
from kit.errors import NotFound
from kit.ids import new_code
from kit.money import MAX_FEN, format_yuan
from models import audit
from models.access import Actor
from models.bill import PAYABLE, Bill, BillKind, BillState
from models.payment import INTERNAL, Channel, Payment, PaymentAttempt, PaymentBill
from payments.errors import (
    AmountTooLarge,
    BillAlreadyPaid,
    BillIsNoCharge,
    BillOfAnother,
    BillsNeedSeparatePayments,
    BillVoided,
    LessIsOwed,
    NotEnoughHeld,
)
from payments.gateways.base import PaidFact
from payments.held import HELD_IN, held_tx
from payments.settle import apply_tx


@dataclass(frozen=True)
class Tender:
    """What is paid with. ``holder_id`` is who holds the account that the money comes from: the shift (cash), the
    customer (prepaid, deposit, surplus), None (pos, bank_transfer). ``reference`` is the POS voucher's number or the
    bank's serial; ``surplus_of_payment_id`` the payment whose surplus pays."""

    channel: Channel
    holder_id: UUID | None
    occurred_at: datetime
    reference: str = ""
    surplus_of_payment_id: UUID | None = None


@dataclass(frozen=True)
class Portion:
    """A bill, and what of the money is meant for it; in fen, positive."""

    bill_id: UUID
    amount_fen: int


async def pay_at_once_tx(actor: Actor, portions: Sequence[Portion], tender: Tender) -> Payment:
    """Pay ``portions``, each of another bill, with ``tender``; the payment, paid and posted.

    Afterwards the money is where the tender says that it is, its bills are marked, the receipt's job is enqueued, and
    a payment through WeChat that was under way for one of the bills is closed by that job. Money in hand that finds no
    bill — paid, voided, or less is owed — is the debtor's surplus with its case. Refuses NotFound (no such bill, or a
    draft), BillsNeedSeparatePayments, AmountTooLarge; and what the debtor has here already also BillOfAnother,
    BillVoided, BillAlreadyPaid, LessIsOwed, NotEnoughHeld, and BillIsNoCharge for all but a surplus. A refusal changes
    nothing, as the caller's transaction goes with it.
    """
    assert portions and len({portion.bill_id for portion in portions}) == len(portions), "each bill once"
    assert all(portion.amount_fen > 0 for portion in portions), "a portion is positive"
    bills = {bill.id: bill for bill in await _lock_tx(portions)}
    amount_fen = sum(portion.amount_fen for portion in portions)
    if amount_fen > MAX_FEN:
        raise AmountTooLarge()
    first = next(iter(bills.values()))
    if tender.channel in INTERNAL:
        _refuse_unfit(bills, portions, tender)
    if tender.channel in HELD_IN:
        held_fen = await held_tx(HELD_IN[tender.channel], first.legal_entity_id, first.community_id, first.customer_id)
        if held_fen < amount_fen:
            raise NotEnoughHeld(yuan=format_yuan(held_fen), held_fen=held_fen)
    payment = await _payment_tx(actor, first, portions, tender)
    surplus_fen = await _settle_tx(payment, tender)
    assert not (surplus_fen and tender.channel in INTERNAL), "the portions were counted under the locks"
    await audit.record_tx(
        actor,
        "payment.take",
        "payment",
        payment.id,
        organization_id=payment.organization_id,
        community_id=payment.community_id,
        after={
            "channel": str(tender.channel),
            "amount_fen": amount_fen,
            "surplus_fen": surplus_fen,
            "bill_ids": [str(portion.bill_id) for portion in portions],
        },
    )
    await payment.refresh_from_db()
    return payment


async def _lock_tx(portions: Sequence[Portion]) -> list[Bill]:
    """The bills, locked; of one debtor, community and legal entity. These are frozen: looking again changes nothing."""
    bills = await Bill.filter(id__in=[portion.bill_id for portion in portions]).order_by("id").select_for_update()
    if len(bills) != len(portions) or any(bill.state is BillState.DRAFT for bill in bills):
        raise NotFound()
    groups: dict[tuple[UUID, UUID, UUID], list[str]] = {}
    for bill in bills:
        groups.setdefault((bill.community_id, bill.customer_id, bill.legal_entity_id), []).append(str(bill.id))
    if len(groups) > 1:
        raise BillsNeedSeparatePayments(count=len(groups), groups=sorted(groups.values()))
    return bills


def _refuse_unfit(bills: dict[UUID, Bill], portions: Sequence[Portion], tender: Tender) -> None:
    for portion in portions:
        bill = bills[portion.bill_id]
        title, bill_id = bill.title, str(bill.id)
        if bill.customer_id != tender.holder_id:
            raise BillOfAnother(bill_title=title, bill_id=bill_id)
        if bill.kind is not BillKind.CHARGE and tender.channel is not Channel.SURPLUS:
            raise BillIsNoCharge(bill_title=title, bill_id=bill_id)
        if bill.state in (BillState.VOID, BillState.CREDITED):
            raise BillVoided(bill_title=title, bill_id=bill_id)
        if bill.state not in PAYABLE:
            raise BillAlreadyPaid(bill_title=title, bill_id=bill_id)
        if portion.amount_fen > bill.owed_fen:
            raise LessIsOwed(bill_title=title, bill_id=bill_id, owed_fen=bill.owed_fen)


async def _payment_tx(actor: Actor, first: Bill, portions: Sequence[Portion], tender: Tender) -> Payment:
    payment = await Payment.create(
        organization_id=first.organization_id,
        community_id=first.community_id,
        customer_id=first.customer_id,
        legal_entity_id=first.legal_entity_id,
        channel=tender.channel,
        payer_resident_id=actor.id if actor.is_resident else None,
        payer_staff_id=actor.id if actor.is_staff else None,
        amount_fen=sum(portion.amount_fen for portion in portions),
        surplus_of_payment_id=tender.surplus_of_payment_id,
        reference=tender.reference,
    )
    for portion in portions:
        await PaymentBill.create(
            community_id=first.community_id,
            payment_id=payment.id,
            bill_id=portion.bill_id,
            customer_id=first.customer_id,
            legal_entity_id=first.legal_entity_id,
            amount_fen=portion.amount_fen,
            live=False,  # money that is here waits for nobody who is still paying
        )
    return payment


async def _settle_tx(payment: Payment, tender: Tender) -> int:
    """The one attempt of the payment, made and settled; what found no bill."""
    now = clock.now()
    number = f"K{clock.today():%Y%m%d}{new_code(18)}"
    attempt = await PaymentAttempt.create(
        community_id=payment.community_id,
        payment_id=payment.id,
        mchid="",
        openid="",
        out_trade_no=number,
        amount_fen=payment.amount_fen,
        request="",  # nothing is sent anywhere
        expires_at=now,
        next_check_at=now,
    )
    order = {
        "id": attempt.id,
        "payment_id": payment.id,
        "organization_id": payment.organization_id,
        "community_id": payment.community_id,
        "customer_id": payment.customer_id,
        "legal_entity_id": payment.legal_entity_id,
        "holder_id": tender.holder_id,
        "channel": tender.channel,
        "amount_fen": payment.amount_fen,
        "out_trade_no": number,
        "mchid": "",
        "appid": None,
    }
    fact = PaidFact(
        mchid="",
        sub_mchid=None,
        appid="",
        out_trade_no=number,
        transaction_id=number,
        amount_fen=payment.amount_fen,
        currency="CNY",
        occurred_at=tender.occurred_at,
        openid=None,
    )
    return await apply_tx(order, fact)
