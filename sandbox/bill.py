"""Trade bills and fund-flow bills, made from what really happened here.

Source: pay.weixin.qq.com, APIv3, 申请交易账单, 申请资金账单, 下载账单. A file is UTF-8 with a byte order mark and CRLF;
every value begins with a backtick, amounts are in yuan, and the last two lines are a summary with its header.
"""

import gzip
import hashlib
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from kit.clock import BEIJING
from kit.money import format_yuan
from sandbox import fund, parameter
from sandbox.context import Context
from sandbox.error import PayError
from sandbox.merchant import Merchant

TOKEN_LIFE_S = 300
READY_HOUR = 10
MADE_HOUR = 9
MONTHS_BACK = 3

_PAYMENT = (
    *("交易时间", "公众账号ID", "商户号", "特约商户号", "设备号", "微信订单号", "商户订单号", "用户标识", "交易类型"),
    *("交易状态", "付款银行", "货币种类", "应结订单金额", "代金券金额"),
)
_REFUND = ("微信退款单号", "商户退款单号", "退款金额", "充值券退款金额", "退款类型", "退款状态")
_REFUND_TIMES = ("退款申请时间", "退款成功时间")
_GOODS = ("商品名称", "商户数据包", "手续费", "费率", "订单金额")
TRADE_HEADERS = {
    "ALL": (*_PAYMENT, *_REFUND, *_GOODS, "申请退款金额", "费率备注"),
    "SUCCESS": (*_PAYMENT, *_GOODS, "费率备注"),
    "REFUND": (*_PAYMENT, *_REFUND_TIMES, *_REFUND, *_GOODS, "申请退款金额", "费率备注"),
}
TRADE_SUMMARY = (
    *("总交易单数", "应结订单总金额", "退款总金额", "充值券退款总金额", "手续费总金额", "订单总金额", "申请退款总金额"),
)
FLOW_HEADER = (
    *(
        "记账时间",
        "微信支付业务单号",
        "资金流水单号",
        "业务名称",
        "业务类型",
        "收支类型",
        "收支金额(元)",
        "账户结余(元)",
    ),
    *("资金变更提交申请人", "备注", "业务凭证号"),
)
FLOW_SUMMARY = ("资金流水总笔数", "收入笔数", "收入金额", "支出笔数", "支出金额")
# The bill's words are not the API's, and what was written once is not written again.
_REFUND_STATES = {"SUCCESS": "SUCCESS", "PROCESSING": "PROCESSING", "CLOSED": "FAIL", "ABNORMAL": "CHANGE"}


def trade_bill(context: Context, merchant: Merchant, day: date, kind: str, sub_mchid: str | None) -> bytes:
    """The payments and refunds of a Beijing day as a file; NO_STATEMENT_EXIST when there were none."""
    _check_ready(context, day)
    rows = []
    if kind != "REFUND":
        rows += [_payment_row(trade) for trade in _payments(context, merchant.mchid, day, sub_mchid)]
    if kind != "SUCCESS":
        rows += [_refund_row(each, day, kind) for each in _refunds(context, merchant.mchid, day, sub_mchid)]
    if not rows:
        raise _no_statement()
    rows = _spoilt(context, rows, "商户订单号", _say_amount)
    summary = [
        str(len(rows)),
        *(_yuan(sum(row[name] for row in rows)) for name in ("应结订单金额", "退款金额", "充值券退款金额")),
        f"{_yuan(sum(row['手续费'] for row in rows))}000",
        *(_yuan(sum(row[name] for row in rows)) for name in ("订单金额", "申请退款金额")),
    ]
    lines = [_trade_line(row, TRADE_HEADERS[kind]) for row in rows]
    return csv_file(TRADE_HEADERS[kind], lines, TRADE_SUMMARY, summary)


def _payments(context: Context, mchid: str, day: date, sub_mchid: str | None) -> list[dict[str, Any]]:
    return context.store.rows(
        "SELECT * FROM trade WHERE mchid = ?1 AND success_time LIKE ?2 AND (?3 IS NULL OR sub_mchid = ?3) ORDER BY seq",
        *(mchid, f"{day}%", sub_mchid),
    )


def _refunds(context: Context, mchid: str, day: date, sub_mchid: str | None) -> list[dict[str, Any]]:
    return context.store.rows(
        "SELECT trade.*, refund_id, out_refund_no, refund_fen, refund.fee_fen AS returned_fen, status, decided_at,"
        " refund.created_at AS asked_at, refund.success_time AS refunded_at"
        " FROM refund JOIN trade ON trade.seq = trade_seq"
        " WHERE refund.mchid = ?1 AND refund.created_at LIKE ?2 AND (?3 IS NULL OR sub_mchid = ?3) ORDER BY refund.seq",
        *(mchid, f"{day}%", sub_mchid),
    )


