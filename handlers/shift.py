"""Cashier shifts: open, count, hand over, approve, and what was taken."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

import payments
from handlers.route import Body, Call, Fen, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import MoveNotAllowed, NotFound, NotPermitted
from kit.money import MAX_FEN
from models.payment import Channel
from models.shift import ShiftState
from services import shift as service
from services import shift_summary

TAG = "柜台 counter"

CashFen = Annotated[int, Field(strict=True, ge=0, le=MAX_FEN, description="Cash in fen, may be 0")]


class CashIn(Body):
    """Cash of one legal entity: what each takes in is kept and counted apart."""

    legal_entity_id: str
    amount_fen: CashFen


class OpenShiftIn(Body):
    """``floats``: 备用金 out of the safe, where there is any."""

    community_id: str
    floats: list[CashIn] = Field(default_factory=list, max_length=50)


class CloseShiftIn(Body):
    """What was counted in each drawer of the shift."""

    counts: list[CashIn] = Field(max_length=50)


class HandOverShiftIn(Body):
    """Without ``to_shift_id`` into the safe."""

    to_shift_id: str | None = None


class ApproveShiftIn(Body):
    remark: str = Field("", max_length=200)


class DrawerOut(Out):
    """``expected_fen``, ``counted_fen`` and ``variance_fen`` are null until the count."""

    legal_entity_id: Id
    legal_entity: str
    float_fen: Fen
    expected_fen: Fen | None
    counted_fen: Fen | None
    variance_fen: Fen | None


class ShiftOut(Out):
    id: Id
    community_id: Id
    staff_id: Id
    clerk: str
    status: ShiftState
    opened_at: datetime
    closed_at: datetime | None
    handed_over_at: datetime | None
    handed_to_shift_id: Id | None = Field(description="null: into the safe")
    approved_at: datetime | None
    remark: str
    drawers: list[DrawerOut]


class ChannelTotalOut(Out):
    legal_entity_id: Id
    legal_entity: str
    channel: Channel
    payments: int
    amount_fen: Fen


class ItemTotalOut(Out):
    legal_entity_id: Id
    legal_entity: str
    fee_item_id: Id | None
    name: str
    amount_fen: Fen


class DrawerTotalOut(Out):
    """float + taken + taken over − refunded = expected; expected + variance = counted."""

    legal_entity_id: Id
    legal_entity: str
    float_fen: Fen
    taken_fen: Fen
    taken_over_fen: Fen
    refunds: int
    refunded_fen: Fen
    expected_fen: Fen
    counted_fen: Fen
    variance_fen: Fen


class ShiftSummaryOut(Out):
    """Adds up on the page: ``channels`` to ``payments`` and ``total_fen``, ``items`` to ``total_fen``."""

    shift_id: Id
    channels: list[ChannelTotalOut]
    items: list[ItemTotalOut]
    drawers: list[DrawerTotalOut]
    payments: int
    total_fen: Fen
    receipts: int
    first_number: str | None
    last_number: str | None


class ShiftQuery(PageQuery):
    community_id: str | None = None
    status: ShiftState | None = None
    mine: bool = False


def _out(view: service.ShiftView) -> ShiftOut:
    shift = view.shift
    return ShiftOut(
        id=str(shift.id),
        community_id=str(shift.community_id),
        staff_id=str(shift.staff_id),
        clerk=view.clerk,
        status=shift.state,
        opened_at=shift.created_at,
        closed_at=shift.closed_at,
        handed_over_at=shift.handed_over_at,
        handed_to_shift_id=str(shift.handed_to_shift_id) if shift.handed_to_shift_id else None,
        approved_at=shift.approved_at,
        remark=shift.remark,
        drawers=[
            DrawerOut(
                legal_entity_id=str(one.drawer.legal_entity_id),
                legal_entity=one.legal_entity,
                float_fen=one.drawer.float_fen,
                expected_fen=one.drawer.expected_fen,
                counted_fen=one.drawer.counted_fen,
                variance_fen=one.drawer.variance_fen,
            )
            for one in view.drawers
        ],
    )


def _cash(given: list[CashIn]) -> list[service.Cash]:
    return [service.Cash(one.legal_entity_id, one.amount_fen) for one in given]


async def _replay(call: Call, shift_id: UUID) -> ShiftOut:
    return _out(await service.get_shift(call.actor, shift_id))


@route("POST", "/api/v1/staff/shifts", who=Who.STAFF, tag=TAG, summary="开班", body=OpenShiftIn, status=201,
       response=ShiftOut, replay=_replay, makes="shift",
       refusals=(NotFound, NotPermitted, service.ShiftAlreadyOpen, service.CountIncomplete,
                 payments.CashNotThere))  # fmt: skip
async def open_shift(call: Call) -> ShiftOut:
    """One's own; at most one in a community."""
    return _out(await service.open_shift(call.actor, call.body.community_id, _cash(call.body.floats)))


