"""The statements of reconciliation: a bill's rows beside ours, set by set. What came is positive."""

STAGE_TRADE = """
CREATE TEMP TABLE bill_rows (at timestamp, transaction_id text, out_trade_no text, state text, total numeric,
    refund_id text, out_refund_no text, refund numeric, refund_state text, fee numeric, rate text) ON COMMIT DROP
"""
STAGE_FLOW = """
CREATE TEMP TABLE bill_rows (at timestamp, number text, name text, direction text, amount numeric, balance numeric)
ON COMMIT DROP
"""

# The day of a file is that of most of its rows: a payment of the last second may be on the next day's bill.
DAYS = "SELECT at::date AS day, count(*) AS row_count FROM bill_rows GROUP BY 1 ORDER BY 2 DESC, 1 DESC"
TRADE_SAYS = """
SELECT count(*) AS row_count,
    COALESCE(sum(total), 0) AS paid, COALESCE(sum(refund), 0) AS refunded, COALESCE(sum(fee), 0) AS fee,
    count(*) FILTER (WHERE state NOT IN ('SUCCESS', 'REFUND', 'REVOKED')) AS strange_states,
    count(*) FILTER (WHERE total <> round(total, 2) OR refund <> round(refund, 2) OR fee <> round(fee, 2)
                        OR total < 0 OR refund < 0 OR 'NaN' IN (total, refund, fee)) AS odd_amounts,
    count(*) FILTER (WHERE out_trade_no = '' OR transaction_id = ''
                        OR (state <> 'SUCCESS' AND refund_id IN ('', '0'))) AS nameless
FROM bill_rows
"""
DOUBLES = """
SELECT CASE WHEN state = 'SUCCESS' THEN out_trade_no ELSE refund_id END AS number FROM bill_rows
GROUP BY 1 HAVING count(*) > 1 LIMIT 1
"""
FLOW_SAYS = """
SELECT count(*) AS row_count,
    count(*) FILTER (WHERE direction = '收入') AS coming, count(*) FILTER (WHERE direction = '支出') AS going,
    COALESCE(sum(amount) FILTER (WHERE direction = '收入'), 0) AS came,
    COALESCE(sum(amount) FILTER (WHERE direction = '支出'), 0) AS went,
    count(*) FILTER (WHERE amount <> round(amount, 2) OR amount < 0 OR amount = 'NaN'
                        OR direction NOT IN ('收入', '支出')) AS odd_amounts
FROM bill_rows
"""

# $1 merchant account. Every row with what these books hold under its number; one pass over everything.
MATCH_TRADE = """
CREATE TEMP TABLE matched ON COMMIT DROP AS
SELECT b.state <> 'SUCCESS' AS is_refund, b.at AT TIME ZONE 'Asia/Shanghai' AS at, b.transaction_id, b.out_trade_no,
    b.refund_id, CASE WHEN b.out_refund_no NOT IN ('', '0') THEN b.out_refund_no END AS out_refund_no, b.refund_state,
    (b.total * 100)::bigint AS total_fen, (b.refund * 100)::bigint AS refund_fen, (b.fee * 100)::bigint AS fee_fen,
    b.rate, a.id AS attempt_id, a.state, a.received_fen, a.paid_at, a.transaction_id AS our_transaction_id,
    a.community_id, p.legal_entity_id
FROM bill_rows b
LEFT JOIN payment_attempts a ON a.merchant_account_id = $1 AND a.out_trade_no = b.out_trade_no
LEFT JOIN payments p ON p.id = a.payment_id
"""

