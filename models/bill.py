"""账单: the only join of money and business. Whatever is owed is a bill with frozen lines."""

from enum import StrEnum

from tortoise import fields
from tortoise.expressions import Q
from tortoise.models import Model
from tortoise.queryset import QuerySet

from kit import clock
from kit.state_machine import StateMachine
from models.access import Act, Actor
from models.base import Row


class BillKind(StrEnum):
    """Which account a payment of the bill credits."""

    CHARGE = "charge"  # income: received
    PREPAID = "prepaid"  # a top-up: the debtor's prepaid balance
    DEPOSIT = "deposit"  # held for the debtor


class BillState(StrEnum):
    """The life of a bill."""

    DRAFT = "draft"  # 草稿: not yet shown to anybody who owes
    OPEN = "open"  # 待缴
    PART_PAID = "part_paid"  # 部分已缴
    PAID = "paid"  # 已缴
    VOID = "void"  # 作废
    CREDITED = "credited"  # 已冲销: it was paid, the money went back, and nothing of it need be paid any more


PAYABLE = (BillState.OPEN, BillState.PART_PAID)

BILL_MACHINE = StateMachine(
    noun="bill",
    moves={
        BillState.DRAFT: (BillState.OPEN, BillState.VOID),
        BillState.OPEN: (BillState.PART_PAID, BillState.PAID, BillState.VOID),
        # Money that went back opens a bill again, or credits it.
        BillState.PART_PAID: (BillState.PAID, BillState.OPEN, BillState.CREDITED),
        BillState.PAID: (BillState.PART_PAID, BillState.OPEN, BillState.CREDITED),
    },
    required={BillState.OPEN: ("issued_at",), BillState.VOID: ("voided_at", "void_reason")},
)


class Bill(Row):
    """What one customer owes one legal entity for one thing.

    Unique while neither void nor credited: (community, subject_kind, subject_id, purpose). ``paid_fen`` follows the
    allocations, ``credited_fen`` the credit notes; together they are bounded by ``amount_fen`` in the database.
    Everything but state, these two and the void fields is frozen once issued.
    """

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    room_id = fields.UUIDField(null=True)
    customer_id = fields.UUIDField()  # the debtor, frozen
    legal_entity_id = fields.UUIDField()
    merchant_account_id = fields.UUIDField(null=True)  # null: cannot be paid online
    kind = fields.CharEnumField(BillKind, max_length=32, default=BillKind.CHARGE)
    subject_kind = fields.CharField(max_length=32)  # room, stay, booking, ticket …
    subject_id = fields.UUIDField()
    purpose = fields.CharField(max_length=100)
    title = fields.CharField(max_length=100)
    state = fields.CharEnumField(BillState, max_length=32, default=BillState.OPEN)
    amount_fen = fields.BigIntField()
    paid_fen = fields.BigIntField(default=0)
    credited_fen = fields.BigIntField(default=0, db_default=0)  # 冲销: of the amount, what need not be paid any more
    accrued_on = fields.DateField()  # the last day of what it is for; decides who may see it and what is oldest
    due_on = fields.DateField()
    issued_at = fields.DatetimeField(null=True)
    voided_at = fields.DatetimeField(null=True)
    void_reason = fields.CharField(max_length=200, null=True)
    bill_import_id = fields.UUIDField(null=True)

    class Meta:
        table = "bills"
        indexes = (("community_id", "state", "due_on", "id"), ("room_id", "state", "due_on", "id"), ("customer_id",))

    @property
    def owed_fen(self) -> int:
        """What is still to be paid on it."""
        return self.amount_fen - self.credited_fen - self.paid_fen

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Bill"]:
        """Staff who may read bills. Residents: what they owe themselves, and of the rooms they live in or own today
        whatever accrued since they came; what was owed before is not shown to who came after. Never a draft."""
        if actor.is_staff:
            return cls.filter(community_id__in=actor.community_ids(Act.BILL_READ))
        mine = Q(customer_id__in=actor.customer_ids)
        for occupancy in actor.occupancies:
            mine |= Q(room_id=occupancy.room_id, accrued_on__gte=occupancy.starts_on)
        return cls.filter(mine, organization_id=actor.organization_id).exclude(state=BillState.DRAFT)


class BillLine(Row):
    """How an amount came about; frozen. ``amount_fen`` of the lines adds up to the bill's, by the database."""

    community_id = fields.UUIDField()
    bill_id = fields.UUIDField(db_index=True)
    position = fields.SmallIntField()
    fee_item_id = fields.UUIDField()
    title = fields.CharField(max_length=100)
    period_from = fields.DateField(null=True)
    period_to = fields.DateField(null=True)
    quantity = fields.DecimalField(max_digits=14, decimal_places=4, null=True)
    unit = fields.CharField(max_length=16, default="")
    unit_price = fields.DecimalField(max_digits=14, decimal_places=6, null=True)  # yuan
    formula = fields.CharField(max_length=200, default="")  # in words
    amount_fen = fields.BigIntField()

    class Meta:
        table = "bill_lines"
        unique_together = (("bill_id", "position"),)


class CreditNote(Model):
    """冲销: of a bill line whose money went back, what need not be paid any more, by which refund. Append-only.
    Unique: (refund, line). What a bill counts as credited is what its notes add up to, by the database."""

    id = fields.BigIntField(primary_key=True)
    community_id = fields.UUIDField()
    refund_id = fields.UUIDField()
    bill_id = fields.UUIDField(db_index=True)
    bill_line_id = fields.UUIDField(db_index=True)
    amount_fen = fields.BigIntField()
    created_at = fields.DatetimeField(default=clock.now)

    class Meta:
        table = "credit_notes"
        unique_together = (("refund_id", "bill_line_id"),)


class BillImport(Row):
    """One imported file. The same file (by hash) is imported into a community once."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    file_name = fields.CharField(max_length=200)
    file_sha256 = fields.CharField(max_length=64)
    bill_count = fields.IntField()
    amount_fen = fields.BigIntField()
    imported_by = fields.CharField(max_length=64)

    class Meta:
        table = "bill_imports"
        unique_together = (("community_id", "file_sha256"),)
