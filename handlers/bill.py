"""Bills: what residents owe and how it came about; what staff issue and void."""

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

import payments
from handlers.route import Body, Call, Fen, Id, Out, PageOut, PageQuery, PositiveFen, Who, route
from kit.errors import MoveNotAllowed, NotFound, NotPermitted
from kit.ids import parse_id
from models.bill import BillKind, BillState
from services import bill as service


class BillLineOut(Out):
    """How a part of the amount came about. Quantities and prices are decimal text; ``unit_price`` is in yuan."""

    fee_item_id: Id
    title: str
    period_from: date | None
    period_to: date | None
    quantity: Decimal | None
    unit: str
    unit_price: Decimal | None
    formula: str
    amount_fen: Fen


class BillOut(Out):
    """A bill. What is still owed is ``amount_fen`` less ``paid_fen`` less ``credited_fen`` (冲销: it need not be paid
    any more). Bills with the same ``pay_group`` can be paid together; null means that it cannot be paid online now."""

    id: Id
    title: str
    status: BillState
    kind: BillKind
    amount_fen: Fen
    paid_fen: Fen
    credited_fen: Fen
    due_on: date
    accrued_on: date
    community_id: Id
    community: str
    room_id: Id | None
    room: str | None
    pay_group: str | None
    lines: list[BillLineOut]


class BillQuery(PageQuery):
    """``status=open`` lists everything that can still be paid, also part-paid bills."""

    status: Literal["open", "part_paid", "paid", "void", "credited"] | None = None
    room_id: str | None = None


class StaffBillQuery(PageQuery):
    """As for residents, and drafts."""

    status: Literal["draft", "open", "part_paid", "paid", "void", "credited"] | None = None
    room_id: str | None = None
    community_id: str | None = None


def bill_out(bill: service.BillView) -> BillOut:
    """The bill as it is shown."""
    return BillOut(
        id=str(bill.id),
        title=bill.title,
        status=bill.state,
        kind=bill.kind,
        amount_fen=bill.amount_fen,
        paid_fen=bill.paid_fen,
        credited_fen=bill.credited_fen,
        due_on=bill.due_on,
        accrued_on=bill.accrued_on,
        community_id=str(bill.community_id),
        community=bill.community,
        room_id=str(bill.room_id) if bill.room_id else None,
        room=bill.room,
        pay_group=bill.pay_group,
        lines=[BillLineOut(**line) for line in bill.lines],
    )


@route("GET", "/api/v1/bills", who=Who.RESIDENT, tag="账单 bills", summary="我的账单", query=BillQuery,
       response=PageOut[BillOut])  # fmt: skip
async def list_my_bills(call: Call) -> PageOut[BillOut]:
    """Oldest due first: of the rooms that the resident lives in or owns, and what they owe themselves."""
    wanted = service.BillFilter(call.query.status, call.query.room_id)
    page = await service.list_bills(call.actor, wanted, call.query.cursor, call.query.limit)
    return PageOut[BillOut](items=[bill_out(view) for view in page.items], next_cursor=page.next_cursor)


@route("GET", "/api/v1/bills/{bill_id}", who=Who.RESIDENT, tag="账单 bills", summary="账单详情", response=BillOut)
@route("GET", "/api/v1/staff/bills/{bill_id}", who=Who.STAFF, tag="账单 bills", summary="账单详情", response=BillOut)
async def get_bill(call: Call) -> BillOut:
    return bill_out(await service.get_bill(call.actor, call.id("bill_id")))


@route("GET", "/api/v1/staff/bills", who=Who.STAFF, tag="账单 bills", summary="查询账单", query=StaffBillQuery,
       response=PageOut[BillOut], refusals=(NotPermitted,))  # fmt: skip
async def list_bills(call: Call) -> PageOut[BillOut]:
    wanted = service.BillFilter(call.query.status, call.query.room_id, call.query.community_id)
    page = await service.list_bills(call.actor, wanted, call.query.cursor, call.query.limit)
    return PageOut[BillOut](items=[bill_out(view) for view in page.items], next_cursor=page.next_cursor)


class NewLineIn(Body):
    """A line to freeze. Quantities and prices as decimal text, ``unit_price`` in yuan."""

    fee_item_id: str
    title: Annotated[str, Field(min_length=1, max_length=100)]
    amount_fen: PositiveFen
    period_from: date | None = None
    period_to: date | None = None
    quantity: Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=4)] | None = None
    unit: Annotated[str, Field(max_length=16)] = ""
    unit_price: Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=6)] | None = None
    formula: Annotated[str, Field(max_length=200)] = ""


class NewBillIn(Body):
    """A bill to issue by hand. ``purpose`` names what it is for: at most one live bill a room and purpose."""

    community_id: str
    room_id: str
    customer_id: str
    purpose: Annotated[str, Field(min_length=1, max_length=100)]
    title: Annotated[str, Field(min_length=1, max_length=100)]
    kind: BillKind = BillKind.CHARGE
    accrued_on: date
    due_on: date
    draft: bool = False
    lines: Annotated[list[NewLineIn], Field(min_length=1, max_length=50)]


async def _replay_bill(call: Call, bill_id: UUID) -> BillOut:
    return bill_out(await service.get_bill(call.actor, bill_id))


@route("POST", "/api/v1/staff/bills", who=Who.STAFF, tag="账单 bills", summary="手工出账", body=NewBillIn, status=201,
       response=BillOut, replay=_replay_bill, makes="bill",
       refusals=(NotFound, NotPermitted, payments.BillExists, payments.LinesDoNotAddUp))  # fmt: skip
async def issue_bill(call: Call) -> BillOut:
    """The lines add up to the bill; its legal entity and merchant account are those of the fee items."""
    given: NewBillIn = call.body
    new = payments.NewBill(
        community_id=_id(given.community_id),
        room_id=_id(given.room_id),
        customer_id=_id(given.customer_id),
        subject_kind="room",
        subject_id=_id(given.room_id),
        purpose=given.purpose,
        title=given.title,
        kind=given.kind,
        accrued_on=given.accrued_on,
        due_on=given.due_on,
        draft=given.draft,
        lines=[
            payments.NewLine(**(line.model_dump() | {"fee_item_id": _id(line.fee_item_id)})) for line in given.lines
        ],
    )
    return bill_out(await service.issue_bill(call.actor, new))


def _id(text: str) -> UUID:
    parsed = parse_id(text)
    if parsed is None:
        raise NotFound()
    return parsed


class VoidIn(Body):
    """Why."""

    reason: Annotated[str, Field(min_length=2, max_length=200)]


@route("POST", "/api/v1/staff/bills/{bill_id}/publish", who=Who.STAFF, tag="账单 bills", summary="发布草稿账单",
       response=BillOut, refusals=(NotPermitted, MoveNotAllowed))  # fmt: skip
async def publish_bill(call: Call) -> BillOut:
    return bill_out(await service.publish_bill(call.actor, call.id("bill_id")))


@route("POST", "/api/v1/staff/bills/{bill_id}/void", who=Who.STAFF, tag="账单 bills", summary="作废账单", body=VoidIn,
       response=BillOut, refusals=(NotPermitted, MoveNotAllowed, payments.BillHasPayments))  # fmt: skip
async def void_bill(call: Call) -> BillOut:
    """Only while nothing was paid on it. A payment under way is closed at WeChat."""
    return bill_out(await service.void_bill(call.actor, call.id("bill_id"), call.body.reason))
