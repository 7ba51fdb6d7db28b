"""The one clock. Instants are aware UTC; business dates live in a community's zone.

A rule takes its time as a parameter or asks here; nothing else calls ``datetime.now``. Tests move the clock with
``travel_to`` / ``shift``; a worker that sleeps does so by the real clock, only what it *reads* moves.
"""

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

BEIJING = ZoneInfo("Asia/Shanghai")

_offset = timedelta()


def now() -> datetime:
    """The present instant, aware, UTC."""
    return datetime.now(UTC) + _offset


def unix_s() -> int:
    """The present instant in whole seconds since 1970, as WeChat writes timestamps."""
    return int(time.time() + _offset.total_seconds())


def business_date(instant: datetime, zone: ZoneInfo = BEIJING) -> date:
    """The calendar day on which ``instant`` falls for the people of ``zone``. Refuses a naive instant."""
    if instant.tzinfo is None:
        raise ValueError("a naive instant has no business date")
    return instant.astimezone(zone).date()


def today(zone: ZoneInfo = BEIJING) -> date:
    """The business date of now."""
    return business_date(now(), zone)


def shift(by: timedelta) -> None:
    """Move what ``now`` reads, for tests."""
    global _offset
    _offset += by


@contextlib.contextmanager
def travel_to(instant: datetime) -> Iterator[None]:
    """Inside, ``now`` runs on from ``instant``, for tests."""
    global _offset
    before = _offset
    _offset = instant - datetime.now(UTC)
    try:
        yield
    finally:
        _offset = before
