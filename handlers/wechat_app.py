"""Mini-programs of the company. The secret goes in and never comes out."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotFound, NotPermitted
from models.message import MessageKind
from models.wechat_app import WechatApp
from services import wechat_app as service
from services.shipping import MOST_BACKLOG_DAYS

TAG = "小程序 wechat apps"

Secret = Annotated[str, Field(min_length=1, max_length=128)]
Templates = Annotated[
    dict[MessageKind, Annotated[str, Field(min_length=1, max_length=64)]],
    Field(description="消息种类 → 订阅消息模板 ID"),
]


class NewWechatAppIn(Body):
    appid: str = Field(pattern=r"^wx[0-9a-zA-Z]{8,30}$")
    name: str = Field(min_length=1, max_length=100)
    secret: Secret
    templates: Templates = Field(default_factory=dict)


class PushKeysIn(Body):
    """消息推送配置 of the platform, safe mode (安全模式). They go in and never come out."""

    token: str = Field(pattern=r"^[0-9A-Za-z]{3,32}$")
    encoding_aes_key: str = Field(pattern=r"^[0-9A-Za-z]{43}$")


class WechatAppChangeIn(Body):
    """What is left out stays. ``uploads_shipping``: tell WeChat (发货信息) of what is paid from now on; with
    ``shipping_backlog_days`` of what was paid in the days before, too."""

    name: str | None = Field(None, min_length=1, max_length=100)
    secret: Secret | None = None
    templates: Templates | None = None
    push: PushKeysIn | None = None
    uploads_shipping: bool | None = None
    shipping_backlog_days: int = Field(0, strict=True, ge=0, le=MOST_BACKLOG_DAYS)


class WechatAppOut(Out):
    """``shipping_refusal`` is the errcode by which WeChat ended the uploads; 48001: not under 发货信息管理."""

    id: Id
    appid: str
    name: str
    templates: dict[MessageKind, str]
    takes_pushes: bool
    uploads_shipping: bool
    shipping_refusal: str | None


def _out(app: WechatApp) -> WechatAppOut:
    return WechatAppOut(
        id=str(app.id),
        appid=app.appid,
        name=app.name,
        templates=app.templates,
        takes_pushes=app.push_token_cipher is not None,
        uploads_shipping=app.shipping_since_at is not None,
        shipping_refusal=app.shipping_refusal,
    )


async def _replay(call: Call, app_id: UUID) -> WechatAppOut:
    return _out(await service.get_wechat_app(call.actor, app_id))


@route("GET", "/api/v1/staff/wechat-apps", who=Who.STAFF, tag=TAG, summary="小程序列表", query=PageQuery,
       response=PageOut[WechatAppOut], refusals=(NotPermitted,))  # fmt: skip
async def list_wechat_apps(call: Call) -> PageOut[WechatAppOut]:
    page = await service.list_wechat_apps(call.actor, call.query.cursor, call.query.limit)
    return PageOut[WechatAppOut](items=[_out(app) for app in page.items], next_cursor=page.next_cursor)


@route("POST", "/api/v1/staff/wechat-apps", who=Who.STAFF, tag=TAG, summary="登记小程序", body=NewWechatAppIn,
       status=201, response=WechatAppOut, replay=_replay, makes="wechat_app",
       refusals=(NotPermitted, service.AppidTaken))  # fmt: skip
async def create_wechat_app(call: Call) -> WechatAppOut:
    body = call.body
    return _out(await service.create_wechat_app(call.actor, body.appid, body.name, body.secret, body.templates))


@route("GET", "/api/v1/staff/wechat-apps/{app_id}", who=Who.STAFF, tag=TAG, summary="小程序详情",
       response=WechatAppOut, refusals=(NotPermitted, NotFound))  # fmt: skip
async def get_wechat_app(call: Call) -> WechatAppOut:
    return _out(await service.get_wechat_app(call.actor, call.id("app_id")))


@route("PATCH", "/api/v1/staff/wechat-apps/{app_id}", who=Who.STAFF, tag=TAG, summary="修改小程序",
       body=WechatAppChangeIn, response=WechatAppOut,
       refusals=(NotPermitted, NotFound, service.PushKeyNotValid))  # fmt: skip
async def update_wechat_app(call: Call) -> WechatAppOut:
    body = call.body
    push = service.PushKeys(body.push.token, body.push.encoding_aes_key) if body.push else None
    change = service.WechatAppChange(
        body.name, body.secret, body.templates, push, body.uploads_shipping, body.shipping_backlog_days
    )
    return _out(await service.update_wechat_app(call.actor, call.id("app_id"), change))
