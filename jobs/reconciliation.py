"""Reconciliation: WeChat's bills, each morning."""

from uuid import UUID

import payments
from jobs.registry import job


@job("reconcile", cron="*/5 * * * * 20")
async def reconcile() -> int:
    """Fetch and compare the bills whose time has come; how many days were looked at."""
    return await payments.sweep_reconciliations()


@job("reconcile_day")
async def reconcile_day(reconciliation_id: str) -> None:
    """Fetch and compare one day's bill now, because somebody asked; why it cannot be read stands on the day."""
    await payments.look_at_day(UUID(reconciliation_id))


@job("read_statement")
async def read_statement(statement_id: str) -> None:
    """Compare a file that somebody gave; one that does not hold says so itself."""
    try:
        await payments.compare_statement(UUID(statement_id))
    except payments.BillUnreadable:
        return
