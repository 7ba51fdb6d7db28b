"""The invariants of cash: drawers, the safe, and slips of the bank (docs/ledger.md)."""

from payments.invariant import Invariant

CASH = (
    Invariant(
        "L29",
        "A counted drawer's variance is posted, once; what was counted is there until it is handed over, then none.",
        """
        SELECT d.id, s.state, d.counted_fen - d.expected_fen AS variance_fen, m.variance_fen AS posted_fen, m.left_fen
        FROM shift_drawers d JOIN shifts s ON s.id = d.shift_id
        LEFT JOIN accounts a ON a.legal_entity_id = d.legal_entity_id AND a.community_id = d.community_id
            AND a.kind = 'cash_on_hand' AND a.holder_id = d.shift_id
        LEFT JOIN LATERAL (
            SELECT COALESCE(sum(CASE WHEN e.debit_account_id = a.id THEN e.amount_fen ELSE -e.amount_fen END), 0)
                       AS left_fen,
                   COALESCE(sum(CASE WHEN e.debit_account_id = a.id THEN e.amount_fen ELSE -e.amount_fen END)
                       FILTER (WHERE e.kind = 'cash_variance' AND e.source_id = d.id), 0) AS variance_fen
            FROM entries e WHERE a.id IN (e.debit_account_id, e.credit_account_id)) m ON true
        WHERE (s.state = 'open') <> (d.counted_fen IS NULL)
           OR m.variance_fen <> COALESCE(d.counted_fen - d.expected_fen, 0)
           OR m.left_fen <> CASE s.state WHEN 'closed' THEN d.counted_fen WHEN 'open' THEN m.left_fen ELSE 0 END""",
    ),
    Invariant(
        "L30",
        "No drawer and no safe holds less than nothing, and every drawer's cash belongs to a shift that counts it.",
        """
        SELECT a.id, sum(CASE WHEN a.id = e.debit_account_id THEN e.amount_fen ELSE -e.amount_fen END) AS left_fen
        FROM accounts a JOIN entries e ON a.id IN (e.debit_account_id, e.credit_account_id)
        LEFT JOIN shifts s ON s.id = a.holder_id
        LEFT JOIN shift_drawers d ON d.shift_id = a.holder_id AND d.legal_entity_id = a.legal_entity_id
        WHERE a.kind = 'cash_on_hand' GROUP BY a.id, s.id, d.id
        HAVING sum(CASE WHEN a.id = e.debit_account_id THEN e.amount_fen ELSE -e.amount_fen END) < 0
            OR (s.id IS NOT NULL AND d.id IS NULL)""",
    ),
    Invariant(
        "L31",
        "Cash that was taken in a shift lies in that shift's drawer; a slip and a float are posted once, each with its "
        "amount.",
        """
        SELECT p.id, p.amount_fen AS difference FROM payments p
        JOIN payment_attempts t ON t.payment_id = p.id JOIN entries e ON e.source_id = t.id
        JOIN accounts a ON a.id = e.debit_account_id
        WHERE p.shift_id IS NOT NULL AND p.channel = 'cash'
          AND (a.kind, a.holder_id) IS DISTINCT FROM ('cash_on_hand'::varchar, p.shift_id)
        UNION ALL
        SELECT b.id, b.amount_fen - COALESCE(sum(e.amount_fen), 0) FROM bank_slips b
        LEFT JOIN entries e ON e.source_id = b.id
            AND e.kind = CASE b.kind WHEN 'deposit' THEN 'cash_banked' ELSE 'cash_drawn' END
        GROUP BY b.id HAVING b.amount_fen <> COALESCE(sum(e.amount_fen), 0)
        UNION ALL
        SELECT d.id, d.float_fen - COALESCE(sum(e.amount_fen), 0) FROM shift_drawers d
        LEFT JOIN entries e ON e.source_id = d.id AND e.kind = 'shift_float'
        GROUP BY d.id HAVING d.float_fen <> COALESCE(sum(e.amount_fen), 0)""",
    ),
)
