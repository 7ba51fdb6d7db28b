"""押金: what is held for a customer until it is given back, less what was deducted with evidence."""

from enum import StrEnum

from tortoise import fields
from tortoise.queryset import QuerySet

from kit.state_machine import StateMachine
from models.access import Act, Actor
from models.base import Row, json_field


class DepositState(StrEnum):
    """The life of a deposit, from the moment that its bill was paid."""

    HELD = "held"  # 已收取
    PART_DEDUCTED = "part_deducted"  # 部分扣除
    SPENT = "spent"  # 已扣完: nothing is left to return
    RETURN_ASKED = "return_asked"  # 待退还: nothing is deducted any more
    RETURNED = "returned"  # 已退还: what was left of it is back, by refunds


DEDUCTIBLE = (DepositState.HELD, DepositState.PART_DEDUCTED)

# A return that was asked for may be withdrawn, as long as the money has not gone.
DEPOSIT_MACHINE = StateMachine(
    noun="deposit",
    moves={
        DepositState.HELD: (DepositState.PART_DEDUCTED, DepositState.SPENT, DepositState.RETURN_ASKED),
        DepositState.PART_DEDUCTED: (DepositState.PART_DEDUCTED, DepositState.SPENT, DepositState.RETURN_ASKED),
        DepositState.RETURN_ASKED: (DepositState.HELD, DepositState.PART_DEDUCTED, DepositState.RETURNED),
    },
    required={DepositState.RETURN_ASKED: ("return_asked_at", "return_asked_by_staff_id", "return_reason")},
)


class Deposit(Row):
    """The deposit of one paid bill of kind deposit. What is left of it is ``amount_fen`` − ``deducted_fen``.
    Once it is returned, nothing is."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    room_id = fields.UUIDField(null=True)
    customer_id = fields.UUIDField()
    legal_entity_id = fields.UUIDField()
    bill_id = fields.UUIDField()
    title = fields.CharField(max_length=100)
    amount_fen = fields.BigIntField()
    deducted_fen = fields.BigIntField(default=0)
    state = fields.CharEnumField(DepositState, max_length=32, default=DepositState.HELD)
    return_asked_at = fields.DatetimeField(null=True)
    return_asked_by_staff_id = fields.UUIDField(null=True)
    return_reason = fields.CharField(max_length=200, null=True)

    class Meta:
        table = "deposits"
        indexes = (("community_id", "id"), ("customer_id",))

    @property
    def left_fen(self) -> int:
        """What of it is still held."""
        return 0 if self.state is DepositState.RETURNED else self.amount_fen - self.deducted_fen

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Deposit"]:
        """Staff who may read deposits; residents: their own."""
        if actor.is_staff:
            return cls.filter(community_id__in=actor.community_ids(Act.DEPOSIT_READ))
        return cls.filter(customer_id__in=actor.customer_ids, organization_id=actor.organization_id)


class DepositDeduction(Row):
    """What was deducted once, for which bill, and on what evidence; append-only. ``attachments`` name the photos and
    papers by the references that their keeper gave them."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    deposit_id = fields.UUIDField(db_index=True)
    payment_id = fields.UUIDField()
    bill_id = fields.UUIDField()
    amount_fen = fields.BigIntField()
    reason = fields.CharField(max_length=200)
    attachments = json_field()
    staff_id = fields.UUIDField()

    class Meta:
        table = "deposit_deductions"
