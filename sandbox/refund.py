"""Refunds: asked for by a merchant or made by hand, decided later, told by a notice.

PROCESSING → SUCCESS, CLOSED or ABNORMAL; ABNORMAL → PROCESSING → SUCCESS. Source of the rules: pay.weixin.qq.com,
APIv3, 申请退款, 退款结果通知 and 发起异常退款. Nothing here awaits, so each function is one step.
"""

import hashlib
import json
import secrets
from enum import StrEnum
from typing import Any

from kit.clock import BEIJING
from sandbox import callback, error, fund, parameter, party
from sandbox.clock import beijing
from sandbox.context import Context
from sandbox.error import ControlError, PayError
from sandbox.merchant import Merchant
from sandbox.order import PAID, TradeState

YEAR_S = 365 * 86_400
MAX_REFUNDS = 50
ACCOUNT = "支付用户零钱"


class RefundStatus(StrEnum):
    """status as the query says it, refund_status as the notice does."""

    PROCESSING = "PROCESSING"
    SUCCESS = "SUCCESS"
    CLOSED = "CLOSED"
    ABNORMAL = "ABNORMAL"


_SUMMARIES = {
    RefundStatus.SUCCESS: "退款成功",
    RefundStatus.CLOSED: "退款关闭",
    RefundStatus.ABNORMAL: "退款异常",
}
_MOVES = {
    RefundStatus.PROCESSING: (RefundStatus.SUCCESS, RefundStatus.CLOSED, RefundStatus.ABNORMAL),
    RefundStatus.ABNORMAL: (RefundStatus.SUCCESS, RefundStatus.CLOSED),
    RefundStatus.SUCCESS: (),
    RefundStatus.CLOSED: (),
}
_SELECT = (
    "SELECT refund.*, trade.out_trade_no, trade.transaction_id, trade.total_fen, trade.currency, trade.appid,"
    " trade.openid, trade.product, trade.description, trade.sub_mchid"
    " FROM refund JOIN trade ON trade.seq = refund.trade_seq"
)


def order_number(context: Context, merchant: Merchant, request: dict[str, Any]) -> str | None:
    """The order's number that a request speaks of, whatever else is wrong with it."""
    given = {name: value for name, value in request.items() if isinstance(value, str)}
    if "out_trade_no" in given:
        return given["out_trade_no"]
    trade = _trade_of(context, merchant.mchid, given) if "transaction_id" in given else None
    found = trade or _find(context, merchant.mchid, given.get("out_refund_no", ""))
    return None if found is None else str(found["out_trade_no"])


def _trade_of(context: Context, mchid: str, request: dict[str, Any]) -> dict[str, Any] | None:
    """The order that fits every number given."""
    return context.store.row(
        "SELECT * FROM trade WHERE mchid = ?1 AND (?2 IS NULL OR transaction_id = ?2)"
        " AND (?3 IS NULL OR out_trade_no = ?3)",
        *(mchid, request.get("transaction_id"), request.get("out_trade_no")),
    )


def place(context: Context, merchant: Merchant, request: dict[str, Any]) -> dict[str, Any]:
    """Accept a refund, or find the same one again; answers the row as it stands."""
    parameter.check(request, parameter.REFUND)
    if "transaction_id" not in request and "out_trade_no" not in request:
        raise parameter.wrong("/out_trade_no", None, "transaction_id和out_trade_no不能同时为空")
    if "sub_mchid" in request:
        party.sub_merchant(merchant, request["sub_mchid"])
    with context.store.transaction():
        known = _find(context, merchant.mchid, request["out_refund_no"])
        if known is not None:
            _check_repeat(known, request)
            return known
        trade = _trade_of(context, merchant.mchid, request)
        if trade is None or trade["trade_state"] not in PAID:
            raise error.resource_not_exists()
        if trade["sub_mchid"] != request.get("sub_mchid"):
            raise error.sub_mchid_differs()
        if request["amount"]["total"] != trade["total_fen"]:
            raise PayError(400, "INVALID_REQUEST", "订单金额或退款金额与之前请求不一致，请核实后再试")
        returned_fen = _check_refundable(context, trade, request["amount"]["refund"])
        return _insert(
            context,
            trade,
            fee_fen=returned_fen,
            refund_fen=request["amount"]["refund"],
            out_refund_no=request["out_refund_no"],
            fingerprint=_fingerprint(request),
            reason=request.get("reason"),
            notify_url=request.get("notify_url"),
            funds_account=request.get("funds_account", "AVAILABLE"),
        )


