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

    class Meta:
        table = "messages"
        unique_together = (("kind", "source_id", "resident_id"),)

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Message"]:
        """Staff who may read messages of the community; residents: their own."""
        if actor.is_staff:
            return cls.filter(community_id__in=actor.community_ids(Act.MESSAGE_READ))
        return cls.filter(resident_id=actor.id)
