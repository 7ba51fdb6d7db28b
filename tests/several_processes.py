"""Two API processes on one database, and a WeChat that calls back the first. With a Redis that does not answer in make
test, where everything goes on without it; with one that lives, and dies, in make slow."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from models.access import Role
from models.payment import Payment
from sandbox.config import Config
from sandbox.main import running
from services.rate_limit import OPEN_PAYMENT
from tests.conftest import Database, SandboxControl
from tests.test_serve import Command, free_port, until_answers
from tests.world import Home, Person, World, registered_at_wechat

HEARD_WITHIN_S = 3


@dataclass
class Town:
    """Processes A and B, a client of each, and who lives there."""

    commands: tuple[Command, Command]
    a: httpx.AsyncClient
    b: httpx.AsyncClient
    world: World
    sandbox: SandboxControl


@contextlib.asynccontextmanager
async def town(database: Database, wechat_state: Path, folder: Path, redis: str) -> AsyncIterator[Town]:
    """Both started with that ``REDIS_URL``, and ended at the end."""
    shutil.copy(wechat_state, folder / "sandbox.db")
    ports = (free_port(), free_port())
    bases = [f"http://127.0.0.1:{port}" for port in ports]
    async with contextlib.AsyncExitStack() as opened:
        wechat = await opened.enter_async_context(running(Config(folder / "sandbox.db", port=0, api_base=bases[0])))
        more = {"REDIS_URL": redis, "LINLI_PUBLIC_BASE": bases[0]}
        commands = []
        for port in ports:
            commands.append(Command(database, folder / "state", wechat, "serve", port=port, **more))
            opened.push_async_callback(commands[-1].end)
        clients = []
        for base in bases:
            await until_answers(f"{base}/healthz")
            client = httpx.AsyncClient(base_url=base, trust_env=False, timeout=20)
            clients.append(await opened.enter_async_context(client))
        hand = await opened.enter_async_context(httpx.AsyncClient(base_url=wechat, trust_env=False, timeout=20))
        control = SandboxControl(wechat, hand)
        world = World(clients[0], control.login_code, registered_at_wechat(wechat_state))
        yield Town((commands[0], commands[1]), clients[0], clients[1], world, control)


async def a_key_added_at_a_is_known_at_b(town: Town, owner: Any) -> tuple[Home, Person, Person]:
    """B knows no key by which WeChat signs, and keeps that in memory; A is told one. The home, and its owner signed in
    at A, as seen from A and from B."""
    home = await town.world.home(bills=2)
    manager = await town.world.staff(home.company, Role.MANAGER)
    code = await town.sandbox.login_code(home.owner.openid, home.company.app.appid)
    signed_in = await town.a.post("/api/v1/auth/wechat", json={"code": code, "app": home.company.app.appid})
    assert signed_in.status_code == 200, signed_in.text
    at_a, at_b = (Person(client, signed_in.json()["token"]) for client in (town.a, town.b))
    await owner.execute("DELETE FROM wechat_pay_keys WHERE merchant_account_id = $1", home.company.merchant.id)

    unbelieved = await home.open(at_b, [home.bill_ids[0]])
    assert unbelieved.status_code == 503, unbelieved.text  # what WeChat answered cannot be verified
    key = {"kind": "public_key", "serial": home.company.wechat.platform["public_key_id"],
           "pem": home.company.wechat.platform["public_key"]}  # fmt: skip
    path = f"/api/v1/staff/merchant-accounts/{home.company.merchant.id}/wechat-pay-keys"
    added = await manager.post(path, key)
    assert added.status_code == 201, added.text

    async with asyncio.timeout(HEARD_WITHIN_S):
        while (await home.open(at_b, [home.bill_ids[0]])).status_code != 201:
            await asyncio.sleep(0.1)
    return home, at_a, at_b


async def a_day_at_both(town: Town, home: Home, at_a: Person, at_b: Person) -> None:
    """Opened at both at once with one key, paid, called back at A, looked at from both."""
    bills = [home.bill_ids[1]]
    before = await Payment.all().count()

    tries = await asyncio.gather(*(home.open(person, bills, key="tapped") for person in (at_a, at_b) for _ in range(4)))
    opened = (await home.open(at_b, bills, key="tapped")).json()

    assert {(one.status_code, one.json().get("code")) for one in tries} <= {
        (201, None), (409, "request_in_progress"),
    }  # fmt: skip
    assert {one.json()["id"] for one in tries if one.status_code == 201} == {opened["id"]}
    assert await Payment.all().count() == before + 1
    paid = (await town.sandbox.pay(opened)).json()
    callback = await town.sandbox.called_back(paid["out_trade_no"])
    assert [one["status"] for one in callback["attempts"]] == [204]
    for person in (at_a, at_b):
        assert (await person.get(f"/api/v1/payments/{opened['id']}")).json()["status"] == "paid"


async def limits_are_counted_together(town: Town) -> None:
    """Asked half at A and half at B, as many pass as one limit lets through."""
    person = await town.world.resident(await town.world.company(2))
    people = [Person(client, person.token) for client in (town.a, town.b)]

    async def ask(number: int) -> int:
        document = {"bill_ids": [f"bill {number}"], "channel": "wechat_jsapi"}
        return (await people[number % 2].post("/api/v1/payments", document)).status_code

    loop = asyncio.get_running_loop()
    begun = loop.time()
    statuses = [await ask(number) for number in range(OPEN_PAYMENT.times + 20)]
    took_ms = (loop.time() - begun) * 1000

    assert set(statuses) == {404, 429}
    assert statuses[: OPEN_PAYMENT.times] == [404] * OPEN_PAYMENT.times
    came_back = statuses.count(404) - OPEN_PAYMENT.times
    assert came_back <= took_ms / OPEN_PAYMENT.step_ms
