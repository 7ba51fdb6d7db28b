"""Refunds that were not ours: made by hand at WeChat's merchant platform, and told to us by a notice.

The notice alone moves nothing. Finance says which bill lines, or which surplus, the money was taken from; then WeChat
is asked, and what it confirms is entered like a refund of our own, under WeChat's number, once.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid5

import structlog

from kit import clock
from models.access import Actor
from models.discrepancy import DISCREPANCY_MACHINE, Discrepancy, DiscrepancyKind, DiscrepancyState
from models.ledger import EntryKind
from models.payment import AttemptState, Payment, PaymentAttempt, SurplusFate
from models.reconciliation import Difference, DifferenceAbout
from models.refund import BillFate, Refund, RefundAttempt, RefundAttemptState, RefundKind, RefundState
from models.unit_of_work import unit_of_work
from payments.case import open_case_tx, resolve_case_tx
from payments.errors import (
    ForeignRefundRecorded,
    ForeignRefundUnmatched,
    NoForeignRefund,
    PaymentNotPaid,
    RefundNotConfirmed,
    RefundTooLarge,
    SurplusDecided,
    WechatUnavailable,
)
from payments.gateways.base import GatewayError, RefundFact, RefundStatus
from payments.merchant import gateway_of
from payments.refund import record_refund_tx
from payments.refund_deposit import refuse_unreturnable_tx
from payments.refund_ledger import post_refund_tx, refuse_more_than_held_tx
from payments.refund_lines import PaidLine, RefundPart, chosen_lines, paid_lines, write_lines_tx
from payments.refund_news import came, succeed_tx

log = structlog.get_logger()


@unit_of_work
async def record_foreign_refund(merchant_account_id: UUID, fact: RefundFact) -> bool:
    """Keep as a case for finance that WeChat gave back money of a payment of ours under a number that is not ours.

    No money moves in these books by it: the case says what is known, and finance confirms it. Afterwards there is one
    case for the number, however often and in whatever state it is told. False when the order is not ours either.
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


async def record_confirmed_refund(
    actor: Actor, case_id: UUID, parts: Sequence[RefundPart] | None, fate: BillFate
) -> Refund:
    """Enter a refund that was made by hand at WeChat's site: the refund, refunded, as if it had been ours.

    ``parts`` says which bill lines its money was taken from; None is the payment's surplus. WeChat is asked under the
    number that it told. Afterwards entries, allocations, bills and receipt are as after a refund of ours, and the case
    is resolved. Refuses with NoForeignRefund, ForeignRefundRecorded, RefundNotConfirmed, WechatUnavailable,
    ForeignRefundUnmatched, PaymentNotPaid, RefundTooLarge, RefundKindsDiffer, NotEnoughHeld, SurplusDecided.
    """
    case = await Discrepancy.get(id=case_id)
    if case.kind is not DiscrepancyKind.FOREIGN_REFUND or case.payment_id is None:
        raise NoForeignRefund()
    fact = await _confirmed(case)
    return await _enter(actor, case_id, fact, parts, fate)


async def _confirmed(case: Discrepancy) -> RefundFact:
    """What WeChat says of it now; only a success of this very order counts."""
    paid = await PaymentAttempt.get_or_none(payment_id=case.payment_id, state=AttemptState.PAID)
    if paid is None or paid.merchant_account_id is None:
        raise PaymentNotPaid()
    gateway = await gateway_of(paid.merchant_account_id, tries=1)
    try:
        fact = await gateway.ask_refund(str(case.facts["out_refund_no"]))
    except GatewayError as error:
        raise WechatUnavailable() from error
    ours = (paid.out_trade_no, paid.transaction_id, paid.received_fen)
    if fact is None or fact.status is not RefundStatus.SUCCESS:
        raise RefundNotConfirmed()
    if (fact.out_trade_no, fact.transaction_id, fact.total_fen) != ours:
        raise RefundNotConfirmed()
    return fact


