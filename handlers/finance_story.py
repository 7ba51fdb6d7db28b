"""The journal of one room or one payment as a story."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from handlers.route import Call, Fen, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import InvalidCursor, NotFound, NotPermitted
from kit.paging import Page
from services import finance_story as service

TAG = "财务 finance"


class EventOut(Out):
    """``text`` is the event in words. Of an allocation that a refund took back ``amount_fen`` is negative."""

    at: datetime
    event: str
    text: str
    amount_fen: Fen
    bill_id: Id | None
    payment_id: Id | None


def _event(one: Mapping[str, Any], language: str) -> EventOut:
    return EventOut(
        at=one["at"],
        event=one["event"],
        text=service.sentence(one, language),
        amount_fen=one["amount_fen"],
        bill_id=str(one["bill_id"]) if one["bill_id"] else None,
        payment_id=str(one["payment_id"]) if one["payment_id"] else None,
    )


def _page(found: Page[dict[str, Any]], language: str) -> PageOut[EventOut]:
    return PageOut[EventOut](items=[_event(one, language) for one in found.items], next_cursor=found.next_cursor)


@route("GET", "/api/v1/staff/finance/rooms/{room_id}/story", who=Who.STAFF, tag=TAG, summary="房屋收支流水",
       query=PageQuery, response=PageOut[EventOut], refusals=(NotFound, NotPermitted, InvalidCursor))  # fmt: skip
async def story_of_room(call: Call) -> PageOut[EventOut]:
    """The oldest first: bills issued, orders opened and paid, entries, allocations, receipts, refunds."""
    found = await service.story_of_room(call.actor, call.id("room_id"), call.query.cursor, call.query.limit)
    return _page(found, call.language)


@route("GET", "/api/v1/staff/finance/payments/{payment_id}/story", who=Who.STAFF, tag=TAG, summary="支付单流水",
       query=PageQuery, response=PageOut[EventOut], refusals=(NotFound, NotPermitted, InvalidCursor))  # fmt: skip
async def story_of_payment(call: Call) -> PageOut[EventOut]:
    """The oldest first, with what its surplus paid later."""
    found = await service.story_of_payment(call.actor, call.id("payment_id"), call.query.cursor, call.query.limit)
    return _page(found, call.language)
