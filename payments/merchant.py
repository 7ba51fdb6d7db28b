"""Merchant accounts as gateways: keys decrypted once, kept in the process, dropped when any process changes the row."""

import time
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import httpx
from tortoise.expressions import Q

from kit import clock
from kit.crypto import load_private_key, load_public_key
from models import broadcast
from models.merchant_account import (
    APIV3_KEY_CONTEXT,
    PRIVATE_KEY_CONTEXT,
    MerchantAccount,
    WechatPayKey,
    WechatPayKeyKind,
)
from models.secret import decrypt
from payments.gateways.base import Gateway
from payments.gateways.merchant_keys import MerchantKeys
from payments.gateways.wechat_pay import PRODUCTION_HOSTS, TRIES, WechatPay
from payments.unknown_serial import note_unknown_serial

_TOPIC = "merchant_keys"
_KEPT_S = 60  # how long a process goes on with keys that were changed when it could not hear of it


@dataclass(frozen=True)
class PaymentSettings:
    """Where WeChat Pay is, and where it finds us. ``callback_base`` has no trailing slash."""

    wechat_pay_base: str
    callback_base: str
    dev: bool = False

    def __post_init__(self) -> None:
        if not self.dev and self.wechat_pay_base not in PRODUCTION_HOSTS:
            raise ValueError("in production WeChat Pay's address is one of the allow-list")
        if not self.dev and not self.callback_base.startswith("https://"):
            raise ValueError("in production WeChat calls back by https only")

    def notify_url(self, kind: str, merchant_account_id: UUID) -> str:
        """Where WeChat reports; no query string, at most 255 characters."""
        return f"{self.callback_base}/callbacks/wechat/{kind}/{merchant_account_id}"


_settings: PaymentSettings | None = None
_http: httpx.AsyncClient | None = None
_cache: dict[UUID, tuple[float, MerchantKeys]] = {}
_forgotten = 0  # counts what was forgotten, so that keys which were being read meanwhile are not kept


def configure(settings: PaymentSettings) -> None:
    """Done once at start of the process."""
    global _settings
    _settings = settings
    _cache.clear()


def settings() -> PaymentSettings:
    """The configured settings."""
    if _settings is None:
        raise RuntimeError("payments are not configured")
    return _settings


async def close() -> None:
    """Close the connections to WeChat; done once at the end of the process."""
    global _http
    if _http is not None:
        await _http.aclose()
        _http = None


def _client() -> httpx.AsyncClient:
    global _http
    if _http is None:
        _http = httpx.AsyncClient(limits=httpx.Limits(max_connections=64, max_keepalive_connections=16))
    return _http


async def keys_of(merchant_account_id: UUID, *, fresh: bool = False) -> MerchantKeys | None:
    """The keys of an account, or None for an unknown one. Loading a private key costs 50 ms, so they are kept."""
    kept = _cache.get(merchant_account_id)
    if kept and not fresh and time.monotonic() - kept[0] < _KEPT_S:
        return kept[1]
    before = _forgotten
    account = await MerchantAccount.get_or_none(id=merchant_account_id)
    if account is None:
        return None
    # Newest first: during a change of keys WeChat is asked to sign with the one that stays.
    in_force = Q(expires_at__isnull=True) | Q(expires_at__gt=clock.now())
    known = WechatPayKey.filter(in_force, merchant_account_id=merchant_account_id)
    rows = await known.order_by("-created_at", "-id")
    keys = MerchantKeys(
        mode=account.mode,
        mchid=account.mchid,
        sub_mchid=account.sub_mchid,
        sp_appid=account.sp_appid,
        serial_no=account.serial_no,
        private_key=load_private_key(decrypt(account.private_key_cipher, PRIVATE_KEY_CONTEXT)),
        apiv3_key=decrypt(account.apiv3_key_cipher, APIV3_KEY_CONTEXT).encode(),
        wechat_keys={row.serial: load_public_key(row.public_key_pem) for row in rows},
        public_key_id=next((row.serial for row in rows if row.kind is WechatPayKeyKind.PUBLIC_KEY), None),
    )
    if before == _forgotten:
        _cache[merchant_account_id] = (time.monotonic(), keys)
    return keys


async def keys_changed_tx(merchant_account_id: UUID) -> None:
    """Once the caller's transaction has committed, every process reads the keys of the account anew."""
    await broadcast.tell_tx(_TOPIC, str(merchant_account_id))


def forget_keys(merchant_account_id: str | None) -> None:
    """Read the keys of the account, or of all, anew when they are needed next."""
    global _forgotten
    _forgotten += 1
    if merchant_account_id is None:
        _cache.clear()
    else:
        _cache.pop(UUID(merchant_account_id), None)


broadcast.hear(_TOPIC, forget_keys)


async def gateway_of(merchant_account_id: UUID, *, tries: int = TRIES) -> Gateway:
    """The line to WeChat Pay of an account that exists; a call of unknown outcome is made at most ``tries`` times."""
    keys = await keys_of(merchant_account_id)
    if keys is None:
        raise LookupError(f"merchant account {merchant_account_id} does not exist")
    unknown_serial = partial(note_unknown_serial, merchant_account_id)
    return WechatPay(keys, _client(), settings().wechat_pay_base, tries, unknown_serial)