def _payment_row(trade: dict[str, Any]) -> dict[str, Any]:
    return {
        "交易时间": _when(trade["success_time"]),
        "公众账号ID": trade["appid"],
        "商户号": trade["mchid"],
        "特约商户号": trade["sub_mchid"] or "0",
        "设备号": "",
        "微信订单号": trade["transaction_id"],
        "商户订单号": trade["out_trade_no"],
        "用户标识": trade["openid"] or trade["sub_openid"],
        "交易类型": trade["product"],
        "交易状态": "SUCCESS",
        "付款银行": "OTHERS",
        "货币种类": trade["currency"],
        "应结订单金额": trade["total_fen"],
        "代金券金额": 0,
        "微信退款单号": "0",
        "商户退款单号": "0",
        "退款金额": 0,
        "充值券退款金额": 0,
        "退款类型": "",
        "退款状态": "",
        "商品名称": trade["description"],
        "商户数据包": trade["attach"] or "",
        "手续费": trade["fee_fen"],
        "费率": f"{_yuan(trade['fee_rate_bp'])}%",
        "订单金额": trade["total_fen"],
        "申请退款金额": 0,
        "费率备注": "",
    }


def _refund_row(row: dict[str, Any], day: date, kind: str) -> dict[str, Any]:
    """Refunds carry their own time in the bill of all, the payment's beside theirs in the bill of refunds."""
    made = datetime.combine(day + timedelta(days=1), datetime.min.time(), BEIJING).replace(hour=MADE_HOUR).isoformat()
    known = row["decided_at"] is not None and row["decided_at"] < made
    return {
        **_payment_row(row),
        "交易时间": _when(row["success_time"] if kind == "REFUND" else row["asked_at"]),
        "交易状态": "REFUND",
        "应结订单金额": 0,
        "退款申请时间": _when(row["asked_at"]),
        "退款成功时间": _when(row["refunded_at"]) if known and row["refunded_at"] else "",
        "微信退款单号": row["refund_id"],
        "商户退款单号": row["out_refund_no"],
        "退款金额": row["refund_fen"],
        "退款类型": "ORIGINAL",
        "退款状态": _REFUND_STATES[row["status"] if known else "PROCESSING"],
        "手续费": -row["returned_fen"],
        "订单金额": 0,
        "申请退款金额": row["refund_fen"],
    }


_IN_YUAN = ("应结订单金额", "代金券金额", "退款金额", "充值券退款金额", "订单金额", "申请退款金额")


def _trade_line(row: dict[str, Any], header: Iterable[str]) -> list[str]:
    written = {**row, **{name: _yuan(row[name]) for name in _IN_YUAN}, "手续费": f"{_yuan(row['手续费'])}000"}
    return [written[name] for name in header]


def flow_bill(context: Context, merchant: Merchant, day: date, account: str) -> bytes:
    """What flowed in and out of an account on a Beijing day; NO_STATEMENT_EXIST when nothing did."""
    _check_ready(context, day)
    balance, rows = 0, []
    for flow in fund.flows(context, merchant.mchid, account):
        balance += flow["amount_fen"]
        if flow["at"].startswith(str(day)):
            rows.append({**flow, "balance": balance})
    if not rows:
        raise _no_statement()
    rows = _spoilt(context, rows, "out_trade_no", _say_flow)
    coming = [row["amount_fen"] for row in rows if row["amount_fen"] > 0]
    going = [-row["amount_fen"] for row in rows if row["amount_fen"] < 0]
    summary = [str(len(rows)), str(len(coming)), _yuan(sum(coming)), str(len(going)), _yuan(sum(going))]
    lines = [
        [
            *(_when(row["at"]), row["number"], row["number"], row["name"], row["name"]),
            *("收入" if row["amount_fen"] > 0 else "支出", _yuan(abs(row["amount_fen"])), _yuan(row["balance"])),
            *("system", row["note"], row["voucher"]),
        ]
        for row in rows
    ]
    return csv_file(FLOW_HEADER, lines, FLOW_SUMMARY, summary)


def _say_amount(row: dict[str, Any], fen: int) -> None:
    names = ("退款金额", "申请退款金额") if row["交易状态"] == "REFUND" else ("应结订单金额", "订单金额")
    row.update(dict.fromkeys(names, fen))


def _say_flow(row: dict[str, Any], fen: int) -> None:
    row["amount_fen"] = fen if row["amount_fen"] > 0 else -fen


