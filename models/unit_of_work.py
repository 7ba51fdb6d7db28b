"""The only door to a transaction.

A handler is cancelled when its client hangs up. A Tortoise transaction that is cancelled while it opens never gives
its connection back, and a pool of eight is dead after some thirty hang-ups. So a unit of work runs in a task of its
own that the caller's cancellation cannot reach; it always ends in commit or rollback.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

import asyncpg
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.connection import get_connection
from tortoise.transactions import in_transaction

from kit import crash_point
from models.pool import DatabaseBusy

P = ParamSpec("P")
T = TypeVar("T")

_inside: ContextVar[bool] = ContextVar("inside_unit_of_work", default=False)
_running: set[asyncio.Task[Any]] = set()
_units: dict[str, None] = {}
_ATTEMPTS = 3
DRAIN_S = 15.0
_TRY_AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


class NestedUnitOfWork(RuntimeError):
    """A unit of work was started inside another: the outer one would commit half of its meaning."""


def inside_unit_of_work() -> bool:
    """Whether the running code is inside a transaction. Gateways refuse to be called when it is."""
    return _inside.get()


def connection() -> BaseDBAsyncClient:
    """The database connection of the running unit of work, or the pool outside of one."""
    return get_connection("default")


async def rows(sql: str, *values: Any) -> list[dict[str, Any]]:
    """Run one SQL statement with ``$1 …`` values; its rows as dicts (``RETURNING`` included)."""
    return list(await connection().execute_query_dict(sql, list(values)))


async def row(sql: str, *values: Any) -> dict[str, Any] | None:
    """The first row of ``rows``, or None."""
    found = await rows(sql, *values)
    return found[0] if found else None


async def batches(sql: str, *values: Any, size: int = 1_000) -> AsyncGenerator[list[dict[str, Any]], None]:
    """The rows of one SELECT, ``size`` at a time, all of one moment and on a connection of its own: for more rows than
    fit into memory. It holds that connection until it is exhausted or closed (``contextlib.aclosing``); what the caller
    does meanwhile in the database is another transaction."""
    pool: Any = get_connection("default")._pool  # type: ignore[attr-defined]
    async with pool.acquire() as lent, lent.transaction(isolation="repeatable_read", readonly=True):
        cursor = await lent.cursor(sql, *values)
        while found := await cursor.fetch(size):
            yield [dict(one) for one in found]


def units() -> list[str]:
    """The names of the units of work that were declared so far: the module's and the function's."""
    return list(_units)


def unit_of_work(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Make ``function`` one transaction: all of it or nothing, finished even if the caller goes away.

    Refuses nesting with NestedUnitOfWork. A deadlock or serialization failure runs it again, at most three times in
    all, so it must not touch anything outside the database. There is a crash point before and after its commit.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    _units[name] = None
    before_commit, after_commit = f"{name}.before_commit", f"{name}.after_commit"

    async def work(*args: P.args, **kwargs: P.kwargs) -> T:
        _inside.set(True)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with in_transaction("default"):
                    result = await function(*args, **kwargs)
                    crash_point.passing(before_commit)
                crash_point.passing(after_commit)
                return result
            except _TRY_AGAIN:
                if attempt == _ATTEMPTS:
                    raise DatabaseBusy() from None
                await asyncio.sleep(0.02 * attempt)
            except (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError) as error:
                raise DatabaseBusy() from error
        raise AssertionError("unreachable")

    @functools.wraps(function)
    async def shielded(*args: P.args, **kwargs: P.kwargs) -> T:
        if _inside.get():
            raise NestedUnitOfWork(getattr(function, "__qualname__", repr(function)))
        return await finish(work(*args, **kwargs))

    return shielded


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` in a task of its own, which goes on to its end when the caller is cancelled; ``drain`` waits."""
    task: asyncio.Task[T] = asyncio.get_running_loop().create_task(work)
    _running.add(task)  # the loop itself keeps only a weak reference
    task.add_done_callback(_running.discard)
    return await asyncio.shield(task)


async def drain(patience_s: float = DRAIN_S) -> int:
    """Wait for the units of work whose callers went away; called at shutdown before the pool closes. How many were not
    done in time: the database takes back what they had not committed."""
    until = asyncio.get_running_loop().time() + patience_s
    while _running and (left := until - asyncio.get_running_loop().time()) > 0:
        await asyncio.wait(list(_running), timeout=left)
    return len(_running)
