"""入住关系: who lives in or owns which room, from when to when, and which resident has claimed it."""

from enum import StrEnum

from tortoise import fields
from tortoise.queryset import QuerySet

from kit.state_machine import StateMachine
from models.access import Act, Actor, Role
from models.base import Row


class OccupancyKind(StrEnum):
    """How somebody belongs to a room. The values are roles: what a resident may do follows from them."""

    OWNER = Role.OWNER.value  # 业主
    FAMILY = Role.FAMILY.value  # 家属
    TENANT = Role.TENANT.value  # 租客


class Occupancy(Row):
    """A line of the room's register. ``resident_id`` is null until somebody who signs in has claimed it."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    room_id = fields.UUIDField(db_index=True)
    customer_id = fields.UUIDField(db_index=True)
    kind = fields.CharEnumField(OccupancyKind, max_length=32)
    starts_on = fields.DateField()
    # The last day; null while it lasts. The day before ``starts_on``: ended at once, on its first day or before it.
    ends_on = fields.DateField(null=True)
    resident_id = fields.UUIDField(null=True, db_index=True)
    claimed_at = fields.DatetimeField(null=True)
    invited_by_resident_id = fields.UUIDField(null=True)

    class Meta:
        table = "occupancies"

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Occupancy"]:
        """Staff who may read the register; residents: the lines of their own rooms."""
        if actor.is_staff:
            return cls.filter(community_id__in=actor.community_ids(Act.REGISTER_READ))
        return cls.filter(room_id__in=actor.room_ids)


class RequestState(StrEnum):
    """The life of a request to be bound to a room."""

    PENDING = "pending"  # 待审核
    APPROVED = "approved"  # 已通过
    REJECTED = "rejected"  # 未通过
    WITHDRAWN = "withdrawn"  # 已撤回


REQUEST_MACHINE = StateMachine(
    noun="occupancy_request",
    moves={RequestState.PENDING: (RequestState.APPROVED, RequestState.REJECTED, RequestState.WITHDRAWN)},
    required={
        RequestState.APPROVED: ("decided_by_staff_id", "decided_at", "occupancy_id"),
        RequestState.REJECTED: ("decided_by_staff_id", "decided_at", "reason"),
    },
)


class OccupancyRequest(Row):
    """A resident asks to be bound to a room whose register does not hold their phone; staff decide."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField(db_index=True)
    room_id = fields.UUIDField()
    resident_id = fields.UUIDField(db_index=True)
    kind = fields.CharEnumField(OccupancyKind, max_length=32)
    name = fields.CharField(max_length=100)
    phone_cipher = fields.TextField(null=True)  # typed by hand where WeChat's phone was refused; unverified
    phone_index = fields.CharField(max_length=64, null=True)
    phone_masked = fields.CharField(max_length=16, default="")
    note = fields.CharField(max_length=200, default="")
    state = fields.CharEnumField(RequestState, max_length=32, default=RequestState.PENDING)
    decided_by_staff_id = fields.UUIDField(null=True)
    decided_at = fields.DatetimeField(null=True)
    reason = fields.CharField(max_length=200, null=True)
    occupancy_id = fields.UUIDField(null=True)

    class Meta:
        table = "occupancy_requests"

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["OccupancyRequest"]:
        """Staff who may read requests; residents: their own."""
        if actor.is_staff:
            return cls.filter(community_id__in=actor.community_ids(Act.REQUEST_READ))
        return cls.filter(resident_id=actor.id)
