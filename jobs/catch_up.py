"""Catching up after a restore."""

import payments
from jobs.registry import job


@job("catch_up", cron="6,36 * * * * 0")
async def catch_up() -> int:
    """Read WeChat's bills of the days since the backup that were not there yet; how many days were tried."""
    return await payments.read_bills()
