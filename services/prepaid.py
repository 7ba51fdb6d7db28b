"""预存款: topping a balance up, paying from it, and what became of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

import structlog

import payments
from kit import clock
from kit.errors import NotFound, Refusal
from kit.ids import new_id, parse_id
from kit.paging import Page, decode_cursor, page_of
from models import audit
from models.access import Act, Actor, require, require_somewhere, system_actor
from models.base import get_visible
from models.bill import Bill, BillKind, BillState
from models.community import Community
from models.customer import Customer
from models.fee_item import FeeItem
from models.ledger import Account, EntryKind
from models.occupancy import Occupancy
from models.payment import Payment, PaymentBill
from models.prepaid import PrepaidAgreement, PrepaidTopUp
from models.unit_of_work import rows, unit_of_work
from services.bill import BillView, get_bill
from services.listing import wanted_id, whole_number
from services.payment import PaymentView, get_payment

log = structlog.get_logger()

LEAST_FEN, MOST_FEN = 1_00, 100_000_00
"""What one top-up may be: a yuan to a hundred thousand."""
WAITS_MIN = 120
TOP_UP_TITLE = "预存款充值"
VOIDED_AS = "逾期未支付，自动作废"

# Balances are read without a lock: they are shown, and nothing is decided by them.
_SHOWN = """
SELECT a.id, a.community_id, a.holder_id AS customer_id, c.name AS customer, l.name AS legal_entity,
       (COALESCE((SELECT sum(amount_fen) FROM entries WHERE credit_account_id = a.id), 0)
      - COALESCE((SELECT sum(amount_fen) FROM entries WHERE debit_account_id = a.id), 0))::bigint AS balance_fen,
       COALESCE(g.fee_item_ids, '[]') AS fee_item_ids, COALESCE(g.pays_monthly, true) AS pays_monthly
FROM accounts a JOIN customers c ON c.id = a.holder_id JOIN legal_entities l ON l.id = a.legal_entity_id
LEFT JOIN prepaid_agreements g ON g.account_id = a.id
WHERE a.id = ANY($1::uuid[]) ORDER BY a.id DESC
"""
_STATEMENT = """
WITH moves AS (
    SELECT e.id, e.kind, e.source_id, e.occurred_at, e.posted_on,
           CASE WHEN e.credit_account_id = $1 THEN e.amount_fen ELSE 0 END AS in_fen,
           CASE WHEN e.debit_account_id = $1 THEN e.amount_fen ELSE 0 END AS out_fen
    FROM entries e WHERE e.credit_account_id = $1 OR e.debit_account_id = $1
), running AS (
    SELECT *, (sum(in_fen - out_fen) OVER (ORDER BY id))::bigint AS balance_fen FROM moves
)
SELECT r.id, r.kind, r.occurred_at, r.posted_on, r.in_fen, r.out_fen, r.balance_fen, p.id AS payment_id,
       p.channel
