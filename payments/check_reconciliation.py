"""The invariants of reconciliation, as ``payments/check.py`` runs them."""

from payments.invariant import Invariant

RECONCILIATION_INVARIANTS = (
    Invariant(
        "L36",
        "What is posted of a day's commission is what the bill that counts for the day says of the lines that the "
        "books hold too, per community.",
        """
        WITH posted AS (
            SELECT e.source_id AS id, e.community_id, e.legal_entity_id,
                   sum(CASE e.kind WHEN 'commission' THEN e.amount_fen ELSE -e.amount_fen END) AS fen,
                   bool_and(CASE e.kind WHEN 'commission' THEN d.kind = 'commission' AND c.kind = 'wechat_clearing'
                            ELSE d.kind = 'wechat_clearing' AND c.kind = 'commission' END) AS right_accounts
            FROM entries e JOIN accounts d ON d.id = e.debit_account_id JOIN accounts c ON c.id = e.credit_account_id
            WHERE e.kind IN ('commission', 'commission_refund')
              AND NOT EXISTS (SELECT FROM differences f WHERE f.id = e.source_id)
            GROUP BY 1, 2, 3
        ), said AS (
            SELECT reconciliation_id AS id, community_id, legal_entity_id, fee_fen - fee_back_fen AS fen
            FROM statement_sums
        )
        SELECT COALESCE(p.id, s.id) AS id, COALESCE(p.fen, 0) - COALESCE(s.fen, 0) AS difference
        FROM posted p FULL JOIN said s USING (id, community_id, legal_entity_id)
        WHERE COALESCE(p.fen, 0) <> COALESCE(s.fen, 0) OR NOT COALESCE(p.right_accounts, true)""",
    ),
    Invariant(
        "L37",
        "What the fund-flow bill says went to the bank, or came from it, is posted once, as far as the books held it.",
        """
        SELECT m.id, m.posted_fen - COALESCE(sum(CASE WHEN d.kind = 'bank' THEN e.amount_fen ELSE -e.amount_fen END), 0)
               AS difference
        FROM movements m LEFT JOIN entries e ON e.source_id = m.id AND e.kind = 'settled_to_bank'
        LEFT JOIN accounts d ON d.id = e.debit_account_id LEFT JOIN accounts c ON c.id = e.credit_account_id
        GROUP BY m.id
        HAVING m.posted_fen <> COALESCE(sum(CASE WHEN d.kind = 'bank' THEN e.amount_fen ELSE -e.amount_fen END), 0)
            OR NOT COALESCE(bool_and((d.kind, c.kind) IN (('bank', 'wechat_clearing'), ('wechat_clearing', 'bank'))
                 AND m.merchant_account_id = CASE d.kind WHEN 'bank' THEN c.holder_id ELSE d.holder_id END), true)""",
    ),
    Invariant(
        "L38",
        "Money that only WeChat knew lies in suspense as its difference says, and an adjustment is posted exactly when "
        "two people signed it.",
        """
        SELECT id, sum(said_fen) - sum(posted_fen) AS difference FROM (
            SELECT id, abs(placed_fen) AS said_fen, 0::numeric AS posted_fen FROM differences
            UNION ALL SELECT id, amount_fen, 0 FROM adjustments
                WHERE state = 'posted' AND decided_by_staff_id <> asked_by_staff_id
            UNION ALL SELECT e.source_id, 0, e.amount_fen FROM entries e
                JOIN accounts d ON d.id = e.debit_account_id JOIN accounts c ON c.id = e.credit_account_id
                WHERE e.kind IN ('wechat_unidentified', 'foreign_refund')
                  AND (d.kind, c.kind) IN (('wechat_clearing', 'suspense'), ('suspense', 'wechat_clearing'))
            UNION ALL SELECT e.source_id, 0, e.amount_fen FROM entries e
                LEFT JOIN adjustments a ON a.id = e.source_id
                JOIN accounts d ON d.id = e.debit_account_id JOIN accounts c ON c.id = e.credit_account_id
                WHERE e.kind = 'adjustment' AND (d.kind, c.kind) IS NOT DISTINCT FROM (a.debit_kind, a.credit_kind)
        ) both_sides GROUP BY id HAVING sum(said_fen) <> sum(posted_fen)""",
    ),
    Invariant(
        "L39",
        "What WeChat's bill of a day and the books come to differs by exactly the differences of that day; a day that "
        "was read has the one file that counts, kept whole.",
        """
        SELECT r.id, r.wechat_fen - r.our_fen - COALESCE(d.fen, 0) AS difference, r.bill_on
        FROM reconciliations r
        LEFT JOIN (SELECT reconciliation_id, sum(difference_fen) AS fen FROM differences GROUP BY 1) d
          ON d.reconciliation_id = r.id
        LEFT JOIN statements s ON s.id = r.statement_id AND s.state = 'current' AND s.kind = r.kind
          AND s.bill_on = r.bill_on AND s.packed_bytes = (SELECT sum(length(p.body)) FROM statement_parts p
                                                          WHERE p.statement_id = s.id)
        WHERE r.wechat_fen - r.our_fen <> COALESCE(d.fen, 0) OR (r.state = 'read' AND s.id IS NULL)""",
    ),
)
