"""``python -m bench.reconcile_one DATABASE_URL FILE MERCHANT``: one reading in a process of its own, told as JSON."""

import asyncio
import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from kit import clock
from models.database import connect, disconnect
from models.reconciliation import Statement, StatementSource
from models.unit_of_work import rows
from payments.reconcile import read_statement
from payments.statement import keep


def _peak_kib() -> int:
    """Of this program alone: what getrusage tells begins with the one that started it."""
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1])


async def main(url: str, file: str, merchant: str) -> None:
    """Keep and read; the bill is of today, so it is read by a clock of tomorrow."""
    clock.shift(timedelta(days=1))
    await connect(url, pool_size=4)
    await rows("SELECT 1")
    before, started = _peak_kib(), time.monotonic()
    with Path(file).open("rb") as opened:  # noqa: ASYNC230 - nothing else runs here
        statement, _ = await keep(UUID(merchant), opened, StatementSource.BY_HAND)
    kept = time.monotonic()
    read = await read_statement(statement.id)
    ended = time.monotonic()
    found = await rows("SELECT kind, count(*)::int AS n FROM differences WHERE state = 'open' GROUP BY 1")
    document = {
        "rows": read.row_count,
        "seconds": ended - started,
        "keep_s": kept - started,
        "peak_mib": (_peak_kib() - before) / 1024,
        "plain_mib": (await Statement.get(id=statement.id)).plain_bytes / 2**20,
        "kinds": {one["kind"]: one["n"] for one in found},
    }
    print(json.dumps(document))
    await disconnect()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
