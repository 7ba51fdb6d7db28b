"""How money is spread over what it was sent for. Pure: no database, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True)
class LineDue:
    """What of a bill line is still open, in fen (0 when it is paid)."""

    line_id: UUID
    due_fen: int


@dataclass(frozen=True)
class BillDue:
    """A bill in the order in which it is to be paid, and at most how much of the money is meant for it."""

    bill_id: UUID
    meant_fen: int
    lines: Sequence[LineDue]


@dataclass(frozen=True)
class Share:
    """Which fen go to which line; always positive."""

    bill_id: UUID
    line_id: UUID
    amount_fen: int


def spread(amount_fen: int, bills: Sequence[BillDue]) -> tuple[list[Share], int]:
    """Give ``amount_fen`` to the bills in order and within a bill to its lines in order; what is left is surplus.

    No line gets more than is due on it, no bill more than was meant for it. Shares and surplus add up to the amount.
    """
    shares: list[Share] = []
    left_fen = amount_fen
    for bill in bills:
        for_bill_fen = min(left_fen, bill.meant_fen)
        for line in bill.lines:
            part_fen = min(for_bill_fen, line.due_fen)
            if part_fen > 0:
                shares.append(Share(bill.bill_id, line.line_id, part_fen))
                for_bill_fen -= part_fen
                left_fen -= part_fen
    return shares, left_fen
