"""Bills as people see and staff handle them. The money side is behind the door of payments/."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any
from uuid import UUID

import payments
from kit.errors import NotFound
from kit.paging import Page, decode_cursor, page_of
from models.access import Act, Actor, require, require_somewhere
from models.base import get_visible
from models.bill import PAYABLE, Bill, BillKind, BillState
from models.community import Community
from models.customer import Customer
from models.fee_item import FeeItem
from models.room import Room
from models.unit_of_work import row, rows, unit_of_work
from services import bill_sql
from services.listing import wanted_id


@dataclass(frozen=True)
class BillView:
    """A bill as it is shown: with its room, community and lines (dicts of the columns, quantities as decimal text).

    ``pay_group`` is None for what cannot be paid online now.
    """

    id: UUID
    title: str
    state: BillState
    kind: BillKind
    amount_fen: int
    paid_fen: int
    credited_fen: int
    due_on: date
    accrued_on: date
    community_id: UUID
    community: str
    room_id: UUID | None
    room: str | None
    pay_group: str | None
    lines: Sequence[dict[str, Any]]


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
        visible = bill_sql.STAFF
        whose: tuple[list[UUID], list[UUID], list[date]] = (actor.community_ids(Act.BILL_READ), [], [])
    else:
        rooms = [occupancy.room_id for occupancy in actor.occupancies]
        since = [occupancy.starts_on for occupancy in actor.occupancies]
        visible, whose = bill_sql.RESIDENTS, (list(actor.customer_ids), rooms, since)
    after = decode_cursor(cursor, (date.fromisoformat, UUID)) if cursor else (None, None)
    found = await rows(
        f"WITH {visible}{bill_sql.PAGE}{bill_sql.SHOWN}",
        actor.organization_id,
        *whose,
        _states(wanted.status),
        # An id that is none, or not yours, lists what an unknown one lists: nothing.
        wanted_id(wanted.room_id) if wanted.room_id is not None else None,
        wanted_id(wanted.community_id) if wanted.community_id is not None else None,
        *after,
        limit + 1,
    )
    return page_of([_view(bill) for bill in found], limit, lambda bill: (bill.due_on, bill.id))


def _states(status: str | None) -> list[str] | None:
    if status is None:
        return None
    return [str(state) for state in (PAYABLE if status == "open" else (BillState(status),))]


async def get_bill(actor: Actor, bill_id: UUID) -> BillView:
    """One bill that the actor may see; NotFound otherwise."""
    bill = await get_visible(Bill.visible_to(actor), bill_id)
    if actor.is_staff:
        require(actor, Act.BILL_READ, community_id=bill.community_id)
    return await _view_of(bill)


async def _view_of(bill: Bill) -> BillView:
    found = await row(f"WITH {bill_sql.THESE}{bill_sql.SHOWN}", [bill.id])
    assert found is not None
    return _view(found)


def _view(found: dict[str, Any]) -> BillView:
    state = BillState(found["state"])
    payable = state in PAYABLE and found["account_is_active"]
    return BillView(
        id=found["id"],
        title=found["title"],
        state=state,
        kind=BillKind(found["kind"]),
        amount_fen=found["amount_fen"],
        paid_fen=found["paid_fen"],
        credited_fen=found["credited_fen"],
        due_on=found["due_on"],
        accrued_on=found["accrued_on"],
        community_id=found["community_id"],
        community=found["community"],
        room_id=found["room_id"],
        room=found["room"],
        pay_group=payments.pay_group(found) if payable else None,
        lines=json.loads(found["lines"]),
    )


async def issue_bill(actor: Actor, new: payments.NewBill) -> BillView:
    """Issue one bill by hand. Refuses NotFound for a community, room, customer or fee item that is not there for the
    actor, and what the money island refuses (BillExists, LinesDoNotAddUp)."""
    community = await get_visible(Community.visible_to(actor), new.community_id)
    require(actor, Act.BILL_ISSUE, community_id=community.id)
    bill = await _issue(actor, new)
    return await _view_of(bill)


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
    return await _view_of(await _publish(actor, bill_id))


@unit_of_work
async def _publish(actor: Actor, bill_id: UUID) -> Bill:
    return await payments.publish_bill_tx(actor, await Bill.select_for_update().get(id=bill_id))


async def void_bill(actor: Actor, bill_id: UUID, reason: str) -> BillView:
    """Void an unpaid bill. Refuses with BillHasPayments, or MoveNotAllowed when it is void already."""
    bill = await get_visible(Bill.visible_to(actor), bill_id)
    require(actor, Act.BILL_VOID, community_id=bill.community_id)
    return await _view_of(await _void(actor, bill_id, reason))


@unit_of_work
async def _void(actor: Actor, bill_id: UUID, reason: str) -> Bill:
    return await payments.void_bill_tx(actor, await Bill.select_for_update().get(id=bill_id), reason)