MAKE_FOUND = """
CREATE TEMP TABLE found (about text, number text, kind text, state text, attempt_id uuid, refund_attempt_id uuid,
    community_id uuid, out_trade_no text, channel_number text, occurred_at timestamptz, wechat_fen bigint,
    our_fen bigint, difference_fen bigint, fee_fen bigint, wechat_status text, our_status text) ON COMMIT DROP
"""
# $1, $2: the day, from and to. What was paid on another day by our books is on this bill for the clock's sake alone.
# A fee is what the line's own rate makes of it, rounded half up.
FIND_PAYMENTS = """
INSERT INTO found
SELECT 'payment', out_trade_no, kind, CASE kind WHEN 'cut_off' THEN 'explained' ELSE 'open' END, attempt_id, NULL,
    community_id, out_trade_no, transaction_id, at, total_fen, ours,
    total_fen - CASE WHEN paid_at >= $1 AND paid_at < $2 THEN COALESCE(ours, 0) ELSE 0 END, fee_fen,
    'SUCCESS', state
FROM (
    SELECT m.*, CASE WHEN has_it THEN received_fen END AS ours,
        CASE WHEN attempt_id IS NULL THEN 'only_at_wechat'
             WHEN NOT has_it OR our_transaction_id IS DISTINCT FROM transaction_id
               OR paid_at < $1::timestamptz - interval '1 day' OR paid_at >= $2::timestamptz + interval '1 day'
             THEN 'status'
             WHEN received_fen IS DISTINCT FROM total_fen THEN 'amount'
             WHEN paid_at < $1 OR paid_at >= $2 THEN 'cut_off'
             WHEN rate ~ '^[0-9.]+%$' AND fee_fen <> round(total_fen * rtrim(rate, '%')::numeric / 100) THEN 'fee'
        END AS kind
    FROM (SELECT *, state IN ('paid', 'suspended') AS has_it FROM matched WHERE NOT is_refund) m
) k WHERE kind IS NOT NULL
"""

# $1, $2: the day; $3 merchant account; $4: whether the bill of the next day has been read; $5: this day.
ONLY_PAYMENTS = """
INSERT INTO found
SELECT 'payment', a.out_trade_no,
    CASE WHEN other.attempt_id IS NOT NULL OR (NOT $4::boolean AND a.paid_at >= $2::timestamptz - interval '10 minutes')
         THEN 'cut_off' ELSE 'only_with_us' END,
    CASE WHEN other.attempt_id IS NOT NULL THEN 'explained' ELSE 'open' END,
    a.id, NULL, a.community_id, a.out_trade_no, a.transaction_id, a.paid_at, NULL, a.received_fen, -a.received_fen, 0,
    NULL, a.state
FROM payment_attempts a
JOIN payments p ON p.id = a.payment_id AND p.channel LIKE 'wechat%'
LEFT JOIN LATERAL (
    SELECT d.attempt_id FROM differences d WHERE d.attempt_id = a.id AND d.about = 'payment' AND d.kind = 'cut_off'
      AND d.state = 'explained' AND d.reconciliation_id <> $5 AND d.wechat_fen IS NOT NULL LIMIT 1
) other ON true
WHERE a.merchant_account_id = $3 AND a.paid_at >= $1 AND a.paid_at < $2 AND a.state IN ('paid', 'suspended')
  AND a.received_fen IS NOT NULL
  AND NOT EXISTS (SELECT FROM bill_rows b WHERE b.state = 'SUCCESS' AND b.out_trade_no = a.out_trade_no)
"""

