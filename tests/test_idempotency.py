"""Idempotency-Key: told once, answered the same; whatever was lost on the way."""

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

import httpx
import pytest

from handlers.route import all_routes
from kit import clock, crash_point
from models.access import Role
from models.bill import Bill
from models.customer import Customer
from models.idempotency import IdempotencyKey
from models.payment import Payment
from services import customer as customer_service
from services import idempotency
from services.idempotency import IdempotencyKeyMissing
from tests.conftest import SandboxControl
from tests.world import Home, World


async def test_of_two_at_once_with_one_key_one_works_and_the_other_hears_so(
    world: World, sandbox: SandboxControl, books
) -> None:
    home = await world.home()
    await sandbox.fault("slow", operation="prepay", delay_ms=400, times=1)

    first = asyncio.create_task(home.open(key="tap-1"))
    await asyncio.sleep(0.15)
    second = await home.open(key="tap-1")

    assert (second.status_code, second.json()["code"]) == (409, "request_in_progress")
    assert 1 <= int(second.headers["Retry-After"]) <= 30
    assert (await first).status_code == 201
    assert (await home.open(key="tap-1")).json()["id"] == (await first).json()["id"]
    assert await Payment.all().count() == 1


async def test_after_a_crash_the_repeat_resumes_the_committed_attempt(
    world: World, sandbox: SandboxControl, books
) -> None:
    """The process died after the attempt was committed: its key is leased to nobody."""
    home = await world.home()
    await sandbox.fault("answer_lost", operation="prepay", how="500", times=3)
    assert (await home.open(key="tap-1")).status_code == 503
    body = '{"bill_ids":["' + home.bill_ids[0] + '"],"channel":"wechat_jsapi"}'
    actor = f"resident:{home.owner.resident.id}"
    await IdempotencyKey.create(
        actor=actor,
        method="POST",
        route="/api/v1/payments",
        key="tap-2",
        body_sha256=hashlib.sha256(body.encode()).hexdigest(),
        leased_until=clock.now() + timedelta(seconds=30),
    )
    headers = home.owner.headers | {"Idempotency-Key": "tap-2", "Content-Type": "application/json"}

    leased = await home.owner.api.post("/api/v1/payments", content=body, headers=headers)
    with clock.travel_to(clock.now() + timedelta(seconds=31)):
        resumed = await home.owner.api.post("/api/v1/payments", content=body, headers=headers)

    assert (leased.status_code, leased.json()["code"]) == (409, "request_in_progress")
    assert resumed.status_code == 201
    assert await Payment.all().count() == 1 and len(await sandbox.orders()) == 1


