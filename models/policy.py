"""隐私政策 and 服务协议: what people are asked to agree to, version by version."""

from enum import StrEnum

from tortoise import fields
from tortoise.queryset import QuerySet

from models.access import Actor
from models.base import Row


class PolicyKind(StrEnum):
    """What a document is."""

    PRIVACY = "privacy"  # 隐私政策
    TERMS = "terms"  # 用户服务协议


class Policy(Row):
    """One published version, never changed: what somebody agreed to must stay what it was. The one that counts is, of
    those whose day has come, the youngest by ``effective_on``, then by when it was published."""

    organization_id = fields.UUIDField()
    kind = fields.CharEnumField(PolicyKind, max_length=32)
    number = fields.CharField(max_length=32)
    title = fields.CharField(max_length=100)
    text = fields.TextField(null=True)
    link = fields.CharField(max_length=500, null=True)
    effective_on = fields.DateField()
    published_by_staff_id = fields.UUIDField()

    class Meta:
        table = "policies"

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Policy"]:
        """Everybody of the organization."""
        return cls.filter(organization_id=actor.organization_id)
