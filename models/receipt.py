"""收据: numbered without gaps per legal entity, community and year."""

from tortoise import fields
from tortoise.expressions import Q
from tortoise.models import Model
from tortoise.queryset import QuerySet

from models.access import Act, Actor
from models.base import Row, json_field


class Receipt(Row):
    """One receipt a payment. ``content`` is what was printed, frozen: names, bills, lines, amounts."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    legal_entity_id = fields.UUIDField()
    customer_id = fields.UUIDField()
    payer_resident_id = fields.UUIDField(null=True)
    payment_id = fields.UUIDField(unique=True)
    year = fields.SmallIntField()
    sequence = fields.IntField()
    number = fields.CharField(max_length=40)
    amount_fen = fields.BigIntField()
    issued_on = fields.DateField()
    content = json_field()

    class Meta:
        table = "receipts"
        unique_together = (("legal_entity_id", "community_id", "year", "sequence"),)

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Receipt"]:
        """Staff who may read receipts; residents: of what they paid, and of what was paid of what they owe."""
        if actor.is_staff:
            return cls.filter(community_id__in=actor.community_ids(Act.RECEIPT_READ))
        return cls.filter(
            Q(payer_resident_id=actor.id) | Q(customer_id__in=actor.customer_ids),
            organization_id=actor.organization_id,
        )


class ReceiptCounter(Model):
    """The last number given, locked while the next is taken."""

    id = fields.BigIntField(primary_key=True)
    community_id = fields.UUIDField()
    legal_entity_id = fields.UUIDField()
    year = fields.SmallIntField()
    last_sequence = fields.IntField()

    class Meta:
        table = "receipt_counters"
        unique_together = (("legal_entity_id", "community_id", "year"),)
