"""小程序 of an organization: its appid, its secret (write-only), its message templates."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from tortoise.queryset import QuerySet
from wechatpy.crypto import WeChatCrypto

from kit import clock
from kit.errors import Refusal
from kit.paging import Page
from kit.text import normalise
from models import audit
from models.access import Act, Actor, require
from models.base import get_visible
from models.job import enqueue_tx
from models.message import MessageKind
from models.secret import encrypt
from models.unit_of_work import unit_of_work
from models.wechat_app import PUSH_KEY_CONTEXT, PUSH_TOKEN_CONTEXT, SECRET_CONTEXT, WechatApp
from services.listing import newest_first
from services.unique import unique


class AppidTaken(Refusal):
    zh = "这个小程序（AppID）已经登记过了。"
    en = "This mini-program (appid) is registered already."


class PushKeyNotValid(Refusal):
    status = 422
    zh = "消息推送的 EncodingAESKey 不正确，应为公众平台上的 43 位字符。"
    en = "The EncodingAESKey is not one: it has 43 letters and digits."


@dataclass(frozen=True)
class PushKeys:
    """Token and EncodingAESKey (43 letters and digits) of 消息推送."""

    token: str
    key: str


@dataclass(frozen=True)
class WechatAppChange:
    """What to change; None leaves a thing as it is."""

    name: str | None = None
    secret: str | None = None
    templates: Mapping[MessageKind, str] | None = None
    push: PushKeys | None = None
    uploads_shipping: bool | None = None
    shipping_backlog_days: int = 0


def _of(actor: Actor) -> QuerySet[WechatApp]:
    return WechatApp.filter(organization_id=actor.organization_id)


@unit_of_work
async def create_wechat_app(
    actor: Actor, appid: str, name: str, secret: str, templates: Mapping[MessageKind, str]
) -> WechatApp:
    """Register a mini-program. Organization-wide managers only. Refuses AppidTaken."""
    require(actor, Act.ORGANIZATION_MANAGE)
    with unique(wechat_apps_appid_key=AppidTaken):
        app = await WechatApp.create(
            organization_id=actor.organization_id,
            appid=appid,
            name=normalise(name),
            secret_cipher=encrypt(secret, SECRET_CONTEXT),
            templates=_plain(templates),
        )
    await audit.record_tx(
        actor, "wechat_app.create", "wechat_app", app.id, organization_id=app.organization_id,
        after={"appid": app.appid, "name": app.name, "templates": app.templates},
    )  # fmt: skip
    return app


@unit_of_work
async def update_wechat_app(actor: Actor, app_id: UUID, change: WechatAppChange) -> WechatApp:
    """Change name, secret, templates, push keys, or whether 发货信息 is uploaded. Organization-wide managers only.

    Switched on, WeChat is told of what is paid from now on, and of what was paid in the ``shipping_backlog_days``
    before. NotFound, PushKeyNotValid.
    """
    require(actor, Act.ORGANIZATION_MANAGE)
    app = await get_visible(_of(actor).select_for_update(), app_id)
    before = {"name": app.name, "templates": app.templates, "uploads_shipping": app.shipping_since_at is not None}
    changed: dict[str, Any] = {}
    if change.name is not None:
        changed["name"] = normalise(change.name)
    if change.templates is not None:
        changed["templates"] = _plain(change.templates)
    secret = {"secret_cipher": encrypt(change.secret, SECRET_CONTEXT)} if change.secret is not None else {}
    secret |= _push_ciphers(change.push) if change.push is not None else {}
    shipping = _shipping(change)
    app.update_from_dict(changed | secret | shipping)
    await app.save(update_fields=[*changed, *secret, *shipping] or ["name"])
    if change.uploads_shipping is not None:
        changed["uploads_shipping"] = change.uploads_shipping
    if change.uploads_shipping:
        await enqueue_tx("queue_shipping_backlog", {"app_id": str(app.id)})
        changed["shipping_backlog_days"] = change.shipping_backlog_days
    await audit.record_tx(
        actor, "wechat_app.update", "wechat_app", app.id, organization_id=app.organization_id,
        before=before, after=changed | {name.removesuffix("_cipher"): "changed" for name in secret},
    )  # fmt: skip
    return app


def _push_ciphers(push: PushKeys) -> dict[str, str]:
    try:
        WeChatCrypto(push.token, push.key, "")
    except (ValueError, AssertionError) as error:
        raise PushKeyNotValid() from error
    return {
        "push_token_cipher": encrypt(push.token, PUSH_TOKEN_CONTEXT),
        "push_key_cipher": encrypt(push.key, PUSH_KEY_CONTEXT),
    }


def _shipping(change: WechatAppChange) -> dict[str, Any]:
    if change.uploads_shipping is None:
        return {}
    if not change.uploads_shipping:
        return {"shipping_since_at": None, "shipping_refusal": None}
    # WeChat tells the moment of a payment in whole seconds.
    since_at = clock.now().replace(microsecond=0) - timedelta(days=change.shipping_backlog_days)
    return {"shipping_since_at": since_at, "shipping_refusal": None}


async def list_wechat_apps(actor: Actor, cursor: str | None, limit: int) -> Page[WechatApp]:
    """Newest first. Organization-wide managers only."""
    require(actor, Act.ORGANIZATION_MANAGE)
    return await newest_first(_of(actor), cursor, limit)


async def get_wechat_app(actor: Actor, app_id: UUID) -> WechatApp:
    """One mini-program of the organization; NotFound otherwise."""
    require(actor, Act.ORGANIZATION_MANAGE)
    return await get_visible(_of(actor), app_id)


def _plain(templates: Mapping[MessageKind, str]) -> dict[str, str]:
    return {kind.value: template_id for kind, template_id in templates.items()}
