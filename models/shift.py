"""收费班次: who holds how much cash, from the float to the count to whoever takes it over."""

from enum import StrEnum

from tortoise import fields
from tortoise.queryset import QuerySet

from kit.state_machine import StateMachine
from models.access import Act, Actor
from models.base import Row


class ShiftState(StrEnum):
    """The life of a shift."""

    OPEN = "open"  # 营业中: its clerk may take money
    CLOSED = "closed"  # 已盘点: counted; the cash is still in the drawers
    HANDED_OVER = "handed_over"  # 已交接: the cash is in the safe or in the next shift
    APPROVED = "approved"  # 已审核: finance has looked at count and variance


SHIFT_MACHINE = StateMachine(
    noun="shift",
    moves={
        ShiftState.OPEN: (ShiftState.CLOSED,),
        ShiftState.CLOSED: (ShiftState.HANDED_OVER,),
        ShiftState.HANDED_OVER: (ShiftState.APPROVED,),
    },
    required={
        ShiftState.CLOSED: ("closed_at",),
        ShiftState.HANDED_OVER: ("handed_over_at",),
        ShiftState.APPROVED: ("approved_at", "approved_by_staff_id"),
    },
    frozen={
        ShiftState.CLOSED: ("closed_at",),
        ShiftState.HANDED_OVER: ("closed_at", "handed_over_at", "handed_to_shift_id"),
    },
)


class Shift(Row):
    """One clerk at one community's counter. At most one is open for a clerk and community, by a partial index."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    staff_id = fields.UUIDField()  # the clerk
    state = fields.CharEnumField(ShiftState, max_length=32, default=ShiftState.OPEN)
    closed_at = fields.DatetimeField(null=True)
    handed_over_at = fields.DatetimeField(null=True)
    handed_to_shift_id = fields.UUIDField(null=True)  # null: into the safe
    approved_at = fields.DatetimeField(null=True)
    approved_by_staff_id = fields.UUIDField(null=True)
    remark = fields.CharField(max_length=200, default="")  # of the approval: why the count is off

    class Meta:
        table = "shifts"
        indexes = (("community_id", "created_at", "id"),)

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Shift"]:
        """Those who read the shifts of the community: clerks too, for they take over from each other."""
        return cls.filter(community_id__in=actor.community_ids(Act.SHIFT_READ) if actor.is_staff else [])


class ShiftDrawer(Row):
    """The cash of one legal entity in a shift: cash of different legal entities is kept apart and counted apart.
    Expected and counted are null until the shift is closed."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    shift_id = fields.UUIDField()
    legal_entity_id = fields.UUIDField()
    float_fen = fields.BigIntField()  # 备用金 that the shift began with
    expected_fen = fields.BigIntField(null=True)  # what the journal says, at the count
    counted_fen = fields.BigIntField(null=True)  # what the clerk found

    class Meta:
        table = "shift_drawers"
        unique_together = (("shift_id", "legal_entity_id"),)

    @property
    def variance_fen(self) -> int | None:
        """长短款: more (positive) or less (negative) than expected; None until it is counted."""
        if self.counted_fen is None or self.expected_fen is None:
            return None
        return self.counted_fen - self.expected_fen
