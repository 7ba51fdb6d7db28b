"""Deciding refunds in their time: one task that waits for the next one due on the retry clock."""

import asyncio
import contextlib
from collections.abc import Callable

from sanic.log import logger

from sandbox.clock import Clock
from sandbox.store import Store


class Decider:
    """Started with what decides; knows of a refund only its number and when it is due."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, decide: Callable[[int], object]) -> None:
        """Begin; what fell due while nothing ran is decided at once."""
        self._task = asyncio.create_task(self._run(decide))

    async def stop(self) -> None:
        """End; what is not decided is taken up by the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        """A refund came, or the clock was moved."""
        self._wake.set()

    async def _run(self, decide: Callable[[int], object]) -> None:
        while True:
            self._wake.clear()
            due = self._store.row("SELECT seq, due_ms FROM refund WHERE due_ms IS NOT NULL ORDER BY due_ms LIMIT 1")
            wait_ms = None if due is None else self._clock.real_ms_until(due["due_ms"])
            if due is not None and wait_ms == 0:
                self._decide(decide, due["seq"])
                # Many at once must not keep the server from its requests.
                await asyncio.sleep(0)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if wait_ms is None else wait_ms / 1000):
                    await self._wake.wait()

    def _decide(self, decide: Callable[[int], object], seq: int) -> None:
        try:
            decide(seq)
        except Exception:
            # Left undecided rather than tried again at once for ever.
            logger.exception("a refund could not be decided")
            self._store.execute("UPDATE refund SET due_ms = NULL WHERE seq = ?", seq)
