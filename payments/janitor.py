"""The janitor asks WeChat about everything that is not decided, and closes what nobody may pay any more.

Callbacks get lost, late and forged; a payment ends in its right state because of this file, not because of them.
"""

from datetime import datetime, timedelta
from uuid import UUID

import structlog

from kit import clock
from models.bill import PAYABLE
from models.metric import PAYMENTS_CLOSED
from models.payment import (
    ATTEMPT_MACHINE,
    PAYMENT_MACHINE,
    UNDECIDED,
    AttemptState,
    CloseReason,
    Payment,
    PaymentAttempt,
    PaymentBill,
    PaymentState,
)
from models.unit_of_work import row, unit_of_work
from payments.gateways.base import GatewayError, OrderAlreadyPaid, OrderNotThere, TradeState
from payments.gateways.wechat_pay import TRIES
from payments.merchant import gateway_of
from payments.settle import settle
from payments.sweeping import Sweep

log = structlog.get_logger()

# When WeChat is asked after an order was made, in seconds; then hourly. Follows WeChat's own advice (4012075249).
STEPS_S = (5, 30, 60, 180, 300, 600, 1800)
HOURLY_S = 3600
# While a phone can pay it, an order is never left alone for longer than this, however late its owner pays: with all
# callbacks lost, money is still posted within two minutes. Of WeChat's 300 queries a second it takes one per 90 orders.
LIVE_S = 90
# Past its expiry and still without an answer, it is asked about every minute for so long; then hourly, without an end:
# money is never given up because nobody answers. After a day somebody is told.
SOON_S = 3 * HOURLY_S
UNDECIDED_S = 24 * HOURLY_S
# When it is asked once more after we closed: what it said as it closed was perhaps a moment late.
AFTER_CLOSE_S = (300, 3600)
# An order that WeChat gave a prepay id for and then does not know: only this long after its expiry is it given up.
GIVEN_UP_AFTER = timedelta(days=1)


def first_check_at() -> datetime:
    """When a new attempt is looked at for the first time."""
    return clock.now() + timedelta(seconds=STEPS_S[0])


async def sweep() -> int:
    """Work the attempts whose time has come; how many there were (see ``Sweep``)."""
    return await _SWEEP.run()


async def check_attempt(attempt_id: UUID) -> PaymentState | None:
    """Ask WeChat about one attempt and do what follows; the payment's state afterwards, None for an unknown id.

    Paid: settled through the one settle. Unpaid: closed when expired or no longer wanted, else asked again later.
    Closed: closed here. Never heard of: closed here once it has expired, if nobody can hold its prepay id. No answer:
    asked again later. A closed attempt is asked about twice more, and until there is an answer.
    """
    attempt = await PaymentAttempt.get_or_none(id=attempt_id)
    if attempt is None:
        return None
    gateway = await gateway_of(attempt.wechat_account_id, tries=1)  # whoever asks here asks again anyway
    try:
        answer = await gateway.ask(attempt.out_trade_no)
    except GatewayError as error:
        log.warning("query_failed", out_trade_no=attempt.out_trade_no, code=error.code)
        await _look_again(attempt_id, answered=False)
        return (await Payment.get(id=attempt.payment_id)).state
    if answer.state is TradeState.PAID and answer.paid is not None:
        await settle(attempt.wechat_account_id, answer.paid, asked=True)
    elif attempt.state not in UNDECIDED:
        await _look_again(attempt_id, answered=True)
    elif answer.state is TradeState.CLOSED:
        expired = attempt.expires_at <= clock.now()
        await _commit_closed(attempt.payment_id, CloseReason.EXPIRED if expired else CloseReason.CANCELLED)
    else:
        reason = await _why_close(attempt)
        if reason:
            return await close_payment(attempt.payment_id, reason, tries=1)
        await _look_again(attempt_id, answered=True)
    return (await Payment.get(id=attempt.payment_id)).state


async def _why_close(attempt: PaymentAttempt) -> CloseReason | None:
    if attempt.expires_at <= clock.now():
        return CloseReason.EXPIRED
    payable = await row(
        "SELECT count(*) AS gone FROM payment_bills pb JOIN bills b ON b.id = pb.bill_id"
        " WHERE pb.payment_id = $1 AND (b.state <> ALL($2::text[])"
        " OR b.amount_fen - b.credited_fen - b.paid_fen < pb.amount_fen)",
        attempt.payment_id,
        [state.value for state in PAYABLE],
    )
    return CloseReason.BILL_CHANGED if payable and payable["gone"] else None


