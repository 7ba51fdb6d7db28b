"""The counter: a clerk takes money for somebody."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

import payments
from handlers.payment import PaymentOut, payment_out
from handlers.route import Body, Call, Fen, PositiveFen, Who, route
from kit.errors import NotFound, NotPermitted
from models.payment import Channel
from services import counter as service
from services.shift import NoOpenShift


class TakenBillIn(Body):
    """A bill, and what is taken for it: all that is owed, or a part."""

    bill_id: str
    amount_fen: PositiveFen


class TakeMoneyIn(Body):
    """Cash with ``tendered_fen``; a card with the voucher's number and a transfer with the bank's serial as
    ``reference``, and the time at which the money came."""

    bills: Annotated[list[TakenBillIn], Field(min_length=1, max_length=100)]
    channel: Literal[Channel.CASH, Channel.POS, Channel.BANK_TRANSFER]
    tendered_fen: PositiveFen | None = None
    reference: str = Field("", max_length=64)
    received_at: AwareDatetime | None = None


class TakenPaymentOut(PaymentOut):
    """``change_fen`` goes back over the counter; the receipt is printed by ``receipt_id``."""

    receipt_number: str
    tendered_fen: Fen | None
    change_fen: Fen


def _out(taken: service.TakenView, language: str) -> TakenPaymentOut:
    payment = taken.view.payment
    tendered_fen = payment.tendered_fen
    return TakenPaymentOut(
        **dict(payment_out(taken.view, language)),
        receipt_number=taken.receipt_number,
        tendered_fen=tendered_fen,
        change_fen=tendered_fen - payment.amount_fen if tendered_fen is not None else 0,
    )


async def _replay(call: Call, payment_id: UUID) -> TakenPaymentOut:
    return _out(await service.get_taken(call.actor, payment_id), call.language)


@route("POST", "/api/v1/staff/counter/payments", who=Who.STAFF, tag="柜台 counter", summary="柜台收款",
       body=TakeMoneyIn, status=201, response=TakenPaymentOut, replay=_replay, makes="payment",
       refusals=(NotFound, NotPermitted, NoOpenShift, service.TenderedTooLittle, service.WrongForChannel,
                 service.ReceivedInFuture, service.ReferenceUsed, payments.BillsNeedSeparatePayments,
                 payments.BillAlreadyPaid, payments.BillVoided, payments.LessIsOwed,
                 payments.AmountTooLarge))  # fmt: skip
async def take_money(call: Call) -> TakenPaymentOut:
    """Bills of one debtor and one legal entity. Needs an open shift of the clerk in the community."""
    body = call.body
    taking = service.Taking(
        [(one.bill_id, one.amount_fen) for one in body.bills],
        Channel(body.channel),
        body.tendered_fen,
        body.reference,
        body.received_at,
    )
    return _out(await service.take_money(call.actor, taking), call.language)
