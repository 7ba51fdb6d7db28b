"""商户号 and the keys to speak with WeChat Pay about it. Private key and APIv3 key go in and never come out."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from cryptography.x509 import load_pem_x509_certificate

import payments
from kit import clock
from kit.crypto import load_private_key, load_public_key
from kit.errors import InvalidInput, Refusal
from kit.paging import Page
from kit.text import normalise
from kit.wechat_signature import serial_number
from models import audit, idempotency
from models.access import Act, Actor, require
from models.base import get_visible
from models.merchant_account import (
    APIV3_KEY_CONTEXT,
    PRIVATE_KEY_CONTEXT,
    MerchantAccount,
    MerchantMode,
    WechatPayKey,
    WechatPayKeyKind,
)
from models.organization import LegalEntity
from models.secret import encrypt
from models.unit_of_work import unit_of_work
from services.listing import newest_first
from services.unique import unique


class MerchantAccountTaken(Refusal):
    zh = "这个商户号已经登记过了。"
    en = "This merchant is registered already."


class WechatPayKeyTaken(Refusal):
    zh = "这个序列号的微信支付密钥已经登记过了。"
    en = "A WeChat Pay key of this serial is registered already."


class PrivateKeyNotValid(InvalidInput):
    """Not the PEM of an RSA private key of at least 2048 bits."""

    zh = "商户私钥不正确，请粘贴 apiclient_key.pem 的全部内容。"
    en = "This is not an RSA private key in PEM; paste all of apiclient_key.pem."


class CertificateNotValid(InvalidInput):
    """Not the PEM of a certificate, or of another serial or private key than the account's."""

    zh = "商户 API 证书不正确，或与证书序列号、商户私钥不一致，请粘贴 apiclient_cert.pem 的全部内容。"
    en = "This is not the certificate of that serial and private key; paste all of apiclient_cert.pem."


class WechatPayKeyNotValid(InvalidInput):
    """Not the PEM of WeChat's key of that kind, or its serial does not fit it."""

    zh = "微信支付公钥或平台证书不正确，或与序列号不一致。"
    en = "This WeChat Pay public key or certificate cannot be read, or its serial does not fit."


class MerchantModeNotConsistent(InvalidInput):
    """A partner needs a sub-merchant and its own appid; a direct merchant has neither."""

    zh = "服务商模式需要填写子商户号和服务商 AppID，直连模式不能填写。"
    en = "Partner mode needs sub_mchid and sp_appid; direct mode takes neither."


@dataclass(frozen=True)
class NewWechatPayKey:
    """A key by which WeChat signs: its serial and its PEM."""

    serial: str
    kind: WechatPayKeyKind
    pem: str


@dataclass(frozen=True)
class NewMerchantAccount:
    """A merchant account to register."""

    legal_entity_id: str
    name: str
    mode: MerchantMode
    mchid: str
    sub_mchid: str | None
    sp_appid: str | None
    serial_no: str
    private_key: str
    apiv3_key: str
    wechat_pay_keys: Sequence[NewWechatPayKey]
    certificate: str | None = None


@dataclass(frozen=True)
class MerchantAccountChange:
    """What to change; None leaves a thing as it is. A new private key comes with its certificate's serial, and better
    with the certificate: only that says when it ends."""

    name: str | None = None
    active: bool | None = None
    serial_no: str | None = None
    private_key: str | None = None
    apiv3_key: str | None = None
    certificate: str | None = None


@dataclass(frozen=True)
class MerchantAccountView:
    """An account and the serials of WeChat's keys for it."""

    account: MerchantAccount
    keys: Sequence[WechatPayKey]


async def create_merchant_account(actor: Actor, new: NewMerchantAccount) -> MerchantAccountView:
    """Register a merchant account with its keys. Organization-wide managers only. Refuses NotFound (legal entity),
    PrivateKeyNotValid, CertificateNotValid, WechatPayKeyNotValid, MerchantModeNotConsistent, MerchantAccountTaken,
    WechatPayKeyTaken."""
    require(actor, Act.ORGANIZATION_MANAGE)
    partner = new.mode is MerchantMode.PARTNER
    if partner != (new.sub_mchid is not None) or partner != (new.sp_appid is not None):
        raise MerchantModeNotConsistent(fields=[{"field": "sub_mchid", "code": "mode"}])
    await asyncio.to_thread(_check_private_key, new.private_key)
    if new.certificate is not None:
        await asyncio.to_thread(_ends_at, new.certificate, new.serial_no, new.private_key)
    for key in new.wechat_pay_keys:
        await asyncio.to_thread(_check_wechat_pay_key, key)
    return await _create(actor, new)


