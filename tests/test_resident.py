"""A resident signs in by WeChat, shares a phone, and is bound to the rooms that wait for it."""

import asyncio
from datetime import date, timedelta

import httpx
import pytest

from kit import clock
from kit.crypto import token_hash
from models.access import Role
from models.audit import Audit
from models.customer import PHONE_CONTEXT
from models.message import Message
from models.occupancy import Occupancy, OccupancyKind
from models.resident import Resident, WechatIdentity
from models.secret import decrypt
from models.session import Session
from services import occupancy
from tests.conftest import Drain, SandboxControl
from tests.world import Person, World, unknown_id

OPENID = "oNewResidentOfTheSunnyGarden01"


async def _sign_in(api: httpx.AsyncClient, sandbox: SandboxControl, openid: str, appid: str) -> httpx.Response:
    code = await sandbox.login_code(openid, appid)
    return await api.post("/api/v1/auth/wechat", json={"code": code, "app": appid})


async def _share(person: Person, sandbox: SandboxControl, phone: str) -> httpx.Response:
    return await person.post("/api/v1/auth/phone", {"code": await sandbox.phone_code(person.openid, phone)})


async def test_the_first_sign_in_makes_a_resident_and_the_second_finds_them(
    world: World, api: httpx.AsyncClient, sandbox: SandboxControl
) -> None:
    company = await world.company()

    first = await _sign_in(api, sandbox, OPENID, company.app.appid)
    again = await _sign_in(api, sandbox, OPENID, company.app.appid)

    assert first.status_code == 200, first.text
    assert first.json()["resident"] == {
        "id": again.json()["resident"]["id"], "name": "", "phone_masked": "", "has_phone": False,
    }  # fmt: skip
    assert await Resident.all().count() == 1
    identity = await WechatIdentity.get()
    assert (identity.openid, identity.app_id, identity.organization_id) == (OPENID, company.app.id, company.id)
    me = await Person(api, first.json()["token"]).get("/api/v1/me")
    assert me.json() == first.json()["resident"]
    # The token itself is kept nowhere.
    assert {session.token_hash for session in await Session.all()} == {
        token_hash(answer.json()["token"]) for answer in (first, again)
    }
    assert [row.act for row in await Audit.all().order_by("id")] == ["resident.create", "resident.sign_in"]


async def test_two_first_sign_ins_at_once_make_one_resident(
    world: World, api: httpx.AsyncClient, sandbox: SandboxControl
) -> None:
    company = await world.company()
    codes = [await sandbox.login_code(OPENID, company.app.appid) for _ in range(6)]

    answers = await asyncio.gather(*(api.post("/api/v1/auth/wechat", json={"code": code}) for code in codes))

    assert [answer.status_code for answer in answers] == [200] * 6, [answer.text for answer in answers]
    assert len({answer.json()["resident"]["id"] for answer in answers}) == 1
    assert await Resident.all().count() == 1
    assert await WechatIdentity.all().count() == 1
    assert await Session.all().count() == 6


async def test_a_used_or_made_up_code_signs_nobody_in(
    world: World, api: httpx.AsyncClient, sandbox: SandboxControl
) -> None:
    company = await world.company()
    code = await sandbox.login_code(OPENID, company.app.appid)
    assert (await api.post("/api/v1/auth/wechat", json={"code": code})).status_code == 200

    for bad in (code, "made-up"):
        answer = await api.post("/api/v1/auth/wechat", json={"code": bad})
        assert (answer.status_code, answer.json()["code"]) == (401, "login_code_invalid")
    assert (await Resident.all().count(), await Session.all().count()) == (1, 1)


async def test_with_two_apps_the_caller_says_which_and_openids_mean_nothing_across(
    world: World, api: httpx.AsyncClient, sandbox: SandboxControl
) -> None:
    ours, theirs = await world.company(), await world.company()
    code = await sandbox.login_code(OPENID, ours.app.appid)

    unknown = await api.post("/api/v1/auth/wechat", json={"code": code, "app": "wxffffffffffffffff"})
    foreign = await api.post("/api/v1/auth/wechat", json={"code": code, "app": theirs.app.appid})

    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_app")
    assert (foreign.status_code, foreign.json()["code"]) == (401, "login_code_invalid")
    assert await Resident.all().count() == 0
    good = await api.post("/api/v1/auth/wechat", json={"code": code, "app": ours.app.appid})
    assert good.status_code == 200
    assert (await Resident.get()).organization_id == ours.id


