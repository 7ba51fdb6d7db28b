"""红冲 inside the island: the mirror image of an entry that was wrong, posted in the open month.

Only what was posted by hand is reversed. An entry that a machine of money made — a payment, a surplus, money in
suspense, a refund — is answered by that machine: by a refund or a decision, else bills, payments and the journal would
no longer say the same.
"""

from uuid import UUID

from kit import clock
from models import audit
from models.access import Actor
from models.ledger import Entry, EntryKind
from models.reversal import REVERSAL_MACHINE, Reversal, ReversalState
from payments.errors import EntryNotReversible, SecondPersonNeeded

REVERSIBLE = frozenset({EntryKind.ADJUSTMENT})


async def ask_reversal_tx(actor: Actor, organization_id: UUID, entry: Entry, reason: str) -> Reversal:
    """Ask that the entry be reversed; a second person decides. Refuses EntryNotReversible. That an entry is asked about
    once is kept by a unique index, whose violation is the caller's to name."""
    if entry.kind not in REVERSIBLE:
        raise EntryNotReversible()
    made = await Reversal.create(
        organization_id=organization_id,
        community_id=entry.community_id,
        entry_id=entry.id,
        reason=reason,
        asked_by_staff_id=actor.id,
    )
    await _record_tx(actor, "entry.reverse_ask", made)
    return made


async def decide_reversal_tx(actor: Actor, reversal_id: UUID, *, approve: bool) -> Reversal:
    """Post the mirror image — the accounts exchanged, the same amount, today — or decline.

    Refuses SecondPersonNeeded to who asked, MoveNotAllowed for what was decided before.
    """
    reversal = await Reversal.select_for_update().get(id=reversal_id)
    if reversal.asked_by_staff_id == actor.id:
        raise SecondPersonNeeded()
    now = clock.now()
    state = ReversalState.POSTED if approve else ReversalState.DECLINED
    assigned = REVERSAL_MACHINE.enter(reversal, state, decided_at=now, decided_by_staff_id=actor.id)
    await reversal.save(update_fields=list(assigned))
    if approve:
        entry = await Entry.get(id=reversal.entry_id)
        await Entry.create(
            community_id=entry.community_id,
            legal_entity_id=entry.legal_entity_id,
            kind=EntryKind.REVERSAL,
            source_id=reversal.id,
            leg=0,
            debit_account_id=entry.credit_account_id,
            credit_account_id=entry.debit_account_id,
            amount_fen=entry.amount_fen,
            occurred_at=now,
            posted_at=now,
            posted_on=clock.business_date(now),
        )
    await _record_tx(actor, "entry.reverse" if approve else "entry.reverse_decline", reversal)
    return reversal


async def _record_tx(actor: Actor, act: str, reversal: Reversal) -> None:
    await audit.record_tx(
        actor,
        act,
        "reversal",
        reversal.id,
        organization_id=reversal.organization_id,
        community_id=reversal.community_id,
        after={"entry_id": reversal.entry_id, "reason": reversal.reason, "state": reversal.state.value},
    )
