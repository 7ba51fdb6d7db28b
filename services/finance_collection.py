"""收缴率: what was charged, what of it came, what came before its time, and what is still owed."""

from services.finance_report import Family
from services.finance_sql import ALLOCATED_ON, COUNTS

_OF = f"""
FROM bills b JOIN bill_lines l ON l.bill_id = b.id LEFT JOIN rooms r ON r.id = b.room_id {{more}}
WHERE b.community_id = ANY($1::uuid[]) AND b.kind = 'charge' AND {COUNTS}
    AND ($2::date IS NULL OR b.accrued_on >= $2) AND ($3::date IS NULL OR b.accrued_on <= $3)
"""
_DIMENSIONS = (
    "b.legal_entity_id, b.community_id, r.building_id, l.fee_item_id, to_char(b.accrued_on, 'YYYY-MM') AS month"
)
# What is owed is listed as it came about: the line adds it, what was paid of the line and what was credited (冲销) take
# it away.
_ATOMS = f"""
SELECT 'bill_line' AS source, l.id::text AS source_key, b.accrued_on AS happened_on, l.title AS text, b.id AS bill_id,
    NULL::uuid AS payment_id, {_DIMENSIONS},
    l.amount_fen AS billed_fen, 0::bigint AS received_fen, 0::bigint AS advance_fen, l.amount_fen AS owed_fen
{_OF.format(more="")}
UNION ALL
SELECT 'allocation', lpad(al.id::text, 19, '0'), {ALLOCATED_ON}, l.title, b.id, al.payment_id, {_DIMENSIONS},
    0, al.amount_fen,
    CASE WHEN {ALLOCATED_ON} < date_trunc('month', b.accrued_on)::date THEN al.amount_fen ELSE 0 END, -al.amount_fen
{_OF.format(more="JOIN allocations al ON al.bill_line_id = l.id AND al.bill_id = b.id")}
UNION ALL
SELECT 'credit_note', lpad(cn.id::text, 19, '0'), (cn.created_at AT TIME ZONE 'Asia/Shanghai')::date, l.title, b.id,
    NULL::uuid, {_DIMENSIONS}, -cn.amount_fen, 0, 0, -cn.amount_fen
{_OF.format(more="JOIN credit_notes cn ON cn.bill_line_id = l.id AND cn.bill_id = b.id")}
"""

COLLECTION = Family(
    name="collection",
    title="应收实收与收缴率",
    atoms=_ATOMS,
    groups={
        "community": ("legal_entity_id", "community_id"),
        "building": ("legal_entity_id", "community_id", "building_id"),
        "fee_item": ("legal_entity_id", "community_id", "fee_item_id"),
        "month": ("legal_entity_id", "community_id", "month"),
        "fee_item_month": ("legal_entity_id", "community_id", "fee_item_id", "month"),
    },
    figures=("billed_fen", "received_fen", "advance_fen", "owed_fen"),
    rates={"rate_bp": ("received_fen", "billed_fen")},
)
"""By the month that a bill accrued in; the first and last day choose by that."""
