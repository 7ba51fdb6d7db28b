"""Whether this installation can do its work."""

import asyncpg
from tortoise.exceptions import BaseORMException

from models.database import known_migrations
from models.pool import DatabaseBusy
from models.unit_of_work import rows

WORKER_SILENT_S = 60

_leaving = False

_STATE = """
SELECT (SELECT array_agg(name ORDER BY name) FROM tortoise_migrations WHERE app = 'linli') AS applied,
       (SELECT max(last_heartbeat) > now() - make_interval(secs => $1) FROM procrastinate_workers) AS worker_seen
"""


def begin_to_leave() -> None:
    """From now on this process is not ready: it was asked to end."""
    global _leaving
    _leaving = True


def is_leaving() -> bool:
    """Whether this process was asked to end."""
    return _leaving


async def checks() -> dict[str, str]:
    """Process, database, migrations and worker: each ``ok`` or what is the matter. Never raises."""
    if _leaving:
        return {"process": "leaving"}
    try:
        (state,) = await rows(_STATE, WORKER_SILENT_S)
    except (DatabaseBusy, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, BaseORMException) as error:
        return {"database": type(error).__name__, "migrations": "unknown", "worker": "unknown"}
    missing = set(known_migrations()) - set(state["applied"] or ())
    return {
        "database": "ok",
        "migrations": f"missing: {', '.join(sorted(missing))}" if missing else "ok",
        "worker": "ok" if state["worker_seen"] else f"no worker seen for {WORKER_SILENT_S} s",
    }
