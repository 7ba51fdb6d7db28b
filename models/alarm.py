"""Which alarms are on: what several workers and a restart must remember of them."""

from tortoise import fields
from tortoise.models import Model


class AlarmState(Model):
    """One row an alarm, made when it is first looked at. ``facts`` are those of the last look at which it was on."""

    name = fields.CharField(max_length=64, primary_key=True)
    active = fields.BooleanField(default=False)
    facts = fields.JSONField(default=dict)
    checked_at = fields.DatetimeField()
    begun_at = fields.DatetimeField(null=True)
    told_at = fields.DatetimeField(null=True)  # of the last line in the log
    ended_at = fields.DatetimeField(null=True)

    class Meta:
        table = "alarms"