FROM running r LEFT JOIN payment_attempts t ON t.id = r.source_id LEFT JOIN payments p ON p.id = t.payment_id
WHERE r.id < $2 ORDER BY r.id DESC LIMIT $3
"""


class TopUpNotOffered(Refusal):
    """The community has not said whose money a top-up would be."""

    status = 409
    zh = "本小区暂未开通预存款，请联系物业服务中心。"
    en = "This community takes no top-ups online."


@dataclass(frozen=True)
class PrepaidView:
    """A balance as it is shown; ``fee_item_ids`` empty: it pays every charge."""

    id: UUID
    community_id: UUID
    customer_id: UUID
    customer: str
    legal_entity: str
    balance_fen: int
    fee_item_ids: Sequence[str]
    pays_monthly: bool


@dataclass(frozen=True)
class StatementLine:
    """One movement. ``balance_fen`` is what there was after it: that of the line before, plus in, less out."""

    id: int
    kind: EntryKind
    occurred_at: datetime
    posted_on: date
    in_fen: int
    out_fen: int
    balance_fen: int
    payment_id: UUID | None
    channel: str | None


@unit_of_work
async def _issue_top_up(actor: Actor, community: Community, customer_id: UUID, item: FeeItem, amount_fen: int) -> Bill:
    today = clock.today()
    top_up_id = new_id()
    new = payments.NewBill(
        community_id=community.id,
        customer_id=customer_id,
        subject_kind="prepaid_top_up",
        subject_id=top_up_id,
        purpose="top_up",
        title=TOP_UP_TITLE,
        accrued_on=today,
        due_on=today,
        kind=BillKind.PREPAID,
        lines=[payments.NewLine(item.id, TOP_UP_TITLE, amount_fen)],
    )
    bill = await payments.issue_bill_tx(actor, new)
    await PrepaidTopUp.create(
        id=top_up_id,
        organization_id=community.organization_id,
        community_id=community.id,
        customer_id=customer_id,
        bill_id=bill.id,
        next_check_at=clock.now() + timedelta(minutes=WAITS_MIN),
    )
    return bill


async def top_up_own(actor: Actor, room_id: str, amount_fen: int) -> BillView:
    """A bill with which a resident tops up their own balance, for a room of theirs; paid like any other, it is voided
    when it is not. Refuses NotFound for a room that is not theirs, TopUpNotOffered."""
    wanted = parse_id(room_id)
    mine = next((one for one in actor.occupancies if one.room_id == wanted), None)
    if mine is None:
        raise NotFound()
    occupancy = await Occupancy.get(id=mine.occupancy_id)
    community = await Community.get(id=mine.community_id)
    item = await FeeItem.get_or_none(id=community.prepaid_fee_item_id, active=True)
    if item is None:
        raise TopUpNotOffered()
    bill = await _issue_top_up(actor, community, occupancy.customer_id, item, amount_fen)
    return await get_bill(actor, bill.id)


async def top_up_for(
    actor: Actor, community_id: UUID, customer_id: str, fee_item_id: str | None, amount_fen: int
) -> BillView:
    """A bill with which a customer's balance is topped up, made by staff. The fee item says whose money it is; without
    one it is the community's. Refuses NotFound, NotPermitted, TopUpNotOffered (neither names one)."""
    community = await get_visible(Community.visible_to(actor), community_id)
    require(actor, Act.PREPAID_TOP_UP, community_id=community.id)
    customer = await get_visible(Customer.visible_to(actor), customer_id)
    items = FeeItem.filter(community_id=community.id, active=True)
    if fee_item_id is not None:
        item: FeeItem | None = await get_visible(items, fee_item_id)
    else:
        item = await items.get_or_none(id=community.prepaid_fee_item_id)
    if item is None:
        raise TopUpNotOffered()
    bill = await _issue_top_up(actor, community, customer.id, item, amount_fen)
    return await get_bill(actor, bill.id)


async def list_accounts(
    actor: Actor, community_id: str | None, customer_id: str | None, cursor: str | None, limit: int
) -> Page[PrepaidView]:
    """Balances, the newest account first: the resident's own, or those of the staff member's communities."""
    if actor.is_staff:
        require_somewhere(actor, Act.PREPAID_READ)
    query = Account.prepaid_of(actor)
    if community_id is not None:
        query = query.filter(community_id=wanted_id(community_id))
    if customer_id is not None:
        query = query.filter(holder_id=wanted_id(customer_id))
    if cursor:
        (last,) = decode_cursor(cursor, (UUID,))
        query = query.filter(id__lt=last)
    ids = await query.order_by("-id").limit(limit + 1).values_list("id", flat=True)
    return page_of(await shown_balances([UUID(str(one)) for one in ids]), limit, lambda found: (found.id,))


async def get_account(actor: Actor, account_id: UUID) -> PrepaidView:
    """One balance that the actor may see; NotFound otherwise."""
    account = await _visible(actor, account_id, Act.PREPAID_READ)
    return (await shown_balances([account.id]))[0]


async def read_statement(actor: Actor, account_id: UUID, cursor: str | None, limit: int) -> Page[StatementLine]:
    """The movements of a balance, newest first; in less out adds up to the balance. NotFound as ``get_account``."""
    account = await _visible(actor, account_id, Act.PREPAID_READ)
    before = decode_cursor(cursor, (whole_number,))[0] if cursor else 2**62
    found = await rows(_STATEMENT, account.id, before, limit + 1)
    lines = [StatementLine(**one | {"kind": EntryKind(one["kind"])}) for one in found]
    return page_of(lines, limit, lambda line: (line.id,))


