"""A community is built: buildings, units, rooms one by one and five hundred at a time."""

import asyncio
from typing import Any

from models.access import Role
from models.audit import Audit
from models.community import Community
from models.room import Building, Room, Unit
from tests.world import Person, World, unknown_id


async def _site(world: World) -> tuple[Community, Person]:
    company = await world.company()
    community = await world.community(company)
    return community, await world.staff(company, Role.BUTLER, community)


async def _building(butler: Person, community: Community, name: str) -> dict[str, Any]:
    answer = await butler.post(f"/api/v1/staff/communities/{community.id}/buildings", {"name": name})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_rooms_are_named_by_building_unit_and_number_and_sort_as_people_count(world: World) -> None:
    community, butler = await _site(world)
    path = f"/api/v1/staff/communities/{community.id}/rooms"
    for name in ("10栋", "３栋"):
        building = await _building(butler, community, name)
        unit = await butler.post(f"/api/v1/staff/buildings/{building['id']}/units", {"name": "1单元"})
        assert unit.status_code == 201
        for number in ("1201", "301"):
            document = {"building_id": building["id"], "unit_id": unit.json()["id"], "number": number, "area_m2": 89.53}
            made = await butler.post(path, document)
            assert made.status_code == 201, made.text
    shop = await butler.post(path, {"building_id": building["id"], "number": "商铺2", "area_m2": "40"})
    assert shop.json()["unit_id"] is None

    pages = [(await butler.get(path, params={"limit": 3})).json()]
    pages.append((await butler.get(path, params={"limit": 3, "cursor": pages[0]["next_cursor"]})).json())

    assert [room["name"] for page in pages for room in page["items"]] == [
        "3栋1单元301", "3栋1单元1201", "3栋商铺2", "10栋1单元301", "10栋1单元1201",
    ]  # fmt: skip
    assert pages[0]["items"][0]["area_m2"] == "89.53"
    assert (await butler.get(f"/api/v1/staff/rooms/{shop.json()['id']}")).json()["name"] == "3栋商铺2"
    listed = (await butler.get(f"/api/v1/staff/communities/{community.id}/buildings")).json()["items"]
    assert [(one["name"], len(one["units"])) for one in listed] == [("3栋", 1), ("10栋", 1)]
    assert await Audit.filter(act="room.create").count() == 5


async def test_names_are_taken_once(world: World) -> None:
    community, butler = await _site(world)
    building = await _building(butler, community, "3栋")
    units = f"/api/v1/staff/buildings/{building['id']}/units"
    rooms = f"/api/v1/staff/communities/{community.id}/rooms"
    await butler.post(units, {"name": "1单元"})
    room = {"building_id": building["id"], "number": "101", "area_m2": "80"}

    answers = await asyncio.gather(*(butler.post(rooms, room) for _ in range(3)))
    again = [
        await butler.post(f"/api/v1/staff/communities/{community.id}/buildings", {"name": " ３栋"}),
        await butler.post(units, {"name": "1单元"}),
    ]

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"room_name_taken"}
    assert [answer.json()["code"] for answer in again] == ["building_name_taken", "unit_name_taken"]
    assert [await model.all().count() for model in (Building, Unit, Room)] == [1, 1, 1]


async def test_a_batch_is_made_whole_and_again_with_the_same_key(world: World) -> None:
    community, butler = await _site(world)
    building = await _building(butler, community, "3栋")
    document = {
        "rooms": [{"building_id": building["id"], "number": f"{number}", "area_m2": "80.5"} for number in range(500)]
    }
    path = f"/api/v1/staff/communities/{community.id}/rooms/batch"

    first, again = [await butler.post(path, document, key="batch") for _ in range(2)]

    assert first.status_code == 201, first.text
    assert (first.json()["count"], again.json()) == (500, first.json())
    assert await Room.all().count() == 500
    rooms = {str(room.id): room.number for room in await Room.all()}
    assert [rooms[room_id] for room_id in first.json()["room_ids"]] == [str(number) for number in range(500)]
    too_many = await butler.post(path, {"rooms": document["rooms"] + document["rooms"][:1]})
    assert too_many.status_code == 422


async def test_a_batch_says_which_rows_are_wrong_and_makes_none(world: World) -> None:
    community, butler = await _site(world)
    building, other = [await _building(butler, community, name) for name in ("3栋", "4栋")]
    unit = (await butler.post(f"/api/v1/staff/buildings/{other['id']}/units", {"name": "1单元"})).json()
    path = f"/api/v1/staff/communities/{community.id}/rooms"
    await butler.post(path, {"building_id": building["id"], "number": "101", "area_m2": "80"})

    def row(**values: Any) -> dict[str, Any]:
        return {"building_id": building["id"], "number": "102", "area_m2": "80", **values}

    rows = [
        row(), row(number="101"), row(building_id=unknown_id()), row(number="103", unit_id=unit["id"]), row(),
        row(building_id="nonsense"),
    ]  # fmt: skip
    answer = await butler.post(f"{path}/batch", {"rooms": rows})

    assert (answer.status_code, answer.json()["code"]) == (422, "room_rows_wrong")
    assert answer.json()["rows"] == [
        {"row": 2, "code": "room_name_taken"}, {"row": 3, "code": "not_found"}, {"row": 4, "code": "not_found"},
        {"row": 5, "code": "room_name_taken"}, {"row": 6, "code": "not_found"},
    ]  # fmt: skip
    assert answer.json()["title"] == "有 5 行房屋有误，全部没有导入，请改正后重新提交。"
    negative = await butler.post(f"{path}/batch", {"rooms": [row(), row(number="103", area_m2="-1")]})
    assert negative.json()["fields"][0]["field"] == "rooms.1.area_m2"
    assert await Room.all().count() == 1


async def test_only_who_manages_the_register_builds_and_only_there(world: World) -> None:
    community, butler = await _site(world)
    building = await _building(butler, community, "3栋")
    company_id = community.organization_id
    other = await Community.create(organization_id=company_id, name="月亮湾", code="YLW")
    foreign_building = await Building.create(community_id=other.id, name="1栋", natural_key="1栋")
    cashier = await world.staff(_company(company_id), Role.CASHIER, community)
    path = f"/api/v1/staff/communities/{community.id}"
    room = {"building_id": building["id"], "number": "101", "area_m2": "80"}

    assert (await cashier.get(f"{path}/rooms")).status_code == 200
    assert (await cashier.post(f"{path}/rooms", room)).status_code == 403
    assert (await cashier.post(f"{path}/rooms/batch", {"rooms": [room]})).status_code == 403
    assert (await cashier.post(f"{path}/buildings", {"name": "9栋"})).status_code == 403
    away = f"/api/v1/staff/communities/{other.id}"
    for answer in (
        await butler.post(f"{away}/buildings", {"name": "9栋"}),
        await butler.post(f"{away}/rooms", room),
        await butler.get(f"{away}/rooms"),
        await butler.post(f"/api/v1/staff/buildings/{foreign_building.id}/units", {"name": "1单元"}),
        await butler.post(f"{path}/rooms", room | {"building_id": str(foreign_building.id)}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert [await model.all().count() for model in (Building, Unit, Room)] == [2, 0, 0]


def _company(organization_id: Any) -> Any:
    """What ``World.staff`` needs of a company."""
    return type("Company", (), {"id": organization_id})()
