"""The janitor asks WeChat about everything that is not decided, and closes what nobody may pay any more.

Callbacks get lost, late and forged; a payment ends in its right state because of this file, not because of them.
"""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from kit import clock
from models.bill import PAYABLE
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
from models.unit_of_work import row, rows, unit_of_work
from payments.gateways.base import GatewayError, OrderAlreadyPaid, TradeState
from payments.merchant import gateway_of
from payments.settle import settle

log = structlog.get_logger()

# When WeChat is asked after an order was made, in seconds; then hourly. Follows WeChat's own advice (4012075249).
STEPS_S = (5, 30, 60, 180, 300, 600, 1800)
HOURLY_S = 3600
_CLAIM_S = 60  # a claimed attempt is left alone this long; a janitor that dies loses no more than that
_AT_ONCE = 8

_CLAIM = """
UPDATE payment_attempts SET next_check_at = $1 WHERE id IN (
    SELECT id FROM payment_attempts WHERE next_check_at <= $2 ORDER BY next_check_at LIMIT $3
    FOR UPDATE SKIP LOCKED)
RETURNING id
"""


def first_check_at() -> datetime:
    """When a new attempt is looked at for the first time."""
    return clock.now() + timedelta(seconds=STEPS_S[0])


async def sweep(limit: int = 200) -> int:
    """Work the attempts whose time has come; how many there were. Several sweeps may run at once."""
    claimed = await _claim(limit)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def work(attempt_id: UUID) -> None:
        async with gate:
            try:
                await check_attempt(attempt_id)
            except Exception:  # one attempt's trouble must not keep the others waiting; it is tried again
                log.exception("check_failed", attempt_id=str(attempt_id))

    await asyncio.gather(*(work(attempt_id) for attempt_id in claimed))
    return len(claimed)


@unit_of_work
async def _claim(limit: int) -> list[UUID]:
    now = clock.now()
    claimed = await rows(_CLAIM, now + timedelta(seconds=_CLAIM_S), now, limit)
    return [UUID(str(found["id"])) for found in claimed]


async def check_attempt(attempt_id: UUID) -> PaymentState | None:
    """Ask WeChat about one attempt and do what follows; the payment's state afterwards, None for an unknown id.

    Paid: settled through the one settle. Unpaid: closed when expired or no longer wanted, else asked again later.
    Closed: closed here. Never heard of: closed here once it has expired. No answer: asked again later.
    """
    attempt = await PaymentAttempt.get_or_none(id=attempt_id)
    if attempt is None:
        return None
    gateway = await gateway_of(attempt.merchant_account_id)
    try:
        answer = await gateway.ask(attempt.out_trade_no)
    except GatewayError as error:
        log.warning("query_failed", attempt_id=str(attempt_id), code=error.code)
        await _look_again(attempt_id)
        return (await Payment.get(id=attempt.payment_id)).state
    if answer.state is TradeState.PAID and answer.paid is not None:
        await settle(attempt.merchant_account_id, answer.paid, asked=True)
    elif answer.state is TradeState.CLOSED:
        await _commit_closed(attempt.payment_id, CloseReason.EXPIRED)
    elif attempt.state in UNDECIDED:
        reason = await _why_close(attempt)
        if reason:
            return await close_payment(attempt.payment_id, reason)
        await _look_again(attempt_id)
    return (await Payment.get(id=attempt.payment_id)).state


async def _why_close(attempt: PaymentAttempt) -> CloseReason | None:
    if attempt.expires_at <= clock.now():
        return CloseReason.EXPIRED
    payable = await row(
        "SELECT count(*) AS gone FROM payment_bills pb JOIN bills b ON b.id = pb.bill_id"
        " WHERE pb.payment_id = $1 AND (b.state <> ALL($2::text[]) OR b.amount_fen - b.paid_fen < pb.amount_fen)",
        attempt.payment_id,
        [state.value for state in PAYABLE],
    )
    return CloseReason.BILL_CHANGED if payable and payable["gone"] else None


async def close_payment(payment_id: UUID, reason: CloseReason) -> PaymentState | None:
    """Close a payment at WeChat, then here; the state it ends in, None for an unknown id.

    WeChat first: what it confirms as closed cannot be paid any more. When it says that the order is paid, the payment
    is settled instead. When it does not answer, nothing changes here and the sweep tries again.
    """
    payment = await Payment.get_or_none(id=payment_id)
    if payment is None or payment.state is not PaymentState.OPEN:
        return payment.state if payment else None
    for attempt in await PaymentAttempt.filter(payment_id=payment_id, state__in=UNDECIDED):
        try:
            closed = await _close_at_wechat(attempt)
        except GatewayError as error:
            log.warning("close_failed", attempt_id=str(attempt.id), code=error.code)
            closed = False
        if not closed:
            await _look_again(attempt.id)
            return (await Payment.get(id=payment_id)).state
    return await _commit_closed(payment_id, reason)


async def _close_at_wechat(attempt: PaymentAttempt) -> bool:
    """Whether WeChat confirms that the order cannot be paid any more; when it is paid instead, settle it."""
    gateway = await gateway_of(attempt.merchant_account_id)
    try:
        await gateway.close_order(attempt.out_trade_no)
    except OrderAlreadyPaid:
        answer = await gateway.ask(attempt.out_trade_no)
        if answer.paid is not None:
            await settle(attempt.merchant_account_id, answer.paid, asked=True)
        return False
    return True


@unit_of_work
async def _commit_closed(payment_id: UUID, reason: CloseReason) -> PaymentState:
    """Mark payment and attempts closed, unless news of money overtook us: late news of *no* money overrides nothing."""
    payment = await Payment.select_for_update().get(id=payment_id)
    if payment.state is not PaymentState.OPEN:
        return payment.state
    for attempt in await PaymentAttempt.filter(payment_id=payment_id, state__in=UNDECIDED).select_for_update():
        ATTEMPT_MACHINE.enter(attempt, AttemptState.CLOSED, next_check_at=None)
        await attempt.save(update_fields=["state", "next_check_at"])
    PAYMENT_MACHINE.enter(payment, PaymentState.CLOSED, closed_at=clock.now(), close_reason=reason)
    await payment.save(update_fields=["state", "closed_at", "close_reason"])
    await PaymentBill.filter(payment_id=payment_id).update(live=False)
    return payment.state


@unit_of_work
async def _look_again(attempt_id: UUID) -> None:
    """Schedule the next look: by the steps, then hourly, but never later than the moment of expiry."""
    attempt = await PaymentAttempt.select_for_update().get(id=attempt_id)
    if attempt.state not in UNDECIDED:
        return
    now = clock.now()
    age_s = int((now - attempt.created_at).total_seconds())
    wait_s = next((step - age_s for step in STEPS_S if step > age_s + 1), HOURLY_S)
    wanted = now + timedelta(seconds=max(wait_s, STEPS_S[0]))
    if attempt.expires_at > now:
        wanted = min(wanted, attempt.expires_at + timedelta(seconds=1))
    elif age_s < HOURLY_S * 3:
        wanted = min(wanted, now + timedelta(seconds=60))  # overdue and WeChat did not answer: soon again
    attempt.next_check_at = wanted
    attempt.check_count += 1
    await attempt.save(update_fields=["next_check_at", "check_count"])
