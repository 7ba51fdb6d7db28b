"""``GET /metrics`` for Prometheus, on a port of its own: what is on the public address is for everybody, this is not.

Each process serves what it counted itself and, the same whoever is asked, what the database knows. The latter goes
over a connection of its own with a bound of its own, so that a pool without places or a slow server is seen here, not
felt.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from time import monotonic
from typing import Any

import asyncpg
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kit import clock
from models.database import APP_ROLE, credentials
from models.metric import BUILD, REGISTRY
from models.pool import pool
from services import process_report
from services.alarm_rule import ALARMS
from services.reading import Readings, read

log = structlog.get_logger()

REPORT_EVERY_S = 60
READ_WITHIN_S = 3.0
KEPT_S = 5.0
_HEAD_BYTES, _HEAD_S = 8192, 5

# name → (help, field of Readings)
GAUGES = {
    "linli_janitor_due": ("Payments and refunds whose time to be asked about has come.", "janitor_due"),
    "linli_janitor_overdue_seconds": ("How long the first of them has been waiting.", "janitor_overdue_s"),
    "linli_jobs_ready_oldest_seconds": ("How long the first ready job has been waiting.", "jobs_ready_oldest_s"),
    "linli_jobs_doing_oldest_seconds": ("How long the longest job has been at work.", "jobs_doing_oldest_s"),
    "linli_last_callback_age_seconds": ("Since WeChat's last new callback.", "last_callback_s"),
    "linli_merchant_certificate_days_left": ("Of the merchant certificate that ends first.",
                                             "merchant_certificate_days"),
    "linli_platform_certificate_days_left": ("Of the platform certificate that ends first.",
                                             "platform_certificate_days"),
    "linli_certificates_unknown": ("Merchant accounts whose certificate's end nobody told us.", "certificates_unknown"),
    "linli_wechat_clock_skew_seconds": ("Our clock against WeChat's, the process that is furthest off.",
                                        "wechat_skew_s"),
    "linli_database_clock_skew_seconds": ("Our clock against the database's, likewise.", "database_skew_s"),
    "linli_worker_seen_seconds": ("Since a worker was last seen.", "worker_seen_s"),
    "linli_books_checked_seconds": ("Since the books were last checked.", "books_checked_s"),
    "linli_alarms_checked_seconds": ("Since the alarms were last looked at.", "alarms_checked_s"),
}  # fmt: skip


class Database(Collector):
    """The readings as gauges; ``refresh`` before collecting."""

    def __init__(self, url: str) -> None:
        self._options = credentials(url) | {
            "timeout": READ_WITHIN_S,
            "server_settings": {
                "role": APP_ROLE, "timezone": "UTC", "application_name": "linli metrics", "statement_timeout": "2s",
            },
        }  # fmt: skip
        self._connection: asyncpg.Connection | None = None
        self._lock = asyncio.Lock()
        self._read_at = 0.0
        self.readings: Readings | None = None

    async def refresh(self) -> None:
        """Read anew unless that was done seconds ago; ``readings`` is None if the database did not answer."""
        async with self._lock:
            if self._read_at and monotonic() - self._read_at < KEPT_S:
                return
            try:
                async with asyncio.timeout(READ_WITHIN_S):
                    self.readings = await self._read()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("metrics_without_database", kind=type(error).__name__)
                self.readings = None
                self.close()
            self._read_at = monotonic()

    async def _read(self) -> Readings:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(**self._options)
        return await read(self._connection.fetch)

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def collect(self) -> Iterator[Metric]:
        """The gauges of the last refresh."""
        now = self.readings
        yield GaugeMetricFamily("linli_database_up", "Whether the database answered.", value=float(now is not None))
        if now is None:
            return
        for name, (meaning, field) in GAUGES.items():
            value = getattr(now, field)
            if value is not None:
                yield GaugeMetricFamily(name, meaning, value=float(value))
        jobs = {"ready": now.jobs_ready, "doing": now.jobs_doing, "failed": now.jobs_failed}
        yield _labelled("linli_jobs", "Jobs by state.", ["state"], [((state,), n) for state, n in jobs.items()])
        undecided = [((state,), number) for state, number in now.undecided.items()]
        yield _labelled("linli_undecided_attempts", "Payment attempts that are asked about.", ["state"], undecided)
        cases = [((kind,), number) for kind, number in now.cases.items()]
        yield _labelled("linli_open_cases", "Cases that wait for finance.", ["kind"], cases)
        seen = [(labels, number) for labels, number in now.processes.items()]
        yield _labelled("linli_processes", "Processes that reported lately.", ["kind", "version"], seen)
        on = [((one.name, one.severity.value), int(now.alarms.get(one.name, False))) for one in ALARMS]
        yield _labelled("linli_alarm", "1 while the alarm is on (docs/production.md).", ["name", "severity"], on)


class PoolGauges(Collector):
    """The pool of this process."""

    def collect(self) -> Iterator[Metric]:
        """Places taken, places there are, and those who wait for one."""
        found = pool()
        yield GaugeMetricFamily("linli_pool_in_use", "Database connections lent.", value=found.in_use if found else 0)
        yield GaugeMetricFamily("linli_pool_size", "Database connections at most.", value=found.size if found else 0)
        yield GaugeMetricFamily("linli_pool_waiting", "Who waits for one.", value=found.waiting if found else 0)


def _labelled(name: str, meaning: str, labels: Sequence[str], values: Sequence[tuple[Any, int]]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for these, value in values:
        family.add_metric([str(one) for one in these], value)
    return family


@contextlib.asynccontextmanager
async def watched(kind: str, version: str, url: str, host: str, port: int | None) -> AsyncIterator[None]:
    """While inside, this process reports once a minute, and answers ``/metrics`` if it was given a port."""
    BUILD.labels(version).set(1)
    reporting = asyncio.create_task(_report(kind, version, clock.now()))
    try:
        async with _listening(url, host, port) if port else contextlib.nullcontext():
            yield
    finally:
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)


async def _report(kind: str, version: str, started_at: datetime) -> None:
    while True:
        try:
            await process_report.report(kind, version, started_at)
        except Exception as error:  # an outage ends, and then it is told again
            log.warning("report_failed", kind=type(error).__name__)
        await asyncio.sleep(REPORT_EVERY_S)


@contextlib.asynccontextmanager
async def _listening(url: str, host: str, port: int) -> AsyncIterator[None]:
    database, gauges = Database(url), PoolGauges()
    REGISTRY.register(database)
    REGISTRY.register(gauges)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
            status, kind, body = await _page(database, head.split(b"\r\n", 1)[0].decode("latin-1"))
            line = (
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(line.encode() + body)
            async with asyncio.timeout(_HEAD_S):
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.debug("metrics_client_gone", kind=type(error).__name__)
        finally:
            writer.close()

    server = await asyncio.start_server(answer, host, port, limit=_HEAD_BYTES)
    try:
        yield
    finally:
        server.close()
        REGISTRY.unregister(database)
        REGISTRY.unregister(gauges)
        database.close()


async def _page(database: Database, request_line: str) -> tuple[str, str, bytes]:
    method, _, rest = request_line.partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    if method == "GET" and path == "/metrics":
        await database.refresh()
        return "200 OK", CONTENT_TYPE_LATEST, generate_latest(REGISTRY)
    if method == "GET" and path == "/healthz":
        return "200 OK", "text/plain; charset=utf-8", b"ok\n"
    return "404 Not Found", "text/plain; charset=utf-8", b"/metrics\n"
