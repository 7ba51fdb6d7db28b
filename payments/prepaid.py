"""Paying from a prepaid balance: what its owner owes, oldest first, as far as it reaches and as far as was agreed."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from kit import clock
from kit.errors import NotFound
from models.access import Actor
from models.bill import PAYABLE, Bill
from models.ledger import Account, AccountKind
from models.payment import Channel, Payment, PaymentBill
from models.prepaid import PrepaidAgreement
from models.unit_of_work import row, rows
from payments.at_once import Portion, Tender, pay_at_once_tx
from payments.errors import BillAlreadyPaid, BillNotForPrepaid, NotEnoughHeld, NothingOwed, PaymentInProgress
from payments.held import held_tx

AT_MOST = 100  # bills a payment; what is left is paid by the next one

# What the balance may pay: charges of its owner, legal entity and community, of the agreed fee items alone ($4, null:
# of any), that nobody is paying by phone at the moment.
_FITS = """
FROM bills b WHERE b.community_id = $1 AND b.customer_id = $2 AND b.legal_entity_id = $3 AND b.kind = 'charge'
  AND b.state IN ('open', 'part_paid')
  AND ($4::uuid[] IS NULL OR NOT EXISTS (
      SELECT FROM bill_lines l WHERE l.bill_id = b.id AND l.fee_item_id <> ALL($4::uuid[])))
"""
_OWED = f"""
SELECT b.id {_FITS} AND NOT EXISTS (SELECT FROM payment_bills p WHERE p.bill_id = b.id AND p.live)
ORDER BY b.accrued_on, b.due_on, b.id LIMIT {AT_MOST}
"""  # noqa: S608 - our own text
_STILL_OWED = f"SELECT COALESCE(sum(b.amount_fen - b.credited_fen - b.paid_fen), 0)::bigint AS fen {_FITS}"
_CHOSEN_FIT = f"SELECT b.id {_FITS} AND b.id = ANY($5::uuid[])"


@dataclass(frozen=True)
class PaidFromPrepaid:
    """What a balance paid: None when nothing was to pay or nothing was there; and what it may pay and is still owed."""

    payment: Payment | None
    bill_count: int
    still_owed_fen: int


async def pay_chosen_from_prepaid_tx(actor: Actor, account: Account, bill_ids: Sequence[UUID]) -> Payment:
    """Pay the chosen bills from the balance, the oldest first, as far as it reaches; the payment.

    Refuses NotFound, BillNotForPrepaid (a fee item that was not agreed, or no charge), PaymentInProgress while somebody
    is paying one of them by phone, NotEnoughHeld for an empty balance, and as ``pay_at_once_tx`` does.
    """
    bills = await _lock_tx(account, bill_ids)
    if len(bills) != len(set(bill_ids)):
        raise NotFound()
    for bill in bills:
        if bill.state not in PAYABLE:
            raise BillAlreadyPaid(bill_title=bill.title, bill_id=str(bill.id))
    fitting = {UUID(str(one["id"])) for one in await rows(_CHOSEN_FIT, *await _whose_tx(account), list(bill_ids))}
    for bill in bills:
        if bill.id not in fitting:
            raise BillNotForPrepaid(bill_title=bill.title, bill_id=str(bill.id))
    if await PaymentBill.exists(bill_id__in=list(bill_ids), live=True):
        raise PaymentInProgress(retry_after_s=60)
    payment, _ = await _pay_tx(actor, account, bills)
    if payment is None:
        raise NotEnoughHeld(yuan="0.00", held_fen=0)
    return payment


async def pay_all_from_prepaid_tx(actor: Actor, account: Account) -> PaidFromPrepaid:
    """Pay whatever the balance may pay, the oldest first, as far as it reaches.

    Bills that somebody is paying by phone are left to them. Nothing owed, or nothing there, is no refusal.
    """
    whose = await _whose_tx(account)
    bills = await _lock_tx(account, [UUID(str(one["id"])) for one in await rows(_OWED, *whose)])
    live = set(
        await PaymentBill.filter(bill_id__in=[bill.id for bill in bills], live=True).values_list("bill_id", flat=True)
    )
    payment, count = await _pay_tx(
        actor, account, [one for one in bills if one.state in PAYABLE and one.id not in live]
    )
    owed = await row(_STILL_OWED, *whose)
    assert owed is not None
    return PaidFromPrepaid(payment, count, int(owed["fen"]))


async def pay_owed_from_prepaid_tx(actor: Actor, account: Account) -> Payment:
    """``pay_all_from_prepaid_tx`` for somebody who asked for it: refuses NothingOwed, and NotEnoughHeld for an empty
    balance."""
    paid = await pay_all_from_prepaid_tx(actor, account)
    if paid.payment is None:
        raise NotEnoughHeld(yuan="0.00", held_fen=0) if paid.still_owed_fen else NothingOwed()
    return paid.payment


async def _whose_tx(account: Account) -> tuple[UUID, UUID | None, UUID, list[UUID] | None]:
    agreement = await PrepaidAgreement.get_or_none(account_id=account.id)
    items = [UUID(one) for one in agreement.fee_item_ids] if agreement and agreement.fee_item_ids else None
    return account.community_id, account.holder_id, account.legal_entity_id, items


async def _lock_tx(account: Account, bill_ids: Sequence[UUID]) -> list[Bill]:
    mine = Bill.filter(
        id__in=list(bill_ids),
        community_id=account.community_id,
        customer_id=account.holder_id,
        legal_entity_id=account.legal_entity_id,
    )
    return await mine.order_by("id").select_for_update()


async def _pay_tx(actor: Actor, account: Account, bills: Sequence[Bill]) -> tuple[Payment | None, int]:
    """Bills, then the account, are locked: what is counted here stays until the commit."""
    assert account.holder_id is not None, "a balance is somebody's"
    left_fen = await held_tx(AccountKind.PREPAID, account.legal_entity_id, account.community_id, account.holder_id)
    portions = []
    for bill in sorted(bills, key=lambda bill: (bill.accrued_on, bill.due_on, bill.id)):
        portion_fen = min(left_fen, bill.owed_fen)
        if portion_fen:
            portions.append(Portion(bill.id, portion_fen))
            left_fen -= portion_fen
    if not portions:
        return None, 0
    tender = Tender(Channel.PREPAID, account.holder_id, clock.now())
    return await pay_at_once_tx(actor, portions, tender), len(portions)
