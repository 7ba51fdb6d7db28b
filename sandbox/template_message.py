"""Subscription messages: who allows how many of which template, what may stand in them, and the inbox.

Source of the limits: developers.weixin.qq.com, sendMessage of subscription messages, table of parameter types.
"""

import json
import re
import unicodedata
from typing import Any

from sandbox.clock import beijing
from sandbox.context import OPENID, Context
from sandbox.error import ApiError, ControlError

_CLOCK = r"([01]?\d|2[0-3]):[0-5]\d"
_DAY = r"\d{4}年(0?[1-9]|1[0-2])月(0?[1-9]|[12]\d|3[01])日"
_MOMENT = rf"({_DAY}( {_CLOCK}(:[0-5]\d)?)?|{_CLOCK})"

# Type of a parameter (its name without the number) → what its value must match as a whole.
LIMITS: dict[str, str] = {
    "thing": r".{1,20}",
    "number": r"-?[\d.]{1,32}",
    "letter": r"[A-Za-z]{1,32}",
    "symbol": r"[^\w\s]{1,5}",
    "character_string": r"[!-~]{1,32}",
    "time": rf"{_MOMENT}(~{_MOMENT})?",
    "date": rf"{_DAY}( {_CLOCK})?(~{_DAY}( {_CLOCK})?)?",
    "amount": r"[¥￥$€£]?\d{1,10}(\.\d+)?元?",
    "phone_number": r"[+\d\-() #*]{1,17}",
    "car_number": r".{1,8}",
    "name": r"[A-Za-z .·]{1,20}|[\u4e00-\u9fff·]{1,10}",
    "phrase": r"[\u4e00-\u9fff]{1,5}",
    "enum": r".{1,20}",
}
_NAME = re.compile(r"([a-z_]+?)\d*")
MAX_SUBSCRIPTIONS = 1_000_000


def subscribe(context: Context, openid: str, template_id: str, times: int) -> dict[str, Any]:
    """From now on the person allows exactly ``times`` more messages of the template."""
    if not OPENID.fullmatch(openid) or not template_id or not 0 <= times <= MAX_SUBSCRIPTIONS:
        raise ControlError(422, "invalid_input", "订阅内容有误。", fields=["openid", "template_id", "times"])
    context.store.execute(
        "INSERT OR REPLACE INTO subscription (openid, template_id, remaining) VALUES (?, ?, ?)",
        *(openid, template_id, times),
    )
    return {"openid": openid, "template_id": template_id, "remaining": times}


def send(context: Context, appid: str, request: dict[str, Any]) -> None:
    """Put a message in the person's inbox and use up one subscription, or refuse as WeChat does."""
    openid, template_id = request.get("touser"), request.get("template_id")
    if not isinstance(openid, str) or not _belongs(context, openid, appid):
        raise ApiError(40003, "invalid openid")
    if not isinstance(template_id, str) or not context.store.row(
        "SELECT 1 FROM template WHERE appid = ? AND template_id = ?", appid, template_id
    ):
        raise ApiError(40037, "invalid template_id")
    page = request.get("page")
    if page is not None and (not isinstance(page, str) or page.startswith("/") or len(page) > 1024):
        raise ApiError(41030, "invalid page")
    values = _check_data(request.get("data"))
    with context.store.transaction():
        remaining = _remaining(context, openid, template_id)
        if remaining < 1:
            raise ApiError(43101, "user refuse to accept the msg")
        subscribe(context, openid, template_id, remaining - 1)
        context.store.insert(
            "message",
            openid=openid,
            appid=appid,
            template_id=template_id,
            page=page,
            data=json.dumps(values, ensure_ascii=False),
            sent_at=beijing(context.clock.now()),
        )


def _belongs(context: Context, openid: str, appid: str) -> bool:
    return context.store.row("SELECT 1 FROM person WHERE openid = ? AND appid = ?", openid, appid) is not None


def _remaining(context: Context, openid: str, template_id: str) -> int:
    row = context.store.row(
        "SELECT remaining FROM subscription WHERE openid = ? AND template_id = ?", openid, template_id
    )
    return context.config.subscriptions if row is None else int(row["remaining"])


def _check_data(data: Any) -> dict[str, str]:
    if not isinstance(data, dict) or not data:
        raise ApiError(47003, "argument invalid! data is empty")
    values: dict[str, str] = {}
    for name, member in data.items():
        value = member.get("value") if isinstance(member, dict) else None
        if not isinstance(value, str) or not value.strip():
            raise ApiError(47003, f"argument invalid! data.{name}.value is empty")
        kind = _NAME.fullmatch(name)
        pattern = LIMITS.get(kind.group(1)) if kind else None
        if pattern is None or not re.fullmatch(pattern, unicodedata.normalize("NFC", value)):
            raise ApiError(47003, f"argument invalid! data.{name}.value invalid")
        values[name] = value
    return values


def inbox(context: Context, openid: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """Messages received, newest first."""
    rows = context.store.rows(
        "SELECT message.*, title FROM message LEFT JOIN template USING (appid, template_id)"
        " WHERE ?1 IS NULL OR openid = ?1 ORDER BY seq DESC LIMIT ?2",
        *(openid, limit),
    )
    return [
        {
            "openid": row["openid"],
            "app": row["appid"],
            "template_id": row["template_id"],
            "title": row["title"],
            "page": row["page"],
            "data": json.loads(row["data"]),
            "sent_at": row["sent_at"],
        }
        for row in rows
    ]