async def pay(actor: Actor, account_id: UUID, bill_ids: Sequence[str]) -> PaymentView:
    """Pay from a balance: the chosen bills, or without any all that is owed, the oldest first, as far as it reaches.

    Residents pay from their own, staff for the customer. Refuses NotFound, NotPermitted, and as the money island does:
    NotEnoughHeld, NothingOwed, BillNotForPrepaid, BillAlreadyPaid, BillVoided, PaymentInProgress.
    """
    account = await _visible(actor, account_id, Act.PREPAID_PAY)
    ids = [parse_id(bill_id) for bill_id in bill_ids]
    if None in ids:
        raise NotFound()
    payment = await _pay(actor, account, [one for one in ids if one])
    return await get_payment(actor, payment.id)


@unit_of_work
async def _pay(actor: Actor, account: Account, bill_ids: Sequence[UUID]) -> Payment:
    if bill_ids:
        return await payments.pay_chosen_from_prepaid_tx(actor, account, bill_ids)
    return await payments.pay_owed_from_prepaid_tx(actor, account)


async def agree(actor: Actor, account_id: UUID, fee_item_ids: Sequence[str], pays_monthly: bool) -> PrepaidView:
    """Write down what a balance may pay: the fee items alone, or with none every charge; and whether monthly runs take
    from it. Refuses NotFound (also for a fee item of another community), NotPermitted."""
    account = await _visible(actor, account_id, Act.PREPAID_MANAGE)
    ids = [parse_id(one) for one in fee_item_ids]
    found = await FeeItem.filter(id__in=[one for one in ids if one], community_id=account.community_id).count()
    if None in ids or found != len(set(ids)):
        raise NotFound()
    await _agree(actor, account, sorted(str(one) for one in ids), pays_monthly)
    return (await shown_balances([account.id]))[0]


@unit_of_work
async def _agree(actor: Actor, account: Account, fee_item_ids: Sequence[str], pays_monthly: bool) -> None:
    locked = await Account.select_for_update().get(id=account.id)  # two at once: the second finds the first's row
    agreement = await PrepaidAgreement.get_or_none(account_id=locked.id)
    before = {"fee_item_ids": agreement.fee_item_ids, "pays_monthly": agreement.pays_monthly} if agreement else None
    after = {"fee_item_ids": list(fee_item_ids), "pays_monthly": pays_monthly}
    if agreement is None:
        agreement = PrepaidAgreement(
            organization_id=account.organization_id, community_id=account.community_id, account_id=account.id
        )
    agreement.update_from_dict(after)
    await agreement.save()
    await audit.record_tx(
        actor, "prepaid.agree", "account", account.id, organization_id=account.organization_id,
        community_id=account.community_id, before=before, after=after,
    )  # fmt: skip


async def void_unpaid_top_ups(limit: int = 100) -> int:
    """Void top-ups that nobody paid in their time; how many were looked at. One that somebody is paying is left for
    another quarter of an hour."""
    due = await PrepaidTopUp.filter(next_check_at__lte=clock.now()).order_by("next_check_at").limit(limit)
    for top_up in due:
        await _void_unpaid(top_up)
    return len(due)


@unit_of_work
async def _void_unpaid(top_up: PrepaidTopUp) -> None:
    bill = await Bill.select_for_update().get(id=top_up.bill_id)
    again = None
    if bill.state is BillState.OPEN:
        if await PaymentBill.exists(bill_id=bill.id, live=True):
            again = clock.now() + timedelta(minutes=15)
        else:
            await payments.void_bill_tx(system_actor("void_unpaid_top_ups"), bill, VOIDED_AS)
    await PrepaidTopUp.filter(id=top_up.id).update(next_check_at=again)


async def _visible(actor: Actor, account_id: UUID, act: Act) -> Account:
    account = await get_visible(Account.prepaid_of(actor), account_id)
    if actor.is_staff:
        require(actor, act, community_id=account.community_id)
    return account


async def shown_balances(ids: Sequence[UUID]) -> list[PrepaidView]:
    """The balances of these accounts, the newest account first; the caller knows who may see them."""
    found = await rows(_SHOWN, list(ids))
    return [PrepaidView(**one | {"fee_item_ids": json.loads(one["fee_item_ids"])}) for one in found]
