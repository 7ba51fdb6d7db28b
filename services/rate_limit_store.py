"""Where limits are counted: in PostgreSQL, or in Redis when there is one.

Both keep one instant for a key, when its caller has all of the limit again (the generic cell rate algorithm of ITU-T
I.371: a burst of ``times``, then one each ``within / times``), and move it in one atomic step. Instants are whole
milliseconds since 1970 by the caller's clock, so that both count the same to the millisecond.
"""

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from models.redis import RedisAway, SharedRedis
from models.unit_of_work import row, rows, unit_of_work

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)

# An instant from beyond the limit's length was written by a clock that was wrong: it is as good as none.
_TAKE = """
INSERT INTO rate_limits AS r (key, full_at) VALUES ($1, $2::timestamptz + $3::interval)
ON CONFLICT (key) DO UPDATE
    SET full_at = CASE WHEN r.full_at BETWEEN $2 AND $2 + $4::interval THEN r.full_at ELSE $2 END + $3
    WHERE r.full_at + $3 <= $2 + $4 OR r.full_at > $2 + $4
RETURNING full_at
"""
_LOOK = "SELECT full_at FROM rate_limits WHERE key = $1"
_PRUNE = """
DELETE FROM rate_limits WHERE key IN (SELECT key FROM rate_limits WHERE full_at < $1 LIMIT 10000) RETURNING key
"""
# Lua would write a large number in short; %.0f writes every digit. A minute more than it says, for clocks that differ.
_TAKE_IN_REDIS = """
local now, step, within = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local full = tonumber(redis.call('GET', KEYS[1]) or now)
if full < now or full > now + within then full = now end
full = full + step
if full > now + within then return full - within - now end
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', full - now + 60000)
return 0
"""


class Store(Protocol):
    """A place where limits are counted."""

    def take(self, key: str, now_ms: int, step_ms: int, within_ms: int) -> Awaitable[int]:
        """Take one of what ``key`` has left: 0, or the milliseconds to wait, and then nothing was taken."""
        ...


class PostgresStore:
    """Counts in the table ``rate_limits``."""

    @unit_of_work
    async def take(self, key: str, now_ms: int, step_ms: int, within_ms: int) -> int:
        """See Store."""
        if await row(_TAKE, key, _EPOCH + now_ms * _MS, step_ms * _MS, within_ms * _MS):
            return 0
        found = await row(_LOOK, key)  # a look of its own, to see who was let through a moment ago
        full_ms = in_ms(found["full_at"]) if found else now_ms + within_ms
        return max(1, full_ms + step_ms - within_ms - now_ms)


class RedisStore:
    """Counts in Redis. Raises RedisAway."""

    def __init__(self, redis: SharedRedis) -> None:
        self._redis = redis

    async def take(self, key: str, now_ms: int, step_ms: int, within_ms: int) -> int:
        """See Store."""
        waits = await self._redis.ask(
            lambda redis: redis.register_script(_TAKE_IN_REDIS)(
                keys=[f"linli:limit:{key}"], args=[now_ms, step_ms, within_ms]
            )
        )
        return int(waits)


class RedisFirst:
    """Counts in Redis, and in PostgreSQL while Redis is away: then a caller may have up to twice the limit once."""

    def __init__(self, redis: Store, otherwise: Store) -> None:
        self._redis, self._otherwise = redis, otherwise

    async def take(self, key: str, now_ms: int, step_ms: int, within_ms: int) -> int:
        """See Store."""
        try:
            return await self._redis.take(key, now_ms, step_ms, within_ms)
        except RedisAway:
            return await self._otherwise.take(key, now_ms, step_ms, within_ms)


def in_ms(instant: datetime) -> int:
    """Whole milliseconds since 1970."""
    return (instant - _EPOCH) // _MS


@unit_of_work
async def prune(now: datetime) -> int:
    """Forget callers who have all of their limit again, at most 10,000 at once; how many."""
    return len(await rows(_PRUNE, now))
