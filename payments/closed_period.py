"""月结 inside the island: the lock that keeps posters and the closer apart, and the totals that are frozen.

Every entry's trigger holds its month's lock in share until its transaction ends; closing takes the same lock alone. So
an entry either is committed before the totals are counted, or its trigger finds the month closed and refuses.
"""

from datetime import date
from uuid import UUID

from kit import clock
from models import audit
from models.access import Actor
from models.closed_period import ClosedBalance, ClosedPeriod
from models.ledger import AccountKind
from models.organization import LegalEntity
from models.unit_of_work import row, rows
from payments.errors import MonthClosed, MonthNotOver

_LOCK = "SELECT pg_advisory_xact_lock(linli_month_lock($1, $2))"
_COUNT = """
SELECT count(*)::int AS entry_count, COALESCE(sum(amount_fen), 0)::bigint AS amount_fen FROM entries
WHERE legal_entity_id = $1 AND community_id IN (SELECT community_id FROM accounts WHERE legal_entity_id = $1)
    AND posted_on >= $2 AND posted_on < $2 + interval '1 month'
"""
_MOVED = """
SELECT a.community_id, a.kind, sum(m.debit_fen)::bigint AS debit_fen, sum(m.credit_fen)::bigint AS credit_fen
FROM (
    SELECT debit_account_id AS account_id, amount_fen AS debit_fen, 0 AS credit_fen FROM entries
    WHERE legal_entity_id = $1 AND community_id IN (SELECT community_id FROM accounts WHERE legal_entity_id = $1)
        AND posted_on >= $2 AND posted_on < $2 + interval '1 month'
    UNION ALL
    SELECT credit_account_id, 0, amount_fen FROM entries
    WHERE legal_entity_id = $1 AND community_id IN (SELECT community_id FROM accounts WHERE legal_entity_id = $1)
        AND posted_on >= $2 AND posted_on < $2 + interval '1 month'
) m JOIN accounts a ON a.id = m.account_id
GROUP BY 1, 2 ORDER BY 1, 2
"""


async def lock_month_tx(legal_entity_id: UUID, month: date) -> None:
    """Afterwards nobody posts in the month of the legal entity until this transaction ends, and all who did have
    committed or are gone. Waits as long as the database lets anybody wait for a lock, then DatabaseBusy."""
    await rows(_LOCK, legal_entity_id, month)


async def close_month_tx(actor: Actor, entity: LegalEntity, month: date) -> ClosedPeriod:
    """Close a month that ``lock_month_tx`` holds: its totals are frozen, and no entry is posted in it any more.

    ``month`` is its first day. Refuses MonthNotOver, by Beijing's calendar, and MonthClosed. Whether something stands
    in the way is the caller's to know.
    """
    assert actor.id is not None, "a person closes a month"
    if (clock.today().year, clock.today().month) <= (month.year, month.month):
        raise MonthNotOver()
    if await ClosedPeriod.exists(legal_entity_id=entity.id, month=month):
        raise MonthClosed()
    counted = await row(_COUNT, entity.id, month)
    assert counted is not None
    period = await ClosedPeriod.create(
        organization_id=entity.organization_id,
        legal_entity_id=entity.id,
        month=month,
        closed_by_staff_id=actor.id,
        **counted,
    )
    await ClosedBalance.bulk_create(
        ClosedBalance(
            organization_id=entity.organization_id,
            community_id=one["community_id"],
            closed_period_id=period.id,
            kind=AccountKind(one["kind"]),
            debit_fen=one["debit_fen"],
            credit_fen=one["credit_fen"],
        )
        for one in await rows(_MOVED, entity.id, month)
    )
    await audit.record_tx(
        actor,
        "finance.close",
        "closed_period",
        period.id,
        organization_id=entity.organization_id,
        after={"legal_entity_id": str(entity.id), "month": f"{month:%Y-%m}", **counted},
    )
    return period
