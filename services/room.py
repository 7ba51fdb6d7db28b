"""楼栋, 单元, 房屋: how a community is built, and which rooms a resident has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

from kit.errors import NotFound, Refusal
from kit.ids import new_id, parse_id
from kit.paging import Page
from kit.text import natural_key, normalise
from models import audit
from models.access import Act, Actor, require
from models.audit import Audit
from models.base import get_visible
from models.community import Community
from models.occupancy import OccupancyKind
from models.room import Building, Room, Unit
from models.unit_of_work import unit_of_work
from services.listing import in_natural_order, wanted_id
from services.unique import unique

MAX_BATCH = 500


class BuildingNameTaken(Refusal):
    zh = "本小区已有同名的楼栋。"
    en = "Another building of this community has this name."


class UnitNameTaken(Refusal):
    zh = "这栋楼已有同名的单元。"
    en = "Another unit of this building has this name."


class RoomNameTaken(Refusal):
    zh = "本小区已有同名的房屋。"
    en = "Another room of this community has this name."


class RoomRowsWrong(Refusal):
    """Some rows of a batch cannot be made, so none was. ``rows`` lists {row, code}; the first row is 1."""

    status = 422
    zh = "有 {count} 行房屋有误，全部没有导入，请改正后重新提交。"
    en = "{count} rows cannot be made, so none was."


@dataclass(frozen=True)
class NewRoom:
    """A room to make. Its full name is made of building, unit and number."""

    building_id: str
    unit_id: str | None
    number: str
    area_m2: Decimal


@dataclass(frozen=True)
class RoomBatch:
    """Rooms made by one request, in the order of its rows."""

    id: UUID
    community_id: UUID
    room_ids: Sequence[UUID]


@dataclass(frozen=True)
class BuildingView:
    """A building and its units, in natural order."""

    building: Building
    units: Sequence[Unit]


@dataclass(frozen=True)
class MyRoom:
    """A room of the resident's, how they belong to it and since when."""

    room: Room
    community: str
    kind: OccupancyKind
    starts_on: date


async def _community(actor: Actor, community_id: UUID, act: Act) -> Community:
    community = await get_visible(Community.visible_to(actor), community_id)
    require(actor, act, community_id=community.id)
    return community


@unit_of_work
async def create_building(actor: Actor, community_id: UUID, name: str) -> BuildingView:
    """Add a building. Refuses NotFound, NotPermitted, BuildingNameTaken."""
    community = await _community(actor, community_id, Act.REGISTER_MANAGE)
    name = normalise(name)
    with unique(buildings_name=BuildingNameTaken):
        building = await Building.create(community_id=community.id, name=name, natural_key=natural_key(name))
    await _record_tx(actor, community, "building.create", "building", building.id, {"name": name})
    return BuildingView(building, [])


@unit_of_work
async def create_unit(actor: Actor, building_id: UUID, name: str) -> Unit:
    """Add a unit to a building. Refuses NotFound, NotPermitted, UnitNameTaken."""
    building = await get_visible(Building.visible_to(actor), building_id)
    community = await _community(actor, building.community_id, Act.REGISTER_MANAGE)
    name = normalise(name)
    with unique(units_name=UnitNameTaken):
        unit = await Unit.create(
            community_id=community.id, building_id=building.id, name=name, natural_key=natural_key(name)
        )
    await _record_tx(actor, community, "unit.create", "unit", unit.id, {"name": name, "building": building.name})
    return unit


async def list_buildings(actor: Actor, community_id: UUID, cursor: str | None, limit: int) -> Page[BuildingView]:
    """A community's buildings with their units, in natural order: names only, so that a resident of the company can
    find the room to ask for. Refuses NotFound, NotPermitted (staff without the register)."""
    community = await get_visible(Community.visible_to(actor), community_id)
    if actor.is_staff:
        require(actor, Act.REGISTER_READ, community_id=community.id)
    page = await in_natural_order(Building.filter(community_id=community.id), cursor, limit)
    return Page(await _with_units(page.items), page.next_cursor)


async def get_building(actor: Actor, building_id: UUID) -> BuildingView:
    """One building that the staff member may see; NotFound otherwise."""
    building = await get_visible(Building.visible_to(actor), building_id)
    require(actor, Act.REGISTER_READ, community_id=building.community_id)
    return (await _with_units([building]))[0]


async def get_unit(actor: Actor, unit_id: UUID) -> Unit:
    """One unit that the staff member may see; NotFound otherwise."""
    communities = actor.community_ids(Act.REGISTER_READ)
    return await get_visible(Unit.filter(community_id__in=communities), unit_id)


async def _with_units(buildings: Sequence[Building]) -> list[BuildingView]:
    units: dict[UUID, list[Unit]] = {building.id: [] for building in buildings}
    for unit in await Unit.filter(building_id__in=list(units)).order_by("natural_key", "id"):
        units[unit.building_id].append(unit)
    return [BuildingView(building, units[building.id]) for building in buildings]


async def list_rooms(
    actor: Actor, community_id: UUID, building_id: str | None, unit_id: str | None, cursor: str | None, limit: int
) -> Page[Room]:
    """A community's rooms in natural order. A resident of the company may look too, to find the room to ask for: the
    handler shows them names only. Refuses NotFound, NotPermitted (staff without the register)."""
    community = await get_visible(Community.visible_to(actor), community_id)
    if actor.is_staff:
        require(actor, Act.REGISTER_READ, community_id=community.id)
    query = Room.filter(community_id=community.id)
    if building_id is not None:
        query = query.filter(building_id=wanted_id(building_id))
    if unit_id is not None:
        query = query.filter(unit_id=wanted_id(unit_id))
    return await in_natural_order(query, cursor, limit)


