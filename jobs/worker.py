"""The worker: procrastinate running our jobs."""

from typing import Any

import structlog
from procrastinate import App, BaseRetryStrategy, PsycopgConnector, RetryDecision
from procrastinate.jobs import Job

# Importing them registers the jobs.
from jobs import (  # noqa: F401
    alarm,
    catch_up,
    export,
    merchant_account,
    message,
    payment,
    prepaid,
    receipt,
    reconciliation,
    refund,
    report_file,
    seal,
    shipping,
    upkeep,
    wechat_push,
)
from jobs.registry import JOBS, PERIODIC, JobFunction
from models.database import APP_ROLE
from models.job import QUEUE

log = structlog.get_logger()

LONGEST_WAIT_S = 1024
GIVE_UP_AFTER = 90


class ForADay(BaseRetryStrategy):
    """2, 4, 8 … seconds, then 17 minutes apart, for about a day: consequences of money are not given up lightly."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """When to try again, or None to give up."""
        if job.attempts >= GIVE_UP_AFTER:
            return None
        return RetryDecision(retry_in={"seconds": min(2 ** min(job.attempts + 1, 10), LONGEST_WAIT_S)})


def create_worker(database_url: str) -> App:
    """The procrastinate app with every job registered; its connections take the role that owns nothing."""
    connector = PsycopgConnector(
        conninfo=database_url,
        kwargs={"options": f"-c role={APP_ROLE} -c timezone=UTC", "application_name": "linli worker"},
        min_size=1,
        max_size=8,
    )
    app = App(connector=connector)
    for name, function in JOBS.items():
        app.task(name=name, queue=QUEUE, retry=ForADay())(_entry(name, function))
    for periodic in PERIODIC:
        tick = app.task(name=f"{periodic.name}.clock", queue=QUEUE)(_tick(periodic.name, JOBS[periodic.name]))
        app.periodic(cron=periodic.cron)(tick)
    return app


def _entry(name: str, function: JobFunction) -> JobFunction:
    async def run(**arguments: Any) -> None:
        try:
            await function(**arguments)
        except Exception:
            log.exception("job_failed", job=name)
            raise

    return run


def _tick(name: str, function: JobFunction) -> JobFunction:
    async def run(timestamp: int) -> None:
        await _entry(name, function)()

    return run
