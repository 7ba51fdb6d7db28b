"""WeChat's keys kept fresh: its platform certificates change every year or so, and two are in force for a while.

Public keys (``PUB_KEY_ID_…``) do not change and cannot be downloaded; finance registers them. A merchant that has a
public key alone gets no certificates from WeChat and is left in peace after it said so.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from kit import clock
from kit.ids import new_id
from models import audit
from models.access import system_actor
from models.merchant_account import MerchantAccount, WechatPayKey, WechatPayKeyKind
from models.unit_of_work import row, rows, unit_of_work
from payments.gateways.base import GatewayError, OrderNotThere, OutcomeUnknown, PlatformCertificate
from payments.merchant import gateway_of, keys_changed_tx, keys_of
from payments.unknown_serial import ONE_MINUTE

log = structlog.get_logger()

EVERY = timedelta(hours=11)  # WeChat wants its certificates asked for within twelve hours
AGAIN_AFTER = timedelta(hours=1)
_A_SWEEP = 50

# Two processes at once, or a thousand forged serials: one of them asks.
_CLAIM = """
UPDATE merchant_accounts SET keys_ask_after = $3 WHERE id = $1 AND (keys_ask_after IS NULL OR keys_ask_after <= $2)
RETURNING id
"""
_DUE = """
UPDATE merchant_accounts SET keys_check_at = $1 WHERE id IN (
    SELECT id FROM merchant_accounts WHERE keys_check_at <= $2 ORDER BY keys_check_at LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING id
"""
_KEEP = """
INSERT INTO wechat_pay_keys (id, created_at, merchant_account_id, serial, kind, public_key_pem,
    effective_at, expires_at)
VALUES ($1, $2, $3, $4, 'certificate', $5, $6, $7)
ON CONFLICT (merchant_account_id, serial) DO UPDATE SET effective_at = EXCLUDED.effective_at,
    expires_at = EXCLUDED.expires_at
RETURNING id = $1 AS added
"""


async def refresh_wechat_pay_keys(merchant_account_id: UUID) -> int:
    """Ask WeChat for its certificates and keep them beside those that are known; how many are new.

    WeChat is asked at most once a minute for a merchant, whoever calls this and in however many processes; otherwise
    nothing happens. An answer that is not believed changes nothing. Afterwards this process verifies with the new keys,
    and every other as soon as it hears of them. Old ones stay until they expire.
    """
    if not await _claim(merchant_account_id):
        return 0
    gateway = await gateway_of(merchant_account_id, tries=1)
    try:
        found = await gateway.certificates()
    except GatewayError as error:
        await _not_told(merchant_account_id, error)
        return 0
    added = await _keep(merchant_account_id, found)
    await keys_of(merchant_account_id, fresh=True)
    log.info("wechat_certificates_asked", merchant_account_id=str(merchant_account_id), known=len(found), added=added)
    return added


async def sweep_wechat_pay_keys() -> int:
    """Refresh the keys of every merchant whose time has come; how many there were."""
    due = await _due()
    for merchant_account_id in due:
        await refresh_wechat_pay_keys(merchant_account_id)
    return len(due)


@unit_of_work
async def _due() -> list[UUID]:
    now = clock.now()
    return [UUID(str(found["id"])) for found in await rows(_DUE, now + AGAIN_AFTER, now, _A_SWEEP)]


@unit_of_work
async def _claim(merchant_account_id: UUID) -> bool:
    now = clock.now()
    return await row(_CLAIM, merchant_account_id, now, now + ONE_MINUTE) is not None


@unit_of_work
async def _keep(merchant_account_id: UUID, found: Sequence[PlatformCertificate]) -> int:
    account = await MerchantAccount.select_for_update().get(id=merchant_account_id)
    now, added = clock.now(), []
    for one in found:
        kept = await row(
            _KEEP, new_id(), now, merchant_account_id, one.serial, one.pem, one.effective_at, one.expires_at
        )
        if kept and kept["added"]:
            added.append(one.serial)
    if added:
        await keys_changed_tx(merchant_account_id)
        await audit.record_tx(
            system_actor("refresh_wechat_pay_keys"),
            "merchant_account.add_wechat_pay_key",
            "merchant_account",
            account.id,
            organization_id=account.organization_id,
            after={"serials": added},
        )
    account.keys_check_at = now + EVERY
    await account.save(update_fields=["keys_check_at"])
    return len(added)


@unit_of_work
async def _not_told(merchant_account_id: UUID, error: GatewayError) -> None:
    """WeChat gave no certificates. A merchant with a public key alone has none to be given: 404, or 500 at times."""
    known = WechatPayKey.filter(merchant_account_id=merchant_account_id)
    has_public_key = await known.filter(kind=WechatPayKeyKind.PUBLIC_KEY).exists()
    has_certificate = await known.filter(kind=WechatPayKeyKind.CERTIFICATE).exists()
    account = await MerchantAccount.select_for_update().get(id=merchant_account_id)
    now = clock.now()
    none_there = isinstance(error, OrderNotThere) or (isinstance(error, OutcomeUnknown) and not has_certificate)
    if has_public_key and none_there:
        account.keys_check_at, account.keys_ask_after = None, now + EVERY
        log.info("wechat_has_no_certificates", merchant_account_id=str(account.id), code=error.code)
    else:
        account.keys_check_at = now + AGAIN_AFTER
        log.error("wechat_certificates_not_had", merchant_account_id=str(account.id), code=error.code)
    await account.save(update_fields=["keys_check_at", "keys_ask_after"])
