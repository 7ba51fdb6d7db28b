"""What is held for a customer: the balance of an account, read under its lock so that two at once never overdraw it.

The database refuses an overdrawn account of this kind too, under the same lock (``linli_held_is_not_overdrawn``).
"""

from uuid import UUID

from models.ledger import AccountKind
from models.payment import Channel
from models.unit_of_work import row

HELD_IN = {Channel.PREPAID: AccountKind.PREPAID, Channel.DEPOSIT: AccountKind.DEPOSIT}
"""Which of the debtor's accounts pays, by the channel."""

# The lock is a statement of its own: one that waits re-reads the locked row, but a sum in it keeps its old snapshot.
_LOCK = """
SELECT id FROM accounts WHERE kind = $1 AND legal_entity_id = $2 AND community_id = $3 AND holder_id = $4
FOR NO KEY UPDATE
"""
_HELD = """
SELECT (COALESCE((SELECT sum(amount_fen) FROM entries WHERE credit_account_id = $1), 0)
      - COALESCE((SELECT sum(amount_fen) FROM entries WHERE debit_account_id = $1), 0))::bigint AS fen
"""


async def held_tx(kind: AccountKind, legal_entity_id: UUID, community_id: UUID, customer_id: UUID) -> int:
    """What the customer's account of ``kind`` holds, in fen; locked, so that it stays until the transaction ends.

    0 for an account that nothing was ever paid into. Bills are locked before accounts.
    """
    account = await row(_LOCK, kind.value, legal_entity_id, community_id, customer_id)
    if account is None:
        return 0
    held = await row(_HELD, account["id"])
    assert held is not None
    return int(held["fen"])