# $1, $2: the day; $3 merchant account. The bill says how a refund stood at nine: what we know may be newer.
FIND_REFUNDS = """
INSERT INTO found
SELECT 'refund', COALESCE(out_refund_no, refund_id), kind, CASE kind WHEN 'cut_off' THEN 'explained' ELSE 'open' END,
    attempt_id, refund_attempt_id, community_id, out_trade_no, refund_id, at, -refund_fen, -our_refund_fen,
    CASE WHEN sent_at >= $1 AND sent_at < $2 THEN our_refund_fen ELSE 0 END - refund_fen, fee_fen,
    refund_state, our_state
FROM (
    SELECT m.*, r.id AS refund_attempt_id, r.state AS our_state, r.amount_fen AS our_refund_fen,
        COALESCE(r.sent_at, r.created_at) AS sent_at,
        CASE WHEN r.id IS NULL THEN 'only_at_wechat'
             WHEN r.amount_fen <> refund_fen THEN 'amount'
             WHEN (refund_state = 'SUCCESS' AND r.state <> 'succeeded')
               OR (refund_state = 'FAIL' AND r.state <> 'closed')
               OR (refund_state = 'CHANGE' AND r.state IN ('created', 'accepted'))
               OR (refund_state = 'PROCESSING' AND r.state = 'created') THEN 'status'
             WHEN COALESCE(r.sent_at, r.created_at) < $1 OR COALESCE(r.sent_at, r.created_at) >= $2 THEN 'cut_off'
             WHEN rate ~ '^[0-9.]+%$'
              AND abs(fee_fen + round(refund_fen * rtrim(rate, '%')::numeric / 100)) > 1 AND fee_fen <> 0 THEN 'fee'
        END AS kind
    FROM matched m LEFT JOIN refund_attempts r
      ON r.merchant_account_id = $3 AND r.out_refund_no = m.out_refund_no WHERE m.is_refund
) k WHERE kind IS NOT NULL
"""
ONLY_REFUNDS = """
INSERT INTO found
SELECT 'refund', r.out_refund_no,
    CASE WHEN other.id IS NOT NULL
           OR (NOT $4::boolean AND COALESCE(r.sent_at, r.created_at) >= $2::timestamptz - interval '10 minutes')
         THEN 'cut_off' ELSE 'only_with_us' END,
    CASE WHEN other.id IS NOT NULL THEN 'explained' ELSE 'open' END,
    a.id, r.id, r.community_id, r.out_trade_no, r.wechat_refund_id, COALESCE(r.sent_at, r.created_at), NULL,
    -r.amount_fen, r.amount_fen, 0, NULL, r.state
FROM refund_attempts r
LEFT JOIN payment_attempts a ON a.merchant_account_id = r.merchant_account_id AND a.out_trade_no = r.out_trade_no
LEFT JOIN LATERAL (
    SELECT d.id FROM differences d WHERE d.refund_attempt_id = r.id AND d.kind = 'cut_off'
      AND d.state = 'explained' AND d.reconciliation_id <> $5 AND d.wechat_fen IS NOT NULL LIMIT 1
) other ON true
WHERE r.merchant_account_id = $3 AND COALESCE(r.sent_at, r.created_at) >= $1 AND COALESCE(r.sent_at, r.created_at) < $2
  AND r.state IN ('accepted', 'succeeded', 'abnormal')
  AND NOT EXISTS (SELECT FROM matched m WHERE m.is_refund AND m.out_refund_no = r.out_refund_no)
"""

# $1, $2: the day; $3 merchant account. Ours by our own clock, whatever the bill says.
TOTALS = """
SELECT (SELECT COALESCE(sum(CASE WHEN is_refund THEN -refund_fen ELSE total_fen END), 0)::bigint FROM matched)
           AS wechat_fen,
    (SELECT COALESCE(sum(a.received_fen), 0)::bigint FROM payment_attempts a
     JOIN payments p ON p.id = a.payment_id AND p.channel LIKE 'wechat%'
     WHERE a.merchant_account_id = $3 AND a.paid_at >= $1 AND a.paid_at < $2 AND a.state IN ('paid', 'suspended'))
    - (SELECT COALESCE(sum(r.amount_fen), 0)::bigint FROM refund_attempts r
       WHERE r.merchant_account_id = $3 AND COALESCE(r.sent_at, r.created_at) >= $1
         AND COALESCE(r.sent_at, r.created_at) < $2
         AND (r.state IN ('accepted', 'succeeded', 'abnormal')
              OR EXISTS (SELECT FROM matched m WHERE m.is_refund AND m.out_refund_no = r.out_refund_no))) AS our_fen,
    (SELECT COALESCE(sum(fee_fen), 0)::bigint FROM matched) AS fee_fen,
    (SELECT count(*)::int FROM matched m JOIN refund_attempts r
     ON r.merchant_account_id = $3 AND r.out_refund_no = m.out_refund_no
     WHERE m.is_refund AND r.state IN ('created', 'accepted', 'abnormal')) AS pending_count
"""

