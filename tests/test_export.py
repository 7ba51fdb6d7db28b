"""A copy of everything held about a resident: made by a job, fetched by them alone, gone after some days."""

import asyncio
import json
from datetime import timedelta

import pytest

from kit import clock
from models.access import Role
from models.audit import Audit
from models.export import Export
from models.occupancy import OccupancyKind
from models.unit_of_work import unit_of_work
from services import export as service
from services import export_content
from tests.conftest import Drain, SandboxControl
from tests.world import Person, World, unknown_id

PATH = "/api/v1/exports"


async def finished(person: Person, drain: Drain) -> str:
    """Ask, let the job run; the id."""
    asked = await person.post(PATH)
    assert asked.status_code == 201, asked.text
    await drain()
    return str(asked.json()["id"])


async def test_a_resident_takes_a_copy_of_everything(world: World, sandbox: SandboxControl, drain: Drain) -> None:
    home = await world.home(bills=2)
    phone, wifes, typed = world.phone(), world.phone(), world.phone()
    manager = await world.staff(home.company, Role.MANAGER)
    policy = {"kind": "terms", "number": "1", "title": "服务协议", "text": "正文", "effective_on": "2026-01-01"}
    policy_id = (await manager.post("/api/v1/staff/policies", policy)).json()["id"]
    await home.owner.post("/api/v1/consents", {"policy_id": policy_id})
    await home.owner.post("/api/v1/auth/phone", {"code": await sandbox.phone_code(home.owner.openid, phone)})
    wife = await world.resident(home.company, wifes)
    await world.occupancy(
        home.room, await world.customer(home.company, "李小红", wifes), OccupancyKind.FAMILY, resident=wife.resident
    )
    next_door = await world.room(home.community, "3栋1单元1202")
    neighbour, theirs = await world.owner(home.company, next_door, "邻居乙")
    await world.bill(home.company, next_door, theirs, 777)
    asked = {"room_id": str(next_door.id), "kind": "tenant", "name": "业主甲", "phone": typed, "note": "租住"}
    assert (await home.owner.post("/api/v1/occupancy-requests", asked)).status_code == 201
    paid = (await sandbox.pay((await home.open(bill_ids=[home.bill_ids[0]])).json())).json()
    await sandbox.called_back(paid["out_trade_no"])
    await drain()
    for target in (f"customers/{home.customer.id}", f"residents/{home.owner.resident.id}"):
        look = {"field": "phone", "reason": "联系业主本人"}
        assert (await manager.post(f"/api/v1/staff/{target}/reveal", look)).status_code == 200

    queued = (await home.owner.post(PATH, key="one")).json()
    early = await home.owner.get(f"{PATH}/{queued['id']}/file")
    assert (queued["status"], queued["parts"], queued["parts_done"]) == ("queued", len(export_content.PARTS), 0)
    assert (early.status_code, early.json()["code"]) == (409, "export_not_ready")
    assert "make_export" in await drain()
    ready = (await home.owner.get(f"{PATH}/{queued['id']}")).json()
    fetched = await home.owner.get(f"{PATH}/{queued['id']}/file")

    assert (ready["status"], ready["parts_done"]) == ("ready", ready["parts"])
    assert (await home.owner.post(PATH, key="one")).json() == ready  # the same request, the same copy
    assert fetched.status_code == 200 and len(fetched.content) == ready["size_bytes"]
    assert fetched.headers["content-disposition"].startswith("attachment")
    told = json.loads(fetched.content)
    assert list(told) == ["format", "made_at", "organization", "note", *export_content.PARTS]
    assert (told["format"], told["organization"]) == ("linli.export.v1", home.company.organization.name)
    assert (told["profile"]["id"], told["profile"]["phone"]) == (str(home.owner.resident.id), phone)
    (identity,) = told["wechat_identities"]
    assert identity["appid"] == home.company.app.appid and home.owner.openid not in fetched.text
    (line,) = told["occupancies"]
    assert (line["room"], line["kind"], line["registered_as"]["name"]) == ("3栋1单元1201", "owner", "业主甲")
    assert [(one["phone"], one["note"], one["state"]) for one in told["occupancy_requests"]] == [
        (typed, "租住", "pending")
    ]
    assert [(one["amount_fen"], one["state"], len(one["lines"])) for one in told["bills"]] == [
        (25068, "paid", 1), (25069, "open", 1),
    ]  # fmt: skip
    assert [(one["amount_fen"], one["paid_by_me"]) for one in told["payments"]] == [(25068, True)]
    assert [one["content"]["amount_fen"] for one in told["receipts"]] == [25068]
    assert {one["kind"] for one in told["messages"]} == {"payment_received"}
    assert [(one["step"], one["policy"]["title"]) for one in told["consents"]] == [("given", "服务协议")]
    assert len(told["sessions"]) == 1
    assert [(one["field"], one["role"], one["reason"]) for one in told["reveals"]] == [
        ("phone", "manager", "联系业主本人")
    ] * 2
    # Nothing of the others beyond what their own screens show, and nothing lies open in the database.
    for hidden in (wifes, "李小红", "邻居乙", theirs.phone_masked):
        assert hidden not in fetched.text
    kept = await Export.get(id=queued["id"])
    assert phone not in str(dict(kept)) and str(kept.content_cipher).startswith("v1.test.")
    assert await Audit.filter(act="export.fetch").count() == 1
    for stranger in (wife, neighbour):
        for path in (f"{PATH}/{queued['id']}", f"{PATH}/{queued['id']}/file"):
            refused = await stranger.get(path)
            unknown = await stranger.get(path.replace(queued["id"], unknown_id()))
            assert (refused.status_code, refused.json()) == (404, unknown.json())


