"""Bills as people see and staff handle them. The money side is behind the door of payments/."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from uuid import UUID

from tortoise.expressions import Q

import payments
from kit.errors import NotFound
from kit.paging import Page, decode_cursor, page_of
from models.access import Act, Actor, require, require_somewhere
from models.base import get_visible
from models.bill import PAYABLE, Bill, BillLine, BillState
from models.community import Community
from models.customer import Customer
from models.fee_item import FeeItem
from models.merchant_account import MerchantAccount
from models.room import Room
from models.unit_of_work import unit_of_work
from services.listing import wanted_id


@dataclass(frozen=True)
class BillView:
    """A bill with what is shown beside it."""

    bill: Bill
    lines: Sequence[BillLine]
    room: str | None
    community: str
    pay_group: str | None


@dataclass(frozen=True)
class BillFilter:
    """What to list. ``status`` ``open`` means everything that can still be paid."""

    status: str | None = None
    room_id: str | None = None
    community_id: str | None = None


async def list_bills(actor: Actor, wanted: BillFilter, cursor: str | None, limit: int) -> Page[BillView]:
    """Oldest due first: of the resident's rooms and debts, or of the staff member's communities."""
    if actor.is_staff:
        require_somewhere(actor, Act.BILL_READ)
    query = Bill.visible_to(actor)
    if wanted.status == "open":
        query = query.filter(state__in=PAYABLE)
    elif wanted.status:
        query = query.filter(state=BillState(wanted.status))
    for name in ("room_id", "community_id"):
        value = getattr(wanted, name)
        if value is not None:
            # An id that is none, or not yours, lists what an unknown one lists: nothing.
            query = query.filter(**{name: wanted_id(value)})
    if cursor:
        due_on, last = decode_cursor(cursor, (date.fromisoformat, UUID))
        query = query.filter(Q(due_on__gt=due_on) | Q(due_on=due_on, id__gt=last))
    bills = await query.order_by("due_on", "id").limit(limit + 1)
    page = page_of(bills, limit, lambda bill: (bill.due_on, bill.id))
    return Page(await _views(page.items), page.next_cursor)


async def get_bill(actor: Actor, bill_id: UUID) -> BillView:
    """One bill that the actor may see; NotFound otherwise."""
    bill = await get_visible(Bill.visible_to(actor), bill_id)
    if actor.is_staff:
        require(actor, Act.BILL_READ, community_id=bill.community_id)
    return (await _views([bill]))[0]


async def _views(bills: Sequence[Bill]) -> list[BillView]:
    """Four more queries for any number of bills."""
    lines: dict[UUID, list[BillLine]] = {}
    for line in await BillLine.filter(bill_id__in=[bill.id for bill in bills]).order_by("position"):
        lines.setdefault(line.bill_id, []).append(line)
    rooms = {room.id: room.name for room in await Room.filter(id__in=[bill.room_id for bill in bills if bill.room_id])}
    names = {one.id: one.name for one in await Community.filter(id__in={bill.community_id for bill in bills})}
    accounts = {bill.merchant_account_id for bill in bills if bill.merchant_account_id}
    active = set(await MerchantAccount.filter(id__in=accounts, active=True).values_list("id", flat=True))
    return [
        BillView(
            bill,
            lines.get(bill.id, []),
            rooms.get(bill.room_id) if bill.room_id else None,
            names[bill.community_id],
            payments.pay_group(bill) if bill.state in PAYABLE and bill.merchant_account_id in active else None,
        )
        for bill in bills
    ]


async def issue_bill(actor: Actor, new: payments.NewBill) -> BillView:
    """Issue one bill by hand. Refuses NotFound for a community, room, customer or fee item that is not there for the
    actor, and what the money island refuses (BillExists, LinesDoNotAddUp)."""
    community = await get_visible(Community.visible_to(actor), new.community_id)
    require(actor, Act.BILL_ISSUE, community_id=community.id)
    bill = await _issue(actor, new)
    return (await _views([bill]))[0]


@unit_of_work
async def _issue(actor: Actor, new: payments.NewBill) -> Bill:
    if new.room_id is not None and not await Room.exists(id=new.room_id, community_id=new.community_id):
        raise NotFound()
    if not await Customer.visible_to(actor).filter(id=new.customer_id).exists():
        raise NotFound()
    items = {line.fee_item_id for line in new.lines}
    if await FeeItem.filter(id__in=items, community_id=new.community_id, active=True).count() != len(items):
        raise NotFound()
    if new.room_id is not None:
        new = replace(new, subject_kind="room", subject_id=new.room_id)
    return await payments.issue_bill_tx(actor, new)


async def publish_bill(actor: Actor, bill_id: UUID) -> BillView:
    """Turn a draft into an open bill. MoveNotAllowed unless it is a draft."""
    bill = await get_visible(Bill.visible_to(actor), bill_id)
    require(actor, Act.BILL_ISSUE, community_id=bill.community_id)
    return (await _views([await _publish(actor, bill_id)]))[0]


@unit_of_work
async def _publish(actor: Actor, bill_id: UUID) -> Bill:
    return await payments.publish_bill_tx(actor, await Bill.select_for_update().get(id=bill_id))


async def void_bill(actor: Actor, bill_id: UUID, reason: str) -> BillView:
    """Void an unpaid bill. Refuses with BillHasPayments, or MoveNotAllowed when it is void already."""
    bill = await get_visible(Bill.visible_to(actor), bill_id)
    require(actor, Act.BILL_VOID, community_id=bill.community_id)
    return (await _views([await _void(actor, bill_id, reason)]))[0]


@unit_of_work
async def _void(actor: Actor, bill_id: UUID, reason: str) -> Bill:
    return await payments.void_bill_tx(actor, await Bill.select_for_update().get(id=bill_id), reason)
