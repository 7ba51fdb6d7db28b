"""What follows from a refund, and the refund janitor's clock."""

from uuid import UUID

import payments
from jobs.registry import job
from services.refund import after_refund


@job("refund_settled")
async def refund_settled(refund_id: str) -> None:
    """WeChat gave money back: tell who paid it."""
    await after_refund(UUID(refund_id))


@job("check_refund")
async def check_refund(attempt_id: str) -> None:
    """Something doubtful was said of a refund: ask WeChat."""
    await payments.check_refund(UUID(attempt_id))


@job("sweep_refunds", cron="* * * * * */5")
async def sweep_refunds() -> None:
    """Ask WeChat about every refund whose time has come."""
    await payments.sweep_refunds()
