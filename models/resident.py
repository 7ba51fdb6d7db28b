"""住户: who signs in, and the WeChat identities by which they do."""

from tortoise import fields
from tortoise.expressions import Q, Subquery
from tortoise.queryset import QuerySet

from models.access import Act, Actor
from models.base import Row


class Resident(Row):
    """A person who signs in to one organization's mini-programs. The phone is WeChat's word, encrypted."""

    organization_id = fields.UUIDField(db_index=True)
    name = fields.CharField(max_length=100, default="")
    phone_cipher = fields.TextField(null=True)
    phone_index = fields.CharField(max_length=64, null=True, db_index=True)
    phone_masked = fields.CharField(max_length=16, default="")
    phone_verified_at = fields.DatetimeField(null=True)
    closed_at = fields.DatetimeField(null=True)  # then the name is a pseudonym, and no phone is left
    close_reason = fields.CharField(max_length=200, null=True)

    class Meta:
        table = "residents"

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Resident"]:
        """Staff who may read a register: who has claimed or asks for a room there. Residents: themselves."""
        if not actor.is_staff:
            return cls.filter(id=actor.id, organization_id=actor.organization_id)
        from models.occupancy import Occupancy, OccupancyRequest

        communities = actor.community_ids(Act.REGISTER_READ)
        if not communities:
            return cls.filter(id=None)
        there = [
            Q(id__in=Subquery(table.filter(community_id__in=communities).values("resident_id")))
            for table in (Occupancy.filter(resident_id__isnull=False), OccupancyRequest)
        ]
        return cls.filter(there[0] | there[1], organization_id=actor.organization_id)


class WechatIdentity(Row):
    """(app, openid) → resident."""

    organization_id = fields.UUIDField()
    app_id = fields.UUIDField()
    openid = fields.CharField(max_length=128)
    unionid = fields.CharField(max_length=128, null=True)
    resident_id = fields.UUIDField(db_index=True)

    class Meta:
        table = "wechat_identities"
        unique_together = (("app_id", "openid"),)
