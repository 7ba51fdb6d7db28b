"""What one process tells the others: on commit, never of what was rolled back, and everything after a silence."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

import payments
from models import broadcast
from models.unit_of_work import unit_of_work
from payments import merchant
from payments.merchant import keys_of
from tests.conftest import Database, SandboxControl
from tests.world import World

Heard = list[str | None]


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not fact():
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture(loop_scope="session")
async def heard(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Heard]:
    """A process that listens to the topic ``test``."""
    found: Heard = []
    monkeypatch.setattr(broadcast, "_heard", {**broadcast._heard, "test": found.append})
    broadcast.start(database.url)
    await until(lambda: found == [None])  # whoever begins to listen may have missed anything
    found.clear()
    yield found
    await broadcast.stop()


@unit_of_work
async def tell(subject: str, *, fails: bool = False) -> None:
    await broadcast.tell_tx("test", subject)
    await broadcast.tell_tx("nobody listens to this", subject)
    if fails:
        raise LookupError


async def test_what_is_committed_is_heard_and_what_is_rolled_back_is_not(heard: Heard) -> None:
    with pytest.raises(LookupError):
        await tell("rolled back", fails=True)
    await tell("with a space")
    await until(lambda: heard == ["with a space"])
    with pytest.raises(RuntimeError, match="inside the transaction"):
        await broadcast.tell_tx("test", "outside")


async def test_a_line_that_breaks_is_laid_again_and_anything_may_have_been_missed(heard: Heard, owner: Any) -> None:
    await owner.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'linli listener' AND datname = current_database()"
    )
    await until(lambda: heard == [None])
    await tell("again")
    await until(lambda: heard == [None, "again"])


async def test_keys_that_were_being_read_while_they_changed_are_not_kept(
    world: World, sandbox: SandboxControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = await world.home()
    account_id = home.company.merchant.id
    decrypt = merchant.decrypt

    def changed_meanwhile(stored: str, context: str) -> str:
        payments.forget_keys(str(account_id))
        return decrypt(stored, context)

    monkeypatch.setattr(merchant, "decrypt", changed_meanwhile)
    assert await keys_of(account_id) is not None
    assert account_id not in merchant._cache
    monkeypatch.undo()
    assert await keys_of(account_id) is merchant._cache[account_id][1]
    payments.forget_keys(None)
    assert merchant._cache == {}
