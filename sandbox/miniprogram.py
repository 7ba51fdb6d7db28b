"""The mini-program server API: always HTTP 200, with ``errcode`` when it refuses."""

from typing import Any

from sanic import Blueprint, HTTPResponse, Request

from kit import strict_json
from kit.errors import Refusal
from sandbox import access_token, person, shipping, template_message, text_check, wxacode
from sandbox.answer import json_answer
from sandbox.context import context_of
from sandbox.error import ApiError

miniprogram = Blueprint("miniprogram")


@miniprogram.get("/sns/jscode2session")
async def jscode2session(request: Request) -> HTTPResponse:
    """openid and session_key for a login code."""
    context = context_of(request)
    _fail(request, "jscode2session")
    appid = person.check_app(context, request.args.get("appid"), request.args.get("secret"))
    code = request.args.get("js_code")
    if not code:
        raise ApiError(41008, "missing code")
    if request.args.get("grant_type") != "authorization_code":
        raise ApiError(40002, "invalid grant_type")
    return json_answer(person.exchange_login_code(context, appid, code))


@miniprogram.post("/cgi-bin/stable_token")
async def stable_token(request: Request) -> HTTPResponse:
    """The app's access token."""
    context, body = context_of(request), _body(request)
    _fail(request, "stable_token")
    if body.get("grant_type") != "client_credential":
        raise ApiError(40002, "invalid grant_type")
    appid = person.check_app(context, _text(body, "appid"), _text(body, "secret"))
    force_refresh = body.get("force_refresh", False)
    if not isinstance(force_refresh, bool):
        raise ApiError(47001, "data format error")
    token, expires_in = access_token.issue(context, appid, force_refresh)
    return json_answer({"access_token": token, "expires_in": expires_in})


@miniprogram.post("/wxa/business/getuserphonenumber")
async def getuserphonenumber(request: Request) -> HTTPResponse:
    """The phone number behind a code."""
    context, appid = context_of(request), _caller(request, "phone")
    body = _body(request)
    phone_info = person.exchange_phone_code(context, appid, _text(body, "code") or "", _text(body, "openid"))
    return json_answer({"errcode": 0, "errmsg": "ok", "phone_info": phone_info})


@miniprogram.post("/cgi-bin/message/subscribe/send")
async def subscribe_send(request: Request) -> HTTPResponse:
    """Send one subscription message."""
    context, appid = context_of(request), _caller(request, "message")
    template_message.send(context, appid, _body(request))
    return json_answer({"errcode": 0, "errmsg": "ok"})


@miniprogram.get("/cgi-bin/token")
async def token(request: Request) -> HTTPResponse:
    """A new access token; the one before ends soon."""
    context = context_of(request)
    _fail(request, "token")
    if request.args.get("grant_type") != "client_credential":
        raise ApiError(40002, "invalid grant_type")
    appid = person.check_app(context, request.args.get("appid"), request.args.get("secret"))
    issued, expires_in = access_token.issue_plain(context, appid)
    return json_answer({"access_token": issued, "expires_in": expires_in})


@miniprogram.post("/wxa/msg_sec_check")
async def msg_sec_check(request: Request) -> HTTPResponse:
    """Whether a text may be shown."""
    context = context_of(request)
    appid = _caller(request, "text_check")
    return json_answer(text_check.check(context, appid, _body(request)))


@miniprogram.post("/wxa/getwxacodeunlimit")
async def getwxacodeunlimit(request: Request) -> HTTPResponse:
    """A code to scan, as a picture."""
    appid = _caller(request, "wxacode")
    return HTTPResponse(wxacode.draw(appid, _body(request)), content_type="image/jpeg")


@miniprogram.post("/wxa/sec/order/upload_shipping_info")
async def upload_shipping_info(request: Request) -> HTTPResponse:
    """An order has been delivered."""
    appid = _caller(request, "shipping")
    shipping.upload(context_of(request), appid, _body(request))
    return json_answer({"errcode": 0, "errmsg": "ok"})


@miniprogram.post("/wxa/sec/order/is_trade_managed")
async def is_trade_managed(request: Request) -> HTTPResponse:
    """Whether the app must upload shipping information."""
    appid = _caller(request, "shipping")
    if _text(_body(request), "appid") != appid:
        raise ApiError(40013, "invalid appid")
    managed = shipping.is_managed(context_of(request), appid)
    return json_answer({"errcode": 0, "errmsg": "ok", "is_trade_managed": managed})


def _fail(request: Request, api: str) -> None:
    """Refuse when a fault says so."""
    asked = context_of(request).faults.take("api_error", None, api)
    if asked is not None:
        raise ApiError(asked["errcode"], "asked for by a fault")


def _caller(request: Request, api: str) -> str:
    """The app whose token came along."""
    appid = access_token.check(context_of(request), request.args.get("access_token"))
    _fail(request, api)
    return appid


def _body(request: Request) -> dict[str, Any]:
    try:
        document = strict_json.loads(request.body)
    except Refusal as refusal:
        raise ApiError(47001, "data format error") from refusal
    if not isinstance(document, dict):
        raise ApiError(47001, "data format error")
    return document


def _text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise ApiError(47001, "data format error")
    return value
