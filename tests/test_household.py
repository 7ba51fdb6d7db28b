"""An owner invites family and tenants and removes them; access begins and stops at once."""

import asyncio
from datetime import date, timedelta
from typing import Any

import httpx

from kit import clock
from models.audit import Audit
from models.customer import Customer
from models.message import Message
from models.occupancy import Occupancy, OccupancyKind
from tests.conftest import SandboxControl
from tests.world import Home, Person, World, unknown_id


async def _share(person: Person, sandbox: SandboxControl, phone: str) -> list[dict[str, Any]]:
    answer = await person.post("/api/v1/auth/phone", {"code": await sandbox.phone_code(person.openid, phone)})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["bound"])


async def _invite(home: Home, phone: str, kind: str = "family", **values: Any) -> httpx.Response:
    document = {"name": "李小红", "phone": phone, "kind": kind, **values}
    return await home.owner.post(f"/api/v1/rooms/{home.room.id}/members", document)


async def test_an_invited_family_member_shares_the_phone_and_sees_the_households_bills(
    world: World, sandbox: SandboxControl
) -> None:
    home = await world.home(bills=2)
    phone = world.phone()

    invited = await _invite(home, phone, starts_on=clock.today().isoformat())

    assert invited.status_code == 201, invited.text
    assert invited.json() == {
        "id": invited.json()["id"], "name_masked": "李**", "phone_masked": f"{phone[:3]}****{phone[-4:]}",
        "kind": "family", "starts_on": "2020-01-01", "ends_on": None, "claimed": False, "me": False,
    }  # fmt: skip
    wife = await world.resident(home.company)
    assert (await wife.get("/api/v1/bills")).json()["items"] == []
    assert [one["kind"] for one in await _share(wife, sandbox, phone)] == ["family"]
    assert {bill["id"] for bill in (await wife.get("/api/v1/bills")).json()["items"]} == set(home.bill_ids)
    members = (await home.owner.get(f"/api/v1/rooms/{home.room.id}/members")).json()["items"]
    assert [(one["kind"], one["claimed"], one["me"]) for one in members] == [
        ("family", True, False), ("owner", True, True),
    ]  # fmt: skip


async def test_a_tenants_history_begins_on_the_day_given_or_today(world: World, sandbox: SandboxControl) -> None:
    home = await world.home(bills=0)
    phone, today = world.phone(), clock.today()
    since, until = today - timedelta(days=10), today + timedelta(days=365)
    await world.bill(home.company, home.room, home.customer, month=(today - timedelta(days=90)).replace(day=1))
    recent = await world.bill(home.company, home.room, home.customer, month=today.replace(day=1))

    invited = await _invite(home, phone, "tenant", starts_on=since.isoformat(), ends_on=until.isoformat())

    assert (invited.json()["starts_on"], invited.json()["ends_on"]) == (since.isoformat(), until.isoformat())
    without_a_day = await _invite(home, world.phone(), "tenant")
    assert without_a_day.json()["starts_on"] == clock.today().isoformat()
    tenant = await world.resident(home.company)
    await _share(tenant, sandbox, phone)
    assert [bill["id"] for bill in (await tenant.get("/api/v1/bills")).json()["items"]] == [str(recent.id)]


async def test_who_has_shared_the_phone_already_is_bound_at_once_and_told(
    world: World, sandbox: SandboxControl
) -> None:
    home = await world.home()
    phone = world.phone()
    wife = await world.resident(home.company)
    await _share(wife, sandbox, phone)

    invited = await _invite(home, phone)

    assert invited.json()["claimed"] is True
    assert [room["name"] for room in (await wife.get("/api/v1/rooms")).json()["items"]] == ["3栋1单元1201"]
    told = {message.resident_id: message.data["thing2"] for message in await Message.all()}
    assert told == {
        home.owner.resident.id: "李**（家属）加入了您的房屋",
        wife.resident.id: "李**（家属）：业主邀请了您",
    }


