"""The full phone or ID number, for a reason; every look is on record."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotFound, NotPermitted
from models.access import Role
from models.reveal import RevealedField
from services import reveal as service

TAG = "查看完整信息 reveals"

_REFUSALS = (NotPermitted, NotFound, service.NothingToReveal, service.RevealLimitReached)
Reason = Annotated[str, Field(min_length=4, max_length=200, description="为什么需要查看，本人可以看到")]


class RevealIn(Body):
    """The person sees the reason in the copy of their data."""

    field: RevealedField
    reason: Reason


class PhoneRevealIn(Body):
    """The person sees the reason in the copy of their data."""

    field: Literal[RevealedField.PHONE]
    reason: Reason


class RevealedOut(Out):
    """Shown this once; do not keep it."""

    field: RevealedField
    value: str


class RevealOut(Out):
    """One look. Exactly one of the three ids of a target is set."""

    id: Id
    at: datetime
    staff_id: Id
    staff_name: str
    role: Role
    community_id: Id | None
    customer_id: Id | None
    resident_id: Id | None
    occupancy_request_id: Id | None
    field: RevealedField
    reason: str


def _out(view: service.RevealView) -> RevealOut:
    reveal = view.reveal
    targets = {
        name: str(value) if (value := getattr(reveal, name)) else None
        for name in ("community_id", "customer_id", "resident_id", "occupancy_request_id")
    }
    return RevealOut(
        id=str(reveal.id),
        at=reveal.created_at,
        staff_id=str(reveal.staff_id),
        staff_name=view.staff_name,
        role=reveal.role,
        field=reveal.field,
        reason=reveal.reason,
        **targets,
    )


@route("GET", "/api/v1/staff/reveals", who=Who.STAFF, tag=TAG, summary="查看记录", query=PageQuery,
       response=PageOut[RevealOut], refusals=(NotPermitted,))  # fmt: skip
async def list_reveals(call: Call) -> PageOut[RevealOut]:
    """Who looked at what of whom, and why; newest first."""
    page = await service.list_reveals(call.actor, call.query.cursor, call.query.limit)
    return PageOut[RevealOut](items=[_out(view) for view in page.items], next_cursor=page.next_cursor)


@route("POST", "/api/v1/staff/customers/{customer_id}/reveal", who=Who.STAFF, tag=TAG, summary="查看客户的完整信息",
       body=RevealIn, response=RevealedOut, refusals=_REFUSALS)  # fmt: skip
async def reveal_customer(call: Call) -> RevealedOut:
    body = call.body
    value = await service.reveal_customer(call.actor, call.id("customer_id"), body.field, body.reason)
    return RevealedOut(field=body.field, value=value)


@route("POST", "/api/v1/staff/residents/{resident_id}/reveal", who=Who.STAFF, tag=TAG, summary="查看住户的完整手机号",
       body=PhoneRevealIn, response=RevealedOut, refusals=_REFUSALS)  # fmt: skip
async def reveal_resident(call: Call) -> RevealedOut:
    value = await service.reveal_resident(call.actor, call.id("resident_id"), call.body.reason)
    return RevealedOut(field=call.body.field, value=value)


@route("POST", "/api/v1/staff/occupancy-requests/{request_id}/reveal", who=Who.STAFF, tag=TAG,
       summary="查看申请中的完整手机号", body=PhoneRevealIn, response=RevealedOut, refusals=_REFUSALS)  # fmt: skip
async def reveal_request(call: Call) -> RevealedOut:
    """The phone that was typed into the request; the one that WeChat told is the resident's."""
    value = await service.reveal_request(call.actor, call.id("request_id"), call.body.reason)
    return RevealedOut(field=call.body.field, value=value)
