"""Enqueue: a consequence becomes a durable row in the transaction that caused it."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from models.unit_of_work import inside_unit_of_work, rows

# One call of procrastinate's own function. No lock and no queueing_lock, ever: the unique violation of a duplicate
# would roll back the money that this transaction records. Jobs may run twice, so they need no such lock.
_DEFER = """
SELECT procrastinate_defer_jobs_v1(ARRAY[
    ROW($1::varchar, $2::varchar, 0, NULL, NULL, $3::jsonb, $4::timestamptz)::procrastinate_job_to_defer_v1])
"""

QUEUE = "linli"


async def enqueue_tx(name: str, arguments: Mapping[str, Any], *, not_before: datetime | None = None) -> None:
    """Have the job ``name`` run once this transaction commits; a rollback takes it back.

    ``arguments`` must be JSON. A test checks that every name in the tree is a registered job.
    """
    if not inside_unit_of_work():
        raise RuntimeError("a job is enqueued inside the transaction that causes it")
    await rows(_DEFER, QUEUE, name, json.dumps(dict(arguments)), not_before)
