"""How many queries a request costs: fixed here, so that a query in a loop is seen at once."""

import contextlib
from collections.abc import AsyncIterator
from datetime import date

import asyncpg
import pytest

from tests.conftest import SandboxControl
from tests.world import Home, World

QUERIES: list[str] = []


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that goes to the database, in order."""
    QUERIES.clear()
    for name in ("fetch", "fetchrow", "fetchval", "execute", "executemany"):
        original = getattr(asyncpg.Connection, name)

        def spy(self, query, *args, _original=original, **kwargs):
            QUERIES.append(" ".join(str(query).split()))
            return _original(self, query, *args, **kwargs)

        monkeypatch.setattr(asyncpg.Connection, name, spy)
    return QUERIES


@contextlib.asynccontextmanager
async def cost(counting: list[str]) -> AsyncIterator[list[str]]:
    counting.clear()
    spent: list[str] = []
    yield spent
    pool_noise = ("SELECT pg_advisory_unlock_all()", "BEGIN", "COMMIT", "ROLLBACK")
    spent[:] = [query for query in counting if not query.startswith(pool_noise)]


async def test_listing_bills_costs_the_same_for_one_and_for_twenty(world: World, counting: list[str]) -> None:
    home = await world.home(bills=1)
    async with cost(counting) as one:
        assert len((await home.owner.get("/api/v1/bills?status=open")).json()["items"]) == 1
    for month in range(1, 11):
        await world.bill(home.company, home.room, home.customer, month=date(2025, month, 1), lines_fen=[100, 200])
    async with cost(counting) as many:
        assert len((await home.owner.get("/api/v1/bills?status=open")).json()["items"]) == 11

    # session, occupancies, bills with all that is shown of them
    assert len(one) == len(many) == 3, many


async def test_opening_a_payment(world: World, sandbox: SandboxControl, counting: list[str]) -> None:
    async def opened(home: Home) -> int:
        await home.open()  # a first time, so that the merchant's keys are loaded
        (first,) = (await home.owner.get("/api/v1/payments")).json()["items"]
        await home.owner.post(f"/api/v1/payments/{first['id']}/cancel")
        async with cost(counting) as spent:
            assert (await home.open()).status_code == 201
        return len(spent)

    # one of them counts how often somebody opens payments
    assert await opened(await world.home(bills=1)) == 22


async def test_settling_by_callback(world: World, sandbox: SandboxControl, counting: list[str]) -> None:
    """The notice kept; lock, bills, lines, and one statement that writes it all. An account is looked up until it is
    known to be committed."""
    home = await world.home(bills=3)

    async def settled(bill_id: str) -> int:
        opened = (await home.open(bill_ids=[bill_id])).json()
        async with cost(counting) as spent:
            paid = (await sandbox.pay(opened)).json()
            await sandbox.called_back(paid["out_trade_no"])
        return len(spent)

    assert [await settled(bill_id) for bill_id in home.bill_ids] == [7, 7, 5]


async def test_a_repeated_callback_costs_one_statement(
    world: World, sandbox: SandboxControl, counting: list[str]
) -> None:
    home = await world.home()
    paid = (await sandbox.pay((await home.open()).json())).json()
    callback = await sandbox.called_back(paid["out_trade_no"])
    async with cost(counting) as spent:
        await sandbox.post(f"/sandbox/callbacks/{callback['id']}/resend", {"times": 1})

    assert len(spent) == 1 and spent[0].startswith("INSERT INTO notifications"), spent
