"""WeChat's keys for each merchant account, kept fresh."""

from uuid import UUID

import payments
from jobs.registry import job


@job("refresh_wechat_pay_keys")
async def refresh_wechat_pay_keys(merchant_account_id: str) -> None:
    """Something was signed by a certificate that is not known: ask WeChat for its certificates."""
    await payments.refresh_wechat_pay_keys(UUID(merchant_account_id))


@job("sweep_wechat_pay_keys", cron="*/10 * * * * 0")
async def sweep_wechat_pay_keys() -> None:
    """Ask for every merchant whose certificates were last asked for eleven hours ago."""
    await payments.sweep_wechat_pay_keys()
