"""Seals over the journal and the audit."""

import structlog

from jobs.registry import job
from services import seal

log = structlog.get_logger()


@job("seal_books", cron="*/10 * * * * 30")
async def seal_books() -> int:
    """Seal what can no longer change; how many rows."""
    return await seal.seal_books()


@job("log_seals", cron="5 16 * * * 0")
async def log_seals() -> None:
    """Once a day, put the head of every chain into the log, which is kept elsewhere than the rows."""
    for head in await seal.heads():
        log.info("seal_head", scope=head.scope, last_row=head.last_row, digest=head.digest)
