"""Reconciliation as finance lives it: every morning WeChat's bill, the journal and the bills say the same."""

from datetime import date, datetime, timedelta
from typing import Any

import pytest

import payments
from kit import clock
from models.access import Role
from models.reconciliation import Difference, Reconciliation, Statement
from tests.conftest import Drain, SandboxControl
from tests.surplus_home import balances, surplus_home
from tests.wechat_bills import tomorrow_at
from tests.world import Home, World


async def paid(home: Home, sandbox: SandboxControl, bill_id: str, **at: Any) -> dict[str, Any]:
    """A bill is paid; what WeChat says of the order."""
    opened = (await home.open(bill_ids=[bill_id])).json()
    prepay = opened["wechat"]["package"].removeprefix("prepay_id=")
    told = (await sandbox.post("/sandbox/pay", {"prepay_id": prepay, **at})).json()
    await sandbox.called_back(told["out_trade_no"])
    return told


async def draw(home: Home, sandbox: SandboxControl, amount_fen: int) -> int:
    """Move money from WeChat's balance to the bank, or (negative) back; what is left there."""
    path = f"/sandbox/merchants/{home.company.wechat.mchid}/movements"
    return int((await sandbox.post(path, {"amount_fen": -amount_fen})).json()["balance_fen"])


async def test_a_day_closes_to_the_fen(world: World, sandbox: SandboxControl, drain: Drain, books: Any) -> None:
    with clock.travel_to(tomorrow_at(12)):
        surplus = await surplus_home(world, sandbox, drain, bills=3)
        home = surplus.home
        await surplus.send_back()
        await surplus.decide("SUCCESS")
        await surplus.noticed()
        await drain()
        assert await draw(home, sandbox, 1) > 0
        assert await draw(home, sandbox, await draw(home, sandbox, -5) - 0) == 0
        await drain()
        before = await balances()
        assert await payments.sweep_reconciliations() == 0
    with clock.travel_to(tomorrow_at(12) + timedelta(days=1) - timedelta(hours=1, minutes=30)):
        assert await payments.sweep_reconciliations() == 2
        days = {str(day.kind): day for day in await Reconciliation.filter(state="read")}
        print(before, await balances(), [(d.kind, d.wechat_fen, d.our_fen, d.fee_fen) for d in days.values()])
        print([vars(d) for d in await Difference.all()], [d.problem for d in await Reconciliation.all()])
        assert (await balances()).get("wechat_clearing", 0) == 0
