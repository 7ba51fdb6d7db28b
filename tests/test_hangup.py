"""Clients that hang up: the mini-program goes to the background, the lift loses the signal."""

import asyncio
import random
from urllib.parse import urlsplit

import httpx

from tests.conftest import SandboxControl
from tests.world import World

HANG_UPS = 400


async def test_four_hundred_clients_that_hang_up_leak_no_connection(
    world: World, sandbox: SandboxControl, api_base: str, owner, books, unlimited: None
) -> None:
    home = await world.home(bills=2)
    place = urlsplit(api_base)
    body = f'{{"bill_ids":["{home.bill_ids[0]}"],"channel":"wechat_jsapi"}}'
    dice = random.Random(20261123)

    async def hang_up(number: int) -> None:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        head = (
            f"POST /api/v1/payments HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {home.owner.token}\r\n"
            f"Idempotency-Key: {number}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write((head + body).encode())
        await writer.drain()
        await asyncio.sleep(dice.random() * 0.05)
        writer.transport.abort()
        assert reader is not None

    gate = asyncio.Semaphore(20)

    async def one(number: int) -> None:
        async with gate:
            await hang_up(number)

    async with asyncio.timeout(60):
        await asyncio.gather(*(one(number) for number in range(HANG_UPS)))
        await asyncio.sleep(0.5)

        # The pool has sixteen: all of them still serve at once, and nothing is stuck in a transaction.
        answers = await asyncio.gather(*(home.owner.get("/api/v1/bills") for _ in range(48)))
    assert {answer.status_code for answer in answers} == {200}
    stuck = await owner.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
    )
    assert stuck == 0
    async with httpx.AsyncClient(base_url=api_base, trust_env=False) as client:
        assert (await client.get("/healthz")).status_code == 200
    assert (await home.open(bill_ids=[home.bill_ids[0]])).status_code == 201