@unit_of_work
async def _create(actor: Actor, new: NewMerchantAccount) -> MerchantAccountView:
    entity = await get_visible(LegalEntity.visible_to(actor), new.legal_entity_id)
    with unique(merchant_accounts_one=MerchantAccountTaken):
        account = await MerchantAccount.create(
            organization_id=entity.organization_id,
            legal_entity_id=entity.id,
            name=normalise(new.name),
            mode=new.mode,
            mchid=new.mchid,
            sub_mchid=new.sub_mchid,
            sp_appid=new.sp_appid,
            serial_no=new.serial_no,
            certificate_expires_at=new.certificate and _ends_at(new.certificate, new.serial_no),
            private_key_cipher=encrypt(new.private_key, PRIVATE_KEY_CONTEXT),
            apiv3_key_cipher=encrypt(new.apiv3_key, APIV3_KEY_CONTEXT),
            keys_check_at=clock.now(),
        )
    keys = [await _add_key_tx(account, key) for key in new.wechat_pay_keys]
    await audit.record_tx(
        actor, "merchant_account.create", "merchant_account", account.id, organization_id=account.organization_id,
        after={"name": account.name, "mchid": account.mchid, "sub_mchid": account.sub_mchid,
               "serial_no": account.serial_no, "wechat_pay_serials": [key.serial for key in keys]},
    )  # fmt: skip
    return MerchantAccountView(account, keys)


async def add_wechat_pay_key(actor: Actor, account_id: UUID, key: NewWechatPayKey) -> WechatPayKey:
    """Register one more key of WeChat, for the months in which two sign; every process knows it at once.
    Organization-wide managers only. Refuses NotFound, WechatPayKeyNotValid, WechatPayKeyTaken."""
    require(actor, Act.ORGANIZATION_MANAGE)
    account = await get_visible(MerchantAccount.visible_to(actor), account_id)
    await asyncio.to_thread(_check_wechat_pay_key, key)
    added = await _add_key(actor, account, key)
    payments.forget_keys(str(account.id))
    return added


@unit_of_work
async def _add_key(actor: Actor, account: MerchantAccount, key: NewWechatPayKey) -> WechatPayKey:
    added = await _add_key_tx(account, key)
    await payments.keys_changed_tx(account.id)
    await audit.record_tx(
        actor, "merchant_account.add_wechat_pay_key", "merchant_account", account.id,
        organization_id=account.organization_id, after={"serial": key.serial},
    )  # fmt: skip
    await idempotency.note_tx("wechat_pay_key", added.id)
    return added


async def _add_key_tx(account: MerchantAccount, key: NewWechatPayKey) -> WechatPayKey:
    serial, effective_at, expires_at = key.serial, None, None
    if key.kind is WechatPayKeyKind.CERTIFICATE:
        certificate = load_pem_x509_certificate(key.pem.encode())
        serial = serial.upper()  # as WeChat writes it beside its signatures
        effective_at, expires_at = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    with unique(uid_wechat_pay__merchan_841c01=WechatPayKeyTaken):
        return await WechatPayKey.create(
            merchant_account_id=account.id, serial=serial, kind=key.kind, public_key_pem=key.pem,
            effective_at=effective_at, expires_at=expires_at,
        )  # fmt: skip


async def update_merchant_account(actor: Actor, account_id: UUID, change: MerchantAccountChange) -> MerchantAccountView:
    """Rename, switch off or on, or give new keys. Organization-wide managers only. Refuses NotFound,
    PrivateKeyNotValid (also a private key without its serial, or the other way round), CertificateNotValid."""
    require(actor, Act.ORGANIZATION_MANAGE)
    if (change.private_key is None) != (change.serial_no is None):
        raise PrivateKeyNotValid(fields=[{"field": "serial_no", "code": "with_private_key"}])
    if change.private_key is not None:
        await asyncio.to_thread(_check_private_key, change.private_key)
        if change.certificate is not None:
            await asyncio.to_thread(_ends_at, change.certificate, change.serial_no or "", change.private_key)
    view = await _update(actor, account_id, change)
    payments.forget_keys(str(view.account.id))
    return view


