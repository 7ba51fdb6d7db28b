"""Bills: issued with frozen lines, voided with a reason, never deleted and never changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

from tortoise.exceptions import IntegrityError

from kit import clock
from models import audit
from models.access import Actor
from models.bill import BILL_MACHINE, Bill, BillKind, BillLine, BillState
from models.community import Community
from models.fee_item import FeeItem
from models.job import enqueue_tx
from models.merchant_account import MerchantAccount
from models.payment import PaymentBill
from payments.errors import BillExists, BillHasPayments, LinesDoNotAddUp


@dataclass(frozen=True)
class NewLine:
    """A line to freeze. ``unit_price`` in yuan; ``formula`` says in words how the amount came about."""

    fee_item_id: UUID
    title: str
    amount_fen: int
    period_from: date | None = None
    period_to: date | None = None
    quantity: Decimal | None = None
    unit: str = ""
    unit_price: Decimal | None = None
    formula: str = ""


@dataclass(frozen=True)
class NewBill:
    """A bill to issue. ``subject`` and ``purpose`` say what it is for; at most one live bill may be for the same."""

    community_id: UUID
    customer_id: UUID
    subject_kind: str
    subject_id: UUID
    purpose: str
    title: str
    accrued_on: date
    due_on: date
    lines: Sequence[NewLine]
    room_id: UUID | None = None
    kind: BillKind = BillKind.CHARGE
    draft: bool = False
    bill_import_id: UUID | None = None

    @property
    def amount_fen(self) -> int:
        return sum(line.amount_fen for line in self.lines)


@dataclass(frozen=True)
class FeeDesk:
    """What decides whose money a community's bills are: its fee items, and which entity each merchant account is of."""

    community: Community
    items: Mapping[UUID, FeeItem]
    entity_of_account: Mapping[UUID, UUID]

    @classmethod
    async def load_tx(cls, community_id: UUID) -> "FeeDesk":
        """The desk of a community that exists; three queries for any number of bills."""
        community = await Community.get(id=community_id)
        items = {item.id: item for item in await FeeItem.filter(community_id=community_id)}
        accounts = await MerchantAccount.filter(organization_id=community.organization_id)
        return cls(community, items, {account.id: account.legal_entity_id for account in accounts})

    def owner_of(self, new: NewBill) -> tuple[UUID, UUID | None]:
        """Whose money the bill is, and at which merchant account it is paid: the same for all of its lines.

        None: at no account of that legal entity, so not online; money of one never goes to another's account. Refuses
        with LinesDoNotAddUp for lines that are none, not positive, of another community, or of different owners.
        """
        found = [self.items.get(line.fee_item_id) for line in new.lines]
        owners = {(item.legal_entity_id, item.merchant_account_id) for item in found if item}
        positive = all(line.amount_fen > 0 for line in new.lines)
        if len(owners) != 1 or None in found or new.community_id != self.community.id or not positive:
            raise LinesDoNotAddUp()
        ((legal_entity_id, own_account_id),) = owners
        account_id = own_account_id or self.community.merchant_account_id
        if account_id is not None and self.entity_of_account.get(account_id) != legal_entity_id:
            account_id = None
        return legal_entity_id, account_id


async def issue_bill_tx(actor: Actor, new: NewBill) -> Bill:
    """Issue one bill. Afterwards it is open (or a draft), its lines add up, and its legal entity and merchant account
    are those of its fee items. Refuses with BillExists while a live bill is for the same, LinesDoNotAddUp for lines
    that are empty, not positive or of different legal entities or merchant accounts."""
    desk = await FeeDesk.load_tx(new.community_id)
    bill = _bill(desk, new)
    # A look before the insert gives the refusal its words; the partial unique index gives the promise.
    same = Bill.filter(community_id=new.community_id, subject_kind=new.subject_kind, subject_id=new.subject_id)
    if await same.filter(purpose=new.purpose).exclude(state__in=[BillState.VOID, BillState.CREDITED]).exists():
        raise BillExists()
    try:
        await bill.save(force_create=True)
    except IntegrityError as error:
        if "bills_one_live" in str(error):
            raise BillExists() from error
        raise
    await BillLine.bulk_create(_lines(bill, new.lines))
    await audit.record_tx(
        actor,
        "bill.issue",
        "bill",
        bill.id,
        organization_id=bill.organization_id,
        community_id=bill.community_id,
        after={"title": bill.title, "amount_fen": bill.amount_fen, "state": str(bill.state)},
    )
    return bill


def _bill(desk: FeeDesk, new: NewBill) -> Bill:
    legal_entity_id, merchant_account_id = desk.owner_of(new)
    return Bill(
        organization_id=desk.community.organization_id,
        community_id=new.community_id,
        room_id=new.room_id,
        customer_id=new.customer_id,
        legal_entity_id=legal_entity_id,
        merchant_account_id=merchant_account_id,
        kind=new.kind,
        subject_kind=new.subject_kind,
        subject_id=new.subject_id,
        purpose=new.purpose,
        title=new.title,
        state=BillState.DRAFT if new.draft else BillState.OPEN,
        amount_fen=new.amount_fen,
        accrued_on=new.accrued_on,
        due_on=new.due_on,
        issued_at=None if new.draft else clock.now(),
        bill_import_id=new.bill_import_id,
    )


def _lines(bill: Bill, lines: Sequence[NewLine]) -> list[BillLine]:
    return [
        BillLine(
            community_id=bill.community_id,
            bill_id=bill.id,
            position=position,
            fee_item_id=line.fee_item_id,
            title=line.title,
            period_from=line.period_from,
            period_to=line.period_to,
            quantity=line.quantity,
            unit=line.unit,
            unit_price=line.unit_price,
            formula=line.formula,
            amount_fen=line.amount_fen,
        )
        for position, line in enumerate(lines, start=1)
    ]


async def publish_bill_tx(actor: Actor, bill: Bill) -> Bill:
    """Turn a draft (locked by the caller) into an open bill; MoveNotAllowed unless it is a draft."""
    BILL_MACHINE.enter(bill, BillState.OPEN, issued_at=clock.now())
    await bill.save(update_fields=["state", "issued_at"])
    await audit.record_tx(
        actor,
        "bill.publish",
        "bill",
        bill.id,
        organization_id=bill.organization_id,
        community_id=bill.community_id,
        after={"state": "open"},
    )
    return bill


async def void_bill_tx(actor: Actor, bill: Bill, reason: str) -> Bill:
    """Void a bill (locked by the caller). Afterwards nobody owes it, and a payment that is under way is closed at
    WeChat by a job; money that arrives all the same becomes the debtor's surplus. Refuses with BillHasPayments once
    money was paid on it, MoveNotAllowed when it is void already."""
    if bill.state in (BillState.PART_PAID, BillState.PAID):
        raise BillHasPayments(bill_title=bill.title)
    before = bill.state
    BILL_MACHINE.enter(bill, BillState.VOID, voided_at=clock.now(), void_reason=reason)
    await bill.save(update_fields=["state", "voided_at", "void_reason"])
    for choice in await PaymentBill.filter(bill_id=bill.id, live=True):
        await enqueue_tx("close_payment", {"payment_id": str(choice.payment_id), "reason": "bill_changed"})
    await audit.record_tx(
        actor,
        "bill.void",
        "bill",
        bill.id,
        organization_id=bill.organization_id,
        community_id=bill.community_id,
        before={"state": str(before)},
        after={"state": "void"},  # the reason stands on the bill: somebody may have written a phone number into it
    )
    return bill
