"""月结: a month of a legal entity that takes no entry any more, and what its accounts moved when it was closed."""

from tortoise import fields

from kit import clock
from models.base import Row
from models.ledger import AccountKind


class ClosedPeriod(Row):
    """One closed month; never opened again. Append-only. Unique: (legal entity, month). A trigger on entries refuses
    what would be posted in it or before."""

    organization_id = fields.UUIDField()
    legal_entity_id = fields.UUIDField()
    month = fields.DateField()  # its first day
    entry_count = fields.IntField()
    amount_fen = fields.BigIntField()  # of all entries: the debits, and the credits
    closed_at = fields.DatetimeField(default=clock.now)
    closed_by_staff_id = fields.UUIDField()

    class Meta:
        table = "closed_periods"
        unique_together = (("legal_entity_id", "month"),)


class ClosedBalance(Row):
    """What accounts of one kind in one community moved in the month. Append-only."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    closed_period_id = fields.UUIDField()
    kind = fields.CharEnumField(AccountKind, max_length=32)
    debit_fen = fields.BigIntField()
    credit_fen = fields.BigIntField()

    class Meta:
        table = "closed_balances"
        unique_together = (("closed_period_id", "community_id", "kind"),)
