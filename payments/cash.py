"""Cash: from the safe into a drawer, counted, handed on, to the bank and back.

A drawer is the account ``cash_on_hand`` held by its shift, the safe the one without a holder; both per legal entity and
community. Whoever takes cash out of one locks it first, and the database refuses (``cash_is_there``) what is not there.
Each entry has a source of its own, so that a drawer is filled, counted and handed over once, and a slip posted once.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kit import clock
from models.access import Actor
from models.bank_slip import BankSlip, BankSlipKind
from models.ledger import AccountKind, Entry, EntryKind
from models.refund import Refund
from models.shift import Shift, ShiftDrawer, ShiftState
from models.unit_of_work import row, rows
from payments.errors import CashNotThere
from payments.ledger import account_tx

# Not the strongest lock: the foreign keys of entries that others write into the account must get through.
_LOCK = "SELECT id FROM accounts WHERE id = $1 FOR NO KEY UPDATE"
# Shared among those who take money, and in the way of the count: it waits for them, and they look again after it.
_HOLD_OPEN = "SELECT id FROM shifts WHERE community_id = $1 AND staff_id = $2 AND state = $3 FOR SHARE"
_LEFT = """
SELECT COALESCE((SELECT sum(amount_fen) FROM entries WHERE debit_account_id = $1), 0)::bigint
     - COALESCE((SELECT sum(amount_fen) FROM entries WHERE credit_account_id = $1), 0)::bigint AS left_fen
"""


@dataclass(frozen=True)
class _Purse:
    """Whose cash it is, and where its accounts are."""

    organization_id: UUID
    community_id: UUID
    legal_entity_id: UUID

    async def account_tx(self, kind: AccountKind, holder_id: UUID | None = None) -> UUID:
        return await account_tx(self.organization_id, self.legal_entity_id, self.community_id, kind, holder_id)

    async def cash_tx(self, shift_id: UUID | None) -> UUID:
        """The drawer of the shift, or the safe."""
        return await self.account_tx(AccountKind.CASH_ON_HAND, shift_id)


def _purse(owner: ShiftDrawer | BankSlip | Refund) -> _Purse:
    return _Purse(owner.organization_id, owner.community_id, owner.legal_entity_id)


async def drawer_tx(shift: Shift, legal_entity_id: UUID, float_fen: int = 0) -> ShiftDrawer:
    """The drawer of the shift for a legal entity's cash; made, and filled from the safe with ``float_fen``, when it is
    not there yet. Refuses CashNotThere when the safe holds less. The caller holds the shift's row."""
    existing = await ShiftDrawer.get_or_none(shift_id=shift.id, legal_entity_id=legal_entity_id)
    if existing is not None:
        return existing
    drawer = await ShiftDrawer.create(
        organization_id=shift.organization_id,
        community_id=shift.community_id,
        shift_id=shift.id,
        legal_entity_id=legal_entity_id,
        float_fen=float_fen,
    )
    if float_fen:
        purse = _purse(drawer)
        safe = await purse.cash_tx(None)
        await _require_tx(safe, float_fen)
        await _post_tx(EntryKind.SHIFT_FLOAT, drawer.id, purse, await purse.cash_tx(shift.id), safe, float_fen)
    return drawer


async def count_drawer_tx(drawer: ShiftDrawer, counted_fen: int) -> None:
    """Note what the clerk found beside what the journal expects, and post the variance: afterwards the drawer's account
    says what was counted. The caller holds the shift's row, so that no more cash comes in meanwhile."""
    purse = _purse(drawer)
    cash = await purse.cash_tx(drawer.shift_id)
    drawer.expected_fen = await _left_tx(cash)
    drawer.counted_fen = counted_fen
    await drawer.save(update_fields=["expected_fen", "counted_fen"])
    variance_fen = counted_fen - drawer.expected_fen
    if variance_fen:
        odd = await purse.account_tx(AccountKind.CASH_VARIANCE)
        debit, credit = (cash, odd) if variance_fen > 0 else (odd, cash)
        await _post_tx(EntryKind.CASH_VARIANCE, drawer.id, purse, debit, credit, abs(variance_fen))


async def hand_over_drawer_tx(drawer: ShiftDrawer, to_shift: Shift | None) -> int:
    """Move a counted drawer's cash to the same legal entity's drawer of another shift, or into the safe; how much it
    was. Afterwards the drawer is empty. The caller holds the rows of both shifts."""
    purse = _purse(drawer)
    cash = await purse.cash_tx(drawer.shift_id)
    left_fen = await _left_tx(cash)
    if left_fen:
        if to_shift is not None:
            await drawer_tx(to_shift, drawer.legal_entity_id)
        into = await purse.cash_tx(to_shift.id if to_shift else None)
        await _post_tx(EntryKind.SHIFT_HANDOVER, drawer.id, purse, into, cash, left_fen)
    return left_fen


async def hold_open_shift_tx(staff_id: UUID | None, community_id: UUID) -> Shift | None:
    """The open shift of a clerk in a community, held so that it is not counted before this transaction ends; others may
    take money in it meanwhile. None: there is none."""
    held = await row(_HOLD_OPEN, community_id, staff_id, ShiftState.OPEN.value)
    return await Shift.get(id=held["id"]) if held else None


async def take_out_tx(actor: Actor, refund: Refund) -> UUID | None:
    """Whose cash a refund is handed over from: the shift's that the actor has open there, else None, the safe. Refuses
    CashNotThere when that holds less. The caller posts the refund."""
    shift = await hold_open_shift_tx(actor.id, refund.community_id)
    if shift is not None:
        await drawer_tx(shift, refund.legal_entity_id)
    await _require_tx(await _purse(refund).cash_tx(shift.id if shift else None), refund.amount_fen)
    return shift.id if shift else None


async def post_bank_slip_tx(slip: BankSlip) -> None:
    """Post what a slip says, at the bank's time. A deposit refuses CashNotThere when the safe holds less."""
    purse = _purse(slip)
    safe, bank = await purse.cash_tx(None), await purse.account_tx(AccountKind.BANK)
    if slip.kind is BankSlipKind.DEPOSIT:
        await _require_tx(safe, slip.amount_fen)
        await _post_tx(EntryKind.CASH_BANKED, slip.id, purse, bank, safe, slip.amount_fen, slip.banked_at)
    else:
        await _post_tx(EntryKind.CASH_DRAWN, slip.id, purse, safe, bank, slip.amount_fen, slip.banked_at)


async def _left_tx(account_id: UUID) -> int:
    """What the account holds, with its row locked against others who take from it."""
    await rows(_LOCK, account_id)
    found = await row(_LEFT, account_id)  # a statement of its own: it must see what the lock waited for
    assert found is not None
    return int(found["left_fen"])


async def _require_tx(account_id: UUID, wanted_fen: int) -> None:
    left_fen = await _left_tx(account_id)
    if left_fen < wanted_fen:
        raise CashNotThere()  # without the figure: a clerk counts without knowing it


async def _post_tx(
    kind: EntryKind,
    source_id: UUID,
    purse: _Purse,
    debit: UUID,
    credit: UUID,
    amount_fen: int,
    occurred_at: datetime | None = None,
) -> None:
    now = clock.now()
    await Entry.create(
        community_id=purse.community_id,
        legal_entity_id=purse.legal_entity_id,
        kind=kind,
        source_id=source_id,
        leg=0,
        debit_account_id=debit,
        credit_account_id=credit,
        amount_fen=amount_fen,
        occurred_at=occurred_at or now,
        posted_at=now,
        posted_on=clock.business_date(now),
    )
