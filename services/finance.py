"""What finance sees: the journal, and balances that add up."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from kit.errors import NotFound
from kit.paging import Page, decode_cursor, page_of
from models.access import Act, Actor, require
from models.base import get_visible
from models.community import Community
from models.ledger import AccountKind
from models.payment import Payment
from models.unit_of_work import rows
from services.finance_sql import COUNTS, OWED
from services.listing import wanted_id, whole_number

_JOURNAL = """
SELECT e.id, e.kind, e.source_id, e.leg, e.amount_fen, e.occurred_at, e.posted_at, e.posted_on,
       d.kind AS debit_kind, c.kind AS credit_kind, c.holder_id AS credit_holder_id, l.name AS legal_entity,
       COALESCE(a.payment_id, r.payment_id) AS payment_id, r.id AS refund_id, a.out_trade_no, a.transaction_id
FROM entries e
JOIN accounts d ON d.id = e.debit_account_id
JOIN accounts c ON c.id = e.credit_account_id
JOIN legal_entities l ON l.id = e.legal_entity_id
LEFT JOIN payment_attempts a ON a.id = e.source_id
LEFT JOIN refunds r ON r.id = e.source_id
WHERE e.community_id = $1 AND e.id < $2 AND ($3::date IS NULL OR e.posted_on >= $3)
  AND ($4::date IS NULL OR e.posted_on <= $4) AND ($5::uuid IS NULL OR COALESCE(a.payment_id, r.payment_id) = $5)
ORDER BY e.id DESC LIMIT $6
"""
# Debit and credit in one pass over the entries of the community; an account without movement does not show.
_BALANCES = """
SELECT a.legal_entity_id, l.name AS legal_entity, a.kind,
       COALESCE(sum(m.debit), 0)::bigint AS debit_fen, COALESCE(sum(m.credit), 0)::bigint AS credit_fen
FROM (
    SELECT debit_account_id AS account_id, sum(amount_fen) AS debit, 0 AS credit FROM entries
    WHERE community_id = $1 AND ($2::date IS NULL OR posted_on >= $2) AND ($3::date IS NULL OR posted_on <= $3)
    GROUP BY 1
    UNION ALL
    SELECT credit_account_id, 0, sum(amount_fen) FROM entries
    WHERE community_id = $1 AND ($2::date IS NULL OR posted_on >= $2) AND ($3::date IS NULL OR posted_on <= $3)
    GROUP BY 1
) m JOIN accounts a ON a.id = m.account_id JOIN legal_entities l ON l.id = a.legal_entity_id
GROUP BY 1, 2, 3 ORDER BY 2, 3
"""
_OWED_NOW = f"""
SELECT count(*) FILTER (WHERE b.state IN ('open', 'part_paid')) AS open_bills,
       COALESCE(sum(b.amount_fen - b.credited_fen) FILTER (WHERE {COUNTS}), 0)::bigint AS billed_fen,
       COALESCE(sum(b.paid_fen), 0)::bigint AS paid_fen,
       COALESCE(sum({OWED}) FILTER (WHERE {COUNTS}), 0)::bigint AS owed_fen,
       COALESCE(sum({OWED}) FILTER (WHERE {COUNTS} AND b.due_on < $2), 0)::bigint AS overdue_fen
FROM bills b WHERE b.community_id = $1
"""  # noqa: S608 - our own text


@dataclass(frozen=True)
class Balance:
    """Movement of one kind of account of one legal entity, in fen."""

    legal_entity_id: UUID
    legal_entity: str
    kind: AccountKind
    debit_fen: int
    credit_fen: int


@dataclass(frozen=True)
class Summary:
    """A community's money. Debits equal credits; billed = paid + owed."""

    balances: Sequence[Balance]
    debit_fen: int
    credit_fen: int
    open_bills: int
    billed_fen: int
    paid_fen: int
    owed_fen: int
    overdue_fen: int


async def summarise(actor: Actor, community_id: UUID, from_on: date | None, to_on: date | None, today: date) -> Summary:
    """Balances of the journal between two posting dates (inclusive, open-ended when None) and what is owed today.

    Refuses NotFound for a community that is not the actor's, NotPermitted without the right to read its journal.
    """
    community = await get_visible(Community.visible_to(actor), community_id)
    require(actor, Act.JOURNAL_READ, community_id=community.id)
    balances = [
        Balance(one["legal_entity_id"], one["legal_entity"], AccountKind(one["kind"]), one["debit_fen"],
                one["credit_fen"])
        for one in await rows(_BALANCES, community.id, from_on, to_on)
    ]  # fmt: skip
    (owed,) = await rows(_OWED_NOW, community.id, today)
    return Summary(
        balances,
        sum(balance.debit_fen for balance in balances),
        sum(balance.credit_fen for balance in balances),
        **owed,
    )


async def list_entries(
    actor: Actor,
    community_id: UUID,
    *,
    from_on: date | None,
    to_on: date | None,
    payment_id: str | None,
    cursor: str | None,
    limit: int,
) -> Page[dict[str, object]]:
    """The journal of a community, newest first; of one payment when asked. Refuses as ``summarise`` does."""
    community = await get_visible(Community.visible_to(actor), community_id)
    require(actor, Act.JOURNAL_READ, community_id=community.id)
    wanted = wanted_id(payment_id) if payment_id is not None else None
    if wanted and not await Payment.exists(id=wanted, community_id=community.id):
        raise NotFound()
    before = decode_cursor(cursor, (whole_number,))[0] if cursor else 2**62
    found = await rows(_JOURNAL, community.id, before, from_on, to_on, wanted, limit + 1)
    return page_of(found, limit, lambda entry: (entry["id"],))
