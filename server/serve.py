"""The two processes that do the work: the API and the worker."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator

import psycopg
import structlog

from models import broadcast
from models.database import APP_ROLE
from server.app import VERSION, close_resources, configure, create_app, open_resources
from server.keys import unfit
from server.log import configure_logs
from server.metric import watched
from server.settings import Settings

log = structlog.get_logger()

_PAUSE_S = 2
_ONE_API = 0x6C696E6C69_01  # the advisory lock that one API process holds, or all that share a Redis


def run_api(settings: Settings) -> str | None:
    """Serve until SIGTERM or SIGINT; a sentence when that is not possible."""
    try:
        url = settings.require_database_url()
        settings.keyring()
        settings.callback_base()
    except ValueError as problem:
        return str(problem)
    try:
        listening = socket.create_server((settings.host, settings.port), backlog=1024)
    except OSError as error:
        return f"port {settings.port} cannot be taken ({error.strerror}); set LINLI_PORT to another"
    with listening, _in_company(url, shared=settings.redis() is not None) as problem_or_none:
        problem_or_none = problem_or_none or unfit(settings)
        if problem_or_none:
            return problem_or_none
        listening.setblocking(False)
        create_app(settings).run(sock=listening, single_process=True, access_log=False, motd=False)
    return None


@contextlib.contextmanager
def _in_company(url: str, *, shared: bool) -> Iterator[str | None]:
    """Hold the lock of the API for as long as this process runs: alone without Redis, together with others that have
    Redis too. One that has it and one that has not would each count limits for themselves."""
    try:
        connection = psycopg.connect(url, autocommit=True, options=f"-c role={APP_ROLE}", connect_timeout=10)
    except psycopg.Error as error:
        yield f"the database does not answer: {str(error).splitlines()[0]}"
        return
    with connection:
        how = "pg_try_advisory_lock_shared" if shared else "pg_try_advisory_lock"
        held = connection.execute(f"SELECT {how}(%s)", (_ONE_API,)).fetchone()
        if held and held[0]:
            yield None
        elif shared:
            yield "an API process without REDIS_URL serves this database already: give it REDIS_URL too"
        else:
            yield "another API process serves this database already; one API process is all that runs without Redis"


def run_worker(settings: Settings) -> str | None:
    """Work until SIGTERM or SIGINT; a sentence when that is not possible."""
    try:
        settings.require_database_url()
        settings.keyring()
        settings.callback_base()
    except ValueError as problem:
        return str(problem)
    if problem_or_none := unfit(settings):
        return problem_or_none
    asyncio.run(_work(settings))
    return None


async def _work(settings: Settings) -> None:
    configure_logs(settings.log_level)
    configure(settings)
    await open_resources(settings)
    url = settings.require_database_url()
    broadcast.start(url)
    log.info("started", process="worker", version=VERSION, pid=os.getpid())
    try:
        async with watched("worker", VERSION, url, settings.metrics_host, settings.metrics_port):
            task = asyncio.create_task(_work_on(url))
            loop = asyncio.get_running_loop()
            # Explicit, because a process that a script started with & ignores SIGINT otherwise.
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, task.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await task
    finally:
        await broadcast.stop()
        await close_resources()


async def _work_on(url: str) -> None:
    """Work until cancelled. procrastinate stops when the database goes away; this begins anew when it is back, and jobs
    that were under way are given back by ``rescue_jobs``."""
    from jobs.worker import create_worker

    while True:
        worker = create_worker(url)
        try:
            async with worker.open_async():
                await worker.run_worker_async(
                    name="linli",
                    concurrency=8,
                    install_signal_handlers=False,
                    shutdown_graceful_timeout=8,
                    fetch_job_polling_interval=2,
                    update_heartbeat_interval=5,
                    stalled_worker_timeout=20,
                )
        except Exception as error:
            log.error("worker_stopped", kind=type(error).__name__)
        log.warning("worker_begins_anew", in_s=_PAUSE_S)
        await asyncio.sleep(_PAUSE_S)
