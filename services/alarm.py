"""Alarms begin, go on and end: looked at once a minute, remembered in the database, told in the log."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

import payments
from kit import clock
from models.alarm import AlarmState
from models.unit_of_work import rows, unit_of_work
from services.alarm_rule import ALARMS, BY_NAME, Alarm, Facts
from services.reading import BOOKS, read

log = structlog.get_logger()

REPEAT = timedelta(hours=1)

_MAKE = """
INSERT INTO alarms (name, active, facts, checked_at) SELECT name, false, '{}', $2 FROM unnest($1::text[]) name
ON CONFLICT (name) DO NOTHING
"""


@dataclass(frozen=True)
class AlarmView:
    """An alarm and how it stands; ``facts`` fill its sentences while it is on."""

    alarm: Alarm
    active: bool
    begun_at: datetime | None
    facts: Facts


async def look() -> list[str]:
    """Look at every alarm but that of the books; the names of those that are on.

    Afterwards the log has a line for each that began, that ended, and, once an hour, that is still on: one line,
    however many workers look and however often they were started again.
    """
    readings = await read(rows)
    found = {alarm.name: alarm.on(readings) for alarm in ALARMS if alarm.name != BOOKS}
    _tell(await _note(found))
    _tell(await _repeat_books())
    return sorted(state.name for state in await AlarmState.filter(active=True))


async def check_books() -> int:
    """Check every invariant of the money, and raise or clear the alarm of the books; how many rows break one."""
    broken = await payments.violations()
    truths = ", ".join(sorted({one.number for one in broken}))
    for one in broken:
        log.error("books_broken", number=one.number, truth=one.truth, found=one.found)
    _tell(await _note({BOOKS: {"number": len(broken), "truths": truths} if broken else None}))
    return len(broken)


async def list_alarms() -> list[AlarmView]:
    """Every alarm, those that are on first."""
    states = {state.name: state for state in await AlarmState.all()}
    views = []
    for alarm in ALARMS:
        state = states.get(alarm.name)
        on = state is not None and state.active
        views.append(
            AlarmView(alarm, on, state.begun_at if state and on else None, state.facts if state and on else {})
        )
    return sorted(views, key=lambda view: not view.active)


@unit_of_work
async def _note(found: dict[str, Facts | None]) -> list[tuple[str, AlarmState]]:
    """Bring the rows up to what was found; what is to be told of which, once this is committed."""
    now = clock.now()
    await rows(_MAKE, [alarm.name for alarm in ALARMS], now)
    news = []
    for state in await AlarmState.filter(name__in=list(found)).order_by("name").select_for_update():
        facts = found[state.name]
        happened = _happened(state, facts is not None, now)
        state.checked_at = now
        if facts is not None:
            state.facts = dict(facts)
        if happened == "alarm_begins":
            state.active, state.begun_at, state.ended_at = True, now, None
        elif happened == "alarm_ends":
            state.active, state.ended_at = False, now
        if happened:
            state.told_at = now
            news.append((happened, state))
        await state.save()
    return news


@unit_of_work
async def _repeat_books() -> list[tuple[str, AlarmState]]:
    """The books are checked once a night, but that they are broken is told every hour."""
    state = await AlarmState.filter(name=BOOKS, active=True).select_for_update().first()
    if state is None or _happened(state, True, clock.now()) is None:
        return []
    state.told_at = clock.now()
    await state.save(update_fields=["told_at"])
    return [("alarm_goes_on", state)]


def _happened(state: AlarmState, on: bool, now: datetime) -> str | None:
    if on != state.active:
        return "alarm_begins" if on else "alarm_ends"
    quiet = state.told_at is not None and now - state.told_at < REPEAT
    return "alarm_goes_on" if on and not quiet else None


def _tell(news: list[tuple[str, AlarmState]]) -> None:
    for happened, state in news:
        alarm = BY_NAME[state.name]
        log.error(  # the end too: whoever collects errors alone must see it
            happened,
            alarm=alarm.name,
            severity=alarm.severity.value,
            since=state.begun_at and state.begun_at.isoformat(),
            zh=alarm.sentence(state.facts, "zh"),
            en=alarm.sentence(state.facts, "en"),
        )
