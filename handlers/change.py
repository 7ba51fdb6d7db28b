"""What bodies have in common: days, and what a PATCH asks to change."""

from collections.abc import Collection
from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, Field

Day = Annotated[date, Field(ge=date(1900, 1, 1), le=date(2199, 12, 31))]
"""A day in a body, of a life or a lease."""


def given_fields(body: BaseModel, *, nullable: Collection[str] = ()) -> dict[str, Any]:
    """The fields that the request has, without those that are null and cannot be emptied."""
    given = {name: getattr(body, name) for name in body.model_fields_set}
    return {name: value for name, value in given.items() if value is not None or name in nullable}