async def test_an_app_left_unsaid_is_read_from_where_the_request_comes_from(
    world: World, api: httpx.AsyncClient, sandbox: SandboxControl
) -> None:
    ours, theirs = await world.company(), await world.company()
    theirs_code = await sandbox.login_code("openid-of-theirs", theirs.app.appid)
    referer = {"Referer": f"https://servicewechat.com/{theirs.app.appid}/12/page-frame.html"}

    by_referer = await api.post("/api/v1/auth/wechat", json={"code": theirs_code}, headers=referer)
    first = await api.post("/api/v1/auth/wechat", json={"code": await sandbox.login_code(OPENID, ours.app.appid)})

    assert by_referer.status_code == first.status_code == 200
    organizations = [resident.organization_id for resident in await Resident.all().order_by("created_at")]
    assert organizations == [theirs.id, ours.id]


async def test_a_phone_opens_every_room_that_waits_for_it_and_the_household_is_told(
    world: World, sandbox: SandboxControl, drain: Drain
) -> None:
    home = await world.home()
    other_room = await world.room(home.community, "10栋2单元301")
    elsewhere = await world.community(home.company, "月亮湾")
    third_room = await world.room(elsewhere, "1栋1单元101")
    phone = world.phone()
    wife = await world.customer(home.company, "李小红", phone)
    await world.occupancy(home.room, wife, OccupancyKind.FAMILY)
    await world.occupancy(other_room, wife)
    await world.occupancy(third_room, await world.customer(home.company, "李小红", phone), OccupancyKind.TENANT)
    person = await world.resident(home.company)

    answer = await _share(person, sandbox, phone)

    assert answer.status_code == 200, answer.text
    assert answer.json()["resident"] == {
        "id": str(person.resident.id), "name": "", "phone_masked": f"{phone[:3]}****{phone[-4:]}", "has_phone": True,
    }  # fmt: skip
    assert sorted(answer.json()["bound"], key=lambda one: one["room"]) == [
        {"room_id": str(other_room.id), "room": "10栋2单元301", "community": "阳光花园", "kind": "owner"},
        {"room_id": str(third_room.id), "room": "1栋1单元101", "community": "月亮湾", "kind": "tenant"},
        {"room_id": str(home.room.id), "room": "3栋1单元1201", "community": "阳光花园", "kind": "family"},
    ]
    rooms = (await person.get("/api/v1/rooms")).json()["items"]
    assert [(room["name"], room["kind"], room["area_m2"], room["starts_on"]) for room in rooms] == [
        ("1栋1单元101", "tenant", "89.53", "2020-01-01"),
        ("3栋1单元1201", "family", "89.53", "2020-01-01"),
        ("10栋2单元301", "owner", "89.53", "2020-01-01"),
    ]
    (message,) = await Message.all()
    assert (message.resident_id, message.kind) == (home.owner.resident.id, "household_joined")
    assert message.data == {"thing1": "3栋1单元1201", "thing2": "李**（家属）加入了您的房屋"}
    assert await drain() == ["send_message"]
    assert (await Message.get()).state == "sent"


