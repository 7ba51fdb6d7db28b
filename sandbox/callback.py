"""Callbacks: what is to be told, to whom, and what faults make of it. The delivering is ``delivery.py``'s."""

import json
from collections.abc import Callable
from typing import Any

from kit import ids
from sandbox.clock import beijing
from sandbox.config import origin_of
from sandbox.context import Context
from sandbox.error import ControlError

MAX_RESEND = 1000


def _lie_amount(resource: dict[str, Any], params: dict[str, Any]) -> None:
    amount = resource["amount"]
    names = ("refund", "payer_refund") if "refund" in amount else ("total", "payer_total")
    amount.update(dict.fromkeys(names, params["amount_fen"]))


def _lie_currency(resource: dict[str, Any], params: dict[str, Any]) -> None:
    resource["amount"] |= {"currency": params["currency"], "payer_currency": params["currency"]}


def _lie_party(name: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def lie(resource: dict[str, Any], params: dict[str, Any]) -> None:
        # A service provider's callbacks call it sp_mchid and sp_appid.
        resource[name if name in resource else f"sp_{name}"] = params[name]

    return lie


_LIES: dict[str, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    "wrong_amount": _lie_amount,
    "wrong_currency": _lie_currency,
    "wrong_mchid": _lie_party("mchid"),
    "wrong_appid": _lie_party("appid"),
}
# What a refund's notice does not say, no fault can make it say wrongly.
_NOT_OF_REFUNDS = ("wrong_currency", "wrong_appid")


def create(
    context: Context,
    *,
    mchid: str,
    out_trade_no: str,
    notify_url: str,
    event_type: str,
    original_type: str,
    summary: str,
    resource: dict[str, Any],
    form: str = "json",
) -> int:
    """Record a callback, due at once unless a fault says otherwise; answers its number. No await: part of the event.

    An address outside ``api_base`` is recorded as refused and never called. ``form`` xml is the old notice of a refund.
    """
    told = json.loads(json.dumps(resource))
    for kind, lie in _LIES.items():
        if original_type == "refund" and kind in _NOT_OF_REFUNDS:
            continue
        params = context.faults.take(kind, out_trade_no, original_type)
        if params is not None:
            lie(told, params)
    treatment = _treatment(context, out_trade_no, original_type)
    state, due_ms = "pending", context.clock.tick_ms()
    group = _group(context, out_trade_no, original_type)
    if group is not None:
        treatment["group"], state = group, "held"
    late = context.faults.take("late", out_trade_no, original_type)
    if late is not None:
        due_ms += late["delay_s"] * 1000
    if context.faults.take("lost", out_trade_no, original_type) is not None:
        state = "lost"
    if origin_of(notify_url) != origin_of(context.config.api_base):
        state = "refused"
    seq = context.store.insert(
        "callback",
        id=str(ids.new_id()),
        mchid=mchid,
        out_trade_no=out_trade_no,
        event_type=event_type,
        original_type=original_type,
        summary=summary,
        resource=json.dumps(told, ensure_ascii=False, separators=(",", ":")),
        notify_url=notify_url,
        format=form,
        create_time=beijing(context.clock.now()),
        treatment=json.dumps(treatment),
        state=state,
        due_ms=due_ms if state == "pending" else None,
    )
    if group is not None:
        _release_full_group(context)
    context.courier.wake()
    return seq


def _held(context: Context) -> list[dict[str, Any]]:
    return context.store.rows("SELECT seq, treatment FROM callback WHERE state = 'held' ORDER BY seq DESC")


def _group(context: Context, out_trade_no: str, of: str) -> dict[str, Any] | None:
    """The group whose order is turned round and to which this callback belongs, a new one if a fault says so."""
    for row in _held(context):
        group: dict[str, Any] = json.loads(row["treatment"])["group"]
        return group if group["out_trade_no"] in (None, out_trade_no) and group.get("of") in (None, of) else None
    return context.faults.take("reorder", out_trade_no, of)


def _release_full_group(context: Context) -> None:
    held = _held(context)
    if len(held) >= json.loads(held[0]["treatment"])["group"]["count"]:
        release_held(context)


def release_held(context: Context) -> None:
    """Deliver what was held back, the last first, each one after the first delivery of the one before."""
    before = None
    for row in _held(context):
        treatment = json.dumps({**json.loads(row["treatment"]), "after": before})
        context.store.execute(
            "UPDATE callback SET state = 'pending', due_ms = ?, treatment = ? WHERE seq = ?",
            *(context.clock.tick_ms(), treatment, row["seq"]),
        )
        before = row["seq"]
    context.courier.wake()


def _treatment(context: Context, out_trade_no: str, of: str) -> dict[str, Any]:
    treatment: dict[str, Any] = {}
    duplicate = context.faults.take("duplicate", out_trade_no, of)
    if duplicate is not None:
        treatment["copies"] = duplicate["count"]
    if context.faults.take("certificate_signed", out_trade_no, of) is not None:
        treatment["key"] = "certificate"
    stale = context.faults.take("stale", out_trade_no, of)
    if stale is not None:
        treatment["age_s"] = stale["age_s"]
    if context.faults.take("unknown_serial", out_trade_no, of) is not None:
        treatment["first_signature"] = "unknown"
    if context.faults.take("signtest", out_trade_no, of) is not None:
        treatment["first_signature"] = "probe"
    return treatment


async def resend(context: Context, notification_id: str, times: int, parallel: bool) -> list[int | None]:
    """Send a callback again ``times`` times; a lost one may be sent so too, a refused one never."""
    row = context.store.row("SELECT * FROM callback WHERE id = ?", notification_id)
    if row is None:
        raise ControlError(404, "callback_unknown", "没有这条回调。")
    if row["state"] == "refused":
        message = "通知地址不在 --api 之下，不会被调用。"
        raise ControlError(409, "callback_refused", message, notify_url=row["notify_url"])
    return await context.courier.resend(row, times, parallel)


def listing(context: Context, out_trade_no: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """Callbacks with their attempts, newest first."""
    if out_trade_no is None:
        rows = context.store.rows("SELECT * FROM callback ORDER BY seq DESC LIMIT ?", limit)
    else:
        rows = context.store.rows(
            "SELECT * FROM callback WHERE out_trade_no = ? ORDER BY seq DESC LIMIT ?", out_trade_no, limit
        )
    return [_view(context, row) for row in rows]


def _view(context: Context, row: dict[str, Any]) -> dict[str, Any]:
    attempts = context.store.rows(
        "SELECT at, reason, signature, status, error, answer FROM callback_attempt WHERE callback_seq = ? ORDER BY seq",
        row["seq"],
    )
    due_ms = row["due_ms"]
    return {
        "id": row["id"],
        "event_type": row["event_type"],
        "mchid": row["mchid"],
        "out_trade_no": row["out_trade_no"],
        "notify_url": row["notify_url"],
        "format": row["format"],
        "create_time": row["create_time"],
        "state": row["state"],
        "due_in_s": None if due_ms is None else max(-((context.clock.tick_ms() - due_ms) // 1000), 0),
        "resource": json.loads(row["resource"]),
        "attempts": attempts,
    }