@unit_of_work
async def _enter(
    actor: Actor, case_id: UUID, fact: RefundFact, parts: Sequence[RefundPart] | None, fate: BillFate
) -> Refund:
    case = await Discrepancy.get(id=case_id)
    payment = await Payment.select_for_update().get(id=case.payment_id)
    paid = await PaymentAttempt.get(payment_id=payment.id, state=AttemptState.PAID)
    if await RefundAttempt.exists(merchant_account_id=paid.merchant_account_id, out_refund_no=fact.out_refund_no):
        raise ForeignRefundRecorded()
    kind, taken = await _taken_from_tx(payment, fact, parts)
    if payment.reserved_fen + payment.refunded_fen + fact.amount_fen > payment.amount_fen:
        raise RefundTooLarge(left_fen=payment.amount_fen - payment.reserved_fen - payment.refunded_fen)
    refund = await _refund_tx(actor, payment, kind, fact)
    await write_lines_tx(refund, taken, fate)
    await refuse_unreturnable_tx(refund)
    await refuse_more_than_held_tx(refund)
    payment.reserved_fen += refund.amount_fen
    await payment.save(update_fields=["reserved_fen", "surplus_fate"])
    await post_refund_tx(refund, EntryKind.REFUND_APPROVED, clock.now())
    attempt = await _attempt_tx(refund, paid, fact)
    await succeed_tx(payment, refund, attempt, fact, from_suspense=await _in_suspense_tx(attempt))
    await _resolve_tx(actor, case_id)
    await record_refund_tx(actor, "refund.record_foreign", refund, {"amount_fen": refund.amount_fen})
    return refund


async def _taken_from_tx(
    payment: Payment, fact: RefundFact, parts: Sequence[RefundPart] | None
) -> tuple[RefundKind, dict[PaidLine, int]]:
    if parts is None:
        if payment.surplus_fate is not None:
            raise SurplusDecided(fate=str(payment.surplus_fate))
        if payment.surplus_fen != fact.amount_fen:
            raise ForeignRefundUnmatched(amount_fen=fact.amount_fen)
        payment.surplus_fate = SurplusFate.RETURNED
        surplus = await Discrepancy.get(kind=DiscrepancyKind.SURPLUS, payment_id=payment.id)
        await resolve_case_tx(DiscrepancyKind.SURPLUS, surplus.source_id, "surplus_returned")
        return RefundKind.SURPLUS, {}
    kind, taken = chosen_lines(await paid_lines(payment.id), parts)
    if sum(taken.values()) != fact.amount_fen:
        raise ForeignRefundUnmatched(amount_fen=fact.amount_fen)
    return kind, taken


async def _in_suspense_tx(attempt: RefundAttempt) -> bool:
    """Whether the reconciliation found the refund first, and took it out of WeChat's account through suspense. Its
    difference is locked: it does so once, and not after this."""
    found = await Difference.filter(
        merchant_account_id=attempt.merchant_account_id, about=DifferenceAbout.REFUND, number=attempt.out_refund_no
    ).select_for_update()
    return any(difference.placed_fen for difference in found)


async def _refund_tx(actor: Actor, payment: Payment, kind: RefundKind, fact: RefundFact) -> Refund:
    return await Refund.create(
        organization_id=payment.organization_id,
        community_id=payment.community_id,
        payment_id=payment.id,
        customer_id=payment.customer_id,
        legal_entity_id=payment.legal_entity_id,
        merchant_account_id=payment.merchant_account_id,
        kind=kind,
        amount_fen=fact.amount_fen,
        reason="在微信商户平台发起的退款",
        state=RefundState.APPROVED,
        asked_by_staff_id=actor.id,
        approved_by_staff_id=actor.id,
        approved_at=clock.now(),
    )


async def _attempt_tx(refund: Refund, paid: PaymentAttempt, fact: RefundFact) -> RefundAttempt:
    """WeChat's own number stands where ours would; we sent nothing."""
    return await RefundAttempt.create(
        community_id=refund.community_id,
        refund_id=refund.id,
        merchant_account_id=paid.merchant_account_id,
        mode=paid.mode,
        mchid=paid.mchid,
        sub_mchid=paid.sub_mchid,
        out_trade_no=paid.out_trade_no,
        transaction_id=fact.transaction_id,
        out_refund_no=fact.out_refund_no,
        amount_fen=fact.amount_fen,
        total_fen=fact.total_fen,
        request="",
        state=RefundAttemptState.ACCEPTED,
        wechat_refund_id=fact.refund_id,
        next_check_at=clock.now(),
    )


async def _resolve_tx(actor: Actor, case_id: UUID) -> None:
    """The entry resolves the case; one that was resolved in words before stays so."""
    case = await Discrepancy.select_for_update().get(id=case_id)
    if case.state is DiscrepancyState.OPEN:
        DISCREPANCY_MACHINE.enter(
            case,
            DiscrepancyState.RESOLVED,
            resolved_at=clock.now(),
            resolved_by_staff_id=actor.id,
            resolution="refund_recorded",
        )
        await case.save(update_fields=["state", "resolved_at", "resolved_by_staff_id", "resolution"])
