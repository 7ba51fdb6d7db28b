"""Requests to be bound to a room: residents ask, staff decide."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from handlers.change import Day
from handlers.customer import Phone
from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import MoveNotAllowed, NotFound, NotPermitted
from models.occupancy import OccupancyKind, RequestState
from services import occupancy_request as service
from services import rate_limit
from services.consent import ConsentNeeded
from services.occupancy import OccupancyClaimed
from services.phone import PhoneNotValid

TAG = "入住申请 occupancy requests"


class NewRequestIn(Body):
    """``phone`` is typed by hand where WeChat's was not shared; nobody has verified it."""

    room_id: str
    kind: OccupancyKind
    name: str = Field(min_length=1, max_length=100)
    phone: Phone | None = None
    note: str = Field("", max_length=200)


class RequestOut(Out):
    """A resident's own request."""

    id: Id
    community_id: Id
    community: str
    room_id: Id
    room: str
    kind: OccupancyKind
    name: str
    phone_masked: str
    note: str
    state: RequestState
    reason: str | None
    created_at: datetime
    decided_at: datetime | None


class StaffRequestOut(RequestOut):
    """A request as staff see it. ``verified_phone_masked`` is the phone that WeChat told us, if it was shared."""

    resident_id: Id
    verified_phone_masked: str
    occupancy_id: Id | None


class RequestQuery(PageQuery):
    state: RequestState | None = None


class StaffRequestQuery(RequestQuery):
    community_id: str | None = None


class ApprovalIn(Body):
    """Without ``kind``: the one asked for; without ``starts_on``: today. ``customer_id`` says who on the register the
    resident is: their unclaimed line of the room is claimed as it stands. Without it they become a new customer."""

    kind: OccupancyKind | None = None
    starts_on: Day | None = None
    customer_id: str | None = None


class RejectionIn(Body):
    reason: str = Field(min_length=1, max_length=200, description="告诉住户的原因")


def _out(view: service.RequestView) -> RequestOut:
    request = view.request
    return RequestOut(
        id=str(request.id),
        community_id=str(request.community_id),
        community=view.community,
        room_id=str(request.room_id),
        room=view.room,
        kind=request.kind,
        name=request.name,
        phone_masked=request.phone_masked,
        note=request.note,
        state=request.state,
        reason=request.reason,
        created_at=request.created_at,
        decided_at=request.decided_at,
    )


def _staff_out(view: service.RequestView) -> StaffRequestOut:
    request = view.request
    return StaffRequestOut(
        **dict(_out(view)),
        resident_id=str(request.resident_id),
        verified_phone_masked=view.resident_phone_masked,
        occupancy_id=str(request.occupancy_id) if request.occupancy_id else None,
    )


async def _replay(call: Call, request_id: UUID) -> RequestOut:
    return _out(await service.get_request(call.actor, request_id))


@route("GET", "/api/v1/occupancy-requests", who=Who.RESIDENT, tag=TAG, summary="我的申请", query=RequestQuery,
       response=PageOut[RequestOut])  # fmt: skip
async def list_my_requests(call: Call) -> PageOut[RequestOut]:
    """Newest first."""
    query = call.query
    page = await service.list_requests(call.actor, query.state, None, query.cursor, query.limit)
    return PageOut[RequestOut](items=[_out(view) for view in page.items], next_cursor=page.next_cursor)


@route("POST", "/api/v1/occupancy-requests", who=Who.RESIDENT, tag=TAG, summary="申请绑定房屋", body=NewRequestIn,
       status=201, response=RequestOut, replay=_replay, makes="occupancy_request",
       limits=(rate_limit.OCCUPANCY_REQUEST,),
       refusals=(NotFound, ConsentNeeded, PhoneNotValid, service.AlreadyBound, service.RequestPending,
                 service.TooManyPendingRequests))  # fmt: skip
async def create_request(call: Call) -> RequestOut:
    """For a resident whose phone is on no register, or who does not share it. Staff decide."""
    return _out(await service.create_request(call.actor, service.NewRequest(**dict(call.body))))


@route("GET", "/api/v1/occupancy-requests/{request_id}", who=Who.RESIDENT, tag=TAG, summary="我的申请详情",
       response=RequestOut, refusals=(NotFound,))  # fmt: skip
async def get_my_request(call: Call) -> RequestOut:
    return _out(await service.get_request(call.actor, call.id("request_id")))


@route("POST", "/api/v1/occupancy-requests/{request_id}/withdraw", who=Who.RESIDENT, tag=TAG, summary="撤回申请",
       response=RequestOut, refusals=(NotFound, MoveNotAllowed))  # fmt: skip
async def withdraw_request(call: Call) -> RequestOut:
    return _out(await service.withdraw_request(call.actor, call.id("request_id")))


@route("GET", "/api/v1/staff/occupancy-requests", who=Who.STAFF, tag=TAG, summary="入住申请列表",
       query=StaffRequestQuery, response=PageOut[StaffRequestOut], refusals=(NotPermitted,))  # fmt: skip
async def list_requests(call: Call) -> PageOut[StaffRequestOut]:
    """Newest first."""
    query = call.query
    page = await service.list_requests(call.actor, query.state, query.community_id, query.cursor, query.limit)
    return PageOut[StaffRequestOut](items=[_staff_out(view) for view in page.items], next_cursor=page.next_cursor)


@route("GET", "/api/v1/staff/occupancy-requests/{request_id}", who=Who.STAFF, tag=TAG, summary="入住申请详情",
       response=StaffRequestOut, refusals=(NotPermitted, NotFound))  # fmt: skip
async def get_request(call: Call) -> StaffRequestOut:
    return _staff_out(await service.get_request(call.actor, call.id("request_id")))


@route("POST", "/api/v1/staff/occupancy-requests/{request_id}/approve", who=Who.STAFF, tag=TAG, summary="通过申请",
       body=ApprovalIn, response=StaffRequestOut,
       refusals=(NotPermitted, NotFound, MoveNotAllowed, service.AlreadyBound, OccupancyClaimed,
                 service.OccupancyKindDiffers))  # fmt: skip
async def approve_request(call: Call) -> StaffRequestOut:
    """The resident is bound and told; so are the room's other members."""
    approval = service.Approval(**dict(call.body))
    return _staff_out(await service.approve_request(call.actor, call.id("request_id"), approval))


@route("POST", "/api/v1/staff/occupancy-requests/{request_id}/reject", who=Who.STAFF, tag=TAG, summary="驳回申请",
       body=RejectionIn, response=StaffRequestOut, refusals=(NotPermitted, NotFound, MoveNotAllowed))  # fmt: skip
async def reject_request(call: Call) -> StaffRequestOut:
    """The resident is told why, and may ask again."""
    return _staff_out(await service.reject_request(call.actor, call.id("request_id"), call.body.reason))