async def test_one_at_a_time_and_the_newer_replaces_the_older(world: World, drain: Drain) -> None:
    company = await world.company()
    person = await world.resident(company)
    assert (await person.get(PATH)).json() == {"items": [], "next_cursor": None}

    answers = await asyncio.gather(*(person.post(PATH) for _ in range(4)))

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert {answer.json().get("code") for answer in answers} == {None, "export_under_way"}
    await drain()
    second = await finished(person, drain)
    listed = (await person.get(PATH)).json()["items"]
    assert [(one["id"] == second, one["status"]) for one in listed] == [(True, "ready"), (False, "expired")]
    gone = await person.get(f"{PATH}/{listed[1]['id']}/file")
    assert (gone.status_code, gone.json()["code"]) == (410, "export_gone")
    assert json.loads((await person.get(f"{PATH}/{second}/file")).content)["bills"] == []


async def test_a_copy_expires_and_its_bytes_are_removed(world: World, drain: Drain) -> None:
    person = await world.resident(await world.company())
    export_id = await finished(person, drain)
    expires_at = (await Export.get(id=export_id)).expires_at
    assert expires_at is not None

    with clock.travel_to(expires_at + timedelta(seconds=1)):
        # Fetched after its time but before the sweep: gone all the same.
        assert (await person.get(f"{PATH}/{export_id}/file")).json()["code"] == "export_gone"
        assert await asyncio.gather(service.sweep_exports(), service.sweep_exports()) in ([1, 0], [0, 1])
        assert await service.sweep_exports() == 0
    kept = await Export.get(id=export_id)
    assert (kept.state, kept.content_cipher, kept.next_check_at) == ("expired", None, None)


async def test_a_copy_that_was_left_in_the_middle_is_made_again_and_given_up_at_last(
    world: World, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await world.resident(await world.company())
    export_id = (await person.post(PATH)).json()["id"]
    whole = dict(export_content.PARTS)

    async def torn(_actor: object) -> object:
        raise ConnectionResetError("the process ends here")

    monkeypatch.setitem(export_content.PARTS, "bills", torn)
    with pytest.raises(ConnectionResetError):
        await drain()
    seen = (await person.get(f"{PATH}/{export_id}")).json()
    assert (seen["status"], seen["parts_done"]) == ("queued", list(whole).index("bills"))
    assert await service.make_export((await Export.get()).id) is None  # leased: perhaps somebody is still at it

    for _ in range(4):
        with clock.travel_to((await Export.get()).next_check_at + timedelta(seconds=1)):
            assert await service.sweep_exports() == 1
    monkeypatch.undo()
    await unit_of_work(Export.filter(id=export_id).update)(attempts=4)
    with clock.travel_to((await Export.get()).next_check_at + timedelta(seconds=1)):
        assert await service.sweep_exports() == 1
    assert (await person.get(f"{PATH}/{export_id}")).json()["status"] == "ready"

    await unit_of_work(Export.filter(id=export_id).update)(
        state="queued", content_cipher=None, attempts=5, next_check_at=clock.now()
    )
    assert await service.sweep_exports() == 1
    assert (await person.get(f"{PATH}/{export_id}")).json()["status"] == "failed"
    assert (await person.get(f"{PATH}/{export_id}/file")).json()["code"] == "export_gone"
    assert (await person.post(PATH)).status_code == 201
