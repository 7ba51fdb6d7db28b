"""What WeChat pushed."""

from jobs.registry import job
from services.wechat_push import forget_pushes as forget


@job("forget_pushes", cron="56 3 * * * 0")
async def forget_pushes() -> None:
    """Let go of old pushes."""
    while await forget():
        continue
