"""Receipts as files."""

from uuid import UUID

from jobs.registry import job
from services.receipt_file import forget_receipt_files as forget
from services.receipt_file import make_receipt_file as make
from services.receipt_file import sweep_receipt_files as sweep


@job("make_receipt_file")
async def make_receipt_file(file_id: str) -> None:
    """Draw one file that was just asked for."""
    await make(UUID(file_id))


@job("sweep_receipt_files", cron="* * * * * */30")
async def sweep_receipt_files() -> None:
    """Make again what could not be made."""
    await sweep()


@job("forget_receipt_files", cron="52 3 * * * 0")
async def forget_receipt_files() -> None:
    """Let go of files made long ago."""
    while await forget():
        continue