FORGET_SUMS = "DELETE FROM statement_sums WHERE reconciliation_id = $1"
# $1 day, $2 merchant account: what the books hold too; a refund that came to nothing gave no commission back.
WRITE_SUMS = """
INSERT INTO statement_sums (id, created_at, reconciliation_id, community_id, legal_entity_id, line_count, paid_fen,
    refunded_fen, fee_fen, fee_back_fen)
SELECT gen_random_uuid(), now(), $1, m.community_id, m.legal_entity_id, count(*),
    COALESCE(sum(m.total_fen) FILTER (WHERE NOT m.is_refund), 0),
    COALESCE(sum(m.refund_fen) FILTER (WHERE m.is_refund), 0),
    COALESCE(sum(m.fee_fen) FILTER (WHERE NOT m.is_refund), 0),
    COALESCE(-sum(m.fee_fen) FILTER (WHERE m.is_refund), 0)
FROM matched m LEFT JOIN refund_attempts r
  ON m.is_refund AND r.merchant_account_id = $2 AND r.out_refund_no = m.out_refund_no
WHERE m.attempt_id IS NOT NULL
  AND CASE WHEN m.is_refund THEN r.state <> 'closed' AND m.refund_state <> 'FAIL'
           ELSE m.state IN ('paid', 'suspended') END
GROUP BY m.community_id, m.legal_entity_id
"""

# $1 organization, $2 merchant account, $3 day. What a person ended stays; what was mended and differs again is open.
SAVE_FOUND = """
INSERT INTO differences (id, created_at, organization_id, merchant_account_id, reconciliation_id, community_id, about,
    number, kind, attempt_id, refund_attempt_id, out_trade_no, channel_number, occurred_at, wechat_fen, our_fen,
    difference_fen, fee_fen, wechat_status, our_status, placed_fen, state)
SELECT gen_random_uuid(), now(), $1, $2, $3, community_id, about, left(number, 64), kind, attempt_id,
    refund_attempt_id, left(out_trade_no, 64), left(channel_number, 64), occurred_at, wechat_fen, our_fen,
    difference_fen, fee_fen, left(wechat_status, 64), our_status, 0, state
FROM found
ON CONFLICT (reconciliation_id, about, number) DO UPDATE SET
    kind = EXCLUDED.kind, attempt_id = EXCLUDED.attempt_id, refund_attempt_id = EXCLUDED.refund_attempt_id,
    community_id = COALESCE(EXCLUDED.community_id, differences.community_id), occurred_at = EXCLUDED.occurred_at,
    wechat_fen = EXCLUDED.wechat_fen, our_fen = EXCLUDED.our_fen, difference_fen = EXCLUDED.difference_fen,
    fee_fen = EXCLUDED.fee_fen, wechat_status = EXCLUDED.wechat_status, our_status = EXCLUDED.our_status,
    state = CASE WHEN differences.state = 'resolved' THEN 'resolved' ELSE EXCLUDED.state END
"""
MEND = """
UPDATE differences d SET difference_fen = 0,
    state = CASE WHEN d.state IN ('open', 'explained') AND d.placed_fen = 0 THEN 'mended' ELSE d.state END
WHERE d.reconciliation_id = $1
  AND (d.difference_fen <> 0 OR (d.state IN ('open', 'explained') AND d.placed_fen = 0))
  AND NOT EXISTS (SELECT FROM found f WHERE f.about = d.about AND left(f.number, 64) = d.number)
"""
# $1 day: what this bill has, and another day missed, was on the other side of midnight.
EXPLAIN_OTHER_DAYS = """
UPDATE differences d SET kind = 'cut_off', state = 'explained'
FROM found f WHERE f.kind = 'cut_off' AND f.wechat_fen IS NOT NULL AND d.reconciliation_id <> $1
  AND d.about = f.about AND d.wechat_fen IS NULL AND d.state = 'open'
  AND CASE f.about WHEN 'payment' THEN d.attempt_id = f.attempt_id ELSE d.refund_attempt_id = f.refund_attempt_id END
"""
# $1 merchant account, $2 the day before: its bill's neighbour was read, and does not have them either.
NO_CUT_OFF = """
UPDATE differences d SET kind = 'only_with_us' FROM reconciliations r
WHERE r.id = d.reconciliation_id AND r.merchant_account_id = $1 AND r.kind = 'trade' AND r.bill_on = $2
  AND d.kind = 'cut_off' AND d.state = 'open'
"""

