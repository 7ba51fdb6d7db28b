"""Cursor paging: a cursor is the sort key and id of the last row handed out, opaque to the caller.

A cursor holds no permission: the query that continues from it starts from what its caller may see, as every query does.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Generic, TypeVar

from kit import strict_json
from kit.errors import InvalidCursor, Refusal

DEFAULT_LIMIT = 20
MAX_LIMIT = 100

Row = TypeVar("Row")


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Some rows in order, and the cursor of what follows them (None at the end)."""

    items: Sequence[Row]
    next_cursor: str | None


def encode_cursor(values: Sequence[Any]) -> str:
    """The cursor for a row's sort values. Dates and instants travel as ISO text, everything else as text or int."""
    plain = [
        value.isoformat() if isinstance(value, date | datetime) else value if isinstance(value, int) else str(value)
        for value in values
    ]
    return base64.urlsafe_b64encode(json.dumps(plain, separators=(",", ":")).encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str, parsers: Sequence[Callable[[Any], Any]]) -> list[Any]:
    """The sort values in ``cursor``, each read by its parser; refuses with InvalidCursor what we did not make."""
    try:
        plain = strict_json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(plain, list) or len(plain) != len(parsers):
            raise ValueError("another shape")
        values = [parse(value) for parse, value in zip(parsers, plain, strict=True)]
    except (Refusal, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, binascii.Error) as error:
        raise InvalidCursor() from error
    # What no column holds would be an error of the database, not of the caller.
    if any(
        (isinstance(value, int) and abs(value) >= 2**63) or (isinstance(value, str) and "\0" in value)
        for value in values
    ):
        raise InvalidCursor()
    return values


def page_of(rows: Sequence[Row], limit: int, key: Callable[[Row], Sequence[Any]]) -> Page[Row]:
    """Cut a page from ``limit + 1`` fetched rows: the extra row only tells that there is more."""
    if len(rows) <= limit:
        return Page(rows, None)
    shown = rows[:limit]
    return Page(shown, encode_cursor(key(shown[-1])))
