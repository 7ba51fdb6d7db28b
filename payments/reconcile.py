"""Reconciliation of one file: read into a table of the transaction, compared with the books set by set, and kept.

The file is never held whole, the books are never read row by row. What follows from a difference is in
``payments/reconcile_follow.py``; a file that does not agree with itself is refused, and nothing of it is used.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import BinaryIO
from uuid import UUID

import structlog

from kit import clock
from models.bulk import RowUnfit, allow_long_tx, copy_in_tx, run_tx
from models.merchant_account import MerchantAccount, MerchantMode
from models.reconciliation import (
    DAY_MACHINE,
    STATEMENT_MACHINE,
    DayState,
    Reconciliation,
    Statement,
    StatementKind,
    StatementState,
)
from models.unit_of_work import row, rows, unit_of_work
from payments import reconcile_sql as sql
from payments.gateways.base import BillUnreadable
from payments.reconcile_post import post_commission_tx, post_movements_tx
from payments.statement import one_at_a_time_tx, open_statement
from payments.statement_file import BillReader

_WRONG = {
    "strange_states": ("交易状态", "a trade state"),
    "odd_amounts": ("金额", "an amount"),
    "nameless": ("单号", "a number"),
}
_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,6})?")
log = structlog.get_logger()

MOVES = "提现|充值"
"""业务名称 of what moves between WeChat's balance and the bank."""
TRADED = ["交易", "扣除交易手续费", "退款"]
"""业务名称 of what the trade bill has too."""
RETURNED = ["退款关闭退回"]
"""业务名称 of a refund that came to nothing: the money never left the books."""
NET = "交易净额"
"""The number of the one difference that says that flow and trade bill of a day do not come to the same."""


@dataclass(frozen=True)
class Read:
    """What one reading came to."""

    reconciliation_id: UUID
    statement_id: UUID
    kind: StatementKind
    bill_on: date
    row_count: int
    open_count: int  # differences that nobody has explained


async def read_statement(statement_id: UUID, bill_on: date | None = None) -> Read:
    """Compare a kept file with the books; afterwards it is the one that counts for its day.

    Another file of that day is superseded and kept; it may come to count again. Reading the same file again changes
    nothing but what the books say otherwise by now. ``bill_on`` is the day that was asked for; a file given by hand
    tells it by itself. Raises BillUnreadable: the file says so from then on, and the day is as it was.
    """
    file = await open_statement(statement_id)
    try:
        return await _read(statement_id, file, bill_on)
    except (BillUnreadable, RowUnfit) as error:
        await _refuse(statement_id, str(error))
        raise BillUnreadable(str(error)) from error
    finally:
        file.close()


@unit_of_work
async def _refuse(statement_id: UUID, problem: str) -> None:
    statement = await Statement.select_for_update().get(id=statement_id)
    if statement.state is StatementState.KEPT:
        STATEMENT_MACHINE.enter(statement, StatementState.REFUSED, problem=problem[:200])
        await statement.save(update_fields=["state", "problem"])
    log.warning("statement_refused", statement_id=str(statement_id), reason=problem)


@unit_of_work
async def _read(statement_id: UUID, file: BinaryIO, wanted: date | None) -> Read:
    file.seek(0)
    statement = await Statement.get(id=statement_id)
    await one_at_a_time_tx(statement.merchant_account_id)
    account = await MerchantAccount.get(id=statement.merchant_account_id)
    await statement.refresh_from_db()
    await allow_long_tx()
    await rows("SET LOCAL work_mem = '64MB'")
    reader = BillReader(file)
    trade = reader.kind is StatementKind.TRADE
    await run_tx(sql.STAGE_TRADE if trade else sql.STAGE_FLOW)
    await copy_in_tx("bill_rows", reader.columns, reader.rows())
    await run_tx("ANALYZE bill_rows")
    summary = reader.summary
    require_whose(reader.callers(), account)
    bill_on = await _bill_on_tx(wanted)
    await _require_sum_tx(summary, trade=trade)
    day = await _day_tx(account, reader.kind, bill_on)
    await run_tx(sql.MAKE_FOUND)
    totals = await (_match_trade_tx if trade else _match_flow_tx)(account, day)
    await run_tx(sql.SAVE_FOUND, account.organization_id, account.id, day.id)
    await run_tx(sql.MEND, day.id)
    if trade:
        await run_tx(sql.EXPLAIN_OTHER_DAYS, day.id)
        await no_cut_off_tx(account.id, bill_on - timedelta(days=1))
    await _make_current_tx(statement, day, reader.row_count, totals)
    if trade:
        await post_commission_tx(account, day)
    still_open = await row(
        "SELECT count(*) AS n FROM differences WHERE reconciliation_id = $1 AND state = 'open'", day.id
    )
    assert still_open is not None
    return Read(day.id, statement.id, reader.kind, bill_on, reader.row_count, still_open["n"])


