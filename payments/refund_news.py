"""Refund news: from somebody's word about a refund to posted and marked — once, whoever says it how often.

Notice and query come through here. The word is compared with the attempt that we committed before WeChat ever heard of
it. A notice that disagrees is only a reason to ask; nothing is given back in these books on a doubtful word.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import structlog

from kit import clock
from models.discrepancy import DiscrepancyKind
from models.job import enqueue_tx
from models.payment import Payment
from models.refund import (
    REFUND_ATTEMPT_MACHINE,
    REFUND_MACHINE,
    UNDECIDED_REFUND,
    Refund,
    RefundAttempt,
    RefundAttemptState,
    RefundState,
)
from models.unit_of_work import unit_of_work
from payments.case import open_case_tx, resolve_case_tx
from payments.gateways.base import RefundFact, RefundStatus
from payments.refund_settled import settle_refund_tx

log = structlog.get_logger()

# When WeChat is asked after a refund was sent, in seconds; then hourly for a day, then every six hours: a bank card
# takes up to three working days, and what is abnormal waits for a person.
STEPS_S = (5, 30, 60, 180, 300, 600, 1800)
HOURLY_S = 3600
DAY_S = 24 * HOURLY_S
SLOWLY_S = 6 * HOURLY_S


class Heard(StrEnum):
    """What became of the word."""

    APPLIED = "applied"  # it moved the refund
    ALREADY = "already"  # known before, or older than what is known
    DOUBTFUL = "doubtful"  # it does not agree with our refund; nothing moved
    UNKNOWN_REFUND = "unknown_refund"  # no such refund here


@dataclass(frozen=True)
class RefundNews:
    """The outcome; ``mismatches`` names the fields that did not agree."""

    outcome: Heard
    mismatches: tuple[str, ...] = ()


_AFTER = {
    RefundStatus.PROCESSING: RefundAttemptState.ACCEPTED,
    RefundStatus.SUCCESS: RefundAttemptState.SUCCEEDED,
    RefundStatus.ABNORMAL: RefundAttemptState.ABNORMAL,
    RefundStatus.CLOSED: RefundAttemptState.CLOSED,
}


def next_look(since: datetime, now: datetime, *, waiting: bool = False) -> datetime:
    """When a refund that was begun at ``since`` is looked at again: by the steps, then hourly to a day, then every six
    hours. ``waiting``: nothing moves without a person, so every six hours at once."""
    age_s = int((now - since).total_seconds())
    step_s = next((step - age_s for step in STEPS_S if step > age_s + 1), HOURLY_S if age_s < DAY_S else SLOWLY_S)
    return now + timedelta(seconds=SLOWLY_S if waiting else max(step_s, STEPS_S[0]))


@unit_of_work
async def hear_refund(merchant_account_id: UUID, fact: RefundFact, *, asked: bool) -> RefundNews:
    """Apply the word about a refund of ours.

    ``asked`` says that WeChat answered a question of ours (the truth); otherwise it is a notice (a hint). Afterwards
    attempt, refund and payment say what WeChat says, a success is posted at WeChat's own time and told to the payer by
    a job. A word that disagrees, or that contradicts a final state, moves nothing: it is kept as a case, a notice's
    also makes us ask, and an answer's leaves the refund to finance. Older news than what is known moves nothing.
    """
    locked = await _lock_tx(merchant_account_id, fact.out_refund_no)
    if locked is None:
        return RefundNews(Heard.UNKNOWN_REFUND)
    payment, refund, attempt = locked
    mismatches = _mismatches(attempt, fact)
    if mismatches:
        await _doubt_tx(refund, attempt, fact, mismatches, asked=asked)
        return RefundNews(Heard.DOUBTFUL, mismatches)
    if asked:
        await resolve_case_tx(DiscrepancyKind.DOUBTFUL_REFUND, attempt.id, "query_agrees_with_the_refund")
    after = _AFTER[fact.status]
    if asked and after is attempt.state is RefundAttemptState.ACCEPTED and refund.state is RefundState.FAILED:
        await _under_way_again_tx(refund)  # an answer that disagreed had stopped it
    if not REFUND_ATTEMPT_MACHINE.allows(attempt.state, after):
        return RefundNews(Heard.ALREADY)
    if after is RefundAttemptState.SUCCEEDED:
        await succeed_tx(payment, refund, attempt, fact)
    elif after is RefundAttemptState.ACCEPTED:
        await _accepted_tx(refund, attempt, fact)
    else:
        await _failed_tx(refund, attempt, fact, after)
    return RefundNews(Heard.APPLIED)


async def _lock_tx(merchant_account_id: UUID, out_refund_no: str) -> tuple[Payment, Refund, RefundAttempt] | None:
    """Payment, refund, attempt: everybody locks in this order. Which rows they are never changes, so it may be read
    before they are locked."""
    found = await RefundAttempt.get_or_none(merchant_account_id=merchant_account_id, out_refund_no=out_refund_no)
    return await lock_refund_tx(found.refund_id, found.id) if found else None


async def lock_refund_tx(refund_id: UUID, attempt_id: UUID) -> tuple[Payment, Refund, RefundAttempt]:
    """A refund's payment, the refund and one of its attempts, locked in this order."""
    payment_id = (await Refund.get(id=refund_id)).payment_id
    payment = await Payment.select_for_update().get(id=payment_id)
    refund = await Refund.select_for_update().get(id=refund_id)
    return payment, refund, await RefundAttempt.select_for_update().get(id=attempt_id)


