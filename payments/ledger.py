"""The accounts of the journal, and who is credited for what."""

from uuid import UUID

from kit.ids import new_id
from models.bill import BillKind
from models.ledger import AccountKind
from models.payment import Channel
from models.unit_of_work import row

CREDITED = {
    BillKind.CHARGE: AccountKind.RECEIVED,
    BillKind.PREPAID: AccountKind.PREPAID,
    BillKind.DEPOSIT: AccountKind.DEPOSIT,
}
"""Which account a payment of a bill of each kind credits."""

DEBITED = {
    Channel.WECHAT_JSAPI: (AccountKind.WECHAT_CLEARING, "merchant_account_id"),
    Channel.SURPLUS: (AccountKind.SURPLUS, "customer_id"),
    Channel.CASH: (AccountKind.CASH_ON_HAND, "holder_id"),
    Channel.POS: (AccountKind.POS_CLEARING, "holder_id"),
    Channel.BANK_TRANSFER: (AccountKind.BANK, "holder_id"),
    Channel.PREPAID: (AccountKind.PREPAID, "customer_id"),
    Channel.DEPOSIT: (AccountKind.DEPOSIT, "customer_id"),
}
"""Where the money of a payment comes from, by its channel: the account, and which id of the payment holds it.
``holder_id`` is that of the tender (``payments/at_once.py``)."""

HELD_FOR_CUSTOMER = frozenset({AccountKind.PREPAID, AccountKind.DEPOSIT, AccountKind.SURPLUS})
"""Liabilities: their holder is the debtor. ``received`` has no holder, clearing and suspense a merchant account."""

# One statement finds or makes the account. It must not update the row it finds: all payments of a community share it,
# and an update by each would queue them behind one lock.
_ENSURE = """
WITH found AS (
    SELECT id, xmin IS DISTINCT FROM pg_current_xact_id_if_assigned()::xid AS committed FROM accounts
    WHERE legal_entity_id = $1 AND community_id = $2 AND kind = $3 AND holder_id IS NOT DISTINCT FROM $4
), made AS (
    INSERT INTO accounts (id, created_at, organization_id, community_id, legal_entity_id, kind, holder_id)
    SELECT $5, now(), $6, $2, $1, $3, $4 WHERE NOT EXISTS (SELECT FROM found)
    ON CONFLICT DO NOTHING RETURNING id
)
SELECT id, committed FROM found UNION ALL SELECT id, false FROM made
"""

# Accounts are never deleted, so what was committed once can be known by heart. One that this very transaction made may
# still be rolled back, and is not.
_KNOWN_AT_MOST = 10_000
_known: dict[tuple[UUID, UUID, AccountKind, UUID | None], UUID] = {}


async def account_tx(
    organization_id: UUID, legal_entity_id: UUID, community_id: UUID, kind: AccountKind, holder_id: UUID | None
) -> UUID:
    """The id of the account, made when it does not exist yet."""
    key = (legal_entity_id, community_id, kind, holder_id)
    if key in _known:
        return _known[key]
    for _ in range(2):
        found = await row(_ENSURE, legal_entity_id, community_id, kind.value, holder_id, new_id(), organization_id)
        if found:
            account_id = UUID(str(found["id"]))
            if found["committed"]:
                if len(_known) >= _KNOWN_AT_MOST:
                    _known.clear()
                _known[key] = account_id
            return account_id
        # Somebody else made it between our look and our insert; the second look sees it.
    raise AssertionError("an account that conflicts must exist")
