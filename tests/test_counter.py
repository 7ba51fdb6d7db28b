"""A day at the counter over HTTP, the refusals, and the counter against the phone."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest_asyncio

import payments
from kit import clock
from models.access import Role
from models.unit_of_work import rows
from tests.conftest import Drain, SandboxControl
from tests.counter import Counter, counter_of
from tests.world import World, unknown_id


@pytest_asyncio.fixture(loop_scope="session")
async def counter(world: World) -> Counter:
    """Three bills of 250.68, 250.69 and 250.70, a clerk, finance, and petty cash in the safe."""
    return await counter_of(world, bills=3)


async def take(counter: Counter, bills: dict[str, int], channel: str = "cash", **given: Any) -> httpx.Response:
    options = {"key": given.pop("key")} if "key" in given else {}
    person = given.pop("person", counter.clerk)
    document = {
        "bills": [{"bill_id": bill_id, "amount_fen": fen} for bill_id, fen in bills.items()],
        "channel": channel, **given,
    }  # fmt: skip
    return await person.post("/api/v1/staff/counter/payments", document, **options)


async def test_a_whole_day(counter: Counter, drain: Drain, books: Any) -> None:
    shift_id = (await counter.open_shift(10000)).json()["id"]
    first, second, third = counter.home.bill_ids

    cash = await take(counter, {first: 25068}, tendered_fen=30000)
    assert cash.status_code == 201, cash.text
    taken = cash.json()
    assert (taken["status"], taken["change_fen"], taken["tendered_fen"]) == ("paid", 4932, 30000)
    receipt = (await counter.clerk.get(f"/api/v1/staff/receipts/{taken['receipt_id']}")).json()
    assert receipt["number"] == taken["receipt_number"]
    for format in ("80mm", "a4"):
        printed = await counter.clerk.post(f"/api/v1/staff/receipts/{taken['receipt_id']}/prints", {"format": format})
        assert printed.status_code == 201, printed.text
    card = await take(counter, {second: 25069}, "pos", reference="000123")
    came_at = datetime(2026, 11, 2, 4, tzinfo=UTC)
    part = await take(counter, {third: 10000}, "bank_transfer", reference="B77", received_at=came_at.isoformat())
    assert (card.status_code, part.status_code) == (201, 201), (card.text, part.text)
    assert (card.json()["change_fen"], datetime.fromisoformat(part.json()["paid_at"])) == (0, came_at)
    left = (await counter.home.owner.get(f"/api/v1/bills/{third}")).json()
    assert (left["status"], left["paid_fen"]) == ("part_paid", 10000)
    await drain()

    closed = (await counter.close(shift_id, 35000)).json()  # ten yuan and more are missing: 100.00 + 250.68
    assert closed["drawers"][0]["variance_fen"] == -68
    summary = (await counter.clerk.get(f"/api/v1/staff/shifts/{shift_id}/summary")).json()
    assert {one["channel"]: (one["payments"], one["amount_fen"]) for one in summary["channels"]} == {
        "bank_transfer": (1, 10000), "cash": (1, 25068), "pos": (1, 25069),
    }  # fmt: skip
    assert [(one["name"], one["amount_fen"]) for one in summary["items"]] == [("物业费", 60137)]
    assert (summary["payments"], summary["total_fen"], summary["receipts"]) == (3, 60137, 3)
    assert (summary["first_number"], summary["last_number"]) == (
        taken["receipt_number"], part.json()["receipt_number"],
    )  # fmt: skip
    (drawer,) = summary["drawers"]
    assert drawer["float_fen"] + drawer["taken_fen"] + drawer["taken_over_fen"] - drawer["refunded_fen"] == 35068
    assert (drawer["expected_fen"], drawer["counted_fen"], drawer["variance_fen"]) == (35068, 35000, -68)
    assert (await take(counter, {third: 15070}, tendered_fen=15070)).json()["code"] == "no_open_shift"

    await counter.clerk.post(f"/api/v1/staff/shifts/{shift_id}/hand-over", {})
    assert (await counter.slip("deposit", 75001)).json()["code"] == "cash_not_there"
    assert (await counter.slip("deposit", 75000, person=counter.clerk)).status_code == 201
    approved = await counter.finance.post(f"/api/v1/staff/shifts/{shift_id}/approve", {"remark": "找零差错"})
    assert approved.json()["status"] == "approved"
    assert await counter.balances() == {
        "bank": 25000 + 10000, "pos_clearing": 25069, "cash_variance": 68, "received": -60137,
    }  # fmt: skip


async def test_what_is_refused_changes_nothing(world: World, counter: Counter, books: Any) -> None:
    first, second, _ = counter.home.bill_ids
    elsewhere = await world.community(counter.home.company, "月亮湾")
    far = await world.staff(counter.home.company, Role.CASHIER, elsewhere)
    for channel, given in (
        ("cash", {"tendered_fen": 25068}),
        ("pos", {"reference": "1"}),
        ("bank_transfer", {"reference": "1"}),
    ):
        refused = await take(counter, {first: 25068}, channel, **given)
        assert (refused.status_code, refused.json()["code"]) == (409, "no_open_shift")
    shift_id = (await counter.open_shift(0)).json()["id"]
    future = (clock.now() + timedelta(hours=1)).isoformat()
    for code, bills, channel, given in (
        ("tendered_too_little", {first: 25068}, "cash", {"tendered_fen": 25067}),
        ("wrong_for_channel", {first: 25068}, "cash", {}),
        ("wrong_for_channel", {first: 25068}, "cash", {"tendered_fen": 25068, "reference": "1"}),
        ("wrong_for_channel", {first: 25068}, "pos", {}),
        ("wrong_for_channel", {first: 25068}, "pos", {"tendered_fen": 25068, "reference": "1"}),
        ("received_in_future", {first: 25068}, "pos", {"reference": "1", "received_at": future}),
        ("less_is_owed", {first: 25069}, "cash", {"tendered_fen": 30000}),
        ("not_found", {first: 25068, unknown_id(): 1}, "cash", {"tendered_fen": 30000}),
        ("not_found", {first: 25068}, "cash", {"tendered_fen": 30000, "person": far}),
        ("not_permitted", {first: 25068}, "cash", {"tendered_fen": 30000, "person": counter.finance}),
    ):
        refused = await take(counter, bills, channel, **given)
        assert refused.json()["code"] == code, (code, refused.text)
    assert await counter.cash() == {"safe": 50000, "drawers": 0}
    assert await rows("SELECT id FROM payments") == []

    assert (await take(counter, {first: 25068}, "pos", reference="V1")).status_code == 201
    again = await take(counter, {second: 25069}, "pos", reference="V1")
    assert (again.status_code, again.json()["code"]) == (409, "reference_used")
    assert (await take(counter, {first: 25068}, tendered_fen=25068)).json()["code"] == "bill_already_paid"
    assert len(await rows("SELECT id FROM payments")) == 1
    assert (await counter.close(shift_id, {})).status_code == 200  # no cash was taken, so there is no drawer


async def test_a_second_click_takes_once(counter: Counter, books: Any) -> None:
    await counter.open_shift(0)
    first = counter.home.bill_ids[0]
    answers = [await take(counter, {first: 25068}, tendered_fen=30000, key="click") for _ in range(2)]
    assert [one.status_code for one in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert await counter.cash() == {"safe": 50000, "drawers": 25068}


async def test_counter_and_phone_pay_one_bill_at_once(
    counter: Counter, sandbox: SandboxControl, drain: Drain, books: Any
) -> None:
    await counter.open_shift(0)
    first = counter.home.bill_ids[0]
    opened = (await counter.home.open(bill_ids=[first])).json()
    card, paid = await asyncio.gather(take(counter, {first: 25068}, "pos", reference="V2"), sandbox.pay(opened))
    assert card.status_code == 201, card.text
    await sandbox.called_back(paid.json()["out_trade_no"])
    await drain()
    # Both came; the bill took one of them, and finance decides about the other.
    assert (await counter.home.owner.get(f"/api/v1/bills/{first}")).json()["paid_fen"] == 25068
    found = await rows("SELECT channel, surplus_fen FROM payments WHERE state = 'paid'")
    assert sorted(one["surplus_fen"] for one in found) == [0, 25068]
    (case,) = (await counter.finance.get("/api/v1/staff/discrepancies?status=open")).json()["items"]
    assert (case["kind"], case["amount_fen"]) == ("surplus", 25068)


async def test_counting_waits_for_money_that_is_being_taken(counter: Counter, books: Any) -> None:
    shift_id = (await counter.open_shift(10000)).json()["id"]
    bills = counter.home.bills
    answers = await asyncio.gather(
        *(take(counter, {str(bill.id): bill.amount_fen}, tendered_fen=30000) for bill in bills),
        counter.close(shift_id, 10000),
    )
    came_fen = sum(bill.amount_fen for bill, one in zip(bills, answers, strict=False) if one.status_code == 201)
    assert {one.json().get("code") for one in answers[:3] if one.status_code != 201} <= {"no_open_shift"}
    (drawer,) = answers[3].json()["drawers"]
    assert (drawer["expected_fen"], drawer["variance_fen"]) == (10000 + came_fen, -came_fen)


async def test_the_invariants_of_cash_bite(counter: Counter, owner: asyncpg.Connection) -> None:
    async def broken(number: str, *changes: str) -> None:
        """Break it as the owner, see it told, and mend it."""
        (invariant,) = (one for one in payments.INVARIANTS if one.number == number)
        assert await owner.fetch(invariant.sql) == []
        transaction = owner.transaction()
        await transaction.start()
        await owner.execute("SET LOCAL session_replication_role = replica")
        for change in changes:
            await owner.execute(change)
        assert await owner.fetch(invariant.sql), changes
        await transaction.rollback()

    shift_id = (await counter.open_shift(10000)).json()["id"]
    await take(counter, {counter.home.bill_ids[0]: 25068}, tendered_fen=30000)
    await counter.close(shift_id, 35000)
    await broken("L29", "DELETE FROM entries WHERE kind = 'cash_variance'")
    await broken("L29", "UPDATE shift_drawers SET counted_fen = 35068")
    await broken("L29", "UPDATE shifts SET state = 'handed_over', handed_over_at = now()")
    await broken("L30", "UPDATE entries SET amount_fen = 1 WHERE kind = 'cash_drawn'")
    await broken("L30", "DELETE FROM shift_drawers")
    await broken("L31", "DELETE FROM entries WHERE kind = 'cash_drawn'")
    await broken("L31", "UPDATE entries SET amount_fen = 1 WHERE kind = 'shift_float'")
    await broken("L31", "UPDATE payments SET shift_id = gen_random_uuid()")
