"""What finance sees."""

from datetime import date, datetime

from handlers.route import Call, Fen, Id, Out, PageOut, PageQuery, Query, Who, route
from kit import clock
from kit.errors import NotPermitted
from models.ledger import AccountKind, EntryKind
from services import finance as service


class BalanceOut(Out):
    legal_entity_id: Id
    legal_entity: str
    account: AccountKind
    debit_fen: Fen
    credit_fen: Fen


class SummaryOut(Out):
    """Adds up on the page: the balances' debits are ``debit_fen``, their credits ``credit_fen``, and both are equal;
    ``billed_fen`` is ``paid_fen`` and ``owed_fen`` together."""

    balances: list[BalanceOut]
    debit_fen: Fen
    credit_fen: Fen
    open_bills: int
    billed_fen: Fen
    paid_fen: Fen
    owed_fen: Fen
    overdue_fen: Fen


class PeriodQuery(Query):
    from_on: date | None = None
    to_on: date | None = None


class EntryQuery(PageQuery):
    from_on: date | None = None
    to_on: date | None = None
    payment_id: str | None = None


class EntryOut(Out):
    """借 ``debit`` 贷 ``credit``. ``payment_id`` is whose money moved, ``refund_id`` is set where it goes back."""

    number: int
    kind: EntryKind
    debit: AccountKind
    credit: AccountKind
    amount_fen: Fen
    legal_entity: str
    occurred_at: datetime
    posted_at: datetime
    posted_on: date
    payment_id: Id | None
    refund_id: Id | None
    out_trade_no: str | None
    transaction_id: str | None


@route("GET", "/api/v1/staff/communities/{community_id}/summary", who=Who.STAFF, tag="财务 finance",
       summary="小区收支汇总", query=PeriodQuery, response=SummaryOut, refusals=(NotPermitted,))  # fmt: skip
async def summary(call: Call) -> SummaryOut:
    """Balances of the journal between two posting dates, and what is owed today."""
    found = await service.summarise(
        call.actor, call.id("community_id"), call.query.from_on, call.query.to_on, clock.today()
    )
    return SummaryOut(
        balances=[
            BalanceOut(
                legal_entity_id=str(one.legal_entity_id),
                legal_entity=one.legal_entity,
                account=one.kind,
                debit_fen=one.debit_fen,
                credit_fen=one.credit_fen,
            )
            for one in found.balances
        ],
        debit_fen=found.debit_fen,
        credit_fen=found.credit_fen,
        open_bills=found.open_bills,
        billed_fen=found.billed_fen,
        paid_fen=found.paid_fen,
        owed_fen=found.owed_fen,
        overdue_fen=found.overdue_fen,
    )


@route("GET", "/api/v1/staff/communities/{community_id}/entries", who=Who.STAFF, tag="财务 finance",
       summary="分录", query=EntryQuery, response=PageOut[EntryOut], refusals=(NotPermitted,))  # fmt: skip
async def list_entries(call: Call) -> PageOut[EntryOut]:
    """The journal, newest first."""
    query = call.query
    page = await service.list_entries(
        call.actor,
        call.id("community_id"),
        from_on=query.from_on,
        to_on=query.to_on,
        payment_id=query.payment_id,
        cursor=query.cursor,
        limit=query.limit,
    )
    items = [
        EntryOut(
            number=entry["id"],
            kind=entry["kind"],
            debit=entry["debit_kind"],
            credit=entry["credit_kind"],
            amount_fen=entry["amount_fen"],
            legal_entity=entry["legal_entity"],
            occurred_at=entry["occurred_at"],
            posted_at=entry["posted_at"],
            posted_on=entry["posted_on"],
            payment_id=str(entry["payment_id"]) if entry["payment_id"] else None,
            refund_id=str(entry["refund_id"]) if entry["refund_id"] else None,
            out_trade_no=entry["out_trade_no"],
            transaction_id=entry["transaction_id"],
        )
        for entry in page.items
    ]
    return PageOut[EntryOut](items=items, next_cursor=page.next_cursor)
