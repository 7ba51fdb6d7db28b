"""Reversals (红冲): asked for by one, decided by another."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

import payments
from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import InvalidCursor, MoveNotAllowed, NotFound, NotPermitted
from models.reversal import Reversal, ReversalState
from services import reversal as service

TAG = "财务 finance"


class ReversalIn(Body):
    """``entry_number`` is the ``number`` of an entry in the journal."""

    entry_number: Annotated[int, Field(strict=True, gt=0, lt=2**63)]
    reason: Annotated[str, Field(min_length=2, max_length=200)]


class ReversalQuery(PageQuery):
    community_id: str | None = Field(None, max_length=40)


class ReversalOut(Out):
    """``posted``: its mirror image stands in the journal, as an entry of the kind reversal."""

    id: Id
    community_id: Id
    entry_number: int
    reason: str
    status: ReversalState
    asked_by_staff_id: Id
    decided_by_staff_id: Id | None
    created_at: datetime
    decided_at: datetime | None


def _out(one: Reversal) -> ReversalOut:
    return ReversalOut(
        id=str(one.id),
        community_id=str(one.community_id),
        entry_number=one.entry_id,
        reason=one.reason,
        status=one.state,
        asked_by_staff_id=str(one.asked_by_staff_id),
        decided_by_staff_id=str(one.decided_by_staff_id) if one.decided_by_staff_id else None,
        created_at=one.created_at,
        decided_at=one.decided_at,
    )


async def _replay(call: Call, reversal_id: UUID) -> ReversalOut:
    return _out(await service.get_reversal(call.actor, reversal_id))


@route("POST", "/api/v1/staff/finance/reversals", who=Who.STAFF, tag=TAG, summary="申请红冲", body=ReversalIn,
       status=201, response=ReversalOut, replay=_replay, makes="reversal",
       refusals=(NotFound, NotPermitted, service.EntryReversed, payments.EntryNotReversible))  # fmt: skip
async def ask_reversal(call: Call) -> ReversalOut:
    """Nothing is posted until a second person approves. What payments and refunds posted is corrected by a refund."""
    return _out(await service.ask_reversal(call.actor, call.body.entry_number, call.body.reason))


@route("GET", "/api/v1/staff/finance/reversals", who=Who.STAFF, tag=TAG, summary="红冲申请", query=ReversalQuery,
       response=PageOut[ReversalOut], refusals=(NotPermitted, InvalidCursor))  # fmt: skip
async def list_reversals(call: Call) -> PageOut[ReversalOut]:
    """Newest first."""
    query = call.query
    page = await service.list_reversals(call.actor, query.community_id, query.cursor, query.limit)
    return PageOut[ReversalOut](items=[_out(one) for one in page.items], next_cursor=page.next_cursor)


@route("POST", "/api/v1/staff/finance/reversals/{reversal_id}/approve", who=Who.STAFF, tag=TAG, summary="复核红冲",
       response=ReversalOut,
       refusals=(NotFound, NotPermitted, payments.SecondPersonNeeded, MoveNotAllowed))  # fmt: skip
async def approve_reversal(call: Call) -> ReversalOut:
    """By another than who asked. The mirror image is posted today, in the open month."""
    return _out(await service.decide_reversal(call.actor, call.id("reversal_id"), approve=True))


@route("POST", "/api/v1/staff/finance/reversals/{reversal_id}/decline", who=Who.STAFF, tag=TAG, summary="驳回红冲",
       response=ReversalOut,
       refusals=(NotFound, NotPermitted, payments.SecondPersonNeeded, MoveNotAllowed))  # fmt: skip
async def decline_reversal(call: Call) -> ReversalOut:
    """By another than who asked; the entry may be asked about again."""
    return _out(await service.decide_reversal(call.actor, call.id("reversal_id"), approve=False))
