"""What one process tells all the others: that something they may keep in memory has changed.

Told inside the transaction that changes it, by PostgreSQL's NOTIFY: nobody hears of what was rolled back, and whoever
listens hears of all that was committed. Who was not listening for a moment is told that anything may have changed.
"""

import asyncio
import contextlib
from collections.abc import Callable

import asyncpg
import structlog

from models.database import APP_ROLE, credentials
from models.unit_of_work import inside_unit_of_work, rows

log = structlog.get_logger()

_CHANNEL = "linli"
_TRY_AGAIN_S = 1
_LOOK_S = 15  # how often the line is tried: a peer that vanished says nothing
_PATIENCE_S = 5

Hears = Callable[[str | None], None]

_heard: dict[str, Hears] = {}
_listening: asyncio.Task[None] | None = None


def hear(topic: str, hears: Hears) -> None:
    """Call ``hears`` with the subject whenever the topic is told, and with None when anything may have been missed."""
    _heard[topic] = hears


async def tell_tx(topic: str, subject: str) -> None:
    """Tell every process that listens, this one too, once the caller's transaction has committed."""
    if not inside_unit_of_work():
        raise RuntimeError("what changed is told inside the transaction that changes it")
    await rows("SELECT pg_notify($1, $2)", _CHANNEL, f"{topic} {subject}")


def start(url: str) -> None:
    """Listen until ``stop``, on a connection of its own; done once at start of a process that keeps things."""
    global _listening
    _listening = asyncio.get_running_loop().create_task(_listen(url))


async def stop() -> None:
    """Stop listening."""
    global _listening
    if _listening is not None:
        _listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await _listening
        _listening = None


async def _listen(url: str) -> None:
    away = False
    while True:
        try:
            settings = {"application_name": "linli listener", "role": APP_ROLE}
            line = await asyncpg.connect(**credentials(url), server_settings=settings, timeout=_PATIENCE_S)
            try:
                ended = asyncio.Event()
                line.add_termination_listener(lambda _line, ended=ended: ended.set())
                await line.add_listener(_CHANNEL, _pass_on)
                _say_anything()
                if away:
                    log.info("listening_again")
                away = False
                while True:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(ended.wait(), _LOOK_S)
                    await line.execute("SELECT 1", timeout=_PATIENCE_S)
            finally:
                line.terminate()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if not away:
                log.warning("not_listening", error=type(error).__name__)
            away = True
            await asyncio.sleep(_TRY_AGAIN_S)


def _pass_on(_line: object, _pid: int, _channel: str, told: object) -> None:
    topic, _, subject = str(told).partition(" ")
    if topic in _heard:
        _heard[topic](subject)


def _say_anything() -> None:
    for hears in _heard.values():
        hears(None)
