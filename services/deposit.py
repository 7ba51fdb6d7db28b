"""押金 as staff handle and residents see them; the money side is behind the door of payments/."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import payments
from kit import clock
from kit.ids import new_id
from kit.paging import Page
from models.access import Act, Actor, require, require_somewhere
from models.base import get_visible
from models.bill import Bill, BillKind
from models.community import Community
from models.customer import Customer
from models.deposit import Deposit, DepositDeduction, DepositState
from models.fee_item import FeeItem
from models.room import Room
from models.unit_of_work import unit_of_work
from services.bill import BillView, get_bill
from services.listing import newest_first, wanted_id


@dataclass(frozen=True)
class NewDeposit:
    """A deposit to ask for. The fee item says whose money it is held by."""

    community_id: str
    room_id: str
    customer_id: str
    fee_item_id: str
    title: str
    amount_fen: int


@dataclass(frozen=True)
class DepositFilter:
    """What to list."""

    status: DepositState | None = None
    community_id: str | None = None
    customer_id: str | None = None
    room_id: str | None = None


async def ask_for_deposit(actor: Actor, new: NewDeposit) -> BillView:
    """A bill of kind deposit; once it is paid, by whatever way, the deposit is held. Refuses NotFound for a community,
    room, customer or fee item that is not there for the actor, NotPermitted."""
    community = await get_visible(Community.visible_to(actor), new.community_id)
    require(actor, Act.DEPOSIT_ISSUE, community_id=community.id)
    room = await get_visible(Room.filter(community_id=community.id), new.room_id)
    customer = await get_visible(Customer.visible_to(actor), new.customer_id)
    item = await get_visible(FeeItem.filter(community_id=community.id, active=True), new.fee_item_id)
    today = clock.today()
    bill = await unit_of_work(payments.issue_bill_tx)(
        actor,
        payments.NewBill(
            community_id=community.id,
            room_id=room.id,
            customer_id=customer.id,
            subject_kind="deposit",
            subject_id=new_id(),
            purpose="deposit",
            title=new.title,
            accrued_on=today,
            due_on=today,
            kind=BillKind.DEPOSIT,
            lines=[payments.NewLine(item.id, new.title, new.amount_fen)],
        ),
    )
    return await get_bill(actor, bill.id)


async def list_deposits(actor: Actor, wanted: DepositFilter, cursor: str | None, limit: int) -> Page[Deposit]:
    """Newest first: the resident's own, or those of the staff member's communities."""
    if actor.is_staff:
        require_somewhere(actor, Act.DEPOSIT_READ)
    query = Deposit.visible_to(actor)
    if wanted.status is not None:
        query = query.filter(state=wanted.status)
    for column in ("community_id", "customer_id", "room_id"):
        value = getattr(wanted, column)
        if value is not None:
            query = query.filter(**{column: wanted_id(value)})
    return await newest_first(query, cursor, limit)


async def get_deposit(actor: Actor, deposit_id: UUID) -> Deposit:
    """One deposit that the actor may see; NotFound otherwise."""
    return await _visible(actor, deposit_id, Act.DEPOSIT_READ)


async def list_deductions(actor: Actor, deposit_id: UUID, cursor: str | None, limit: int) -> Page[DepositDeduction]:
    """What was deducted from a deposit and why, newest first; its owner sees the same. NotFound as ``get_deposit``."""
    deposit = await _visible(actor, deposit_id, Act.DEPOSIT_READ)
    return await newest_first(DepositDeduction.filter(deposit_id=deposit.id), cursor, limit)


async def deduct(
    actor: Actor, deposit_id: UUID, bill_id: str, amount_fen: int, reason: str, attachments: Sequence[str]
) -> DepositDeduction:
    """Pay a charge of the same customer from a deposit, with a reason and evidence; the deduction.

    Refuses NotFound, NotPermitted, MoveNotAllowed (its return was asked for, or nothing is left), and as the money
    island does: NotEnoughHeld, BillOfAnother, BillIsNoCharge, BillVoided, BillAlreadyPaid, LessIsOwed.
    """
    deposit = await _visible(actor, deposit_id, Act.DEPOSIT_DEDUCT)
    bill = await get_visible(Bill.visible_to(actor).filter(community_id=deposit.community_id), bill_id)
    portion = payments.Portion(bill.id, amount_fen)
    return await unit_of_work(payments.deduct_deposit_tx)(actor, deposit.id, portion, reason, attachments)


async def get_deduction(actor: Actor, deduction_id: UUID) -> DepositDeduction:
    """One deduction of a deposit that the actor may see; NotFound otherwise."""
    found = await get_visible(DepositDeduction.all(), deduction_id)
    await _visible(actor, found.deposit_id, Act.DEPOSIT_READ)
    return found


async def ask_return(actor: Actor, deposit_id: UUID, reason: str) -> Deposit:
    """Ask that what is left of a deposit is given back. Refuses NotFound, NotPermitted, MoveNotAllowed."""
    deposit = await _visible(actor, deposit_id, Act.DEPOSIT_RETURN)
    return await unit_of_work(payments.ask_deposit_return_tx)(actor, deposit.id, reason)


async def withdraw_return(actor: Actor, deposit_id: UUID) -> Deposit:
    """It is not to be given back yet. Refuses NotFound, NotPermitted, MoveNotAllowed unless that was asked."""
    deposit = await _visible(actor, deposit_id, Act.DEPOSIT_RETURN)
    return await unit_of_work(payments.withdraw_deposit_return_tx)(actor, deposit.id)


async def _visible(actor: Actor, deposit_id: UUID, act: Act) -> Deposit:
    deposit = await get_visible(Deposit.visible_to(actor), deposit_id)
    if actor.is_staff:
        require(actor, act, community_id=deposit.community_id)
    return deposit