async def test_a_refusal_is_not_remembered(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    await sandbox.fault("error", operation="prepay", status=500, code="SYSTEM_ERROR", times=3)
    assert (await home.open(key="tap-1")).status_code == 503
    assert await IdempotencyKey.all().count() == 0

    assert (await home.open(key="tap-1")).status_code == 201


async def test_a_key_belongs_to_one_person_one_route_and_one_day(world: World, sandbox: SandboxControl, books) -> None:
    home = await world.home(bills=2)
    other_room = await world.room(home.community, "3栋1单元1202")
    neighbour, customer = await world.owner(home.company, other_room, "邻居")
    theirs = Home(
        home.company, home.community, other_room, neighbour, customer,
        [await world.bill(home.company, other_room, customer)],
    )  # fmt: skip

    mine = await home.open(bill_ids=home.bill_ids[:1], key="same")
    neighbours = await theirs.open(key="same")
    assert mine.status_code == neighbours.status_code == 201
    assert mine.json()["id"] != neighbours.json()["id"]

    with clock.travel_to(clock.now() + timedelta(hours=25)):
        later = await home.open(bill_ids=home.bill_ids[1:], key="same")
        assert later.status_code == 201  # forgotten after a day: no key_reused
        assert await idempotency.prune() == 1


@pytest.mark.parametrize("key", ["", "x" * 129, "line\x7fbreak"])
async def test_a_key_that_is_none_is_refused(world: World, key: str) -> None:
    home = await world.home()
    from models.access import system_actor

    with pytest.raises(IdempotencyKeyMissing):
        await idempotency.claim(system_actor("test"), "POST", "/x", key, b"")
    assert await IdempotencyKey.all().count() == 0
    assert home.bills


async def test_a_hand_made_bill_is_issued_once(world: World) -> None:
    home = await world.home()
    finance = await world.staff(home.company, Role.FINANCE, home.community)
    item = await world.fee_item(home.company, home.community)
    document = {
        "community_id": str(home.community.id),
        "room_id": str(home.room.id),
        "customer_id": str(home.customer.id),
        "purpose": "card",
        "title": "门禁卡",
        "accrued_on": "2026-11-23",
        "due_on": "2026-11-30",
        "lines": [{"fee_item_id": str(item.id), "title": "门禁卡", "amount_fen": 3000}],
    }

    first = await finance.post("/api/v1/staff/bills", document, key="once")
    again = await finance.post("/api/v1/staff/bills", document, key="once")
    another = await finance.post("/api/v1/staff/bills", document)

    assert first.status_code == again.status_code == 201, first.text
    assert first.json() == again.json()
    assert (another.status_code, another.json()["code"]) == (409, "bill_exists")
    assert await Bill.all().count() == 2


async def test_a_hang_up_in_the_middle_does_not_free_the_key(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    home = await world.home(bills=0)
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    record = customer_service._record_tx

    async def slow(*arguments: Any) -> None:
        await asyncio.sleep(2)
        await record(*arguments)

    monkeypatch.setattr(customer_service, "_record_tx", slow)
    document = {"name": "新客户", "kind": "person"}
    with pytest.raises(httpx.TimeoutException):
        await butler.post("/api/v1/staff/customers", document, key="one", timeout=0.8)

    hasty = await butler.post("/api/v1/staff/customers", document, key="one")
    await asyncio.sleep(2)
    patient = await butler.post("/api/v1/staff/customers", document, key="one")

    assert (hasty.status_code, hasty.json()["code"]) == (409, "request_in_progress")
    assert patient.status_code == 201
    assert await Customer.filter(name="新客户").count() == 1


async def test_a_path_that_is_no_id_is_not_found_before_anything(world: World) -> None:
    home = await world.home()

    answer = await home.owner.post(f"/api/v1/rooms/{'x' * 300}/members", {"name": "甲", "kind": "family"})

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert await IdempotencyKey.all().count() == 0


# What a repeat finds by itself after a crash, because more than one transaction makes it: the committed attempt.
RESUMES = {"/api/v1/payments"}


def test_every_key_learns_what_was_made_in_the_transaction_that_makes_it() -> None:
    keyed = [route for route in all_routes() if route.replay]

    assert {route.path for route in keyed if not route.makes} == RESUMES
    assert len(keyed) > 15


async def test_a_crash_right_after_the_commit_makes_no_second_customer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies between the commit of the customer and its answer; the repeat comes when the lease is over."""
    home = await world.home(bills=0)
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    document = {"name": "新客户", "kind": "person"}
    passing, died = crash_point.passing, asyncio.Event()

    def die(name: str) -> None:
        if name == "services.customer.create_customer.after_commit":
            died.set()
            raise Died
        passing(name)

    with monkeypatch.context() as armed:
        armed.setattr(crash_point, "passing", die)
        armed.setattr(idempotency, "release", _nothing)  # a dead process releases nothing
        assert (await butler.post("/api/v1/staff/customers", document, key="one")).status_code == 500
    assert died.is_set() and await Customer.filter(name="新客户").count() == 1

    with clock.travel_to(clock.now() + timedelta(seconds=31)):
        again = await butler.post("/api/v1/staff/customers", document, key="one")

    made = await Customer.get(name="新客户")
    assert (again.status_code, again.json()["id"]) == (201, str(made.id))


async def test_a_refusal_leaves_the_key_free_also_where_it_learns_early(world: World) -> None:
    home = await world.home(bills=0)
    butler = await world.staff(home.company, Role.BUTLER, home.community)

    refused = await butler.post("/api/v1/staff/customers", {"name": "甲", "kind": "person", "phone": "1"}, key="one")
    made = await butler.post("/api/v1/staff/customers", {"name": "甲", "kind": "person"}, key="one")

    assert (refused.status_code, made.status_code) == (422, 201)


class Died(Exception):
    """Stands for the end of the process."""


async def _nothing(_key_row: object) -> None:
    """What a dead process does."""
