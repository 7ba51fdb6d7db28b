"""Sessions: opaque tokens, stored hashed, revocable, expiring."""

from tortoise import fields

from models.access import ActorKind
from models.base import Row


class Session(Row):
    """One signed-in device. ``token_hash`` is SHA-256 of the token, which is told once and kept nowhere.
    ``second_factor_at`` is when its member of staff last gave a code."""

    organization_id = fields.UUIDField()
    kind = fields.CharEnumField(ActorKind, max_length=32)
    resident_id = fields.UUIDField(null=True, db_index=True)
    staff_id = fields.UUIDField(null=True, db_index=True)
    app_id = fields.UUIDField(null=True)
    token_hash = fields.CharField(max_length=64, unique=True)
    expires_at = fields.DatetimeField()
    revoked_at = fields.DatetimeField(null=True)
    second_factor_at = fields.DatetimeField(null=True)

    class Meta:
        table = "sessions"