def _mismatches(attempt: RefundAttempt, fact: RefundFact) -> tuple[str, ...]:
    """The facts of the word that are not those of the attempt. What a word does not name is not compared: an answer
    names no merchant, it is signed for the one that asked."""
    compared: dict[str, tuple[Any, Any]] = {
        "mchid": (attempt.mchid, attempt.mchid if fact.mchid is None else fact.mchid),
        "sub_mchid": (attempt.sub_mchid, attempt.sub_mchid if fact.sub_mchid is None else fact.sub_mchid),
        "out_trade_no": (attempt.out_trade_no, fact.out_trade_no),
        "transaction_id": (attempt.transaction_id, fact.transaction_id),
        "amount": (attempt.amount_fen, fact.amount_fen),
        "total": (attempt.total_fen, fact.total_fen),
        "currency": ("CNY", fact.currency or "CNY"),
        "refund_id": (attempt.wechat_refund_id or fact.refund_id, fact.refund_id),
    }
    different = [name for name, (ours, theirs) in compared.items() if ours != theirs]
    if attempt.state is RefundAttemptState.CLOSED and fact.status in (RefundStatus.SUCCESS, RefundStatus.ABNORMAL):
        different.append("status")  # a number that was given up moves money after all
    return tuple(different)


async def succeed_tx(
    payment: Payment, refund: Refund, attempt: RefundAttempt, fact: RefundFact, *, from_suspense: bool = False
) -> None:
    """WeChat's word that the money is with the payer, applied (all three are locked)."""
    assert fact.succeeded_at is not None, "a success has its time"
    REFUND_ATTEMPT_MACHINE.enter(
        attempt,
        RefundAttemptState.SUCCEEDED,
        wechat_refund_id=fact.refund_id,
        succeeded_at=fact.succeeded_at,
        next_check_at=None,
    )
    await attempt.save(update_fields=["state", "wechat_refund_id", "succeeded_at", "next_check_at"])
    await settle_refund_tx(payment, refund, fact.succeeded_at, from_suspense=from_suspense)


async def _accepted_tx(refund: Refund, attempt: RefundAttempt, fact: RefundFact) -> None:
    REFUND_ATTEMPT_MACHINE.enter(attempt, RefundAttemptState.ACCEPTED, wechat_refund_id=fact.refund_id)
    await attempt.save(update_fields=["state", "wechat_refund_id"])
    await _under_way_again_tx(refund)


async def _under_way_again_tx(refund: Refund) -> None:
    REFUND_MACHINE.enter(refund, RefundState.PROCESSING, problem=None)
    await refund.save(update_fields=["state", "problem"])
    await resolve_case_tx(DiscrepancyKind.REFUND_STUCK, refund.id, "wechat_accepted_the_refund")


