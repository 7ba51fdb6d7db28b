"""Orders: placed by a merchant, paid by a person, queried and closed.

NOTPAY → SUCCESS → REFUND and NOTPAY → CLOSED. Nothing here awaits, so each function is one step.
"""

import hashlib
import json
import secrets
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from kit.clock import BEIJING
from sandbox import callback, error, fund, parameter, party
from sandbox.clock import beijing
from sandbox.context import Context
from sandbox.error import ControlError
from sandbox.merchant import Merchant
from sandbox.party import Party

PREPAY_LIFE_S = 2 * 3600
DAY_S = 86_400
DEFAULT_EXPIRY_S = 7 * DAY_S
LEAST_EXPIRY_S = 60
MAX_EXPIRY_S = {"JSAPI": 15 * DAY_S, "NATIVE": 7 * DAY_S}
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
CODE_URL = "weixin://wxpay/bizpayurl?pr="


class TradeState(StrEnum):
    """trade_state as the query says it."""

    NOTPAY = "NOTPAY"
    SUCCESS = "SUCCESS"
    REFUND = "REFUND"
    CLOSED = "CLOSED"


_DESCRIPTIONS = {
    TradeState.NOTPAY: "订单未支付",
    TradeState.SUCCESS: "支付成功",
    TradeState.REFUND: "转入退款",
    TradeState.CLOSED: "订单已关闭",
}
PAID = (TradeState.SUCCESS, TradeState.REFUND)


def place(context: Context, who: Party, product: str, request: dict[str, Any]) -> str:
    """Record the order, or find the same one again; answers a fresh prepay_id (JSAPI) or code_url (NATIVE).

    ``request`` has been checked against its table, and ``who`` was read from it.
    """
    with context.store.transaction():
        trade = _find(context, who.mchid, request["out_trade_no"])
        if trade is None:
            seq, expires_s = _insert(context, who, product, request)
        else:
            _check_repeat(context, trade, product, request)
            seq, expires_s = trade["seq"], trade["expires_s"]
        return _make_token(context, product, seq, expires_s)


def _check_repeat(context: Context, trade: dict[str, Any], product: str, request: dict[str, Any]) -> None:
    if trade["trade_state"] in PAID:
        raise error.order_paid()
    if trade["trade_state"] == TradeState.CLOSED or context.clock.life_s() > trade["expires_s"]:
        raise error.order_closed()
    if trade["fingerprint"] != _fingerprint(product, request):
        raise error.out_trade_no_used()


def _fingerprint(product: str, request: dict[str, Any]) -> str:
    # An absent currency means CNY, so both spellings are the same request.
    same = {**request, "amount": {"currency": "CNY", **request["amount"]}}
    return hashlib.sha256(f"{product}{json.dumps(same, sort_keys=True)}".encode()).hexdigest()


def _insert(context: Context, who: Party, product: str, request: dict[str, Any]) -> tuple[int, int]:
    now = context.clock.now()
    left_s = DEFAULT_EXPIRY_S
    if "time_expire" in request:
        left_s = int((_instant(request["time_expire"]) - now).total_seconds())
    # Too soon and too late are silently put right, as WeChat does.
    left_s = min(max(left_s, LEAST_EXPIRY_S), MAX_EXPIRY_S[product])
    expires_s = context.clock.life_s() + left_s
    seq = context.store.insert(
        "trade",
        **who.columns(),
        out_trade_no=request["out_trade_no"],
        product=product,
        fingerprint=_fingerprint(product, request),
        description=request["description"],
        attach=request.get("attach"),
        notify_url=request["notify_url"],
        total_fen=request["amount"]["total"],
        currency=request["amount"].get("currency", "CNY"),
        created_at=beijing(now),
        time_expire=beijing(now + timedelta(seconds=left_s)),
        expires_s=expires_s,
        trade_state=TradeState.NOTPAY,
    )
    return seq, expires_s


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as unreadable:
        raise parameter.wrong("/time_expire", text, "time_expire不是一个有效的时间") from unreadable