async def close_payment(payment_id: UUID, reason: CloseReason, *, tries: int = TRIES) -> PaymentState | None:
    """Close a payment at WeChat, then here; the state it ends in, None for an unknown id.

    WeChat first: what it confirms as closed cannot be paid any more. When it says that the order is paid, the payment
    is settled instead. When it does not answer, nothing changes here and the sweep tries again. A call of unknown
    outcome is made at most ``tries`` times.
    """
    payment = await Payment.get_or_none(id=payment_id)
    if payment is None or payment.state is not PaymentState.OPEN:
        return payment.state if payment else None
    for attempt in await PaymentAttempt.filter(payment_id=payment_id, state__in=UNDECIDED):
        try:
            closed = await _close_at_wechat(attempt, tries)
        except GatewayError as error:
            log.warning("close_failed", out_trade_no=attempt.out_trade_no, code=error.code)
            closed = False
        if not closed:
            await _look_again(attempt.id, answered=False)
            return (await Payment.get(id=payment_id)).state
    return await _commit_closed(payment_id, reason)


async def _close_at_wechat(attempt: PaymentAttempt, tries: int) -> bool:
    """Whether nobody can pay the order any more, by WeChat's word; when it is paid instead, settle it."""
    gateway = await gateway_of(attempt.wechat_account_id, tries=tries)
    try:
        await gateway.close_order(attempt.out_trade_no)
    except OrderAlreadyPaid:
        answer = await gateway.ask(attempt.out_trade_no)
        if answer.paid is not None:
            await settle(attempt.wechat_account_id, answer.paid, asked=True)
        return False
    except OrderNotThere:
        # Unsigned, and perhaps only late. Without a prepay id no phone can pay it; with one, a phone may have, and
        # then "not there" is what a replica says that is behind.
        return attempt.prepay_id is None or attempt.expires_at + GIVEN_UP_AFTER < clock.now()
    return True


@unit_of_work
async def _commit_closed(payment_id: UUID, reason: CloseReason) -> PaymentState:
    """Mark payment and attempts closed, unless news of money overtook us: late news of *no* money overrides nothing."""
    payment = await Payment.select_for_update().get(id=payment_id)
    if payment.state is not PaymentState.OPEN:
        return payment.state
    for attempt in await PaymentAttempt.filter(payment_id=payment_id, state__in=UNDECIDED).select_for_update():
        once_more = clock.now() + timedelta(seconds=AFTER_CLOSE_S[0]) if attempt.prepay_id else None
        ATTEMPT_MACHINE.enter(attempt, AttemptState.CLOSED, next_check_at=once_more)
        await attempt.save(update_fields=["state", "next_check_at"])
    PAYMENT_MACHINE.enter(payment, PaymentState.CLOSED, closed_at=clock.now(), close_reason=reason)
    await payment.save(update_fields=["state", "closed_at", "close_reason"])
    await PaymentBill.filter(payment_id=payment_id).update(live=False)
    PAYMENTS_CLOSED.labels(reason.value).inc()
    return payment.state


@unit_of_work
async def _look_again(attempt_id: UUID, *, answered: bool) -> None:
    """Schedule the next look; none for a closed attempt about which WeChat has answered often enough."""
    attempt = await PaymentAttempt.select_for_update().get(id=attempt_id)
    now = clock.now()
    if attempt.state in UNDECIDED:
        attempt.next_check_at = _next_look(attempt, now)
        if not answered and now - attempt.created_at > timedelta(seconds=UNDECIDED_S):
            log.error("attempt_undecided", out_trade_no=attempt.out_trade_no, checks=attempt.check_count)
    elif attempt.state is AttemptState.CLOSED:
        payment = await Payment.get(id=attempt.payment_id)
        attempt.next_check_at = _look_after_close(payment.closed_at or now, now, answered=answered)
    else:
        return
    attempt.check_count += 1
    await attempt.save(update_fields=["next_check_at", "check_count"])


def _next_look(attempt: PaymentAttempt, now: datetime) -> datetime:
    """By the steps, and never long while a phone can pay; not later than the moment of expiry, and soon again when that
    has passed; then hourly."""
    age_s = int((now - attempt.created_at).total_seconds())
    wait_s = next((step - age_s for step in STEPS_S if step > age_s + 1), HOURLY_S)
    wanted = now + timedelta(seconds=max(wait_s, STEPS_S[0]))
    if attempt.expires_at > now:
        latest = now + timedelta(seconds=LIVE_S) if attempt.prepay_id else wanted
        return min(wanted, latest, attempt.expires_at + timedelta(seconds=1))
    if age_s < SOON_S:
        return min(wanted, now + timedelta(seconds=60))
    return wanted


def _look_after_close(closed_at: datetime, now: datetime, *, answered: bool) -> datetime | None:
    if not answered:
        return now + timedelta(seconds=60 if now - closed_at < timedelta(hours=3) else HOURLY_S)
    looks = (closed_at + timedelta(seconds=step) for step in AFTER_CLOSE_S)
    return next((look for look in looks if look > now), None)


_SWEEP = Sweep("payment_attempts", check_attempt)