def require_whose(callers: set[tuple[str, ...]], account: MerchantAccount) -> None:
    """A bill of another merchant, or with another currency, is none of this account's. Raises BillUnreadable."""
    for caller in callers:
        mchid, sub_mchid, currency = (*caller, "", "", "")[:3]
        ours = mchid == account.mchid
        if account.mode is MerchantMode.PARTNER:
            ours = ours and sub_mchid == account.sub_mchid
        if not ours:
            raise BillUnreadable(f"账单属于商户 {mchid[:32]}，不是这个商户号 / the bill is of another merchant account")
        if currency != "CNY":
            raise BillUnreadable(f"币种不是人民币 / a line in {currency[:8]}")


async def _bill_on_tx(wanted: date | None) -> date:
    """The day of the file; a row may be of a neighbour, one further off belongs into no bill of that day."""
    days = await run_tx(sql.DAYS)
    if not days:
        raise BillUnreadable("账单里没有数据行 / no rows")
    bill_on: date = wanted or days[0]["day"]
    strange = [one["day"] for one in days if abs((one["day"] - bill_on).days) > 1]
    if strange:
        raise BillUnreadable(f"{bill_on} 的账单里有 {strange[0]} 的行 / a row of another day")
    if bill_on >= clock.today():
        raise BillUnreadable(f"{bill_on} 还没有结束，第二天才有账单 / that day is not over yet")
    return bill_on


async def _require_sum_tx(summary: Mapping[str, str], *, trade: bool) -> None:
    """The file's end says how many rows there are and what they come to."""
    (says,) = await run_tx(sql.TRADE_SAYS if trade else sql.FLOW_SAYS)
    for name, words in _WRONG.items():
        if says.get(name):
            raise BillUnreadable(f"{says[name]} 行的{words[0]}有误 / {words[1]} that cannot be")
    if trade and (double := await run_tx(sql.DOUBLES)):
        raise BillUnreadable(f"单号 {double[0]['number'][:64]} 出现了两次 / a number stands there twice")
    names = (
        {"总交易单数": "row_count", "订单总金额": "paid", "申请退款总金额": "refunded", "手续费总金额": "fee"}
        if trade
        else {"资金流水总笔数": "row_count", "收入笔数": "coming", "收入金额": "came", "支出笔数": "going",
              "支出金额": "went"}
    )  # fmt: skip
    for name, column in names.items():
        said, came = _said(summary, name), Decimal(says[column])
        if said != came:
            raise BillUnreadable(f"{name}是 {said}，各行合计 {came} / the summary does not fit its rows")


def _said(summary: Mapping[str, str], name: str) -> Decimal:
    """Counts are seen as 45 and as 45.0, commission with five decimals."""
    text = summary.get(name, "")
    if not _NUMBER.fullmatch(text):
        raise BillUnreadable(f"汇总行的{name}有误 / the summary cannot be read")
    return Decimal(text)


async def _day_tx(account: MerchantAccount, kind: StatementKind, bill_on: date) -> Reconciliation:
    day, _ = await Reconciliation.get_or_create(
        {"organization_id": account.organization_id, "next_check_at": clock.now()},
        merchant_account_id=account.id, kind=kind, bill_on=bill_on,
    )  # fmt: skip
    return await Reconciliation.select_for_update().get(id=day.id)


