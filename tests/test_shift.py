"""Cashier shifts over HTTP: float, blind count, variance, hand-over, slip, approval — and what is refused."""

import asyncio
import itertools
from datetime import timedelta
from typing import Any

import pytest_asyncio

from kit import clock
from models.access import Role
from models.organization import LegalEntity
from models.shift import SHIFT_MACHINE, ShiftState
from models.staff import StaffRole
from models.unit_of_work import rows
from tests.counter import Counter, counter_of
from tests.world import World, unknown_id


@pytest_asyncio.fixture(loop_scope="session")
async def counter(world: World) -> Counter:
    """A home, a clerk, finance, and 500.00 of petty cash in the safe."""
    return await counter_of(world)


def test_a_shift_moves_forward_only() -> None:
    states = list(ShiftState)
    allowed = {(one, after) for one in states for after in states if SHIFT_MACHINE.allows(one, after)}
    assert allowed == set(itertools.pairwise(states))


async def test_the_cash_of_a_shift_without_takings_goes_round(counter: Counter, books: Any) -> None:
    opened = (await counter.open_shift(10000)).json()
    assert opened["status"] == "open"
    assert opened["drawers"] == [
        {"legal_entity_id": counter.entity_id, "legal_entity": "物业公司1有限公司", "float_fen": 10000,
         "expected_fen": None, "counted_fen": None, "variance_fen": None}
    ]  # fmt: skip
    assert await counter.cash() == {"safe": 40000, "drawers": 10000}
    # Nothing that a clerk can ask for says what should be in the drawer.
    assert (await counter.clerk.get(f"/api/v1/staff/shifts/{opened['id']}/summary")).json()["code"] == "shift_is_open"

    closed = (await counter.close(opened["id"], 9990)).json()
    (drawer,) = closed["drawers"]
    assert (drawer["expected_fen"], drawer["counted_fen"], drawer["variance_fen"]) == (10000, 9990, -10)
    assert await counter.balances() == {"bank": -50000, "cash_on_hand": 49990, "cash_variance": 10}
    again = await counter.close(opened["id"], 10000)
    assert (again.status_code, again.json()["code"]) == (409, "move_not_allowed")

    handed = await counter.clerk.post(f"/api/v1/staff/shifts/{opened['id']}/hand-over", {})
    assert handed.json()["status"] == "handed_over"
    assert await counter.cash() == {"safe": 49990, "drawers": 0}
    path = f"/api/v1/staff/shifts/{opened['id']}/approve"
    assert (await counter.finance.post(path, {})).json()["code"] == "variance_unexplained"
    assert (await counter.finance.post(path, {"remark": "少一角，硬币"})).json()["status"] == "approved"
    assert (await counter.finance.post(path, {"remark": "再一次"})).json()["code"] == "move_not_allowed"


async def test_a_second_click_opens_closes_and_banks_once(counter: Counter, books: Any) -> None:
    first, second = [await counter.open_shift(10000, key="open") for _ in range(2)]
    assert first.json()["id"] == second.json()["id"]
    assert (await counter.open_shift(0)).json()["code"] == "shift_already_open"
    shift_id = first.json()["id"]
    for _ in range(2):
        closed = await counter.close(shift_id, 10001, key="close")
        assert closed.json()["drawers"][0]["variance_fen"] == 1
    banked_at = clock.now().isoformat()
    for _ in range(2):
        answer = await counter.slip("deposit", 40000, number="8801", banked_at=banked_at, key="bank")
        assert answer.status_code == 201, answer.text
    assert (await counter.slip("deposit", 1, number="8801")).json()["code"] == "bank_slip_known"
    assert await counter.cash() == {"safe": 0, "drawers": 10001}


async def test_no_more_goes_to_the_bank_or_into_a_drawer_than_is_in_the_safe(counter: Counter, books: Any) -> None:
    refused = await counter.slip("deposit", 50001)
    assert (refused.status_code, refused.json()["code"]) == (409, "cash_not_there")
    assert (await counter.open_shift(50001)).json()["code"] == "cash_not_there"
    assert await counter.cash() == {"safe": 50000, "drawers": 0}
    assert (await counter.clerk.get("/api/v1/staff/shifts")).json()["items"] == []
    future = (clock.now() + timedelta(minutes=5)).isoformat()
    assert (await counter.slip("deposit", 1, banked_at=future)).json()["code"] == "banked_in_future"
    assert (await counter.slip("withdrawal", 1, person=counter.clerk)).json()["code"] == "not_permitted"
    assert (await counter.slip("deposit", 50000, person=counter.clerk)).status_code == 201
    assert await counter.cash() == {"safe": 0, "drawers": 0}
    assert [one["kind"] for one in (await counter.finance.get("/api/v1/staff/bank-slips")).json()["items"]] == [
        "deposit", "withdrawal",
    ]  # fmt: skip