async def get_room(actor: Actor, room_id: UUID) -> Room:
    """One room that the staff member may see; NotFound otherwise."""
    room = await get_visible(Room.visible_to(actor), room_id)
    require(actor, Act.REGISTER_READ, community_id=room.community_id)
    return room


async def list_my_rooms(actor: Actor, cursor: str | None, limit: int) -> Page[MyRoom]:
    """The rooms that the resident lives in or owns today, in natural order. Who is two things to one room is shown
    as the one that may do more."""
    page = await in_natural_order(Room.visible_to(actor), cursor, limit)
    names = {one.id: one.name for one in await Community.filter(id__in={room.community_id for room in page.items})}
    ranked = {kind.value: rank for rank, kind in enumerate(OccupancyKind)}
    mine = []
    for room in page.items:
        held = [occupancy for occupancy in actor.occupancies if occupancy.room_id == room.id]
        best = min(held, key=lambda occupancy: (ranked[occupancy.role.value], occupancy.starts_on))
        since = min(occupancy.starts_on for occupancy in held)
        mine.append(MyRoom(room, names[room.community_id], OccupancyKind(best.role.value), since))
    return Page(mine, page.next_cursor)


@unit_of_work
async def create_room(actor: Actor, community_id: UUID, new: NewRoom) -> Room:
    """Add a room. Refuses NotFound (community, or a building or unit that is not in it), NotPermitted,
    RoomNameTaken."""
    community = await _community(actor, community_id, Act.REGISTER_MANAGE)
    room = (await _Plan.of(community)).room(new)
    if room is None:
        raise NotFound()
    with unique(rooms_name=RoomNameTaken):
        await room.save(force_create=True)
    after = {"name": room.name, "area_m2": str(room.area_m2)}
    await _record_tx(actor, community, "room.create", "room", room.id, after)
    return room


@unit_of_work
async def create_rooms(actor: Actor, community_id: UUID, rows: Sequence[NewRoom]) -> RoomBatch:
    """Add up to 500 rooms, all or none. Refuses NotFound, NotPermitted, and RoomRowsWrong with each row that names a
    building or unit that is not there, or a room that is there already (or twice in the batch)."""
    community = await _community(actor, community_id, Act.REGISTER_MANAGE)
    plan = await _Plan.of(community)
    rooms = [plan.room(new) for new in rows]
    names = [room.name for room in rooms if room]
    taken = {room.name for room in await Room.filter(community_id=community.id, name__in=names)}
    wrong = []
    for number, room in enumerate(rooms, 1):
        if room is None:
            wrong.append({"row": number, "code": "not_found"})
        elif room.name in taken:
            wrong.append({"row": number, "code": RoomNameTaken.code})
        else:
            taken.add(room.name)
    if wrong:
        raise RoomRowsWrong(count=len(wrong), rows=wrong)
    made = [room for room in rooms if room]
    with unique(rooms_name=RoomNameTaken):  # somebody else made one of them since we looked
        await Room.bulk_create(made)
    batch = RoomBatch(new_id(), community.id, [room.id for room in made])
    after = {"room_ids": [str(room_id) for room_id in batch.room_ids]}
    await _record_tx(actor, community, "room.create_batch", "room_batch", batch.id, after)
    return batch


async def get_room_batch(actor: Actor, batch_id: UUID) -> RoomBatch:
    """What a batch made, as its audit row remembers; NotFound for one that is not there for the staff member."""
    communities = actor.community_ids(Act.REGISTER_READ)
    made = await Audit.get_or_none(target_kind="room_batch", target_id=batch_id, community_id__in=communities)
    if made is None:
        raise NotFound()
    room_ids = [room_id for text in made.after["room_ids"] if (room_id := parse_id(text))]
    return RoomBatch(batch_id, made.community_id or UUID(int=0), room_ids)


@dataclass(frozen=True)
class _Plan:
    """The buildings and units of a community, to name its rooms by."""

    community: Community
    buildings: Mapping[UUID, Building]
    units: Mapping[UUID, Unit]

    @classmethod
    async def of(cls, community: Community) -> "_Plan":
        buildings = {one.id: one for one in await Building.filter(community_id=community.id)}
        return cls(community, buildings, {one.id: one for one in await Unit.filter(community_id=community.id)})

    def room(self, new: NewRoom) -> Room | None:
        """The room, not saved; None when its building or unit is not of this community, or not of each other."""
        building = self.buildings.get(parse_id(new.building_id) or UUID(int=0))
        unit = self.units.get(parse_id(new.unit_id) or UUID(int=0)) if new.unit_id else None
        if building is None or (new.unit_id and (unit is None or unit.building_id != building.id)):
            return None
        number = normalise(new.number)
        name = f"{building.name}{unit.name if unit else ''}{number}"
        return Room(
            community_id=self.community.id,
            building_id=building.id,
            unit_id=unit.id if unit else None,
            number=number,
            name=name,
            natural_key=natural_key(name),
            area_m2=new.area_m2,
        )


async def _record_tx(
    actor: Actor, community: Community, act: str, kind: str, target_id: UUID, after: Mapping[str, object]
) -> None:
    await audit.record_tx(
        actor, act, kind, target_id, organization_id=community.organization_id, community_id=community.id, after=after
    )
