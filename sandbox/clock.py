"""The sandbox's time: what it writes, when things run out, and when a callback is tried again.

Three readings, because a test wants to move one without the others:

- the calendar (``now``) is written into orders and signatures; it is the real one unless ``calendar_offset_s`` is set;
- life (``life_s``) decides whether a prepay_id, a code or a token has run out; ``advance`` moves it;
- ticks (``tick_ms``) run the retry schedule, ``speed`` times as fast as real time; ``advance`` moves them too.
"""

import time
from datetime import UTC, datetime, timedelta

from kit import clock
from sandbox.error import ControlError
from sandbox.store import Store


class Clock:
    """Survives a restart: offsets and the anchor of the fast clock are kept in the store."""

    def __init__(self, store: Store, speed: int) -> None:
        self._store = store
        self.advanced_s = store.number("clock.advanced_s", 0)
        self.calendar_offset_s = store.number("clock.calendar_offset_s", 0)
        self._anchor_real_ms = store.number("clock.anchor_real_ms", _real_ms())
        self._anchor_tick_ms = store.number("clock.anchor_tick_ms", self._anchor_real_ms)
        self.speed = store.number("clock.speed", speed)
        self.set_speed(speed)

    def now(self) -> datetime:
        """The calendar, aware UTC."""
        return clock.now() + timedelta(seconds=self.calendar_offset_s)

    def unix_s(self) -> int:
        """The calendar in unix seconds, as headers carry it."""
        return clock.unix_s() + self.calendar_offset_s

    def life_s(self) -> int:
        """The reading on which things run out."""
        return self.unix_s() + self.advanced_s

    def tick_ms(self) -> int:
        """The reading of the retry schedule."""
        return self._anchor_tick_ms + (_real_ms() - self._anchor_real_ms) * self.speed

    def real_ms_until(self, tick_ms: int) -> int:
        """How long to sleep until the schedule reads ``tick_ms``; 0 when it is past."""
        return max(-((self.tick_ms() - tick_ms) // self.speed), 0)

    def set_speed(self, speed: int) -> None:
        """From now on the schedule runs ``speed`` times as fast; what has passed stays passed."""
        self._anchor(self.tick_ms())
        self.speed = speed
        self._store.set_number("clock.speed", speed)

    def advance(self, seconds: int) -> None:
        """Let ``seconds`` pass at once, for the schedule and for everything that runs out."""
        self._anchor(self.tick_ms() + seconds * 1000)
        self.advanced_s += seconds
        self._store.set_number("clock.advanced_s", self.advanced_s)

    def seconds_until(self, text: str) -> int:
        """How long it is, as things run out, to an instant: RFC 3339, or ``tomorrow 10:30`` in Beijing.

        422 for anything else; negative when it has passed.
        """
        reached = datetime.fromtimestamp(self.life_s(), UTC).astimezone(clock.BEIJING)
        try:
            if text.startswith("tomorrow "):
                hour = datetime.strptime(text, "tomorrow %H:%M").replace(tzinfo=clock.BEIJING)
                day = reached.date() + timedelta(days=1)
                instant = datetime.combine(day, hour.time(), clock.BEIJING)
            else:
                instant = datetime.fromisoformat(text)
            return int((instant - reached).total_seconds())
        except (ValueError, TypeError, OverflowError) as unreadable:
            message = "advance_to 为 2026-11-24T10:30:00+08:00 或 tomorrow 10:30 这样的时间。"
            raise ControlError(422, "invalid_input", message, fields=["advance_to"]) from unreadable

    def set_calendar_offset(self, seconds: int) -> None:
        """Write dates ``seconds`` from the real ones: for a test that has moved the other side's clock as well."""
        self.calendar_offset_s = seconds
        self._store.set_number("clock.calendar_offset_s", seconds)

    def _anchor(self, tick_ms: int) -> None:
        self._anchor_real_ms, self._anchor_tick_ms = _real_ms(), tick_ms
        self._store.set_number("clock.anchor_real_ms", self._anchor_real_ms)
        self._store.set_number("clock.anchor_tick_ms", self._anchor_tick_ms)


def beijing(instant: datetime) -> str:
    """RFC 3339 as WeChat writes it: Beijing, whole seconds, ``+08:00``."""
    return instant.astimezone(clock.BEIJING).isoformat(timespec="seconds")


def _real_ms() -> int:
    # The schedule is slept through, so it follows the real clock, not the one that tests move.
    return time.time_ns() // 1_000_000
