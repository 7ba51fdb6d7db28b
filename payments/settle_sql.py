"""The statements of a settlement, written out: three round trips between BEGIN and COMMIT.

Through the ORM the same work costs more than twice the CPU (measured: 0.18 of pgbench against 0.41 and more). The last
statement writes everything at once, so nobody can find a payment that is half settled even inside a transaction.
"""

# 1. Lock the payment and its attempt. Everybody locks in this order: payment, attempts, bills by id. The order is
#    found by the account that was spoken to, so that a word naming another merchant is compared, not lost.
LOCK_ATTEMPT = """
SELECT a.id, a.state, a.amount_fen, a.mchid, a.sub_mchid, a.appid, a.sub_appid, a.out_trade_no,
       a.transaction_id, a.merchant_account_id, a.received_fen, p.id AS payment_id, p.state AS payment_state, p.channel,
       p.organization_id, p.community_id, p.customer_id, p.legal_entity_id
FROM payment_attempts a JOIN payments p ON p.id = a.payment_id
WHERE a.merchant_account_id = $1 AND a.out_trade_no = $2
FOR UPDATE OF p, a
"""

# 2. Lock the bills that the payment chose, oldest first being the order in which money goes to them. The lock is a
#    statement of its own: under READ COMMITTED a statement that waits for a lock re-reads the locked row, but a
#    subquery in it keeps its old snapshot, and would miss allocations that the other transaction just committed.
LOCK_BILLS = """
SELECT b.id, b.kind, b.state, b.amount_fen - b.credited_fen - b.paid_fen AS owed_fen, pb.amount_fen AS meant_fen,
       b.due_on, b.accrued_on
FROM payment_bills pb JOIN bills b ON b.id = pb.bill_id
WHERE pb.payment_id = $1
ORDER BY b.id
FOR UPDATE OF b
"""

# 3. What is still open on each line, read after the locks are held.
LINES_DUE = """
SELECT l.bill_id, l.id, (l.amount_fen - COALESCE(sum(al.amount_fen), 0)
    - COALESCE((SELECT sum(c.amount_fen) FROM credit_notes c WHERE c.bill_line_id = l.id), 0))::bigint AS due_fen
FROM bill_lines l LEFT JOIN allocations al ON al.bill_line_id = l.id AND al.bill_id = l.bill_id
WHERE l.bill_id = ANY($1::uuid[])
GROUP BY l.bill_id, l.id, l.position, l.amount_fen
ORDER BY l.bill_id, l.position
"""

# 4. Post, allocate, mark, enqueue: all or nothing.
#    $1 attempt  $2 payment  $3 transaction id  $4 received fen  $5 occurred at  $6 surplus fen  $7 community
#    $8 legal entity  $9 debit account  $10 entry kinds[]  $11 legs[]  $12 credit accounts[]  $13 entry amounts[]
#    $14 allocated bills[]  $15 allocated lines[]  $16 allocated fen[]  $17 posted at  $18 job queue  $19 job  $20 args
#    $21 $22 the notice that told (id, noticed at), or null: it is worked in the transaction of its money
WRITE = """
WITH posted AS (
    INSERT INTO entries (community_id, legal_entity_id, kind, source_id, leg, debit_account_id, credit_account_id,
                         amount_fen, occurred_at, posted_at, posted_on)
    SELECT $7, $8, e.kind, $1, e.leg, $9, e.credit, e.amount, $5, $17, ($17 AT TIME ZONE 'Asia/Shanghai')::date
    FROM unnest($10::text[], $11::smallint[], $12::uuid[], $13::bigint[]) AS e(kind, leg, credit, amount)
), allocated AS (
    INSERT INTO allocations (community_id, payment_id, bill_id, bill_line_id, amount_fen, created_at)
    SELECT $7, $2, s.bill, s.line, s.amount, $17
    FROM unnest($14::uuid[], $15::uuid[], $16::bigint[]) AS s(bill, line, amount)
), bills_marked AS (
    UPDATE bills b SET paid_fen = b.paid_fen + s.amount,
        state = CASE WHEN b.paid_fen + s.amount = b.amount_fen - b.credited_fen THEN 'paid' ELSE 'part_paid' END
    FROM (SELECT bill, sum(amount)::bigint AS amount
          FROM unnest($14::uuid[], $16::bigint[]) AS t(bill, amount) GROUP BY bill) s
    WHERE b.id = s.bill
), choices_ended AS (
    UPDATE payment_bills SET live = false WHERE payment_id = $2 AND live
), attempt_marked AS (
    UPDATE payment_attempts SET state = 'paid', transaction_id = $3, received_fen = $4, paid_at = $5,
        next_check_at = NULL WHERE id = $1
), payment_marked AS (
    UPDATE payments SET state = 'paid', paid_at = $5, surplus_fen = $6, closed_at = NULL, close_reason = NULL
    WHERE id = $2
), doubts_resolved AS (
    UPDATE discrepancies SET state = 'resolved', resolved_at = $17, resolution = 'query_confirmed_payment'
    WHERE kind = 'doubtful_notice' AND source_id = $1 AND state = 'open'
), notice_worked AS (
    UPDATE notifications SET outcome = 'applied', detail = '' WHERE id = $21 AND noticed_at = $22
)
SELECT procrastinate_defer_jobs_v1(ARRAY[
    ROW($18::varchar, $19::varchar, 0, NULL, NULL, $20::jsonb, NULL)::procrastinate_job_to_defer_v1])
"""

# A callback that does not agree with its order: have the sweep ask WeChat, whatever becomes of the job.
ASK_AGAIN = "UPDATE payment_attempts SET next_check_at = $2 WHERE id = $1 AND state IN ('created', 'prepaid', 'closed')"

# Money that does not fit its order: to suspense, never to a bill. $7 is null for what is not in our books' currency.
SUSPEND = """
WITH posted AS (
    INSERT INTO entries (community_id, legal_entity_id, kind, source_id, leg, debit_account_id, credit_account_id,
                         amount_fen, occurred_at, posted_at, posted_on)
    SELECT $3, $4, 'suspense', $1, 0, $5, $6, $7, $8, $9, ($9 AT TIME ZONE 'Asia/Shanghai')::date
    WHERE $7::bigint IS NOT NULL
), choices_ended AS (
    UPDATE payment_bills SET live = false WHERE payment_id = $2 AND live
), attempt_marked AS (
    UPDATE payment_attempts SET state = 'suspended', transaction_id = $10, received_fen = $7, paid_at = $8,
        next_check_at = NULL WHERE id = $1
)
UPDATE payments SET state = 'suspended', closed_at = NULL, close_reason = NULL WHERE id = $2
"""
