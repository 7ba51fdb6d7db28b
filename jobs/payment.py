"""What follows from money, and the janitor's clock."""

from uuid import UUID

import payments
from jobs.registry import job
from models.payment import CloseReason
from services.receipt import after_settlement


@job("payment_settled")
async def payment_settled(payment_id: str) -> None:
    """A payment was settled: number its receipt, tell the payer, close what else was under way for its bills."""
    await after_settlement(UUID(payment_id))


@job("check_attempt")
async def check_attempt(attempt_id: str) -> None:
    """Something doubtful was said of an attempt: ask WeChat."""
    await payments.check_attempt(UUID(attempt_id))


@job("close_payment")
async def close_payment(payment_id: str, reason: str) -> None:
    """A payment under way is no longer wanted."""
    await payments.close_payment(UUID(payment_id), CloseReason(reason))


@job("sweep_attempts", cron="* * * * * */5")
async def sweep_attempts() -> None:
    """Ask WeChat about every attempt whose time has come."""
    await payments.sweep()