def _fingerprint(request: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _check_repeat(known: dict[str, Any], request: dict[str, Any]) -> None:
    amount = request["amount"]
    if (amount["refund"], amount["total"]) != (known["refund_fen"], known["total_fen"]):
        raise PayError(400, "REFUND_FEE_MISMATCH", "订单金额或退款金额与之前请求不一致，请核实后再试")
    if known["fingerprint"] != _fingerprint(request):
        raise PayError(400, "INVALID_REQUEST", "商户退款单号重复，请求重入时参数不一致")


def _check_refundable(context: Context, trade: dict[str, Any], refund_fen: int) -> int:
    """Refuse what may not go back; answers the commission that goes back with it."""
    if trade["paid_s"] is not None and context.clock.life_s() - trade["paid_s"] > YEAR_S:
        raise PayError(400, "TRADE_OVERDUE", "订单已经超过可退款的最大期限")
    standing = context.store.row(
        "SELECT count(*) AS number, coalesce(sum(refund_fen), 0) AS fen FROM refund"
        " WHERE trade_seq = ? AND status <> 'CLOSED'",
        trade["seq"],
    ) or {"number": 0, "fen": 0}
    if standing["number"] >= MAX_REFUNDS:
        raise PayError(400, "INVALID_REQUEST", "该订单退款次数已达上限50次")
    if standing["fen"] + refund_fen > trade["total_fen"]:
        raise PayError(400, "INVALID_REQUEST", "累计退款金额大于订单支付金额")
    returned_fen = fund.returned_fen(trade, standing["fen"], refund_fen)
    if refund_fen - returned_fen > fund.balance_fen(context, trade["mchid"]):
        raise PayError(403, "NOT_ENOUGH", "基本账户余额不足，请充值后重新发起")
    return returned_fen


def _insert(context: Context, trade: dict[str, Any], **values: Any) -> dict[str, Any]:
    """The refund, on its way; the order's state is REFUND from now on."""
    now = context.clock.now()
    asked = context.faults.take("refund_outcome", trade["out_trade_no"]) or {}
    outcome = asked.get("outcome") or RefundStatus.SUCCESS
    due_ms = None
    if outcome != RefundStatus.PROCESSING:
        delay_s = asked["delay_s"] if asked.get("delay_s") is not None else context.config.refund_s
        due_ms = context.clock.tick_ms() + delay_s * 1000
    seq = context.store.insert(
        "refund",
        trade_seq=trade["seq"],
        mchid=trade["mchid"],
        refund_id=f"50{secrets.randbelow(10**9):09d}{now.astimezone(BEIJING):%Y%m%d}{secrets.randbelow(10**10):010d}",
        by_hand=int(values["fingerprint"] is None),
        status=RefundStatus.PROCESSING,
        outcome=outcome,
        due_ms=due_ms,
        created_at=beijing(now),
        **values,
    )
    context.store.execute("UPDATE trade SET trade_state = ? WHERE seq = ?", TradeState.REFUND, trade["seq"])
    context.decider.wake()
    return by_seq(context, seq)


def by_seq(context: Context, seq: int) -> dict[str, Any]:
    """The refund with its order's facts."""
    row = context.store.row(f"{_SELECT} WHERE refund.seq = ?", seq)
    if row is None:
        raise LookupError("no such refund")
    return row


def _find(context: Context, mchid: str, out_refund_no: str) -> dict[str, Any] | None:
    return context.store.row(f"{_SELECT} WHERE refund.mchid = ? AND out_refund_no = ?", mchid, out_refund_no)


def query(context: Context, merchant: Merchant, out_refund_no: str, sub_mchid: str | None) -> dict[str, Any]:
    """The refund; RESOURCE_NOT_EXISTS when it was not accepted, and for another merchant's too."""
    row = _find(context, merchant.mchid, out_refund_no)
    if row is None or (row["sub_mchid"] is not None and row["sub_mchid"] != sub_mchid):
        raise error.resource_not_exists("退款单不存在")
    return row


def document(row: dict[str, Any]) -> dict[str, Any]:
    """A refund as the API's answers tell it. No coupons here, so what was paid is the order's total."""
    refund, total = row["refund_fen"], row["total_fen"]
    told: dict[str, Any] = {
        "refund_id": row["refund_id"],
        "out_refund_no": row["out_refund_no"],
        "transaction_id": row["transaction_id"],
        "out_trade_no": row["out_trade_no"],
        "channel": "ORIGINAL",
        "user_received_account": ACCOUNT,
        "create_time": row["created_at"],
        "status": row["status"],
        "funds_account": row["funds_account"],
        "amount": {
            "total": total,
            "refund": refund,
            "from": [],
            "payer_total": total,
            "payer_refund": refund,
            "settlement_refund": refund,
            "settlement_total": total,
            "discount_refund": 0,
            "currency": row["currency"],
        },
        "promotion_detail": [],
    }
    if row["success_time"] is not None:
        told["success_time"] = row["success_time"]
    return told


def decide(context: Context, seq: int, status: RefundStatus | None = None) -> int | None:
    """Bring a refund to ``status`` (None: to the outcome it was given) and tell of it; answers the notice's number.

    A step that is not possible refuses with 409; without an address there is no notice.
    """
    with context.store.transaction():
        row = by_seq(context, seq)
        new = RefundStatus(status or row["outcome"])
        if new not in _MOVES[RefundStatus(row["status"])]:
            raise ControlError(409, "refund_decided", "退款已有结果，不能改为这个状态。", refund_status=row["status"])
        now = beijing(context.clock.now())
        context.store.execute(
            "UPDATE refund SET status = ?, success_time = ?, decided_at = ?, due_ms = NULL WHERE seq = ?",
            *(new, now if new is RefundStatus.SUCCESS else None, now, seq),
        )
        return _notify(context, by_seq(context, seq))


def _notify(context: Context, row: dict[str, Any]) -> int | None:
    notify_url, form = row["notify_url"], "json"
    if notify_url is None:
        merchant = context.merchants.get(row["mchid"])
        notify_url, form = merchant.refund_notify_url if merchant else None, "xml"
    if notify_url is None:
        return None
    return callback.create(
        context,
        mchid=row["mchid"],
        out_trade_no=row["out_trade_no"],
        notify_url=notify_url,
        event_type=f"REFUND.{row['status']}",
        original_type="refund",
        summary=_SUMMARIES[row["status"]],
        resource=told_by_notice(row),
        form=form,
    )


def told_by_notice(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of a notice: ``refund_status`` instead of ``status``, and no currency."""
    parties = {"mchid": row["mchid"]}
    if row["sub_mchid"] is not None:
        parties = {"sp_mchid": row["mchid"], "sub_mchid": row["sub_mchid"]}
    refund, total = row["refund_fen"], row["total_fen"]
    told: dict[str, Any] = {
        **parties,
        "out_trade_no": row["out_trade_no"],
        "transaction_id": row["transaction_id"],
        "out_refund_no": row["out_refund_no"],
        "refund_id": row["refund_id"],
        "refund_status": row["status"],
        "user_received_account": ACCOUNT,
        "amount": {"total": total, "refund": refund, "payer_total": total, "payer_refund": refund},
    }
    if row["success_time"] is not None:
        told["success_time"] = row["success_time"]
    return told


def repair_abnormal(context: Context, merchant: Merchant, refund_id: str, request: dict[str, Any]) -> dict[str, Any]:
    """An abnormal refund goes on its way again, to another account; it will succeed."""
    parameter.check(request, parameter.ABNORMAL_REFUND)
    with context.store.transaction():
        row = context.store.row(f"{_SELECT} WHERE refund.mchid = ? AND refund_id = ?", merchant.mchid, refund_id)
        if row is None or row["out_refund_no"] != request["out_refund_no"]:
            raise error.resource_not_exists("退款单不存在")
        if row["sub_mchid"] != request.get("sub_mchid"):
            raise error.sub_mchid_differs()
        if row["status"] != RefundStatus.ABNORMAL:
            raise PayError(400, "INVALID_REQUEST", "退款单状态不是退款异常，不能发起异常退款")
        due_ms = context.clock.tick_ms() + context.config.refund_s * 1000
        context.store.execute(
            "UPDATE refund SET status = ?, outcome = ?, due_ms = ? WHERE seq = ?",
            *(RefundStatus.PROCESSING, RefundStatus.SUCCESS, due_ms, row["seq"]),
        )
    context.decider.wake()
    return by_seq(context, row["seq"])


def make_by_hand(
    context: Context,
    *,
    out_trade_no: str,
    amount_fen: int,
    mchid: str | None = None,
    reason: str | None = None,
    notify_url: str | None = None,
) -> dict[str, Any]:
    """A refund made at the merchant platform's web site; WeChat makes its out_refund_no up."""
    with context.store.transaction():
        found = context.store.rows(
            "SELECT * FROM trade WHERE out_trade_no = ?1 AND (?2 IS NULL OR mchid = ?2)", out_trade_no, mchid
        )
        if len(found) > 1:
            raise ControlError(409, "order_ambiguous", "几个商户都有这个订单号，请指明 mchid。")
        if not found or found[0]["trade_state"] not in PAID:
            raise ControlError(404, "order_not_paid", "没有这个已支付的订单。")
        try:
            returned_fen = _check_refundable(context, found[0], amount_fen)
        except PayError as refused:
            raise ControlError(409, "refund_refused", refused.message, wechat_code=refused.code) from refused
        return _insert(
            context,
            found[0],
            fee_fen=returned_fen,
            refund_fen=amount_fen,
            out_refund_no=f"{context.clock.now().astimezone(BEIJING):%Y%m%d%H%M%S}{secrets.randbelow(10**12):012d}",
            fingerprint=None,
            reason=reason,
            notify_url=notify_url,
            funds_account="AVAILABLE",
        )


def decide_by_hand(context: Context, refund_id: str, status: str) -> dict[str, Any]:
    """What WeChat, or its customer service, decides: SUCCESS, CLOSED or ABNORMAL."""
    row = context.store.row("SELECT seq FROM refund WHERE refund_id = ?", refund_id)
    if row is None:
        raise ControlError(404, "refund_unknown", "没有这个退款单。")
    if status not in _SUMMARIES:
        raise ControlError(422, "invalid_input", "没有这个结果。", fields=["status"], known=list(_SUMMARIES))
    decide(context, row["seq"], RefundStatus(status))
    return view(by_seq(context, row["seq"]))


def listing(
    context: Context, out_trade_no: str | None = None, status: str | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """Refunds newest first."""
    rows = context.store.rows(
        f"{_SELECT} WHERE (?1 IS NULL OR out_trade_no = ?1) AND (?2 IS NULL OR status = ?2)"
        " ORDER BY refund.seq DESC LIMIT ?3",
        *(out_trade_no, status, limit),
    )
    return [view(row) for row in rows]


def view(row: dict[str, Any]) -> dict[str, Any]:
    """A refund as the control routes show it."""
    columns = (
        *("mchid", "sub_mchid", "out_trade_no", "transaction_id", "out_refund_no", "refund_id", "status", "reason"),
        *("refund_fen", "total_fen", "notify_url", "created_at", "success_time"),
    )
    return {**{name: row[name] for name in columns}, "by_hand": bool(row["by_hand"])}
