"""Redis, when ``REDIS_URL`` names one: what several processes share and may lose. Nothing here is ever the only copy.

Whoever asks must be able to go on without an answer. An answer that takes too long counts as none, and after one that
did not come Redis is left alone for a moment, so that a dead one costs a request in a while and not every request.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

log = structlog.get_logger()

Answer = TypeVar("Answer")

PATIENCE_S = 0.25
RESTS_S = (1, 2, 5)  # how long Redis is left alone after the first, the second, and each further silence
_CONNECTIONS = 32


class RedisAway(Exception):
    """Redis did not answer, or is left alone because it did not a moment ago."""


class SharedRedis:
    """One Redis, asked with little patience."""

    def __init__(self, url: str) -> None:
        # A connection that Redis closed meanwhile (a restart) is opened anew once, within the same patience.
        self._pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=PATIENCE_S,
            socket_timeout=PATIENCE_S,
            socket_connect_timeout=PATIENCE_S,
            retry=Retry(NoBackoff(), 1),
            decode_responses=True,
        )
        self._client = Redis(connection_pool=self._pool)
        self._silences = 0
        self._noted_at = 0.0
        self._rests_until = 0.0

    async def ask(self, work: Callable[[Redis], Awaitable[Answer]]) -> Answer:
        """What ``work`` hears from Redis, within ``PATIENCE_S``; RedisAway otherwise."""
        started = time.monotonic()
        if started < self._rests_until:
            raise RedisAway()
        if self._silences:
            self._rests_until = started + PATIENCE_S  # while this one tries, the others go on without it
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await work(self._client)
        except (RedisError, OSError, TimeoutError) as error:
            self._note_silence(error, started)
            raise RedisAway() from None
        if self._silences:
            self._silences, self._rests_until = 0, 0.0
            log.info("redis_back")
        return answer

    def _note_silence(self, error: Exception, started: float) -> None:
        if started < self._noted_at:
            return  # one of many that were under way together: their silence is noted already
        if self._silences == 0:
            # The text of the error may hold the address; its kind says enough.
            log.error("redis_away", error=type(error).__name__)
        self._noted_at = time.monotonic()
        self._rests_until = self._noted_at + RESTS_S[min(self._silences, len(RESTS_S) - 1)]
        self._silences += 1

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
        await self._pool.aclose()


_shared: SharedRedis | None = None


def configure(url: str | None) -> None:
    """Name the Redis of this process, or none; done once at start."""
    global _shared
    _shared = SharedRedis(url) if url else None


def shared() -> SharedRedis | None:
    """The Redis of this process, if there is one."""
    return _shared


async def close() -> None:
    """Close the connections; done once at the end of the process."""
    global _shared
    if _shared is not None:
        await _shared.close()
        _shared = None
