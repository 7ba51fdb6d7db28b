"""The register of a room, kept by staff."""

from datetime import date
from uuid import UUID

from handlers.change import Day
from handlers.customer import CustomerOut, customer_out
from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotFound, NotPermitted
from models.occupancy import OccupancyKind
from services import occupancy as service

TAG = "入住关系 occupancies"


class NewOccupancyIn(Body):
    """``ends_on`` is the last day."""

    customer_id: str
    kind: OccupancyKind
    starts_on: Day
    ends_on: Day | None = None


class EndIn(Body):
    """``ends_on`` is the last day; without it the occupancy ends at once."""

    ends_on: Day | None = None


class OccupancyOut(Out):
    """A line of the register. ``claimed``: a resident who signs in has been bound to it. One whose ``ends_on`` is
    before its ``starts_on`` was ended before it counted."""

    id: Id
    community_id: Id
    room_id: Id
    customer: CustomerOut
    kind: OccupancyKind
    starts_on: date
    ends_on: date | None
    claimed: bool


class EndedOut(Out):
    """What was ended, and the family members who ended with an owner."""

    occupancy: OccupancyOut
    also_ended: list[OccupancyOut]


def _out(view: service.OccupancyView) -> OccupancyOut:
    occupancy = view.occupancy
    return OccupancyOut(
        id=str(occupancy.id),
        community_id=str(occupancy.community_id),
        room_id=str(occupancy.room_id),
        customer=customer_out(view.customer),
        kind=occupancy.kind,
        starts_on=occupancy.starts_on,
        ends_on=occupancy.ends_on,
        claimed=occupancy.resident_id is not None,
    )


async def _replay(call: Call, occupancy_id: UUID) -> OccupancyOut:
    return _out(await service.get_occupancy(call.actor, occupancy_id))


@route("GET", "/api/v1/staff/rooms/{room_id}/occupancies", who=Who.STAFF, tag=TAG, summary="房屋的入住登记",
       query=PageQuery, response=PageOut[OccupancyOut], refusals=(NotPermitted, NotFound))  # fmt: skip
async def list_occupancies(call: Call) -> PageOut[OccupancyOut]:
    """With what has ended, newest first."""
    page = await service.list_occupancies(call.actor, call.id("room_id"), call.query.cursor, call.query.limit)
    return PageOut[OccupancyOut](items=[_out(view) for view in page.items], next_cursor=page.next_cursor)


@route("POST", "/api/v1/staff/rooms/{room_id}/occupancies", who=Who.STAFF, tag=TAG, summary="登记入住",
       body=NewOccupancyIn, status=201, response=OccupancyOut, replay=_replay, makes="occupancy",
       refusals=(NotPermitted, NotFound, service.DatesNotValid, service.OccupancyExists))  # fmt: skip
async def create_occupancy(call: Call) -> OccupancyOut:
    """To be claimed by the customer's phone."""
    body = call.body
    view = await service.create_occupancy(
        call.actor, call.id("room_id"), body.customer_id, body.kind, body.starts_on, body.ends_on
    )
    return _out(view)


@route("GET", "/api/v1/staff/occupancies/{occupancy_id}", who=Who.STAFF, tag=TAG, summary="入住登记详情",
       response=OccupancyOut, refusals=(NotPermitted, NotFound))  # fmt: skip
async def get_occupancy(call: Call) -> OccupancyOut:
    return _out(await service.get_occupancy(call.actor, call.id("occupancy_id")))


@route("POST", "/api/v1/staff/occupancies/{occupancy_id}/end", who=Who.STAFF, tag=TAG, summary="结束入住",
       body=EndIn, response=EndedOut,
       refusals=(NotPermitted, NotFound, service.OccupancyEnded, service.DatesNotValid))  # fmt: skip
async def end_occupancy(call: Call) -> EndedOut:
    """With an owner end the family members who came through that household, unless another owner stays."""
    ended, also = await service.end_occupancy(call.actor, call.id("occupancy_id"), call.body.ends_on)
    return EndedOut(occupancy=_out(ended), also_ended=[_out(view) for view in also])


@route("POST", "/api/v1/staff/occupancies/{occupancy_id}/release", who=Who.STAFF, tag=TAG, summary="解除错误认领",
       response=OccupancyOut, refusals=(NotPermitted, NotFound, service.NotClaimed))  # fmt: skip
async def release_claim(call: Call) -> OccupancyOut:
    """The wrong person was bound: they lose room and debts of this customer at once. Correct the phone first."""
    return _out(await service.release_claim(call.actor, call.id("occupancy_id")))
