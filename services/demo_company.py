"""The demo's companies: legal entities, mini-programs, merchant accounts with fresh keys, communities, fee items."""

import asyncio
import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from kit.crypto import load_private_key
from models import secret
from models.community import Community
from models.fee_item import FeeItem
from models.merchant_account import (
    APIV3_KEY_CONTEXT,
    PRIVATE_KEY_CONTEXT,
    MerchantAccount,
    WechatPayKey,
    WechatPayKeyKind,
)
from models.message import MessageKind
from models.organization import LegalEntity, Organization
from models.unit_of_work import unit_of_work
from models.wechat_app import SECRET_CONTEXT, WechatApp
from services.demo_names import Dice
from services.demo_plan import COMPANIES, CommunityPlan, CompanyPlan

_TEMPLATE_TITLES = {
    MessageKind.PAYMENT_RECEIVED: "缴费成功通知",
    MessageKind.REFUNDED: "退款到账通知",
    MessageKind.SURPLUS_KEPT: "溢收款处理通知",
    MessageKind.HOUSEHOLD_JOINED: "房屋绑定通知",
    MessageKind.REQUEST_DECIDED: "入住申请结果通知",
}
_KEY_LETTERS = string.ascii_letters + string.digits
FEE_ITEMS = (("WYF", "物业费"), ("GTDF", "公摊电费"), ("SF", "水费"), ("CWF", "车位管理费"))


class Sandbox(Protocol):
    """WeChat's side of the demo: where its merchants and mini-programs are registered."""

    async def register_merchant(
        self, mchid: str, serial_no: str, public_key_pem: str, apiv3_key: str, appids: list[str]
    ) -> Mapping[str, Any]:
        """WeChat's keys for the merchant: ``{public_key_id, public_key, certificates: [{serial_no, certificate}]}``."""
        ...

    async def register_app(self, appid: str, secret: str, name: str, templates: dict[str, str]) -> None:
        """Register a mini-program; ``templates`` is template id → title."""
        ...


@dataclass(frozen=True)
class MadeCommunity:
    """A community and where its money goes: fee items by code."""

    plan: CommunityPlan
    community: Community
    items: Mapping[str, FeeItem]
    merchant_account_ids: Sequence[UUID]


@dataclass(frozen=True)
class MadeCompany:
    """A company of the demo as it is in the database."""

    plan: CompanyPlan
    organization: Organization
    app: WechatApp
    communities: Sequence[MadeCommunity]


def public_pem(private_pem: str) -> str:
    """The public half of a private key."""
    public = load_private_key(private_pem).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def _new_private_pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


async def make_companies(dice: Dice, sandbox: Sandbox) -> list[MadeCompany]:
    """Make and register the companies of the plan. Keys are new, random and stored encrypted."""
    wanted = sum(1 + bool(plan.water_mchid) for plan in COMPANIES)
    pems = list(await asyncio.gather(*(asyncio.to_thread(_new_private_pem) for _ in range(wanted))))
    made = []
    for plan in COMPANIES:
        keys = [pems.pop() for _ in range(1 + bool(plan.water_mchid))]
        made.append(await _make_company(dice, plan, keys))
    await register_again(sandbox)
    return made


@unit_of_work
async def _make_company(dice: Dice, plan: CompanyPlan, pems: Sequence[str]) -> MadeCompany:
    organization = await Organization.create(name=plan.name)
    app = await WechatApp.create(
        organization_id=organization.id,
        appid=plan.appid,
        name=plan.app_name,
        secret_cipher=secret.encrypt(secrets.token_hex(16), SECRET_CONTEXT),
        templates={kind.value: dice.letters(f"template:{plan.key}:{kind.value}", 43) for kind in _TEMPLATE_TITLES},
    )
    entity = await LegalEntity.create(organization_id=organization.id, name=plan.legal_entity)
    account = await _merchant(organization.id, entity, plan.mchid, pems[0])
    water = account
    if plan.water_mchid:
        water_entity = await LegalEntity.create(organization_id=organization.id, name=plan.water_entity)
        water = await _merchant(organization.id, water_entity, plan.water_mchid, pems[1])
    communities = [await _community(organization.id, one, account, water) for one in plan.communities]
    return MadeCompany(plan, organization, app, communities)


