"""How lists go on from a cursor: newest first by id, or as people count by a natural key."""

from typing import Any, TypeVar
from uuid import UUID

from tortoise.expressions import Q
from tortoise.queryset import QuerySet

from kit.ids import NO_ID, parse_id
from kit.paging import Page, decode_cursor, page_of

Found = TypeVar("Found", bound=Any)


async def newest_first(query: QuerySet[Found], cursor: str | None, limit: int) -> Page[Found]:
    """A page of ``query`` by descending id; ids are made in the order of time. Refuses a foreign cursor."""
    if cursor:
        (last,) = decode_cursor(cursor, (UUID,))
        query = query.filter(id__lt=last)
    return page_of(await query.order_by("-id").limit(limit + 1), limit, lambda found: (found.id,))


async def in_natural_order(query: QuerySet[Found], cursor: str | None, limit: int) -> Page[Found]:
    """A page of ``query`` by (natural_key, id): 3栋 before 10栋. Refuses a foreign cursor."""
    if cursor:
        key, last = decode_cursor(cursor, (_key, UUID))
        query = query.filter(Q(natural_key__gt=key) | Q(natural_key=key, id__gt=last))
    found = await query.order_by("natural_key", "id").limit(limit + 1)
    return page_of(found, limit, lambda row: (row.natural_key, row.id))


def whole_number(value: object) -> int:
    """A cursor's bigint; ValueError for what the column cannot hold."""
    if not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError("not an id")
    return value


def _key(value: object) -> str:
    if not isinstance(value, str) or "\0" in value or not value.isprintable():
        raise ValueError("not a natural key")
    return value


def wanted_id(text: str) -> UUID:
    """The id of a filter. Text that is none lists what an unknown id lists: nothing."""
    return parse_id(text) or NO_ID
