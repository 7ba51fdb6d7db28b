"""Merchant accounts. Private key and APIv3 key go in and never come out."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotFound, NotPermitted
from models.merchant_account import MerchantMode, WechatPayKey, WechatPayKeyKind
from services import merchant_account as service

TAG = "商户号 merchant accounts"

Mchid = Annotated[str, Field(pattern=r"^[0-9]{6,32}$")]
Appid = Annotated[str, Field(pattern=r"^wx[0-9a-zA-Z]{8,30}$")]
SerialNo = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{1,64}$", description="商户 API 证书序列号")]
PrivateKey = Annotated[str, Field(min_length=1, max_length=10_000, description="apiclient_key.pem")]
Certificate = Annotated[str, Field(min_length=1, max_length=10_000, description="apiclient_cert.pem，用来提醒证书到期")]
Apiv3Key = Annotated[str, Field(pattern=r"^[0-9A-Za-z]{32}$", description="APIv3 密钥，32位字母或数字")]


class WechatPayKeyIn(Body):
    """A key by which WeChat signs: its public key (``PUB_KEY_ID_…``) or a platform certificate (its serial in hex)."""

    serial: str = Field(pattern=r"^[0-9A-Za-z_]{1,64}$")
    kind: WechatPayKeyKind
    pem: str = Field(min_length=1, max_length=10_000)


class NewMerchantAccountIn(Body):
    """In partner mode ``mchid`` and ``sp_appid`` are the service provider's and ``sub_mchid`` is the merchant."""

    legal_entity_id: str
    name: str = Field(min_length=1, max_length=100)
    mode: MerchantMode = MerchantMode.DIRECT
    mchid: Mchid
    sub_mchid: Mchid | None = None
    sp_appid: Appid | None = None
    serial_no: SerialNo
    private_key: PrivateKey
    apiv3_key: Apiv3Key
    wechat_pay_keys: list[WechatPayKeyIn] = Field(min_length=1, max_length=10)
    certificate: Certificate | None = None


class MerchantAccountChangeIn(Body):
    """What is left out stays. A new private key comes with the serial of its certificate, and better with the
    certificate too: only that tells when it ends."""

    name: str | None = Field(None, min_length=1, max_length=100)
    active: bool | None = None
    serial_no: SerialNo | None = None
    private_key: PrivateKey | None = None
    apiv3_key: Apiv3Key | None = None
    certificate: Certificate | None = None


class WechatPayKeyOut(Out):
    id: Id
    serial: str
    kind: WechatPayKeyKind


class MerchantAccountOut(Out):
    id: Id
    legal_entity_id: Id
    name: str
    mode: MerchantMode
    mchid: str
    sub_mchid: str | None
    sp_appid: str | None
    serial_no: str
    certificate_expires_at: datetime | None = Field(description="null: the certificate was not given")
    active: bool
    wechat_pay_keys: list[WechatPayKeyOut]


def _key_in(key: WechatPayKeyIn) -> service.NewWechatPayKey:
    return service.NewWechatPayKey(key.serial, key.kind, key.pem)


def _key_out(key: WechatPayKey) -> WechatPayKeyOut:
    return WechatPayKeyOut(id=str(key.id), serial=key.serial, kind=key.kind)


def _out(view: service.MerchantAccountView) -> MerchantAccountOut:
    account = view.account
    return MerchantAccountOut(
        id=str(account.id),
        legal_entity_id=str(account.legal_entity_id),
        name=account.name,
        mode=account.mode,
        mchid=account.mchid,
        sub_mchid=account.sub_mchid,
        sp_appid=account.sp_appid,
        serial_no=account.serial_no,
        certificate_expires_at=account.certificate_expires_at,
        active=account.active,
        wechat_pay_keys=[_key_out(key) for key in view.keys],
    )


async def _replay(call: Call, account_id: UUID) -> MerchantAccountOut:
    return _out(await service.get_merchant_account(call.actor, account_id))


async def _replay_key(call: Call, key_id: UUID) -> WechatPayKeyOut:
    return _key_out(await service.get_wechat_pay_key(call.actor, call.id("account_id"), key_id))


@route("GET", "/api/v1/staff/merchant-accounts", who=Who.STAFF, tag=TAG, summary="商户号列表", query=PageQuery,
       response=PageOut[MerchantAccountOut], refusals=(NotPermitted,))  # fmt: skip
async def list_merchant_accounts(call: Call) -> PageOut[MerchantAccountOut]:
    page = await service.list_merchant_accounts(call.actor, call.query.cursor, call.query.limit)
    return PageOut[MerchantAccountOut](items=[_out(view) for view in page.items], next_cursor=page.next_cursor)


@route("POST", "/api/v1/staff/merchant-accounts", who=Who.STAFF, tag=TAG, summary="登记商户号",
       body=NewMerchantAccountIn, status=201, response=MerchantAccountOut, replay=_replay, makes="merchant_account",
       refusals=(NotPermitted, NotFound, service.MerchantAccountTaken, service.PrivateKeyNotValid,
                 service.CertificateNotValid, service.WechatPayKeyNotValid, service.WechatPayKeyTaken,
                 service.MerchantModeNotConsistent))  # fmt: skip
async def create_merchant_account(call: Call) -> MerchantAccountOut:
    body = call.body
    new = service.NewMerchantAccount(
        legal_entity_id=body.legal_entity_id,
        name=body.name,
        mode=body.mode,
        mchid=body.mchid,
        sub_mchid=body.sub_mchid,
        sp_appid=body.sp_appid,
        serial_no=body.serial_no,
        private_key=body.private_key,
        apiv3_key=body.apiv3_key,
        wechat_pay_keys=[_key_in(key) for key in body.wechat_pay_keys],
        certificate=body.certificate,
    )
    return _out(await service.create_merchant_account(call.actor, new))


@route("GET", "/api/v1/staff/merchant-accounts/{account_id}", who=Who.STAFF, tag=TAG, summary="商户号详情",
       response=MerchantAccountOut, refusals=(NotPermitted, NotFound))  # fmt: skip
async def get_merchant_account(call: Call) -> MerchantAccountOut:
    return _out(await service.get_merchant_account(call.actor, call.id("account_id")))


@route("PATCH", "/api/v1/staff/merchant-accounts/{account_id}", who=Who.STAFF, tag=TAG, summary="修改商户号",
       body=MerchantAccountChangeIn, response=MerchantAccountOut,
       refusals=(NotPermitted, NotFound, service.PrivateKeyNotValid, service.CertificateNotValid))  # fmt: skip
async def update_merchant_account(call: Call) -> MerchantAccountOut:
    body = call.body
    change = service.MerchantAccountChange(body.name, body.active, body.serial_no, body.private_key, body.apiv3_key,
                                           body.certificate)  # fmt: skip
    return _out(await service.update_merchant_account(call.actor, call.id("account_id"), change))


@route("POST", "/api/v1/staff/merchant-accounts/{account_id}/wechat-pay-keys", who=Who.STAFF, tag=TAG,
       summary="登记微信支付公钥或平台证书", body=WechatPayKeyIn, status=201, response=WechatPayKeyOut,
       replay=_replay_key, makes="wechat_pay_key",
       refusals=(NotPermitted, NotFound, service.WechatPayKeyNotValid, service.WechatPayKeyTaken))  # fmt: skip
async def add_wechat_pay_key(call: Call) -> WechatPayKeyOut:
    """Several keys may sign at once while WeChat changes over."""
    key = _key_in(call.body)
    return _key_out(await service.add_wechat_pay_key(call.actor, call.id("account_id"), key))
