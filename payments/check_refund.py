"""The invariants of what refunds take back from bills: L32 to L35 of ``docs/ledger.md``."""

from payments.invariant import Invariant

REFUND_INVARIANTS = (
    Invariant(
        "L32",
        "What went back of bill lines is what the lines of refunded refunds say, and no other refund took anything.",
        """
        SELECT COALESCE(l.refund_id, al.refund_id) AS id,
               COALESCE(l.fen, 0) - COALESCE(al.fen, 0) AS difference, bill_line_id
        FROM (SELECT rl.refund_id, rl.bill_line_id, rl.amount_fen AS fen FROM refund_lines rl
              JOIN refunds r ON r.id = rl.refund_id WHERE r.state = 'refunded') l
        FULL JOIN (SELECT refund_id, bill_line_id, -sum(amount_fen) AS fen FROM allocations
                   WHERE refund_id IS NOT NULL GROUP BY 1, 2) al USING (refund_id, bill_line_id)
        WHERE l.fen IS DISTINCT FROM al.fen""",
    ),
    Invariant(
        "L33",
        "Of no bill line more is back, or on its way back, than the payment had paid on it.",
        """
        SELECT gone.payment_id AS id, gone.fen - COALESCE(sum(al.amount_fen), 0) AS difference, gone.bill_line_id
        FROM (SELECT r.payment_id, rl.bill_line_id, sum(rl.amount_fen) AS fen
              FROM refund_lines rl JOIN refunds r ON r.id = rl.refund_id
              WHERE r.state IN ('approved', 'processing', 'failed', 'refunded') GROUP BY 1, 2) gone
        LEFT JOIN allocations al ON al.payment_id = gone.payment_id AND al.bill_line_id = gone.bill_line_id
            AND al.refund_id IS NULL
        GROUP BY gone.payment_id, gone.bill_line_id, gone.fen HAVING gone.fen > COALESCE(sum(al.amount_fen), 0)""",
    ),
    Invariant(
        "L34",
        "What a bill counts as credited is what its credit notes say, and each says what a line of a refunded refund "
        "says that was to be credited.",
        """
        SELECT b.id, b.credited_fen - COALESCE(sum(c.amount_fen), 0) AS difference FROM bills b
        LEFT JOIN credit_notes c ON c.bill_id = b.id
        GROUP BY b.id HAVING b.credited_fen <> COALESCE(sum(c.amount_fen), 0)
        UNION ALL
        SELECT COALESCE(l.refund_id, c.refund_id), COALESCE(l.amount_fen, 0) - COALESCE(c.amount_fen, 0)
        FROM (SELECT rl.refund_id, rl.bill_line_id, rl.amount_fen FROM refund_lines rl
              JOIN refunds r ON r.id = rl.refund_id WHERE r.state = 'refunded' AND rl.fate = 'credited') l
        FULL JOIN credit_notes c USING (refund_id, bill_line_id)
        WHERE l.amount_fen IS DISTINCT FROM c.amount_fen""",
    ),
    Invariant(
        "L35",
        "The lines of a refund add up to it and are of bills of its kind: charges, prepaid balance or deposits; a "
        "refund of surplus has none.",
        """
        SELECT r.id, r.amount_fen - COALESCE(sum(rl.amount_fen), 0) AS difference, r.kind
        FROM refunds r LEFT JOIN refund_lines rl ON rl.refund_id = r.id LEFT JOIN bills b ON b.id = rl.bill_id
        GROUP BY r.id
        HAVING COALESCE(sum(rl.amount_fen), 0) <> CASE r.kind WHEN 'surplus' THEN 0 ELSE r.amount_fen END
            OR bool_or((CASE b.kind WHEN 'charge' THEN 'bill' ELSE b.kind END) <> r.kind)""",
    ),
)