async def test_the_phone_is_encrypted_and_stands_in_no_audit(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    phone = world.phone()
    await world.occupancy(home.room, await world.customer(home.company, "李小红", phone), OccupancyKind.FAMILY)
    person = await world.resident(home.company)

    await _share(person, sandbox, phone)

    kept = await Resident.get(id=person.resident.id)
    assert phone not in str(dict(kept))
    assert decrypt(str(kept.phone_cipher), PHONE_CONTEXT) == phone
    audits = [dict(row) for row in await Audit.all()]
    assert {"resident.share_phone", "occupancy.claim"} <= {row["act"] for row in audits}
    assert phone not in str(audits) and phone[-4:] not in str([(row["before"], row["after"]) for row in audits])


async def test_what_ended_has_not_begun_is_claimed_or_another_companys_is_not_opened(
    world: World, sandbox: SandboxControl
) -> None:
    home = await world.home()
    phone = world.phone()
    customer = await world.customer(home.company, "李小红", phone)
    today = clock.today()
    claimer = await world.resident(home.company)
    rooms = [await world.room(home.community, f"5栋1单元{number}") for number in (101, 102, 103, 104)]
    await world.occupancy(rooms[0], customer, ends_on=today - timedelta(days=1))
    await world.occupancy(rooms[1], customer, starts_on=today + timedelta(days=1))
    namesake = await world.customer(home.company, "李小红", phone)  # the same number stands on the register twice
    claimed = await world.occupancy(rooms[2], namesake, resident=claimer.resident)
    last_day = await world.occupancy(rooms[3], customer, ends_on=today)
    theirs = await world.company()
    their_room = await world.room(await world.community(theirs), "5栋1单元101")
    await world.occupancy(their_room, await world.customer(theirs, "李小红", phone))
    person = await world.resident(home.company)

    answer = await _share(person, sandbox, phone)

    assert [one["room"] for one in answer.json()["bound"]] == ["5栋1单元104"]
    bound = await Occupancy.filter(resident_id=person.resident.id)
    assert [one.id for one in bound] == [last_day.id]
    assert (await Occupancy.get(id=claimed.id)).resident_id == claimer.resident.id


async def test_of_two_people_with_one_phone_at_once_one_gets_the_room(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    phone = world.phone()
    customer = await world.customer(home.company, "李小红", phone)
    occupancies = [
        await world.occupancy(await world.room(home.community, f"5栋1单元{number}"), customer) for number in range(3)
    ]
    people = [await world.resident(home.company) for _ in range(4)]

    answers = await asyncio.gather(*(_share(person, sandbox, phone) for person in people))

    assert [answer.status_code for answer in answers] == [200] * 4
    bound = [len(answer.json()["bound"]) for answer in answers]
    assert sorted(bound) == [0, 0, 0, 3]
    winner = people[bound.index(3)].resident.id
    kept = await Occupancy.filter(id__in=[one.id for one in occupancies])
    assert {one.resident_id for one in kept} == {winner}
    assert await Audit.filter(act="occupancy.claim").count() == 3


async def test_another_phone_later_binds_again_and_takes_nothing_away(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    old, new = world.phone(), world.phone()
    first, second = [await world.room(home.community, f"5栋1单元{number}") for number in (101, 102)]
    await world.occupancy(first, await world.customer(home.company, "李小红", old))
    await world.occupancy(second, await world.customer(home.company, "李小红", new))
    person = await world.resident(home.company)

    assert [one["room"] for one in (await _share(person, sandbox, old)).json()["bound"]] == [first.name]
    assert [one["room"] for one in (await _share(person, sandbox, new)).json()["bound"]] == [second.name]
    assert (await _share(person, sandbox, new)).json()["bound"] == []

    rooms = (await person.get("/api/v1/rooms")).json()["items"]
    assert [room["name"] for room in rooms] == [first.name, second.name]
    assert (await person.get("/api/v1/me")).json()["phone_masked"] == f"{new[:3]}****{new[-4:]}"


async def test_a_phone_code_that_wechat_refuses_changes_nothing(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()

    answer = await home.owner.post("/api/v1/auth/phone", {"code": "made-up"})

    assert (answer.status_code, answer.json()["code"]) == (401, "login_code_invalid")
    assert (await Resident.get(id=home.owner.resident.id)).phone_index is None


async def test_sessions_are_listed_revoked_and_signed_out(
    world: World, api: httpx.AsyncClient, sandbox: SandboxControl
) -> None:
    company = await world.company()
    tokens = [(await _sign_in(api, sandbox, OPENID, company.app.appid)).json()["token"] for _ in range(2)]
    phone, tablet = (Person(api, token) for token in tokens)
    stranger = await world.resident(company)

    listed = (await phone.get("/api/v1/auth/sessions")).json()["items"]
    assert sorted(one["current"] for one in listed) == [False, True]
    other = next(one["id"] for one in listed if not one["current"])
    refused = await stranger.delete(f"/api/v1/auth/sessions/{other}")
    unknown = await stranger.delete(f"/api/v1/auth/sessions/{unknown_id()}")
    assert (refused.status_code, refused.json()) == (404, unknown.json())
    assert (await tablet.get("/api/v1/me")).status_code == 200

    assert (await phone.delete(f"/api/v1/auth/sessions/{other}")).status_code == 204
    assert (await tablet.get("/api/v1/me")).json()["code"] == "not_signed_in"
    assert (await phone.post("/api/v1/auth/sign-out")).status_code == 204
    assert (await phone.get("/api/v1/me")).status_code == 401


async def test_rooms_are_paged_in_the_order_that_people_count(world: World) -> None:
    company = await world.company()
    community = await world.community(company)
    person = await world.resident(company)
    customer = await world.customer(company)
    names = ["2栋1单元101", "3栋1单元101", "3栋1单元1001", "10栋1单元101"]
    for name in reversed(names):
        await world.occupancy(await world.room(community, name), customer, resident=person.resident)

    first = (await person.get("/api/v1/rooms", params={"limit": 3})).json()
    rest = (await person.get("/api/v1/rooms", params={"limit": 3, "cursor": first["next_cursor"]})).json()

    assert [room["name"] for room in first["items"] + rest["items"]] == names
    assert rest["next_cursor"] is None
    assert (await person.get("/api/v1/rooms", params={"cursor": "bm9wZQ"})).json()["code"] == "invalid_cursor"


async def test_a_resident_finds_a_room_without_learning_who_lives_there(world: World) -> None:
    home = await world.home()
    await world.room(home.community, "10栋1单元101")
    newcomer = await world.resident(home.company)

    communities = (await newcomer.get("/api/v1/communities")).json()["items"]
    assert communities == [{"id": str(home.community.id), "name": "阳光花园", "address": ""}]
    path = f"/api/v1/communities/{home.community.id}"
    buildings = (await newcomer.get(f"{path}/buildings")).json()["items"]
    assert [(one["name"], [unit["name"] for unit in one["units"]]) for one in buildings] == [
        ("3栋", ["1单元"]), ("10栋", ["1单元"]),
    ]  # fmt: skip
    rooms = (await newcomer.get(f"{path}/rooms", params={"building_id": buildings[0]["id"]})).json()["items"]
    assert rooms == [
        {
            "id": str(home.room.id), "building_id": buildings[0]["id"], "unit_id": buildings[0]["units"][0]["id"],
            "number": "1201", "name": "3栋1单元1201",
        }
    ]  # fmt: skip
    assert (await newcomer.get(f"{path}/rooms", params={"unit_id": "nonsense"})).json()["items"] == []
    assert (await newcomer.get("/api/v1/rooms")).json()["items"] == []


async def test_another_companys_communities_are_not_there(world: World) -> None:
    home = await world.home()
    theirs = await world.resident(await world.company())

    assert (await theirs.get("/api/v1/communities")).json()["items"] == []
    for part in ("buildings", "rooms"):
        foreign = await theirs.get(f"/api/v1/communities/{home.community.id}/{part}")
        unknown = await theirs.get(f"/api/v1/communities/{unknown_id()}/{part}")
        assert (foreign.status_code, foreign.json()) == (404, unknown.json())


async def test_the_routes_of_staff_do_not_exist_for_residents_nor_the_other_way(world: World) -> None:
    home = await world.home()
    manager = await world.staff(home.company, Role.MANAGER)

    assert (await home.owner.get("/api/v1/staff/members")).status_code == 404
    assert (await manager.get("/api/v1/rooms")).status_code == 404
    assert (await home.owner.api.get("/api/v1/rooms")).json()["code"] == "not_signed_in"


async def test_who_owns_a_room_and_lives_in_it_sees_it_once(world: World) -> None:
    home = await world.home()
    person = home.owner
    family = await world.customer(home.company)
    await world.occupancy(home.room, family, OccupancyKind.FAMILY, resident=person.resident, starts_on=date(2019, 5, 1))

    rooms = (await person.get("/api/v1/rooms")).json()["items"]

    assert [(room["kind"], room["starts_on"]) for room in rooms] == [("owner", "2019-05-01")]


async def test_without_the_guard_two_people_would_get_one_room(
    world: World, sandbox: SandboxControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the same race with the lock and the second look taken out."""
    unguarded = occupancy._CLAIM_BY_PHONE.replace("FOR UPDATE OF o", "").replace(
        "AND occupancies.resident_id IS NULL", "AND (SELECT true FROM pg_sleep(0.3))"
    )
    assert unguarded.count("IS NULL") == 2 and "FOR UPDATE" not in unguarded
    monkeypatch.setattr(occupancy, "_CLAIM_BY_PHONE", unguarded)
    home = await world.home()
    phone = world.phone()
    await world.occupancy(
        await world.room(home.community, "5栋1单元101"), await world.customer(home.company, phone=phone)
    )
    people = [await world.resident(home.company) for _ in range(2)]

    answers = await asyncio.gather(*(_share(person, sandbox, phone) for person in people))

    assert [len(answer.json()["bound"]) for answer in answers] == [1, 1]