async def test_the_next_clerk_takes_the_cash_over(world: World, counter: Counter, books: Any) -> None:
    shift_id = (await counter.open_shift(10000)).json()["id"]
    other = await world.staff(counter.home.company, Role.CASHIER, counter.home.community)
    next_id = (await counter.open_shift(0, person=other)).json()["id"]
    path = f"/api/v1/staff/shifts/{shift_id}/hand-over"
    assert (await other.post(path, {"to_shift_id": next_id})).json()["code"] == "move_not_allowed"  # not counted yet
    await counter.close(shift_id, 10000)
    assert (await counter.clerk.post(path, {"to_shift_id": next_id})).json()["code"] == "receiver_takes_over"
    assert (await other.post(path, {})).json()["code"] == "not_permitted"  # another's cash into the safe
    taken = await other.post(path, {"to_shift_id": next_id})
    assert taken.json()["handed_to_shift_id"] == next_id
    assert await counter.cash() == {"safe": 40000, "drawers": 10000}
    closed = (await counter.close(next_id, 10000, person=other)).json()
    assert closed["drawers"][0]["variance_fen"] == 0
    (drawer,) = (await other.get(f"/api/v1/staff/shifts/{next_id}/summary")).json()["drawers"]
    assert (drawer["float_fen"], drawer["taken_over_fen"], drawer["expected_fen"]) == (0, 10000, 10000)


async def test_cash_of_two_legal_entities_is_kept_and_counted_apart(world: World, counter: Counter, books: Any) -> None:
    company = counter.home.company
    parking = await LegalEntity.create(organization_id=company.id, name="停车管理公司")
    await world.fee_item(company, counter.home.community, "停车费", legal_entity_id=parking.id)
    await counter.slip("withdrawal", 3000, number="2", legal_entity_id=str(parking.id))
    floats = {counter.entity_id: 10000, str(parking.id): 3000}
    opened = (await counter.open_shift(floats)).json()
    assert {one["legal_entity"]: one["float_fen"] for one in opened["drawers"]} == {
        "物业公司1有限公司": 10000, "停车管理公司": 3000,
    }  # fmt: skip
    for counts in ({counter.entity_id: 13000}, {}, {**floats, unknown_id(): 0}):
        refused = await counter.close(opened["id"], counts)
        assert (refused.status_code, refused.json()["code"]) == (422, "count_incomplete")
    closed = (await counter.close(opened["id"], {counter.entity_id: 10050, str(parking.id): 2950})).json()
    # Off in both, though the sum agrees.
    assert sorted(one["variance_fen"] for one in closed["drawers"]) == [-50, 50]


async def test_a_shift_is_its_clerks_and_its_communitys(world: World, counter: Counter, books: Any) -> None:
    shift_id = (await counter.open_shift(0)).json()["id"]
    colleague = await world.staff(counter.home.company, Role.CASHIER, counter.home.community)
    elsewhere = await world.community(counter.home.company, "月亮湾")
    far = await world.staff(counter.home.company, Role.CASHIER, elsewhere)
    assert (await counter.close(shift_id, {}, person=colleague)).json()["code"] == "not_permitted"
    assert (await counter.close(shift_id, {}, person=far)).status_code == 404
    assert (await counter.open_shift(0, person=far)).status_code == 404
    assert (await counter.open_shift(0, person=counter.finance)).json()["code"] == "not_permitted"
    assert (await counter.open_shift({unknown_id(): 5})).status_code == 404
    assert (await far.get("/api/v1/staff/shifts")).json()["items"] == []
    await counter.close(shift_id, {})
    assert (await counter.clerk.post(f"/api/v1/staff/shifts/{shift_id}/approve", {})).json()["code"] == "not_permitted"
    assert (await counter.finance.post(f"/api/v1/staff/shifts/{shift_id}/approve", {})).json()["code"] == (
        "move_not_allowed"  # the cash is still in the drawer
    )


async def test_who_is_clerk_and_finance_does_not_approve_their_own(world: World, counter: Counter, books: Any) -> None:
    await StaffRole.create(
        organization_id=counter.home.company.id, staff_id=counter.clerk.staff.id,
        community_id=counter.home.community.id, role=Role.FINANCE,
    )  # fmt: skip
    shift_id = (await counter.open_shift(0)).json()["id"]
    await counter.close(shift_id, {})
    await counter.clerk.post(f"/api/v1/staff/shifts/{shift_id}/hand-over", {})
    refused = await counter.clerk.post(f"/api/v1/staff/shifts/{shift_id}/approve", {})
    assert (refused.status_code, refused.json()["code"]) == (403, "approved_by_another")
    assert (await counter.finance.post(f"/api/v1/staff/shifts/{shift_id}/approve", {})).json()["status"] == "approved"


async def test_two_slips_at_once_take_what_is_there_once(counter: Counter, books: Any) -> None:
    answers = await asyncio.gather(*(counter.slip("deposit", 30000, number=str(number)) for number in range(4)))
    assert sorted(one.status_code for one in answers) == [201, 409, 409, 409]
    assert await counter.cash() == {"safe": 20000, "drawers": 0}
    assert len(await rows("SELECT id FROM entries WHERE kind = 'cash_banked'")) == 1
