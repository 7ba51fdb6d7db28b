"""A resident whose phone is on no register asks; staff decide, once."""

import asyncio
from typing import Any

import httpx

from models.access import Role
from models.audit import Audit
from models.customer import Customer
from models.message import Message
from models.occupancy import Occupancy, OccupancyKind, OccupancyRequest
from tests.conftest import Drain
from tests.world import Home, Person, World, unknown_id

PATH = "/api/v1/occupancy-requests"


async def _ask(person: Person, home: Home, **values: Any) -> httpx.Response:
    document = {"room_id": str(home.room.id), "kind": "family", "name": "李小红", "note": "业主的妻子", **values}
    return await person.post(PATH, document)


async def _decide(staff: Person, request: httpx.Response, verb: str, document: dict[str, Any]) -> httpx.Response:
    return await staff.post(f"/api/v1/staff/occupancy-requests/{request.json()['id']}/{verb}", document)


async def test_a_request_is_approved_and_everybody_is_told(world: World, drain: Drain) -> None:
    home = await world.home()
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    person = await world.resident(home.company)
    phone = world.phone()

    asked = await _ask(person, home, phone=phone)

    assert asked.status_code == 201, asked.text
    assert (asked.json()["state"], asked.json()["room"]) == ("pending", "3栋1单元1201")
    assert asked.json()["phone_masked"] == f"{phone[:3]}****{phone[-4:]}"
    waiting = (await butler.get("/api/v1/staff/occupancy-requests", params={"state": "pending"})).json()["items"]
    assert [(one["id"], one["verified_phone_masked"]) for one in waiting] == [(asked.json()["id"], "")]
    approved = await _decide(butler, asked, "approve", {"starts_on": "2024-05-01"})
    assert (approved.status_code, approved.json()["state"]) == (200, "approved"), approved.text
    occupancy = await Occupancy.get(id=approved.json()["occupancy_id"])
    assert (occupancy.kind, str(occupancy.starts_on), occupancy.resident_id) == (
        "family", "2024-05-01", person.resident.id,
    )  # fmt: skip
    customer = await Customer.get(id=occupancy.customer_id)
    assert (customer.name, customer.phone_masked) == ("李小红", f"{phone[:3]}****{phone[-4:]}")
    assert [room["kind"] for room in (await person.get("/api/v1/rooms")).json()["items"]] == ["family"]
    assert (await person.get(f"{PATH}/{asked.json()['id']}")).json()["state"] == "approved"
    told = {message.resident_id: message.data for message in await Message.all()}
    assert told[person.resident.id] == {
        "thing1": "3栋1单元1201", "phrase2": "已通过", "thing3": "您已绑定房屋，可以查看账单",
    }  # fmt: skip
    assert told[home.owner.resident.id]["thing2"] == "李**（家属）加入了您的房屋"
    assert await drain() == ["send_message"] * 2
    assert {message.state for message in await Message.all()} == {"sent"}
    assert phone not in str([dict(row) for row in await Audit.all()])


async def test_an_approval_may_name_who_on_the_register_it_is(world: World) -> None:
    home = await world.home(bills=0)
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    waiting = await world.customer(home.company, "张建国")
    line = await world.occupancy(home.room, waiting)
    person, late = await world.resident(home.company), await world.resident(home.company)
    asked, asked_late = await _ask(person, home, kind="owner"), await _ask(late, home, kind="owner")
    by_customer = {"customer_id": str(waiting.id)}

    other_kind = await _decide(butler, asked, "approve", by_customer | {"kind": "tenant"})
    assert (other_kind.status_code, other_kind.json()["code"]) == (409, "occupancy_kind_differs")
    assert (await Occupancy.get(id=line.id)).resident_id is None
    approved = await _decide(butler, asked, "approve", by_customer)
    assert approved.json()["occupancy_id"] == str(line.id)
    assert (await Occupancy.get(id=line.id)).resident_id == person.resident.id

    claimed = await _decide(butler, asked_late, "approve", by_customer)
    assert (claimed.status_code, claimed.json()["code"]) == (409, "occupancy_claimed")
    unknown = await _decide(butler, asked_late, "approve", {"customer_id": unknown_id()})
    assert unknown.status_code == 404
    assert (await OccupancyRequest.get(id=asked_late.json()["id"])).state == "pending"
    assert await Occupancy.filter(room_id=home.room.id).count() == 2


async def test_a_rejected_request_says_why_and_may_be_made_again(world: World) -> None:
    home = await world.home()
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    person = await world.resident(home.company)
    asked = await _ask(person, home)

    rejected = await _decide(butler, asked, "reject", {"reason": "请带房产证到物业前台核对"})

    assert (rejected.status_code, rejected.json()["reason"]) == (200, "请带房产证到物业前台核对")
    assert (await Message.get()).data == {
        "thing1": "3栋1单元1201", "phrase2": "未通过", "thing3": "请带房产证到物业前台核对",
    }  # fmt: skip
    assert (await person.get("/api/v1/rooms")).json()["items"] == []
    for verb, document in (("approve", {}), ("reject", {"reason": "again"})):
        late = await _decide(butler, asked, verb, document)
        assert (late.status_code, late.json()["code"]) == (409, "move_not_allowed")
    assert (await _ask(person, home)).status_code == 201
    assert [one["state"] for one in (await person.get(PATH)).json()["items"]] == ["pending", "rejected"]


