"""What reconciliation posts: commission, money between WeChat and the bank, and money that only WeChat knew."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from kit import clock
from models.ledger import AccountKind, EntryKind
from models.merchant_account import MerchantAccount
from models.reconciliation import Reconciliation
from models.unit_of_work import row, rows
from payments.ledger import account_tx

_POSTED = """
SELECT COALESCE(sum(CASE e.kind WHEN 'commission' THEN e.amount_fen ELSE 0 END), 0)::bigint AS fee_fen,
    COALESCE(sum(CASE e.kind WHEN 'commission_refund' THEN e.amount_fen ELSE 0 END), 0)::bigint AS back_fen
FROM entries e WHERE e.source_id = $1 AND e.community_id = $2 AND e.legal_entity_id = $3
  AND e.kind IN ('commission', 'commission_refund')
"""
_POST = """
INSERT INTO entries (community_id, legal_entity_id, kind, source_id, leg, debit_account_id, credit_account_id,
    amount_fen, occurred_at, posted_at, posted_on)
SELECT $1, $2, $3::varchar, $4::uuid,
    (SELECT COALESCE(max(leg) + 1, 0) FROM entries WHERE kind = $3::varchar AND source_id = $4::uuid),
    $5, $6, $7, $8, $9, $10
"""
# What had come to WeChat by then and not gone to the bank yet. A refund is given from the balance as it was then.
_BALANCES = """
SELECT a.id, a.community_id, a.legal_entity_id,
    COALESCE(sum(CASE WHEN a.id = e.debit_account_id THEN e.amount_fen ELSE -e.amount_fen END) FILTER (
        WHERE e.occurred_at < $2 AND NOT (e.kind IN ('refunded', 'foreign_refund') AND e.occurred_at > $3)),
        0)::bigint AS fen
