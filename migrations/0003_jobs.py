"""The job queue's own tables and functions, as the pinned version of procrastinate ships them."""

from procrastinate.schema import SchemaManager
from tortoise import migrations
from tortoise.migrations import operations as ops

GRANTS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers,
    procrastinate_workers TO linli_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO linli_app;
"""


class Migration(migrations.Migration):
    dependencies = [("linli", "0002_guards")]

    operations = [ops.RunSQL(SchemaManager.get_schema()), ops.RunSQL(GRANTS)]
