"""Messages to residents: queued with the business row, sent by a job, told once."""

from enum import StrEnum

from tortoise import fields
from tortoise.queryset import QuerySet

from kit.state_machine import StateMachine
from models.access import Act, Actor
from models.base import Row, json_field


class MessageKind(StrEnum):
    """What is told. Each app maps kinds to its own subscription templates."""

    PAYMENT_RECEIVED = "payment_received"  # 缴费成功
    REFUNDED = "refunded"  # 退款到账
    SURPLUS_KEPT = "surplus_kept"  # 溢收款已转存或抵扣
    HOUSEHOLD_JOINED = "household_joined"  # somebody was bound to your room
    REQUEST_DECIDED = "request_decided"  # 入住申请结果


class MessageState(StrEnum):
    """The life of a message."""

    QUEUED = "queued"
    SENT = "sent"
    REFUSED = "refused"  # the person has no subscription left (43101), or none was ever given: normal
    FAILED = "failed"  # WeChat refused it for another reason, or it could not be sent in time


MESSAGE_MACHINE = StateMachine(
    noun="message",
    moves={MessageState.QUEUED: (MessageState.SENT, MessageState.REFUSED, MessageState.FAILED)},
)


class Message(Row):
    """One message to one resident about one thing. Unique: (kind, source, resident)."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    resident_id = fields.UUIDField(db_index=True)
    kind = fields.CharEnumField(MessageKind, max_length=32)
    source_id = fields.UUIDField()
    data = json_field()
    state = fields.CharEnumField(MessageState, max_length=32, default=MessageState.QUEUED)
    attempts = fields.IntField(default=0)
    next_check_at = fields.DatetimeField(null=True)
    detail = fields.CharField(max_length=200, default="")
    sent_at = fields.DatetimeField(null=True)
    msgid = fields.CharField(max_length=64, null=True)  # WeChat's own number of it
    outcome = fields.CharField(max_length=64, null=True)  # what WeChat said later: "success", or why it did not arrive
    outcome_at = fields.DatetimeField(null=True)

    class Meta:
        table = "messages"
        unique_together = (("kind", "source_id", "resident_id"),)

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Message"]:
        """Staff who may read messages of the community; residents: their own."""
        if actor.is_staff:
            return cls.filter(community_id__in=actor.community_ids(Act.MESSAGE_READ))
        return cls.filter(resident_id=actor.id)


class MessageSubscription(Row):
    """What a resident last said to a template of an app: 接受 or 拒收. WeChat decides at each sending all the same."""

    organization_id = fields.UUIDField()
    app_id = fields.UUIDField()
    resident_id = fields.UUIDField()
    template_id = fields.CharField(max_length=64)
    accepted = fields.BooleanField()
    said_at = fields.DatetimeField()

    class Meta:
        table = "message_subscriptions"
        unique_together = (("app_id", "resident_id", "template_id"),)

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["MessageSubscription"]:
        """A resident's own, of the app they are in."""
        return cls.filter(resident_id=None if actor.is_staff else actor.id, app_id=actor.app_id)
