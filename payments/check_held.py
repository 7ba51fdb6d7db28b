"""The invariants of what is held for customers, and of what is paid at once."""

from payments.invariant import Invariant

HELD = (
    Invariant(
        "L26",
        "What is held for a customer, as prepaid balance, deposit or surplus, is never overdrawn.",
        """
        SELECT a.id, sum(CASE WHEN a.id = e.credit_account_id THEN e.amount_fen ELSE -e.amount_fen END) AS difference,
               a.kind
        FROM accounts a JOIN entries e ON a.id IN (e.debit_account_id, e.credit_account_id)
        WHERE a.kind IN ('prepaid', 'deposit', 'surplus') GROUP BY a.id
        HAVING sum(CASE WHEN a.id = e.credit_account_id THEN e.amount_fen ELSE -e.amount_fen END) < 0""",
    ),
    Invariant(
        "L27",
        "What is paid at once is decided: its one attempt has no merchant and is paid, at the time of its payment; an "
        "order at WeChat has the merchant account of its payment.",
        """
        SELECT a.id, a.amount_fen AS difference, p.channel, a.state FROM payment_attempts a
        JOIN payments p ON p.id = a.payment_id
        WHERE a.merchant_account_id IS DISTINCT FROM p.merchant_account_id
           OR (p.merchant_account_id IS NULL AND (a.state <> 'paid' OR p.state <> 'paid' OR a.paid_at <> p.paid_at))""",
    ),
    Invariant(
        "L28",
        "A deposit is that of its paid bill, and has lost what was deducted, each time by a payment of that amount; a "
        "deposit's bill that was paid more than five minutes ago has its deposit.",
        """
        SELECT b.id, b.amount_fen - COALESCE(d.amount_fen, 0) AS amount_fen,
               COALESCE(d.deducted_fen, 0) - COALESCE(sum(x.amount_fen), 0) AS deducted_fen
        FROM bills b LEFT JOIN deposits d ON d.bill_id = b.id LEFT JOIN deposit_deductions x ON x.deposit_id = d.id
        LEFT JOIN payments p ON p.id = x.payment_id
        WHERE b.kind = 'deposit' AND (b.state = 'paid' OR d.id IS NOT NULL)
        GROUP BY b.id, d.id
        HAVING d.amount_fen <> b.amount_fen OR d.deducted_fen <> COALESCE(sum(x.amount_fen), 0)
            OR bool_or(p.channel <> 'deposit' OR p.amount_fen <> x.amount_fen)
            OR (d.id IS NULL AND (SELECT max(al.created_at) FROM allocations al WHERE al.bill_id = b.id)
                < now() - interval '5 minutes')""",
    ),
)
