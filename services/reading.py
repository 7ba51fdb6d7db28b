"""What the database knows of how the installation does: gathered for /metrics and for the alarms by the same queries.

Each query is bounded by an index and a limit: asking stays cheap when there is trouble, and is no trouble itself.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography.x509 import load_pem_x509_certificate

from kit import clock

Fetch = Callable[..., Awaitable[Sequence[Mapping[str, Any]]]]

AT_MOST = 10_000  # more than so many are counted as so many
LATELY = timedelta(minutes=30)
_REPORT_LASTS = timedelta(minutes=3)
_DOUBT_LASTS = timedelta(minutes=5)  # a doubtful word is usually cleared up by a question within seconds

_JANITOR = """
SELECT count(*) AS due, min(next_check_at) AS oldest_at FROM (
    (SELECT next_check_at FROM payment_attempts WHERE next_check_at <= $1 ORDER BY next_check_at LIMIT $2)
    UNION ALL
    (SELECT next_check_at FROM refund_attempts WHERE next_check_at <= $1 ORDER BY next_check_at LIMIT $2)) d
"""
_UNDECIDED = """
SELECT state, count(*) AS number FROM (
    SELECT state FROM payment_attempts WHERE next_check_at IS NOT NULL LIMIT $1) a GROUP BY state
"""
_READY = """
SELECT count(*) AS number, min(since) AS oldest_at FROM (
    SELECT COALESCE(j.scheduled_at,
        (SELECT min(e.at) FROM procrastinate_events e WHERE e.job_id = j.id AND e.type = 'deferred')) AS since
    FROM procrastinate_jobs j WHERE j.status = 'todo' AND (j.scheduled_at IS NULL OR j.scheduled_at <= $1)
    ORDER BY j.priority DESC, j.id LIMIT $2) t
"""
_DOING = """
SELECT count(*) AS number, min(since) AS oldest_at FROM (
    SELECT (SELECT max(e.at) FROM procrastinate_events e WHERE e.job_id = j.id AND e.type = 'started') AS since
    FROM procrastinate_jobs j WHERE j.status = 'doing' ORDER BY j.id LIMIT $1) d
"""
# A tick of a clock that failed is made good by the next one.
_FAILED = """
SELECT count(*) AS number FROM (
    SELECT FROM procrastinate_jobs WHERE status = 'failed' AND task_name NOT LIKE '%.clock' LIMIT $1) f
"""
_CASES = """
SELECT kind, count(*) AS number, count(*) FILTER (WHERE created_at < $1) AS old FROM (
    SELECT kind, created_at FROM discrepancies WHERE state = 'open' LIMIT $2) c GROUP BY kind
"""
# Ids are UUIDv7, so the newest notice is the last id; no index on the time is needed.
_LAST_CALLBACK = "SELECT first_received_at AS at FROM notifications ORDER BY id DESC LIMIT 1"
_POSTED = """
SELECT count(DISTINCT source_id) AS number FROM (
    SELECT source_id, posted_at FROM entries ORDER BY id DESC LIMIT 200) e WHERE posted_at BETWEEN $1 AND $2
"""
_CERTIFICATES = """
SELECT m.certificate_expires_at, bool_or(k.kind = 'public_key') AS has_public_key,
       array_agg(k.public_key_pem) FILTER (WHERE k.kind = 'certificate') AS platform
FROM merchant_accounts m LEFT JOIN wechat_pay_keys k ON k.merchant_account_id = m.id
WHERE m.active GROUP BY m.id LIMIT $1
"""
_REPORTS = """
SELECT kind, version, wechat_calls, wechat_calls_unknown, wechat_skew_ms, database_skew_ms
FROM process_reports WHERE reported_at > $1 LIMIT $2
"""
_WORKER = "SELECT max(last_heartbeat) AS at FROM procrastinate_workers"
# Days whose bill WeChat should have given by noon of the next day, and that were not read.
_BILLS = """
SELECT count(*) AS number, min(bill_on) AS oldest_on FROM (
    SELECT bill_on FROM reconciliations
    WHERE state = 'waiting' AND (bill_on + 1 + time '12:00') AT TIME ZONE 'Asia/Shanghai' <= $1 LIMIT $2) w
