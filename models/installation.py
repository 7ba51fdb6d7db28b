"""What this database is: one row."""

from tortoise import fields
from tortoise.models import Model

from kit import clock


class Installation(Model):
    """``demo`` is the mark without which ``linli reset`` refuses to touch the database."""

    id = fields.IntField(primary_key=True)  # always 1, by a check
    demo = fields.BooleanField(default=False)
    created_at = fields.DatetimeField(default=clock.now)

    class Meta:
        table = "installations"