async def test_of_many_decisions_at_once_one_counts(world: World) -> None:
    home = await world.home()
    butlers = [await world.staff(home.company, Role.BUTLER, home.community) for _ in range(4)]
    person = await world.resident(home.company)
    asked = await _ask(person, home)

    answers = await asyncio.gather(*(_decide(butler, asked, "approve", {}) for butler in butlers))

    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"move_not_allowed"}
    assert await Occupancy.filter(resident_id=person.resident.id).count() == 1
    assert await Message.filter(kind="request_decided").count() == 1
    assert await Customer.filter(name="李小红").count() == 1


async def test_one_request_for_a_room_and_five_in_all(world: World) -> None:
    home = await world.home()
    person = await world.resident(home.company)

    answers = await asyncio.gather(*(_ask(person, home) for _ in range(4)))

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"request_pending"}
    for number in range(4):
        room = await world.room(home.community, f"8栋1单元{number}")
        assert (await _ask(person, home, room_id=str(room.id))).status_code == 201
    sixth = await world.room(home.community, "8栋1单元9")
    refused = await _ask(person, home, room_id=str(sixth.id))
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_pending_requests")
    assert await OccupancyRequest.all().count() == 5


async def test_a_withdrawn_request_is_not_decided(world: World) -> None:
    home = await world.home()
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    person, other = await world.resident(home.company), await world.resident(home.company)
    asked = await _ask(person, home)
    path = f"{PATH}/{asked.json()['id']}/withdraw"

    assert (await other.post(path)).status_code == 404
    assert (await person.post(path)).json()["state"] == "withdrawn"

    assert (await person.post(path)).json()["code"] == "move_not_allowed"
    assert (await _decide(butler, asked, "approve", {})).status_code == 409
    assert await Occupancy.filter(resident_id=person.resident.id).count() == 0


async def test_who_is_bound_need_not_ask_and_is_not_bound_twice(world: World) -> None:
    home = await world.home()
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    person = await world.resident(home.company)
    asked = await _ask(person, home)
    customer = await world.customer(home.company)
    await world.occupancy(home.room, customer, OccupancyKind.FAMILY, resident=person.resident)

    again = await _ask(home.owner, home)
    late = await _decide(butler, asked, "approve", {})

    assert [(answer.status_code, answer.json()["code"]) for answer in (again, late)] == [(409, "already_bound")] * 2
    assert await Occupancy.filter(resident_id=person.resident.id).count() == 1


async def test_another_companys_room_and_another_communitys_request_are_not_there(world: World) -> None:
    home = await world.home()
    other = await world.community(home.company, "月亮湾")
    outsider = await world.staff(home.company, Role.BUTLER, other)
    cashier = await world.staff(home.company, Role.CASHIER, home.community)
    auditor = await world.staff(home.company, Role.AUDITOR, home.community)
    person = await world.resident(home.company)
    stranger = await world.resident(await world.company())
    asked = await _ask(person, home)

    foreign, unknown = await _ask(stranger, home), await _ask(person, home, room_id=unknown_id())
    assert (foreign.status_code, foreign.json()) == (404, unknown.json())
    assert (await outsider.get(f"/api/v1/staff/occupancy-requests/{asked.json()['id']}")).status_code == 404
    assert (await outsider.get("/api/v1/staff/occupancy-requests")).json()["items"] == []
    assert (await cashier.get("/api/v1/staff/occupancy-requests")).status_code == 403
    assert (await _decide(outsider, asked, "approve", {})).status_code == 404
    assert (await _decide(cashier, asked, "approve", {})).status_code == 404
    assert (await _decide(auditor, asked, "reject", {"reason": "no"})).status_code == 403
    assert (await OccupancyRequest.get()).state == "pending"


async def test_nobody_is_made_a_customer_who_also_owes_elsewhere_by_a_butler_of_one_community(world: World) -> None:
    home = await world.home()
    other = await world.community(home.company, "月亮湾")
    await world.occupancy(await world.room(other, "1栋1单元101"), home.customer)
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    manager = await world.staff(home.company, Role.MANAGER)
    room = await world.room(home.community, "3栋1单元1202")
    await world.occupancy(room, home.customer)
    person = await world.resident(home.company)
    asked = await _ask(person, home, room_id=str(room.id), kind="owner")
    by_customer = {"customer_id": str(home.customer.id)}

    refused = await _decide(butler, asked, "approve", by_customer)

    assert (refused.status_code, refused.json()["code"]) == (403, "not_permitted")
    assert (await person.get("/api/v1/bills")).json()["items"] == []
    assert await Occupancy.filter(resident_id=person.resident.id).count() == 0
    assert (await _decide(manager, asked, "approve", by_customer)).status_code == 200
