"""Days of traffic with every fault that the sandbox knows, and the mornings after, for both lengths of the test."""

import asyncio
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import payments
from models.community import Community
from models.ledger import Account, Entry
from models.reconciliation import Difference, DifferenceState, Reconciliation
from models.unit_of_work import rows
from tests.conftest import Drain, SandboxControl
from tests.surplus_home import paid_for_nothing
from tests.wechat_days import at, draw, finance_of
from tests.world import Home, Person, World

# One after the other, two a day beside those of every day; all of them within eleven days.
FAULTS: list[dict[str, Any]] = [
    {"kind": "lost"}, {"kind": "duplicate", "count": 5}, {"kind": "bill_missing_row"}, {"kind": "wrong_amount",
     "amount_fen": 1}, {"kind": "bill_wrong_hash"}, {"kind": "wrong_mchid"}, {"kind": "bill_extra_row",
     "amount_fen": 4321}, {"kind": "wrong_appid"}, {"kind": "bill_wrong_amount", "amount_fen": 77},
    {"kind": "wrong_currency"}, {"kind": "before_answer"}, {"kind": "wrong_amount_order", "amount_fen": 9_999},
    {"kind": "stale"}, {"kind": "unknown_serial"}, {"kind": "signtest"}, {"kind": "certificate_signed"},
    {"kind": "answer_lost", "operation": "prepay"}, {"kind": "error", "operation": "query"},
    {"kind": "bad_signature", "operation": "tradebill"}, {"kind": "html", "operation": "fundflowbill"},
    {"kind": "truncated", "operation": "billdownload"}, {"kind": "reorder", "count": 2},
]  # fmt: skip
REFUNDS = ("SUCCESS", "CLOSED", "PROCESSING")


@dataclass
class Town:
    """See ``play``."""

    world: World
    sandbox: SandboxControl
    drain: Drain
    home: Home
    finance: Person
    drawn_fen: int = 0
    ever_open: set[str] = field(default_factory=set)


async def play(world: World, sandbox: SandboxControl, drain: Drain, days: int) -> Town:
    """So many days: people pay while things go wrong, somebody gets money back, the balance is drawn to the bank each
    night, and each morning the bills are fetched. Afterwards three mornings more."""
    with at(1, 8):
        home = await world.home(bills=1)
        town = Town(world, sandbox, drain, home, await finance_of(world, home))
    for day in range(1, days + 1):
        await _a_day(town, day)
        await _a_morning(town, day + 1)
    for day in range(days + 2, days + 5):
        await _a_morning(town, day)
    return town


async def _a_day(town: Town, day: int) -> None:
    sandbox, world, company = town.sandbox, town.world, town.home.company
    with at(day, 9):
        community = await Community.get(id=town.home.community.id)
        room = await world.room(community, f"{day}栋1单元101")
        owner, customer = await world.owner(company, room)
        town.finance = await finance_of(world, town.home)
        bills = [
            await world.bill(company, room, customer, 10_000 + 7 * day + n, month=date(2025, n + 1, 1))
            for n in range(4)
        ]
        home = Home(company, community, room, owner, customer, bills)
        surplus = await paid_for_nothing(home, town.finance, sandbox, town.drain, [str(bills[3].id)])
        outcome = REFUNDS[day % 3]
        await sandbox.fault("refund_outcome", outcome=outcome, times=1)
        assert (await surplus.send_back()).status_code == 201
        for fault in (FAULTS[(2 * day - 2) % len(FAULTS)], FAULTS[(2 * day - 1) % len(FAULTS)]):
            await sandbox.fault(**fault, times=1)
    for hour, bill in ((12, bills[0]), (18, bills[1]), (23, bills[2])):
        with at(day, hour, 59 if hour == 23 else 0, 58 if hour == 23 else 0):
            await _pay(home, sandbox, str(bill.id))
    with at(day, 23, 59, 59):
        if outcome == "PROCESSING" and day % 2:
            await surplus.decide("SUCCESS")
        balance = await draw(town.home, sandbox, -1) - 1
        await draw(town.home, sandbox, balance + 1)
        town.drawn_fen += balance
    with at(day + 1, 0, 30):
        await sandbox.post("/sandbox/clock", {"advance_s": 60})
        await asyncio.sleep(0.1)
        for _ in range(3):
            await payments.sweep()
            await payments.sweep_refunds()
        await town.drain()


async def _pay(home: Home, sandbox: SandboxControl, bill_id: str) -> None:
    for _ in range(3):
        answer = (await home.open(bill_ids=[bill_id])).json()
        if answer.get("wechat"):
            await sandbox.pay(answer)
            return


async def _a_morning(town: Town, day: int) -> None:
    for hour, minute in ((10, 6), (10, 45), (11, 30)):
        with at(day, hour, minute):
            await payments.sweep()
            await payments.sweep_refunds()
            await payments.sweep_reconciliations()
            town.ever_open |= {one.number for one in await Difference.filter(state=DifferenceState.OPEN)}
            await town.drain()


async def unexplained() -> list[dict[str, Any]]:
    """What is still open, and the days that were not read."""
    found = [vars(one) for one in await Difference.filter(state=DifferenceState.OPEN)]
    waiting = await Reconciliation.filter(state="waiting").values("kind", "bill_on", "problem")
    return [*found, *waiting]


async def clearing_fen() -> int:
    """What the books say that lies at WeChat."""
    account = await Account.get(kind="wechat_clearing")
    came = sum(one.amount_fen for one in await Entry.filter(debit_account_id=account.id))
    return came - sum(one.amount_fen for one in await Entry.filter(credit_account_id=account.id))


async def under_way_fen() -> int:
    """Refunds that WeChat took from the balance and that are not decided: they lie in the books still."""
    found = await rows(
        "SELECT COALESCE(sum(a.amount_fen), 0)::bigint AS fen FROM refund_attempts a WHERE a.state = 'accepted'"
    )
    return int(found[0]["fen"])