"""
_ALARMS = "SELECT name, active, checked_at FROM alarms"


@dataclass(frozen=True)
class Readings:
    """How it stands. Ages in seconds; None where there is nothing that could have an age."""

    undecided: Mapping[str, int] = field(default_factory=dict)  # attempts by state
    janitor_due: int = 0
    janitor_overdue_s: int = 0
    jobs_ready: int = 0
    jobs_ready_oldest_s: int = 0
    jobs_doing: int = 0
    jobs_doing_oldest_s: int = 0
    jobs_failed: int = 0
    cases: Mapping[str, int] = field(default_factory=dict)  # open ones by kind
    cases_left: Mapping[str, int] = field(default_factory=dict)  # those of them that nothing has cleared up by itself
    last_callback_s: int | None = None
    bills_missing: int = 0  # of days that should have been reconciled by noon
    bills_missing_since: str = ""  # the oldest of them
    posted_lately: int = 0  # payments of WeChat posted in the last half hour, the last two minutes left out
    merchant_certificate_days: int | None = None  # the one that ends first
    platform_certificate_days: int | None = None
    certificates_unknown: int = 0  # active merchant accounts of whose certificate only the serial is known
    processes: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (kind, version) → how many
    wechat_calls: int = 0  # of all processes, in five minutes
    wechat_calls_unknown: int = 0
    wechat_skew_s: float = 0  # the clock that is furthest off
    database_skew_s: float = 0
    worker_seen_s: int | None = None
    books_checked_s: int | None = None
    alarms: Mapping[str, bool] = field(default_factory=dict)
    alarms_checked_s: int | None = None


async def read(fetch: Fetch) -> Readings:
    """All readings. ``fetch`` runs one query with its values and gives its rows."""
    now = clock.now()
    return Readings(
        **await _work(fetch, now),
        **await _callbacks(fetch, now),
        **await _bills(fetch, now),
        **_certificates(await fetch(_CERTIFICATES, AT_MOST), now),
        **_processes(await fetch(_REPORTS, now - _REPORT_LASTS, AT_MOST)),
        **_alarms(await fetch(_ALARMS), now),
    )


async def _work(fetch: Fetch, now: datetime) -> dict[str, Any]:
    (janitor,) = await fetch(_JANITOR, now, AT_MOST)
    (ready,) = await fetch(_READY, now, AT_MOST)
    (doing,) = await fetch(_DOING, AT_MOST)
    (failed,) = await fetch(_FAILED, AT_MOST)
    (worker,) = await fetch(_WORKER)
    cases = await fetch(_CASES, now - _DOUBT_LASTS, AT_MOST)
    return {
        "undecided": {one["state"]: one["number"] for one in await fetch(_UNDECIDED, AT_MOST)},
        "janitor_due": janitor["due"],
        "janitor_overdue_s": _age_s(janitor["oldest_at"], now) or 0,
        "jobs_ready": ready["number"],
        "jobs_ready_oldest_s": _age_s(ready["oldest_at"], now) or 0,
        "jobs_doing": doing["number"],
        "jobs_doing_oldest_s": _age_s(doing["oldest_at"], now) or 0,
        "jobs_failed": failed["number"],
        "worker_seen_s": _age_s(worker["at"], now),
        "cases": {one["kind"]: one["number"] for one in cases},
        "cases_left": {one["kind"]: one["old"] for one in cases if one["old"]},
    }


async def _callbacks(fetch: Fetch, now: datetime) -> dict[str, Any]:
    last = await fetch(_LAST_CALLBACK)
    (posted,) = await fetch(_POSTED, now - LATELY, now - timedelta(minutes=2))
    return {"last_callback_s": _age_s(last[0]["at"], now) if last else None, "posted_lately": posted["number"]}


async def _bills(fetch: Fetch, now: datetime) -> dict[str, Any]:
    (bills,) = await fetch(_BILLS, now, AT_MOST)
    return {"bills_missing": bills["number"], "bills_missing_since": str(bills["oldest_on"] or "")}


def _certificates(accounts: Sequence[Mapping[str, Any]], now: datetime) -> dict[str, Any]:
    """Days left. WeChat's public keys do not expire: who has one need not mind when an old platform certificate ends;
    of several platform certificates the newest counts."""
    own = [one["certificate_expires_at"] for one in accounts if one["certificate_expires_at"]]
    platform = [
        max(load_pem_x509_certificate(pem.encode()).not_valid_after_utc for pem in one["platform"])
        for one in accounts
        if one["platform"] and not one["has_public_key"]
    ]
    return {
        "merchant_certificate_days": (min(own) - now).days if own else None,
        "platform_certificate_days": (min(platform) - now).days if platform else None,
        "certificates_unknown": len(accounts) - len(own),
    }


def _processes(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    processes: dict[tuple[str, str], int] = {}
    for one in reports:
        processes[one["kind"], one["version"]] = processes.get((one["kind"], one["version"]), 0) + 1
    return {
        "processes": processes,
        "wechat_calls": sum(one["wechat_calls"] for one in reports),
        "wechat_calls_unknown": sum(one["wechat_calls_unknown"] for one in reports),
        "wechat_skew_s": _furthest_s([one["wechat_skew_ms"] for one in reports]),
        "database_skew_s": _furthest_s([one["database_skew_ms"] for one in reports]),
    }


def _alarms(states: Sequence[Mapping[str, Any]], now: datetime) -> dict[str, Any]:
    checked = {one["name"]: one["checked_at"] for one in states}
    others = [at for name, at in checked.items() if name != BOOKS]
    return {
        "alarms": {one["name"]: one["active"] for one in states},
        "alarms_checked_s": _age_s(max(others), now) if others else None,
        "books_checked_s": _age_s(checked.get(BOOKS), now),
    }


BOOKS = "books_broken"
"""The alarm that only a check of the books raises and clears; when it was last looked at is when they were checked."""


def _age_s(at: datetime | None, now: datetime) -> int | None:
    return None if at is None else max(int((now - at).total_seconds()), 0)


def _furthest_s(skews_ms: Sequence[int | None]) -> float:
    return max((skew / 1000 for skew in skews_ms if skew is not None), key=abs, default=0.0)
