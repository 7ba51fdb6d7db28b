"""The invariants of closed months and of reversals."""

from payments.invariant import Invariant

PERIODS = (
    Invariant(
        "L40",
        "What was frozen of a closed month is what its entries say, and nothing was posted before it since.",
        """
        WITH closed AS (SELECT legal_entity_id, max(month) AS month FROM closed_periods GROUP BY 1),
        sides AS (
            SELECT e.legal_entity_id, date_trunc('month', e.posted_on::timestamp)::date AS month,
                   e.debit_account_id AS account_id, e.amount_fen AS debit_fen, 0 AS credit_fen
            FROM entries e JOIN closed c ON c.legal_entity_id = e.legal_entity_id
              AND e.posted_on < c.month + interval '1 month'
            UNION ALL
            SELECT e.legal_entity_id, date_trunc('month', e.posted_on::timestamp)::date, e.credit_account_id, 0,
                   e.amount_fen
            FROM entries e JOIN closed c ON c.legal_entity_id = e.legal_entity_id
              AND e.posted_on < c.month + interval '1 month'
        ), counted AS (
            SELECT s.legal_entity_id, s.month, a.community_id, a.kind, sum(s.debit_fen) AS debit_fen,
                   sum(s.credit_fen) AS credit_fen
            FROM sides s JOIN accounts a ON a.id = s.account_id GROUP BY 1, 2, 3, 4
        ), frozen AS (
            SELECT p.legal_entity_id, p.month, b.community_id, b.kind, b.debit_fen, b.credit_fen
            FROM closed_periods p JOIN closed_balances b ON b.closed_period_id = p.id
        )
        SELECT legal_entity_id AS id, month::text AS month, kind, community_id::text AS community_id,
               COALESCE(c.debit_fen, 0) - COALESCE(f.debit_fen, 0) AS difference,
               COALESCE(c.credit_fen, 0) - COALESCE(f.credit_fen, 0) AS credit_difference
        FROM counted c FULL JOIN frozen f USING (legal_entity_id, month, community_id, kind)
        WHERE (c.debit_fen, c.credit_fen) IS DISTINCT FROM (f.debit_fen::numeric, f.credit_fen::numeric)""",
    ),
    Invariant(
        "L41",
        "A reversal that was posted has its one entry, the mirror image of the one it reverses; nothing else is a "
        "reversal.",
        """
        SELECT COALESCE(r.id, m.source_id) AS id, m.id AS entry_id, m.amount_fen - e.amount_fen AS difference
        FROM (SELECT * FROM reversals WHERE state = 'posted') r
        FULL JOIN (SELECT * FROM entries WHERE kind = 'reversal') m ON m.source_id = r.id
        LEFT JOIN entries e ON e.id = r.entry_id
        WHERE r.id IS NULL OR (m.community_id, m.legal_entity_id, m.debit_account_id, m.credit_account_id, m.amount_fen,
                               r.community_id)
            IS DISTINCT FROM (e.community_id, e.legal_entity_id, e.credit_account_id, e.debit_account_id, e.amount_fen,
                              e.community_id)""",
    ),
)
