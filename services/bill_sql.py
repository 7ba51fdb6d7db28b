"""The one statement that lists bills with all that is shown beside them.

Through the ORM a list cost seven statements and, in building and reading them, more than twice the CPU of the rest of
the request (bench/open_bills.py). Who sees which bill is ``Bill.visible_to``; a test holds RESIDENTS and STAFF to it.
"""

# $1 organization  $2 customers of the resident  $3 rooms  $4 since when each room's bills are theirs to see
RESIDENTS = """
visible AS (
    SELECT id FROM bills WHERE customer_id = ANY($2::uuid[])
    UNION
    SELECT b.id FROM unnest($3::uuid[], $4::date[]) AS home(room_id, since)
    JOIN bills b ON b.room_id = home.room_id AND b.accrued_on >= home.since
), candidates AS (
    SELECT b.* FROM visible v JOIN bills b ON b.id = v.id WHERE b.organization_id = $1 AND b.state <> 'draft'
)
"""
# $1 organization  $2 communities whose bills the staff member may read  $3 $4 empty
STAFF = """
candidates AS (
    SELECT * FROM bills WHERE organization_id = $1 AND community_id = ANY($2::uuid[])
        AND $3::uuid[] = '{}' AND $4::date[] = '{}'
)
"""
# $1 bills, which the caller has made sure may be seen
THESE = "picked AS (SELECT * FROM bills WHERE id = ANY($1::uuid[]))"

# $5 states or null  $6 room or null  $7 community or null  $8 $9 the last bill of the page before or null  $10 limit
PAGE = """,
picked AS (
    SELECT * FROM candidates
    WHERE ($5::text[] IS NULL OR state = ANY($5)) AND ($6::uuid IS NULL OR room_id = $6)
        AND ($7::uuid IS NULL OR community_id = $7) AND ($8::date IS NULL OR (due_on, id) > ($8, $9::uuid))
    ORDER BY due_on, id LIMIT $10
)
"""

SHOWN = """
SELECT b.id, b.title, b.state, b.kind, b.amount_fen, b.paid_fen, b.credited_fen, b.due_on, b.accrued_on,
    b.community_id, b.room_id, b.customer_id, b.legal_entity_id, b.merchant_account_id,
    c.name AS community, r.name AS room, COALESCE(m.active, false) AS account_is_active, lines.shown AS lines
FROM picked b
JOIN communities c ON c.id = b.community_id
LEFT JOIN rooms r ON r.id = b.room_id
LEFT JOIN merchant_accounts m ON m.id = b.merchant_account_id
CROSS JOIN LATERAL (
    SELECT COALESCE(json_agg(json_build_object(
        'fee_item_id', l.fee_item_id, 'title', l.title, 'period_from', l.period_from, 'period_to', l.period_to,
        'quantity', l.quantity::text, 'unit', l.unit, 'unit_price', l.unit_price::text, 'formula', l.formula,
        'amount_fen', l.amount_fen) ORDER BY l.position), '[]')::text AS shown
    FROM bill_lines l WHERE l.bill_id = b.id
) lines
ORDER BY b.due_on, b.id
"""
