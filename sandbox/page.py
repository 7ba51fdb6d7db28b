"""The page at ``/``: the phone to pay with, and a look at what was called back and answered."""

from pathlib import Path
from typing import Any

import jinja2
from sanic import Blueprint, HTTPResponse, Request

from kit.money import format_yuan
from sandbox import callback, order, person, refund, template_message
from sandbox.clock import beijing
from sandbox.context import Context, context_of
from sandbox.fault import KINDS, Number

page = Blueprint("page")
page.static("/static", Path(__file__).parent / "static", name="sandbox_static")

SHOWN = 30
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
TRADE_STATES = {"NOTPAY": "待支付", "SUCCESS": "已支付", "REFUND": "转入退款", "CLOSED": "已关闭"}
REFUND_STATUSES = {"PROCESSING": "退款中", "SUCCESS": "已退款", "CLOSED": "已关闭", "ABNORMAL": "异常"}
CALLBACK_STATES = {
    "pending": "待送达",
    "held": "等候乱序",
    "delivered": "已送达",
    "lost": "已丢失",
    "refused": "拒绝调用",
    "exhausted": "已放弃",
}
ATTEMPT_REASONS = {"first": "首次", "retry": "重试", "resend": "手动"}
SIGNATURES = {"true": "", "probe": "签名探测", "unknown": "未知序列号"}

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True
)
_templates.filters["yuan"] = format_yuan
_templates.filters["hour"] = lambda text: text[11:19] if text else ""
_templates.globals.update(
    trade_states=TRADE_STATES,
    refund_statuses=REFUND_STATUSES,
    callback_states=CALLBACK_STATES,
    attempt_reasons=ATTEMPT_REASONS,
    signatures=SIGNATURES,
    kinds=KINDS,
    is_number=lambda param: isinstance(param, Number),
)


@page.get("/")
async def index(request: Request) -> HTTPResponse:
    """The whole page."""
    return _render("index.html", context_of(request))


@page.get("/live")
async def live(request: Request) -> HTTPResponse:
    """The parts that change, fetched again and again by the script."""
    return _render("live.html", context_of(request))


def _render(name: str, context: Context) -> HTTPResponse:
    text = _templates.get_template(name).render(**_content(context))
    return HTTPResponse(text, headers=HEADERS, content_type="text/html; charset=utf-8")


def _content(context: Context) -> dict[str, Any]:
    orders = order.listing(context, None, None, SHOWN)
    pending = [each for each in order.listing(context, "NOTPAY", None, SHOWN) if not each["expired"]]
    return {
        "pending": pending,
        "finished": [each for each in orders if each not in pending],
        "refunds": refund.listing(context, limit=SHOWN),
        "callbacks": callback.listing(context, limit=SHOWN),
        "messages": template_message.inbox(context, limit=SHOWN),
        "faults": context.faults.all(),
        "people": person.listing(context),
        "apps": {row["appid"]: row["name"] for row in context.store.rows("SELECT appid, name FROM app")},
        "now": beijing(context.clock.now()),
        "clock": context.clock,
        "api_base": context.config.api_base,
    }