@unit_of_work
async def _update(actor: Actor, account_id: UUID, change: MerchantAccountChange) -> MerchantAccountView:
    account = await get_visible(MerchantAccount.visible_to(actor).select_for_update(), account_id)
    names = ("name", "active", "serial_no", "certificate_expires_at")
    before = {name: _plain(getattr(account, name)) for name in names}
    told: dict[str, Any] = {}
    for name in ("name", "active", "serial_no"):
        value = getattr(change, name)
        if value is not None:
            told[name] = normalise(value) if name == "name" else value
    if change.private_key is not None or change.certificate is not None:
        # A new key's certificate ends some time, and whoever does not give it leaves us not knowing when.
        serial_no = change.serial_no or account.serial_no
        told["certificate_expires_at"] = change.certificate and _ends_at(change.certificate, serial_no)
    hidden = {}
    if change.private_key is not None:
        hidden["private_key_cipher"] = encrypt(change.private_key, PRIVATE_KEY_CONTEXT)
    if change.apiv3_key is not None:
        hidden["apiv3_key_cipher"] = encrypt(change.apiv3_key, APIV3_KEY_CONTEXT)
    account.update_from_dict(told | hidden)
    await account.save(update_fields=[*told, *hidden] or ["name"])
    await payments.keys_changed_tx(account.id)
    after = {name: _plain(value) for name, value in told.items()} | {
        name.removesuffix("_cipher"): "changed" for name in hidden
    }
    await audit.record_tx(
        actor, "merchant_account.update", "merchant_account", account.id, organization_id=account.organization_id,
        before=before, after=after,
    )  # fmt: skip
    return MerchantAccountView(account, await _keys_of(account.id))


async def list_merchant_accounts(actor: Actor, cursor: str | None, limit: int) -> Page[MerchantAccountView]:
    """Newest first. Organization-wide managers only."""
    require(actor, Act.ORGANIZATION_MANAGE)
    page = await newest_first(MerchantAccount.visible_to(actor), cursor, limit)
    keys: dict[UUID, list[WechatPayKey]] = {account.id: [] for account in page.items}
    for key in await WechatPayKey.filter(merchant_account_id__in=list(keys)).order_by("id"):
        keys[key.merchant_account_id].append(key)
    return Page([MerchantAccountView(account, keys[account.id]) for account in page.items], page.next_cursor)


async def get_merchant_account(actor: Actor, account_id: UUID) -> MerchantAccountView:
    """One merchant account of the organization; NotFound otherwise."""
    require(actor, Act.ORGANIZATION_MANAGE)
    account = await get_visible(MerchantAccount.visible_to(actor), account_id)
    return MerchantAccountView(account, await _keys_of(account.id))


async def get_wechat_pay_key(actor: Actor, account_id: UUID, key_id: UUID) -> WechatPayKey:
    """One of WeChat's keys for an account of the organization; NotFound otherwise."""
    require(actor, Act.ORGANIZATION_MANAGE)
    account = await get_visible(MerchantAccount.visible_to(actor), account_id)
    return await get_visible(WechatPayKey.filter(merchant_account_id=account.id), key_id)


async def _keys_of(account_id: UUID) -> list[WechatPayKey]:
    return await WechatPayKey.filter(merchant_account_id=account_id).order_by("id")


def _check_private_key(pem: str) -> None:
    try:
        fits = load_private_key(pem).key_size >= 2048
    except (ValueError, TypeError, UnicodeError):
        fits = False
    if not fits:
        raise PrivateKeyNotValid(fields=[{"field": "private_key", "code": "private_key"}])


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _ends_at(certificate: str, serial_no: str, private_key: str | None = None) -> datetime:
    """When the certificate of that serial (and private key) ends; CertificateNotValid when it is another's."""
    try:
        found = load_pem_x509_certificate(certificate.encode())
        fits = found.serial_number == int(serial_no, 16)
        if private_key is not None:
            fits = fits and found.public_key() == load_private_key(private_key).public_key()
    except (ValueError, TypeError, UnicodeError):
        fits = False
    if not fits:
        raise CertificateNotValid(fields=[{"field": "certificate", "code": "certificate"}])
    return found.not_valid_after_utc


def _check_wechat_pay_key(key: NewWechatPayKey) -> None:
    """WeChat's public keys are named PUB_KEY_ID_…, its certificates by their own serial number in hex."""
    try:
        load_public_key(key.pem)
        if key.kind is WechatPayKeyKind.CERTIFICATE:
            fits = serial_number(key.serial) == load_pem_x509_certificate(key.pem.encode()).serial_number
        else:
            fits = key.serial.startswith("PUB_KEY_ID_")
    except (ValueError, TypeError, UnicodeError):
        fits = False
    if not fits:
        raise WechatPayKeyNotValid(fields=[{"field": "wechat_pay_keys", "code": "wechat_pay_key"}])
