"""柜台收款: a clerk takes cash, a card or a transfer for somebody who stands there, in a shift of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import payments
from kit import clock
from kit.errors import InvalidInput, NotFound, Refusal
from kit.ids import parse_id
from kit.text import normalise
from models.access import Act, Actor, require
from models.bill import PAYABLE, Bill, BillState
from models.payment import Channel, Payment
from models.receipt import Receipt
from models.shift import Shift, ShiftState
from models.unit_of_work import unit_of_work
from services.payment import PaymentView, get_payment
from services.shift import NoOpenShift, open_shift_tx
from services.unique import unique

IN_HAND = (Channel.CASH, Channel.POS, Channel.BANK_TRANSFER)


class TenderedTooLittle(InvalidInput):
    """The cash that was given does not reach."""

    zh = "实收现金少于应收金额。"
    en = "The cash tendered is less than what is to be paid."


class ReferenceUsed(Refusal):
    """A voucher or a transfer is taken once."""

    status = 409
    zh = "这个POS凭证号或银行流水号已经入过账。"
    en = "This voucher or bank serial has been taken already."


class ReceivedInFuture(InvalidInput):
    """Money cannot have come yet at a time that is to come."""

    zh = "到账时间不能晚于现在。"
    en = "The time at which the money came lies in the future."


class WrongForChannel(InvalidInput):
    """Cash has an amount tendered; a card and a transfer have a number."""

    zh = "现金请填写实收金额；POS和转账请填写凭证号或流水号。"
    en = "Cash needs the amount tendered; a card or a transfer needs its number."


@dataclass(frozen=True)
class Taking:
    """What a clerk takes: for which bills how much, as the screen showed them, and by what. ``tendered_fen`` is of
    cash alone; ``reference`` (voucher number, bank serial) and ``received_at`` of the others."""

    bills: Sequence[tuple[str, int]]
    channel: Channel
    tendered_fen: int | None = None
    reference: str = ""
    received_at: datetime | None = None


@dataclass(frozen=True)
class TakenView:
    """The payment with the number of its receipt, and what goes back over the counter."""

    view: PaymentView
    receipt_number: str


async def take_money(actor: Actor, taking: Taking) -> TakenView:
    """Take money for bills of one debtor; afterwards it is posted to the shift's drawer, POS or bank, the bills are
    marked and the receipt is numbered.

    What is paid may be a part of a bill. Money that finds its bill paid meanwhile is the debtor's surplus with a case;
    but cash for a bill that is known to be paid or void is refused, for it can be handed back. Refuses NotFound,
    NotPermitted, NoOpenShift, TenderedTooLittle, WrongForChannel, ReceivedInFuture, ReferenceUsed,
    BillsNeedSeparatePayments, BillAlreadyPaid, BillVoided, LessIsOwed.
    """
    assert taking.channel in IN_HAND, taking.channel
    community_id, portions = await _portions(actor, taking)
    tendered_fen = _require_fit(taking, sum(portion.amount_fen for portion in portions))
    with unique(payments_reference_once=ReferenceUsed):
        payment = await _take(actor, community_id, portions, taking, tendered_fen)
    await payments.issue_receipt(payment.id)  # the job that the payment enqueued does it again, to the same end
    return await get_taken(actor, payment.id)


async def get_taken(actor: Actor, payment_id: UUID) -> TakenView:
    """A payment that was taken, with its receipt; NotFound otherwise."""
    view = await get_payment(actor, payment_id)
    receipt = await Receipt.get_or_none(payment_id=payment_id)
    if receipt is None:  # a crash between the two: now, then
        receipt = await payments.issue_receipt(payment_id)
        view = await get_payment(actor, payment_id)
    if receipt is None:
        raise NotFound()
    return TakenView(view, receipt.number)


async def _portions(actor: Actor, taking: Taking) -> tuple[UUID, list[payments.Portion]]:
    wanted = {parse_id(bill_id): amount_fen for bill_id, amount_fen in taking.bills}
    bills = await Bill.visible_to(actor).filter(id__in=[one for one in wanted if one]).exclude(state=BillState.DRAFT)
    if len(wanted) != len(taking.bills) or len(bills) != len(wanted):
        raise NotFound()
    for bill in bills:
        require(actor, Act.SHIFT_WORK, community_id=bill.community_id)
        if taking.channel is Channel.CASH:
            _refuse_needless(bill, wanted[bill.id])
    return bills[0].community_id, [payments.Portion(bill.id, wanted[bill.id]) for bill in bills]


def _refuse_needless(bill: Bill, amount_fen: int) -> None:
    owed_fen = bill.amount_fen - bill.paid_fen
    if bill.state is BillState.VOID:
        raise payments.BillVoided(bill_title=bill.title, bill_id=str(bill.id))
    if bill.state not in PAYABLE:
        raise payments.BillAlreadyPaid(bill_title=bill.title, bill_id=str(bill.id))
    if amount_fen > owed_fen:
        raise payments.LessIsOwed(bill_title=bill.title, bill_id=str(bill.id), owed_fen=owed_fen)


def _require_fit(taking: Taking, amount_fen: int) -> int | None:
    cash = taking.channel is Channel.CASH
    if cash != (taking.tendered_fen is not None) or cash == bool(taking.reference) or (cash and taking.received_at):
        raise WrongForChannel(fields=[{"field": "tendered_fen" if cash else "reference", "code": "missing"}])
    if taking.tendered_fen is not None and taking.tendered_fen < amount_fen:
        raise TenderedTooLittle(fields=[{"field": "tendered_fen", "code": "too_little"}], wanted_fen=amount_fen)
    if taking.received_at is not None and taking.received_at > clock.now():
        raise ReceivedInFuture(fields=[{"field": "received_at", "code": "future"}])
    return taking.tendered_fen


@unit_of_work
async def _take(
    actor: Actor,
    community_id: UUID,
    portions: Sequence[payments.Portion],
    taking: Taking,
    tendered_fen: int | None,
) -> Payment:
    shift = await Shift.get_or_none(community_id=community_id, staff_id=actor.id, state=ShiftState.OPEN)
    if shift is None:
        raise NoOpenShift()
    payment = await payments.pay_at_once_tx(
        actor,
        portions,
        payments.Tender(
            channel=taking.channel,
            holder_id=shift.id if taking.channel is Channel.CASH else None,
            occurred_at=taking.received_at or clock.now(),
            reference=normalise(taking.reference),
        ),
    )
    if (await open_shift_tx(actor, community_id)).id != shift.id:  # a shift is locked after payments and bills
        raise NoOpenShift()
    payment.shift_id, payment.tendered_fen = shift.id, tendered_fen
    await payment.save(update_fields=["shift_id", "tendered_fen"])
    if taking.channel is Channel.CASH:
        await payments.drawer_tx(shift, payment.legal_entity_id)
    return payment
