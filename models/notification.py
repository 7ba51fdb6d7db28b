"""What WeChat sent, kept before it is acted on; partitioned by month."""

from enum import StrEnum

from tortoise import fields
from tortoise.models import Model

from kit import clock
from kit.ids import new_id


class NotificationKind(StrEnum):
    """What a notification is about."""

    PAYMENT = "payment"
    REFUND = "refund"


class NotificationOutcome(StrEnum):
    """What came of it. Only ``applied`` and ``quarantined`` are answered 204; any other is worked again on a repeat."""

    RECEIVED = "received"  # stored, not yet worked (or the work was interrupted)
    APPLIED = "applied"  # its money is posted
    QUARANTINED = "quarantined"  # it fails our checks; WeChat is asked
    UNKNOWN_ORDER = "unknown_order"  # no such order here (yet)


class Notification(Model):
    """A verified callback. Unique: (merchant account, notification id, noticed_at) — WeChat repeats a notification
    with the same id and create time, and the partition key must be part of every unique index.

    ``resource`` stays encrypted as it came: it holds the payer's openid.
    """

    id = fields.UUIDField(primary_key=True, default=new_id)
    merchant_account_id = fields.UUIDField()
    notification_id = fields.CharField(max_length=64)
    noticed_at = fields.DatetimeField()  # the envelope's create_time
    kind = fields.CharEnumField(NotificationKind, max_length=32)
    event_type = fields.CharField(max_length=64)
    envelope = fields.TextField()
    outcome = fields.CharEnumField(NotificationOutcome, max_length=32, default=NotificationOutcome.RECEIVED)
    detail = fields.CharField(max_length=200, default="")
    deliveries = fields.IntField(default=1)
    first_received_at = fields.DatetimeField(default=clock.now)
    last_received_at = fields.DatetimeField(default=clock.now)

    class Meta:
        table = "notifications"
