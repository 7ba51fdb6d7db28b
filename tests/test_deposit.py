"""Deposits: held once they are paid, deducted with evidence and never beyond what is left, asked back once."""

import asyncio
from dataclasses import dataclass
from datetime import date
from typing import Any

import httpx
import pytest

import payments
from models.access import Role
from models.bill import Bill, BillKind
from models.deposit import Deposit, DepositDeduction
from models.organization import LegalEntity
from models.payment import Channel, Payment
from tests.conftest import Drain
from tests.surplus_home import balances
from tests.till import Till, till
from tests.world import Person, World


@dataclass
class Renovation:
    """A household that left 2,000.00 and damaged the lift for 1,500.00."""

    counter: Till
    finance: Person
    deposit_id: str
    damage: Bill

    @property
    def path(self) -> str:
        return f"/api/v1/staff/deposits/{self.deposit_id}"

    async def deduct(
        self, amount_fen: int, bill: Any = None, person: Person | None = None, **options: Any
    ) -> httpx.Response:
        wish = {
            "bill_id": str((bill or self.damage).id),
            "amount_fen": amount_fen,
            "reason": "装修损坏电梯轿厢",
            "attachments": ["photo-1", "photo-2"],
        }
        return await (person or self.finance).post(f"{self.path}/deductions", wish, **options)

    async def shown(self) -> dict[str, Any]:
        return dict((await self.counter.home.owner.get(f"/api/v1/deposits/{self.deposit_id}")).json())


@pytest.fixture
async def renovation(world: World, drain: Drain) -> Renovation:
    counter = await till(world, bills=0)
    home = counter.home
    finance = await world.staff(home.company, Role.FINANCE, home.community)
    item = await world.fee_item(home.company, home.community, "装修押金")
    wish = {
        "community_id": str(home.community.id),
        "room_id": str(home.room.id),
        "customer_id": str(home.customer.id),
        "fee_item_id": str(item.id),
        "title": "装修押金",
        "amount_fen": 200000,
    }
    first = await counter.clerk.post("/api/v1/staff/deposits", wish, key="once")
    again = await counter.clerk.post("/api/v1/staff/deposits", wish, key="once")
    assert first.status_code == 201 and first.json()["id"] == again.json()["id"]
    assert (first.json()["kind"], first.json()["amount_fen"]) == ("deposit", 200000)
    await counter.take(Channel.CASH, (first.json()["id"], 120000))
    await drain()
    assert await Deposit.all().count() == 0  # not before all of it is there
    await counter.take(Channel.POS, (first.json()["id"], 80000))
    await drain()
    (found,) = (await home.owner.get("/api/v1/deposits")).json()["items"]
    damage = await world.bill(home.company, home.room, home.customer, 150000, month=date(2026, 6, 1))
    return Renovation(counter, finance, found["id"], damage)


async def test_it_is_deducted_with_evidence_and_what_is_left_is_asked_back(
    renovation: Renovation, drain: Drain, books
) -> None:
    owner = renovation.counter.home.owner
    shown = await renovation.shown()
    assert (shown["status"], shown["status_text"], shown["left_fen"]) == ("held", "已收取", 200000)
    assert await balances() == {"cash_on_hand": 120000, "pos_clearing": 80000, "deposit": -200000}

    first = await renovation.deduct(100000, key="once")
    again = await renovation.deduct(100000, key="once")

    assert first.status_code == 201 and first.json() == again.json()
    assert await balances() == {"cash_on_hand": 120000, "pos_clearing": 80000, "deposit": -100000, "received": -100000}
    shown = await renovation.shown()
    assert (shown["status"], shown["deducted_fen"], shown["left_fen"]) == ("part_deducted", 100000, 100000)
    (told,) = (await owner.get(f"/api/v1/deposits/{renovation.deposit_id}/deductions")).json()["items"]
    assert told == first.json()
    assert (told["amount_fen"], told["reason"], told["attachments"]) == (
        100000,
        "装修损坏电梯轿厢",
        ["photo-1", "photo-2"],
    )
    payment = await Payment.get(id=told["payment_id"])
    assert (payment.channel, payment.state, payment.amount_fen) == ("deposit", "paid", 100000)
    assert (await Bill.get(id=renovation.damage.id)).state == "part_paid"

    asked = await renovation.counter.clerk.post(f"{renovation.path}/ask-return", {"reason": "装修验收合格"}, key="ask")
    repeat = await renovation.counter.clerk.post(f"{renovation.path}/ask-return", {"reason": "装修验收合格"}, key="ask")
    assert asked.status_code == 200 and asked.json() == repeat.json()
    assert (asked.json()["status"], asked.json()["left_fen"]) == ("return_asked", 100000)
    for refused in (
        await renovation.deduct(1),
        await renovation.counter.clerk.post(f"{renovation.path}/ask-return", {"reason": "再来一次"}),
    ):
        assert (refused.status_code, refused.json()["code"]) == (409, "move_not_allowed")

    back = await renovation.finance.post(f"{renovation.path}/withdraw-return")
    assert (back.status_code, back.json()["status"], back.json()["return_reason"]) == (200, "part_deducted", None)
    not_asked = await renovation.finance.post(f"{renovation.path}/withdraw-return")
    assert (not_asked.status_code, not_asked.json()["code"]) == (409, "move_not_allowed")
    assert (await renovation.deduct(50000)).status_code == 201
    assert (await Bill.get(id=renovation.damage.id)).state == "paid"
    await drain()


