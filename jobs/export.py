"""Copies of residents' data."""

from uuid import UUID

from jobs.registry import job
from services.export import make_export as make
from services.export import sweep_exports as sweep


@job("make_export")
async def make_export(export_id: str) -> None:
    """Make a copy that was just asked for."""
    await make(UUID(export_id))


@job("sweep_exports", cron="* * * * * 40")
async def sweep_exports() -> None:
    """Let copies expire, and make those that were left in the middle."""
    await sweep()
