"""Prepaid balances on the clock."""

from uuid import UUID

from jobs.registry import job
from services import prepaid, prepaid_run


@job("work_prepaid_run")
async def work_prepaid_run(run_id: str) -> None:
    """Go on with one run that was just started."""
    await prepaid_run.work_run(UUID(run_id))


@job("sweep_prepaid", cron="* * * * * 23")
async def sweep_prepaid() -> None:
    """Void top-ups that nobody paid, start this month's runs, go on with those that nobody is at."""
    await prepaid.void_unpaid_top_ups()
    await prepaid_run.start_monthly_runs()
    await prepaid_run.sweep_runs()
