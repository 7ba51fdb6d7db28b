"""Housekeeping of the database."""

import structlog

from jobs.registry import job
from models.unit_of_work import rows, unit_of_work
from services import idempotency, rate_limit
from services.session import prune_sessions

log = structlog.get_logger()

KEPT_HOURS = 72
_STALLED_S = 20

# A worker that was killed leaves its jobs in "doing" for ever; its heartbeat tells. Jobs may run twice, so again.
_RESCUE = """
SELECT procrastinate_retry_job_v2(j.id, now(), NULL, NULL, NULL)
FROM procrastinate_jobs j LEFT JOIN procrastinate_workers w ON w.id = j.worker_id
WHERE j.status = 'doing' AND (w.id IS NULL OR w.last_heartbeat < now() - make_interval(secs => $1))
"""
# Finished jobs are kept for three days to be looked at; failed ones stay until somebody has looked. A tick of a clock
# that failed, in an outage say, was made good by the next one.
_PRUNE = """
DELETE FROM procrastinate_jobs WHERE id IN (
    SELECT j.id FROM procrastinate_jobs j
    WHERE (j.status = 'succeeded' OR (j.status IN ('failed', 'aborted') AND j.task_name LIKE '%.clock'))
      AND NOT EXISTS (
        SELECT FROM procrastinate_events e WHERE e.job_id = j.id AND e.at > now() - make_interval(hours => $1))
    ORDER BY j.id LIMIT 5000)
RETURNING id
"""


@job("rescue_jobs", cron="* * * * * */10")
async def rescue_jobs() -> int:
    """Requeue the jobs of workers that are gone; how many."""
    found = await _rescue()
    if found:
        log.warning("jobs_rescued", count=found)
    return found


@unit_of_work
async def _rescue() -> int:
    return len(await rows(_RESCUE, _STALLED_S))


@job("prune", cron="17 * * * * 0")
async def prune() -> int:
    """Forget finished jobs, old idempotency keys, ended sessions and limits that nobody uses, batch by batch; how many
    jobs went."""
    gone = batch = await _prune_jobs()
    while batch:
        batch = await _prune_jobs()
        gone += batch
    while await idempotency.prune():
        continue
    while await prune_sessions():
        continue
    while await rate_limit.prune():
        continue
    return gone


@unit_of_work
async def _prune_jobs() -> int:
    return len(await rows(_PRUNE, KEPT_HOURS))


@job("make_partitions", cron="23 3 * * * 0")
async def make_partitions() -> None:
    """See to it that the months ahead have their partitions."""
    await _make_partitions()


@job("drop_partitions", cron="41 3 * * * 0")
async def drop_partitions() -> int:
    """Let go of months that are older than their retention (migrations/0002_guards.py); how many."""
    dropped = await _drop_partitions()
    if dropped:
        log.info("partitions_dropped", count=dropped)
    return dropped


@unit_of_work
async def _drop_partitions() -> int:
    (answer,) = await rows("SELECT linli_drop_partitions() AS dropped")
    return int(answer["dropped"])


@unit_of_work
async def _make_partitions() -> None:
    await rows("SELECT linli_make_partitions(3) AS made")