async def test_a_removed_member_sees_nothing_from_the_next_request_on(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    long_there, since_today = await world.resident(home.company), await world.resident(home.company)
    phones = world.phone(), world.phone()
    ids = [
        (await _invite(home, phones[0], "family")).json()["id"],
        (await _invite(home, phones[1], "tenant")).json()["id"],
    ]
    for person, phone in zip((long_there, since_today), phones, strict=True):
        await _share(person, sandbox, phone)
        assert len((await person.get("/api/v1/rooms")).json()["items"]) == 1

    for occupancy_id in ids:
        answer = await home.owner.delete(f"/api/v1/rooms/{home.room.id}/members/{occupancy_id}")
        assert answer.status_code == 204, answer.text

    for person in (long_there, since_today):
        assert (await person.get("/api/v1/rooms")).json()["items"] == []
        assert (await person.get("/api/v1/bills")).json()["items"] == []
        assert (await person.get(f"/api/v1/bills/{home.bill_ids[0]}")).status_code == 404
    today = clock.today()
    assert {(one.starts_on, one.ends_on) for one in await Occupancy.filter(id__in=ids)} == {
        (date(2020, 1, 1), today - timedelta(days=1)), (today, today - timedelta(days=1)),
    }  # fmt: skip
    members = (await home.owner.get(f"/api/v1/rooms/{home.room.id}/members")).json()["items"]
    assert [one["kind"] for one in members] == ["owner"]
    again = await home.owner.delete(f"/api/v1/rooms/{home.room.id}/members/{ids[0]}")
    assert again.status_code == 404


async def test_a_withdrawn_invitation_cannot_be_claimed_and_may_be_given_again(
    world: World, sandbox: SandboxControl
) -> None:
    home = await world.home()
    phone = world.phone()
    invited = await _invite(home, phone)
    await home.owner.delete(f"/api/v1/rooms/{home.room.id}/members/{invited.json()['id']}")
    person = await world.resident(home.company)

    assert await _share(person, sandbox, phone) == []

    assert (await _invite(home, phone)).json()["claimed"] is True


async def test_an_invitation_for_later_that_is_withdrawn_never_begins(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    phone = world.phone()
    starts_on = clock.today() + timedelta(days=10)
    invited = await _invite(home, phone, "tenant", starts_on=starts_on.isoformat())
    await home.owner.delete(f"/api/v1/rooms/{home.room.id}/members/{invited.json()['id']}")
    person = await world.resident(home.company)

    with clock.travel_to(clock.now() + timedelta(days=10)):
        assert await _share(person, sandbox, phone) == []
    assert (await Occupancy.get(id=invited.json()["id"])).ends_on == starts_on - timedelta(days=1)
    members = (await home.owner.get(f"/api/v1/rooms/{home.room.id}/members")).json()["items"]
    assert [one["kind"] for one in members] == ["owner"]


async def test_what_an_invitation_refuses_and_that_nothing_changes(world: World) -> None:
    home = await world.home()
    phone = world.phone()
    await _invite(home, phone)
    today = clock.today()
    occupancies, customers, audits = [await model.all().count() for model in (Occupancy, Customer, Audit)]

    refused = {
        "already_member": await _invite(home, f"+86 {phone}"),
        "phone_not_valid": await _invite(home, "12345"),
        "dates_not_valid": await _invite(home, world.phone(), "tenant", starts_on="2019-12-31"),
    }
    past = await _invite(home, world.phone(), "tenant", ends_on=(today - timedelta(days=1)).isoformat())
    owner_kind = await _invite(home, world.phone(), "owner")

    assert {code: answer.json()["code"] for code, answer in refused.items()} == {code: code for code in refused}
    assert [answer.status_code for answer in refused.values()] == [409, 422, 422]
    assert (past.status_code, past.json()["code"]) == (422, "dates_not_valid")
    assert owner_kind.status_code == 422
    assert [await model.all().count() for model in (Occupancy, Customer, Audit)] == [occupancies, customers, audits]


async def test_the_same_invitation_twice_at_once_is_one_member(world: World) -> None:
    home = await world.home()
    phone = world.phone()

    answers = await asyncio.gather(*(_invite(home, phone) for _ in range(5)))

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    assert await Occupancy.filter(room_id=home.room.id).count() == 2


async def test_a_repeated_key_answers_with_the_same_member(world: World) -> None:
    home = await world.home()
    document = {"name": "李小红", "phone": world.phone(), "kind": "tenant"}
    path = f"/api/v1/rooms/{home.room.id}/members"

    first, again = [await home.owner.post(path, document, key="tap") for _ in range(2)]

    assert (again.status_code, again.json()) == (201, first.json())


async def test_only_owners_of_the_room_invite_list_and_remove(world: World) -> None:
    home = await world.home()
    family = await world.resident(home.company)
    held = await world.occupancy(
        home.room, await world.customer(home.company), OccupancyKind.FAMILY, resident=family.resident
    )
    neighbour, _ = await world.owner(home.company, await world.room(home.community, "3栋1单元1202"))
    mine = (await Occupancy.get(resident_id=home.owner.resident.id)).id
    document = {"name": "李小红", "phone": world.phone(), "kind": "tenant"}
    path = f"/api/v1/rooms/{home.room.id}/members"
    unknown = await neighbour.get(f"/api/v1/rooms/{unknown_id()}/members")

    for person, status in ((family, 403), (neighbour, 404)):
        answers = [
            await person.get(path), await person.post(path, document), await person.delete(f"{path}/{held.id}"),
        ]  # fmt: skip
        assert [answer.status_code for answer in answers] == [status] * 3
    assert (await neighbour.get(path)).json() == unknown.json()
    owner = await home.owner.delete(f"{path}/{mine}")
    assert (owner.status_code, owner.json()["code"]) == (409, "owner_not_removable")
    assert await Occupancy.filter(ends_on__isnull=True).count() == 3