async def test_what_may_not_be_deducted(renovation: Renovation, world: World, drain: Drain, books) -> None:
    home = renovation.counter.home
    other = await LegalEntity.create(organization_id=home.company.id, name="装修公司")
    item = await world.fee_item(home.company, home.community, "装修费", legal_entity_id=other.id)
    tenant = await world.customer(home.company, "租客丙")
    of_entity = await world.bill(home.company, home.room, home.customer, 100, month=date(2026, 4, 1), item=item)
    of_tenant = await world.bill(home.company, home.room, tenant, 100, month=date(2026, 3, 1))
    another = await world.bill(
        home.company, home.room, home.customer, 100, month=date(2026, 5, 1), kind=BillKind.DEPOSIT
    )
    large = await world.bill(home.company, home.room, home.customer, 300000, month=date(2026, 7, 1))
    stranger = await world.home()
    # A second deposit of the same household does not stretch the first.
    second = await world.bill(
        home.company, home.room, home.customer, 500000, month=date(2026, 8, 1), kind=BillKind.DEPOSIT
    )
    await renovation.counter.take(Channel.POS, (second, 500000))
    await drain()

    for bill, amount_fen, status, code in (
        (large, 200001, 409, "not_enough_held"),
        (renovation.damage, 150001, 409, "less_is_owed"),
        (of_entity, 100, 409, "bill_of_another"),
        (of_tenant, 100, 409, "bill_of_another"),
        (another, 100, 409, "bill_is_no_charge"),
        (stranger.bills[0], 100, 404, "not_found"),
    ):
        answer = await renovation.deduct(amount_fen, bill)
        assert (answer.status_code, answer.json()["code"]) == (status, code), bill.title
    for wrong in ({"attachments": []}, {"reason": ""}, {"amount_fen": 0}, {"attachments": ["a", "a"]}):
        wish = {"bill_id": str(renovation.damage.id), "amount_fen": 1, "reason": "损坏", "attachments": ["a"]} | wrong
        assert (await renovation.finance.post(f"{renovation.path}/deductions", wish)).status_code == 422, wrong
    assert (await renovation.deduct(1, person=renovation.counter.clerk)).status_code == 403
    assert (await stranger.owner.get(f"/api/v1/deposits/{renovation.deposit_id}")).status_code == 404
    assert (await stranger.owner.get(f"/api/v1/deposits/{renovation.deposit_id}/deductions")).status_code == 404
    assert (await renovation.shown())["left_fen"] == 200000
    assert await DepositDeduction.all().count() == 0


async def test_two_deductions_at_once_never_exceed_it(renovation: Renovation, world: World, books) -> None:
    home = renovation.counter.home
    bills = [await world.bill(home.company, home.room, home.customer, 90000, month=date(2025, n, 1)) for n in (1, 2, 3)]

    answers = await asyncio.gather(*(renovation.deduct(90000, bill) for bill in bills))

    assert sorted(one.status_code for one in answers) == [201, 201, 409]
    assert {one.json()["code"] for one in answers if one.status_code == 409} == {"not_enough_held"}
    assert (await renovation.shown())["left_fen"] == 20000
    spent = await renovation.deduct(20000)
    assert spent.status_code == 201 and (await renovation.shown())["status"] == "spent"
    gone = await renovation.finance.post(f"{renovation.path}/ask-return", {"reason": "验收合格"})
    assert (gone.status_code, gone.json()["code"]) == (409, "move_not_allowed")
    with_filter = (await renovation.finance.get("/api/v1/staff/deposits?status=spent")).json()["items"]
    assert [one["id"] for one in with_filter] == [renovation.deposit_id]


async def test_the_invariant_bites(renovation: Renovation, owner: Any, drain: Drain, books) -> None:
    await renovation.deduct(100)
    await drain()
    for statement in (
        "UPDATE deposits SET deducted_fen = 101",
        "UPDATE deposits SET amount_fen = 199999",
        "DELETE FROM deposits",
        "UPDATE deposit_deductions SET amount_fen = 99",
    ):
        transaction = owner.transaction()
        await transaction.start()
        for table in ("deposits", "deposit_deductions", "allocations"):
            await owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        await owner.execute("UPDATE allocations SET created_at = created_at - interval '1 hour'")
        await owner.execute(statement)
        (invariant,) = (one for one in payments.INVARIANTS if one.number == "L28")
        found = await owner.fetch(invariant.sql)
        await transaction.rollback()
        assert found, statement
