"""员工 and their 岗位."""

from tortoise import fields
from tortoise.expressions import Subquery
from tortoise.queryset import QuerySet

from models.access import TABLE, Act, Actor, Role
from models.base import Row


class Staff(Row):
    """A member of staff. ``failed_count`` and ``locked_until`` are the lock-out after wrong passwords."""

    organization_id = fields.UUIDField(db_index=True)
    username = fields.CharField(max_length=64, unique=True)
    password_hash = fields.TextField()
    name = fields.CharField(max_length=100)
    disabled_at = fields.DatetimeField(null=True)
    failed_count = fields.IntField(default=0)
    locked_until = fields.DatetimeField(null=True)

    class Meta:
        table = "staff"

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Staff"]:
        """Staff who may read staff: colleagues with a role in the same communities or in the whole organization."""
        if actor.organization_roles & TABLE[Act.STAFF_READ]:
            return cls.filter(organization_id=actor.organization_id)
        communities = actor.community_ids(Act.STAFF_READ)
        if not communities:
            return cls.filter(id=None)
        colleagues = StaffRole.filter(community_id__in=communities).values("staff_id")
        return cls.filter(organization_id=actor.organization_id, id__in=Subquery(colleagues))


class StaffRole(Row):
    """A role of one member of staff in one community, or (``community_id`` null) in all of the organization."""

    organization_id = fields.UUIDField()
    staff_id = fields.UUIDField(db_index=True)
    community_id = fields.UUIDField(null=True)
    role = fields.CharEnumField(Role, max_length=32)

    class Meta:
        table = "staff_roles"
