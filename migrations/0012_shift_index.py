"""Indexes on payments, built while payments go on: outside of a transaction, each statement by itself."""

from tortoise import migrations
from tortoise.migrations import operations as ops

# What was left in the middle is dropped first: an index that was not finished looks like one that is there.
DROP = "DROP INDEX CONCURRENTLY IF EXISTS {name}"
BY_SHIFT = "CREATE INDEX CONCURRENTLY payments_shift ON payments (shift_id) WHERE shift_id IS NOT NULL"
# A voucher and a transfer are taken once.
REFERENCE_ONCE = """
CREATE UNIQUE INDEX CONCURRENTLY payments_reference_once ON payments (legal_entity_id, channel, reference)
    WHERE reference <> ''
"""


class Migration(migrations.Migration):
    dependencies = [("linli", "0012_shift")]

    initial = False
    atomic = False

    operations = [
        ops.RunSQL(DROP.format(name="payments_shift")),
        ops.RunSQL(BY_SHIFT),
        ops.RunSQL(DROP.format(name="payments_reference_once")),
        ops.RunSQL(REFERENCE_ONCE),
    ]
