"""Whether this installation can do its work."""

import asyncpg
from tortoise.exceptions import BaseORMException

from models.database import known_migrations
from models.pool import DatabaseBusy
from models.unit_of_work import rows

WORKER_SILENT_S = 60

_STATE = """
SELECT (SELECT array_agg(name ORDER BY name) FROM tortoise_migrations WHERE app = 'linli') AS applied,
       (SELECT max(last_heartbeat) > now() - make_interval(secs => $1) FROM procrastinate_workers) AS worker_seen
"""


async def checks() -> dict[str, str]:
    """Database, migrations and worker: each ``ok`` or what is the matter. Never raises."""
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
