"""Staff keep the register: who came, who left, and what ends with an owner."""

from datetime import date, timedelta
from typing import Any

import pytest

from kit import clock
from models.access import Role
from models.audit import Audit
from models.occupancy import Occupancy, OccupancyKind
from tests.conftest import SandboxControl
from tests.world import World, unknown_id


async def test_staff_register_an_owner_who_then_claims_the_room(world: World, sandbox: SandboxControl) -> None:
    home = await world.home(bills=0)
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    phone = world.phone()
    customer = await butler.post("/api/v1/staff/customers", {"name": "赵六", "phone": phone})
    document = {"customer_id": customer.json()["id"], "kind": "owner", "starts_on": "2025-03-01"}
    path = f"/api/v1/staff/rooms/{home.room.id}/occupancies"

    made, again = [await butler.post(path, document, key="one") for _ in range(2)]

    assert made.status_code == 201, made.text
    assert made.json() == again.json() == {
        "id": made.json()["id"], "community_id": str(home.community.id), "room_id": str(home.room.id),
        "customer": customer.json(), "kind": "owner", "starts_on": "2025-03-01", "ends_on": None, "claimed": False,
    }  # fmt: skip
    person = await world.resident(home.company)
    await person.post("/api/v1/auth/phone", {"code": await sandbox.phone_code(person.openid, phone)})
    listed = (await butler.get(path)).json()["items"]
    assert [(one["customer"]["name"], one["claimed"]) for one in listed] == [("赵六", True), ("业主甲", True)]
    twice = await butler.post(path, document)
    assert (twice.status_code, twice.json()["code"]) == (409, "occupancy_exists")
    assert await Occupancy.all().count() == 2


async def test_an_end_on_a_day_to_come_leaves_access_until_then(world: World) -> None:
    home = await world.home()
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    (held,) = await Occupancy.all()
    last = clock.today() + timedelta(days=3)
    path = f"/api/v1/staff/occupancies/{held.id}/end"

    answer = await butler.post(path, {"ends_on": last.isoformat()})

    assert answer.json()["occupancy"]["ends_on"] == last.isoformat()
    with clock.travel_to(clock.now() + timedelta(days=3)):
        assert len((await home.owner.get("/api/v1/rooms")).json()["items"]) == 1
    with clock.travel_to(clock.now() + timedelta(days=4)):
        assert (await home.owner.get("/api/v1/rooms")).json()["items"] == []
        # What they owe themselves stays theirs to see and pay.
        assert [bill["id"] for bill in (await home.owner.get("/api/v1/bills")).json()["items"]] == home.bill_ids
        later = await world.staff(home.company, Role.BUTLER, home.community)
        assert (await later.post(path, {})).json()["code"] == "occupancy_ended"
    at_once = await butler.post(path, {})
    assert at_once.json()["occupancy"]["ends_on"] == (clock.today() - timedelta(days=1)).isoformat()
    assert (await home.owner.get("/api/v1/rooms")).json()["items"] == []
    assert [row.act for row in await Audit.filter(target_id=held.id)] == ["occupancy.end"] * 2


async def test_dates_that_do_not_fit_are_refused(world: World) -> None:
    home = await world.home()
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    (held,) = await Occupancy.all()
    other = await world.customer(home.company, by=butler)
    document = {"customer_id": str(other.id), "kind": "tenant", "starts_on": "2026-01-02", "ends_on": "2026-01-01"}

    ended = await butler.post(f"/api/v1/staff/occupancies/{held.id}/end", {"ends_on": "2019-12-31"})
    made = await butler.post(f"/api/v1/staff/rooms/{home.room.id}/occupancies", document)

    assert [(answer.status_code, answer.json()["code"]) for answer in (ended, made)] == [(422, "dates_not_valid")] * 2
    assert (await Occupancy.get()).ends_on is None


@pytest.mark.parametrize("co_owner_stays", [False, True])
async def test_a_sold_room_takes_its_family_along_but_not_its_tenants(world: World, co_owner_stays: bool) -> None:
    home = await world.home()
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    (held,) = await Occupancy.all()
    yesterday = clock.today() - timedelta(days=1)

    async def member(kind: OccupancyKind, **values: Any) -> Occupancy:
        return await world.occupancy(home.room, await world.customer(home.company), kind, **values)

    family, tenant = await member(OccupancyKind.FAMILY), await member(OccupancyKind.TENANT)
    buyer = await member(OccupancyKind.OWNER, starts_on=yesterday)
    if co_owner_stays:
        await member(OccupancyKind.OWNER)

    answer = await butler.post(f"/api/v1/staff/occupancies/{held.id}/end", {})

    also = [one["id"] for one in answer.json()["also_ended"]]
    assert also == ([] if co_owner_stays else [str(family.id)])
    ended = {one.id for one in await Occupancy.filter(ends_on=yesterday)}
    assert ended == ({held.id} if co_owner_stays else {held.id, family.id})
    assert tenant.id not in ended and buyer.id not in ended


