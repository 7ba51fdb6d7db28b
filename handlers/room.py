"""Buildings, units and rooms: the resident's own, those to find one's room among, and the staff's register."""

from datetime import date
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from pydantic import Field

from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotFound, NotPermitted
from models.occupancy import OccupancyKind
from models.room import Room, Unit
from services import room as service

TAG = "房屋 rooms"

Name = Annotated[str, Field(min_length=1, max_length=50)]
Area = Annotated[Decimal, Field(ge=0, max_digits=10, decimal_places=2, description="建筑面积，平方米")]


class MyRoomOut(Out):
    """A room of the resident's; bills since ``starts_on`` are shown."""

    id: Id
    community_id: Id
    community: str
    name: str
    kind: OccupancyKind
    area_m2: Decimal
    starts_on: date


class UnitOut(Out):
    id: Id
    building_id: Id
    name: str


class BuildingOut(Out):
    """A building and its units, in natural order."""

    id: Id
    name: str
    units: list[UnitOut]


class RoomNumberOut(Out):
    """A room as everybody of the company may see it: where it is, nothing of who lives there."""

    id: Id
    building_id: Id
    unit_id: Id | None
    number: str
    name: str


class RoomOut(RoomNumberOut):
    """A room of the register."""

    community_id: Id
    area_m2: Decimal


class RoomBatchOut(Out):
    """The rooms that a batch made, in the order of its rows."""

    id: Id
    community_id: Id
    count: int
    room_ids: list[Id]


class RoomQuery(PageQuery):
    building_id: str | None = None
    unit_id: str | None = None


class NameIn(Body):
    """``3栋`` or ``1单元``, as people write it."""

    name: Name


class RoomIn(Body):
    """The full name is made of building, unit and number: ``3栋1单元1201``."""

    building_id: str
    unit_id: str | None = None
    number: Name
    area_m2: Area


class RoomsIn(Body):
    rooms: list[RoomIn] = Field(min_length=1, max_length=service.MAX_BATCH)


def _unit_out(unit: Unit) -> UnitOut:
    return UnitOut(id=str(unit.id), building_id=str(unit.building_id), name=unit.name)


def _building_out(view: service.BuildingView) -> BuildingOut:
    return BuildingOut(
        id=str(view.building.id), name=view.building.name, units=[_unit_out(unit) for unit in view.units]
    )


def _number_out(room: Room) -> RoomNumberOut:
    return RoomNumberOut(
        id=str(room.id),
        building_id=str(room.building_id),
        unit_id=str(room.unit_id) if room.unit_id else None,
        number=room.number,
        name=room.name,
    )


def _room_out(room: Room) -> RoomOut:
    return RoomOut(**dict(_number_out(room)), community_id=str(room.community_id), area_m2=room.area_m2)


def _batch_out(batch: service.RoomBatch) -> RoomBatchOut:
    return RoomBatchOut(
        id=str(batch.id),
        community_id=str(batch.community_id),
        count=len(batch.room_ids),
        room_ids=[str(room_id) for room_id in batch.room_ids],
    )


def _new(room: RoomIn) -> service.NewRoom:
    return service.NewRoom(room.building_id, room.unit_id, room.number, room.area_m2)


async def _replay_building(call: Call, building_id: UUID) -> BuildingOut:
    return _building_out(await service.get_building(call.actor, building_id))


async def _replay_unit(call: Call, unit_id: UUID) -> UnitOut:
    return _unit_out(await service.get_unit(call.actor, unit_id))


async def _replay_room(call: Call, room_id: UUID) -> RoomOut:
    return _room_out(await service.get_room(call.actor, room_id))


async def _replay_batch(call: Call, batch_id: UUID) -> RoomBatchOut:
    return _batch_out(await service.get_room_batch(call.actor, batch_id))


@route("GET", "/api/v1/rooms", who=Who.RESIDENT, tag=TAG, summary="我的房屋", query=PageQuery,
       response=PageOut[MyRoomOut])  # fmt: skip
async def list_my_rooms(call: Call) -> PageOut[MyRoomOut]:
    """The rooms that the resident lives in or owns today."""
    page = await service.list_my_rooms(call.actor, call.query.cursor, call.query.limit)
    items = [
        MyRoomOut(
            id=str(mine.room.id),
            community_id=str(mine.room.community_id),
            community=mine.community,
            name=mine.room.name,
            kind=mine.kind,
            area_m2=mine.room.area_m2,
            starts_on=mine.starts_on,
        )
        for mine in page.items
    ]
    return PageOut[MyRoomOut](items=items, next_cursor=page.next_cursor)


async def _buildings(call: Call) -> PageOut[BuildingOut]:
    page = await service.list_buildings(call.actor, call.id("community_id"), call.query.cursor, call.query.limit)
    return PageOut[BuildingOut](items=[_building_out(view) for view in page.items], next_cursor=page.next_cursor)


