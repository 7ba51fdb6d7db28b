"""What WeChat calls: believed only when signed, kept before it is acted on, applied through the one settle.

The order of the steps is the safety: size → headers → window → serial → signature → decrypt → JSON → stored → one
transaction that compares and posts → answer. Nothing before the signature costs more than a hash, and nothing of an
unsigned body is ever kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from kit import clock, strict_json
from kit.crypto import Undecipherable
from kit.errors import BodyTooLarge, NotFound, Refusal
from kit.ids import new_id
from models.metric import CALLBACKS
from models.notification import NotificationKind, NotificationOutcome
from models.unit_of_work import row, rows, unit_of_work
from payments.errors import NotificationMalformed, NotificationUnverified, UnknownOrder
from payments.gateways.merchant_keys import MerchantKeys
from payments.gateways.wechat_pay import decrypt_resource, paid_fact
from payments.gateways.wechat_refund import refund_fact
from payments.merchant import keys_of
from payments.refund_foreign import record_foreign_refund
from payments.refund_news import Heard, hear_refund
from payments.settle import Notice, Settled, settle
from payments.unknown_serial import note_unknown_serial

log = structlog.get_logger()

MAX_BYTES = 64 * 1024
ALARM_AFTER = 3  # deliveries of a notice about an order that we do not know
_EVENTS = {
    NotificationKind.PAYMENT: {"TRANSACTION.SUCCESS"},
    NotificationKind.REFUND: {"REFUND.SUCCESS", "REFUND.ABNORMAL", "REFUND.CLOSED"},
}
_DONE = (NotificationOutcome.APPLIED, NotificationOutcome.QUARANTINED)

# A repeat finds its row and only counts: the outcome is decided by the work, never by the delivery.
_KEEP = """
INSERT INTO notifications (id, merchant_account_id, notification_id, noticed_at, kind, event_type, envelope, outcome,
    detail, deliveries, first_received_at, last_received_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, 'received', '', 1, $8, $8)
