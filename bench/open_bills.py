"""A resident's open bills with 100,000 bills in the table, beside a bare handler with the same statements."""

import pickle
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from bench.load import Measured, send, serving
from bench.town import Town
from services import session
from services.bill import BillFilter, list_bills

BILLS = 100_000
CLIENTS = 16
ROUNDS = 5
A_ROUND = 1_500


async def run(town: Town) -> Mapping[str, float]:
    """Both sides in turns: the same statements with the same values, read by the same resident."""
    await town.add(BILLS, settled=False, bills_each=1)
    statements = await _statements(town)
    kept = Path(town.settings.state) / "statements"
    kept.write_bytes(pickle.dumps(statements))
    mine = _get("/api/v1/bills?status=open", f"Authorization: Bearer {town.resident.token}\r\n")
    ours: list[Measured] = []
    bare: list[Measured] = []
    with serving(town, "server.cli", "serve") as ourselves, serving(town, "bench.bare", str(kept)) as other:
        for _ in range(ROUNDS + 1):
            ours.append(await send(ourselves[0], [mine] * A_ROUND, CLIENTS, b"200", ourselves[1]))
            bare.append(await send(other[0], [_get("/")] * A_ROUND, CLIENTS, b"200", other[1]))
    ratios = [one.per_s / limit.per_s for one, limit in zip(ours[1:], bare[1:], strict=True)]
    return {
        "bills in the table": BILLS,
        "statements": len(statements),
        "lists/s": statistics.median(one.per_s for one in ours[1:]),
        "bare lists/s": statistics.median(one.per_s for one in bare[1:]),
        "ratio": statistics.median(ratios),
        "ratio, worst round": min(ratios),
        "p99 ms": statistics.median(one.p99_ms for one in ours[1:]),
        "bare p99 ms": statistics.median(one.p99_ms for one in bare[1:]),
        "CPU of the API, µs each": statistics.median(one.cpu_us for one in ours[1:]),
        "CPU of the bare handler, µs each": statistics.median(one.cpu_us for one in bare[1:]),
    }


async def _statements(town: Town) -> list[tuple[str, tuple[Any, ...]]]:
    """What one list asks of the database, with its values, as it happens."""
    noted: list[tuple[str, tuple[Any, ...]]] = []
    with pytest.MonkeyPatch.context() as patch:
        original = asyncpg.Connection.fetch

        def spy(self: Any, query: str, *values: Any, **options: Any) -> Any:
            noted.append((query, values))
            return original(self, query, *values, **options)

        patch.setattr(asyncpg.Connection, "fetch", spy)
        actor = await session.authenticate(town.resident.token)
        page = await list_bills(actor, BillFilter("open"), None, 20)
    assert len(page.items) == 12, "the resident's own bills, and nobody else's"
    return noted


def _get(path: str, header: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}\r\n".encode()
