"""The control routes: what a person's phone, the merchant platform's web site and a test's hand would do."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sanic import Blueprint, HTTPResponse, Request

from kit import strict_json
from kit.errors import Refusal
from kit.paging import DEFAULT_LIMIT, MAX_LIMIT, decode_cursor, page_of
from sandbox import callback, order, person, push, template_message
from sandbox.answer import json_answer
from sandbox.clock import beijing
from sandbox.config import MAX_SPEED
from sandbox.context import Context, context_of
from sandbox.error import ControlError
from sandbox.fault import known
from sandbox.order import TradeState

control = Blueprint("control", url_prefix="/sandbox")

MAX_ADVANCE_S = 400 * 86_400


def fields(
    request: Request, required: Mapping[str, type], optional: Mapping[str, type] | None = None
) -> dict[str, Any]:
    """The members of a JSON body by name and type; 422 for what is missing, unfit or not known."""
    try:
        body = strict_json.loads(request.body)
    except Refusal as refusal:
        raise ControlError(400, "malformed_json", "请求内容不是合法的 JSON。") from refusal
    if not isinstance(body, dict):
        raise ControlError(400, "malformed_json", "请求内容需要一个 JSON 对象。")
    known_types = {**required, **(optional or {})}
    # type() and not isinstance(): true is not a number.
    wrong = [name for name, value in body.items() if type(value) is not known_types.get(name)]
    missing = [name for name in required if name not in body]
    if wrong or missing:
        raise ControlError(422, "invalid_input", "请求内容有误。", fields=sorted({*wrong, *missing}))
    return body


def texts(value: Any, name: str) -> Any:
    """A list or object of texts, or 422."""
    if not all(isinstance(each, str) and each for each in (value.values() if isinstance(value, dict) else value)):
        raise ControlError(422, "invalid_input", "请求内容有误。", fields=[name])
    return value


@control.put("/merchants/<mchid:str>")
async def put_merchant(request: Request, mchid: str) -> HTTPResponse:
    """Register a merchant; answers the platform's keys."""
    required = {"serial_no": str, "public_key": str, "apiv3_key": str, "appids": list}
    optional = {
        "refund_notify_url": str,
        "keys": str,
        "public_key_share": int,
        "fee_rate": str,
        "sub_merchants": dict,
    }
    body = fields(request, required, optional)
    texts(body["appids"], "appids")
    return json_answer(context_of(request).merchants.register(mchid, **body))


@control.get("/merchants/<mchid:str>")
async def get_merchant(request: Request, mchid: str) -> HTTPResponse:
    """The platform's keys again."""
    return json_answer(context_of(request).merchants.platform_keys(mchid))


@control.put("/apps/<appid:str>")
async def put_app(request: Request, appid: str) -> HTTPResponse:
    """Register a mini-program."""
    optional = {"templates": dict, "trade_managed": bool, "message_push": dict}
    body = fields(request, {"secret": str, "name": str}, optional)
    if "templates" in body:
        texts(body["templates"], "templates")
    if "message_push" in body:
        body["message_push"] = push.check(body["message_push"])
    return json_answer(person.register_app(context_of(request), appid, **body))


@control.post("/login-code")
async def login_code(request: Request) -> HTTPResponse:
    """A code as ``wx.login`` gives it."""
    body = fields(request, {"openid": str}, {"app": str, "unionid": str})
    code = person.make_login_code(context_of(request), body["openid"], body.get("app"), body.get("unionid"))
    return json_answer({"code": code})


@control.post("/phone-code")
async def phone_code(request: Request) -> HTTPResponse:
    """A code as the phone-number button gives it."""
    body = fields(request, {"openid": str, "phone": str})
    return json_answer({"code": person.make_phone_code(context_of(request), body["openid"], body["phone"])})


@control.post("/subscriptions")
async def subscriptions(request: Request) -> HTTPResponse:
    """How many messages of a template the person allows from now on."""
    body = fields(request, {"openid": str, "template_id": str, "times": int})
    return json_answer(template_message.subscribe(context_of(request), **body))


@control.get("/messages")
async def messages(request: Request) -> HTTPResponse:
    """The inbox."""
    return json_answer({"messages": template_message.inbox(context_of(request), request.args.get("openid"))})


@control.post("/pay")
async def pay(request: Request) -> HTTPResponse:
    """The person enters the password: the order is paid, the callback follows."""
    body = fields(request, {"prepay_id": str}, {"openid": str, "success_time": str})
    paid, _ = order.pay(context_of(request), body["prepay_id"], body.get("openid"), body.get("success_time"))
    return json_answer({name: paid[name] for name in ("out_trade_no", "transaction_id", "trade_state")})


