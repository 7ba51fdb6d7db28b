"""A full number is shown for a reason, once, after it is on record; and its person learns of it."""

import asyncio

import asyncpg

from kit import clock
from models.access import Role
from models.audit import Audit
from models.reveal import Reveal
from services.reveal import A_DAY
from tests.world import World, unknown_id

ID_NUMBER = "11010519491231002X"


async def test_a_number_is_shown_for_a_reason_and_the_look_stays(world: World) -> None:
    home = await world.home(bills=0)
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    phone, theirs, typed = world.phone(), world.phone(), world.phone()
    customer = (
        await butler.post("/api/v1/staff/customers", {"name": "赵六", "phone": phone, "id_number": ID_NUMBER})
    ).json()["id"]
    room = await world.room(home.community, "5栋1单元101")
    lines = f"/api/v1/staff/rooms/{room.id}/occupancies"
    line = {"customer_id": customer, "kind": "owner", "starts_on": "2026-01-01"}
    assert (await butler.post(lines, line)).status_code == 201
    resident = await world.resident(home.company, theirs)
    request = {"room_id": str(room.id), "kind": "tenant", "name": "租客", "phone": typed}
    request_id = (await resident.post("/api/v1/occupancy-requests", request)).json()["id"]

    why = {"reason": f"催缴 {phone} 联系本人"}
    base = "/api/v1/staff"
    shown = [
        await butler.post(f"{base}/customers/{customer}/reveal", {"field": "phone", **why}),
        await butler.post(f"{base}/customers/{customer}/reveal", {"field": "id_number", **why}),
        await butler.post(f"{base}/residents/{resident.resident.id}/reveal", {"field": "phone", **why}),
        await butler.post(f"{base}/occupancy-requests/{request_id}/reveal", {"field": "phone", **why}),
    ]

    assert [one.json()["value"] for one in shown] == [phone, ID_NUMBER, theirs, typed], [one.text for one in shown]
    assert all(one.headers["cache-control"] == "no-store" for one in shown)
    auditor = await world.staff(home.company, Role.AUDITOR, home.community)
    listed = (await auditor.get(f"{base}/reveals")).json()["items"]
    assert [(one["field"], one["role"], one["staff_id"], one["community_id"]) for one in listed] == [
        (field, "butler", str(butler.staff.id), str(home.community.id))
        for field in ("phone", "phone", "id_number", "phone")
    ]
    assert [one["customer_id"] or one["resident_id"] or one["occupancy_request_id"] for one in listed] == [
        request_id, str(resident.resident.id), customer, customer,
    ]  # fmt: skip
    masked = f"催缴 {phone[:3]}****{phone[-4:]} 联系本人"
    assert {one["reason"] for one in listed} == {masked}
    audits = await Audit.filter(act="person.reveal").order_by("id")
    assert [(one.target_kind, one.after) for one in audits] == [
        (kind, {"field": field, "reason": masked})
        for kind, field in (
            ("customer", "phone"), ("customer", "id_number"), ("resident", "phone"), ("occupancy_request", "phone"),
        )
    ]  # fmt: skip


async def test_who_may_look_and_who_may_see_who_looked(world: World) -> None:
    home = await world.home()
    elsewhere = await world.community(home.company, "月亮湾")
    path = f"/api/v1/staff/customers/{home.customer.id}/reveal"
    look = {"field": "phone", "reason": "联系业主本人"}
    may_look = {Role.MANAGER: 200, Role.BUTLER: 200, Role.FINANCE: 200, Role.AUDITOR: 403, Role.CASHIER: 403,
                Role.DISPATCHER: 403, Role.GUARD: 403, Role.REPAIRER: 403}  # fmt: skip
    may_list = {Role.MANAGER: 200, Role.AUDITOR: 200}
    for role, expected in may_look.items():
        person = await world.staff(home.company, role, home.community)
        assert (await person.post(path, look)).status_code == expected, role
        assert (await person.get("/api/v1/staff/reveals")).status_code == may_list.get(role, 403), role
    for stranger in (
        await world.staff(home.company, Role.MANAGER, elsewhere),
        await world.staff(await world.company(), Role.MANAGER),
    ):
        theirs = await stranger.post(path, look)
        unknown = await stranger.post(f"/api/v1/staff/customers/{unknown_id()}/reveal", look)
        assert (theirs.status_code, theirs.json()) == (404, unknown.json())
        assert (await stranger.get("/api/v1/staff/reveals")).json()["items"] == []
    assert await Reveal.all().count() == 3


async def test_what_is_refused_shows_and_records_nothing(world: World) -> None:
    home = await world.home(bills=0)
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    path = f"/api/v1/staff/customers/{home.customer.id}/reveal"

    for body, status, code in (
        ({"field": "id_number", "reason": "核对证件号码"}, 409, "nothing_to_reveal"),
        ({"field": "phone", "reason": "  看  "}, 422, "invalid_input"),
        ({"field": "phone"}, 422, "field_missing"),
        ({"field": "name", "reason": "核对姓名信息"}, 422, "invalid_input"),
    ):
        answer = await butler.post(path, body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), body
    person = await world.resident(home.company)  # no phone shared, known to this butler by a request only
    await person.post("/api/v1/occupancy-requests", {"room_id": str(home.room.id), "kind": "tenant", "name": "租客"})
    nothing = await butler.post(
        f"/api/v1/staff/residents/{person.resident.id}/reveal", {"field": "phone", "reason": "联系申请人"}
    )
    assert nothing.json()["code"] == "nothing_to_reveal"
    assert (await Reveal.all().count(), await Audit.filter(act="person.reveal").count()) == (0, 0)


async def test_a_register_cannot_be_copied_by_looking(world: World, owner: asyncpg.Connection) -> None:
    home = await world.home(bills=0)
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    path = f"/api/v1/staff/customers/{home.customer.id}/reveal"
    look = {"field": "phone", "reason": "联系业主本人"}
    await owner.execute(
        "INSERT INTO reveals (id, created_at, organization_id, staff_id, role, customer_id, field, reason)"
        " SELECT gen_random_uuid(), $1, $2, $3, 'butler', $4, 'phone', 'x' FROM generate_series(1, $5)",
        clock.now(), home.company.id, butler.staff.id, home.customer.id, A_DAY - 2,
    )  # fmt: skip

    answers = await asyncio.gather(*(butler.post(path, look) for _ in range(5)))

    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "reveal_limit_reached" and 0 < int(refused.headers["retry-after"]) <= 86_401
    assert await Reveal.all().count() == A_DAY
    colleague = await world.staff(home.company, Role.BUTLER, home.community)
    assert (await colleague.post(path, look)).status_code == 200
    # Another day is another count.
    await owner.execute("ALTER TABLE reveals DISABLE TRIGGER append_only")
    await owner.execute("UPDATE reveals SET created_at = created_at - interval '1 day'")
    assert (await butler.post(path, look)).status_code == 200
