"""Staff sign in, are locked out, are given roles and lose them."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest

from kit import clock
from models.access import Role
from models.audit import Audit
from models.session import Session
from models.staff import Staff, StaffRole
from services import password
from tests.world import Company, Person, World, unknown_id

PASSWORD = "correct-horse-7"


async def _member(manager: Person, username: str = "wang.min", **values: Any) -> dict[str, Any]:
    """An account made by the manager, organization-wide cashier unless said otherwise."""
    document = {"username": username, "name": "王敏", "password": PASSWORD, "roles": [{"role": "cashier"}], **values}
    answer = await manager.post("/api/v1/staff/members", document)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def _sign_in(api: httpx.AsyncClient, password: str = PASSWORD, username: str = "wang.min") -> httpx.Response:
    return await api.post("/api/v1/auth/staff", json={"username": username, "password": password})


async def _opened(world: World) -> tuple[Company, Person]:
    company = await world.company()
    return company, await world.staff(company, Role.MANAGER)


async def test_a_member_of_staff_signs_in_with_the_password_that_the_manager_gave(
    world: World, api: httpx.AsyncClient
) -> None:
    company, manager = await _opened(world)
    community = await world.community(company)
    made = await _member(manager, roles=[{"role": "butler", "community_id": str(community.id)}])

    answer = await _sign_in(api, username="Wang.Min")

    assert answer.status_code == 200, answer.text
    roles = [{"community_id": str(community.id), "role": "butler"}]
    assert answer.json()["staff"] == {"id": made["id"], "name": "王敏", "roles": roles}
    butler = Person(api, answer.json()["token"])
    assert (await butler.get("/api/v1/staff/me")).json() == answer.json()["staff"]
    assert [one["id"] for one in (await butler.get("/api/v1/staff/communities")).json()["items"]] == [str(community.id)]
    staff = await Staff.get(username="wang.min")
    assert staff.password_hash.startswith("$argon2id$")
    assert PASSWORD not in str([dict(row) for row in await Audit.all()])


async def test_wrong_unknown_disabled_and_locked_are_answered_in_the_same_words(
    world: World, api: httpx.AsyncClient
) -> None:
    _, manager = await _opened(world)
    disabled = await _member(manager, "li.qiang")
    await manager.post(f"/api/v1/staff/members/{disabled['id']}/disable")
    await _member(manager)
    for _ in range(5):
        wrong = await _sign_in(api, "not-this-one")

    answers = [
        wrong,
        await _sign_in(api),  # the right one, but locked by now
        await _sign_in(api, username="li.qiang"),
        await _sign_in(api, username="nobody.at.all"),
    ]

    assert [answer.status_code for answer in answers] == [401] * 4
    assert len({answer.text for answer in answers}) == 1
    assert wrong.json()["code"] == "wrong_username_or_password"
    assert wrong.json()["title"] == "用户名或密码不正确。连续输错5次，账号会锁定15分钟。"
    assert await Session.filter(staff_id__not=manager.staff.id).count() == 0


async def test_an_unknown_name_takes_the_time_of_a_hash_too(
    world: World, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[bool] = []
    verify = password._hasher.verify

    class Counting:
        @staticmethod
        def verify(stored: str, tried: str) -> bool:
            hashed.append(stored.startswith("$argon2id$"))
            return verify(stored, tried)

    password._nobody()
    monkeypatch.setattr(password, "_hasher", Counting)

    assert (await _sign_in(api, username="nobody.at.all")).status_code == 401

    assert hashed == [True]


async def test_five_wrong_passwords_lock_for_fifteen_minutes(world: World, api: httpx.AsyncClient) -> None:
    _, manager = await _opened(world)
    made = await _member(manager)
    for _ in range(4):
        assert (await _sign_in(api, "not-this-one")).status_code == 401
    assert (await _sign_in(api)).status_code == 200  # four are forgiven by the right one
    assert (await Staff.get(id=made["id"])).failed_count == 0

    for _ in range(5):
        await _sign_in(api, "not-this-one")
    assert (await _sign_in(api)).status_code == 401
    locked = (await manager.get(f"/api/v1/staff/members/{made['id']}")).json()
    assert locked["locked_until"] is not None

    with clock.travel_to(clock.now() + timedelta(minutes=16)):
        assert (await _sign_in(api, "not-this-one")).status_code == 401  # counts as the first again
        assert (await _sign_in(api)).status_code == 200


async def test_of_many_wrong_passwords_at_once_five_are_tried(world: World, api: httpx.AsyncClient) -> None:
    _, manager = await _opened(world)
    made = await _member(manager)

    answers = await asyncio.gather(*(_sign_in(api, f"guess-number-{number}") for number in range(12)))

    assert [answer.status_code for answer in answers] == [401] * 12
    staff = await Staff.get(id=made["id"])
    assert staff.failed_count == 5  # the other seven found the account locked
    assert staff.locked_until is not None and staff.locked_until > clock.now() + timedelta(minutes=14)
    assert (await _sign_in(api)).status_code == 401


async def test_the_manager_unlocks_and_resets(world: World, api: httpx.AsyncClient) -> None:
    _, manager = await _opened(world)
    made = await _member(manager)
    token = (await _sign_in(api)).json()["token"]
    for _ in range(5):
        await _sign_in(api, "not-this-one")
    path = f"/api/v1/staff/members/{made['id']}"

    unlocked = await manager.post(f"{path}/unlock")
    assert (unlocked.status_code, unlocked.json()["locked_until"]) == (200, None)
    assert (await _sign_in(api)).status_code == 200
    assert (await manager.post(f"{path}/password", {"password": "another-one-8"})).status_code == 204

    assert (await _sign_in(api)).status_code == 401
    assert (await Person(api, token).get("/api/v1/staff/me")).status_code == 401
    assert (await _sign_in(api, "another-one-8")).status_code == 200


async def test_a_changed_password_ends_the_other_sessions(world: World, api: httpx.AsyncClient) -> None:
    _, manager = await _opened(world)
    await _member(manager)
    here, there = [Person(api, (await _sign_in(api)).json()["token"]) for _ in range(2)]
    path = "/api/v1/staff/me/password"

    wrong = await here.post(path, {"old_password": "not-this-one", "new_password": "another-one-8"})
    easy = await here.post(path, {"old_password": PASSWORD, "new_password": "12345678"})
    short = await here.post(path, {"old_password": PASSWORD, "new_password": "a-bc-7"})

    assert (wrong.status_code, wrong.json()["code"]) == (422, "old_password_wrong")
    assert (easy.status_code, easy.json()["code"]) == (422, "password_too_easy")
    assert (short.status_code, short.json()["fields"][0]["field"]) == (422, "new_password")
    assert (await there.get("/api/v1/staff/me")).status_code == 200  # a refusal ends nothing
    good = await here.post(path, {"old_password": PASSWORD, "new_password": "another-one-8"})
    assert good.status_code == 204
    assert (await here.get("/api/v1/staff/me")).status_code == 200
    assert (await there.get("/api/v1/staff/me")).status_code == 401
    assert (await _sign_in(api)).status_code == 401
    assert (await _sign_in(api, "another-one-8")).status_code == 200


async def test_a_disabled_account_is_out_at_once_and_enabled_it_comes_back(
    world: World, api: httpx.AsyncClient
) -> None:
    _, manager = await _opened(world)
    made = await _member(manager)
    member = Person(api, (await _sign_in(api)).json()["token"])

    disabled = await manager.post(f"/api/v1/staff/members/{made['id']}/disable")

    assert (disabled.status_code, disabled.json()["disabled"]) == (200, True)
    assert (await member.get("/api/v1/staff/me")).status_code == 401
    assert (await _sign_in(api)).status_code == 401
    enabled = await manager.post(f"/api/v1/staff/members/{made['id']}/enable")
    assert enabled.json()["disabled"] is False
    assert (await member.get("/api/v1/staff/me")).status_code == 401  # the old session stays over
    assert (await _sign_in(api)).status_code == 200


async def test_a_taken_user_name_and_a_repeated_key(world: World) -> None:
    _, manager = await _opened(world)
    document = {"username": "wang.min", "name": "王敏", "password": PASSWORD, "roles": [{"role": "cashier"}]}

    first = await manager.post("/api/v1/staff/members", document, key="one")
    again = await manager.post("/api/v1/staff/members", document, key="one")
    taken = await manager.post("/api/v1/staff/members", document | {"username": "WANG.MIN"}, key="two")
    resident_role = await manager.post(
        "/api/v1/staff/members", document | {"username": "x.y", "roles": [{"role": "owner"}]}
    )

    assert (first.status_code, again.json()) == (201, first.json())
    assert (taken.status_code, taken.json()["code"]) == (409, "username_taken")
    assert resident_role.status_code == 422
    assert await Staff.all().count() == 2


async def test_roles_are_replaced_and_audited(world: World) -> None:
    company, manager = await _opened(world)
    here, there = await world.community(company), await world.community(company, "月亮湾")
    made = await _member(manager, roles=[{"role": "butler", "community_id": str(here.id)}])
    wanted = [
        {"community_id": None, "role": "auditor"},
        {"community_id": str(there.id), "role": "finance"},
    ]

    answer = await manager.put(f"/api/v1/staff/members/{made['id']}/roles", {"roles": wanted})

    assert answer.status_code == 200, answer.text
    assert answer.json()["roles"] == wanted
    audit = await Audit.get(act="staff.set_roles")
    assert audit.before == {"roles": [{"community_id": str(here.id), "role": "butler"}]}
    assert audit.target_id == (await Staff.get(id=made["id"])).id


async def test_a_manager_of_one_community_reaches_no_further(world: World) -> None:
    company, _ = await _opened(world)
    here, there = await world.community(company), await world.community(company, "月亮湾")
    local = await world.staff(company, Role.MANAGER, here)
    outside = await world.staff(company, Role.CASHIER, there)
    both = await world.staff(company, Role.CASHIER, here)
    await StaffRole.create(organization_id=company.id, staff_id=both.staff.id, community_id=there.id, role=Role.GUARD)
    new = {"username": "new.one", "name": "新来", "password": PASSWORD}
    rows = await StaffRole.all().count()

    def at(community: Any, role: str) -> dict[str, Any]:
        return {"community_id": str(community.id) if community else None, "role": role}

    refused = [
        (await local.post("/api/v1/staff/members", new | {"roles": []}), 403),
        (await local.post("/api/v1/staff/members", new | {"roles": [at(None, "guard")]}), 403),
        (await local.post("/api/v1/staff/members", new | {"roles": [at(there, "guard")]}), 404),
        (await local.put(f"/api/v1/staff/members/{both.staff.id}/roles", {"roles": [at(here, "cashier")]}), 403),
        (await local.put(f"/api/v1/staff/members/{both.staff.id}/roles", {"roles": [at(None, "cashier")]}), 403),
        (await local.post(f"/api/v1/staff/members/{both.staff.id}/disable"), 403),
        (await local.post(f"/api/v1/staff/members/{both.staff.id}/password", {"password": PASSWORD}), 403),
        (await local.post(f"/api/v1/staff/members/{outside.staff.id}/disable"), 404),
        (await local.put(f"/api/v1/staff/members/{outside.staff.id}/roles", {"roles": []}), 404),
        (await local.get(f"/api/v1/staff/members/{outside.staff.id}"), 404),
    ]

    assert [answer.status_code for answer, _ in refused] == [status for _, status in refused]
    assert (await Staff.all().count(), await StaffRole.all().count()) == (4, rows)
    listed = (await local.get("/api/v1/staff/members")).json()["items"]
    assert {one["id"] for one in listed} == {str(local.staff.id), str(both.staff.id)}
    # What is theirs they do: another role here, the one elsewhere sent back as it is.
    mine = await local.put(
        f"/api/v1/staff/members/{both.staff.id}/roles", {"roles": [at(here, "dispatcher"), at(there, "guard")]}
    )
    assert mine.status_code == 200, mine.text
    hired = await local.post("/api/v1/staff/members", new | {"roles": [at(here, "guard")]})
    assert hired.status_code == 201


async def test_nobody_removes_the_last_manager(world: World) -> None:
    company, first = await _opened(world)
    second = await world.staff(company, Role.MANAGER)
    path = "/api/v1/staff/members"

    oneself = await first.post(f"{path}/{first.staff.id}/disable")
    assert (oneself.status_code, oneself.json()["code"]) == (409, "not_yourself")
    # Both at once: one of the two stays.
    answers = await asyncio.gather(
        first.put(f"{path}/{second.staff.id}/roles", {"roles": [{"role": "guard"}]}),
        second.put(f"{path}/{first.staff.id}/roles", {"roles": [{"role": "guard"}]}),
    )
    assert sorted(answer.status_code for answer in answers) in ([200, 403], [200, 404], [200, 409])
    left = await StaffRole.filter(role=Role.MANAGER, community_id__isnull=True)
    assert len(left) == 1
    last = first if left[0].staff_id == first.staff.id else second
    alone = await last.put(f"{path}/{last.staff.id}/roles", {"roles": []})
    assert (alone.status_code, alone.json()["code"]) == (409, "last_manager")
    assert await StaffRole.filter(role=Role.MANAGER).count() == 1


async def test_staff_without_the_role_and_another_company_are_refused(world: World) -> None:
    company, _ = await _opened(world)
    cashier = await world.staff(company, Role.CASHIER)
    auditor = await world.staff(company, Role.AUDITOR)
    stranger = await world.staff(await world.company(), Role.MANAGER)
    path = f"/api/v1/staff/members/{cashier.staff.id}"

    assert (await cashier.get("/api/v1/staff/members")).status_code == 403
    # An auditor reads, and changes nothing.
    assert (await auditor.get(path)).json()["roles"] == [{"community_id": None, "role": "cashier"}]
    assert (await auditor.post(f"{path}/disable")).status_code == 403
    for act in ("disable", "enable", "unlock"):
        foreign = await stranger.post(f"{path}/{act}")
        unknown = await stranger.post(f"/api/v1/staff/members/{unknown_id()}/{act}")
        assert (foreign.status_code, foreign.json()) == (404, unknown.json())
    assert (await Staff.get(id=cashier.staff.id)).disabled_at is None


async def test_the_list_goes_on_from_its_cursor(world: World) -> None:
    _, manager = await _opened(world)
    made = [str(manager.staff.id)] + [(await _member(manager, f"member.{number}"))["id"] for number in range(4)]

    seen: list[str] = []
    cursor = None
    while True:
        page = await manager.get("/api/v1/staff/members", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        seen += [one["id"] for one in page.json()["items"]]
        cursor = page.json()["next_cursor"]
        if cursor is None:
            break

    assert seen == sorted(made, reverse=True)
