"""How much of a limit is used up: one row for each caller who used some of it lately."""

from tortoise import fields
from tortoise.models import Model


class RateLimit(Model):
    """What one caller used of one limit.

    ``key`` is a keyed fingerprint of limit and caller: neither an address nor a name stands here. ``full_at`` is when
    the caller has all of the limit again; a row of the past says nothing and is pruned. The table is unlogged: a crash
    of the database empties it, and lock-outs, which must not be lost, stand elsewhere (models/staff.py).
    """

    key = fields.CharField(max_length=64, primary_key=True)
    full_at = fields.DatetimeField()

    class Meta:
        table = "rate_limits"
        indexes = (("full_at",),)