# $1 organization, $2 merchant account, $3 names: only rows that move between WeChat and the bank.
FIND_MOVEMENTS = """
INSERT INTO movements (id, created_at, organization_id, merchant_account_id, number, name, amount_fen, posted_fen,
    occurred_at)
SELECT gen_random_uuid(), now(), $1, $2, left(number, 64), left(name, 64),
    (amount * 100)::bigint * CASE direction WHEN '收入' THEN -1 ELSE 1 END, 0, at AT TIME ZONE 'Asia/Shanghai'
FROM bill_rows WHERE name ~ $3 AND amount > 0
ON CONFLICT (merchant_account_id, number) DO NOTHING
"""
FLOW_TOTALS = """
SELECT COALESCE(sum(fen), 0)::bigint AS change_fen,
    COALESCE(sum(fen) FILTER (WHERE name = ANY($1::text[])), 0)::bigint AS trade_fen,
    COALESCE(sum(fen) FILTER (WHERE name = ANY($2::text[])), 0)::bigint AS returned_fen
FROM (SELECT name, (amount * 100)::bigint * CASE direction WHEN '收入' THEN 1 ELSE -1 END AS fen
      FROM bill_rows) f
"""
# $1 movements, $2 names that are known
FIND_FLOWS = """
INSERT INTO found
SELECT 'flow', number, 'only_at_wechat', 'open', NULL, NULL, NULL, NULL, number, min(at AT TIME ZONE 'Asia/Shanghai'),
    sum(fen), NULL, sum(fen), 0, min(name), NULL
FROM (SELECT *, (amount * 100)::bigint * CASE direction WHEN '收入' THEN 1 ELSE -1 END AS fen FROM bill_rows
      WHERE name !~ $1 AND name <> ALL($2::text[])) f
GROUP BY number HAVING sum(fen) <> 0
"""
# $1 merchant account, $2 movements: what the books could not take.
FIND_UNPOSTED = """
INSERT INTO found
SELECT 'flow', m.number, 'amount', 'open', NULL, NULL, NULL, NULL, m.number, m.occurred_at, -m.amount_fen,
    -m.posted_fen, m.posted_fen - m.amount_fen, 0, m.name, NULL
FROM movements m JOIN bill_rows b ON left(b.number, 64) = m.number AND b.name ~ $2
WHERE m.merchant_account_id = $1 AND m.posted_fen <> m.amount_fen
"""

# $1 its name, $2 the day's start, $3 what the flow says of trade, $4 what the trade bill comes to.
FIND_NET = """
INSERT INTO found VALUES ('flow', $1::text, 'amount', 'open', NULL, NULL, NULL, NULL, NULL, $2, $3::bigint,
    $4::bigint, $3::bigint - $4::bigint, 0, NULL, NULL)
"""
POSTED_MOVEMENTS = """
SELECT COALESCE(sum(m.posted_fen), 0)::bigint AS fen FROM movements m
WHERE m.merchant_account_id = $1
  AND EXISTS (SELECT FROM bill_rows b WHERE left(b.number, 64) = m.number AND b.name ~ $2)
"""