def _make_token(context: Context, product: str, seq: int, expires_s: int) -> str:
    if product == "NATIVE":
        # A new code kills the old one; a new prepay_id lives beside it.
        context.store.execute("DELETE FROM prepay WHERE trade_seq = ?", seq)
        token = CODE_URL + _random(9)
    else:
        token = f"wx{context.clock.now().astimezone(BEIJING):%Y%m%d%H%M%S}{_random(20)}"
    lives_until = context.clock.life_s() + PREPAY_LIFE_S
    context.store.insert("prepay", prepay_id=token, trade_seq=seq, expires_s=lives_until)
    return token


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _find(context: Context, mchid: str, out_trade_no: str) -> dict[str, Any] | None:
    return context.store.row("SELECT * FROM trade WHERE mchid = ? AND out_trade_no = ?", mchid, out_trade_no)


def query(
    context: Context,
    merchant: Merchant,
    *,
    sub_mchid: str | None = None,
    out_trade_no: str = "",
    transaction_id: str = "",
) -> dict[str, Any]:
    """The order as WeChat's query tells it; ORDER_NOT_EXIST for another merchant's too."""
    trade = (
        context.store.row("SELECT * FROM trade WHERE mchid = ? AND transaction_id = ?", merchant.mchid, transaction_id)
        if transaction_id
        else _find(context, merchant.mchid, out_trade_no)
    )
    return document(_of_sub_merchant(trade, sub_mchid))


def _of_sub_merchant(trade: dict[str, Any] | None, sub_mchid: str | None) -> dict[str, Any]:
    # A partner's order does not exist for the direct routes, nor a direct one for the partner's.
    if trade is None or (trade["sub_mchid"] is None) != (sub_mchid is None):
        raise error.order_not_exist()
    if trade["sub_mchid"] != sub_mchid:
        raise error.sub_mchid_differs()
    return trade


def document(trade: dict[str, Any]) -> dict[str, Any]:
    """The fields of a payment, in query and callback alike; an unpaid order has fewer."""
    state = TradeState(trade["trade_state"])
    told: dict[str, Any] = {
        **party.told(trade),
        "out_trade_no": trade["out_trade_no"],
        "trade_state": state,
        "trade_state_desc": _DESCRIPTIONS[state],
        "amount": {"total": trade["total_fen"], "currency": trade["currency"]},
    }
    if state not in PAID:
        return told
    told |= {
        "transaction_id": trade["transaction_id"],
        "trade_type": trade["product"],
        "bank_type": "OTHERS",
        "success_time": trade["success_time"],
        "payer": party.payer(trade),
    }
    told["amount"] |= {"payer_total": trade["total_fen"], "payer_currency": trade["currency"]}
    if trade["attach"] is not None:
        told["attach"] = trade["attach"]
    return told


def close(context: Context, merchant: Merchant, out_trade_no: str, sub_mchid: str | None = None) -> None:
    """Close an unpaid order; again is the same, a paid one refuses."""
    trade = _of_sub_merchant(_find(context, merchant.mchid, out_trade_no), sub_mchid)
    if trade["trade_state"] in PAID:
        raise error.order_paid()
    context.store.execute("UPDATE trade SET trade_state = ? WHERE seq = ?", TradeState.CLOSED, trade["seq"])


def pay(
    context: Context, token: str, openid: str | None = None, success_time: str | None = None
) -> tuple[dict[str, Any], int]:
    """The person pays: once, in time, by a living prepay_id. Answers the order and the callback's number.

    ``openid`` may be left out for a JSAPI order, whose payer was named when it was placed. ``success_time`` writes
    another, earlier instant of payment down, for what a day's end parts.
    """
    with context.store.transaction():
        found = context.store.row("SELECT * FROM prepay WHERE prepay_id = ?", token)
        if found is None:
            raise ControlError(404, "prepay_unknown", "没有这个预支付单。")
        trade = context.store.row("SELECT * FROM trade WHERE seq = ?", found["trade_seq"]) or {}
        columns = _check_payable(context, found, trade, openid)
        wrong = context.faults.take("wrong_amount_order", trade["out_trade_no"])
        total_fen = wrong["amount_fen"] if wrong else trade["total_fen"]
        merchant = context.merchants.get(trade["mchid"])
        rate_bp = merchant.fee_rate_bp if merchant else 0
        now = context.clock.now()
        paid_at = _paid_at(success_time, now)
        context.store.execute(
            "UPDATE trade SET trade_state = ?, transaction_id = ?, success_time = ?, openid = ?, sub_openid = ?,"
            " paid_s = ?, total_fen = ?, fee_fen = ?, fee_rate_bp = ? WHERE seq = ?",
            *(TradeState.SUCCESS, _make_transaction_id(paid_at), beijing(paid_at), *columns),
            *(context.clock.life_s() - int((now - paid_at).total_seconds()), total_fen),
            *(fund.commission_fen(total_fen, rate_bp), rate_bp, trade["seq"]),
        )
        paid = context.store.row("SELECT * FROM trade WHERE seq = ?", trade["seq"]) or {}
        callback_seq = callback.create(
            context,
            mchid=paid["mchid"],
            out_trade_no=paid["out_trade_no"],
            notify_url=paid["notify_url"],
            event_type="TRANSACTION.SUCCESS",
            original_type="transaction",
            summary="支付成功",
            resource=document(paid),
        )
    return paid, callback_seq


