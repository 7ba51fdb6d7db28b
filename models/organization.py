"""物业公司 and the legal entities (收款主体) that may take money."""

from tortoise import fields
from tortoise.queryset import QuerySet

from models.access import Actor
from models.base import Row, json_field


class Organization(Row):
    """A property company: the outermost wall; nothing crosses it.

    Staff with one of ``second_factor_roles`` need a second factor before they may do anything else.
    """

    name = fields.CharField(max_length=100)
    second_factor_roles = json_field(default=list, db_default=[])

    class Meta:
        table = "organizations"


class LegalEntity(Row):
    """收款主体: who owns the money. Money of one legal entity never pays another's bill."""

    organization_id = fields.UUIDField(db_index=True)
    name = fields.CharField(max_length=100)
    tax_number = fields.CharField(max_length=32, null=True)
    refund_alone_fen = fields.BigIntField(default=500_00, db_default=500_00)  # above it a refund needs a second person

    class Meta:
        table = "legal_entities"

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["LegalEntity"]:
        """Staff of the organization."""
        return cls.filter(organization_id=actor.organization_id) if actor.is_staff else cls.filter(id=None)
