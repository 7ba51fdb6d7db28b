"""账龄: what is owed, by how long it is past due."""

from services.finance_report import Family
from services.finance_sql import COUNTS, OWED

_AGES = {
    "not_due_fen": "past <= 0",
    "days_0_30_fen": "past BETWEEN 1 AND 30",
    "days_31_90_fen": "past BETWEEN 31 AND 90",
    "days_91_180_fen": "past BETWEEN 91 AND 180",
    "days_181_365_fen": "past BETWEEN 181 AND 365",
    "over_365_fen": "past > 365",
}
# A bill is past due from the day after its due date; a top-up that nobody paid is nobody's debt.
_ATOMS = f"""
SELECT 'bill' AS source, b.id::text AS source_key, b.due_on AS happened_on, b.title AS text, b.id AS bill_id,
    NULL::uuid AS payment_id, b.legal_entity_id, b.community_id, r.building_id, b.room_id, b.customer_id,
    {", ".join(f"CASE WHEN {age} THEN {OWED} ELSE 0 END AS {name}" for name, age in _AGES.items())}, {OWED} AS owed_fen
FROM (SELECT *, $3::date - due_on AS past FROM bills) b LEFT JOIN rooms r ON r.id = b.room_id
WHERE b.community_id = ANY($1::uuid[]) AND b.kind <> 'prepaid' AND {COUNTS} AND {OWED} > 0
    AND ($2::date IS NULL OR b.due_on >= $2)
"""  # noqa: S608 - our own text

ARREARS = Family(
    name="arrears",
    title="欠费账龄",
    atoms=_ATOMS,
    groups={
        "community": ("legal_entity_id", "community_id"),
        "building": ("legal_entity_id", "community_id", "building_id"),
        "room": ("legal_entity_id", "community_id", "building_id", "room_id"),
        "customer": ("legal_entity_id", "community_id", "customer_id"),
    },
    figures=(*_AGES, "owed_fen"),
)
"""As the bills stand now; the last day is the one that ages are counted to."""
