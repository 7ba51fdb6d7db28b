"""Prepaid balances: topped up by anybody's way, paid from oldest first, never overdrawn, told in a statement."""

import asyncio
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import asyncpg
import pytest

import payments
from jobs.prepaid import sweep_prepaid
from kit import clock
from models.access import Role
from models.bill import Bill
from models.ledger import Entry
from models.payment import Channel, Payment
from models.prepaid import PrepaidRun, PrepaidRunLine
from models.unit_of_work import rows
from services import prepaid_run
from tests.conftest import Drain, SandboxControl
from tests.surplus_home import balances
from tests.till import Till, till
from tests.world import Person, World, unknown_id


@dataclass
class Purse:
    """A household with 300.00 in its balance, three open bills, and the people around it."""

    counter: Till
    finance: Person
    account_id: str

    @property
    def own(self) -> str:
        return f"/api/v1/prepaid-accounts/{self.account_id}"

    @property
    def staffs(self) -> str:
        return f"/api/v1/staff/prepaid-accounts/{self.account_id}"

    async def left(self) -> int:
        return int((await self.counter.home.owner.get(self.own)).json()["balance_fen"])

    async def paid(self) -> list[int]:
        ids = [bill.id for bill in self.counter.home.bills]
        return [bill.paid_fen for bill in await Bill.filter(id__in=ids).order_by("accrued_on")]

    async def runs(self) -> str:
        return f"/api/v1/staff/communities/{self.counter.home.community.id}/prepaid-runs"


@pytest.fixture
async def purse(world: World) -> Purse:
    counter = await till(world, bills=3)
    await counter.top_up(30000)
    finance = await world.staff(counter.home.company, Role.FINANCE, counter.home.community)
    (account,) = (await counter.home.owner.get("/api/v1/prepaid-accounts")).json()["items"]
    return Purse(counter, finance, account["id"])


