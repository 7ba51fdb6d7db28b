"""Refunds that a person carries out, by transfer or in cash: WeChat did not take the money, or cannot return it.

A refund leaves WeChat's way only when it is surely not carried out there: its number is closed, unknown to WeChat when
asked now, or abnormal and given up by a person who says so. Then its number is spent for good: should WeChat say later
that it succeeded after all, that is a case for finance, never a second entry.
"""

from uuid import UUID

from tortoise.exceptions import IntegrityError

from kit import clock
from kit.errors import MoveNotAllowed
from models.access import Actor
from models.discrepancy import DiscrepancyKind
from models.payment import Payment
from models.refund import (
    BY_HAND,
    REFUND_MACHINE,
    UNDER_WAY,
    Refund,
    RefundAttempt,
    RefundAttemptState,
    RefundMethod,
    RefundState,
)
from models.unit_of_work import unit_of_work
from payments.case import resolve_case_tx
from payments.cash import take_out_tx
from payments.errors import BankSerialNeeded, BankSerialUsed, RefundAtWechat, RefundNotByHand, WechatUnavailable
from payments.gateways.base import GatewayError
from payments.merchant import gateway_of
from payments.refund import (
    close_attempt_tx,
    lock_newest_tx,
    record_refund_tx,
    refuse_old_look,
    surely_not_at_wechat,
)
from payments.refund_news import hear_refund
from payments.refund_settled import settle_refund_tx

_MAY_CHANGE = (RefundState.ASKED, RefundState.APPROVED, RefundState.FAILED)


async def change_refund_method(
    actor: Actor, refund_id: UUID, method: RefundMethod, *, given_up_at_wechat: bool = False
) -> None:
    """Let a person carry out a refund: by bank transfer or in cash. Afterwards it waits to be paid out, and what stood
    in its way at WeChat is settled.

    ``given_up_at_wechat``: somebody has made sure at WeChat's merchant platform that an abnormal refund is not
    delivered there. Refuses with MoveNotAllowed unless it is asked for, approved or failed, and as ``cancel_refund``
    does: RefundJustSent, RefundAtWechat, WechatUnavailable.
    """
    seen = await surely_not_at_wechat(refund_id)
    if seen is not None and seen.state is RefundAttemptState.ABNORMAL and given_up_at_wechat:
        await _ask_once_more(seen)
    await _commit_change(actor, refund_id, method, seen, given_up=given_up_at_wechat)


async def _ask_once_more(attempt: RefundAttempt) -> None:
    """It may have been delivered since: what WeChat says now is applied first."""
    gateway = await gateway_of(attempt.merchant_account_id, tries=1)
    try:
        fact = await gateway.ask_refund(attempt.out_refund_no)
    except GatewayError as error:
        raise WechatUnavailable() from error
    if fact is not None:
        await hear_refund(attempt.merchant_account_id, fact, asked=True)


@unit_of_work
async def _commit_change(
    actor: Actor, refund_id: UUID, method: RefundMethod, seen: RefundAttempt | None, *, given_up: bool
) -> None:
    _payment, refund, attempt = await lock_newest_tx(refund_id)
    if attempt is not None and refund.state in UNDER_WAY:
        spent = (RefundAttemptState.CREATED, RefundAttemptState.CLOSED)
        if attempt.state not in (*spent, RefundAttemptState.ABNORMAL) or (attempt.state not in spent and not given_up):
            raise RefundAtWechat()
        refuse_old_look(attempt, seen)
    if refund.state not in _MAY_CHANGE or method not in BY_HAND:
        raise MoveNotAllowed(noun="refund", before=str(refund.state), after=str(method))
    await close_attempt_tx(attempt)
    before = refund.method
    if refund.state is RefundState.FAILED:
        REFUND_MACHINE.enter(refund, RefundState.APPROVED)
    refund.update_from_dict({"method": method, "problem": None})
    await refund.save(update_fields=["state", "method", "problem"])
    await resolve_case_tx(DiscrepancyKind.REFUND_STUCK, refund.id, "method_changed")
    await record_refund_tx(actor, "refund.change_method", refund, {"before": str(before), "method": str(method)})


async def pay_out_refund(actor: Actor, refund_id: UUID, reference: str | None) -> None:
    """Record that a person gave the money back: by transfer, with the bank's serial as ``reference``, or in cash.

    Afterwards it is refunded and posted, once. Refuses with RefundNotByHand, BankSerialNeeded, BankSerialUsed,
    CashNotThere, and MoveNotAllowed unless it is approved.
    """
    try:
        await _commit_pay_out(actor, refund_id, reference or None)
    except IntegrityError as error:
        if "refunds_bank_serial" not in str(error):
            raise
        raise BankSerialUsed() from error


@unit_of_work
async def _commit_pay_out(actor: Actor, refund_id: UUID, reference: str | None) -> None:
    payment, refund, _attempt = await lock_newest_tx(refund_id)
    if refund.method not in BY_HAND:
        raise RefundNotByHand()
    await _pay_out_tx(actor, payment, refund, reference)


async def _pay_out_tx(actor: Actor, payment: Payment, refund: Refund, reference: str | None) -> None:
    transfer = refund.method is RefundMethod.BANK
    if transfer and reference is None:
        raise BankSerialNeeded()
    refund.paid_out_by_staff_id = actor.id
    refund.pay_out_reference = reference if transfer else None
    drawer_id = None if transfer else await take_out_tx(actor, refund)
    await settle_refund_tx(payment, refund, clock.now(), drawer_id=drawer_id)
    await record_refund_tx(
        actor, "refund.pay_out", refund, {"amount_fen": refund.amount_fen, "method": str(refund.method)}
    )  # fmt: skip
