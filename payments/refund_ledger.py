"""The entries of a refund: approved, refunded, or the approval reversed. Unique per refund, by (kind, source, leg)."""

from datetime import datetime
from uuid import UUID

from kit import clock
from models.ledger import AccountKind, Entry, EntryKind
from models.refund import Refund, RefundKind
from payments.ledger import account_tx

_GIVEN_BACK_FROM = {RefundKind.SURPLUS: AccountKind.SURPLUS}
"""Which account of the debtor a refund of each kind gives back."""


async def post_refund_tx(refund: Refund, kind: EntryKind, occurred_at: datetime) -> None:
    """Post one entry of the refund.

    Approved: 借 the account that is given back 贷 refund_pending. Refunded: 借 refund_pending 贷 wechat_clearing.
    Cancelled: the approval the other way round.
    """
    source = (_GIVEN_BACK_FROM[refund.kind], refund.customer_id)
    pending = (AccountKind.REFUND_PENDING, refund.merchant_account_id)
    clearing = (AccountKind.WECHAT_CLEARING, refund.merchant_account_id)
    debit, credit = {
        EntryKind.REFUND_APPROVED: (source, pending),
        EntryKind.REFUNDED: (pending, clearing),
        EntryKind.REFUND_CANCELLED: (pending, source),
    }[kind]
    now = clock.now()
    await Entry.create(
        community_id=refund.community_id,
        legal_entity_id=refund.legal_entity_id,
        kind=kind,
        source_id=refund.id,
        leg=0,
        debit_account_id=await _account_tx(refund, *debit),
        credit_account_id=await _account_tx(refund, *credit),
        amount_fen=refund.amount_fen,
        occurred_at=occurred_at,
        posted_at=now,
        posted_on=clock.business_date(now),
    )


async def _account_tx(refund: Refund, kind: AccountKind, holder_id: UUID) -> UUID:
    return await account_tx(refund.organization_id, refund.legal_entity_id, refund.community_id, kind, holder_id)