def _spoilt(
    context: Context, rows: list[dict[str, Any]], number: str, say: Callable[[dict[str, Any], int], None]
) -> list[dict[str, Any]]:
    """The rows as faults want them: a fault for one order takes its row, one for all the first; once a bill each."""
    spoilt = [dict(row) for row in rows]
    for row in spoilt:
        lie = context.faults.take("bill_wrong_amount", row[number])
        if lie is not None:
            say(row, lie["amount_fen"])
            break
    missing = next((row for row in spoilt if context.faults.take("bill_missing_row", row[number]) is not None), None)
    extra = context.faults.take("bill_extra_row", None)
    if extra is not None:
        made_up = {**spoilt[0], number: f"X{secrets.token_hex(10)}"}
        made_up.update({name: str(secrets.randbelow(10**28)) for name in ("微信订单号", "number") if name in made_up})
        say(made_up, extra["amount_fen"])
        spoilt.append(made_up)
    return [row for row in spoilt if row is not missing]


def csv_file(header: Iterable[str], lines: list[list[str]], summary_header: Iterable[str], summary: list[str]) -> bytes:
    """The bytes of a bill."""
    written = [
        ",".join(header),
        *(",".join(f"`{_escaped(value)}" for value in line) for line in lines),
        ",".join(summary_header),
        ",".join(f"`{value}" for value in summary),
    ]
    return "".join(f"{line}\r\n" for line in written).encode("utf-8-sig")


def _escaped(value: str) -> str:
    # So that a line splits at its commas.
    return value.replace(",", "\\ ").replace("\r\n", "\\n").replace("\n", "\\n")


def _yuan(fen: int) -> str:
    return format_yuan(fen)


def _when(text: str) -> str:
    return text[:19].replace("T", " ")


def _check_ready(context: Context, day: date) -> None:
    now = datetime.fromtimestamp(context.clock.life_s(), UTC).astimezone(BEIJING)
    if day >= now.date() or day < _months_back(now.date()):
        raise PayError(400, "INVALID_REQUEST", "只能下载今天之前、三个月以内的账单")
    if day == now.date() - timedelta(days=1) and now.hour < READY_HOUR:
        raise PayError(400, "STATEMENT_CREATING", "账单生成中，请稍后再试")


def _months_back(day: date) -> date:
    month = day.month - MONTHS_BACK
    first = date(day.year - (month < 1), (month - 1) % 12 + 1, 1)
    # The same day three months ago, or the last one of that month.
    return min(first + timedelta(days=day.day - 1), (first + timedelta(days=31)).replace(day=1) - timedelta(days=1))


def _no_statement() -> PayError:
    return PayError(400, "NO_STATEMENT_EXIST", "请求的账单文件不存在")


def keep(context: Context, merchant: Merchant, content: bytes, zipped: bool, origin: str) -> dict[str, str]:
    """Keep a file for five minutes; answers its hash, over the plain file, and where to fetch it."""
    now_s = context.clock.life_s()
    context.store.execute("DELETE FROM bill_file WHERE expires_s < ?", now_s)
    token = secrets.token_urlsafe(48)
    context.store.insert(
        "bill_file",
        token=token,
        mchid=merchant.mchid,
        content=gzip.compress(content, mtime=0) if zipped else content,
        zipped=int(zipped),
        expires_s=now_s + TOKEN_LIFE_S,
    )
    digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    if context.faults.take("bill_wrong_hash", None) is not None:
        digest = secrets.token_hex(20)
    address = f"{origin}/v3/billdownload/file?token={token}{'&tartype=gzip' if zipped else ''}"
    return {"hash_type": "SHA1", "hash_value": digest, "download_url": address}


def fetch(context: Context, merchant: Merchant, token: str) -> tuple[bytes, bool]:
    """The file and whether it is zipped; refuses another merchant, and a token past its time."""
    row = context.store.row("SELECT * FROM bill_file WHERE token = ?", token)
    if row is None or context.clock.life_s() >= row["expires_s"]:
        raise PayError(400, "INVALID_REQUEST", "下载凭证无效或已过期，请重新申请账单")
    if row["mchid"] != merchant.mchid:
        raise PayError(403, "NO_AUTH", "无权下载该账单")
    return row["content"], bool(row["zipped"])


def day_of(text: str) -> date:
    """A bill_date, or PARAM_ERROR."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=BEIJING).date()
    except ValueError as unreadable:
        issue = "bill_date不是一个有效的日期，格式为yyyy-MM-DD"
        raise parameter.wrong("bill_date", text, issue, location="query") from unreadable
