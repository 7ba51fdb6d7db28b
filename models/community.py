"""小区: the unit of tenancy; every row of daily work belongs to one."""

from tortoise import fields
from tortoise.queryset import QuerySet

from models.access import Act, Actor, ActorKind
from models.base import Row


class Community(Row):
    """A community and its settings."""

    organization_id = fields.UUIDField(db_index=True)
    name = fields.CharField(max_length=100)
    code = fields.CharField(max_length=16)  # short and unique in the organization; stands in receipt numbers
    address = fields.CharField(max_length=200, default="")
    timezone = fields.CharField(max_length=64, default="Asia/Shanghai")
    merchant_account_id = fields.UUIDField(null=True)  # where fee items without one of their own are paid
    oldest_arrears_first = fields.BooleanField(default=False)
    payment_minutes = fields.IntField(default=30)  # how long an opened payment can be paid at WeChat
    prepaid_fee_item_id = fields.UUIDField(null=True)  # whose money top-ups are; null: residents cannot top up
    prepaid_pay_day = fields.SmallIntField(null=True)  # of the month, when balances pay what is owed; null: by hand

    class Meta:
        table = "communities"

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Community"]:
        """Staff: where they hold a role. Residents: every community of the company (they choose one to join). A command
        or job: all."""
        if actor.kind is ActorKind.SYSTEM:
            return cls.all()
        if actor.is_staff:
            return cls.filter(id__in=actor.community_ids(Act.COMMUNITY_READ))
        return cls.filter(organization_id=actor.organization_id)
