"""What every table shares."""

from typing import Any, TypeVar
from uuid import UUID

from tortoise import fields
from tortoise.models import Model
from tortoise.queryset import QuerySet

from kit import clock
from kit.errors import NotFound
from kit.ids import new_id, parse_id

Found = TypeVar("Found", bound=Model)


class Row(Model):
    """A table whose rows are known outside by an opaque UUIDv7.

    Foreign keys are plain ``*_id`` columns here; the database ties them (composite, by community or organization) in
    ``migrations/0002_guards.py``, and a test finds any that it does not tie.
    """

    id = fields.UUIDField(primary_key=True, default=new_id)
    created_at = fields.DatetimeField(default=clock.now)

    class Meta:
        abstract = True


async def get_visible(query: QuerySet[Found], row_id: UUID | str) -> Found:
    """The row with this id among what ``query`` may see; NotFound for unknown, foreign and malformed ids alike."""
    parsed = parse_id(row_id)
    found = await query.get_or_none(id=parsed) if parsed else None
    if found is None:
        raise NotFound()
    return found


def json_field(**options: Any) -> Any:
    """A jsonb column."""
    return fields.JSONField(**options)
