"""Control routes of the mini-program server API: words to be found risky, what was shipped, pushes."""

from sanic import Blueprint, HTTPResponse, Request

from sandbox import push, shipping, text_check
from sandbox.answer import json_answer
from sandbox.context import OPENID, context_of
from sandbox.control import fields, texts
from sandbox.error import ControlError

miniprogram_control = Blueprint("miniprogram_control", url_prefix="/sandbox")


@miniprogram_control.put("/text-check")
async def put_words(request: Request) -> HTTPResponse:
    """Which words make a text risky, and which send it to review."""
    body = fields(request, {"risky": list, "review": list})
    for name in ("risky", "review"):
        texts(body[name], name)
    return json_answer(text_check.set_words(context_of(request), body["risky"], body["review"]))


@miniprogram_control.get("/shippings")
async def shippings(request: Request) -> HTTPResponse:
    """Shipping information that was uploaded, newest first."""
    return json_answer({"shippings": shipping.listing(context_of(request))})


@miniprogram_control.post("/apps/<appid:str>/push")
async def send(request: Request, appid: str) -> HTTPResponse:
    """Push an event or a person's message to the app's address."""
    body = fields(request, {"openid": str, "message": dict}, {"plain": bool})
    if not OPENID.fullmatch(body["openid"]) or "MsgType" not in body["message"]:
        raise ControlError(422, "invalid_input", "推送内容有误。", fields=["openid", "message"])
    told = await push.push(context_of(request), appid, body["openid"], body["message"], plain=body.get("plain", False))
    return json_answer(told)


@miniprogram_control.post("/apps/<appid:str>/push/verify")
async def verify(request: Request, appid: str) -> HTTPResponse:
    """Check the app's address as WeChat's site does when it is saved."""
    fields(request, {})
    return json_answer(await push.verify(context_of(request), appid))
