"""Requests to be bound to a room whose register does not hold the resident's phone; staff decide."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from tortoise.expressions import Subquery
from tortoise.queryset import QuerySet

from kit import clock
from kit.errors import Refusal
from kit.paging import Page
from kit.text import normalise
from models import audit
from models.access import Act, Actor, require, require_somewhere
from models.base import get_visible
from models.community import Community
from models.customer import Customer, CustomerKind
from models.message import MessageKind
from models.occupancy import REQUEST_MACHINE, Occupancy, OccupancyKind, OccupancyRequest, RequestState
from models.resident import Resident
from models.room import Room
from models.unit_of_work import unit_of_work
from services.consent import require_consent
from services.customer import require_over_customer
from services.listing import newest_first, wanted_id
from services.message import queue_message_tx
from services.occupancy import OccupancyClaimed, add_occupancy_tx, claim_tx, current_of, lasting
from services.phone import hide_phone
from services.resident_account import lock_account_tx
from services.unique import unique

MAX_PENDING = 5


class RequestPending(Refusal):
    zh = "您已提交过这套房屋的申请，请等待物业审核。"
    en = "Your request for this room is waiting for a decision already."


class TooManyPendingRequests(Refusal):
    zh = "您有多个申请正在审核，请等待结果或撤回后再提交。"
    en = "Too many of your requests are waiting; wait for decisions or withdraw some."


class AlreadyBound(Refusal):
    """The resident is bound to the room."""

    zh = "已经绑定了这套房屋，无需再次申请。"
    en = "The resident is bound to this room already."


class OccupancyKindDiffers(Refusal):
    """The register has the customer as something else than what is approved."""

    zh = "登记的身份与审核通过的身份不一致，请核对。"
    en = "The register has this customer in another kind of occupancy."


@dataclass(frozen=True)
class NewRequest:
    """What a resident asks for. ``phone`` is typed by hand where WeChat's was refused: nobody has verified it."""

    room_id: str
    kind: OccupancyKind
    name: str
    phone: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Approval:
    """How a request is approved. Without a kind: the one asked for; without a date: today. ``customer_id`` names who on
    the register the resident is; without one they become a new customer."""

    kind: OccupancyKind | None = None
    starts_on: date | None = None
    customer_id: str | None = None


@dataclass(frozen=True)
class RequestView:
    """A request, and the room that it is about."""

    request: OccupancyRequest
    room: str
    community: str
    resident_phone_masked: str  # as WeChat told it; empty when it was not shared


async def _views(requests: Sequence[OccupancyRequest]) -> list[RequestView]:
    rooms = {one.id: one.name for one in await Room.filter(id__in={each.room_id for each in requests})}
    names = {one.id: one.name for one in await Community.filter(id__in={each.community_id for each in requests})}
    residents = {one.id: one for one in await Resident.filter(id__in={each.resident_id for each in requests})}
    return [
        RequestView(one, rooms[one.room_id], names[one.community_id], residents[one.resident_id].phone_masked)
        for one in requests
    ]


@unit_of_work
async def create_request(actor: Actor, new: NewRequest) -> RequestView:
    """Ask to be bound to a room of the company. Refuses ConsentNeeded, NotFound (room), PhoneNotValid, AlreadyBound,
    RequestPending (one at a time for a room), TooManyPendingRequests (five at a time in all)."""
    there = Subquery(Community.visible_to(actor).values("id"))
    room = await get_visible(Room.filter(community_id__in=there), new.room_id)
    phone = hide_phone(new.phone).columns() if new.phone else {}
    await lock_account_tx(actor.id)  # so that five stay five when several come at once
    await require_consent(actor)
    if await current_of(actor.id, room.id).exists():
        raise AlreadyBound()
    if await _pending(actor).filter(room_id=room.id).exists():
        raise RequestPending()
    if await _pending(actor).count() >= MAX_PENDING:
        raise TooManyPendingRequests()
    with unique(occupancy_requests_one_pending=RequestPending):
        request = await OccupancyRequest.create(
            organization_id=actor.organization_id,
            community_id=room.community_id,
            room_id=room.id,
            resident_id=actor.id,
            kind=new.kind,
            name=normalise(new.name),
            note=normalise(new.note),
            **phone,
        )
    await _record_tx(actor, "occupancy_request.create", request, {"room_id": str(room.id), "kind": new.kind.value})
    return (await _views([request]))[0]


def _pending(actor: Actor) -> QuerySet[OccupancyRequest]:
    return OccupancyRequest.visible_to(actor).filter(state=RequestState.PENDING)


async def list_requests(
    actor: Actor, state: RequestState | None, community_id: str | None, cursor: str | None, limit: int
) -> Page[RequestView]:
    """Newest first: a resident's own, or those of the communities whose requests the staff member may read."""
    if actor.is_staff:
        require_somewhere(actor, Act.REQUEST_READ)
    query = OccupancyRequest.visible_to(actor)
    if state is not None:
        query = query.filter(state=state)
    if community_id is not None:
        query = query.filter(community_id=wanted_id(community_id))
    page = await newest_first(query, cursor, limit)
    return Page(await _views(page.items), page.next_cursor)


async def get_request(actor: Actor, request_id: UUID) -> RequestView:
    """One request: the resident's own, or one that the staff member may read; NotFound otherwise."""
    request = await get_visible(OccupancyRequest.visible_to(actor), request_id)
    if actor.is_staff:
        require(actor, Act.REQUEST_READ, community_id=request.community_id)
    return (await _views([request]))[0]


