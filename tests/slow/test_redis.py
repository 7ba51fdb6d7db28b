"""A real Redis: it counts as PostgreSQL counts, several processes share it, and its end ends nothing.

Needs ``redis-server`` on the PATH. Without it the tests are skipped with that reason, and fail in CI.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis as Client

from kit import clock
from models import redis
from models.organization import Organization
from models.rate_limit import RateLimit
from models.redis import PATIENCE_S, RedisAway, SharedRedis
from models.session import Session
from models.staff import Staff
from models.wechat_app import WechatToken
from services import miniprogram
from services.password import hash_password
from services.rate_limit_store import PostgresStore, RedisFirst, RedisStore
from tests.conftest import Database, SandboxControl
from tests.rate_limit_contract import CONTRACT, NOW_MS
from tests.several_processes import (
    a_day_at_both,
    a_key_added_at_a_is_known_at_b,
    limits_are_counted_together,
    town,
)
from tests.world import World

PROGRAM = shutil.which("redis-server")


class Redis:
    """A Redis of the test's own, in a folder of its own, reachable on loopback only."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="linli-redis-"))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        assert PROGRAM is not None
        self.process = subprocess.Popen(
            [PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "",
             "--appendonly", "no", "--daemonize", "no"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2) as line:
                line.sendall(b"PING\r\n")
                if line.recv(16).startswith(b"+PONG"):
                    return
            time.sleep(0.02)
        raise TimeoutError("redis-server does not answer")

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(10)
            self.process = None


@pytest.fixture
def server() -> Iterator[Redis]:
    if PROGRAM is None:
        reason = "there is no redis-server on the PATH (Debian: apt-get install redis-server)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    found = Redis()
    found.start()
    try:
        yield found
    finally:
        found.end()
        shutil.rmtree(found.folder)


@pytest_asyncio.fixture(loop_scope="session")
async def shared(server: Redis) -> AsyncIterator[SharedRedis]:
    line = SharedRedis(server.url)
    yield line
    await line.close()


@pytest.mark.parametrize("rule", CONTRACT, ids=lambda rule: rule.__name__)
async def test_redis_counts_as_postgres_does(shared: SharedRedis, rule: Any) -> None:
    await rule(RedisStore(shared))


async def test_what_is_full_again_leaves_redis_by_itself(server: Redis, shared: SharedRedis) -> None:
    await RedisStore(shared).take("key", NOW_MS, 1000, 10_000)
    async with Client.from_url(server.url) as client:
        assert 50_000 < await client.pttl("linli:limit:key") <= 61_000


async def test_redis_is_killed_stopped_and_comes_back(server: Redis, shared: SharedRedis, database: Database) -> None:
    """Every answer comes within bounds; what Redis does not count PostgreSQL counts; a silent one is left alone."""
    store = RedisFirst(RedisStore(shared), PostgresStore())

    async def took_s(key: str) -> float:
        begun = time.monotonic()
        await store.take(key, NOW_MS, 1000, 60_000)
        return time.monotonic() - begun

    await took_s("before")
    assert await RateLimit.all().count() == 0
    for number in (signal.SIGKILL, signal.SIGSTOP):  # gone, and there but silent
        if number is signal.SIGKILL:
            server.end()
        else:
            server.send(number)
        begun = time.monotonic()
        durations = [*await asyncio.gather(*(took_s(f"{number} {n}") for n in range(20)))]
        assert max(durations) < PATIENCE_S + 1.5, durations
        again = [await took_s(f"{number} again {n}") for n in range(20)]
        if time.monotonic() - begun < 1:  # still left alone: nobody waits for it
            assert max(again) < PATIENCE_S, again
        assert await RateLimit.filter(key__startswith=str(int(number))).count() == 40
        with pytest.raises(RedisAway):
            await shared.ask(lambda client: client.ping())
        if number is signal.SIGKILL:
            server.start()
        else:
            server.send(signal.SIGCONT)
        async with asyncio.timeout(12):
            counted = 0
            while not counted:
                await asyncio.sleep(0.1)
                await store.take(f"back {number}", NOW_MS, 1, 60_000)
                async with Client.from_url(server.url) as client:
                    counted = await client.exists(f"linli:limit:back {number}")


async def test_a_full_or_foreign_redis_is_as_good_as_none(server: Redis, shared: SharedRedis) -> None:
    async with Client.from_url(server.url) as client:
        await client.config_set("maxmemory", "1")
        with pytest.raises(RedisAway):
            await RedisStore(shared).take("key", NOW_MS, 1000, 60_000)
        await client.config_set("maxmemory", "0")
        await client.config_set("requirepass", "another-one")
    stranger = SharedRedis(server.url)
    try:
        with pytest.raises(RedisAway):
            await RedisStore(stranger).take("key", NOW_MS, 1000, 60_000)
    finally:
        await stranger.close()


async def test_the_token_of_an_app_is_shared(
    server: Redis, world: World, sandbox: SandboxControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fetched once, read from Redis, encrypted there; a token that WeChat refused is not handed out again."""
    company = await world.company()
    asked: list[str] = []
    call = miniprogram._call

    async def counting(method: str, path: str, **options: Any) -> dict[str, Any]:
        asked.append(path)
        return await call(method, path, **options)

    monkeypatch.setattr(miniprogram, "_call", counting)
    redis.configure(server.url)
    try:
        first = await miniprogram._token(company.app)
        await WechatToken.all().update(token_cipher="unreadable: it was not read")
        assert await miniprogram._token(company.app) == first
        async with Client.from_url(server.url, decode_responses=True) as client:
            kept = await client.get(f"linli:token:{company.app.id}")
            assert first not in kept and " v1.test." in kept
            assert 0 < await client.ttl(f"linli:token:{company.app.id}") <= 7200
            # Another process has put a newer one there than the database has: it is what all use.
            newer = kept.split(" ")[0] + " " + miniprogram.encrypt("newer", miniprogram.TOKEN_CONTEXT)
            await client.set(f"linli:token:{company.app.id}", newer)
            assert await miniprogram._token(company.app) == "newer"
            await client.set(f"linli:token:{company.app.id}", "nonsense")
            await WechatToken.all().update(expires_at=clock.now() - timedelta(seconds=1))
            assert await miniprogram._token(company.app)
            server.end()
            assert await miniprogram._token(company.app)
        assert asked == ["/cgi-bin/stable_token"] * 2
    finally:
        await redis.close()


async def test_two_processes_with_a_redis_that_lives_and_dies(
    server: Redis, database: Database, wechat_state: Path, tmp_path: Path, owner: Any, books: Any
) -> None:
    async with town(database, wechat_state, tmp_path, server.url) as both:
        home, at_a, at_b = await a_key_added_at_a_is_known_at_b(both, owner)
        await a_day_at_both(both, home, at_a, at_b)
        await limits_are_counted_together(both)
        assert await RateLimit.all().count() == 0  # Redis alone counted
        async with Client.from_url(server.url) as client:
            assert await client.dbsize() >= 3

        hashed = await hash_password("correct-horse-7")
        company = await Organization.all().first()
        assert company is not None
        await Staff.create(organization_id=company.id, username="wang.min", password_hash=hashed, name="王敏")
        for client_of in (both.a, both.b, both.a, both.b, both.a):
            assert (await _sign_in(client_of, "not-this-one")).status_code == 401
        server.end()
        # In the middle of it: everything answers, the lock holds, the payment goes on, limits are counted together.
        begun = time.monotonic()
        answers = await asyncio.gather(*(person.get("/api/v1/bills") for person in (at_a, at_b) * 10))
        assert {answer.status_code for answer in answers} == {200}
        for client_of in (both.a, both.b):
            assert (await _sign_in(client_of, "correct-horse-7")).status_code == 401
        bill = await both.world.bill(home.company, home.room, home.customer, 100, month=date(2025, 1, 1))
        opened = await home.open(at_b, [str(bill.id)])
        assert opened.status_code == 201, opened.text
        paid = (await both.sandbox.pay(opened.json())).json()
        await both.sandbox.called_back(paid["out_trade_no"])
        assert (await at_b.get(f"/api/v1/payments/{opened.json()['id']}")).json()["status"] == "paid"
        assert time.monotonic() - begun < 15
        assert await RateLimit.all().count() >= 2
        assert await Session.filter(staff_id__isnull=False, kind="staff").count() == 1  # the manager's, of before

        server.start()
        async with asyncio.timeout(20):
            async with Client.from_url(server.url) as client:
                while not await client.dbsize():
                    await home.open(at_a, [str(bill.id)])
                    await asyncio.sleep(0.3)
        ends = [await command.end() for command in both.commands]
    for ended, logged in ends:
        assert ended == 0
        assert logged.count('"redis_away"') >= 1, logged
    assert any('"redis_back"' in logged for _, logged in ends)


async def _sign_in(client: httpx.AsyncClient, password: str) -> httpx.Response:
    return await client.post("/api/v1/auth/staff", json={"username": "wang.min", "password": password})
