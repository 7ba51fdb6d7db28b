"""Refunds that were not ours: made by hand at WeChat's merchant platform, and told to us by a notice."""

from typing import Any
from uuid import UUID, uuid5

import structlog

from models.discrepancy import Discrepancy, DiscrepancyKind, DiscrepancyState
from models.payment import Payment, PaymentAttempt
from models.unit_of_work import unit_of_work
from payments.case import open_case_tx
from payments.gateways.base import RefundFact
from payments.refund_news import came

log = structlog.get_logger()


@unit_of_work
async def record_foreign_refund(merchant_account_id: UUID, fact: RefundFact) -> bool:
    """Keep as a case for finance that WeChat gave back money of a payment of ours under a number that is not ours.

    No money moves in these books by it: the case says what is known. Afterwards there is one case for the number,
    however often and in whatever state it is told. False when the order is not ours either.
    """
    attempt = await PaymentAttempt.get_or_none(merchant_account_id=merchant_account_id, out_trade_no=fact.out_trade_no)
    if attempt is None:
        return False
    payment = await Payment.select_for_update().get(id=attempt.payment_id)
    facts: dict[str, Any] = {
        "out_refund_no": fact.out_refund_no,
        "out_trade_no": attempt.out_trade_no,
        "payment": {
            "status": str(payment.state),
            "amount_fen": payment.amount_fen,
            "surplus_fen": payment.surplus_fen,
            "reserved_fen": payment.reserved_fen,
            "refunded_fen": payment.refunded_fen,
            "transaction_id": attempt.transaction_id,
        },
        "came": came(fact),
    }
    case = await open_case_tx(
        DiscrepancyKind.FOREIGN_REFUND,
        foreign_source(attempt.id, fact.out_refund_no),
        organization_id=payment.organization_id,
        community_id=payment.community_id,
        payment_id=payment.id,
        amount_fen=fact.amount_fen,
        facts=facts,
    )
    if case.facts != facts and case.state is DiscrepancyState.OPEN:
        await Discrepancy.filter(id=case.id).update(facts=facts)
    log.error("foreign_refund", out_trade_no=attempt.out_trade_no, amount_fen=fact.amount_fen)
    return True


def foreign_source(attempt_id: UUID, out_refund_no: str) -> UUID:
    """What stands for a refund whose number is somebody else's, and so has no row of ours."""
    return uuid5(attempt_id, out_refund_no)
