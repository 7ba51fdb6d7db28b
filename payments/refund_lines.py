"""Which bill lines a refund takes its money from: what is left of a payment, and how a wish becomes lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from models.bill import BillKind
from models.payment import Payment
from models.refund import BillFate, Refund, RefundKind, RefundLine
from models.unit_of_work import rows
from payments.errors import RefundKindsDiffer, RefundTooLarge

KIND_OF = {
    BillKind.CHARGE: RefundKind.BILL,
    BillKind.PREPAID: RefundKind.PREPAID,
    BillKind.DEPOSIT: RefundKind.DEPOSIT,
}
"""What a refund gives back, by the kind of the bill that had been paid."""

_LEFT = """
SELECT b.id AS bill_id, b.title AS bill_title, b.kind, l.id AS line_id, l.title AS line_title,
       al.amount_fen AS paid_fen, (al.amount_fen - COALESCE(gone.fen, 0))::bigint AS left_fen
FROM allocations al
JOIN bills b ON b.id = al.bill_id
JOIN bill_lines l ON l.id = al.bill_line_id
LEFT JOIN (
    SELECT rl.bill_line_id, sum(rl.amount_fen) AS fen FROM refund_lines rl JOIN refunds r ON r.id = rl.refund_id
    WHERE r.payment_id = $1 AND r.state IN ('approved', 'processing', 'failed', 'refunded') GROUP BY 1
) gone ON gone.bill_line_id = al.bill_line_id
WHERE al.payment_id = $1 AND al.refund_id IS NULL
ORDER BY b.accrued_on, b.due_on, b.id, l.position
"""


@dataclass(frozen=True)
class RefundPart:
    """A wish: of this bill, or of this line of it, so much; None is all that is left of it."""

    bill_id: UUID
    line_id: UUID | None = None
    amount_fen: int | None = None


@dataclass(frozen=True)
class PaidLine:
    """A bill line that the payment paid. ``left_fen`` is neither given back nor on its way back."""

    bill_id: UUID
    bill_title: str
    kind: RefundKind
    line_id: UUID
    line_title: str
    paid_fen: int
    left_fen: int


async def paid_lines(payment_id: UUID) -> list[PaidLine]:
    """What the payment paid, oldest bill first. Under the payment's lock nobody else takes of it."""
    return [
        PaidLine(**(found | {"kind": KIND_OF[BillKind(found["kind"])]}))
        for found in await rows(_LEFT, payment_id)
    ]  # fmt: skip


def chosen_lines(paid: Sequence[PaidLine], parts: Sequence[RefundPart]) -> tuple[RefundKind, dict[PaidLine, int]]:
    """The lines and amounts that ``parts`` mean, and the one kind of money that they are; no parts mean everything.

    An amount of a bill is taken from its last lines first, the other way round than it was paid. Refuses with
    RefundTooLarge for more than is left, or nothing, and with RefundKindsDiffer for money of different kinds.
    """
    wanted = parts or [RefundPart(bill_id) for bill_id in dict.fromkeys(line.bill_id for line in paid)]
    taken: dict[PaidLine, int] = {}
    for part in wanted:
        fitting = [
            line for line in reversed(paid)
            if line.bill_id == part.bill_id and part.line_id in (None, line.line_id)
        ]  # fmt: skip
        left = {line: line.left_fen - taken.get(line, 0) for line in fitting}
        asked_fen = sum(left.values()) if part.amount_fen is None else part.amount_fen
        if asked_fen > sum(left.values()):
            raise RefundTooLarge(left_fen=sum(left.values()))
        for line, line_fen in left.items():
            part_fen = min(asked_fen, line_fen)
            if part_fen > 0:
                taken[line] = taken.get(line, 0) + part_fen
                asked_fen -= part_fen
    if not taken:
        raise RefundTooLarge(left_fen=0)
    kinds = {line.kind for line in taken}
    if len(kinds) > 1:
        raise RefundKindsDiffer()
    return kinds.pop(), taken


async def write_lines_tx(refund: Refund, taken: dict[PaidLine, int], fate: BillFate) -> None:
    """Write the lines of a refund. What was topped up or deposited is never owed again: its bill is credited."""
    if refund.kind is not RefundKind.BILL:
        fate = BillFate.CREDITED
    await RefundLine.bulk_create(
        RefundLine(
            community_id=refund.community_id,
            refund_id=refund.id,
            payment_id=refund.payment_id,
            bill_id=line.bill_id,
            bill_line_id=line.line_id,
            amount_fen=amount_fen,
            fate=fate,
        )
        for line, amount_fen in taken.items()
    )


async def refuse_more_than_left_tx(payment: Payment, refund: Refund) -> None:
    """Refuse with RefundTooLarge when of a line of the refund less is left by now (the payment is locked)."""
    left = {line.line_id: line.left_fen for line in await paid_lines(payment.id)}
    for line in await RefundLine.filter(refund_id=refund.id):
        if line.amount_fen > left[line.bill_line_id]:
            raise RefundTooLarge(left_fen=left[line.bill_line_id])
