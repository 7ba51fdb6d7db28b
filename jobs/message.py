"""Messages to residents."""

from uuid import UUID

from jobs.registry import job
from services.message import send_message as send
from services.message import sweep_messages as sweep


@job("send_message")
async def send_message(message_id: str) -> None:
    """Send one message that was just queued."""
    await send(UUID(message_id))


@job("sweep_messages", cron="* * * * * */10")
async def sweep_messages() -> None:
    """Send again what could not be sent."""
    await sweep()
