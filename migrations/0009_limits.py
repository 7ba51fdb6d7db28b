"""Limits shared by all processes, and second factors of staff."""

import functools
from json import dumps, loads

from tortoise import fields, migrations
from tortoise.indexes import Index
from tortoise.migrations import operations as ops

from kit.clock import now
from kit.ids import new_id

# Nothing of a limit may not be lost, so it need not be written twice; what locks an account stands in the account's row.
GUARDS = """
ALTER TABLE rate_limits SET UNLOGGED;
ALTER TABLE second_factors
    ADD CONSTRAINT second_factors_staff_id_fkey FOREIGN KEY (organization_id, staff_id)
        REFERENCES staff (organization_id, id),
    ADD CHECK ((confirmed_at IS NULL) = (last_step IS NULL));
ALTER TABLE recovery_codes
    ADD CONSTRAINT recovery_codes_staff_id_fkey FOREIGN KEY (organization_id, staff_id)
        REFERENCES staff (organization_id, id);
ALTER TABLE sessions ADD CHECK (second_factor_at IS NULL OR kind = 'staff');
ALTER TABLE organizations ADD CHECK (jsonb_typeof(second_factor_roles) = 'array');
GRANT SELECT, INSERT, UPDATE, DELETE ON rate_limits, second_factors, recovery_codes TO linli_app;
"""


class Migration(migrations.Migration):
    dependencies = [("linli", "0008_seals")]

    initial = False

    operations = [
        ops.CreateModel(
            name="RateLimit",
            fields=[
                ("key", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ("full_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "rate_limits",
                "app": "linli",
                "indexes": [Index(fields=["full_at"])],
                "pk_attr": "key",
                "table_description": "What one caller used of one limit.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="RecoveryCode",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("staff_id", fields.UUIDField()),
                ("code_index", fields.CharField(max_length=64)),
                ("used_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "recovery_codes",
                "app": "linli",
                "unique_together": (("staff_id", "code_index"),),
                "pk_attr": "id",
                "table_description": "One of ten, good once. ``code_index`` is its keyed fingerprint; the code is told once and kept nowhere.",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="SecondFactor",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("staff_id", fields.UUIDField(unique=True)),
                ("secret_cipher", fields.TextField(unique=False)),
                ("confirmed_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("last_step", fields.BigIntField(null=True)),
            ],
            options={
                "table": "second_factors",
                "app": "linli",
                "pk_attr": "id",
                "table_description": "The secret that a member of staff shares with their phone, encrypted; at most one each.",
            },
            bases=["Row"],
        ),
        ops.AddField(
            model_name="Organization",
            name="second_factor_roles",
            field=fields.JSONField(
                default=list, db_default=[], encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads
            ),
        ),
        ops.AddField(
            model_name="Session",
            name="second_factor_at",
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.RunSQL(GUARDS),
    ]
