"""What a store of limits must do, whichever it is: run against PostgreSQL in make test, against Redis in make slow."""

import asyncio
import random

from kit.ids import new_code
from services.rate_limit_store import Store

NOW_MS = 1_795_000_000_000


class Model:
    """The rule once more, in plain numbers: a bucket of ``within`` that a step takes from and time fills."""

    def __init__(self, step_ms: int, within_ms: int) -> None:
        self.step_ms, self.within_ms = step_ms, within_ms
        self.debt_ms, self.seen_ms = 0, 0

    def take(self, now_ms: int) -> int:
        self.debt_ms = max(0, self.debt_ms - (now_ms - self.seen_ms))
        self.seen_ms = now_ms
        missing_ms = self.debt_ms + self.step_ms - self.within_ms
        if missing_ms > 0:
            return missing_ms
        self.debt_ms += self.step_ms
        return 0


async def lets_a_burst_through_and_then_one_a_step(store: Store) -> None:
    key = new_code(20)
    assert [await store.take(key, NOW_MS, 2000, 6000) for _ in range(3)] == [0, 0, 0]
    # What is refused is not counted: the wait does not grow by asking.
    assert [await store.take(key, NOW_MS, 2000, 6000) for _ in range(3)] == [2000, 2000, 2000]
    assert await store.take(key, NOW_MS + 1999, 2000, 6000) == 1
    assert await store.take(key, NOW_MS + 2000, 2000, 6000) == 0
    assert await store.take(key, NOW_MS + 2000, 2000, 6000) == 2000
    assert [await store.take(key, NOW_MS + 8000, 2000, 6000) for _ in range(4)] == [0, 0, 0, 2000]


async def keeps_callers_apart(store: Store) -> None:
    one, other = new_code(20), new_code(20)
    assert await store.take(one, NOW_MS, 1000, 1000) == 0
    assert await store.take(one, NOW_MS, 1000, 1000) == 1000
    assert await store.take(other, NOW_MS, 1000, 1000) == 0


async def does_as_the_model_does(store: Store) -> None:
    dice = random.Random(20261123)
    for step_ms, times in ((2000, 30), (333, 3), (8_640_000, 10), (1, 5)):
        key, model, now_ms = new_code(20), Model(step_ms, step_ms * times), NOW_MS
        for turn in range(40):
            now_ms += dice.choice((0, 0, 1, step_ms // 2, step_ms, step_ms * 3))
            expected = model.take(now_ms)
            assert await store.take(key, now_ms, step_ms, step_ms * times) == expected, (step_ms, turn)


async def of_many_at_once_lets_exactly_the_burst_through(store: Store) -> None:
    key = new_code(20)
    waits = await asyncio.gather(*(store.take(key, NOW_MS, 60_000, 600_000) for _ in range(40)))
    assert sorted(waits) == [0] * 10 + [60_000] * 30


async def forgives_a_clock_that_was_wrong(store: Store) -> None:
    """A process whose clock is a year ahead must not shut people out for a year; one behind shuts out nobody."""
    key = new_code(20)
    assert await store.take(key, NOW_MS + 365 * 86_400_000, 1000, 1000) == 0
    assert await store.take(key, NOW_MS, 1000, 1000) == 0
    assert await store.take(key, NOW_MS, 1000, 1000) == 1000
    assert await store.take(key, NOW_MS - 500, 1000, 1000) == 0


CONTRACT = (
    lets_a_burst_through_and_then_one_a_step,
    keeps_callers_apart,
    does_as_the_model_does,
    of_many_at_once_lets_exactly_the_burst_through,
    forgives_a_clock_that_was_wrong,
)
