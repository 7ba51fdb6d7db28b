"""发货信息."""

from uuid import UUID

from jobs.registry import job
from services.shipping import queue_backlog
from services.shipping import sweep_shipping as sweep


@job("queue_shipping_backlog")
async def queue_shipping_backlog(app_id: str) -> None:
    """An app tells WeChat from now on: queue what was paid since the moment it named."""
    await queue_backlog(UUID(app_id))


@job("sweep_shipping", cron="* * * * * */20")
async def sweep_shipping() -> None:
    """Upload what is due."""
    await sweep()
