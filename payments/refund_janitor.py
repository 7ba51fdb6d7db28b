"""The janitor of refunds asks WeChat about every one that is not decided: its notices get lost, late and forged.

A refund that WeChat does not know was never accepted; it is sent again, the same to the byte, under the same number.
"""

from uuid import UUID

import structlog

from kit import clock
from models.refund import UNDECIDED_REFUND, Refund, RefundAttempt, RefundAttemptState, RefundState
from models.unit_of_work import unit_of_work
from payments.gateways.base import GatewayError
from payments.merchant import gateway_of
from payments.refund import submit_refund
from payments.refund_news import hear_refund, lock_refund_tx, next_look
from payments.sweeping import Sweep

log = structlog.get_logger()


async def sweep_refunds() -> int:
    """Work the refund attempts whose time has come; how many there were (see ``Sweep``)."""
    return await _SWEEP.run()


async def check_refund(attempt_id: UUID) -> RefundState | None:
    """Ask WeChat about one attempt and do what follows; the refund's state afterwards, None for an unknown id.

    Known there: what it says is applied through the one ``hear_refund``. Not known, and never accepted: sent again,
    unless the refund waits for a person. No answer: asked again later. A closed attempt is asked about only until
    there is an answer.
    """
    attempt = await RefundAttempt.get_or_none(id=attempt_id)
    if attempt is None:
        return None
    gateway = await gateway_of(attempt.merchant_account_id, tries=1)  # whoever asks here asks again anyway
    answered = True
    try:
        fact = await gateway.ask_refund(attempt.out_refund_no)
    except GatewayError as error:
        log.warning("refund_query_failed", out_refund_no=attempt.out_refund_no, code=error.code)
        fact, answered = None, False
    if fact is not None:
        await hear_refund(attempt.merchant_account_id, fact, asked=True)
    elif answered and attempt.state is RefundAttemptState.CREATED:
        await submit_refund(attempt.refund_id)
    elif answered and attempt.state in UNDECIDED_REFUND:
        # It accepted the refund and does not know it: a replica that is behind. Never a reason for a new number.
        log.error("refund_not_there", out_refund_no=attempt.out_refund_no)
    await _look_again(attempt.refund_id, attempt_id, answered=answered)
    return (await Refund.get(id=attempt.refund_id)).state


@unit_of_work
async def _look_again(refund_id: UUID, attempt_id: UUID, *, answered: bool) -> None:
    """Schedule the next look; none for a decided attempt, unless WeChat has still to answer about a closed one."""
    _payment, refund, attempt = await lock_refund_tx(refund_id, attempt_id)
    now = clock.now()
    if attempt.state in UNDECIDED_REFUND:
        attempt.next_check_at = next_look(attempt.created_at, now, waiting=refund.state is RefundState.FAILED)
    elif attempt.state is RefundAttemptState.CLOSED:
        attempt.next_check_at = None if answered else next_look(attempt.created_at, now)
    else:
        return
    attempt.check_count += 1
    await attempt.save(update_fields=["next_check_at", "check_count"])


_SWEEP = Sweep("refund_attempts", check_refund)
