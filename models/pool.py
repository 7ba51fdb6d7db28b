"""The pool of database connections: nobody waits for one without end, and WeChat's callbacks not behind all others.

asyncpg's own pool waits for ever. Here a wait ends after ``PATIENCE_S`` in DatabaseBusy, by a clock of ours, whatever
the server does; an eighth of the connections is kept for what runs as ``urgent``. Tortoise takes this module as its
engine.
"""

import asyncio
import time
from contextvars import ContextVar
from typing import Any

import asyncpg
from asyncpg.protocol import Record
from tortoise.backends.asyncpg.client import AsyncpgDBClient, TransactionWrapper
from tortoise.backends.base.client import TransactionContext, TransactionContextPooled
from tortoise.connection import get_connection, get_connections

from kit.errors import Refusal

PATIENCE_S = 3.0
KEPT_FREE = 8  # one in so many is for what is urgent

urgent: ContextVar[bool] = ContextVar("urgent", default=False)


class DatabaseBusy(Refusal):
    """A lock or a connection was not to be had in time; nothing was changed."""

    status = 503
    zh = "系统繁忙，请稍后再试。您的操作没有生效，不会重复扣款。"
    en = "The system is busy; nothing was done. Please try again shortly."
    retry_after_s = 2


class Pool(asyncpg.Pool):
    """asyncpg's pool with bounded waits, places kept for what is urgent, and a count of those who wait."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.waiting = 0
        self.size = int(options["max_size"])
        self._common = asyncio.Semaphore(self.size - self.size // KEPT_FREE)
        self._common_lent: set[Any] = set()

    @property
    def in_use(self) -> int:
        """How many connections somebody holds."""
        return sum(not holder.is_idle() for holder in self._holders)

    async def _acquire(self, timeout: float | None) -> Any:  # noqa: ASYNC109 - asyncpg's own
        until = time.monotonic() + (timeout or PATIENCE_S)
        common = not urgent.get()
        self.waiting += 1
        try:
            if common:
                await self._turn(until)
            try:
                lent = await super()._acquire(max(until - time.monotonic(), 0.001))
            except BaseException:
                if common:
                    self._common.release()
                raise
        except TimeoutError:
            raise DatabaseBusy() from None
        finally:
            self.waiting -= 1
        if common:
            self._common_lent.add(lent)
        return lent

    async def _turn(self, until: float) -> None:
        if self._common.locked():
            async with asyncio.timeout(until - time.monotonic()):
                await self._common.acquire()
        else:
            await self._common.acquire()

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's own
        try:
            await super().release(connection, timeout=timeout)
        finally:
            if connection in self._common_lent:
                self._common_lent.remove(connection)
                self._common.release()


class _Transaction(TransactionContextPooled):
    """Tortoise's, but a BEGIN that fails (the server has just gone) gives its connection back: it never did."""

    async def __aenter__(self) -> Any:
        try:
            return await super().__aenter__()
        except BaseException:
            pool, lent = self.client._parent._pool, self.client._connection
            if pool and lent:
                if hasattr(self, "token"):
                    get_connections().reset(self.token)
                await pool.release(lent)
            raise


class Client(AsyncpgDBClient):
    """Tortoise's client on our pool."""

    async def create_pool(self, **options: Any) -> Pool:
        defaults = {"max_queries": 50_000, "max_inactive_connection_lifetime": 300.0, "record_class": Record}
        return await Pool(**defaults, **options)

    def _in_transaction(self) -> TransactionContext:
        return _Transaction(TransactionWrapper(self), self._pool_init_lock)


client_class = Client


def pool() -> Pool | None:
    """The pool of this process, None before its first use and after its end."""
    return getattr(get_connection("default"), "_pool", None)
