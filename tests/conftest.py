"""One PostgreSQL per test process, built by the migrations; a clone of it, a sandbox and the real app per test."""

import asyncio
import itertools
import json
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["LINLI_ENV"] = "dev"

import asyncpg
import httpx
import pytest
import pytest_asyncio
from sanic import Sanic
from tortoise import Tortoise
from tortoise.migrations.api import migrate

import jobs.worker  # noqa: F401 - importing registers the jobs
import payments
from jobs.registry import JOBS
from models import secret
from models.database import config, connect, credentials, disconnect
from models.unit_of_work import drain as drain_units
from models.unit_of_work import row, rows
from sandbox.app import App, close_state, open_state
from sandbox.app import create_app as create_sandbox
from sandbox.config import Config
from sandbox.main import serving
from server.app import create_app
from server.embedded_postgres import EmbeddedPostgres
from server.log import configure_logs
from server.settings import Settings
from services import miniprogram, rate_limit
from tests.world import KEYRING, World, registered_at_wechat

TEMPLATE = "linli_template"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of this process, with one database that the migrations built."""
    with EmbeddedPostgres.temporary() as server:
        asyncio.run(_build_template(server))
        yield server


async def _build_template(server: EmbeddedPostgres) -> None:
    admin = await asyncpg.connect(**credentials(server.url("postgres")))
    await admin.execute(f"CREATE DATABASE {TEMPLATE}")
    await admin.close()
    await migrate(config=config(server.url(TEMPLATE), owner=True))
    await Tortoise.close_connections()
    owner = await asyncpg.connect(**credentials(server.url(TEMPLATE)))
    await owner.execute("ALTER ROLE linli_app LOGIN")
    await owner.close()


@dataclass(frozen=True)
class Database:
    """A fresh clone. ``url`` is the application's door, ``owner_url`` the owner's."""

    name: str
    url: str
    owner_url: str


@pytest_asyncio.fixture(loop_scope="session")
async def database(cluster: EmbeddedPostgres) -> AsyncIterator[Database]:
    """A fresh database, connected as the application that owns nothing."""
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(**credentials(cluster.url("postgres")))
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
    secret.configure(KEYRING)
    found = Database(name, cluster.url(name, "linli_app"), cluster.url(name))
    await connect(found.url)
    try:
        yield found
    finally:
        await drain_units()
        await disconnect()
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


@pytest_asyncio.fixture(loop_scope="session")
async def owner(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection, to look at or break what the application cannot."""
    connection = await asyncpg.connect(**credentials(database.owner_url))
    yield connection
    await connection.close()


@pytest.fixture(scope="session")
def wechat_state() -> Iterator[Path]:
    """A sandbox state file with merchants and apps registered."""
    folder = Path(tempfile.mkdtemp(prefix="linli-sandbox-"))
    registered_at_wechat(folder / "state.db")
    yield folder / "state.db"
    shutil.rmtree(folder)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api_base() -> AsyncIterator[str]:
    """The real app, served on a port of its own for all tests of the process."""
    configure_logs("error")
    app = create_app(Settings(), own_database=False)  # type: ignore[call-arg]
    app.config.TOUCHUP = False
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    listening.setblocking(False)
    server: Any = await app.create_server(sock=listening, return_asyncio_server=True, access_log=False)
    await server.startup()
    await server.before_start()
    await server.after_start()
    await server.start_serving()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    await server.before_stop()
    await server.close()
    for connection in list(server.connections):
        connection.abort()
    await server.after_stop()
    Sanic.unregister_app(app)


