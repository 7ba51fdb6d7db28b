"""报表导出: a report of finance as a file, made by a job and kept for some days for who asked."""

from enum import StrEnum

from tortoise import fields
from tortoise.queryset import QuerySet

from kit.state_machine import StateMachine
from models.access import Actor
from models.base import Row, json_field


class ReportFormat(StrEnum):
    """What the file is."""

    XLSX = "xlsx"
    CSV = "csv"


class ReportFileState(StrEnum):
    """The life of a file."""

    QUEUED = "queued"  # being made
    READY = "ready"  # can be fetched until it expires
    EXPIRED = "expired"  # its content is gone
    FAILED = "failed"  # could not be made; ``problem`` says why


REPORT_FILE_MACHINE = StateMachine(
    noun="report_file",
    moves={
        ReportFileState.QUEUED: (ReportFileState.READY, ReportFileState.FAILED),
        ReportFileState.READY: (ReportFileState.EXPIRED,),
    },
    required={
        ReportFileState.READY: ("body", "size_bytes", "ready_at", "next_check_at"),
        ReportFileState.FAILED: ("problem",),
    },
)


class ReportFile(Row):
    """One file. The bytes lie here and not in a folder, so that whichever process is asked has them, and so that they
    go when they must. ``request`` is what was asked for, as the report's own route takes it."""

    organization_id = fields.UUIDField()
    staff_id = fields.UUIDField()
    report = fields.CharField(max_length=32)
    format = fields.CharEnumField(ReportFormat, max_length=32)
    request = json_field()
    state = fields.CharEnumField(ReportFileState, max_length=32, default=ReportFileState.QUEUED)
    row_count = fields.IntField(null=True)  # how many lines there will be; null: not counted yet
    rows_done = fields.IntField(default=0)
    attempts = fields.SmallIntField(default=0)
    body = fields.BinaryField(null=True)
    size_bytes = fields.IntField(null=True)
    problem = fields.CharField(max_length=64, null=True)
    ready_at = fields.DatetimeField(null=True)
    next_check_at = fields.DatetimeField(null=True)  # when the sweep makes it again, or lets it expire

    class Meta:
        table = "report_files"
        indexes = (("staff_id", "id"),)

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["ReportFile"]:
        """Who asked for it; nobody else, colleagues included."""
        return cls.filter(staff_id=actor.id) if actor.is_staff else cls.filter(id=None)
