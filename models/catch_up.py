"""补账 catching up: after a restore, what WeChat knows and the restored books do not."""

from enum import StrEnum

from tortoise import fields

from kit import clock
from kit.state_machine import StateMachine
from models.base import Row


class CatchUp(Row):
    """One return to an earlier state of the books; under way until WeChat was asked about every day since."""

    backed_up_at = fields.DatetimeField()  # what the books hold is as of then
    begun_at = fields.DatetimeField(default=clock.now)
    finished_at = fields.DatetimeField(null=True)

    class Meta:
        table = "catch_ups"


class CatchUpDayState(StrEnum):
    """What is known of one day's bill."""

    WAITING = "waiting"  # not there yet, or not asked yet
    READ = "read"  # every line of it was compared with the books
    GONE = "gone"  # older than WeChat keeps: somebody must compare by hand


CATCH_UP_DAY_MACHINE = StateMachine(
    noun="catch_up_day",
    moves={CatchUpDayState.WAITING: (CatchUpDayState.READ, CatchUpDayState.GONE)},
    required={CatchUpDayState.READ: ("line_count", "missing_count")},
)


class CatchUpDay(Row):
    """A day of one merchant account whose trade bill is compared. Unique: (catch-up, merchant account, day)."""

    catch_up_id = fields.UUIDField()
    merchant_account_id = fields.UUIDField()
    bill_on = fields.DateField()
    state = fields.CharEnumField(CatchUpDayState, max_length=32, default=CatchUpDayState.WAITING)
    next_check_at = fields.DatetimeField(null=True)
    line_count = fields.IntField(null=True)
    missing_count = fields.IntField(null=True)  # of the lines, what the books did not know

    class Meta:
        table = "catch_up_days"
        unique_together = (("catch_up_id", "merchant_account_id", "bill_on"),)
