"""Refunds at WeChat Pay: what is sent, and what an answer or a notice says.

Source of the protocol: pay.weixin.qq.com/doc/v3/merchant, JSAPI payment: 申请退款, 查询单笔退款, 退款结果通知.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from payments.gateways.base import GatewayError, OutcomeUnknown, RefundFact, RefundStatus

_STATUSES = {
    "PROCESSING": RefundStatus.PROCESSING,
    "SUCCESS": RefundStatus.SUCCESS,
    "ABNORMAL": RefundStatus.ABNORMAL,
    "CLOSED": RefundStatus.CLOSED,
}


class NextStep(StrEnum):
    """What to do about a refund that was sent and not taken on."""

    ASK = "ask"  # it may have been accepted: ask, and send the same again when it was not
    LATER = "later"  # surely not accepted, and nobody needs to change it: the same again later, and tell finance
    STUCK = "stuck"  # sending the same again is of no use: finance decides


# The account is short, or our own clock or key is wrong: the refund itself is fine.
_LATER_CODES = frozenset({"NOT_ENOUGH", "NOTENOUGH", "SIGN_ERROR"})
# Documented without a status: it decides, whatever it comes with.
TOO_OLD = "TRADE_OVERDUE"


def next_step(error: GatewayError) -> NextStep:
    """The step that follows from an error of sending. Only a refusal by name ever makes a refund stuck."""
    if error.code == TOO_OLD:
        return NextStep.STUCK
    if isinstance(error, OutcomeUnknown):
        return NextStep.ASK
    return NextStep.LATER if error.code in _LATER_CODES else NextStep.STUCK


def refund_request(
    *,
    sub_mchid: str | None,
    transaction_id: str,
    out_refund_no: str,
    reason: str,
    notify_url: str,
    amount_fen: int,
    total_fen: int,
) -> str:
    """The exact JSON body of a refund; kept with the attempt, so that a repeat is the same to the byte. ``sub_mchid``
    is set in partner mode only. The currency is required here."""
    document: dict[str, Any] = {"sub_mchid": sub_mchid} if sub_mchid else {}
    document |= {
        "transaction_id": transaction_id,
        "out_refund_no": out_refund_no,
        "reason": reason,
        "notify_url": notify_url,
        "amount": {"refund": amount_fen, "total": total_fen, "currency": "CNY"},
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def refund_fact(resource: Mapping[str, Any]) -> RefundFact:
    """The fact in a decrypted refund notice, or in the answer to a refund or a query. ValueError names the first field
    that does not fit. A notice calls the status ``refund_status``, an answer ``status``."""
    amount = resource.get("amount")
    if not isinstance(amount, dict):
        raise ValueError("amount")
    status = _STATUSES.get(str(resource.get("refund_status", resource.get("status"))))
    if status is None:
        raise ValueError("status")
    partner = "sp_mchid" in resource
    currency = amount.get("currency")
    return RefundFact(
        status=status,
        mchid=_optional(resource, "sp_mchid" if partner else "mchid"),
        sub_mchid=_optional(resource, "sub_mchid"),
        out_trade_no=_text(resource, "out_trade_no"),
        transaction_id=_text(resource, "transaction_id"),
        out_refund_no=_text(resource, "out_refund_no"),
        refund_id=_text(resource, "refund_id"),
        amount_fen=_fen(amount, "refund"),
        total_fen=_fen(amount, "total"),
        currency=str(currency) if currency is not None else None,
        succeeded_at=_instant(resource) if status is RefundStatus.SUCCESS else None,
    )


def _instant(resource: Mapping[str, Any]) -> datetime:
    try:
        instant = datetime.fromisoformat(_text(resource, "success_time"))
    except ValueError:
        raise ValueError("success_time") from None
    if instant.tzinfo is None:
        raise ValueError("success_time")
    return instant


def _fen(amount: Mapping[str, Any], name: str) -> int:
    fen = amount.get(name)
    if not isinstance(fen, int) or isinstance(fen, bool) or fen <= 0:
        raise ValueError(f"amount.{name}")
    return fen


def _text(resource: Mapping[str, Any], name: str) -> str:
    value = resource.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 64:
        raise ValueError(name)
    return value


def _optional(resource: Mapping[str, Any], name: str) -> str | None:
    return _text(resource, name) if resource.get(name) is not None else None
