"""缴款单 and 备用金领取单: cash between the safe and the bank."""

from enum import StrEnum

from tortoise import fields
from tortoise.queryset import QuerySet

from models.access import Act, Actor
from models.base import Row


class BankSlipKind(StrEnum):
    """Which way the cash went."""

    DEPOSIT = "deposit"  # 缴款: from the safe to the bank
    WITHDRAWAL = "withdrawal"  # 备用金领取: from the bank into the safe


class BankSlip(Row):
    """One slip of a bank over cash of one legal entity. Append-only. Unique: (legal entity, kind, number)."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    legal_entity_id = fields.UUIDField()
    kind = fields.CharEnumField(BankSlipKind, max_length=32)
    number = fields.CharField(max_length=64)
    bank = fields.CharField(max_length=100)
    amount_fen = fields.BigIntField()
    banked_at = fields.DatetimeField()  # the bank's time
    recorded_by_staff_id = fields.UUIDField()

    class Meta:
        table = "bank_slips"
        unique_together = (("legal_entity_id", "kind", "number"),)
        indexes = (("community_id", "created_at", "id"),)

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["BankSlip"]:
        """Those who read the shifts of the community."""
        return cls.filter(community_id__in=actor.community_ids(Act.SHIFT_READ) if actor.is_staff else [])
