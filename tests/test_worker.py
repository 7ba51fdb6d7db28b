"""How the worker treats jobs that fail."""

import asyncpg
from procrastinate.jobs import Job

from jobs.upkeep import drop_partitions
from jobs.worker import ForADay
from tests.conftest import Database


def test_consequences_of_money_are_tried_for_about_a_day() -> None:
    waits = []
    for attempts in range(1000):
        job = Job(id=1, queue="q", lock=None, queueing_lock=None, task_name="t", attempts=attempts)
        decision = ForADay().get_retry_decision(exception=ValueError(), job=job)
        if decision is None:
            break
        assert decision.retry_at is not None
        waits.append(min(2 ** min(attempts + 1, 10), 1024))

    assert waits[:10] == [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
    assert len(waits) == 90 and 22 * 3600 < sum(waits) < 26 * 3600


async def test_months_past_their_retention_are_let_go_and_no_others(
    database: Database, owner: asyncpg.Connection
) -> None:
    months = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^(audits|notifications)_' ORDER BY 1"
    before = [row["relname"] for row in await owner.fetch(months)]
    for parent, month in (("notifications", "2020-01"), ("audits", "2010-01"), ("audits", "2020-01")):
        await owner.execute(
            f"CREATE TABLE {parent}_{month.replace('-', '_')} PARTITION OF {parent}"
            f" FOR VALUES FROM ('{month}-01') TO ('{month}-28')"
        )

    assert await drop_partitions() == 2
    assert await drop_partitions() == 0

    after = [row["relname"] for row in await owner.fetch(months)]
    assert sorted(after) == sorted([*before, "audits_2020_01"])
    assert {"audits_default", "notifications_default"} <= set(after)
