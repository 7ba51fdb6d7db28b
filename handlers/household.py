"""An owner's household: invite and remove family and tenants."""

from datetime import date
from typing import Literal
from uuid import UUID

from pydantic import Field

from handlers.change import Day
from handlers.customer import Phone
from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotFound, NotPermitted
from kit.text import mask_name
from models.access import Role
from models.occupancy import OccupancyKind
from services import household as service
from services import rate_limit
from services.consent import ConsentNeeded
from services.occupancy import DatesNotValid, OccupancyEnded, OccupancyView
from services.phone import PhoneNotValid

TAG = "家庭成员 household"


class NewMemberIn(Body):
    """Family shares the household's history, whatever ``starts_on`` says; a tenant's begins on it, or today."""

    name: str = Field(min_length=1, max_length=100)
    phone: Phone
    kind: Literal[Role.FAMILY, Role.TENANT]
    starts_on: Day | None = None
    ends_on: Day | None = None


class MemberOut(Out):
    """A member of the household. ``claimed`` false: still waiting for the person to share that phone."""

    id: Id
    name_masked: str
    phone_masked: str
    kind: OccupancyKind
    starts_on: date
    ends_on: date | None
    claimed: bool
    me: bool


def _out(call: Call, view: OccupancyView) -> MemberOut:
    occupancy = view.occupancy
    return MemberOut(
        id=str(occupancy.id),
        name_masked=mask_name(view.customer.name),
        phone_masked=view.customer.phone_masked,
        kind=occupancy.kind,
        starts_on=occupancy.starts_on,
        ends_on=occupancy.ends_on,
        claimed=occupancy.resident_id is not None,
        me=occupancy.resident_id == call.actor.id,
    )


async def _replay(call: Call, occupancy_id: UUID) -> MemberOut:
    return _out(call, await service.get_member(call.actor, call.id("room_id"), occupancy_id))


@route("GET", "/api/v1/rooms/{room_id}/members", who=Who.RESIDENT, tag=TAG, summary="房屋成员", query=PageQuery,
       response=PageOut[MemberOut], refusals=(NotPermitted, NotFound))  # fmt: skip
async def list_members(call: Call) -> PageOut[MemberOut]:
    """For the room's owners, newest first."""
    page = await service.list_members(call.actor, call.id("room_id"), call.query.cursor, call.query.limit)
    return PageOut[MemberOut](items=[_out(call, view) for view in page.items], next_cursor=page.next_cursor)


@route("POST", "/api/v1/rooms/{room_id}/members", who=Who.RESIDENT, tag=TAG, summary="邀请成员", body=NewMemberIn,
       status=201, response=MemberOut, replay=_replay, makes="occupancy",
       limits=(rate_limit.INVITE_MEMBER,),
       refusals=(NotPermitted, NotFound, ConsentNeeded, PhoneNotValid, service.AlreadyMember,
                 DatesNotValid))  # fmt: skip
async def invite_member(call: Call) -> MemberOut:
    """The person is bound as soon as they share that phone with the company's mini-program, or at once if they have."""
    body = call.body
    new = service.NewMember(body.name, body.phone, OccupancyKind(body.kind.value), body.starts_on, body.ends_on)
    return _out(call, await service.invite_member(call.actor, call.id("room_id"), new))


@route("DELETE", "/api/v1/rooms/{room_id}/members/{occupancy_id}", who=Who.RESIDENT, tag=TAG, summary="移除成员",
       status=204, refusals=(NotPermitted, NotFound, service.OwnerNotRemovable, OccupancyEnded))  # fmt: skip
async def remove_member(call: Call) -> None:
    """They see nothing of the room from their next request on."""
    await service.remove_member(call.actor, call.id("room_id"), call.id("occupancy_id"))
