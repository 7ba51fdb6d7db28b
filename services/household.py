"""A room's household: an owner invites and removes family and tenants."""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from tortoise.queryset import QuerySet

from kit import clock
from kit.errors import NotFound, Refusal
from kit.paging import Page
from kit.text import normalise
from models.access import Act, Actor, require
from models.base import get_visible
from models.customer import Customer, CustomerKind
from models.occupancy import Occupancy, OccupancyKind
from models.resident import Resident
from models.room import Room
from models.unit_of_work import unit_of_work
from services.consent import require_consent
from services.listing import newest_first
from services.occupancy import (
    OccupancyView,
    add_occupancy_tx,
    claim_tx,
    current_of,
    dates_not_valid,
    end_tx,
    lasting,
    tell_joined_tx,
    views,
)
from services.phone import HiddenPhone, hide_phone


class AlreadyMember(Refusal):
    """This phone is on the room's register."""

    zh = "这个手机号已经是本房屋的成员。"
    en = "This phone number belongs to a member of the room already."


class OwnerNotRemovable(Refusal):
    """Owners come and go by the property company's register."""

    zh = "业主不能在这里移除，请联系物业办理。"
    en = "An owner cannot be removed here; the property office does that."


@dataclass(frozen=True)
class NewMember:
    """Somebody to invite. A family member shares the household's history; a tenant's begins on ``starts_on``."""

    name: str
    phone: str
    kind: OccupancyKind
    starts_on: date | None = None
    ends_on: date | None = None


async def _own_room(actor: Actor, room_id: UUID) -> Room:
    room = await get_visible(Room.visible_to(actor), room_id)
    require(actor, Act.HOUSEHOLD_INVITE, room_id=room.id)
    return room


@unit_of_work
async def invite_member(actor: Actor, room_id: UUID, new: NewMember) -> OccupancyView:
    """Put a family member or tenant on the room's register, to be claimed by their phone; when a resident of the
    company has shared that phone they are bound at once, and they and the household are told.

    Refuses NotFound (another's room), NotPermitted (not an owner of it), ConsentNeeded, PhoneNotValid, AlreadyMember,
    DatesNotValid (a tenant before the inviter came, or a last day that is past).
    """
    room = await _own_room(actor, room_id)
    await require_consent(actor)
    await Room.select_for_update().get(id=room.id)
    held = await current_of(actor.id, room.id).filter(kind=OccupancyKind.OWNER).order_by("starts_on", "id")
    if not held:  # ended since the request began
        raise NotFound()
    mine, phone = held[0], hide_phone(new.phone)
    starts_on, ends_on = _dates(mine, new)
    resident = await _resident_of(mine.organization_id, phone)
    if await _is_member(room, phone) or (resident and await current_of(resident.id, room.id).exists()):
        raise AlreadyMember()
    customer = await Customer.create(
        organization_id=mine.organization_id,
        kind=CustomerKind.PERSON,
        name=normalise(new.name),
        **phone.columns(),
    )
    occupancy = await add_occupancy_tx(actor, room, customer, new.kind, starts_on, ends_on)
    if resident is not None:
        await claim_tx(actor, resident, occupancy)
        await occupancy.refresh_from_db()
        await tell_joined_tx(resident.id, OccupancyView(occupancy, customer), room, "：业主邀请了您")
    return OccupancyView(occupancy, customer)


def _dates(mine: Occupancy, new: NewMember) -> tuple[date, date | None]:
    today = clock.today()
    starts_on = mine.starts_on if new.kind is OccupancyKind.FAMILY else new.starts_on or today
    if starts_on < mine.starts_on:
        raise dates_not_valid("starts_on")
    # Nobody stays longer by an invitation than who invited them.
    ends_on = min((day for day in (new.ends_on, mine.ends_on) if day), default=None)
    if ends_on is not None and (ends_on < today or ends_on < starts_on):
        raise dates_not_valid("ends_on")
    return starts_on, ends_on


async def _resident_of(organization_id: UUID, phone: HiddenPhone) -> Resident | None:
    """Numbers are given to new people: whoever showed it to WeChat last has it."""
    sharing = Resident.filter(phone_index__in=phone.searched, phone_verified_at__isnull=False)
    # Locked, so that an account that is just being closed is claimed for by nobody.
    newest = sharing.filter(organization_id=organization_id).order_by("-phone_verified_at", "-id")
    return await newest.select_for_update().first()


async def _is_member(room: Room, phone: HiddenPhone) -> bool:
    on_register = Occupancy.filter(lasting(clock.today()), room_id=room.id)
    customer_ids = await on_register.values_list("customer_id", flat=True)
    return await Customer.filter(id__in=customer_ids, phone_index__in=phone.searched).exists()


async def list_members(actor: Actor, room_id: UUID, cursor: str | None, limit: int) -> Page[OccupancyView]:
    """Who lives in or owns the room, claimed or waiting, newest first; for its owners. Refuses NotFound,
    NotPermitted."""
    room = await _own_room(actor, room_id)
    page = await newest_first(_members(actor, room), cursor, limit)
    return Page(await views(page.items), page.next_cursor)


async def get_member(actor: Actor, room_id: UUID, occupancy_id: UUID) -> OccupancyView:
    """One member of the room; NotFound otherwise."""
    room = await _own_room(actor, room_id)
    return (await views([await get_visible(_members(actor, room), occupancy_id)]))[0]


@unit_of_work
async def remove_member(actor: Actor, room_id: UUID, occupancy_id: UUID) -> None:
    """End a family member's or tenant's line at once: they see nothing of the room from their next request on.
    Refuses NotFound, NotPermitted, OwnerNotRemovable, OccupancyEnded (removed meanwhile)."""
    room = await _own_room(actor, room_id)
    seen = await get_visible(_members(actor, room), occupancy_id)
    if seen.kind is OccupancyKind.OWNER:
        raise OwnerNotRemovable()
    await end_tx(actor, await Occupancy.select_for_update().get(id=seen.id), None)


def _members(actor: Actor, room: Room) -> QuerySet[Occupancy]:
    return Occupancy.visible_to(actor).filter(lasting(clock.today()), room_id=room.id)
