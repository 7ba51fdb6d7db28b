"""Deposits that go back: only what is left of one whose return was asked for, and once."""

from collections import Counter
from uuid import UUID

from kit.money import format_yuan
from models.deposit import DEPOSIT_MACHINE, Deposit, DepositState
from models.refund import UNDER_WAY, Refund, RefundKind, RefundLine, RefundState
from models.unit_of_work import row
from payments.errors import DepositReturnNotAsked, NotEnoughHeld

_GOING = """
SELECT COALESCE(sum(l.amount_fen), 0)::bigint AS fen FROM refund_lines l JOIN refunds r ON r.id = l.refund_id
WHERE l.bill_id = $1 AND r.id IS DISTINCT FROM $2 AND r.state = ANY($3::text[])
"""


async def refuse_unreturnable_tx(refund: Refund) -> None:
    """Refuse a refund of deposits with DepositReturnNotAsked unless the return of each was asked for, so that nothing
    is deducted meanwhile, and with NotEnoughHeld for more than is left of one. The deposits stay locked."""
    if refund.kind is not RefundKind.DEPOSIT:
        return
    wanted = await _wanted_tx(refund)
    deposits = await Deposit.filter(bill_id__in=wanted).order_by("id").select_for_update()
    if len(deposits) != len(wanted) or any(one.state is not DepositState.RETURN_ASKED for one in deposits):
        raise DepositReturnNotAsked()
    for deposit in deposits:
        left_fen = deposit.left_fen - await going_back_tx(deposit, refund.id)
        if wanted[deposit.bill_id] > left_fen:
            raise NotEnoughHeld(yuan=format_yuan(left_fen), held_fen=left_fen)


async def going_back_tx(deposit: Deposit, but: UUID | None = None, *, surely: bool = False) -> int:
    """What of a deposit is back, or on its way back unless ``surely``, by other refunds than ``but``."""
    states = [state.value for state in (RefundState.REFUNDED, *(() if surely else UNDER_WAY))]
    found = await row(_GOING, deposit.bill_id, but, states)
    return int(found["fen"]) if found else 0


async def return_deposits_tx(refund: Refund) -> None:
    """Afterwards a deposit of which nothing is left is returned (the refund is refunded by now)."""
    if refund.kind is not RefundKind.DEPOSIT:
        return
    for deposit in await Deposit.filter(bill_id__in=await _wanted_tx(refund)).order_by("id").select_for_update():
        if await going_back_tx(deposit, surely=True) == deposit.left_fen:
            DEPOSIT_MACHINE.enter(deposit, DepositState.RETURNED)
            await deposit.save(update_fields=["state"])


async def _wanted_tx(refund: Refund) -> Counter[UUID]:
    wanted: Counter[UUID] = Counter()
    for line in await RefundLine.filter(refund_id=refund.id):
        wanted[line.bill_id] += line.amount_fen
    return wanted
