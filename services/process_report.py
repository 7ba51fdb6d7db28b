"""Each process says once a minute what it saw of WeChat and of the clocks; the alarms look at all of them together."""

import os
import socket
from datetime import datetime, timedelta
from time import monotonic

from kit import clock
from models.metric import LATELY
from models.unit_of_work import row, rows, unit_of_work

_KEPT = timedelta(days=1)
_QUICK_S = 1.0  # a database's answer that took longer tells nothing of its clock

_REPORT = """
INSERT INTO process_reports (process, kind, version, started_at, reported_at, wechat_calls, wechat_calls_unknown,
    wechat_skew_ms, database_skew_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (process) DO UPDATE SET version = EXCLUDED.version, started_at = EXCLUDED.started_at,
    reported_at = EXCLUDED.reported_at, wechat_calls = EXCLUDED.wechat_calls,
    wechat_calls_unknown = EXCLUDED.wechat_calls_unknown, wechat_skew_ms = EXCLUDED.wechat_skew_ms,
    database_skew_ms = EXCLUDED.database_skew_ms
"""


async def report(kind: str, version: str, started_at: datetime) -> None:
    """Write what this process saw; reports of processes that have not been heard of for a day are forgotten."""
    skew_ms = await _database_skew_ms()
    await _write(kind, version, started_at, skew_ms)


async def _database_skew_ms() -> int | None:
    """How far our clock is ahead of the database's, to within half of the way there and back."""
    asked, begun = monotonic(), clock.now()
    told = await row("SELECT clock_timestamp() AS at")
    took_s = monotonic() - asked
    assert told is not None
    if took_s > _QUICK_S:
        return None
    return int((begun + timedelta(seconds=took_s / 2) - told["at"]).total_seconds() * 1000)


@unit_of_work
async def _write(kind: str, version: str, started_at: datetime, database_skew_ms: int | None) -> None:
    calls, unknown = LATELY.calls()
    skew_s = LATELY.skew_s()
    now = clock.now()
    await rows(
        _REPORT,
        f"{socket.gethostname()}:{os.getpid()}:{kind}"[:200],
        kind,
        version,
        started_at,
        now,
        calls,
        unknown,
        None if skew_s is None else int(skew_s * 1000),
        database_skew_ms,
    )
    await rows("DELETE FROM process_reports WHERE reported_at < $1", now - _KEPT)
