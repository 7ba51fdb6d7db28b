"""Several API processes on one database. The Redis they name does not answer here: what it shares is shared without it
(tests/slow/test_redis.py has one that does)."""

from pathlib import Path
from typing import Any

from models.rate_limit import RateLimit
from tests.conftest import Database
from tests.several_processes import (
    a_day_at_both,
    a_key_added_at_a_is_known_at_b,
    limits_are_counted_together,
    town,
)
from tests.test_serve import Command, free_port


async def test_two_processes_are_one_service(
    database: Database, wechat_state: Path, tmp_path: Path, owner: Any, books: Any
) -> None:
    redis = f"redis://127.0.0.1:{free_port()}"  # nobody listens there
    async with town(database, wechat_state, tmp_path, redis) as both:
        await a_day_at_both(both, *await a_key_added_at_a_is_known_at_b(both, owner))
        await limits_are_counted_together(both)
        assert await RateLimit.all().count() >= 3
        third = Command(database, tmp_path / "state", both.sandbox.base, "serve")
        code, printed = await third.ended()
        ends = [await command.end() for command in both.commands]

    assert (code, printed.strip()) == (
        1,
        "linli: another API process serves this database already; one API process is all that runs without Redis",
    )
    for ended, logged in ends:
        assert ended == 0
        assert logged.count('"redis_away"') == 1, logged  # said once, not with every request
