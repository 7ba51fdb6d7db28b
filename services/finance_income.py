"""收入: what came for charges and what went back, by fee item, channel and day of posting."""

from services.finance_report import Family
from services.finance_sql import ALLOCATED_ON

_ATOMS = f"""
SELECT 'allocation' AS source, lpad(al.id::text, 19, '0') AS source_key, {ALLOCATED_ON} AS happened_on, l.title AS text,
    al.bill_id, al.payment_id, b.legal_entity_id, al.community_id, l.fee_item_id, p.channel,
    to_char({ALLOCATED_ON}, 'YYYY-MM-DD') AS day, to_char({ALLOCATED_ON}, 'YYYY-MM') AS month,
    greatest(al.amount_fen, 0) AS received_fen, least(al.amount_fen, 0) AS refunded_fen, al.amount_fen AS income_fen
FROM allocations al
JOIN bills b ON b.id = al.bill_id AND b.kind = 'charge'
JOIN bill_lines l ON l.id = al.bill_line_id
JOIN payments p ON p.id = al.payment_id
WHERE al.community_id = ANY($1::uuid[])
    AND ($2::date IS NULL OR al.created_at >= $2::timestamp AT TIME ZONE 'Asia/Shanghai')
    AND ($3::date IS NULL OR al.created_at < ($3 + 1)::timestamp AT TIME ZONE 'Asia/Shanghai')
"""  # noqa: S608 - our own text

_HERE = ("legal_entity_id", "community_id")
INCOME = Family(
    name="income",
    title="收入汇总",
    atoms=_ATOMS,
    groups={
        "fee_item_channel": (*_HERE, "fee_item_id", "channel"),
        "fee_item": (*_HERE, "fee_item_id"),
        "channel": (*_HERE, "channel"),
        "day": (*_HERE, "day"),
        "month": (*_HERE, "month"),
    },
    figures=("received_fen", "refunded_fen", "income_fen"),
)
"""By the day of posting; what went back is negative, and belongs to the channel that it had come by."""
