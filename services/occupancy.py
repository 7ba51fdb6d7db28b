"""入住关系: the register of who lives in or owns which room, how it is claimed, and how it ends."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from tortoise.expressions import F, Q
from tortoise.queryset import QuerySet

from kit import clock
from kit.errors import InvalidInput, Refusal
from kit.paging import Page
from kit.text import mask_name
from models import audit
from models.access import Act, Actor, require
from models.base import get_visible
from models.community import Community
from models.customer import Customer
from models.message import MessageKind
from models.occupancy import Occupancy, OccupancyKind
from models.resident import Resident
from models.room import Room
from models.unit_of_work import rows, unit_of_work
from services.listing import newest_first
from services.message import queue_message_tx
from services.unique import unique

KIND_ZH = {OccupancyKind.OWNER: "业主", OccupancyKind.FAMILY: "家属", OccupancyKind.TENANT: "租客"}

# The row lock orders two who claim at once; the second reads resident_id again and finds it taken.
_CLAIM_BY_PHONE = """
WITH waiting AS (
    SELECT o.id FROM occupancies o JOIN customers c ON c.id = o.customer_id
    WHERE o.organization_id = $1 AND c.phone_index = ANY($2::varchar[]) AND o.resident_id IS NULL
      AND o.starts_on <= $3 AND (o.ends_on IS NULL OR o.ends_on >= $3)
      -- Who is known already under this customer keeps it: a phone number may have gone to somebody else since.
      AND NOT EXISTS (SELECT FROM occupancies x
                      WHERE x.customer_id = o.customer_id AND x.resident_id IS NOT NULL AND x.resident_id <> $4)
    ORDER BY o.id FOR UPDATE OF o)
UPDATE occupancies SET resident_id = $4, claimed_at = $5 FROM waiting
WHERE occupancies.id = waiting.id AND occupancies.resident_id IS NULL
RETURNING occupancies.id
"""
_CLAIM = """
UPDATE occupancies SET resident_id = $2, claimed_at = $3 WHERE id = $1 AND resident_id IS NULL RETURNING id
"""


class OccupancyExists(Refusal):
    zh = "这位客户已在本房屋的登记中。"
    en = "This customer is on the register of this room already."


class OccupancyEnded(Refusal):
    zh = "这条入住关系已经结束。"
    en = "This occupancy has ended already."


class NotClaimed(Refusal):
    """There is no claim to take back."""

    zh = "这条入住关系还没有人认领。"
    en = "Nobody has claimed this occupancy."


class OccupancyClaimed(Refusal):
    """Another resident has claimed it."""

    zh = "这条入住关系已被其他住户认领。"
    en = "Another resident has claimed this occupancy."


class DatesNotValid(InvalidInput):
    """The last day before the first one, or a first day that is not allowed here."""

    zh = "日期不正确，请检查开始和结束日期。"
    en = "These dates do not fit."


@dataclass(frozen=True)
class OccupancyView:
    """A line of the register and whose it is."""

    occupancy: Occupancy
    customer: Customer


@dataclass(frozen=True)
class BoundRoom:
    """A room that a resident was bound to."""

    occupancy: Occupancy
    room: Room
    community: str


def dates_not_valid(field: str) -> DatesNotValid:
    """The refusal that names the field."""
    return DatesNotValid(fields=[{"field": field, "code": "date"}])


def lasting(today: date) -> Q:
    """What has not ended by ``today``: still lasting, or with a last day to come. What was ended before its first day
    has its last one before that, whenever it is."""
    return Q(ends_on__isnull=True) | Q(Q(ends_on__gte=today), Q(ends_on__gte=F("starts_on")))


def is_lasting(occupancy: Occupancy, today: date | None = None) -> bool:
    """The same of one line."""
    last = occupancy.ends_on
    return last is None or (last >= (today or clock.today()) and last >= occupancy.starts_on)


def current(today: date) -> Q:
    """What lasts and has begun."""
    return Q(lasting(today), Q(starts_on__lte=today))


async def views(occupancies: Sequence[Occupancy]) -> list[OccupancyView]:
    """Each with its customer, by one more query."""
    customers = {one.id: one for one in await Customer.filter(id__in={each.customer_id for each in occupancies})}
    return [OccupancyView(occupancy, customers[occupancy.customer_id]) for occupancy in occupancies]


async def list_occupancies(actor: Actor, room_id: UUID, cursor: str | None, limit: int) -> Page[OccupancyView]:
    """A room's register with what has ended, newest first. Refuses NotFound, NotPermitted."""
    room = await get_visible(Room.visible_to(actor), room_id)
    require(actor, Act.REGISTER_READ, community_id=room.community_id)
    page = await newest_first(Occupancy.visible_to(actor).filter(room_id=room.id), cursor, limit)
    return Page(await views(page.items), page.next_cursor)


