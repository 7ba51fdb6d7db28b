"""What operation remembers: which alarms are on, what each process saw, when a merchant's certificate ends."""

import functools
from json import dumps, loads

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

GUARDS = """
ALTER TABLE alarms ADD CONSTRAINT alarms_check CHECK (NOT active OR (begun_at IS NOT NULL AND told_at IS NOT NULL));
GRANT SELECT, INSERT, UPDATE ON alarms, process_reports TO linli_app;
GRANT DELETE ON process_reports TO linli_app;
-- Jobs that were given up are counted every few seconds, among many more that were done.
CREATE INDEX procrastinate_jobs_failed ON procrastinate_jobs (id) WHERE status = 'failed';
"""


class Migration(migrations.Migration):
    dependencies = [("linli", "0005_refund")]

    initial = False

    operations = [
        ops.CreateModel(
            name="AlarmState",
            fields=[
                ("name", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ("active", fields.BooleanField(default=False)),
                (
                    "facts",
                    fields.JSONField(
                        default=dict, encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
                    ),
                ),
                ("checked_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("begun_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("told_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("ended_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "alarms",
                "app": "linli",
                "pk_attr": "name",
                "table_description": "One row an alarm, made when it is first looked at. ``facts`` are those of the last look at which it was on.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="ProcessReport",
            fields=[
                ("process", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=200)),
                ("kind", fields.CharField(max_length=32)),
                ("version", fields.CharField(max_length=32)),
                ("started_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("reported_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("wechat_calls", fields.IntField(default=0)),
                ("wechat_calls_unknown", fields.IntField(default=0)),
                ("wechat_skew_ms", fields.BigIntField(null=True)),
                ("database_skew_ms", fields.BigIntField(null=True)),
            ],
            options={
                "table": "process_reports",
                "app": "linli",
                "pk_attr": "process",
                "table_description": "``process`` is host, process id, kind. A skew is how far its clock is ahead; None when nobody told the time.",
            },
            bases=["Model"],
        ),
        ops.AddField(
            model_name="MerchantAccount",
            name="certificate_expires_at",
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.RunSQL(GUARDS),
    ]
