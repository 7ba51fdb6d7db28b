"""流水: the journal of one room or one payment told as a story, from the bill to the receipt and back again."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from kit.money import format_yuan
from kit.paging import Page, decode_cursor, page_of
from models.access import Act, Actor, require
from models.base import get_visible
from models.payment import Payment
from models.room import Room
from models.unit_of_work import rows
from services.finance_words import word

_OF_A_ROOM = """
told_bills AS (SELECT * FROM bills WHERE room_id = $1 AND state <> 'draft'),
told_payments AS (
    SELECT * FROM payments
    WHERE id IN (SELECT payment_id FROM payment_bills WHERE bill_id IN (SELECT id FROM told_bills)))
"""
# With a payment goes the one that its kept surplus made.
_OF_A_PAYMENT = """
told_payments AS (SELECT * FROM payments WHERE id = $1 OR surplus_of_payment_id = $1),
told_bills AS (
    SELECT * FROM bills WHERE state <> 'draft'
        AND id IN (SELECT bill_id FROM payment_bills WHERE payment_id IN (SELECT id FROM told_payments)))
"""
# ``rank`` tells what comes of what, where it happened at one instant. WeChat tells whole seconds, so an order that was
# paid at once would seem paid before it was opened: its second is taken to its end, or to where we posted it.
_EVENTS = """
told_attempts AS (SELECT * FROM payment_attempts WHERE payment_id IN (SELECT id FROM told_payments)),
told_refunds AS (SELECT * FROM refunds WHERE payment_id IN (SELECT id FROM told_payments)),
events AS (
    SELECT issued_at AS sort_at, 1 AS rank, id::text AS key, issued_at AS at, 'bill_issued' AS event, amount_fen,
        id AS bill_id, NULL::uuid AS payment_id, title AS subject, NULL::text AS debit, NULL::text AS credit
    FROM told_bills WHERE issued_at IS NOT NULL
    UNION ALL
    SELECT voided_at, 2, id::text, voided_at, 'bill_voided', amount_fen, id, NULL, title || '：' || void_reason,
        NULL, NULL
    FROM told_bills WHERE voided_at IS NOT NULL
    UNION ALL
    SELECT a.created_at, 3, a.id::text, a.created_at, 'order_opened', a.amount_fen, NULL, p.id, a.out_trade_no,
        p.channel, NULL
    FROM told_attempts a JOIN told_payments p ON p.id = a.payment_id
    UNION ALL
    SELECT greatest(least(a.paid_at + interval '999999 microseconds', e.posted_at), a.created_at), 4, a.id::text,
        a.paid_at, 'paid', COALESCE(a.received_fen, a.amount_fen),
        NULL, p.id, a.out_trade_no, p.channel, NULL
    FROM told_attempts a JOIN told_payments p ON p.id = a.payment_id
    LEFT JOIN LATERAL (SELECT min(posted_at) AS posted_at FROM entries WHERE source_id = a.id) e ON true
    WHERE a.paid_at IS NOT NULL
    UNION ALL
    SELECT closed_at, 5, id::text, closed_at, 'closed', amount_fen, NULL, id, close_reason, NULL, NULL
    FROM told_payments WHERE closed_at IS NOT NULL
    UNION ALL
    SELECT approved_at, 6, id::text, approved_at, 'refund_asked', amount_fen, NULL, payment_id, reason, NULL, NULL
    FROM told_refunds
    UNION ALL
    SELECT greatest(least(r.refunded_at + interval '999999 microseconds', e.posted_at), r.approved_at), 7, r.id::text,
        r.refunded_at, 'refund_arrived', r.amount_fen, NULL, r.payment_id, '', NULL, NULL
    FROM told_refunds r LEFT JOIN entries e ON e.source_id = r.id AND e.kind = 'refunded'
    WHERE r.refunded_at IS NOT NULL
    UNION ALL
    SELECT cancelled_at, 7, id::text, cancelled_at, 'refund_given_up', amount_fen, NULL, payment_id, cancel_reason,
        NULL, NULL
    FROM told_refunds WHERE cancelled_at IS NOT NULL
    UNION ALL
    SELECT e.posted_at, 8, lpad(e.id::text, 19, '0'), e.posted_at, 'entry', e.amount_fen, NULL, s.payment_id, e.kind,
        d.kind, c.kind
    FROM (SELECT id, payment_id FROM told_attempts UNION ALL SELECT id, payment_id FROM told_refunds) s
    JOIN entries e ON e.source_id = s.id
    JOIN accounts d ON d.id = e.debit_account_id JOIN accounts c ON c.id = e.credit_account_id
    UNION ALL
    SELECT al.created_at, 9, lpad(al.id::text, 19, '0'), al.created_at, 'allocated', al.amount_fen, b.id, al.payment_id,
        b.title, NULL, NULL
    FROM told_bills b JOIN allocations al ON al.bill_id = b.id
    WHERE al.payment_id IN (SELECT id FROM told_payments)
    UNION ALL
    SELECT created_at, 10, id::text, created_at, 'receipt_issued', amount_fen, NULL, payment_id, number, NULL, NULL
    FROM receipts WHERE payment_id IN (SELECT id FROM told_payments)
    UNION ALL
    SELECT created_at, 11, id::text, created_at, 'case_opened', amount_fen, NULL, payment_id, kind, NULL, NULL
    FROM discrepancies WHERE payment_id IN (SELECT id FROM told_payments)
    UNION ALL
    SELECT resolved_at, 12, id::text, resolved_at, 'case_resolved', amount_fen, NULL, payment_id,
        kind || ' ' || resolution, NULL, NULL
    FROM discrepancies WHERE resolved_at IS NOT NULL AND payment_id IN (SELECT id FROM told_payments)
)
SELECT * FROM events WHERE $2::timestamptz IS NULL OR (sort_at, rank, key) > ($2, $3::int, $4::text)
ORDER BY sort_at, rank, key LIMIT $5
"""
_TOLD = {
    "bill_issued": ("出账：{subject}，{yuan} 元", "Bill issued: {subject}, ¥{yuan}"),
    "bill_voided": ("账单作废：{subject}，{yuan} 元", "Bill voided: {subject}, ¥{yuan}"),
    "order_opened": ("发起{debit}，{yuan} 元，单号 {subject}", "{debit} opened, ¥{yuan}, number {subject}"),
    "paid": ("{debit}成功，{yuan} 元，单号 {subject}", "{debit}: paid ¥{yuan}, number {subject}"),
    "closed": ("支付关闭，{yuan} 元（{subject}）", "Payment of ¥{yuan} closed ({subject})"),
    "refund_asked": ("批准退款 {yuan} 元：{subject}", "Refund of ¥{yuan} approved: {subject}"),
    "refund_arrived": ("退款到账 {yuan} 元", "Refund of ¥{yuan} arrived"),
    "refund_given_up": ("退款取消 {yuan} 元：{subject}", "Refund of ¥{yuan} cancelled: {subject}"),
    "entry": (
        "记账：借 {debit}，贷 {credit}，{yuan} 元（{subject}）",
        "Posted: debit {debit}, credit {credit}, ¥{yuan} ({subject})",
    ),
    "allocated": ("入账到 {subject}，{yuan} 元", "Allocated to {subject}, ¥{yuan}"),
    "receipt_issued": ("开具收据 {subject}，{yuan} 元", "Receipt {subject}, ¥{yuan}"),
    "case_opened": ("生成待处理差错 {subject}，{yuan} 元", "Case opened: {subject}, ¥{yuan}"),
    "case_resolved": ("差错已处理 {subject}，{yuan} 元", "Case resolved: {subject}, ¥{yuan}"),
}


async def story_of_room(actor: Actor, room_id: UUID, cursor: str | None, limit: int) -> Page[dict[str, Any]]:
    """What happened to the bills of a room and to the payments of them, the oldest first. An entry is of its whole
    payment, which may have paid bills of another room too; allocations are told for the room's own bills only.

    Refuses NotFound for a room that is not the actor's to see, NotPermitted without the right to read its journal.
    """
    room = await get_visible(Room.visible_to(actor), room_id)
    require(actor, Act.JOURNAL_READ, community_id=room.community_id)
    return await _tell(_OF_A_ROOM, room.id, cursor, limit)


async def story_of_payment(actor: Actor, payment_id: UUID, cursor: str | None, limit: int) -> Page[dict[str, Any]]:
    """What happened to a payment, its bills, its refunds and what its surplus paid, the oldest first. Refuses as
    ``story_of_room``."""
    payment = await get_visible(Payment.visible_to(actor), payment_id)
    require(actor, Act.JOURNAL_READ, community_id=payment.community_id)
    return await _tell(_OF_A_PAYMENT, payment.id, cursor, limit)


def sentence(found: Mapping[str, Any], language: str) -> str:
    """The event in words, Chinese or English; amounts in yuan."""
    chinese, english = _TOLD[found["event"]]
    return (english if language == "en" else chinese).format(
        subject=word(found["subject"], language),
        debit=word(found["debit"] or "", language),
        credit=word(found["credit"] or "", language),
        yuan=format_yuan(found["amount_fen"]),
    )


async def _tell(of: str, row_id: UUID, cursor: str | None, limit: int) -> Page[dict[str, Any]]:
    after = decode_cursor(cursor, (datetime.fromisoformat, int, str)) if cursor else [None, None, None]
    found = await rows(f"WITH {of}, {_EVENTS}", row_id, *after, limit + 1)
    return page_of(found, limit, lambda one: (one["sort_at"], one["rank"], one["key"]))
