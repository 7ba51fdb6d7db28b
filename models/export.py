"""个人信息副本: a copy of everything held about a resident, made by a job and kept for some days."""

from enum import StrEnum

from tortoise import fields
from tortoise.queryset import QuerySet

from kit.state_machine import StateMachine
from models.access import Actor
from models.base import Row

CONTENT_CONTEXT = "exports.content"


class ExportState(StrEnum):
    """The life of a copy."""

    QUEUED = "queued"  # being made
    READY = "ready"  # can be fetched until it expires
    EXPIRED = "expired"  # its content is gone: too old, replaced by a newer copy, or the account was closed
    FAILED = "failed"  # could not be made; the log knows why


EXPORT_MACHINE = StateMachine(
    noun="export",
    moves={
        ExportState.QUEUED: (ExportState.READY, ExportState.FAILED, ExportState.EXPIRED),
        ExportState.READY: (ExportState.EXPIRED,),
    },
    required={ExportState.READY: ("content_cipher", "size_bytes", "ready_at", "expires_at", "next_check_at")},
)


class Export(Row):
    """One copy. At most one of a resident is being made. The bytes lie here, encrypted, and not in a file, so that
    whichever process is asked has them, and so that they go when they must."""

    organization_id = fields.UUIDField()
    resident_id = fields.UUIDField(db_index=True)
    state = fields.CharEnumField(ExportState, max_length=32, default=ExportState.QUEUED)
    parts = fields.SmallIntField()
    parts_done = fields.SmallIntField(default=0)
    attempts = fields.SmallIntField(default=0)
    content_cipher = fields.TextField(null=True)
    size_bytes = fields.IntField(null=True)
    ready_at = fields.DatetimeField(null=True)
    expires_at = fields.DatetimeField(null=True)
    next_check_at = fields.DatetimeField(null=True)  # when the sweep makes it again, or lets it expire

    class Meta:
        table = "exports"

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Export"]:
        """Residents: their own; nobody else, staff included."""
        return cls.filter(resident_id=actor.id) if actor.is_resident else cls.filter(id=None)