async def get_occupancy(actor: Actor, occupancy_id: UUID) -> OccupancyView:
    """One line that the staff member may see; NotFound otherwise."""
    occupancy = await get_visible(Occupancy.visible_to(actor), occupancy_id)
    require(actor, Act.REGISTER_READ, community_id=occupancy.community_id)
    return (await views([occupancy]))[0]


@unit_of_work
async def create_occupancy(
    actor: Actor, room_id: UUID, customer_id: str, kind: OccupancyKind, starts_on: date, ends_on: date | None
) -> OccupancyView:
    """Put a customer on a room's register, to be claimed by their phone. Refuses NotFound (room, customer),
    NotPermitted, DatesNotValid, OccupancyExists while the customer has a lasting line for the room."""
    room = await get_visible(Room.visible_to(actor), room_id)
    require(actor, Act.REGISTER_MANAGE, community_id=room.community_id)
    customer = await get_visible(Customer.visible_to(actor), customer_id)
    occupancy = await add_occupancy_tx(actor, room, customer, kind, starts_on, ends_on)
    return OccupancyView(occupancy, customer)


async def add_occupancy_tx(
    actor: Actor, room: Room, customer: Customer, kind: OccupancyKind, starts_on: date, ends_on: date | None
) -> Occupancy:
    """The new line with its audit row; the caller has checked that it may. Refuses DatesNotValid, OccupancyExists."""
    if ends_on is not None and ends_on < starts_on:
        raise dates_not_valid("ends_on")
    await Room.select_for_update().get(id=room.id)  # two who add the same customer at once come one by one
    if await Occupancy.filter(lasting(clock.today()), room_id=room.id, customer_id=customer.id).exists():
        raise OccupancyExists()
    with unique(occupancies_one_lasting=OccupancyExists):
        occupancy = await Occupancy.create(
            organization_id=customer.organization_id,
            community_id=room.community_id,
            room_id=room.id,
            customer_id=customer.id,
            kind=kind,
            starts_on=starts_on,
            ends_on=ends_on,
            invited_by_resident_id=actor.id if actor.is_resident else None,
        )
    await _record_tx(
        actor, "occupancy.create", occupancy,
        {"room_id": str(room.id), "customer_id": str(customer.id), "kind": kind.value,
         "starts_on": starts_on.isoformat(), "ends_on": ends_on.isoformat() if ends_on else None},
    )  # fmt: skip
    return occupancy


@unit_of_work
async def end_occupancy(
    actor: Actor, occupancy_id: UUID, ends_on: date | None
) -> tuple[OccupancyView, list[OccupancyView]]:
    """End a line on its last day, or (None) at once: then whoever claimed it has no access to the room from their next
    request on. What they owe themselves they still see; a claim that was wrong is released.

    With an owner end the family members who came through that household, unless another owner who was there when they
    came stays; tenants keep what they rented. Answers the line and what ended with it. Refuses NotFound, NotPermitted,
    OccupancyEnded, DatesNotValid.
    """
    seen = await get_visible(Occupancy.visible_to(actor), occupancy_id)
    require(actor, Act.REGISTER_MANAGE, community_id=seen.community_id)
    await Room.select_for_update().get(id=seen.room_id)
    occupancy = await Occupancy.select_for_update().get(id=seen.id)
    if ends_on is not None and ends_on < occupancy.starts_on:
        raise dates_not_valid("ends_on")
    await end_tx(actor, occupancy, ends_on)
    also = [one for one in await _left_behind(occupancy) if await end_tx(actor, one, occupancy.ends_on)]
    both = await views([occupancy, *also])
    return both[0], both[1:]


@unit_of_work
async def release_claim(actor: Actor, occupancy_id: UUID) -> OccupancyView:
    """Take a wrong claim back: every line of this line's customer that the same resident has claimed is nobody's again.

    From their next request on that resident sees nothing of the customer, neither room nor debts. Where the number on
    the register belongs to somebody else by now, correct it first: whoever shares it is bound again. Refuses NotFound,
    NotPermitted (the actor must manage the register of each community concerned), NotClaimed.
    """
    seen = await get_visible(Occupancy.visible_to(actor), occupancy_id)
    require(actor, Act.REGISTER_MANAGE, community_id=seen.community_id)
    if seen.resident_id is None:
        raise NotClaimed()
    claimed = Occupancy.filter(customer_id=seen.customer_id, resident_id=seen.resident_id)
    for occupancy in await claimed.order_by("id").select_for_update():
        require(actor, Act.REGISTER_MANAGE, community_id=occupancy.community_id)
        await release_tx(actor, occupancy)
    return (await views([await Occupancy.get(id=seen.id)]))[0]


async def release_tx(actor: Actor, occupancy: Occupancy) -> None:
    """Make a locked, claimed line nobody's again."""
    before = {"resident_id": str(occupancy.resident_id)}
    occupancy.resident_id = occupancy.claimed_at = None
    await occupancy.save(update_fields=["resident_id", "claimed_at"])
    await _record_tx(actor, "occupancy.release", occupancy, {"resident_id": None}, before)