@control.get("/orders")
async def orders(request: Request) -> HTTPResponse:
    """Orders, newest first."""
    state = request.args.get("state")
    if state is not None and state not in TradeState.__members__:
        raise ControlError(422, "invalid_input", "没有这个状态。", fields=["state"], known=list(TradeState.__members__))
    limit = _limit(request)
    before = None
    if cursor := request.args.get("cursor"):
        try:
            (before,) = decode_cursor(cursor, [int])
        except Refusal as refusal:
            raise ControlError(400, "invalid_cursor", "翻页标记无效。") from refusal
    rows = order.listing(context_of(request), state, before, limit + 1)
    page = page_of(rows, limit, lambda row: [row["seq"]])
    items = [{name: value for name, value in row.items() if name != "seq"} for row in page.items]
    return json_answer({"orders": items, "next_cursor": page.next_cursor})


def _limit(request: Request) -> int:
    text = request.args.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_LIMIT):
        raise ControlError(422, "invalid_input", f"limit 为 1 到 {MAX_LIMIT}。", fields=["limit"])
    return int(text)


@control.get("/callbacks")
async def callbacks(request: Request) -> HTTPResponse:
    """Callbacks and every attempt to deliver them, newest first."""
    return json_answer({"callbacks": callback.listing(context_of(request), request.args.get("out_trade_no"))})


@control.post("/callbacks/<notification_id:str>/resend")
async def resend(request: Request, notification_id: str) -> HTTPResponse:
    """Send a callback again; answers the statuses."""
    body = fields(request, {}, {"times": int, "parallel": bool})
    times = body.get("times", 1)
    if not 1 <= times <= callback.MAX_RESEND:
        raise ControlError(422, "invalid_input", f"times 为 1 到 {callback.MAX_RESEND}。", fields=["times"])
    statuses = await callback.resend(context_of(request), notification_id, times, body.get("parallel", False))
    return json_answer({"statuses": statuses})


@control.get("/clock")
async def get_clock(request: Request) -> HTTPResponse:
    """How the sandbox's clock stands."""
    return json_answer(_clock(context_of(request)))


@control.post("/clock")
async def post_clock(request: Request) -> HTTPResponse:
    """Speed the retry schedule up, let time pass, or write dates from another day."""
    body = fields(request, {}, {"speed": int, "advance_s": int, "advance_to": str, "calendar_offset_s": int})
    context = context_of(request)
    if "advance_to" in body:
        body["advance_s"] = body.get("advance_s", 0) + context.clock.seconds_until(body["advance_to"])
    unfit = [
        *(["speed"] if not 1 <= body.get("speed", 1) <= MAX_SPEED else []),
        *(["advance_s"] if not 0 <= body.get("advance_s", 0) <= MAX_ADVANCE_S else []),
        *(["calendar_offset_s"] if abs(body.get("calendar_offset_s", 0)) > 10 * MAX_ADVANCE_S else []),
    ]
    if unfit:
        raise ControlError(422, "invalid_input", "时钟设置有误。", fields=unfit)
    if "speed" in body:
        context.clock.set_speed(body["speed"])
    if "advance_s" in body:
        context.clock.advance(body["advance_s"])
    if "calendar_offset_s" in body:
        context.clock.set_calendar_offset(body["calendar_offset_s"])
    context.wake()
    return json_answer(_clock(context))


def _clock(context: Context) -> dict[str, Any]:
    clock = context.clock
    return {
        "now": beijing(clock.now()),
        "reached": beijing(datetime.fromtimestamp(clock.life_s(), UTC)),
        "speed": clock.speed,
        "advanced_s": clock.advanced_s,
        "calendar_offset_s": clock.calendar_offset_s,
    }


@control.get("/faults")
async def get_faults(request: Request) -> HTTPResponse:
    """The faults that are set, and every kind there is."""
    return json_answer({"faults": context_of(request).faults.all(), "kinds": known()})


@control.post("/faults")
async def post_fault(request: Request) -> HTTPResponse:
    """Set a fault."""
    try:
        body = strict_json.loads(request.body)
    except Refusal as refusal:
        raise ControlError(400, "malformed_json", "请求内容不是合法的 JSON。") from refusal
    if not isinstance(body, dict):
        raise ControlError(400, "malformed_json", "请求内容需要一个 JSON 对象。")
    return json_answer(context_of(request).faults.add(body))


@control.delete("/faults")
async def delete_faults(request: Request) -> HTTPResponse:
    """Take all faults back."""
    context = context_of(request)
    deleted = context.faults.delete()
    callback.release_held(context)
    return json_answer({"deleted": deleted})


@control.delete("/faults/<fault_id:int>")
async def delete_fault(request: Request, fault_id: int) -> HTTPResponse:
    """Take one fault back."""
    context = context_of(request)
    was_reorder = any(each["id"] == fault_id and each["kind"] == "reorder" for each in context.faults.all())
    deleted = context.faults.delete(fault_id)
    if was_reorder:
        callback.release_held(context)
    return json_answer({"deleted": deleted})