@route("GET", "/api/v1/communities/{community_id}/buildings", who=Who.RESIDENT, tag=TAG, summary="选择楼栋单元",
       query=PageQuery, response=PageOut[BuildingOut], refusals=(NotFound,))  # fmt: skip
async def list_buildings_to_join(call: Call) -> PageOut[BuildingOut]:
    """In natural order: 3栋 before 10栋."""
    return await _buildings(call)


@route("GET", "/api/v1/communities/{community_id}/rooms", who=Who.RESIDENT, tag=TAG, summary="选择房屋",
       query=RoomQuery, response=PageOut[RoomNumberOut], refusals=(NotFound,))  # fmt: skip
async def list_rooms_to_join(call: Call) -> PageOut[RoomNumberOut]:
    """Where the rooms are, nothing of who lives there; in natural order."""
    query = call.query
    page = await service.list_rooms(
        call.actor, call.id("community_id"), query.building_id, query.unit_id, query.cursor, query.limit
    )
    return PageOut[RoomNumberOut](items=[_number_out(room) for room in page.items], next_cursor=page.next_cursor)


@route("GET", "/api/v1/staff/communities/{community_id}/buildings", who=Who.STAFF, tag=TAG, summary="楼栋列表",
       query=PageQuery, response=PageOut[BuildingOut], refusals=(NotPermitted, NotFound))  # fmt: skip
async def list_buildings(call: Call) -> PageOut[BuildingOut]:
    """In natural order: 3栋 before 10栋."""
    return await _buildings(call)


@route("POST", "/api/v1/staff/communities/{community_id}/buildings", who=Who.STAFF, tag=TAG, summary="新增楼栋",
       body=NameIn, status=201, response=BuildingOut, replay=_replay_building, makes="building",
       refusals=(NotPermitted, NotFound, service.BuildingNameTaken))  # fmt: skip
async def create_building(call: Call) -> BuildingOut:
    return _building_out(await service.create_building(call.actor, call.id("community_id"), call.body.name))


@route("POST", "/api/v1/staff/buildings/{building_id}/units", who=Who.STAFF, tag=TAG, summary="新增单元",
       body=NameIn, status=201, response=UnitOut, replay=_replay_unit, makes="unit",
       refusals=(NotPermitted, NotFound, service.UnitNameTaken))  # fmt: skip
async def create_unit(call: Call) -> UnitOut:
    return _unit_out(await service.create_unit(call.actor, call.id("building_id"), call.body.name))


@route("GET", "/api/v1/staff/communities/{community_id}/rooms", who=Who.STAFF, tag=TAG, summary="房屋列表",
       query=RoomQuery, response=PageOut[RoomOut], refusals=(NotPermitted, NotFound))  # fmt: skip
async def list_rooms(call: Call) -> PageOut[RoomOut]:
    """In natural order."""
    query = call.query
    page = await service.list_rooms(
        call.actor, call.id("community_id"), query.building_id, query.unit_id, query.cursor, query.limit
    )
    return PageOut[RoomOut](items=[_room_out(room) for room in page.items], next_cursor=page.next_cursor)


@route("POST", "/api/v1/staff/communities/{community_id}/rooms", who=Who.STAFF, tag=TAG, summary="新增房屋",
       body=RoomIn, status=201, response=RoomOut, replay=_replay_room, makes="room",
       refusals=(NotPermitted, NotFound, service.RoomNameTaken))  # fmt: skip
async def create_room(call: Call) -> RoomOut:
    return _room_out(await service.create_room(call.actor, call.id("community_id"), _new(call.body)))


@route("POST", "/api/v1/staff/communities/{community_id}/rooms/batch", who=Who.STAFF, tag=TAG, summary="批量新增房屋",
       body=RoomsIn, status=201, response=RoomBatchOut, replay=_replay_batch, makes="room_batch", max_bytes=256 * 1024,
       refusals=(NotPermitted, NotFound, service.RoomRowsWrong, service.RoomNameTaken))  # fmt: skip
async def create_rooms(call: Call) -> RoomBatchOut:
    """Up to 500 rooms, all or none; a refusal says which rows are wrong."""
    rows = [_new(room) for room in call.body.rooms]
    return _batch_out(await service.create_rooms(call.actor, call.id("community_id"), rows))


@route("GET", "/api/v1/staff/rooms/{room_id}", who=Who.STAFF, tag=TAG, summary="房屋详情", response=RoomOut,
       refusals=(NotPermitted, NotFound))  # fmt: skip
async def get_room(call: Call) -> RoomOut:
    return _room_out(await service.get_room(call.actor, call.id("room_id")))
