"""The entries of a refund: approved, refunded, or the approval reversed. Unique per refund, by (kind, source, leg)."""

from datetime import datetime
from uuid import UUID

from kit import clock
from kit.money import format_yuan
from models.ledger import AccountKind, Entry, EntryKind
from models.refund import Refund, RefundKind, RefundMethod
from payments.errors import NotEnoughHeld
from payments.held import held_tx
from payments.ledger import HELD_FOR_CUSTOMER, account_tx

_GIVEN_BACK_FROM = {
    RefundKind.SURPLUS: AccountKind.SURPLUS,
    RefundKind.BILL: AccountKind.RECEIVED,
    RefundKind.PREPAID: AccountKind.PREPAID,
    RefundKind.DEPOSIT: AccountKind.DEPOSIT,
}
"""Which account a refund of each kind gives back."""

_PAID_OUT_OF = {
    RefundMethod.WECHAT_ORIGINAL: AccountKind.WECHAT_CLEARING,
    RefundMethod.BANK: AccountKind.BANK,
    RefundMethod.CASH: AccountKind.CASH_ON_HAND,
}
"""Where the money leaves from, by the method."""


async def post_refund_tx(
    refund: Refund,
    kind: EntryKind,
    occurred_at: datetime,
    *,
    drawer_id: UUID | None = None,
    from_suspense: bool = False,
) -> None:
    """Post one entry of the refund.

    Approved: 借 the account that is given back 贷 refund_pending. Refunded: 借 refund_pending 贷 wechat_clearing, bank
    or cash_on_hand (of the shift ``drawer_id``; None is the safe), or suspense, through which it left WeChat's account
    when the reconciliation found it first. Cancelled: the approval the other way round.
    """
    source = await _given_back_from_tx(refund)
    pending = await _account_tx(refund, AccountKind.REFUND_PENDING, refund.merchant_account_id)
    leaves = AccountKind.SUSPENSE if from_suspense else _PAID_OUT_OF[refund.method]
    at_wechat = leaves in (AccountKind.WECHAT_CLEARING, AccountKind.SUSPENSE)
    holder = refund.merchant_account_id if at_wechat else drawer_id
    debit, credit = {
        EntryKind.REFUND_APPROVED: (source, pending),
        EntryKind.REFUNDED: (pending, await _account_tx(refund, leaves, holder)),
        EntryKind.REFUND_CANCELLED: (pending, source),
    }[kind]
    now = clock.now()
    await Entry.create(
        community_id=refund.community_id,
        legal_entity_id=refund.legal_entity_id,
        kind=kind,
        source_id=refund.id,
        leg=0,
        debit_account_id=debit,
        credit_account_id=credit,
        amount_fen=refund.amount_fen,
        occurred_at=occurred_at,
        posted_at=now,
        posted_on=clock.business_date(now),
    )


async def refuse_more_than_held_tx(refund: Refund) -> None:
    """Refuse with NotEnoughHeld when the debtor's prepaid or deposit account holds less than the refund: it has paid
    other bills since. The account stays locked, so that nothing else is taken from it meanwhile."""
    if refund.kind in (RefundKind.PREPAID, RefundKind.DEPOSIT):
        kind = _GIVEN_BACK_FROM[refund.kind]
        held_fen = await held_tx(kind, refund.legal_entity_id, refund.community_id, refund.customer_id)
        if held_fen < refund.amount_fen:
            raise NotEnoughHeld(yuan=format_yuan(held_fen), held_fen=held_fen)


async def _given_back_from_tx(refund: Refund) -> UUID:
    kind = _GIVEN_BACK_FROM[refund.kind]
    return await _account_tx(refund, kind, refund.customer_id if kind in HELD_FOR_CUSTOMER else None)


async def _account_tx(refund: Refund, kind: AccountKind, holder_id: UUID | None) -> UUID:
    return await account_tx(refund.organization_id, refund.legal_entity_id, refund.community_id, kind, holder_id)