def _paid_at(success_time: str | None, now: datetime) -> datetime:
    if success_time is None:
        return now
    try:
        paid_at = datetime.fromisoformat(success_time)
    except ValueError:
        paid_at = now + timedelta(days=1)
    if paid_at.tzinfo is None or not now - timedelta(days=2 * 365) <= paid_at <= now:
        raise ControlError(422, "invalid_input", "支付时间需为过去两年内带时区的时间。", fields=["success_time"])
    return paid_at


def _check_payable(
    context: Context, prepay: dict[str, Any], trade: dict[str, Any], openid: str | None
) -> tuple[str | None, str | None]:
    """The payer, as the order's openid and sub_openid."""
    if trade["trade_state"] in PAID:
        raise ControlError(409, "order_paid", "该订单已支付。", out_trade_no=trade["out_trade_no"])
    if trade["trade_state"] == TradeState.CLOSED:
        raise ControlError(409, "order_closed", "该订单已关闭。", out_trade_no=trade["out_trade_no"])
    if context.clock.life_s() > trade["expires_s"]:
        raise ControlError(409, "order_expired", "该订单已过支付截止时间。", time_expire=trade["time_expire"])
    if context.clock.life_s() > prepay["expires_s"]:
        raise ControlError(409, "prepay_expired", "预支付单已过两小时，请重新下单。")
    payer = party.named_payer(trade) or openid
    if payer is None:
        raise ControlError(422, "openid_missing", "扫码支付需要指明付款人 openid。")
    if openid is not None and openid != payer:
        raise ControlError(409, "payer_differs", "下单时指定了另一位付款人。")
    app = party.may_pay(context, trade, payer)
    if app is None:
        raise ControlError(409, "payer_differs", "付款人不属于下单的应用。")
    return (payer, trade["sub_openid"]) if app == trade["appid"] else (trade["openid"], payer)


def _make_transaction_id(now: datetime) -> str:
    return f"42000{secrets.randbelow(10**5):05d}{now.astimezone(BEIJING):%Y%m%d}{secrets.randbelow(10**10):010d}"


def latest_token(context: Context, seq: int) -> str | None:
    """The order's token that lives longest."""
    found = context.store.row(
        "SELECT prepay_id FROM prepay WHERE trade_seq = ? ORDER BY expires_s DESC, prepay_id DESC LIMIT 1", seq
    )
    return None if found is None else str(found["prepay_id"])


def listing(context: Context, state: str | None, before: int | None, limit: int) -> list[dict[str, Any]]:
    """Orders newest first, ``limit`` at most, older than row number ``before``."""
    rows = context.store.rows(
        "SELECT * FROM trade WHERE (?1 IS NULL OR trade_state = ?1) AND (?2 IS NULL OR seq < ?2)"
        " ORDER BY seq DESC LIMIT ?3",
        *(state, before, limit),
    )
    return [_view(context, row) for row in rows]


def _view(context: Context, trade: dict[str, Any]) -> dict[str, Any]:
    columns = (
        *(
            "mchid",
            "appid",
            "sub_mchid",
            "sub_appid",
            "openid",
            "out_trade_no",
            "transaction_id",
            "product",
            "trade_state",
            "description",
        ),
        *("attach", "total_fen", "currency", "notify_url", "created_at", "time_expire", "success_time"),
    )
    expired = context.clock.life_s() > trade["expires_s"]
    return {
        **{name: trade[name] for name in columns},
        "seq": trade["seq"],
        "expired": expired and trade["trade_state"] == TradeState.NOTPAY,
        "prepay_id": latest_token(context, trade["seq"]),
    }
