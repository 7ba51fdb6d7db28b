"""Many rows at once, inside a unit of work: COPY into a table of the transaction, and statements that take longer."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import asyncpg

from models.unit_of_work import connection, inside_unit_of_work, rows

WITHIN_S = 600
"""How long a statement over many rows may take: the day of a large merchant has a million."""


class RowUnfit(ValueError):
    """A row that COPY could not read; the text says which line and column."""


def _raw() -> Any:
    if not inside_unit_of_work():
        raise RuntimeError("many rows are written inside a unit of work")
    return connection()._connection  # type: ignore[attr-defined]


async def allow_long_tx() -> None:
    """Statements of this transaction may take WITHIN_S instead of half a minute."""
    await rows(f"SET LOCAL statement_timeout = '{WITHIN_S}s'")


async def copy_in_tx(table: str, columns: Sequence[str], pieces: Iterator[bytes]) -> None:
    """Write rows in COPY's text format into a table that this transaction made. Raises RowUnfit."""

    async def source() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
            await asyncio.sleep(0)  # whoever else works in this process has a turn

    try:
        await _raw().copy_to_table(table, source=source(), columns=columns, format="text", timeout=WITHIN_S)
    except asyncpg.DataError as error:
        where = getattr(error, "where", None) or getattr(error, "context", None) or ""
        raise RowUnfit(f"{error}; {where}".strip("; ")[:180]) from error


async def run_tx(sql: str, *values: Any) -> list[dict[str, Any]]:
    """``rows`` for a statement that may take WITHIN_S."""
    return [dict(one) for one in await _raw().fetch(sql, *values, timeout=WITHIN_S)]
