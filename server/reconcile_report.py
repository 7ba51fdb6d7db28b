"""``linli reconcile``: one bill by hand, and what of it differs from the books. Printed for finance, so in Chinese."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import payments
from kit import clock
from kit.ids import parse_id
from kit.money import format_yuan
from models.merchant_account import MerchantAccount
from models.reconciliation import (
    Difference,
    DifferenceKind,
    DifferenceState,
    Reconciliation,
    StatementKind,
    StatementSource,
)

AGREES, DIFFERS, UNREADABLE = 0, 1, 2
_SHOWN = 200
_KINDS = {StatementKind.TRADE: "交易账单", StatementKind.FUND_FLOW: "资金账单"}
_WORDS = {
    DifferenceKind.ONLY_AT_WECHAT: "微信有、我方无",
    DifferenceKind.ONLY_WITH_US: "我方有、微信无",
    DifferenceKind.AMOUNT: "金额不符",
    DifferenceKind.STATUS: "状态不符",
    DifferenceKind.FEE: "手续费不符",
    DifferenceKind.CUT_OFF: "跨日",
}
_STATES = {
    DifferenceState.OPEN: "待处理",
    DifferenceState.EXPLAINED: "已解释",
    DifferenceState.MENDED: "已自动消除",
    DifferenceState.RESOLVED: "已处理",
}
_ABOUT = {"payment": "支付", "refund": "退款", "flow": "资金"}


async def run_reconcile(file: Path, merchant: str, bill_on: str | None, *, as_json: bool) -> tuple[str, int]:
    """What to print, and how to end: 0 all is explained, 1 something differs, 2 the file or the account is not to be
    read. Afterwards the file counts for its day, as one that was fetched would."""
    parsed = parse_id(merchant)
    account = await MerchantAccount.get_or_none(id=parsed) if parsed else None
    if account is None:
        found = await MerchantAccount.filter(mchid=merchant)
        if len(found) != 1:
            return _failed(f"没有唯一的商户“{merchant}”，请给出商户的 id 或微信商户号", as_json), UNREADABLE
        account = found[0]
    try:
        day = date.fromisoformat(bill_on) if bill_on else None
        with file.open("rb") as opened:
            statement, new = await payments.keep_statement(account.id, opened, StatementSource.BY_HAND)
        read = await payments.compare_statement(statement.id, day)
    except (payments.BillUnreadable, OSError, ValueError) as error:
        return _failed(f"无法读取 {file.name}：{error}", as_json), UNREADABLE
    found_day = await Reconciliation.get(id=read.reconciliation_id)
    differences = await Difference.filter(reconciliation_id=found_day.id).order_by("state", "kind", "number")
    unexplained = any(one.state is DifferenceState.OPEN for one in differences)
    text = (_document if as_json else _table)(account, found_day, differences, new)
    return text, DIFFERS if unexplained else AGREES


def _failed(sentence: str, as_json: bool) -> str:
    return json.dumps({"problem": sentence}, ensure_ascii=False) if as_json else sentence


def _table(account: MerchantAccount, day: Reconciliation, differences: list[Difference], new: bool) -> str:
    lines = [
        f"{_KINDS[day.kind]} {day.bill_on}，{account.name}（{account.mchid}），{day.row_count} 行"
        + ("" if new else "；这个文件以前读过"),
        f"  微信 {format_yuan(day.wechat_fen)} 元，我方 {format_yuan(day.our_fen)} 元，"
        f"相差 {format_yuan(day.wechat_fen - day.our_fen)} 元，手续费 {format_yuan(day.fee_fen)} 元",
    ]
    lines += [f"  {_line(one)}" for one in differences[:_SHOWN]]
    if len(differences) > _SHOWN:
        lines.append(f"  ……还有 {len(differences) - _SHOWN} 条，--json 给出全部")
    waiting = sum(one.state is DifferenceState.OPEN for one in differences)
    lines.append(f"有 {waiting} 条差异待处理。" if waiting else "没有未解释的差异。")
    return "\n".join(lines)


def _line(one: Difference) -> str:
    at = one.occurred_at.astimezone(clock.BEIJING)
    sides = "，".join(
        f"{name} {format_yuan(fen)} 元"
        for name, fen in (("微信", one.wechat_fen), ("我方", one.our_fen))
        if fen is not None
    )
    words = (
        f"{_STATES[one.state]} {_WORDS[one.kind]} {_ABOUT[one.about.value]} {one.number} {at:%m-%d %H:%M:%S} {sides}"
    )
    if one.kind is DifferenceKind.STATUS:
        words += f"，微信 {one.wechat_status}，我方 {one.our_status}"
    if one.kind is DifferenceKind.FEE:
        words += f"，手续费 {format_yuan(one.fee_fen)} 元"
    return words + (f"，已挂账 {format_yuan(one.placed_fen)} 元" if one.placed_fen else "")


def _document(account: MerchantAccount, day: Reconciliation, differences: list[Difference], new: bool) -> str:
    document: dict[str, Any] = {
        "merchant_account_id": str(account.id),
        "mchid": account.mchid,
        "reconciliation_id": str(day.id),
        "statement_id": str(day.statement_id),
        "kind": day.kind.value,
        "bill_on": day.bill_on.isoformat(),
        "new": new,
        "row_count": day.row_count,
        "wechat_fen": day.wechat_fen,
        "our_fen": day.our_fen,
        "difference_fen": day.wechat_fen - day.our_fen,
        "fee_fen": day.fee_fen,
        "open_count": sum(one.state is DifferenceState.OPEN for one in differences),
        "differences": [
            {
                "id": str(one.id),
                "status": one.state.value,
                "kind": one.kind.value,
                "about": one.about.value,
                "number": one.number,
                "channel_number": one.channel_number,
                "attempt_id": str(one.attempt_id) if one.attempt_id else None,
                "occurred_at": one.occurred_at.isoformat(),
                "wechat_fen": one.wechat_fen,
                "our_fen": one.our_fen,
                "difference_fen": one.difference_fen,
                "fee_fen": one.fee_fen,
                "wechat_status": one.wechat_status,
                "our_status": one.our_status,
                "in_suspense_fen": one.placed_fen,
                "resolution": one.resolution,
            }
            for one in differences
        ],
    }
    return json.dumps(document, ensure_ascii=False, indent=2)