async def _failed_tx(refund: Refund, attempt: RefundAttempt, fact: RefundFact, after: RefundAttemptState) -> None:
    """ABNORMAL goes on being asked about, for it may yet succeed; a CLOSED number is spent."""
    abnormal = after is RefundAttemptState.ABNORMAL
    REFUND_ATTEMPT_MACHINE.enter(
        attempt,
        after,
        wechat_refund_id=fact.refund_id,
        next_check_at=next_look(attempt.created_at, clock.now(), waiting=True) if abnormal else None,
    )
    await attempt.save(update_fields=["state", "wechat_refund_id", "next_check_at"])
    await fail_refund_tx(refund, attempt, fact.status.name)


async def fail_refund_tx(refund: Refund, attempt: RefundAttempt, problem: str) -> None:
    """The refund (locked) needs a person: it is failed, for the ``problem`` that WeChat names, and has an open case."""
    if refund.state is not RefundState.FAILED:
        REFUND_MACHINE.enter(refund, RefundState.FAILED, problem=problem[:64])
    refund.problem = problem[:64]
    await refund.save(update_fields=["state", "problem"])
    await open_stuck_case_tx(refund, attempt, problem)
    log.error("refund_failed", refund_id=str(refund.id), out_refund_no=attempt.out_refund_no, problem=problem)


async def open_stuck_case_tx(refund: Refund, attempt: RefundAttempt, problem: str) -> None:
    """See to it that finance has an open case about the refund."""
    await open_case_tx(
        DiscrepancyKind.REFUND_STUCK,
        refund.id,
        organization_id=refund.organization_id,
        community_id=refund.community_id,
        payment_id=refund.payment_id,
        amount_fen=refund.amount_fen,
        facts={
            "refund_id": str(refund.id),
            "problem": problem,
            "out_refund_no": attempt.out_refund_no,
            "out_trade_no": attempt.out_trade_no,
            "attempt": str(attempt.state),
        },
    )


async def _doubt_tx(
    refund: Refund, attempt: RefundAttempt, fact: RefundFact, mismatches: tuple[str, ...], *, asked: bool
) -> None:
    await open_case_tx(
        DiscrepancyKind.DOUBTFUL_REFUND,
        attempt.id,
        organization_id=refund.organization_id,
        community_id=refund.community_id,
        payment_id=refund.payment_id,
        amount_fen=fact.amount_fen,
        facts={
            "mismatches": list(mismatches),
            "out_refund_no": attempt.out_refund_no,
            "expected": {
                "amount_fen": attempt.amount_fen,
                "total_fen": attempt.total_fen,
                "mchid": attempt.mchid,
                "out_trade_no": attempt.out_trade_no,
                "attempt": str(attempt.state),
            },
            "came": came(fact),
        },
    )
    if not asked:
        # The job asks at once; should it get no answer, the sweep goes on asking, also about a closed number.
        if attempt.state is not RefundAttemptState.SUCCEEDED:
            attempt.next_check_at = clock.now()
            await attempt.save(update_fields=["next_check_at"])
        await enqueue_tx("check_refund", {"attempt_id": str(attempt.id)})
    elif attempt.state in UNDECIDED_REFUND:
        await fail_refund_tx(refund, attempt, "FACTS_DIFFER")
    else:
        log.error("refund_contradicted", out_refund_no=attempt.out_refund_no, mismatches=" ".join(mismatches))


def came(fact: RefundFact) -> dict[str, Any]:
    """What a word says, for a case."""
    return {
        "status": fact.status.name,
        "refund_id": fact.refund_id,
        "amount_fen": fact.amount_fen,
        "total_fen": fact.total_fen,
        "mchid": fact.mchid,
        "sub_mchid": fact.sub_mchid,
        "out_trade_no": fact.out_trade_no,
        "transaction_id": fact.transaction_id,
        "currency": fact.currency,
        "succeeded_at": fact.succeeded_at.isoformat() if fact.succeeded_at else None,
    }