async def test_a_resident_tops_up_by_phone_and_pays_from_it(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    home = await world.home(bills=2)
    manager = await world.staff(home.company, Role.MANAGER, home.community)
    item = await world.fee_item(home.company, home.community)
    wish = {"room_id": str(home.room.id), "amount_fen": 30000}
    closed = await home.owner.post("/api/v1/prepaid-top-ups", wish)
    assert (closed.status_code, closed.json()["code"]) == (409, "top_up_not_offered")
    path = f"/api/v1/staff/communities/{home.community.id}"
    opened_for = (await manager.patch(path, {"prepaid_fee_item_id": str(item.id), "prepaid_pay_day": 5})).json()
    assert (opened_for["prepaid_fee_item_id"], opened_for["prepaid_pay_day"]) == (str(item.id), 5)
    for amount_fen in (99, 10000001, 0, -1):
        assert (await home.owner.post("/api/v1/prepaid-top-ups", wish | {"amount_fen": amount_fen})).status_code == 422
    assert (await home.owner.post("/api/v1/prepaid-top-ups", wish | {"room_id": unknown_id()})).status_code == 404

    first = await home.owner.post("/api/v1/prepaid-top-ups", wish, key="once")
    again = await home.owner.post("/api/v1/prepaid-top-ups", wish, key="once")

    assert first.status_code == 201 and first.json() == again.json()
    bill = first.json()
    assert (bill["kind"], bill["status"], bill["amount_fen"], bill["title"]) == ("prepaid", "open", 30000, "预存款充值")
    paid = (await sandbox.pay((await home.open(bill_ids=[bill["id"]])).json())).json()
    await sandbox.called_back(paid["out_trade_no"])
    await drain()
    assert await balances() == {"wechat_clearing": 30000, "prepaid": -30000}
    (account,) = (await home.owner.get("/api/v1/prepaid-accounts")).json()["items"]
    assert (account["balance_fen"], account["customer_id"], account["pays_monthly"]) == (
        30000,
        str(home.customer.id),
        True,
    )

    pay = f"/api/v1/prepaid-accounts/{account['id']}/pay"
    used = await home.owner.post(pay, {"bill_ids": []}, key="pay")
    repeat = await home.owner.post(pay, {"bill_ids": []}, key="pay")

    assert used.status_code == 201 and used.json()["id"] == repeat.json()["id"]
    assert (used.json()["channel"], used.json()["amount_fen"], used.json()["status"]) == ("prepaid", 30000, "paid")
    assert await balances() == {"wechat_clearing": 30000, "received": -30000}
    assert [one.paid_fen for one in await Bill.filter(kind="charge").order_by("accrued_on")] == [25068, 4932]
    empty = await home.owner.post(pay, {"bill_ids": []})
    assert (empty.status_code, empty.json()["code"]) == (409, "not_enough_held")
    await drain()  # the payer has a receipt and a message for what was paid from the balance, too


async def test_a_top_up_that_nobody_pays_is_voided_but_not_while_somebody_pays(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    home = await world.home()
    cashier = await world.staff(home.company, Role.CASHIER, home.community)
    item = await world.fee_item(home.company, home.community)
    path = f"/api/v1/staff/communities/{home.community.id}/prepaid-top-ups"
    wish = {"customer_id": str(home.customer.id), "amount_fen": 5000}
    nobody_said = await cashier.post(path, wish)
    assert (nobody_said.status_code, nobody_said.json()["code"]) == (409, "top_up_not_offered")
    made = [(await cashier.post(path, wish | {"fee_item_id": str(item.id)})).json() for _ in range(3)]
    left, paid, paying = [one["id"] for one in made]
    taken = (await sandbox.pay((await home.open(bill_ids=[paid])).json())).json()
    await sandbox.called_back(taken["out_trade_no"])
    await drain()
    with clock.travel_to(clock.now() + timedelta(minutes=119)):
        await home.open(bill_ids=[paying])
        await sweep_prepaid()
        assert (await Bill.get(id=left)).state == "open"

    with clock.travel_to(clock.now() + timedelta(minutes=121)):
        await sweep_prepaid()

    states = {str(bill.id): (str(bill.state), bill.void_reason) for bill in await Bill.filter(kind="prepaid")}
    assert states == {left: ("void", "逾期未支付，自动作废"), paid: ("paid", None), paying: ("open", None)}
    assert len(await rows("SELECT id FROM prepaid_top_ups WHERE next_check_at IS NOT NULL")) == 1


async def test_chosen_bills_and_what_was_agreed(purse: Purse, world: World, drain: Drain, books) -> None:
    counter, home = purse.counter, purse.counter.home
    water = await world.fee_item(home.company, home.community, "水费")
    of_water = await world.bill(home.company, home.room, home.customer, 777, month=date(2026, 1, 1), item=water)
    neighbour = await world.home()
    _, middle, youngest = home.bills

    agreed = await purse.finance.put(
        f"{purse.staffs}/agreement", {"fee_item_ids": [str(water.id)], "pays_monthly": False}
    )
    assert (agreed.status_code, agreed.json()["fee_item_ids"]) == (200, [str(water.id)])
    refused = [
        ([str(middle.id)], 409, "bill_not_for_prepaid"),
        ([str(of_water.id), str(middle.id)], 409, "bill_not_for_prepaid"),
        ([unknown_id()], 404, "not_found"),
        (["none"], 404, "not_found"),
        ([neighbour.bill_ids[0]], 404, "not_found"),
    ]
    for bill_ids, status, code in refused:
        for person, path in ((home.owner, purse.own), (counter.clerk, purse.staffs)):
            answer = await person.post(f"{path}/pay", {"bill_ids": bill_ids})
            assert (answer.status_code, answer.json()["code"]) == (status, code), bill_ids
    assert await purse.left() == 30000
    only_water = await counter.clerk.post(f"{purse.staffs}/pay", {"bill_ids": []})
    assert (only_water.status_code, only_water.json()["bill_ids"]) == (201, [str(of_water.id)])
    none_left = await home.owner.post(f"{purse.own}/pay", {"bill_ids": []})
    assert (none_left.status_code, none_left.json()["code"]) == (409, "nothing_owed")

    await purse.finance.put(f"{purse.staffs}/agreement", {"fee_item_ids": [], "pays_monthly": True})
    chosen = await home.owner.post(f"{purse.own}/pay", {"bill_ids": [str(youngest.id), str(middle.id)]})

    assert (chosen.status_code, chosen.json()["amount_fen"]) == (201, 30000 - 777)
    assert await purse.paid() == [0, 25069, 30000 - 777 - 25069]
    paid_twice = await home.owner.post(f"{purse.own}/pay", {"bill_ids": [str(middle.id)]})
    assert (paid_twice.status_code, paid_twice.json()["code"]) == (409, "bill_already_paid")
    # Who may not, may not; who has nothing to do with it hears of nothing.
    manager = await world.staff(home.company, Role.MANAGER, home.community)
    assert (await manager.post(f"{purse.staffs}/pay", {"bill_ids": []})).status_code == 403
    assert (
        await counter.clerk.put(f"{purse.staffs}/agreement", {"fee_item_ids": [], "pays_monthly": True})
    ).status_code == 403
    for path in (purse.own, f"{purse.own}/statement"):
        assert (await neighbour.owner.get(path)).status_code == 404
    assert (await neighbour.owner.post(f"{purse.own}/pay", {"bill_ids": []})).status_code == 404
    await drain()


async def test_a_bill_that_somebody_is_paying_is_left_to_them(
    purse: Purse, sandbox: SandboxControl, drain: Drain, books
) -> None:
    home = purse.counter.home
    opened = (await home.open(bill_ids=[home.bill_ids[0]])).json()

    chosen = await home.owner.post(f"{purse.own}/pay", {"bill_ids": [home.bill_ids[0]]})
    rest = await home.owner.post(f"{purse.own}/pay", {"bill_ids": []})

    assert (chosen.status_code, chosen.json()["code"]) == (409, "payment_in_progress")
    assert rest.status_code == 201 and await purse.paid() == [0, 25069, 4931]
    await sandbox.called_back((await sandbox.pay(opened)).json()["out_trade_no"])
    await drain()
    assert await purse.paid() == [25068, 25069, 4931]


async def test_eight_at_once_pay_once(purse: Purse, books) -> None:
    home = purse.counter.home
    answers = await asyncio.gather(*(home.owner.post(f"{purse.own}/pay", {"bill_ids": []}) for _ in range(8)))

    assert sorted(one.status_code for one in answers) == [201] + [409] * 7
    assert {one.json()["code"] for one in answers if one.status_code == 409} == {"not_enough_held"}
    assert await purse.paid() == [25068, 4932, 0] and await purse.left() == 0


async def test_the_statement_adds_up_page_by_page(purse: Purse, drain: Drain, books) -> None:
    home, counter = purse.counter.home, purse.counter
    await home.owner.post(f"{purse.own}/pay", {"bill_ids": [home.bill_ids[0]]})
    await counter.top_up(123, month=date(2026, 2, 1))
    await counter.top_up(7, month=date(2026, 3, 1))
    await counter.clerk.post(f"{purse.staffs}/pay", {"bill_ids": [home.bill_ids[1]]})

    lines, cursor = [], ""
    while cursor is not None:
        page = (await home.owner.get(f"{purse.own}/statement?limit=2{cursor and '&cursor='}{cursor}")).json()
        lines += page["items"]
        cursor = page["next_cursor"]

    assert [(one["text"], one["in_fen"], one["out_fen"], one["balance_fen"], one["channel"]) for one in lines] == [
        ("抵扣账单", 0, 5062, 0, "prepaid"),
        ("存入", 7, 0, 5062, "pos"),
        ("存入", 123, 0, 5055, "pos"),
        ("抵扣账单", 0, 25068, 4932, "prepaid"),
        ("存入", 30000, 0, 30000, "pos"),
    ]
    assert sum(one["in_fen"] - one["out_fen"] for one in lines) == await purse.left() == 0
    staffs = (await counter.clerk.get(f"{purse.staffs}/statement")).json()
    assert staffs == {"items": lines, "next_cursor": None}
    await drain()


async def household(world: World, counter: Till, number: int, held_fen: int, *owed_fen: int) -> Any:
    """One more household of the community with a balance and bills; its customer."""
    home = counter.home
    room = await world.room(home.community, f"3栋2单元{number}")
    customer = await world.customer(home.company, f"业主{number}")
    for month, fen in enumerate(owed_fen, start=1):
        await world.bill(home.company, room, customer, fen, month=date(2026, month, 1))
    if held_fen:
        home.room, home.customer = room, customer
        await counter.top_up(held_fen)
    return customer


async def test_a_monthly_run_pays_each_balance_once(purse: Purse, world: World, drain: Drain, books) -> None:
    counter, home, first = purse.counter, purse.counter.home, purse.counter.home.customer
    people = [
        await household(world, counter, 1, 500, 100, 200),
        await household(world, counter, 2, 500),
        await household(world, counter, 3, 0, 100),
        await household(world, counter, 4, 500, 100),
    ]
    fourth = next(
        one for one in (await purse.finance.get("/api/v1/staff/prepaid-accounts")).json()["items"]
        if one["customer_id"] == str(people[3].id)
    )  # fmt: skip
    wish = {"fee_item_ids": [], "pays_monthly": False}
    assert (
        await purse.finance.put(f"/api/v1/staff/prepaid-accounts/{fourth['id']}/agreement", wish)
    ).status_code == 200
    manager = await world.staff(home.company, Role.MANAGER, home.community)
    await drain()
    await sweep_prepaid()
    assert await PrepaidRun.all().count() == 0
    await manager.patch(
        f"/api/v1/staff/communities/{home.community.id}",
        {"prepaid_pay_day": min(clock.today().day, 28)},
    )

    await asyncio.gather(sweep_prepaid(), sweep_prepaid())
    await drain()
    await sweep_prepaid()

    (run,) = (await purse.finance.get("/api/v1/staff/prepaid-runs")).json()["items"]
    expected = {
        "status": "done", "month": f"{clock.today():%Y-%m}-01", "account_count": 3, "done": 3, "paid": 1,
        "part_paid": 1, "nothing_owed": 1, "failed": 0, "bills": 4, "paid_fen": 30300,
        "still_owed_fen": 25068 + 25069 + 25070 - 30000,
    }  # fmt: skip
    assert {name: run[name] for name in expected} == expected
    lines = (await purse.finance.get(f"/api/v1/staff/prepaid-runs/{run['id']}/lines")).json()["items"]
    assert (
        sum(one["paid_fen"] for one in lines)
        == 30300
        == sum(one.amount_fen for one in await Payment.filter(channel="prepaid"))
    )
    assert {one.customer_id for one in await Payment.filter(channel="prepaid")} == {first.id, people[0].id}
    assert (await Payment.filter(channel="prepaid").first()).payer_staff_id is None

    # Once more by hand: nothing is paid twice, what came meanwhile is.
    await household(world, counter, 5, 1000, 400)
    started = await purse.finance.post(await purse.runs())
    assert (started.status_code, started.json()["month"], started.json()["done"]) == (201, None, 0)
    busy = await purse.finance.post(await purse.runs())
    assert (busy.status_code, busy.json()["code"]) == (409, "prepaid_run_under_way")
    await drain()
    second = (await purse.finance.get(f"/api/v1/staff/prepaid-runs/{started.json()['id']}")).json()
    assert (second["status"], second["paid"], second["paid_fen"], second["done"]) == ("done", 1, 400, 3)
    assert (await counter.clerk.post(await purse.runs())).status_code == 403


async def test_a_run_that_is_killed_or_stumbles_is_gone_on_with(
    purse: Purse, world: World, drain: Drain, books, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 6):
        await household(world, purse.counter, number, 300, 100)
    await drain()
    run_id = (await purse.finance.post(await purse.runs())).json()["id"]
    original, seen = payments.pay_all_from_prepaid_tx, []

    async def stumbling(actor: Any, account: Any) -> Any:
        seen.append(account.id)
        paid = await original(actor, account)
        if len(seen) == 2:
            raise RuntimeError("this account cannot be paid")
        if len(seen) == 4:
            raise asyncio.CancelledError  # the worker is killed
        return paid

    monkeypatch.setattr(payments, "pay_all_from_prepaid_tx", stumbling)
    monkeypatch.setattr(prepaid_run, "A_BATCH", 2)
    with pytest.raises(asyncio.CancelledError):
        await prepaid_run.work_run(run_id)
    half = (await purse.finance.get(f"/api/v1/staff/prepaid-runs/{run_id}")).json()
    assert (half["status"], half["account_count"], half["done"], half["failed"]) == ("running", 6, 3, 1)
    await sweep_prepaid()  # its lease has not run out
    assert len(seen) == 4

    with clock.travel_to(clock.now() + timedelta(seconds=61)):
        await sweep_prepaid()

    whole = (await purse.finance.get(f"/api/v1/staff/prepaid-runs/{run_id}")).json()
    assert (whole["status"], whole["done"], whole["failed"], len(seen)) == ("done", 6, 1, 7)
    assert await PrepaidRunLine.all().count() == 6
    assert await Payment.filter(channel="prepaid").count() == 5
    assert len(set(seen)) == 6
    await drain()


async def test_two_workers_share_a_run(
    purse: Purse, world: World, drain: Drain, owner: asyncpg.Connection, books
) -> None:
    for number in range(1, 5):
        await household(world, purse.counter, number, 300, 100)
    await drain()
    run_id = (await purse.finance.post(await purse.runs())).json()["id"]

    worked = await asyncio.gather(*(prepaid_run.work_run(run_id) for _ in range(3)))

    assert sum(worked) == 5
    assert await Payment.filter(channel="prepaid").count() == 5
    assert await Entry.filter(kind="payment", debit_account_id__in=[
        one["id"] for one in await rows("SELECT id FROM accounts WHERE kind = 'prepaid'")
    ]).count() == 5  # fmt: skip
    assert (await PrepaidRun.get()).state == "done"
    assert await Payment.filter(channel=Channel.PREPAID, amount_fen=100).count() == 4
    await drain()