def bounds(bill_on: date) -> tuple[datetime, datetime]:
    """A Beijing day, from and to."""
    begins = datetime.combine(bill_on, time(), clock.BEIJING)
    return begins, begins + timedelta(days=1)


async def _match_trade_tx(account: MerchantAccount, day: Reconciliation) -> dict[str, int]:
    begins, ends = bounds(day.bill_on)
    await run_tx(sql.MATCH_TRADE, account.id)
    await run_tx("ANALYZE matched")
    following = await Reconciliation.exists(
        merchant_account_id=account.id, kind=StatementKind.TRADE, bill_on=day.bill_on + timedelta(days=1),
        state__in=(DayState.READ, DayState.QUIET),
    )  # fmt: skip
    await run_tx(sql.FIND_PAYMENTS, begins, ends)
    await run_tx(sql.ONLY_PAYMENTS, begins, ends, account.id, following, day.id)
    await run_tx(sql.FIND_REFUNDS, begins, ends, account.id)
    await run_tx(sql.ONLY_REFUNDS, begins, ends, account.id, following, day.id)
    await run_tx(sql.FORGET_SUMS, day.id)
    await run_tx(sql.WRITE_SUMS, day.id, account.id)
    (totals,) = await run_tx(sql.TOTALS, begins, ends, account.id)
    return totals


async def _match_flow_tx(account: MerchantAccount, day: Reconciliation) -> dict[str, int]:
    begins, _ = bounds(day.bill_on)
    await run_tx(sql.FIND_MOVEMENTS, account.organization_id, account.id, MOVES)
    await post_movements_tx(account, day.bill_on)
    (totals,) = await run_tx(sql.FLOW_TOTALS, TRADED, RETURNED)
    trade = await Reconciliation.get_or_none(
        merchant_account_id=account.id, kind=StatementKind.TRADE, bill_on=day.bill_on
    )
    known = trade is not None and trade.state in (DayState.READ, DayState.QUIET)
    net_fen = trade.wechat_fen - trade.fee_fen if trade is not None and known else totals["trade_fen"]
    if net_fen != totals["trade_fen"]:
        await run_tx(sql.FIND_NET, NET, begins, totals["trade_fen"], net_fen)
    await run_tx(sql.FIND_FLOWS, MOVES, [*TRADED, *RETURNED])
    await run_tx(sql.FIND_UNPOSTED, account.id, MOVES)
    (posted,) = await run_tx(sql.POSTED_MOVEMENTS, account.id, MOVES)
    return {
        "wechat_fen": totals["change_fen"],
        "our_fen": net_fen + totals["returned_fen"] - posted["fen"],
        "fee_fen": 0,
        "pending_count": 0 if known else 1,
    }


async def no_cut_off_tx(merchant_account_id: UUID, bill_on: date) -> None:
    """The bill after ``bill_on`` was read, so what waited for it there is missing at WeChat."""
    await run_tx(sql.NO_CUT_OFF, merchant_account_id, bill_on)


async def _make_current_tx(
    statement: Statement, day: Reconciliation, row_count: int, totals: Mapping[str, int]
) -> None:
    now = clock.now()
    if day.statement_id != statement.id:
        if day.statement_id is not None:
            older = await Statement.select_for_update().get(id=day.statement_id)
            STATEMENT_MACHINE.enter(older, StatementState.SUPERSEDED, superseded_at=now)
            await older.save(update_fields=["state", "superseded_at"])
        statement.kind, statement.bill_on = day.kind, day.bill_on
        STATEMENT_MACHINE.enter(statement, StatementState.CURRENT, problem=None, superseded_at=None)
        await statement.save(update_fields=["state", "problem", "superseded_at", "kind", "bill_on"])
    if day.state is not DayState.READ:
        DAY_MACHINE.enter(day, DayState.READ, statement_id=statement.id, read_at=now)
    day.update_from_dict(
        {
            "statement_id": statement.id,
            "read_at": now,
            "problem": None,
            "row_count": row_count,
            **{name: int(totals[name]) for name in ("wechat_fen", "our_fen", "fee_fen", "pending_count")},
        }
    )
    await day.save()
