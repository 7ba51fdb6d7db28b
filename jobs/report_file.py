"""Reports as files."""

from uuid import UUID

from jobs.registry import job
from services.report_file import make_file
from services.report_file import sweep_files as sweep


@job("make_report_file")
async def make_report_file(report_file_id: str) -> None:
    """Make a file that was just asked for."""
    await make_file(UUID(report_file_id))


@job("sweep_report_files", cron="* * * * * 50")
async def sweep_report_files() -> None:
    """Let files expire, and make those that were left in the middle."""
    await sweep()
