"""A merchant's money at WeChat: commission, what flowed in and out, and the balance.

Commission is taken from a payment at once, rounded half up to the fen, and returned with a refund in proportion, so
that refunding all of it returns all of it. Source: pay.weixin.qq.com, APIv3, 申请资金账单; 手续费规则.
"""

from typing import Any

from kit import ids
from kit.money import format_yuan
from sandbox.clock import beijing
from sandbox.context import Context
from sandbox.error import ControlError

ACCOUNTS = ("BASIC", "OPERATION", "FEES")


def commission_fen(total_fen: int, rate_bp: int) -> int:
    """What WeChat keeps of a payment."""
    return (2 * total_fen * rate_bp + 10_000) // 20_000


def returned_fen(trade: dict[str, Any], refunded_fen: int, refund_fen: int) -> int:
    """What WeChat gives back of its commission when ``refund_fen`` follows ``refunded_fen`` that went before."""

    def until(fen: int) -> int:
        return (2 * int(trade["fee_fen"]) * fen + int(trade["total_fen"])) // (2 * int(trade["total_fen"]))

    return until(refunded_fen + refund_fen) - until(refunded_fen)


def balance_fen(context: Context, mchid: str) -> int:
    """What lies in the basic account: payments less commission, less refunds under way or done, and movements."""
    row = context.store.row(
        "SELECT coalesce((SELECT sum(total_fen - fee_fen) FROM trade WHERE mchid = ?1 AND success_time IS NOT NULL), 0)"
        " - coalesce((SELECT sum(refund_fen - fee_fen) FROM refund WHERE mchid = ?1 AND status <> 'CLOSED'), 0)"
        " + coalesce((SELECT sum(amount_fen) FROM movement WHERE mchid = ?1 AND account = 'BASIC'), 0) AS fen",
        mchid,
    )
    return 0 if row is None else int(row["fen"])


def move(context: Context, mchid: str, amount_fen: int, account: str) -> dict[str, Any]:
    """Money put in by the merchant, or (negative) drawn out; answers the basic account's balance."""
    if context.merchants.get(mchid) is None:
        raise ControlError(404, "merchant_unknown", "没有登记这个商户号。")
    if account not in ACCOUNTS or amount_fen == 0:
        raise ControlError(422, "invalid_input", "金额或账户有误。", fields=["amount_fen", "account"])
    context.store.insert(
        "movement",
        mchid=mchid,
        account=account,
        amount_fen=amount_fen,
        number=str(ids.new_id()).replace("-", ""),
        moved_at=beijing(context.clock.now()),
    )
    return {"mchid": mchid, "balance_fen": balance_fen(context, mchid)}


def flows(context: Context, mchid: str, account: str) -> list[dict[str, Any]]:
    """Everything that flowed, oldest first: at, number, name, amount_fen with its sign, note, voucher, out_trade_no."""
    found: list[dict[str, Any]] = [
        _flow(row["moved_at"], row["number"], "充值" if row["amount_fen"] > 0 else "提现", row["amount_fen"])
        for row in context.store.rows("SELECT * FROM movement WHERE mchid = ? AND account = ?", mchid, account)
    ]
    if account == "BASIC":
        found += _of_payments(context, mchid) + _of_refunds(context, mchid)
    # Stable: what happened in one second stays in the order in which it was put down.
    return sorted(found, key=lambda flow: str(flow["at"]))


def _of_payments(context: Context, mchid: str) -> list[dict[str, Any]]:
    found = []
    for row in context.store.rows(
        "SELECT * FROM trade WHERE mchid = ? AND success_time IS NOT NULL ORDER BY seq", mchid
    ):
        said = (row["success_time"], row["transaction_id"])
        order = (row["out_trade_no"], row["out_trade_no"])
        found.append(_flow(*said, "交易", row["total_fen"], "结算总金额", *order))
        if row["fee_fen"]:
            found.append(_flow(*said, "扣除交易手续费", -row["fee_fen"], "结算手续费", *order))
    return found


def _of_refunds(context: Context, mchid: str) -> list[dict[str, Any]]:
    found = []
    for row in context.store.rows(
        "SELECT refund.*, out_trade_no FROM refund JOIN trade ON trade.seq = trade_seq WHERE refund.mchid = ?"
        " ORDER BY refund.seq",
        mchid,
    ):
        net = row["refund_fen"] - row["fee_fen"]
        note = f"退款总金额{format_yuan(row['refund_fen'])}元;含手续费{format_yuan(row['fee_fen'])}元"
        said = (row["out_refund_no"], row["out_trade_no"])
        found.append(_flow(row["created_at"], row["refund_id"], "退款", -net, note, *said))
        if row["status"] == "CLOSED":
            found.append(_flow(row["decided_at"], row["refund_id"], "退款关闭退回", net, note, *said))
    return found


def _flow(
    at: str, number: str, name: str, amount_fen: int, note: str = "", voucher: str = "", out_trade_no: str = ""
) -> dict[str, Any]:
    return {
        "at": at,
        "number": number,
        "name": name,
        "amount_fen": amount_fen,
        "note": note,
        "voucher": voucher,
        "out_trade_no": out_trade_no,
    }
