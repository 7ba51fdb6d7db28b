"""Many bills at once: the same bills that ``issue_bill_tx`` makes one by one, in a few statements."""

from collections.abc import Sequence
from uuid import UUID

from kit import clock
from kit.ids import new_id
from models.bill import BillKind
from models.unit_of_work import inside_unit_of_work, rows
from payments.bill import FeeDesk, NewBill

_AT_ONCE = 2_000  # bills a statement: far below the statement's time limit on a slow machine

_BILLS = """
INSERT INTO bills (id, created_at, organization_id, community_id, room_id, customer_id, legal_entity_id,
                   merchant_account_id, kind, subject_kind, subject_id, purpose, title, state, amount_fen, paid_fen,
                   accrued_on, due_on, issued_at, bill_import_id)
SELECT n.id, $1::timestamptz, $2, $3, n.room, n.customer, n.entity, n.account, n.kind, n.subject_kind, n.subject,
       n.purpose, n.title, CASE WHEN n.draft THEN 'draft' ELSE 'open' END, n.amount, 0, n.accrued, n.due,
       CASE WHEN n.draft THEN NULL ELSE $1::timestamptz END, n.import
FROM unnest($4::uuid[], $5::uuid[], $6::uuid[], $7::uuid[], $8::uuid[], $9::text[], $10::text[], $11::uuid[],
            $12::text[], $13::text[], $14::bool[], $15::bigint[], $16::date[], $17::date[], $18::uuid[])
     AS n(id, room, customer, entity, account, kind, subject_kind, subject, purpose, title, draft, amount, accrued,
          due, import)
"""
_LINES = """
INSERT INTO bill_lines (id, created_at, community_id, bill_id, position, fee_item_id, title, period_from, period_to,
                        quantity, unit, unit_price, formula, amount_fen)
SELECT n.id, $1::timestamptz, $2, n.bill, n.position, n.item, n.title, n.first, n.last, n.quantity, n.unit, n.price,
       n.formula, n.amount
FROM unnest($3::uuid[], $4::uuid[], $5::smallint[], $6::uuid[], $7::text[], $8::date[], $9::date[], $10::numeric[],
            $11::text[], $12::numeric[], $13::text[], $14::bigint[])
     AS n(id, bill, position, item, title, first, last, quantity, unit, price, formula, amount)
"""


async def issue_bills_tx(community_id: UUID, bills: Sequence[NewBill]) -> list[UUID]:
    """Issue all ``bills``, which are of one community; their ids, in order.

    Afterwards they are open (or drafts) as if issued one by one. Writes no audit: the caller writes one row for the
    act that made them. Refuses with LinesDoNotAddUp as ``issue_bill_tx`` does. A live bill for the same subject and
    purpose is IntegrityError (``bills_one_live``): the caller has looked, so it is a race, and nothing remains.
    """
    if not inside_unit_of_work():
        raise RuntimeError("bills are issued inside the transaction of the act")
    desk = await FeeDesk.load_tx(community_id)
    made: list[UUID] = []
    for start in range(0, len(bills), _AT_ONCE):
        made += await _insert_tx(desk, bills[start : start + _AT_ONCE])
    return made


async def _insert_tx(desk: FeeDesk, bills: Sequence[NewBill]) -> list[UUID]:
    community = desk.community
    now = clock.now()
    ids = [new_id() for _ in bills]
    owners = [desk.owner_of(bill) for bill in bills]
    await rows(
        _BILLS,
        now,
        community.organization_id,
        community.id,
        ids,
        [bill.room_id for bill in bills],
        [bill.customer_id for bill in bills],
        [entity for entity, _ in owners],
        [account for _, account in owners],
        [BillKind(bill.kind).value for bill in bills],
        [bill.subject_kind for bill in bills],
        [bill.subject_id for bill in bills],
        [bill.purpose for bill in bills],
        [bill.title for bill in bills],
        [bill.draft for bill in bills],
        [bill.amount_fen for bill in bills],
        [bill.accrued_on for bill in bills],
        [bill.due_on for bill in bills],
        [bill.bill_import_id for bill in bills],
    )
    lines = [
        (bill_id, position, line)
        for bill_id, bill in zip(ids, bills, strict=True)
        for position, line in enumerate(bill.lines, start=1)
    ]
    await rows(
        _LINES,
        now,
        community.id,
        [new_id() for _ in lines],
        [bill_id for bill_id, _, _ in lines],
        [position for _, position, _ in lines],
        [line.fee_item_id for _, _, line in lines],
        [line.title for _, _, line in lines],
        [line.period_from for _, _, line in lines],
        [line.period_to for _, _, line in lines],
        [line.quantity for _, _, line in lines],
        [line.unit for _, _, line in lines],
        [line.unit_price for _, _, line in lines],
        [line.formula for _, _, line in lines],
        [line.amount_fen for _, _, line in lines],
    )
    return ids
