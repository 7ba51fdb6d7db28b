"""收费员日报: what came through each clerk's hands, by channel and day of posting."""

from services.finance_report import Family

_ATOMS = """
SELECT 'entry' AS source, lpad(e.id::text, 19, '0') AS source_key, e.posted_on AS happened_on, e.kind AS text,
    NULL::uuid AS bill_id, p.id AS payment_id, e.legal_entity_id, e.community_id, p.payer_staff_id AS staff_id,
    p.channel, e.posted_on::text AS day, e.amount_fen
FROM entries e
JOIN payment_attempts a ON a.id = e.source_id
JOIN payments p ON p.id = a.payment_id AND p.payer_staff_id IS NOT NULL
WHERE e.community_id = ANY($1::uuid[]) AND e.kind IN ('payment', 'surplus', 'suspense')
    AND ($2::date IS NULL OR e.posted_on >= $2) AND ($3::date IS NULL OR e.posted_on <= $3)
"""

_CLERK = ("legal_entity_id", "community_id", "staff_id")
CASHIER = Family(
    name="cashiers",
    title="收费员汇总",
    atoms=_ATOMS,
    groups={
        "staff": _CLERK,
        "staff_channel": (*_CLERK, "channel"),
        "staff_channel_day": (*_CLERK, "channel", "day"),
        "day": ("legal_entity_id", "community_id", "day"),
    },
    figures=("amount_fen",),
)
"""Payments that a member of staff made for somebody; what residents pay themselves has no clerk."""
