"""What each process saw in the last minutes; written once a minute, so that one place can look at all of them."""

from tortoise import fields
from tortoise.models import Model


class ProcessReport(Model):
    """``process`` is host, process id, kind. A skew is how far its clock is ahead; None when nobody told the time."""

    process = fields.CharField(max_length=200, primary_key=True)
    kind = fields.CharField(max_length=32)
    version = fields.CharField(max_length=32)
    started_at = fields.DatetimeField()
    reported_at = fields.DatetimeField()
    wechat_calls = fields.IntField(default=0)
    wechat_calls_unknown = fields.IntField(default=0)
    wechat_skew_ms = fields.BigIntField(null=True)
    database_skew_ms = fields.BigIntField(null=True)

    class Meta:
        table = "process_reports"
