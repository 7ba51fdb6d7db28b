"""Days of WeChat's bills for tests: people pay, money is drawn, mornings come, and files are spoilt on purpose."""

import contextlib
import csv
import gzip
import io
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import payments
from kit import clock
from models.access import Role
from models.reconciliation import Reconciliation
from payments.statement import open_statement
from tests.conftest import SandboxControl
from tests.world import Home, Person, World

TOMORROW = timedelta(days=1)
Rows = list[dict[str, str]]


@contextlib.contextmanager
def at(day: int, hour: int, minute: int = 0, second: int = 0) -> Iterator[None]:
    """So many days from today, Beijing; sandbox and program are one process here, so both clocks go there."""
    when = datetime.combine(clock.today() + day * TOMORROW, time(hour, minute, second), clock.BEIJING)
    with clock.travel_to(when):
        yield


async def pay(home: Home, sandbox: SandboxControl, bill_id: Any, *, quietly: bool = False, **told: Any) -> str:
    """A bill is paid; the order's number. ``quietly``: nobody waits for the callback."""
    opened = (await home.open(bill_ids=[str(bill_id)])).json()
    prepay = opened["wechat"]["package"].removeprefix("prepay_id=")
    paid = (await sandbox.post("/sandbox/pay", {"prepay_id": prepay, **told})).json()
    if not quietly:
        await sandbox.called_back(paid["out_trade_no"])
    return str(paid["out_trade_no"])


async def draw(home: Home, sandbox: SandboxControl, amount_fen: int) -> int:
    """Money goes from WeChat's balance to the bank, or (negative) back; what is left there."""
    path = f"/sandbox/merchants/{home.company.wechat.mchid}/movements"
    return int((await sandbox.post(path, {"amount_fen": -amount_fen})).json()["balance_fen"])


async def balance_at_wechat(home: Home, sandbox: SandboxControl) -> int:
    """What lies there, found out by moving a fen there and back."""
    return await draw(home, sandbox, -1) - 1 + 0 * await draw(home, sandbox, 1)


async def finance_of(world: World, home: Home) -> Person:
    """Somebody of finance in the home's community."""
    return await world.staff(home.company, Role.FINANCE, home.community)


async def kept(kind: str, bill_on: date) -> bytes:
    """The file that counts for a day, plain."""
    day = await Reconciliation.get(kind=kind, bill_on=bill_on)
    assert day.statement_id is not None
    with await open_statement(day.statement_id) as file:
        return gzip.decompress(file.read())


def spoilt(content: bytes, change: Callable[[Rows], Rows]) -> bytes:
    """A trade bill with other rows, whose summary agrees with them: a file that lies well."""
    header, *lines, summary_header, _ = (
        content.decode().removeprefix("\ufeff").replace("\r\n", "\n").strip().split("\n")
    )
    names = header.split(",")
    rows = change([dict(zip(names, (v[1:] for v in line.split(",")), strict=True)) for line in lines])

    def total(name: str) -> Decimal:
        return sum((Decimal(row[name]) for row in rows), Decimal(0))

    columns = ("应结订单金额", "退款金额", "充值券退款金额", "手续费", "订单金额", "申请退款金额")
    summary = [str(len(rows)), *(str(total(name)) for name in columns)]
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONE, escapechar="\\", lineterminator="\r\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([f"`{row[name]}" for name in names])
    writer.writerow(summary_header.split(","))
    writer.writerow([f"`{value}" for value in summary])
    return ("\ufeff" + text.getvalue()).encode()


async def give(home: Home, content: bytes, bill_on: date | None = None) -> Any:
    """Somebody gives a file, and it is read."""
    from models.reconciliation import StatementSource

    statement, _ = await payments.keep_statement(home.company.merchant.id, io.BytesIO(content), StatementSource.BY_HAND)
    return await payments.compare_statement(statement.id, bill_on)
