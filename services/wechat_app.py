"""小程序 of an organization: its appid, its secret (write-only), its message templates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tortoise.queryset import QuerySet

from kit.errors import Refusal
from kit.paging import Page
from kit.text import normalise
from models import audit
from models.access import Act, Actor, require
from models.base import get_visible
from models.message import MessageKind
from models.secret import encrypt
from models.unit_of_work import unit_of_work
from models.wechat_app import SECRET_CONTEXT, WechatApp
from services.listing import newest_first
from services.unique import unique


class AppidTaken(Refusal):
    zh = "这个小程序（AppID）已经登记过了。"
    en = "This mini-program (appid) is registered already."


@dataclass(frozen=True)
class WechatAppChange:
    """What to change; None leaves a thing as it is."""

    name: str | None = None
    secret: str | None = None
    templates: Mapping[MessageKind, str] | None = None


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
    """Change name, secret or templates. Organization-wide managers only; NotFound otherwise unknown."""
    require(actor, Act.ORGANIZATION_MANAGE)
    app = await get_visible(_of(actor).select_for_update(), app_id)
    before = {"name": app.name, "templates": app.templates}
    changed: dict[str, Any] = {}
    if change.name is not None:
        changed["name"] = normalise(change.name)
    if change.templates is not None:
        changed["templates"] = _plain(change.templates)
    secret = {"secret_cipher": encrypt(change.secret, SECRET_CONTEXT)} if change.secret is not None else {}
    app.update_from_dict(changed | secret)
    await app.save(update_fields=[*changed, *secret] or ["name"])
    await audit.record_tx(
        actor, "wechat_app.update", "wechat_app", app.id, organization_id=app.organization_id,
        before=before, after=changed | ({"secret": "changed"} if secret else {}),
    )  # fmt: skip
    return app


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
