"""Refund: money of a payment goes back by the way it came, once, under a number of our own.

The order of things is that of charge: the refund with its number is committed and its amount reserved, then WeChat is
called, then what it says is committed. A crash, a lost answer or a second click in between finds the committed attempt
and goes on with it: asked first, and sent again — the same to the byte — only when WeChat does not know it. A new
number is taken only after WeChat said that the old one is closed.
"""

from datetime import datetime, timedelta
from uuid import UUID

import structlog

from kit import clock
from kit.errors import MoveNotAllowed
from kit.ids import new_code
from models import audit
from models.access import Actor
from models.discrepancy import Discrepancy, DiscrepancyKind
from models.ledger import EntryKind
from models.payment import AttemptState, Payment, PaymentAttempt
from models.refund import (
    REFUND_ATTEMPT_MACHINE,
    REFUND_MACHINE,
    UNDER_WAY,
    Refund,
    RefundAttempt,
    RefundAttemptState,
    RefundKind,
    RefundMethod,
    RefundState,
)
from models.unit_of_work import unit_of_work
from payments.case import reopen_case_tx, resolve_case_tx
from payments.errors import RefundAtWechat, RefundJustSent, WechatUnavailable
from payments.gateways.base import GatewayError, RefundFact, RefundStatus
from payments.gateways.wechat_refund import TOO_OLD, NextStep, next_step, refund_request
from payments.merchant import gateway_of, settings
from payments.refund_ledger import post_refund_tx
from payments.refund_news import (
    STEPS_S,
    fail_refund_tx,
    hear_refund,
    lock_refund_tx,
    next_look,
    open_stuck_case_tx,
)

log = structlog.get_logger()

A_YEAR = timedelta(days=365)  # WeChat gives back the way the money came for so long after the payment
# "Not there" is believed only so long after the last send: a send that is still under way, or a replica that is behind,
# would say the same.
QUIET_S = 300


def default_method(payment: Payment) -> RefundMethod:
    """The way back that is meant unless somebody says otherwise: the way the money came."""
    if payment.through_wechat:
        return RefundMethod.WECHAT_ORIGINAL
    return RefundMethod.CASH if payment.channel == "cash" else RefundMethod.BANK


async def return_all_tx(actor: Actor, payment: Payment, amount_fen: int, reason: str) -> Refund:
    """Ask for and approve in one step that the surplus of a paid payment (locked by the caller) goes back."""
    assert actor.id is not None, "a refund is approved by somebody"
    now = clock.now()
    refund = await Refund.create(
        organization_id=payment.organization_id,
        community_id=payment.community_id,
        payment_id=payment.id,
        customer_id=payment.customer_id,
        legal_entity_id=payment.legal_entity_id,
        merchant_account_id=payment.merchant_account_id,
        kind=RefundKind.SURPLUS,
        method=default_method(payment),
        amount_fen=amount_fen,
        reason=reason,
        asked_by_staff_id=actor.id,
        approved_by_staff_id=actor.id,
        approved_at=now,
    )
    await reserve_tx(payment, refund, now)
    await record_refund_tx(actor, "refund.approve", refund, {"amount_fen": amount_fen, "payment_id": str(payment.id)})
    return refund


async def reserve_tx(payment: Payment, refund: Refund, now: datetime) -> None:
    """What follows from an approval (payment and refund are locked, or new).

    Afterwards the amount is reserved on the payment, has left its account for refund_pending, and where WeChat gives it
    back an attempt with its number waits to be sent; the caller calls ``submit_refund`` after the commit, and the sweep
    does should it not. Reserving more than came is refused by the database.
    """
    payment.reserved_fen += refund.amount_fen
    await payment.save(update_fields=["reserved_fen"])
    await post_refund_tx(refund, EntryKind.REFUND_APPROVED, now)
    if refund.method is RefundMethod.WECHAT_ORIGINAL:
        await new_attempt_tx(refund)


async def new_attempt_tx(refund: Refund) -> RefundAttempt:
    """A number of its own, with the exact body to send, that waits to be sent."""
    paid = await PaymentAttempt.get(payment_id=refund.payment_id, state=AttemptState.PAID)
    assert paid.transaction_id and paid.received_fen and paid.mode, "a paid attempt has what WeChat calls it"
    assert refund.merchant_account_id is not None, "WeChat gives back through the account that took the money"
    out_refund_no = f"R{clock.today():%Y%m%d}{new_code(18)}"
    return await RefundAttempt.create(
        community_id=refund.community_id,
        refund_id=refund.id,
        merchant_account_id=refund.merchant_account_id,
        mode=paid.mode,
        mchid=paid.mchid,
        sub_mchid=paid.sub_mchid,
        out_trade_no=paid.out_trade_no,
        transaction_id=paid.transaction_id,
        out_refund_no=out_refund_no,
        amount_fen=refund.amount_fen,
        total_fen=paid.received_fen,
        request=refund_request(
            sub_mchid=paid.sub_mchid,
            transaction_id=paid.transaction_id,
            out_refund_no=out_refund_no,
            reason=refund.reason,
            notify_url=settings().notify_url("refund", refund.merchant_account_id),
            amount_fen=refund.amount_fen,
            total_fen=paid.received_fen,
        ),
        next_check_at=clock.now() + timedelta(seconds=STEPS_S[0]),
    )