async def _merchant(organization_id: UUID, entity: LegalEntity, mchid: str, pem: str) -> MerchantAccount:
    apiv3_key = "".join(secrets.choice(_KEY_LETTERS) for _ in range(32))
    return await MerchantAccount.create(
        organization_id=organization_id,
        legal_entity_id=entity.id,
        name=f"{entity.name}微信支付",
        mchid=mchid,
        serial_no=f"{secrets.randbits(158) | 1 << 158:040X}",
        private_key_cipher=secret.encrypt(pem, PRIVATE_KEY_CONTEXT),
        apiv3_key_cipher=secret.encrypt(apiv3_key, APIV3_KEY_CONTEXT),
    )


async def _community(
    organization_id: UUID, plan: CommunityPlan, account: MerchantAccount, water: MerchantAccount
) -> MadeCommunity:
    community = await Community.create(
        organization_id=organization_id,
        name=plan.name,
        code=plan.code,
        address=plan.address,
        merchant_account_id=account.id,
        oldest_arrears_first=plan.oldest_arrears_first,
    )
    items = {}
    for code, name in FEE_ITEMS:
        elsewhere = code == "SF" and plan.separate_water
        items[code] = await FeeItem.create(
            organization_id=organization_id,
            community_id=community.id,
            code=code,
            name=name,
            legal_entity_id=water.legal_entity_id if elsewhere else account.legal_entity_id,
            merchant_account_id=water.id if elsewhere else None,
        )
    accounts = [account.id, water.id] if plan.separate_water else [account.id]
    return MadeCommunity(plan, community, items, accounts)


async def register_again(sandbox: Sandbox) -> int:
    """Register every merchant and mini-program of the database with the sandbox; how many merchants there were.

    Afterwards WeChat's keys here are those of the sandbox, also when its state was thrown away.
    """
    apps = await WechatApp.all().order_by("appid")
    for app in apps:
        titles = {
            template_id: _TEMPLATE_TITLES[MessageKind(kind)]
            for kind, template_id in app.templates.items()
            if kind in _TEMPLATE_TITLES
        }
        await sandbox.register_app(app.appid, secret.decrypt(app.secret_cipher, SECRET_CONTEXT), app.name, titles)
    accounts = await MerchantAccount.all().order_by("mchid")
    for account in accounts:
        keys = await sandbox.register_merchant(
            account.mchid,
            account.serial_no,
            public_pem(secret.decrypt(account.private_key_cipher, PRIVATE_KEY_CONTEXT)),
            secret.decrypt(account.apiv3_key_cipher, APIV3_KEY_CONTEXT),
            [app.appid for app in apps if app.organization_id == account.organization_id],
        )
        await _keep_keys(account.id, keys)
    return len(accounts)


@unit_of_work
async def _keep_keys(account_id: UUID, keys: Mapping[str, Any]) -> None:
    """Rows are rewritten, not added: an old public key's id must not be the one that WeChat is asked to sign by."""
    theirs = [(WechatPayKeyKind.PUBLIC_KEY, keys["public_key_id"], keys["public_key"])]
    theirs += [(WechatPayKeyKind.CERTIFICATE, one["serial_no"], one["certificate"]) for one in keys["certificates"]]
    kept = {row.serial: row for row in await WechatPayKey.filter(merchant_account_id=account_id)}
    outdated = [row for serial, row in kept.items() if serial not in {serial for _, serial, _ in theirs}]
    for kind, serial, pem in theirs:
        if serial in kept:
            continue
        row = next((one for one in outdated if one.kind is kind), None)
        if row is None:
            await WechatPayKey.create(merchant_account_id=account_id, serial=serial, kind=kind, public_key_pem=pem)
            continue
        outdated.remove(row)
        row.serial, row.public_key_pem = serial, pem
        await row.save(update_fields=["serial", "public_key_pem"])
