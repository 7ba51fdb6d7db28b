"""收费项目."""

from tortoise import fields
from tortoise.queryset import QuerySet

from models.access import Act, Actor
from models.base import Row


class FeeItem(Row):
    """What is charged for (物业费, 水费 …), whose money it is, and where it is paid (else the community's account)."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField(db_index=True)
    code = fields.CharField(max_length=32)
    name = fields.CharField(max_length=50)
    legal_entity_id = fields.UUIDField()
    merchant_account_id = fields.UUIDField(null=True)
    active = fields.BooleanField(default=True)

    class Meta:
        table = "fee_items"
        unique_together = (("community_id", "code"), ("community_id", "name"))

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["FeeItem"]:
        """Staff who may read fee items of the community."""
        return cls.filter(community_id__in=actor.community_ids(Act.FEE_ITEM_READ))