async def end_tx(actor: Actor, occupancy: Occupancy, ends_on: date | None) -> Occupancy:
    """End a locked line; None: at once. A line that began today or later ends the day before it began: it then never
    counts, and its row and audit stay. Refuses OccupancyEnded."""
    today = clock.today()
    if occupancy.ends_on is not None and (occupancy.ends_on < today or occupancy.ends_on < occupancy.starts_on):
        raise OccupancyEnded()
    before = {"ends_on": occupancy.ends_on.isoformat() if occupancy.ends_on else None}
    last = ends_on if ends_on is not None else today - timedelta(days=1)
    occupancy.ends_on = max(last, occupancy.starts_on - timedelta(days=1))
    await occupancy.save(update_fields=["ends_on"])
    await _record_tx(actor, "occupancy.end", occupancy, {"ends_on": occupancy.ends_on.isoformat()}, before)
    return occupancy


async def _left_behind(ended: Occupancy) -> list[Occupancy]:
    """Family of the room who came while the ended owner was there, and whom no other owner of that time stays for."""
    if ended.kind is not OccupancyKind.OWNER or ended.ends_on is None:
        return []
    staying = Q(ends_on__isnull=True) | Q(ends_on__gt=ended.ends_on)
    there = Occupancy.filter(lasting(clock.today()), staying, room_id=ended.room_id).order_by("id")
    owners = await there.filter(kind=OccupancyKind.OWNER).exclude(id=ended.id)
    family = await there.filter(kind=OccupancyKind.FAMILY, starts_on__gte=ended.starts_on).select_for_update()
    return [one for one in family if not any(owner.starts_on <= one.starts_on for owner in owners)]


async def claim_by_phone_tx(actor: Actor, resident: Resident, phone_indexes: Sequence[str]) -> list[BoundRoom]:
    """Bind the resident to every current line of the organization whose customer has their phone and that nobody has
    claimed; of two who claim one line at once, one gets it. The other members of each room are told."""
    claimed = await rows(
        _CLAIM_BY_PHONE, resident.organization_id, list(phone_indexes), clock.today(), resident.id, clock.now()
    )
    return await _bound_tx(actor, resident, [found["id"] for found in claimed])


async def claim_tx(actor: Actor, resident: Resident, occupancy: Occupancy) -> BoundRoom:
    """Bind the resident to this line and tell the room's other members. Refuses OccupancyClaimed."""
    claimed = await rows(_CLAIM, occupancy.id, resident.id, clock.now())
    if not claimed:
        raise OccupancyClaimed()
    return (await _bound_tx(actor, resident, [occupancy.id]))[0]


async def _bound_tx(actor: Actor, resident: Resident, occupancy_ids: Iterable[UUID]) -> list[BoundRoom]:
    bound = []
    for view in await views(await Occupancy.filter(id__in=list(occupancy_ids)).order_by("id")):
        occupancy = view.occupancy
        room = await Room.get(id=occupancy.room_id)
        community = await Community.get(id=occupancy.community_id)
        await _record_tx(actor, "occupancy.claim", occupancy, {"resident_id": str(resident.id)})
        others = await Occupancy.filter(current(clock.today()), room_id=room.id, resident_id__isnull=False)
        for other_id in sorted({one.resident_id for one in others if one.resident_id} - {resident.id}):
            await tell_joined_tx(other_id, view, room, "加入了您的房屋")
        bound.append(BoundRoom(occupancy, room, community.name))
    return bound


async def tell_joined_tx(resident_id: UUID, joined: OccupancyView, room: Room, what: str) -> None:
    """Queue the message that somebody joined a room. The fields are those of the template: 20 characters each."""
    occupancy = joined.occupancy
    who = f"{mask_name(joined.customer.name)[:4]}（{KIND_ZH[occupancy.kind]}）"
    await queue_message_tx(
        MessageKind.HOUSEHOLD_JOINED,
        occupancy.id,
        organization_id=occupancy.organization_id,
        community_id=occupancy.community_id,
        resident_id=resident_id,
        data={"thing1": room.name[-20:], "thing2": f"{who}{what}"[:20]},
    )


def current_of(resident_id: UUID | None, room_id: UUID) -> QuerySet[Occupancy]:
    """The resident's current lines for a room, as the database has them now."""
    return Occupancy.filter(current(clock.today()), resident_id=resident_id, room_id=room_id)


async def _record_tx(
    actor: Actor, act: str, occupancy: Occupancy, after: Mapping[str, Any], before: Mapping[str, Any] | None = None
) -> None:
    await audit.record_tx(
        actor, act, "occupancy", occupancy.id, organization_id=occupancy.organization_id,
        community_id=occupancy.community_id, before=before, after=after,
    )  # fmt: skip
