"""交班汇总: what was taken in a shift, by channel and by item, and how the cash in its drawers came about."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from models.access import Actor
from models.base import get_visible
from models.payment import Channel
from models.shift import Shift, ShiftState
from models.unit_of_work import rows
from services.shift import ShiftIsOpen

_CHANNELS = """
SELECT p.legal_entity_id, l.name AS legal_entity, p.channel, count(*) AS payments,
    sum(p.amount_fen)::bigint AS amount_fen
FROM payments p JOIN legal_entities l ON l.id = p.legal_entity_id
WHERE p.shift_id = $1 AND p.state = 'paid' GROUP BY 1, 2, 3 ORDER BY 2, 1, 3
"""
# What found no bill is an item of its own, named as on the receipt: the items add up to what was taken.
_ITEMS = """
SELECT t.legal_entity_id, l.name AS legal_entity, t.fee_item_id, t.name, sum(t.fen)::bigint AS amount_fen
FROM (
    SELECT p.legal_entity_id, i.id AS fee_item_id, i.name, al.amount_fen AS fen
    FROM payments p JOIN allocations al ON al.payment_id = p.id AND al.amount_fen > 0
    JOIN bill_lines bl ON bl.id = al.bill_line_id JOIN fee_items i ON i.id = bl.fee_item_id
    WHERE p.shift_id = $1 AND p.state = 'paid'
    UNION ALL
    SELECT p.legal_entity_id, NULL, '暂存余额', p.surplus_fen
    FROM payments p WHERE p.shift_id = $1 AND p.state = 'paid' AND p.surplus_fen > 0
) t JOIN legal_entities l ON l.id = t.legal_entity_id
GROUP BY 1, 2, 3, 4 ORDER BY 2, 1, 4, 3
"""
_DRAWERS = """
SELECT d.legal_entity_id, l.name AS legal_entity, d.float_fen, d.expected_fen, d.counted_fen,
    COALESCE(sum(e.amount_fen) FILTER (WHERE e.debit_account_id = a.id AND e.kind IN ('payment', 'surplus')), 0)::bigint
        AS taken_fen,
    COALESCE(sum(e.amount_fen) FILTER (WHERE e.debit_account_id = a.id AND e.kind = 'shift_handover'), 0)::bigint
        AS taken_over_fen,
    COALESCE(sum(e.amount_fen) FILTER (WHERE e.credit_account_id = a.id AND e.kind = 'refunded'), 0)::bigint
        AS refunded_fen,
    count(e.id) FILTER (WHERE e.credit_account_id = a.id AND e.kind = 'refunded') AS refunds
FROM shift_drawers d JOIN legal_entities l ON l.id = d.legal_entity_id
LEFT JOIN accounts a ON a.legal_entity_id = d.legal_entity_id AND a.community_id = d.community_id
    AND a.kind = 'cash_on_hand' AND a.holder_id = d.shift_id
LEFT JOIN entries e ON a.id IN (e.debit_account_id, e.credit_account_id)
WHERE d.shift_id = $1 GROUP BY d.id, l.id ORDER BY l.name, l.id
"""
_RECEIPTS = """
SELECT count(r.id) AS receipts, min(r.number) AS first_number, max(r.number) AS last_number
FROM payments p JOIN receipts r ON r.payment_id = p.id WHERE p.shift_id = $1
"""


@dataclass(frozen=True)
class ChannelTotal:
    """What came by one channel for one legal entity."""

    legal_entity_id: UUID
    legal_entity: str
    channel: Channel
    payments: int
    amount_fen: int


@dataclass(frozen=True)
class ItemTotal:
    """What came for one fee item; without one: for no bill."""

    legal_entity_id: UUID
    legal_entity: str
    fee_item_id: UUID | None
    name: str
    amount_fen: int


@dataclass(frozen=True)
class DrawerTotal:
    """The cash of one legal entity: float + taken + taken over − refunded = expected; expected + variance = counted."""

    legal_entity_id: UUID
    legal_entity: str
    float_fen: int
    taken_fen: int
    taken_over_fen: int
    refunds: int
    refunded_fen: int
    expected_fen: int
    counted_fen: int

    @property
    def variance_fen(self) -> int:
        return self.counted_fen - self.expected_fen


@dataclass(frozen=True)
class ShiftSummary:
    """Channels and items both add up to ``total_fen``."""

    shift: Shift
    channels: Sequence[ChannelTotal]
    items: Sequence[ItemTotal]
    drawers: Sequence[DrawerTotal]
    payments: int
    total_fen: int
    receipts: int
    first_number: str | None
    last_number: str | None


async def summarise_shift(actor: Actor, shift_id: UUID) -> ShiftSummary:
    """A counted shift's summary. Refuses NotFound, ShiftIsOpen: the count is blind."""
    shift = await get_visible(Shift.visible_to(actor), shift_id)
    if shift.state is ShiftState.OPEN:
        raise ShiftIsOpen()
    channels = [ChannelTotal(**(one | {"channel": Channel(one["channel"])})) for one in await rows(_CHANNELS, shift.id)]
    (receipts,) = await rows(_RECEIPTS, shift.id)
    return ShiftSummary(
        shift,
        channels,
        [ItemTotal(**one) for one in await rows(_ITEMS, shift.id)],
        [DrawerTotal(**one) for one in await rows(_DRAWERS, shift.id)],
        sum(one.payments for one in channels),
        sum(one.amount_fen for one in channels),
        **receipts,
    )
