"""Idempotency-Key: the same request gives the same resource again, for 24 hours."""

from tortoise import fields

from models.base import Row

KEPT_HOURS = 24


class IdempotencyKey(Row):
    """Unique: (actor, method, route, key). ``resource_id`` is null until the work is done; ``leased_until`` says how
    long a first request may still be at it — after that a repeat takes over and resumes what was committed."""

    actor = fields.CharField(max_length=100)
    method = fields.CharField(max_length=8)
    route = fields.CharField(max_length=200)
    key = fields.CharField(max_length=128)
    body_sha256 = fields.CharField(max_length=64)
    resource_id = fields.UUIDField(null=True)
    leased_until = fields.DatetimeField()

    class Meta:
        table = "idempotency_keys"
        unique_together = (("actor", "method", "route", "key"),)
        indexes = (("created_at",),)