async def submit_refund(refund_id: UUID) -> None:
    """Send the refund's open attempt to WeChat, if it is still to be sent; safe to repeat.

    Afterwards it is accepted, or waits to be asked about, or is failed with a case for finance. WeChat's answer here
    says that it took the refund on; whether it is done only its notice or its answer to a question says.
    """
    attempt = await RefundAttempt.get_or_none(refund_id=refund_id, state=RefundAttemptState.CREATED)
    attempt = await _before_sending(attempt.refund_id, attempt.id) if attempt else None
    if attempt is None:
        return
    gateway = await gateway_of(attempt.merchant_account_id)
    try:
        fact = await gateway.refund(attempt.request)
    except GatewayError as error:
        await _note_trouble(attempt.refund_id, attempt.id, error)
        return
    await _heard_on_sending(attempt, fact)


async def _heard_on_sending(attempt: RefundAttempt, fact: RefundFact) -> None:
    taken_on = RefundFact(**{**vars(fact), "status": RefundStatus.PROCESSING, "succeeded_at": None})
    await hear_refund(attempt.merchant_account_id, taken_on, asked=True)
    log.info("refund_accepted", out_refund_no=attempt.out_refund_no, status=str(fact.status))


@unit_of_work
async def _before_sending(refund_id: UUID, attempt_id: UUID) -> RefundAttempt | None:
    """Note that the attempt is being sent, under the locks: who cancels the refund must know. None: not to be sent."""
    payment, refund, attempt = await lock_refund_tx(refund_id, attempt_id)
    if attempt.state is not RefundAttemptState.CREATED or refund.state is not RefundState.APPROVED:
        return None
    now = clock.now()
    if payment.paid_at is None or payment.paid_at + A_YEAR < now:
        await fail_refund_tx(refund, attempt, TOO_OLD)  # WeChat would say so; another way is needed
        return None
    attempt.sent_at = now
    await attempt.save(update_fields=["sent_at"])
    return attempt


@unit_of_work
async def _note_trouble(refund_id: UUID, attempt_id: UUID, error: GatewayError) -> None:
    """What WeChat's refusal, or its silence, makes of a refund that was sent; nothing once there is better news."""
    _payment, refund, attempt = await lock_refund_tx(refund_id, attempt_id)
    if attempt.state is not RefundAttemptState.CREATED or refund.state is not RefundState.APPROVED:
        return
    step = next_step(error)
    log.warning("refund_not_accepted", out_refund_no=attempt.out_refund_no, code=error.code, step=str(step))
    if step is NextStep.STUCK:
        await fail_refund_tx(refund, attempt, error.code)
    elif step is NextStep.LATER:
        refund.problem = error.code[:64]
        await refund.save(update_fields=["problem"])
        await open_stuck_case_tx(refund, attempt, error.code)
    attempt.next_check_at = next_look(attempt.created_at, clock.now(), waiting=step is NextStep.STUCK)
    await attempt.save(update_fields=["next_check_at"])


async def retry_refund(actor: Actor, refund_id: UUID) -> None:
    """Try a failed refund again. The same number goes again, unless WeChat closed it: then a new one.

    Refuses with MoveNotAllowed unless it is failed, and with RefundAtWechat while WeChat holds it as abnormal: then it
    is made to succeed at WeChat's merchant platform, not by another refund.
    """
    await _commit_retry(actor, refund_id)
    await submit_refund(refund_id)


@unit_of_work
async def _commit_retry(actor: Actor, refund_id: UUID) -> None:
    _payment, refund, attempt = await lock_newest_tx(refund_id)
    if attempt is None or refund.method is not RefundMethod.WECHAT_ORIGINAL:
        raise MoveNotAllowed(noun="refund", before=str(refund.state), after=str(RefundState.APPROVED))
    if attempt.state in (RefundAttemptState.ABNORMAL, RefundAttemptState.ACCEPTED):
        raise RefundAtWechat()
    before = refund.problem
    REFUND_MACHINE.enter(refund, RefundState.APPROVED, problem=None)
    await refund.save(update_fields=["state", "problem"])
    if attempt.state is RefundAttemptState.CLOSED:
        await new_attempt_tx(refund)
    else:
        attempt.next_check_at = clock.now() + timedelta(seconds=STEPS_S[0])
        await attempt.save(update_fields=["next_check_at"])
    await record_refund_tx(actor, "refund.retry", refund, {"problem": before})


