"""The alarms' clock."""

from jobs.registry import job
from services import alarm


@job("look_at_alarms", cron="* * * * * 30")
async def look_at_alarms() -> list[str]:
    """Once a minute: begin, repeat and end alarms."""
    return await alarm.look()


@job("check_books", cron="37 4 * * * 0")
async def check_books() -> int:
    """Once a night: the invariants of the money."""
    return await alarm.check_books()
