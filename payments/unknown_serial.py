"""A signature by a certificate that we do not know: perhaps WeChat has a new one, perhaps somebody forges.

Either way the answer is no, at once. What follows is a job that asks WeChat; a flood of forged serials must not become
a flood of anything else, so this process asks for one job a minute and merchant, and the job lets one call through.
"""

import re
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from kit import clock
from models.job import enqueue_tx
from models.unit_of_work import unit_of_work

log = structlog.get_logger()

ONE_MINUTE = timedelta(minutes=1)
# Only certificates can be asked for: an unknown PUB_KEY_ID_… is for finance to register, and garbage for nobody.
_CERTIFICATE_SERIAL = re.compile(r"[0-9A-Fa-f]{40}")
_asked: dict[UUID, datetime] = {}


async def note_unknown_serial(merchant_account_id: UUID, serial: str) -> None:
    """Have WeChat asked for its certificates, if the serial can be one of theirs and nobody here did so this minute."""
    if not _CERTIFICATE_SERIAL.fullmatch(serial):
        return
    now = clock.now()
    last = _asked.get(merchant_account_id)
    if last is not None and last <= now < last + ONE_MINUTE:
        return
    _asked[merchant_account_id] = now
    log.warning("unknown_wechat_serial", merchant_account_id=str(merchant_account_id))
    await _ask(merchant_account_id)


@unit_of_work
async def _ask(merchant_account_id: UUID) -> None:
    await enqueue_tx("refresh_wechat_pay_keys", {"merchant_account_id": str(merchant_account_id)})