async def lock_newest_tx(refund_id: UUID) -> tuple[Payment, Refund, RefundAttempt | None]:
    """The refund and the newest of its attempts, which is the only one that can be open; locked. What is only asked
    for, or paid out by hand, may have none."""
    payment = await Payment.select_for_update().get(id=(await Refund.get(id=refund_id)).payment_id)
    refund = await Refund.select_for_update().get(id=refund_id)
    newest = RefundAttempt.filter(refund_id=refund_id).order_by("-created_at", "-id")
    return payment, refund, await newest.select_for_update().first()


async def cancel_refund(actor: Actor, refund_id: UUID, reason: str) -> None:
    """Give a refund up. Afterwards its amount is free again, its approval is reversed by an entry of its own, and a
    surplus is to be decided anew.

    Only when WeChat said that the number is closed, or, asked now, does not know it and nothing was sent for five
    minutes; what is to be paid out by hand, until it is. Refuses with RefundJustSent, RefundAtWechat,
    WechatUnavailable, and MoveNotAllowed for a decided refund.
    """
    await _commit_cancel(actor, refund_id, await surely_not_at_wechat(refund_id), reason)


async def surely_not_at_wechat(refund_id: UUID) -> RefundAttempt | None:
    """The newest attempt as it was when WeChat, asked now, did not know its number; or one that is closed, or that
    WeChat has taken on, whatever that means for the caller. None: there is none.

    Refuses with RefundJustSent, RefundAtWechat and WechatUnavailable.
    """
    attempt = await RefundAttempt.filter(refund_id=refund_id).order_by("-created_at", "-id").first()
    if attempt is not None and attempt.state is RefundAttemptState.CREATED:
        since_s = QUIET_S if attempt.sent_at is None else int((clock.now() - attempt.sent_at).total_seconds())
        if since_s < QUIET_S:
            raise RefundJustSent(retry_after_s=QUIET_S - since_s)
        gateway = await gateway_of(attempt.merchant_account_id, tries=1)
        try:
            fact = await gateway.ask_refund(attempt.out_refund_no)
        except GatewayError as error:
            raise WechatUnavailable() from error
        if fact is not None:
            await hear_refund(attempt.merchant_account_id, fact, asked=True)
            if not await RefundAttempt.exists(id=attempt.id, state=RefundAttemptState.CLOSED):
                raise RefundAtWechat()
    return attempt


@unit_of_work
async def _commit_cancel(actor: Actor, refund_id: UUID, seen: RefundAttempt | None, reason: str) -> None:
    payment, refund, attempt = await lock_newest_tx(refund_id)
    if attempt is not None and refund.state in UNDER_WAY:
        if attempt.state not in (RefundAttemptState.CREATED, RefundAttemptState.CLOSED):
            raise RefundAtWechat()
        refuse_old_look(attempt, seen)
    now = clock.now()
    REFUND_MACHINE.enter(refund, RefundState.CANCELLED, cancelled_at=now, cancel_reason=reason)
    await refund.save(update_fields=["state", "cancelled_at", "cancel_reason"])
    await close_attempt_tx(attempt)
    payment.reserved_fen -= refund.amount_fen
    if refund.kind is RefundKind.SURPLUS:
        payment.update_from_dict({"surplus_fate": None})
    await payment.save(update_fields=["reserved_fen", "surplus_fate"])
    await post_refund_tx(refund, EntryKind.REFUND_CANCELLED, now)
    await _settle_cases_tx(payment, refund)
    await record_refund_tx(actor, "refund.cancel", refund, {"amount_fen": refund.amount_fen})


def refuse_old_look(attempt: RefundAttempt, seen: RefundAttempt | None) -> None:
    """Refuse with RefundJustSent when it was sent once more, or again under a new number, since WeChat was asked: what
    it said then is old."""
    if seen is None or (attempt.id, attempt.sent_at) != (seen.id, seen.sent_at):
        raise RefundJustSent(retry_after_s=QUIET_S)


async def close_attempt_tx(attempt: RefundAttempt | None) -> None:
    """Spend the number of an attempt that WeChat surely does not carry out; nothing when it is spent already."""
    if attempt is not None and attempt.state is not RefundAttemptState.CLOSED:
        REFUND_ATTEMPT_MACHINE.enter(attempt, RefundAttemptState.CLOSED, next_check_at=None)
        await attempt.save(update_fields=["state", "next_check_at"])


async def _settle_cases_tx(payment: Payment, refund: Refund) -> None:
    """What stood in the way is no more; a surplus waits for a decision again."""
    await resolve_case_tx(DiscrepancyKind.REFUND_STUCK, refund.id, "refund_cancelled")
    if refund.kind is RefundKind.SURPLUS:
        case = await Discrepancy.get(kind=DiscrepancyKind.SURPLUS, payment_id=payment.id)
        await reopen_case_tx(case)


async def record_refund_tx(actor: Actor, act: str, refund: Refund, after: dict[str, object]) -> None:
    """The audit row of an act on a refund; reasons stand on the refund, for there may be a phone number in them."""
    await audit.record_tx(
        actor,
        act,
        "refund",
        refund.id,
        organization_id=refund.organization_id,
        community_id=refund.community_id,
        after=after,
    )
