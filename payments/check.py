"""The invariants of the money, numbered as in ``docs/ledger.md``, each a query that finds what breaks it.

``linli check`` runs them on a live database, tests after every journey. A row found is an id and a difference.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from models.unit_of_work import rows
from payments.check_cash import CASH
from payments.check_held import HELD
from payments.check_period import PERIODS
from payments.check_reconciliation import RECONCILIATION_INVARIANTS
from payments.check_refund import REFUND_INVARIANTS
from payments.invariant import Invariant


@dataclass(frozen=True)
class Violation:
    """One row that breaks an invariant."""

    number: str
    truth: str
    found: dict[str, Any]


INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "L1",
        "What is posted for an attempt is what WeChat says it received, and nothing is posted for an undecided one.",
        """
        SELECT a.id, COALESCE(a.received_fen, 0) - COALESCE(sum(e.amount_fen), 0) AS difference, a.state
        FROM payment_attempts a LEFT JOIN entries e ON e.source_id = a.id
        GROUP BY a.id
        HAVING COALESCE(sum(e.amount_fen), 0) <>
            CASE WHEN a.state IN ('paid', 'suspended') THEN COALESCE(a.received_fen, 0) ELSE 0 END""",
    ),
    Invariant(
        "L2",
        "Every entry of a payment debits the account of its channel: the WeChat clearing account of the merchant "
        "account that received it, cash of who took it, POS clearing, the bank, or what is held for the debtor.",
        """
        SELECT e.id, e.amount_fen AS difference FROM entries e
        LEFT JOIN payment_attempts a ON a.id = e.source_id
        LEFT JOIN payments p ON p.id = a.payment_id
        LEFT JOIN accounts d ON d.id = e.debit_account_id
        WHERE e.kind IN ('payment', 'surplus', 'suspense') AND (d.kind, d.holder_id) IS DISTINCT FROM
            CASE WHEN p.channel IN ('surplus', 'prepaid', 'deposit') THEN ROW(p.channel, p.customer_id)
                 WHEN p.channel = 'cash' THEN ROW('cash_on_hand'::varchar, d.holder_id)
                 WHEN p.channel = 'pos' THEN ROW('pos_clearing'::varchar, NULL::uuid)
                 WHEN p.channel = 'bank_transfer' THEN ROW('bank'::varchar, NULL::uuid)
                 ELSE ROW('wechat_clearing'::varchar, a.merchant_account_id) END""",
    ),
    Invariant(
        "L3",
        "A paid payment is used up: what it paid on bills and its surplus add up to its amount; others have none.",
        """
        SELECT p.id, CASE WHEN p.state = 'paid' THEN p.amount_fen ELSE 0 END - p.surplus_fen
                     - COALESCE(sum(al.amount_fen), 0) AS difference
        FROM payments p LEFT JOIN allocations al ON al.payment_id = p.id AND al.refund_id IS NULL
        GROUP BY p.id
        HAVING CASE WHEN p.state = 'paid' THEN p.amount_fen ELSE 0 END <>
               p.surplus_fen + COALESCE(sum(al.amount_fen), 0)""",
    ),
    Invariant(
        "L4",
        "What a bill counts as paid is what was allocated to it.",
        """
        SELECT b.id, b.paid_fen - COALESCE(sum(al.amount_fen), 0) AS difference
        FROM bills b LEFT JOIN allocations al ON al.bill_id = b.id
        GROUP BY b.id HAVING b.paid_fen <> COALESCE(sum(al.amount_fen), 0)""",
    ),
    Invariant(
        "L5",
        "No bill line is paid more than its amount.",
        """
        SELECT l.id, sum(al.amount_fen) - l.amount_fen AS difference
        FROM bill_lines l JOIN allocations al ON al.bill_line_id = l.id
        GROUP BY l.id HAVING sum(al.amount_fen) > l.amount_fen""",
    ),
    Invariant(
        "L6",
        "The lines of an issued bill add up to it.",
        """
        SELECT b.id, b.amount_fen - COALESCE(sum(l.amount_fen), 0) AS difference
        FROM bills b LEFT JOIN bill_lines l ON l.bill_id = b.id
        WHERE b.state <> 'draft'
        GROUP BY b.id HAVING b.amount_fen <> COALESCE(sum(l.amount_fen), 0)""",
    ),
    Invariant(
        "L7",
        "Per legal entity and community, payments credit received, prepaid and deposit by exactly what they paid on "
        "bills of those kinds.",
        """
        WITH journal AS (
            SELECT a.legal_entity_id, a.community_id, a.kind, sum(e.amount_fen) AS fen
            FROM entries e JOIN accounts a ON a.id = e.credit_account_id WHERE e.kind = 'payment'
            GROUP BY 1, 2, 3
        ), allocated AS (
            SELECT b.legal_entity_id, b.community_id,
                   CASE b.kind WHEN 'charge' THEN 'received' ELSE b.kind END AS kind, sum(al.amount_fen) AS fen
            FROM allocations al JOIN bills b ON b.id = al.bill_id WHERE al.refund_id IS NULL GROUP BY 1, 2, 3
        )
        SELECT COALESCE(j.community_id, al.community_id) AS id,
               COALESCE(j.fen, 0) - COALESCE(al.fen, 0) AS difference, COALESCE(j.kind, al.kind) AS kind
        FROM journal j FULL JOIN allocated al USING (legal_entity_id, community_id, kind)
        WHERE COALESCE(j.fen, 0) <> COALESCE(al.fen, 0)""",
    ),
    Invariant(
        "L8",
        "What the journal holds as surplus, per debtor, is the surplus of payments that nobody has decided about.",
        """
        WITH journal AS (
            SELECT a.holder_id AS customer_id,
                   sum(CASE WHEN a.id = e.credit_account_id THEN e.amount_fen ELSE -e.amount_fen END) AS fen
            FROM entries e JOIN accounts a ON a.id IN (e.credit_account_id, e.debit_account_id)
            WHERE a.kind = 'surplus' GROUP BY 1
        ), counted AS (
            SELECT customer_id, sum(surplus_fen) AS fen FROM payments WHERE surplus_fate IS NULL GROUP BY 1
        )
        SELECT COALESCE(j.customer_id, c.customer_id) AS id, COALESCE(j.fen, 0) - COALESCE(c.fen, 0) AS difference
        FROM journal j FULL JOIN counted c USING (customer_id) WHERE COALESCE(j.fen, 0) <> COALESCE(c.fen, 0)""",
    ),
    Invariant(
        "L9",
        "A paid payment has exactly one paid attempt and an open one exactly one undecided; decided ones have none.",
        """
        SELECT p.id, count(*) FILTER (WHERE a.state = 'paid') AS paid_attempts,
               count(*) FILTER (WHERE a.state IN ('created', 'prepaid')) AS undecided_attempts, p.state
        FROM payments p LEFT JOIN payment_attempts a ON a.payment_id = p.id
        GROUP BY p.id
        HAVING count(*) FILTER (WHERE a.state = 'paid') <> CASE WHEN p.state = 'paid' THEN 1 ELSE 0 END
            OR count(*) FILTER (WHERE a.state = 'suspended') <> CASE WHEN p.state = 'suspended' THEN 1 ELSE 0 END
            OR count(*) FILTER (WHERE a.state IN ('created', 'prepaid')) <>
               CASE WHEN p.state = 'open' THEN 1 ELSE 0 END""",
    ),
    Invariant(
        "L10",
        "A payment's choice of bills is live exactly while it is open, and adds up to its amount.",
        """
        SELECT p.id, p.amount_fen - COALESCE(sum(pb.amount_fen), 0) AS difference
        FROM payments p LEFT JOIN payment_bills pb ON pb.payment_id = p.id
        GROUP BY p.id
        HAVING p.amount_fen <> COALESCE(sum(pb.amount_fen), 0)
            OR bool_or(pb.live) IS DISTINCT FROM (p.state = 'open')
            OR bool_and(pb.live) IS DISTINCT FROM (p.state = 'open')""",
    ),
    Invariant(
        "L11",
        "Receipt numbers have no gaps and no doubles, and the counter stands at the last one.",
        """
        SELECT c.id, c.last_sequence - count(r.id) AS difference, c.year
        FROM receipt_counters c LEFT JOIN receipts r
          ON r.legal_entity_id = c.legal_entity_id AND r.community_id = c.community_id AND r.year = c.year
        GROUP BY c.id HAVING count(r.id) <> c.last_sequence OR COALESCE(max(r.sequence), 0) <> c.last_sequence""",
    ),
    Invariant(
        "L12",
        "A receipt says the amount of its payment, and its items add up to it.",
        """
        SELECT r.id, r.amount_fen - p.amount_fen AS difference
        FROM receipts r JOIN payments p ON p.id = r.payment_id
        WHERE r.amount_fen <> p.amount_fen OR r.amount_fen <>
            (SELECT sum((item ->> 'amount_fen')::bigint) FROM jsonb_array_elements(r.content -> 'items') item)""",
    ),
    Invariant(
        "L13",
        "Every payment that was settled more than five minutes ago has had its consequences: a receipt and a message.",
        """
        SELECT p.id, p.amount_fen AS difference FROM payments p
        JOIN payment_attempts a ON a.payment_id = p.id AND a.state = 'paid'
        JOIN entries e ON e.source_id = a.id
        LEFT JOIN receipts r ON r.payment_id = p.id
        LEFT JOIN messages m ON m.source_id = p.id AND m.kind = 'payment_received'
        WHERE p.state = 'paid' AND e.posted_at < now() - interval '5 minutes'
          AND (r.id IS NULL OR (m.id IS NULL AND p.payer_resident_id IS NOT NULL))
        GROUP BY p.id""",
    ),
    Invariant(
        "L14",
        "No undecided attempt, of a payment or a refund, has been waiting for the janitor for more than ten minutes.",
        """
        SELECT id, extract(epoch FROM now() - next_check_at)::bigint AS overdue_s FROM (
            SELECT id, next_check_at FROM payment_attempts UNION ALL SELECT id, next_check_at FROM refund_attempts) a
        WHERE next_check_at < now() - interval '10 minutes'""",
    ),
    Invariant(
        "L15",
        "Every suspended attempt and every surplus has its case, open while nothing is decided about the surplus.",
        """
        SELECT a.id, a.received_fen AS difference, a.state FROM payment_attempts a
        JOIN payments p ON p.id = a.payment_id
        LEFT JOIN discrepancies s ON s.source_id = a.id AND s.kind = 'suspense'
        LEFT JOIN discrepancies o ON o.source_id = a.id AND o.kind = 'surplus'
        WHERE (a.state = 'suspended' AND s.id IS NULL)
           OR (a.state = 'paid' AND p.surplus_fen > 0
               AND (o.id IS NULL OR (p.surplus_fate IS NULL AND o.state <> 'open')))""",
    ),
    Invariant(
        "L16",
        "No receipt file has been waiting for its turn for more than ten minutes, and none was given up.",
        """
        SELECT id, receipt_id, attempts, detail FROM receipt_files
        WHERE state = 'failed' OR next_check_at < now() - interval '10 minutes'""",
    ),
    Invariant(
        "L17",
        "No upload of shipping information has been waiting for its turn for more than ten minutes, and none failed.",
        """
        SELECT id, payment_id, attempts, detail FROM shipping_uploads
        WHERE state = 'failed' OR next_check_at < now() - interval '10 minutes'""",
    ),
    Invariant(
        "L18",
        "What a payment counts as reserved and as refunded is what its refunds add up to, never more than came.",
        """
        SELECT p.id, p.reserved_fen + p.refunded_fen - COALESCE(sum(r.amount_fen), 0) AS difference
        FROM payments p LEFT JOIN refunds r ON r.payment_id = p.id
            AND r.state IN ('approved', 'processing', 'failed', 'refunded')
        GROUP BY p.id
        HAVING p.refunded_fen <> COALESCE(sum(r.amount_fen) FILTER (WHERE r.state = 'refunded'), 0)
            OR p.reserved_fen <> COALESCE(sum(r.amount_fen) FILTER (WHERE r.state <> 'refunded'), 0)
            OR p.reserved_fen + p.refunded_fen > p.amount_fen""",
    ),
    Invariant(
        "L19",
        "What the journal holds as refund_pending, per merchant account (of money that came without one: per legal "
        "entity), is the refunds that are under way.",
        """
        WITH journal AS (
            SELECT COALESCE(a.holder_id, a.legal_entity_id) AS merchant_account_id,
                   sum(CASE WHEN a.id = e.credit_account_id THEN e.amount_fen ELSE -e.amount_fen END) AS fen
            FROM entries e JOIN accounts a ON a.id IN (e.credit_account_id, e.debit_account_id)
            WHERE a.kind = 'refund_pending' GROUP BY 1
        ), counted AS (
            SELECT COALESCE(merchant_account_id, legal_entity_id) AS merchant_account_id, sum(amount_fen) AS fen
            FROM refunds WHERE state IN ('approved', 'processing', 'failed') GROUP BY 1
        )
        SELECT COALESCE(j.merchant_account_id, c.merchant_account_id) AS id,
               COALESCE(j.fen, 0) - COALESCE(c.fen, 0) AS difference
        FROM journal j FULL JOIN counted c USING (merchant_account_id)
        WHERE COALESCE(j.fen, 0) <> COALESCE(c.fen, 0)""",
    ),
    Invariant(
        "L20",
        "A refund has exactly its entries, each of its amount: approved; and refunded when it is, reversed when it was "
        "cancelled; none while it is only asked for, or when it was rejected.",
        """
        SELECT r.id, r.state, string_agg(e.kind, ' ' ORDER BY e.kind) AS entries
        FROM refunds r LEFT JOIN entries e ON e.source_id = r.id
        LEFT JOIN accounts d ON d.id = e.debit_account_id LEFT JOIN accounts c ON c.id = e.credit_account_id
        CROSS JOIN LATERAL (SELECT
            CASE r.kind WHEN 'bill' THEN 'received'::varchar ELSE r.kind END AS source,
            CASE WHEN r.kind <> 'bill' THEN r.customer_id END AS source_holder,
            CASE WHEN r.method = 'bank' THEN 'bank' WHEN r.method = 'cash' THEN 'cash_on_hand'
                 WHEN EXISTS (SELECT FROM refund_attempts ra JOIN differences f ON f.number = ra.out_refund_no
                              AND f.merchant_account_id = ra.merchant_account_id AND f.about = 'refund'
                              WHERE ra.refund_id = r.id AND f.placed_fen <> 0) THEN 'suspense'
                 ELSE 'wechat_clearing' END::varchar AS leaves,
            CASE r.method WHEN 'bank' THEN NULL WHEN 'cash' THEN c.holder_id ELSE r.merchant_account_id END
                AS leaves_holder) x
        GROUP BY r.id
        HAVING string_agg(e.kind, ' ' ORDER BY e.kind) IS DISTINCT FROM CASE
                WHEN r.state = 'refunded' THEN 'refund_approved refunded'
                WHEN r.state = 'cancelled' THEN 'refund_approved refund_cancelled'
                WHEN r.state NOT IN ('asked', 'rejected') THEN 'refund_approved' END
            OR bool_or(e.amount_fen <> r.amount_fen)
            OR bool_or((d.kind, c.kind, d.holder_id, c.holder_id) IS DISTINCT FROM CASE e.kind
                WHEN 'refund_approved' THEN
                    ROW(x.source, 'refund_pending'::varchar, x.source_holder, r.merchant_account_id)
                WHEN 'refunded' THEN
                    ROW('refund_pending'::varchar, x.leaves, r.merchant_account_id, x.leaves_holder)
                ELSE ROW('refund_pending'::varchar, x.source, r.merchant_account_id, x.source_holder) END)
               FILTER (WHERE e.id IS NOT NULL)""",
    ),
    Invariant(
        "L21",
        "A refund's attempts say what it says: of one that WeChat gives back, one that is open while it is approved or "
        "processing, one that succeeded when it is refunded; none that is open otherwise.",
        """
        SELECT r.id, r.state, string_agg(a.state, ' ' ORDER BY a.id) AS attempts
        FROM refunds r LEFT JOIN refund_attempts a ON a.refund_id = r.id
        GROUP BY r.id
        HAVING COALESCE(string_agg(a.state, ' ') FILTER (WHERE a.state <> 'closed'), 'closed') <> ALL (CASE
                WHEN r.method <> 'wechat_original' THEN ARRAY['closed']
                WHEN r.state = 'approved' THEN ARRAY['created']
                WHEN r.state = 'processing' THEN ARRAY['accepted']
                WHEN r.state = 'failed' THEN ARRAY['created', 'accepted', 'abnormal', 'closed']
                WHEN r.state = 'refunded' THEN ARRAY['succeeded'] ELSE ARRAY['closed'] END)
            OR bool_or(a.amount_fen <> r.amount_fen)
            OR (count(a.id) = 0) <> (r.state IN ('asked', 'rejected'))
               AND r.method = 'wechat_original'""",
    ),
    Invariant(
        "L22",
        "A refund that waits for a person has an open case, so that somebody looks.",
        """
        SELECT r.id, r.problem FROM refunds r
        LEFT JOIN discrepancies d ON d.source_id = r.id AND d.kind = 'refund_stuck' AND d.state = 'open'
        WHERE (r.state = 'failed' OR (r.state = 'approved' AND r.problem IS NOT NULL)) AND d.id IS NULL""",
    ),
    Invariant(
        "L23",
        "What was decided about a surplus happened, whole and once: returned by a refund, or kept by a payment.",
        """
        SELECT p.id, p.surplus_fate, COALESCE(r.amount_fen, 0) AS returned_fen, COALESCE(k.amount_fen, 0) AS kept_fen
        FROM payments p
        LEFT JOIN (SELECT payment_id, sum(amount_fen) AS amount_fen FROM refunds
                   WHERE kind = 'surplus' AND state <> 'cancelled' GROUP BY 1) r ON r.payment_id = p.id
        LEFT JOIN (SELECT surplus_of_payment_id AS payment_id, sum(amount_fen) AS amount_fen FROM payments
                   WHERE state = 'paid' GROUP BY 1) k ON k.payment_id = p.id
        WHERE COALESCE(r.amount_fen, 0) <> CASE p.surplus_fate WHEN 'returned' THEN p.surplus_fen ELSE 0 END
           OR COALESCE(k.amount_fen, 0) <> CASE p.surplus_fate WHEN 'kept' THEN p.surplus_fen ELSE 0 END""",
    ),
    Invariant(
        "L24",
        "Through a merchant account no more went back or to the bank than came: its WeChat clearing accounts are not "
        "overdrawn, but for refunds that no fund-flow bill tells of yet and differences that are open.",
        """
        SELECT a.holder_id AS id, sum(CASE WHEN a.id = e.debit_account_id THEN e.amount_fen ELSE -e.amount_fen END)
               AS difference
        FROM accounts a JOIN entries e ON a.id IN (e.debit_account_id, e.credit_account_id)
        LEFT JOIN (SELECT merchant_account_id, (max(bill_on) + 1) AT TIME ZONE 'Asia/Shanghai' AS until
                   FROM reconciliations WHERE kind = 'fund_flow' AND state = 'read' GROUP BY 1) told
          ON told.merchant_account_id = a.holder_id
        LEFT JOIN (SELECT merchant_account_id, sum(abs(difference_fen)) AS fen FROM differences
                   WHERE state = 'open' GROUP BY 1) open ON open.merchant_account_id = a.holder_id
        WHERE a.kind = 'wechat_clearing'
          AND NOT COALESCE(e.kind IN ('refunded', 'foreign_refund') AND e.occurred_at >= told.until, false)
        GROUP BY a.holder_id
        HAVING sum(CASE WHEN a.id = e.debit_account_id THEN e.amount_fen ELSE -e.amount_fen END)
               < -COALESCE(max(open.fen), 0)""",
    ),
    Invariant(
        "L25",
        "Who paid has heard of every refund that was posted more than five minutes ago.",
        """
        SELECT r.id, r.amount_fen AS difference FROM refunds r
        JOIN payments p ON p.id = r.payment_id AND p.payer_resident_id IS NOT NULL
        JOIN entries e ON e.source_id = r.id AND e.kind = 'refunded'
        LEFT JOIN messages m ON m.source_id = r.id AND m.kind = 'refunded'
        WHERE e.posted_at < now() - interval '5 minutes' AND m.id IS NULL""",
    ),
    *HELD,
    *REFUND_INVARIANTS,
    *CASH,
    *RECONCILIATION_INVARIANTS,
    *PERIODS,
)


async def violations(limit: int = 20) -> list[Violation]:
    """Everything that breaks an invariant, at most ``limit`` rows of each."""
    return [
        Violation(invariant.number, invariant.truth, {name: _plain(value) for name, value in found.items()})
        for invariant in INVARIANTS
        for found in await rows(f"SELECT * FROM ({invariant.sql}) broken LIMIT $1", limit)  # noqa: S608 - our own text
    ]


def _plain(value: Any) -> Any:
    # PostgreSQL sums bigint into numeric; fen are whole.
    return int(value) if isinstance(value, Decimal) else value