@unit_of_work
async def withdraw_request(actor: Actor, request_id: UUID) -> RequestView:
    """Take back one's own request. Refuses NotFound, MoveNotAllowed once it is decided or withdrawn."""
    request = await get_visible(OccupancyRequest.visible_to(actor).select_for_update(), request_id)
    await _enter_tx(actor, request, RequestState.WITHDRAWN, "occupancy_request.withdraw")
    return (await _views([request]))[0]


@unit_of_work
async def approve_request(actor: Actor, request_id: UUID, approval: Approval) -> RequestView:
    """Afterwards the resident is bound to the room and told, and so are its other members.

    With a customer the resident claims that customer's line of the room, whose kind must be the one approved and whose
    dates stay; without such a line one is made for them. As the resident will see what that customer owes everywhere,
    the actor must decide in all of the customer's communities. Refuses NotFound (request, customer), NotPermitted,
    MoveNotAllowed when it is decided, AlreadyBound, OccupancyClaimed, OccupancyKindDiffers.
    """
    request = await _to_decide_tx(actor, request_id)
    room = await Room.select_for_update().get(id=request.room_id)
    resident = await Resident.get(id=request.resident_id)
    if not REQUEST_MACHINE.allows(request.state, RequestState.APPROVED):
        REQUEST_MACHINE.enter(request, RequestState.APPROVED)
    if await current_of(resident.id, room.id).exists():
        raise AlreadyBound()
    occupancy = await _occupancy_tx(actor, request, room, resident, approval)
    await claim_tx(actor, resident, occupancy)
    await _enter_tx(
        actor, request, RequestState.APPROVED, "occupancy_request.approve",
        decided_by_staff_id=actor.id, decided_at=clock.now(), occupancy_id=occupancy.id,
    )  # fmt: skip
    await _tell_tx(request, room, "已通过", "您已绑定房屋，可以查看账单")
    return (await _views([request]))[0]


@unit_of_work
async def reject_request(actor: Actor, request_id: UUID, reason: str) -> RequestView:
    """Afterwards the resident has been told why not, and may ask again. Refuses NotFound, NotPermitted,
    MoveNotAllowed when it is decided."""
    request = await _to_decide_tx(actor, request_id)
    await _enter_tx(
        actor, request, RequestState.REJECTED, "occupancy_request.reject",
        decided_by_staff_id=actor.id, decided_at=clock.now(), reason=normalise(reason),
    )  # fmt: skip
    room = await Room.get(id=request.room_id)
    await _tell_tx(request, room, "未通过", normalise(reason))
    return (await _views([request]))[0]


async def _to_decide_tx(actor: Actor, request_id: UUID) -> OccupancyRequest:
    request = await get_visible(OccupancyRequest.visible_to(actor).select_for_update(), request_id)
    require(actor, Act.REQUEST_DECIDE, community_id=request.community_id)
    return request


async def _occupancy_tx(
    actor: Actor, request: OccupancyRequest, room: Room, resident: Resident, approval: Approval
) -> Occupancy:
    """The line that the resident is to claim: the customer's own, or a new one."""
    kind = approval.kind or request.kind
    starts_on = approval.starts_on or clock.today()
    if approval.customer_id is None:
        # WeChat's word for the phone is better than the one typed by hand.
        source = resident if resident.phone_cipher is not None else request
        customer = await Customer.create(
            organization_id=request.organization_id,
            kind=CustomerKind.PERSON,
            name=request.name,
            phone_cipher=source.phone_cipher,
            phone_index=source.phone_index,
            phone_masked=source.phone_masked,
        )
        return await add_occupancy_tx(actor, room, customer, kind, starts_on, None)
    customer = await get_visible(Customer.visible_to(actor), approval.customer_id)
    await require_over_customer(actor, Act.REQUEST_DECIDE, customer)
    on_register = Occupancy.filter(lasting(clock.today()), room_id=room.id, customer_id=customer.id)
    held = await on_register.order_by("id").first()
    if held is None:
        return await add_occupancy_tx(actor, room, customer, kind, starts_on, None)
    if held.resident_id is not None:
        raise OccupancyClaimed()
    if held.kind is not kind:
        raise OccupancyKindDiffers()
    return held


async def _enter_tx(actor: Actor, request: OccupancyRequest, state: RequestState, act: str, **values: object) -> None:
    before = request.state
    assigned = REQUEST_MACHINE.enter(request, state, **values)
    await request.save(update_fields=list(assigned))
    # The reason is free text that somebody may have written a number into: it stays on the request.
    after: dict[str, object] = {"state": state.value}
    if request.occupancy_id is not None:
        after["occupancy_id"] = str(request.occupancy_id)
    await _record_tx(actor, act, request, after, {"state": before.value})


async def _record_tx(
    actor: Actor, act: str, request: OccupancyRequest, after: dict[str, object], before: dict[str, object] | None = None
) -> None:
    await audit.record_tx(
        actor, act, "occupancy_request", request.id, organization_id=request.organization_id,
        community_id=request.community_id, before=before, after=after,
    )  # fmt: skip


async def _tell_tx(request: OccupancyRequest, room: Room, outcome: str, words: str) -> None:
    await queue_message_tx(
        MessageKind.REQUEST_DECIDED,
        request.id,
        organization_id=request.organization_id,
        community_id=request.community_id,
        resident_id=request.resident_id,
        data={"thing1": room.name[-20:], "phrase2": outcome, "thing3": words[:20]},
    )
