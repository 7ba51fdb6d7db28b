"""Shipping information of orders (发货信息管理), for apps that must upload it.

Source: developers.weixin.qq.com, 小程序发货信息管理服务. An order is known there only some seconds after it was paid;
what was shipped may be corrected once.
"""

import json
from typing import Any

from sandbox.clock import beijing
from sandbox.context import Context
from sandbox.error import ApiError
from sandbox.order import PAID

KNOWN_AFTER_S = 5
MOST_ITEMS = 15
MOST_CHARACTERS = 120


def is_managed(context: Context, appid: str) -> bool:
    """Whether the app must upload."""
    return context.store.row("SELECT 1 FROM app WHERE appid = ? AND trade_managed", appid) is not None


def upload(context: Context, appid: str, request: dict[str, Any]) -> None:
    """Note that an order was shipped, or refuse."""
    if not is_managed(context, appid):
        raise ApiError(48001, "api unauthorized")
    _check(request)
    trade = _trade(context, appid, request["order_key"])
    payer = request["payer"].get("openid")
    if payer not in (trade["openid"], trade["sub_openid"]):
        raise ApiError(40003, "invalid openid")
    content = json.dumps({name: value for name, value in request.items() if name != "upload_time"}, sort_keys=True)
    known = context.store.row("SELECT * FROM shipping WHERE trade_seq = ?", trade["seq"])
    if known is None:
        context.store.insert(
            "shipping",
            trade_seq=trade["seq"],
            appid=appid,
            content=content,
            uploads=1,
            uploaded_at=beijing(context.clock.now()),
        )
        return
    if known["content"] == content:
        raise ApiError(10060023, "发货信息未更新")
    if known["uploads"] > 1:
        raise ApiError(10060003, "支付单已使用重新发货机会")
    context.store.execute(
        "UPDATE shipping SET content = ?, uploads = 2, uploaded_at = ? WHERE trade_seq = ?",
        *(content, beijing(context.clock.now()), trade["seq"]),
    )


def _check(request: dict[str, Any]) -> None:
    key, items, payer = request.get("order_key"), request.get("shipping_list"), request.get("payer")
    fits = (
        isinstance(key, dict)
        and key.get("order_number_type") in (1, 2)
        and request.get("logistics_type") in (1, 2, 3, 4)
        and request.get("delivery_mode") in (1, 2)
        and isinstance(request.get("upload_time"), str)
        and isinstance(payer, dict)
        and isinstance(items, list)
        and 1 <= len(items) <= MOST_ITEMS
    )
    if not fits or not isinstance(items, list):
        raise ApiError(47001, "data format error")
    for item in items:
        described = item.get("item_desc") if isinstance(item, dict) else None
        if not isinstance(described, str) or not 1 <= len(described) <= MOST_CHARACTERS:
            raise ApiError(47001, "data format error")
        if request["logistics_type"] == 1 and not (item.get("tracking_no") and item.get("express_company")):
            raise ApiError(47001, "data format error")


def _trade(context: Context, appid: str, key: dict[str, Any]) -> dict[str, Any]:
    by_own_number = key["order_number_type"] == 1
    trade = context.store.row(
        "SELECT * FROM trade WHERE CASE WHEN ?1 THEN ?2 IN (mchid, sub_mchid) AND out_trade_no = ?3"
        " ELSE transaction_id = ?4 END",
        *(by_own_number, *(str(key.get(name)) for name in ("mchid", "out_trade_no", "transaction_id"))),
    )
    found = trade is not None and trade["trade_state"] in PAID and appid in (trade["appid"], trade["sub_appid"])
    if trade is None or not found or context.clock.life_s() - (trade["paid_s"] or 0) < KNOWN_AFTER_S:
        raise ApiError(10060001, "支付单不存在")
    return trade


def listing(context: Context) -> list[dict[str, Any]]:
    """What was uploaded, newest first, at most 100."""
    rows = context.store.rows(
        "SELECT shipping.*, out_trade_no FROM shipping JOIN trade ON trade.seq = trade_seq"
        " ORDER BY uploaded_at DESC, trade_seq DESC LIMIT 100"
    )
    return [
        {
            "out_trade_no": row["out_trade_no"],
            "app": row["appid"],
            "uploads": row["uploads"],
            "uploaded_at": row["uploaded_at"],
            **json.loads(row["content"]),
        }
        for row in rows
    ]