@route("GET", "/api/v1/staff/shifts", who=Who.STAFF, tag=TAG, summary="班次列表", query=ShiftQuery,
       response=PageOut[ShiftOut], refusals=(NotPermitted,))  # fmt: skip
async def list_shifts(call: Call) -> PageOut[ShiftOut]:
    """Newest first."""
    query = call.query
    page = await service.list_shifts(
        call.actor, query.community_id, query.status, query.mine, query.cursor, query.limit
    )
    return PageOut[ShiftOut](items=[_out(view) for view in page.items], next_cursor=page.next_cursor)


@route("GET", "/api/v1/staff/shifts/{shift_id}", who=Who.STAFF, tag=TAG, summary="班次详情", response=ShiftOut)
async def get_shift(call: Call) -> ShiftOut:
    return _out(await service.get_shift(call.actor, call.id("shift_id")))


@route("POST", "/api/v1/staff/shifts/{shift_id}/close", who=Who.STAFF, tag=TAG, summary="盘点关班", body=CloseShiftIn,
       response=ShiftOut, replay=_replay, makes="shift",
       refusals=(NotPermitted, MoveNotAllowed, service.CountIncomplete))  # fmt: skip
async def close_shift(call: Call) -> ShiftOut:
    """The clerk says what was counted; what was expected and the variance are told afterwards."""
    return _out(await service.close_shift(call.actor, call.id("shift_id"), _cash(call.body.counts)))


@route("POST", "/api/v1/staff/shifts/{shift_id}/hand-over", who=Who.STAFF, tag=TAG, summary="交接现金",
       body=HandOverShiftIn, response=ShiftOut, replay=_replay, makes="shift",
       refusals=(NotPermitted, MoveNotAllowed, service.ReceiverTakesOver, service.NoOpenShift))  # fmt: skip
async def hand_over_shift(call: Call) -> ShiftOut:
    """Into the safe by the clerk who counted; to the next shift by the clerk who takes it over."""
    return _out(await service.hand_over_shift(call.actor, call.id("shift_id"), call.body.to_shift_id))


@route("POST", "/api/v1/staff/shifts/{shift_id}/approve", who=Who.STAFF, tag=TAG, summary="审核班次",
       body=ApproveShiftIn, response=ShiftOut, replay=_replay, makes="shift",
       refusals=(NotPermitted, MoveNotAllowed, service.ApprovedByAnother, service.VarianceUnexplained))  # fmt: skip
async def approve_shift(call: Call) -> ShiftOut:
    """By finance, never by the clerk."""
    return _out(await service.approve_shift(call.actor, call.id("shift_id"), call.body.remark))


@route("GET", "/api/v1/staff/shifts/{shift_id}/summary", who=Who.STAFF, tag=TAG, summary="交班汇总",
       response=ShiftSummaryOut, refusals=(service.ShiftIsOpen,))  # fmt: skip
async def summarise_shift(call: Call) -> ShiftSummaryOut:
    """By channel, by item and by drawer, once the shift was counted."""
    summary = await shift_summary.summarise_shift(call.actor, call.id("shift_id"))

    def entity(one: shift_summary.ChannelTotal | shift_summary.ItemTotal | shift_summary.DrawerTotal) -> dict[str, str]:
        return {"legal_entity_id": str(one.legal_entity_id)}

    return ShiftSummaryOut(
        **{
            "shift_id": str(summary.shift.id),
            "channels": [ChannelTotalOut(**vars(one) | entity(one)) for one in summary.channels],
            "items": [
                ItemTotalOut(
                    **vars(one) | entity(one) | {"fee_item_id": str(one.fee_item_id) if one.fee_item_id else None}
                )
                for one in summary.items
            ],
            "drawers": [
                DrawerTotalOut(**vars(one) | entity(one), variance_fen=one.variance_fen) for one in summary.drawers
            ],
        },
        payments=summary.payments,
        total_fen=summary.total_fen,
        receipts=summary.receipts,
        first_number=summary.first_number,
        last_number=summary.last_number,
    )