FROM accounts a LEFT JOIN entries e ON a.id IN (e.debit_account_id, e.credit_account_id)
WHERE a.kind = 'wechat_clearing' AND a.holder_id = $1
GROUP BY a.id ORDER BY fen DESC, a.id
"""
_UNPOSTED = """
SELECT id, amount_fen, posted_fen, occurred_at FROM movements
WHERE merchant_account_id = $1 AND posted_fen <> amount_fen AND occurred_at < $2
ORDER BY occurred_at, amount_fen, id FOR UPDATE
"""


async def post_entry_tx(
    kind: EntryKind,
    source_id: UUID,
    *,
    place: tuple[UUID, UUID, UUID],
    debit: tuple[AccountKind, UUID | None],
    credit: tuple[AccountKind, UUID | None],
    amount_fen: int,
    occurred_at: datetime,
) -> None:
    """Post one more leg of the event; the caller holds what keeps another from doing so. ``place`` is organization,
    legal entity, community; an account is its kind and holder."""
    organization_id, legal_entity_id, community_id = place
    now = clock.now()
    await rows(
        _POST,
        community_id,
        legal_entity_id,
        kind.value,
        source_id,
        await account_tx(organization_id, legal_entity_id, community_id, *debit),
        await account_tx(organization_id, legal_entity_id, community_id, *credit),
        amount_fen,
        occurred_at,
        now,
        clock.business_date(now),
    )


async def post_commission_tx(account: MerchantAccount, day: Reconciliation) -> None:
    """Bring what is posted of a day's commission up to its sums: 借 commission 贷 wechat_clearing for what WeChat kept,
    the other way round for what came back with refunds. A corrected bill posts what it differs by."""
    occurred_at = _end_of(day.bill_on) - timedelta(seconds=1)
    sums = await rows("SELECT * FROM statement_sums WHERE reconciliation_id = $1", day.id)
    posted = await rows(
        "SELECT DISTINCT community_id, legal_entity_id FROM entries WHERE source_id = $1"
        " AND kind IN ('commission', 'commission_refund')",
        day.id,
    )
    wanted = {(one["legal_entity_id"], one["community_id"]): (0, 0) for one in posted}
    wanted |= {(one["legal_entity_id"], one["community_id"]): (one["fee_fen"], one["fee_back_fen"]) for one in sums}
    for (legal_entity_id, community_id), (fee_fen, back_fen) in sorted(wanted.items(), key=str):
        found = await row(_POSTED, day.id, community_id, legal_entity_id)
        assert found is not None
        more_fen, more_back_fen = fee_fen - found["fee_fen"], back_fen - found["back_fen"]
        # What was posted too much of the one goes back as the other: entries are never taken away.
        place = (account.organization_id, legal_entity_id, community_id)
        keeps = max(more_fen, 0) + max(-more_back_fen, 0)
        returns = max(more_back_fen, 0) + max(-more_fen, 0)
        if keeps == returns and (more_fen < 0 or more_back_fen < 0):
            continue  # it comes to the same as what is posted
        await commission_tx(place, account.id, day.id, keeps, occurred_at)
        await commission_tx(place, account.id, day.id, -returns, occurred_at)


async def commission_tx(
    place: tuple[UUID, UUID, UUID], merchant_account_id: UUID, source_id: UUID, fee_fen: int, occurred_at: datetime
) -> None:
    """Post commission that WeChat kept, or (negative) gave back; nothing for zero."""
    if not fee_fen:
        return
    commission = (AccountKind.COMMISSION, merchant_account_id)
    clearing = (AccountKind.WECHAT_CLEARING, merchant_account_id)
    kept = fee_fen > 0
    await post_entry_tx(
        EntryKind.COMMISSION if kept else EntryKind.COMMISSION_REFUND,
        source_id,
        place=place,
        debit=commission if kept else clearing,
        credit=clearing if kept else commission,
        amount_fen=abs(fee_fen),
        occurred_at=occurred_at,
    )


async def post_movements_tx(account: MerchantAccount, bill_on: date) -> None:
    """Post what moved between WeChat and the bank up to the end of the day: 借 bank 贷 wechat_clearing, or back.

    A sum is taken from the communities whose money lay at WeChat by then, the fullest first. What lies there and is in
    no book is not posted: it stays a difference of the day.
    """
    for movement in await rows(_UNPOSTED, account.id, _end_of(bill_on)):
        left_fen = movement["amount_fen"] - movement["posted_fen"]
        until = _end_of(clock.business_date(movement["occurred_at"]))
        balances = await rows(_BALANCES, account.id, until, movement["occurred_at"])
        posted_fen = 0
        for one, fen in shares(left_fen, balances):
            posted_fen += fen
            bank = (AccountKind.BANK, None)
            clearing = (AccountKind.WECHAT_CLEARING, account.id)
            await post_entry_tx(
                EntryKind.SETTLED_TO_BANK,
                movement["id"],
                place=(account.organization_id, one["legal_entity_id"], one["community_id"]),
                debit=bank if fen > 0 else clearing,
                credit=clearing if fen > 0 else bank,
                amount_fen=abs(fen),
                occurred_at=movement["occurred_at"],
            )
        await rows("UPDATE movements SET posted_fen = posted_fen + $2 WHERE id = $1", movement["id"], posted_fen)


def shares(amount_fen: int, balances: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], int]]:
    """Which account gives or takes how much, the fullest first. Money to the bank is no more than there is; money put
    in fills what is short first, and the rest goes to the emptiest."""
    found, left_fen = [], abs(amount_fen)
    if amount_fen < 0:
        for one in reversed(balances):
            fen = min(left_fen, max(-one["fen"], 0))
            last = one is balances[0]
            if last and left_fen:
                fen = left_fen
            if fen:
                found.append((one, -fen))
                left_fen -= fen
        return found
    for one in balances:
        fen = min(left_fen, max(one["fen"], 0))
        if fen:
            found.append((one, fen))
            left_fen -= fen
    return found


def _end_of(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), datetime.min.time(), clock.BEIJING)
