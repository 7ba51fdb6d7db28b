"""Not one callback arrives: how long until the money is posted, with the real worker and the real clock."""

import asyncio
import os
import random
import shutil
from pathlib import Path

from tests.conftest import Database
from tests.siege import Town

PAYMENTS = int(os.environ.get("LINLI_LOST_CALLBACKS", "300"))
OPENED_WITHIN_S = 60
SLOWEST_TO_PAY_S = 60


async def test_with_all_callbacks_lost_money_is_posted_within_two_minutes(
    database: Database, owner, wechat_state: Path, tmp_path: Path
) -> None:
    """Three hundred payments in a minute, each paid 1 to 60 seconds after it was opened."""
    shutil.copy(wechat_state, tmp_path / "sandbox.db")
    chance = random.Random(7)

    async with Town(database, tmp_path, {}, 7).standing(households=30) as town:
        await town.wechat.fault("lost")
        bills = [(town.households[number % 30], number) for number in range(PAYMENTS)]
        issued = [(household, await town.issue(household)) for household, _ in bills]
        wait_s = [(chance.uniform(0, OPENED_WITHIN_S), chance.uniform(1, SLOWEST_TO_PAY_S)) for _ in issued]

        async def live(number: int) -> None:
            household, bill = issued[number]
            await asyncio.sleep(wait_s[number][0])
            opened = await town.open(household.owner, [bill])
            assert opened is not None
            await asyncio.sleep(wait_s[number][1])
            assert await town.pay(opened) == 200

        await asyncio.gather(*(live(number) for number in range(PAYMENTS)))
        async with asyncio.timeout(180):
            while await owner.fetchval("SELECT count(*) FROM entries") < PAYMENTS:
                await asyncio.sleep(1)
        callbacks = (await town.wechat.client.get("/sandbox/callbacks")).json()["callbacks"]

    assert {one["state"] for one in callbacks} == {"lost"}
    took = sorted(row[0] for row in await owner.fetch(
        "SELECT extract(epoch FROM posted_at - occurred_at)::float FROM entries"
    ))  # fmt: skip
    p50, p95, slowest = took[PAYMENTS // 2], took[PAYMENTS * 95 // 100], took[-1]
    print(f"\n{PAYMENTS} payments, no callback: posted after p50 {p50:.0f} s, p95 {p95:.0f} s, at most {slowest:.0f} s")
    assert len(took) == PAYMENTS
    assert p95 <= 120
