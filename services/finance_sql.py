"""Pieces of SQL that several reports of finance share, each said once."""

# What is still owed of the bill ``b``: its amount less what was paid of it.
OWED = "(b.amount_fen - b.credited_fen - b.paid_fen)"

# The bills ``b`` that count: issued, and not taken back.
COUNTS = "b.state NOT IN ('draft', 'void')"

# The Beijing day of the allocation ``al``: the day its money was posted on, as both are written by one statement.
ALLOCATED_ON = "(al.created_at AT TIME ZONE 'Asia/Shanghai')::date"

# What moved on each account, summed; $1 communities, $3 the last day.
PER_ACCOUNT = """
SELECT a.legal_entity_id, a.community_id, a.kind AS account_kind, a.holder_id, a.id AS account_id, {figures}
FROM (
    SELECT e.debit_account_id AS account_id, {debits} FROM entries e
    WHERE e.community_id = ANY($1::uuid[]) AND ($3::date IS NULL OR e.posted_on <= $3) {more} GROUP BY 1
    UNION ALL
    SELECT e.credit_account_id, {credits} FROM entries e
    WHERE e.community_id = ANY($1::uuid[]) AND ($3::date IS NULL OR e.posted_on <= $3) {more} GROUP BY 1
) moved JOIN accounts a ON a.id = moved.account_id
"""

# Both sides of every entry, each a row of its account; $1 communities, $3 the last day.
SIDES = """
SELECT 'entry' AS source, lpad(e.id::text, 19, '0') AS source_key, e.posted_on AS happened_on, e.kind AS text,
    NULL::uuid AS bill_id, NULL::uuid AS payment_id, e.legal_entity_id, e.community_id, a.kind AS account_kind,
    a.holder_id, a.id AS account_id, {figures}
FROM entries e
CROSS JOIN LATERAL (VALUES (e.debit_account_id, e.amount_fen, 0), (e.credit_account_id, 0, e.amount_fen))
    AS side(account_id, debit_fen, credit_fen)
JOIN accounts a ON a.id = side.account_id
WHERE e.community_id = ANY($1::uuid[]) AND ($3::date IS NULL OR e.posted_on <= $3) {more}
"""