ON CONFLICT (merchant_account_id, notification_id, noticed_at)
DO UPDATE SET deliveries = notifications.deliveries + 1, last_received_at = EXCLUDED.last_received_at
RETURNING id, outcome, deliveries
"""
_MARK = "UPDATE notifications SET outcome = $3, detail = $4 WHERE id = $1 AND noticed_at = $2"


@dataclass(frozen=True)
class _Notice:
    notification_id: str
    noticed_at: datetime
    event_type: str
    resource: dict[str, Any]


async def receive(
    kind: NotificationKind, merchant_account_id: UUID, headers: Mapping[str, str], body: bytes
) -> NotificationOutcome:
    """Work one delivery. ``headers`` have lower-case names; ``body`` is raw, as it came.

    APPLIED and QUARANTINED mean that WeChat may rest (204). Everything else raises: BodyTooLarge, NotFound (no such
    merchant account), NotificationUnverified and NotificationMalformed for what is not WeChat's clear word,
    UnknownOrder (503) for what it shall say again.
    """
    try:
        outcome = await _receive(kind, merchant_account_id, headers, body)
    except Refusal as refusal:
        CALLBACKS.labels(kind.value, refusal.code).inc()
        raise
    except Exception:
        CALLBACKS.labels(kind.value, "fault").inc()
        raise
    CALLBACKS.labels(kind.value, outcome.value).inc()
    return outcome


async def _receive(
    kind: NotificationKind, merchant_account_id: UUID, headers: Mapping[str, str], body: bytes
) -> NotificationOutcome:
    if len(body) > MAX_BYTES:
        raise BodyTooLarge()
    keys = await keys_of(merchant_account_id)
    if keys is None:
        raise NotFound()
    try:
        notice = _open(keys, headers, body)
    except NotificationUnverified:
        if keys.lacks(headers):
            await note_unknown_serial(merchant_account_id, headers["wechatpay-serial"])
        raise
    kept = await _keep(kind, merchant_account_id, notice, body)
    if NotificationOutcome(kept["outcome"]) in _DONE:
        return NotificationOutcome(kept["outcome"])
    if notice.event_type not in _EVENTS[kind]:
        return await _cannot_place(kept, notice)
    work = _work_payment if kind is NotificationKind.PAYMENT else _work_refund
    try:
        worked = await work(merchant_account_id, notice.resource, (kept["id"], notice.noticed_at))
    except ValueError as error:
        await _mark(kept["id"], notice.noticed_at, NotificationOutcome.RECEIVED, f"field {error}")
        raise NotificationMalformed(field=str(error)) from error
    if worked is None:
        return await _cannot_place(kept, notice)
    outcome = NotificationOutcome.QUARANTINED if worked.doubtful else NotificationOutcome.APPLIED
    if not worked.marked:
        await _mark(kept["id"], notice.noticed_at, outcome, worked.detail)
    log.info("notification_worked", outcome=str(outcome), detail=worked.detail)
    return outcome


@dataclass(frozen=True)
class _Worked:
    """What came of a notice that could be placed."""

    doubtful: bool
    detail: str
    marked: bool = False  # the notice is marked already, with its money


async def _work_payment(merchant_account_id: UUID, resource: dict[str, Any], notice: Notice) -> _Worked | None:
    settlement = await settle(merchant_account_id, paid_fact(resource), asked=False, notice=notice)
    if settlement.outcome is Settled.UNKNOWN_ORDER:
        return None
    doubtful = settlement.outcome is Settled.DOUBTFUL
    return _Worked(doubtful, ",".join(settlement.mismatches), marked=settlement.outcome is Settled.APPLIED)


async def _work_refund(merchant_account_id: UUID, resource: dict[str, Any], _notice: Notice) -> _Worked | None:
    fact = refund_fact(resource)
    news = await hear_refund(merchant_account_id, fact, asked=False)
    if news.outcome is not Heard.UNKNOWN_REFUND:
        return _Worked(news.outcome is Heard.DOUBTFUL, ",".join(news.mismatches))
    # Our numbers are committed before WeChat hears of them, so this one was made by somebody else's hand.
    found = await record_foreign_refund(merchant_account_id, fact)
    return _Worked(True, "foreign_refund") if found else None


def _open(keys: MerchantKeys, headers: Mapping[str, str], body: bytes) -> _Notice:
    """Verify, decrypt and read. A probe (WECHATPAY/SIGNTEST/…) fails here like any other wrong signature."""
    if not keys.verifies(headers, body, clock.unix_s()):
        raise NotificationUnverified()
    try:
        envelope = strict_json.loads(body)
        resource = decrypt_resource(keys, envelope["resource"])
        noticed_at = datetime.fromisoformat(envelope["create_time"])
        if noticed_at.tzinfo is None:
            raise ValueError("create_time")
        notification_id, event_type = str(envelope["id"]), str(envelope["event_type"])
    except Undecipherable as error:
        raise NotificationUnverified() from error
    except (Refusal, KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotificationMalformed() from error
    if not 0 < len(notification_id) <= 64 or len(event_type) > 64:
        raise NotificationMalformed()
    return _Notice(notification_id, noticed_at, event_type, resource)


@unit_of_work
async def _keep(kind: NotificationKind, merchant_account_id: UUID, notice: _Notice, body: bytes) -> dict[str, Any]:
    kept = await row(
        _KEEP,
        new_id(),
        merchant_account_id,
        notice.notification_id,
        notice.noticed_at,
        kind.value,
        notice.event_type,
        body.decode(),
        clock.now(),
    )
    assert kept is not None
    return kept


@unit_of_work
async def _mark(notification: UUID, noticed_at: datetime, outcome: NotificationOutcome, detail: str) -> None:
    await rows(_MARK, notification, noticed_at, outcome.value, detail[:200])


async def _cannot_place(kept: dict[str, Any], notice: _Notice) -> NotificationOutcome:
    """WeChat says something true about an order that is not here: perhaps not yet. It shall say it again."""
    await _mark(kept["id"], notice.noticed_at, NotificationOutcome.UNKNOWN_ORDER, notice.event_type)
    report = log.error if kept["deliveries"] >= ALARM_AFTER else log.warning
    report("notification_unknown_order", deliveries=kept["deliveries"], event_type=notice.event_type)
    raise UnknownOrder()
