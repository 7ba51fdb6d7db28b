"""预存款: top-ups that wait to be paid, what a balance may pay, and the runs that pay from balances every month.

The balance itself is no row: it is what the entries of the customer's account of kind ``prepaid`` add up to.
"""

from enum import StrEnum

from tortoise import fields
from tortoise.queryset import QuerySet

from kit.state_machine import StateMachine
from models.access import Act, Actor
from models.base import Row, json_field


class PrepaidTopUp(Row):
    """A bill of kind prepaid that somebody asked for. Nobody owes it: unpaid for a while, it is voided."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    customer_id = fields.UUIDField()
    bill_id = fields.UUIDField()
    next_check_at = fields.DatetimeField(null=True)  # when it is voided; null once the bill is paid or void

    class Meta:
        table = "prepaid_top_ups"


class PrepaidAgreement(Row):
    """What was agreed about one prepaid account; without a row it pays every charge, and every month.

    ``fee_item_ids`` lists the only fee items that it may pay; empty means all.
    """

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    account_id = fields.UUIDField()
    fee_item_ids = json_field()
    pays_monthly = fields.BooleanField(default=True)

    class Meta:
        table = "prepaid_agreements"


class PrepaidRunState(StrEnum):
    """The life of a run."""

    RUNNING = "running"  # 进行中
    DONE = "done"  # 已完成


PREPAID_RUN_MACHINE = StateMachine(
    noun="prepaid_run",
    moves={PrepaidRunState.RUNNING: (PrepaidRunState.DONE,)},
    required={PrepaidRunState.DONE: ("finished_at",)},
)


class PrepaidRun(Row):
    """One passage over the balances of a community. ``month`` is the first day of the month whose run by the clock it
    is, at most one; null for a run that staff started. At most one of a community is running."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    month = fields.DateField(null=True)
    started_by_staff_id = fields.UUIDField(null=True)
    state = fields.CharEnumField(PrepaidRunState, max_length=32, default=PrepaidRunState.RUNNING)
    account_count = fields.IntField(default=0)  # with a balance, when it began
    next_check_at = fields.DatetimeField(null=True)  # when somebody goes on with it
    finished_at = fields.DatetimeField(null=True)

    class Meta:
        table = "prepaid_runs"
        indexes = (("community_id", "id"),)

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["PrepaidRun"]:
        """Staff who may read balances."""
        return cls.filter(community_id__in=actor.community_ids(Act.PREPAID_READ))


class PrepaidRunOutcome(StrEnum):
    """What a run did with one balance."""

    PAID = "paid"  # 已缴: all that it may pay
    PART_PAID = "part_paid"  # 余额不足: as far as it reached
    NOTHING_OWED = "nothing_owed"  # 无欠费
    FAILED = "failed"  # 失败: the log knows why; the next run tries again


class PrepaidRunLine(Row):
    """What one run did with one account; at most one line, written in the transaction of its payment."""

    community_id = fields.UUIDField()
    run_id = fields.UUIDField()
    account_id = fields.UUIDField()
    payment_id = fields.UUIDField(null=True)
    outcome = fields.CharEnumField(PrepaidRunOutcome, max_length=32)
    paid_fen = fields.BigIntField(default=0)
    bill_count = fields.IntField(default=0)
    still_owed_fen = fields.BigIntField(default=0)  # of what it may pay

    class Meta:
        table = "prepaid_run_lines"
        unique_together = (("run_id", "account_id"),)
