"""Sweeping: rows whose ``next_check_at`` has come are claimed batch by batch and worked, a few at a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog

from kit import clock
from models.unit_of_work import rows, unit_of_work

log = structlog.get_logger()

AT_ONCE = 8
A_BATCH = 3 * AT_ONCE  # what is surely worked while the claim lasts, even when WeChat hangs
_A_SWEEP_S = 30
_CLAIM_S = 30  # a claimed row is left alone this long; a sweep that dies loses no more than that

_CLAIM = """
UPDATE {table} SET next_check_at = $1 WHERE id IN (
    SELECT id FROM {table} WHERE next_check_at <= $2 ORDER BY next_check_at LIMIT $3
    FOR UPDATE SKIP LOCKED)
RETURNING id
"""


class Sweep:
    """The sweep of one table. ``work`` is given one id after the other, outside of any transaction; it is what sets the
    row's next look. One sweep a process: a WeChat that hangs must not take every place of the worker."""

    def __init__(self, table: str, work: Callable[[UUID], Awaitable[Any]]) -> None:
        self._claim = _CLAIM.format(table=table)
        self._table = table
        self._work = work
        self._sweeping = asyncio.Lock()

    async def run(self) -> int:
        """Work what is due for half a minute at most; how many there were. Sweeps of several processes share the work,
        and one that finds another of its process under way leaves it to that one."""
        if self._sweeping.locked():
            return 0
        async with self._sweeping:
            begun, worked = time.monotonic(), 0
            gate = asyncio.Semaphore(AT_ONCE)

            async def work(row_id: UUID) -> None:
                async with gate:
                    try:
                        await self._work(row_id)
                    except Exception:  # one row's trouble must not keep the others waiting; it is tried again
                        log.exception("check_failed", table=self._table, id=str(row_id))

            while claimed := await _claim(self._claim, A_BATCH):
                await asyncio.gather(*(work(row_id) for row_id in claimed))
                worked += len(claimed)
                if time.monotonic() - begun > _A_SWEEP_S:
                    break
            return worked


@unit_of_work
async def _claim(statement: str, limit: int) -> list[UUID]:
    now = clock.now()
    claimed = await rows(statement, now + timedelta(seconds=_CLAIM_S), now, limit)
    return [UUID(str(found["id"])) for found in claimed]
