"""红冲: an entry that was wrong is answered by its mirror image in the open month; nothing of it is changed."""

from enum import StrEnum

from tortoise import fields
from tortoise.queryset import QuerySet

from kit.state_machine import StateMachine
from models.access import Act, Actor
from models.base import Row


class ReversalState(StrEnum):
    """The life of a reversal."""

    ASKED = "asked"  # 待复核: a second person has to decide
    POSTED = "posted"  # 已红冲: its entry stands in the journal
    DECLINED = "declined"  # 已驳回


REVERSAL_MACHINE = StateMachine(
    noun="reversal",
    moves={ReversalState.ASKED: (ReversalState.POSTED, ReversalState.DECLINED)},
    required={
        ReversalState.POSTED: ("decided_at", "decided_by_staff_id"),
        ReversalState.DECLINED: ("decided_at", "decided_by_staff_id"),
    },
)


class Reversal(Row):
    """One wish to reverse one entry. Unique while not declined: an entry is reversed once. Who asks does not decide, by
    a check of the database."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    entry_id = fields.BigIntField()
    reason = fields.CharField(max_length=200)
    state = fields.CharEnumField(ReversalState, max_length=32, default=ReversalState.ASKED)
    asked_by_staff_id = fields.UUIDField()
    decided_by_staff_id = fields.UUIDField(null=True)
    decided_at = fields.DatetimeField(null=True)

    class Meta:
        table = "reversals"
        indexes = (("community_id", "created_at", "id"),)

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Reversal"]:
        """Finance and auditors of the community."""
        return cls.filter(community_id__in=actor.community_ids(Act.JOURNAL_READ))
