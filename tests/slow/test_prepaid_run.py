"""A monthly run over a thousand households; tests/test_prepaid.py does the same with a handful."""

import asyncio
import time
from datetime import date

from models.access import Role
from models.bill import Bill
from models.payment import Payment
from models.prepaid import PrepaidRun
from services import prepaid_run
from tests.conftest import Drain
from tests.surplus_home import balances
from tests.till import Till, till
from tests.world import Home, World

HOUSEHOLDS = 1000


async def test_a_thousand_households_are_paid_once_by_two_workers(world: World, drain: Drain, books) -> None:
    counter = await till(world, bills=0)
    finance = await world.staff(counter.home.company, Role.FINANCE, counter.home.community)
    gate = asyncio.Semaphore(6)

    async def household(number: int) -> None:
        async with gate:
            home = counter.home
            room = await world.room(home.community, f"3栋{number // 20 + 1}单元{number}")
            customer = await world.customer(home.company, f"业主{number}")
            for month in (1, 2):
                await world.bill(home.company, room, customer, 20000, month=date(2026, month, 1))
            theirs = Home(home.company, home.community, room, home.owner, customer, [])
            await Till(world, theirs, counter.clerk, counter.actor, counter.shift).top_up(30000 + number)

    await household(0)  # what all share is made once
    await asyncio.gather(*(household(number) for number in range(1, HOUSEHOLDS)))
    started = await finance.post(f"/api/v1/staff/communities/{counter.home.community.id}/prepaid-runs")
    assert started.json()["account_count"] == HOUSEHOLDS
    run = await PrepaidRun.get()

    begun, rounds = time.monotonic(), 0
    while run.state == "running":
        await asyncio.gather(prepaid_run.work_run(run.id), prepaid_run.work_run(run.id))
        await run.refresh_from_db()
        rounds += 1
    took = time.monotonic() - begun
    print(f"{HOUSEHOLDS} households in {took:.1f} s, {rounds} rounds of at most 20 s")

    seen = (await finance.get(f"/api/v1/staff/prepaid-runs/{run.id}")).json()
    assert (seen["done"], seen["failed"], seen["bills"]) == (HOUSEHOLDS, 0, 2 * HOUSEHOLDS)
    paid_fen = sum(min(30000 + number, 40000) for number in range(HOUSEHOLDS))
    assert seen["paid_fen"] == paid_fen == sum(one.amount_fen for one in await Payment.filter(channel="prepaid"))
    assert await Payment.filter(channel="prepaid").count() == HOUSEHOLDS
    assert sum(bill.paid_fen for bill in await Bill.filter(kind="charge")) == paid_fen
    assert -(await balances())["received"] == paid_fen
    assert took < 180, took
    assert await prepaid_run.work_run(run.id) == 0  # it is done
    await drain()
