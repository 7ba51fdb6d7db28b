"""查看完整信息: each time a member of staff looked at a full phone or ID number, and why. Rows are only ever added."""

from enum import StrEnum

from tortoise import fields
from tortoise.queryset import QuerySet

from models.access import TABLE, Act, Actor, Role
from models.base import Row


class RevealedField(StrEnum):
    """What was looked at."""

    PHONE = "phone"  # 手机号
    ID_NUMBER = "id_number"  # 证件号


class Reveal(Row):
    """One look at one field of one customer, resident or occupancy request. ``community_id`` and ``role`` are by what
    it was allowed; without a community, the target belonged to none."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField(null=True)
    staff_id = fields.UUIDField()
    role = fields.CharEnumField(Role, max_length=32)
    customer_id = fields.UUIDField(null=True, db_index=True)
    resident_id = fields.UUIDField(null=True, db_index=True)
    occupancy_request_id = fields.UUIDField(null=True, db_index=True)
    field = fields.CharEnumField(RevealedField, max_length=32)
    reason = fields.CharField(max_length=200)

    class Meta:
        table = "reveals"
        indexes = (("staff_id", "created_at"),)

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Reveal"]:
        """Managers and auditors: of their communities; those of all the organization every one."""
        mine = cls.filter(organization_id=actor.organization_id)
        if actor.organization_roles & TABLE[Act.REVEAL_READ]:
            return mine
        return mine.filter(community_id__in=actor.community_ids(Act.REVEAL_READ))
