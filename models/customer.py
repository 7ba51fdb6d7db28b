"""业主/客户: who is on the register and may owe; not who signs in."""

from enum import StrEnum

from tortoise import fields
from tortoise.queryset import QuerySet

from models.access import TABLE, Act, Actor
from models.base import Row

PHONE_CONTEXT = "phone"  # one context for all tables: the blind index must match across them
ID_NUMBER_CONTEXT = "customers.id_number"


class CustomerKind(StrEnum):
    """Person or company."""

    PERSON = "person"
    COMPANY = "company"


class Customer(Row):
    """A person or company registered with an organization. Phone and ID number are encrypted at rest."""

    organization_id = fields.UUIDField(db_index=True)
    kind = fields.CharEnumField(CustomerKind, max_length=32)
    name = fields.CharField(max_length=100)
    phone_cipher = fields.TextField(null=True)
    phone_index = fields.CharField(max_length=64, null=True)
    phone_masked = fields.CharField(max_length=16, default="")
    id_number_cipher = fields.TextField(null=True)
    registered_by_staff_id = fields.UUIDField(null=True)
    forgotten_at = fields.DatetimeField(null=True)  # then the name is a pseudonym, and neither phone nor number is left

    class Meta:
        table = "customers"

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Customer"]:
        """Staff who may read a register: customers with an occupancy or a bill there. One who has neither anywhere yet
        is seen by who registered them, and by who reads the register of the whole organization."""
        from tortoise.expressions import Q, Subquery

        from models.bill import Bill
        from models.occupancy import Occupancy

        communities = actor.community_ids(Act.REGISTER_READ)
        everywhere = bool(actor.organization_roles & TABLE[Act.REGISTER_READ])
        if not communities and not everywhere:
            return cls.filter(id=None)
        mine = cls.filter(organization_id=actor.organization_id)
        if everywhere:
            return mine
        there = [
            Q(id__in=Subquery(table.filter(community_id__in=communities).values("customer_id")))
            for table in (Occupancy, Bill)
        ]
        known = [
            Q(id__in=Subquery(table.filter(organization_id=actor.organization_id).values("customer_id")))
            for table in (Occupancy, Bill)
        ]
        fresh = Q(registered_by_staff_id=actor.id) & ~(known[0] | known[1])
        return mine.filter(there[0] | there[1] | fresh)
