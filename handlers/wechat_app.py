"""Mini-programs of the company. The secret goes in and never comes out."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotFound, NotPermitted
from models.message import MessageKind
from models.wechat_app import WechatApp
from services import wechat_app as service

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


class WechatAppChangeIn(Body):
    """What is left out stays."""

    name: str | None = Field(None, min_length=1, max_length=100)
    secret: Secret | None = None
    templates: Templates | None = None


class WechatAppOut(Out):
    id: Id
    appid: str
    name: str
    templates: dict[MessageKind, str]


def _out(app: WechatApp) -> WechatAppOut:
    return WechatAppOut(id=str(app.id), appid=app.appid, name=app.name, templates=app.templates)


async def _replay(call: Call, app_id: UUID) -> WechatAppOut:
    return _out(await service.get_wechat_app(call.actor, app_id))


@route("GET", "/api/v1/staff/wechat-apps", who=Who.STAFF, tag=TAG, summary="小程序列表", query=PageQuery,
       response=PageOut[WechatAppOut], refusals=(NotPermitted,))  # fmt: skip
async def list_wechat_apps(call: Call) -> PageOut[WechatAppOut]:
    page = await service.list_wechat_apps(call.actor, call.query.cursor, call.query.limit)
    return PageOut[WechatAppOut](items=[_out(app) for app in page.items], next_cursor=page.next_cursor)


@route("POST", "/api/v1/staff/wechat-apps", who=Who.STAFF, tag=TAG, summary="登记小程序", body=NewWechatAppIn,
       status=201, response=WechatAppOut, replay=_replay, refusals=(NotPermitted, service.AppidTaken))  # fmt: skip
async def create_wechat_app(call: Call) -> WechatAppOut:
    body = call.body
    return _out(await service.create_wechat_app(call.actor, body.appid, body.name, body.secret, body.templates))


@route("GET", "/api/v1/staff/wechat-apps/{app_id}", who=Who.STAFF, tag=TAG, summary="小程序详情",
       response=WechatAppOut, refusals=(NotPermitted, NotFound))  # fmt: skip
async def get_wechat_app(call: Call) -> WechatAppOut:
    return _out(await service.get_wechat_app(call.actor, call.id("app_id")))


@route("PATCH", "/api/v1/staff/wechat-apps/{app_id}", who=Who.STAFF, tag=TAG, summary="修改小程序",
       body=WechatAppChangeIn, response=WechatAppOut, refusals=(NotPermitted, NotFound))  # fmt: skip
async def update_wechat_app(call: Call) -> WechatAppOut:
    change = service.WechatAppChange(call.body.name, call.body.secret, call.body.templates)
    return _out(await service.update_wechat_app(call.actor, call.id("app_id"), change))
