"""Adjustments: entries that no event explains, posted because two people say so."""

from kit import clock
from models.access import Actor
from models.ledger import AccountKind, EntryKind
from models.reconciliation import ADJUSTMENT_MACHINE, Adjustment, AdjustmentState
from payments.errors import AccountsNotAdjustable, SecondPersonNeeded
from payments.reconcile_post import post_entry_tx

ADJUSTABLE = frozenset({AccountKind.WECHAT_CLEARING, AccountKind.BANK, AccountKind.COMMISSION, AccountKind.SUSPENSE})
"""What bills, receipts and allocations stand for is never adjusted: it is paid, refunded or credited."""


def require_adjustable(debit: str, credit: str) -> None:
    """Refuses with AccountsNotAdjustable unless both may be adjusted and are two."""
    if debit == credit or not {debit, credit} <= ADJUSTABLE:
        raise AccountsNotAdjustable(fields=[{"field": "debit_kind", "code": "account"}])


async def decide_adjustment_tx(actor: Actor, adjustment: Adjustment, *, post: bool) -> None:
    """Sign the locked adjustment, which posts it, or withdraw it. Refuses with SecondPersonNeeded when who asked would
    sign, and MoveNotAllowed when it was decided before."""
    if post and actor.id == adjustment.asked_by_staff_id:
        raise SecondPersonNeeded()
    state = AdjustmentState.POSTED if post else AdjustmentState.WITHDRAWN
    ADJUSTMENT_MACHINE.enter(adjustment, state, decided_by_staff_id=actor.id, decided_at=clock.now())
    await adjustment.save(update_fields=["state", "decided_by_staff_id", "decided_at"])
    if not post:
        return
    debit, credit = AccountKind(adjustment.debit_kind), AccountKind(adjustment.credit_kind)
    await post_entry_tx(
        EntryKind.ADJUSTMENT,
        adjustment.id,
        place=(adjustment.organization_id, adjustment.legal_entity_id, adjustment.community_id),
        debit=(debit, None if debit is AccountKind.BANK else adjustment.merchant_account_id),
        credit=(credit, None if credit is AccountKind.BANK else adjustment.merchant_account_id),
        amount_fen=adjustment.amount_fen,
        occurred_at=adjustment.created_at,
    )
