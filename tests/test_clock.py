"""The clock: aware, UTC, and movable for tests."""

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from kit import clock


def test_now_is_aware_and_utc() -> None:
    assert clock.now().utcoffset() == timedelta()
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert abs(clock.unix_s() - clock.now().timestamp()) < 2


def test_a_naive_instant_has_no_business_date() -> None:
    with pytest.raises(ValueError, match="naive"):
        clock.business_date(datetime(2026, 11, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("instant", "day"),
    [
        (datetime(2026, 11, 1, 15, 59, 59, 999999, tzinfo=UTC), date(2026, 11, 1)),
        (datetime(2026, 11, 1, 16, tzinfo=UTC), date(2026, 11, 2)),
        (datetime(2026, 12, 31, 16, tzinfo=UTC), date(2027, 1, 1)),
        (datetime(2024, 2, 28, 16, tzinfo=UTC), date(2024, 2, 29)),
        (datetime(2026, 11, 1, 23, 30, tzinfo=timezone(timedelta(hours=8))), date(2026, 11, 1)),
    ],
)
def test_the_business_day_begins_at_midnight_in_beijing(instant: datetime, day: date) -> None:
    assert clock.business_date(instant) == day


def test_another_zone_has_another_day() -> None:
    instant = datetime(2026, 11, 1, 17, tzinfo=UTC)
    assert clock.business_date(instant, ZoneInfo("Asia/Urumqi")) == date(2026, 11, 1)


def test_travelling_and_coming_back() -> None:
    before = clock.now()
    with clock.travel_to(datetime(2030, 1, 1, 17, tzinfo=UTC)):
        assert clock.today() == date(2030, 1, 2)
        assert clock.unix_s() in (1893517200, 1893517201)
        with clock.travel_to(datetime(2020, 1, 1, tzinfo=UTC)):
            assert clock.now().year == 2020
            clock.shift(timedelta(days=366))
            assert clock.today() == date(2021, 1, 1)
        assert clock.now().year == 2030
        with pytest.raises(LookupError), clock.travel_to(datetime(1999, 1, 1, tzinfo=UTC)):
            raise LookupError
        assert clock.now().year == 2030
    assert timedelta() <= clock.now() - before < timedelta(seconds=5)