class SandboxControl:
    """The hand at WeChat's side: pays, sets faults, looks."""

    def __init__(self, base: str, client: httpx.AsyncClient) -> None:
        self.base = base
        self.client = client

    async def post(self, path: str, document: Any) -> httpx.Response:
        return await self.client.post(path, json=document)

    async def login_code(self, openid: str, app: str | None = None) -> str:
        answer = await self.post("/sandbox/login-code", {"openid": openid} | ({"app": app} if app else {}))
        return str(answer.json()["code"])

    async def phone_code(self, openid: str, phone: str) -> str:
        answer = await self.post("/sandbox/phone-code", {"openid": openid, "phone": phone})
        return str(answer.json()["code"])

    async def pay(self, opened: dict[str, Any]) -> httpx.Response:
        """Pay what our API opened."""
        return await self.post("/sandbox/pay", {"prepay_id": opened["wechat"]["package"].removeprefix("prepay_id=")})

    async def fault(self, kind: str, **params: Any) -> None:
        answer = await self.post("/sandbox/faults", {"kind": kind, **params})
        assert answer.status_code < 300, answer.text

    async def no_faults(self) -> None:
        await self.client.delete("/sandbox/faults")

    async def orders(self) -> list[dict[str, Any]]:
        return list((await self.client.get("/sandbox/orders")).json()["orders"])

    async def callbacks(self, out_trade_no: str) -> list[dict[str, Any]]:
        answer = await self.client.get("/sandbox/callbacks", params={"out_trade_no": out_trade_no})
        return list(answer.json()["callbacks"])

    async def called_back(self, out_trade_no: str, attempts: int = 1) -> dict[str, Any]:
        """The order's newest callback once it was attempted so often and nothing is under way."""
        async with asyncio.timeout(30):  # for a busy machine; it takes a moment
            while True:
                found = await self.callbacks(out_trade_no)
                done = [one for one in (found[0]["attempts"] if found else []) if one.get("status") is not None]
                if len(done) >= attempts:
                    return found[0]
                await asyncio.sleep(0.01)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def wechat(wechat_state: Path) -> AsyncIterator[tuple[App, str]]:
    """The sandbox's server, with its address, for all tests of the process."""
    config = Config(wechat_state, port=0)
    app = create_sandbox(config)
    async with serving(app, config) as base:
        await close_state(app)  # each test opens its own
        yield app, base


@pytest_asyncio.fixture(loop_scope="session")
async def sandbox(
    database: Database, api_base: str, wechat: tuple[App, str], wechat_state: Path, tmp_path: Path
) -> AsyncIterator[SandboxControl]:
    """WeChat, fresh for the test; our payments and logins speak to it."""
    state = tmp_path / "sandbox.db"
    shutil.copy(wechat_state, state)
    app, base = wechat
    open_state(app, Config(state, port=0, api_base=api_base))
    try:
        async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=15) as client:
            payments.configure(payments.PaymentSettings(base, api_base, dev=True))
            miniprogram.configure(base)
            yield SandboxControl(base, client)
            await payments.close()
            await miniprogram.close()
    finally:
        await close_state(app)


@pytest_asyncio.fixture(loop_scope="session")
async def api(sandbox: SandboxControl, api_base: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the real app."""
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=api_base, trust_env=False, timeout=30, limits=limits) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def world(api: httpx.AsyncClient, sandbox: SandboxControl, wechat_state: Path) -> World:
    """The builders."""
    return World(api, sandbox.login_code, registered_at_wechat(wechat_state))


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """No limits: for tests that knock more often than any hand does, and mean what stands behind the door."""
    monkeypatch.setattr(rate_limit, "_store", None)


Drain = Callable[[], Awaitable[list[str]]]

_NEXT = """
UPDATE procrastinate_jobs SET status = 'doing' WHERE id = (
    SELECT id FROM procrastinate_jobs
    WHERE status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= now()) ORDER BY id LIMIT 1)
RETURNING id, task_name, args
"""


@pytest_asyncio.fixture(loop_scope="session")
async def drain(database: Database) -> Drain:
    """Run the queued jobs to the last, those that jobs enqueue too; answers their names in order."""

    async def run() -> list[str]:
        ran = []
        while True:
            await drain_units()
            job = await row(_NEXT)
            if job is None:
                return ran
            arguments = job["args"] if isinstance(job["args"], dict) else json.loads(job["args"])
            await JOBS[job["task_name"]](**arguments)
            await rows("SELECT procrastinate_finish_job_v1($1, 'succeeded', false)", job["id"])
            ran.append(job["task_name"])

    return run


@pytest_asyncio.fixture(loop_scope="session")
async def books(database: Database) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Asserts that no invariant of the money is broken; also run at the end of the test."""

    async def assert_clean() -> None:
        assert await payments.violations() == []

    yield assert_clean
    await assert_clean()