async def test_the_register_of_another_community_is_not_there(world: World) -> None:
    home = await world.home()
    other = await world.community(home.company, "月亮湾")
    outsider = await world.staff(home.company, Role.BUTLER, other)
    guard = await world.staff(home.company, Role.GUARD, home.community)
    cashier = await world.staff(home.company, Role.CASHIER, home.community)
    (held,) = await Occupancy.all()
    room, line = f"/api/v1/staff/rooms/{home.room.id}/occupancies", f"/api/v1/staff/occupancies/{held.id}"
    document = {"customer_id": str(home.customer.id), "kind": "owner", "starts_on": "2026-01-01"}
    unknown = await outsider.get(f"/api/v1/staff/occupancies/{unknown_id()}")

    for person in (outsider, guard):
        answers = [
            await person.get(room), await person.post(room, document), await person.get(line),
            await person.post(f"{line}/end", {}),
        ]  # fmt: skip
        assert [(answer.status_code, answer.json()) for answer in answers] == [(404, unknown.json())] * 4
    # A cashier reads the register and does not change it.
    assert (await cashier.get(line)).status_code == 200
    assert (await cashier.post(f"{line}/end", {})).status_code == 403
    assert (await cashier.post(room, document)).status_code == 403
    assert (await Occupancy.get()).ends_on is None


async def test_a_number_that_went_to_somebody_else_opens_nothing_of_who_is_known_already(
    world: World, sandbox: SandboxControl
) -> None:
    """The register still has the old number; its new holder must not become the customer."""
    company = await world.company()
    community = await world.community(company)
    first, second = await world.room(community), await world.room(community, "3栋1单元1202")
    phone = world.phone()
    customer = await world.customer(company, "老业主", phone=phone)
    known, stranger = await world.resident(company), await world.resident(company)
    await world.occupancy(first, customer, resident=known.resident)
    bill = await world.bill(company, first, customer)
    await world.occupancy(second, customer)

    shared = await stranger.post("/api/v1/auth/phone", {"code": await sandbox.phone_code(stranger.openid, phone)})

    assert shared.json()["bound"] == []
    assert (await stranger.get(f"/api/v1/bills/{bill.id}")).status_code == 404
    own = await known.post("/api/v1/auth/phone", {"code": await sandbox.phone_code(known.openid, phone)})
    assert [one["room"] for one in own.json()["bound"]] == ["3栋1单元1202"]


async def test_a_wrong_claim_is_taken_back_with_everything_that_it_opened(
    world: World, sandbox: SandboxControl
) -> None:
    company = await world.company()
    community = await world.community(company)
    room = await world.room(community)
    phone = world.phone()
    customer = await world.customer(company, "老业主", phone=phone)
    held = await world.occupancy(room, customer)
    bill = await world.bill(company, room, customer)
    wrong = await world.resident(company)
    await wrong.post("/api/v1/auth/phone", {"code": await sandbox.phone_code(wrong.openid, phone)})
    assert (await wrong.get(f"/api/v1/bills/{bill.id}")).status_code == 200
    butler = await world.staff(company, Role.BUTLER, community)
    guard = await world.staff(company, Role.GUARD, community)
    path = f"/api/v1/staff/occupancies/{held.id}/release"
    assert (await guard.post(path)).status_code == 404  # a guard does not read the register

    await butler.patch(f"/api/v1/staff/customers/{customer.id}", {"phone": world.phone()})
    released = await butler.post(path)
    again = await butler.post(path)

    assert (released.status_code, released.json()["claimed"]) == (200, False)
    assert (again.status_code, again.json()["code"]) == (409, "not_claimed")
    assert (await wrong.get(f"/api/v1/bills/{bill.id}")).status_code == 404
    assert (await wrong.get("/api/v1/bills")).json()["items"] == []
    assert (await wrong.get("/api/v1/rooms")).json()["items"] == []
    assert await Audit.filter(act="occupancy.release", target_id=held.id).count() == 1


async def test_a_line_that_ended_before_it_began_never_counted(world: World, sandbox: SandboxControl) -> None:
    home = await world.home(bills=0)
    person = await world.resident(home.company)
    customer = await world.customer(home.company, "误登记")
    await world.occupancy(
        home.room, customer, resident=person.resident, starts_on=date(2026, 11, 1), ends_on=date(2026, 10, 31)
    )
    await world.bill(home.company, home.room, customer)

    assert (await person.get("/api/v1/bills")).json()["items"] == []
