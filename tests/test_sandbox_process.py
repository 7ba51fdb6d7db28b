"""The sandbox as a program: starting, ending, being killed; who may speak to it; its page; its manual."""

import ast
import asyncio
import os
import re
import shutil
import signal
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

import sandbox
from sandbox.app import create_app
from sandbox.config import Config
from sandbox.fault import KINDS, OPERATIONS
from sandbox.schema import STEPS
from sandbox.store import StateUnusable, Store
from sandbox.testing import APPID, SECRET, TEMPLATE, Desk, Receiver, desk, receiver, registered

HOME = Path(sandbox.__file__).parent
MANUAL = HOME.parent / "docs" / "sandbox.md"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as opened:
        yield opened


@asynccontextmanager
async def program(state: Path, api: Receiver, *options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Desk]]:
    """``python -m sandbox`` on a free port; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox", "--state", str(state), "--port", "0", "--api", api.base, *options),
        cwd=HOME.parent,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 10)
        base = line.decode().split()[-1]
        async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=5) as client:
            yield process, Desk(base, client, api, registered(), state)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    state = tmp_path / "folder" / "state.db"
    async with receiver() as api, program(state, api) as (process, shop):
        assert (await shop.client.get("/healthz")).json() == {"status": "ok"}
        assert stat.S_IMODE(os.stat(state).st_mode) == 0o600
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), 5) == 0
        assert os.listdir(state.parent) == ["state.db"]


async def test_a_killed_sandbox_sends_what_was_pending(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    shutil.copy(registered().state, state)
    async with receiver() as api:
        api.status = 500
        async with program(state, api) as (process, shop):
            await shop.control("POST", "/sandbox/login-code", {"openid": "resident-1"})
            number = (await shop.paid())["out_trade_no"]
            await shop.until(number, "pending")
            process.kill()
            await process.wait()
        api.status = 200
        async with program(state, api, "--speed", "1000") as (_, shop):
            _, delivery = await api.wait(2)
            assert shop.verifies(delivery.headers, delivery.body)
            assert delivery.resource()["out_trade_no"] == number
            assert (await shop.query(number)).json()["trade_state"] == "SUCCESS"


async def test_what_cannot_start_says_why(tmp_path: Path) -> None:
    async def run(*options: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sandbox", *options), cwd=HOME.parent, stderr=asyncio.subprocess.PIPE
        )
        _, text = await asyncio.wait_for(process.communicate(), 20)
        return process.returncode, text.decode()

    held = Store(tmp_path / "held.db")
    try:
        code, text = await run("--state", str(tmp_path / "held.db"), "--port", "0")
        assert code == 1
        assert "another sandbox" in text
        assert "Traceback" not in text
    finally:
        held.close()
    code, text = await run("--state", str(tmp_path / "s.db"), "--api", "nowhere")
    assert code == 2
    assert "api_base" in text


def test_config_refuses_what_would_not_be_safe(tmp_path: Path) -> None:
    state = tmp_path / "s.db"
    for wrong in (
        {"host": "0.0.0.0"},  # noqa: S104 - this is the refusal
        {"port": 70_000},
        {"speed": 0},
        {"subscriptions": -1},
        {"api_base": "ftp://127.0.0.1"},
        {"api_base": "http://127.0.0.1:8000/path"},
        {"api_base": "http://user:password@127.0.0.1"},
    ):
        with pytest.raises(ValueError, match=r"."):
            Config(state, **wrong)


def test_a_state_file_of_another_version_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    store.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(StateUnusable):
        Store(tmp_path / "s.db")
    (tmp_path / "text.db").write_text("no database at all, but long enough to be looked at " * 5)
    with pytest.raises(StateUnusable):
        Store(tmp_path / "text.db")


async def test_a_state_file_of_an_earlier_version_is_brought_along(tmp_path: Path) -> None:
    whole, state = registered().state, tmp_path / "state.db"
    with sqlite3.connect(state) as old, sqlite3.connect(whole) as new:
        # As the first release left it: its tables, and the rows of a registered merchant in its columns.
        old.executescript(f"{STEPS[0]}PRAGMA user_version=1;")
        for table in ("platform_certificate", "merchant", "merchant_app", "app", "template"):
            columns = ", ".join(row[1] for row in old.execute(f"PRAGMA table_info({table})"))
            for row in new.execute(f"SELECT {columns} FROM {table}"):
                old.execute(f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(row))})", row)
    for connection in (old, new):
        connection.close()
    async with desk(tmp_path) as shop:
        order = shop.order()
        await shop.paid(order)
        assert (await shop.refunded(shop.refund(order))).status_code == 200


@pytest.mark.parametrize(
    "path", ["/healthz", "/", "/static/page.js", "/v3/certificates", "/sandbox/orders", "/nowhere"]
)
async def test_a_foreign_host_is_refused(shop: Desk, path: str) -> None:
    port = shop.base.rpartition(":")[2]
    for host in (f"evil.example:{port}", "127.0.0.1", "127.0.0.1:1", f"127.0.0.1.evil.example:{port}", f"[::1]:{port}"):
        answer = await shop.client.get(path, headers={"Host": host})
        assert answer.status_code == 421, host
    answer = await shop.client.get(path, headers={"Host": f"localhost:{port}"})
    assert answer.status_code != 421


async def test_control_routes_need_json(shop: Desk) -> None:
    answers = [
        await shop.client.request(method, path, content=b"{}", headers={"Content-Type": media_type})
        for method, path in (
            ("POST", "/sandbox/pay"),
            ("POST", "/sandbox/clock"),
            ("PUT", "/sandbox/apps/wx"),
            ("POST", "/sandbox/callbacks/x/resend"),
        )
        for media_type in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", "")
    ]
    assert {answer.status_code for answer in answers} == {415}
    # Nor does any answer let another site's script ask.
    answer = await shop.client.options("/sandbox/pay", headers={"Origin": "https://evil.example"})
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]
    answer = await shop.client.post("/sandbox/pay", content=b"{", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")


async def test_the_page_shows_what_happened(shop: Desk) -> None:
    await shop.place(shop.order(description="<b>停车费</b>"))
    await shop.place(shop.order(description="扫码缴费", payer=None), "native")
    number = (await shop.paid(shop.order(description="十一月物业费")))["out_trade_no"]
    await shop.until(number, "delivered")
    await shop.refund_by_hand(number, 12345, reason="多收<i>一次</i>")
    body = {"grant_type": "client_credential", "appid": APPID, "secret": SECRET}
    access_token = (await shop.client.post("/cgi-bin/stable_token", json=body)).json()["access_token"]
    message = {"touser": "resident-1", "template_id": TEMPLATE, "data": {"thing1": {"value": "已经到账"}}}
    await shop.client.post(f"/cgi-bin/message/subscribe/send?access_token={access_token}", json=message)
    await shop.control("POST", "/sandbox/faults", {"kind": "late", "delay_s": 77, "times": 2})
    page = await shop.client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for text in (
        "支付",
        "¥385.60",
        "&lt;b&gt;停车费",
        "扫码缴费",
        "十一月物业费",
        "退款中",
        "¥123.45",
        "多收&lt;i&gt;一次",
        "已送达",
        "已经到账",
        "delay_s=77",
        "剩 2 次",
    ):
        assert text in page.text, text
    assert "<b>停车费" not in page.text
    policy = page.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe-inline" not in policy
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=|<style", page.text)
    live = await shop.client.get("/live")
    assert live.text.strip() in page.text
    for path in ("/static/page.js", "/static/page.css"):
        assert (await shop.client.get(path)).status_code == 200
    assert (await shop.client.get("/static/../app.py")).status_code == 404


async def test_unknown_paths_and_methods(shop: Desk) -> None:
    assert (await shop.client.get("/nothing")).json()["code"] == "not_served"
    assert (await shop.client.get("/sandbox/pay")).status_code == 405


def test_the_manual_tables_the_faults_that_there_are() -> None:
    """Kind by kind with its parameters, both ways."""
    manual = MANUAL.read_text(encoding="utf-8")
    table = manual[manual.index("## Faults") : manual.index("## What it does not do")]
    rows = [[cell.strip() for cell in line.split(" | ")] for line in table.splitlines() if line.startswith("| `")]
    told = {re.findall(r"`(\w+)`", row[0])[0]: set(re.findall(r"`(\w+)`", row[1])) for row in rows}
    assert told == {name: set(kind.params) for name, kind in KINDS.items()}
    assert [operation for operation in OPERATIONS if operation not in table] == []


def test_the_manual_names_every_route_and_option() -> None:
    manual = MANUAL.read_text(encoding="utf-8")
    routes = {re.sub(r"<(\w+)(:\w+)?>", r"{\1}", route.path) for route in create_app(Config(Path("x"))).router.routes}
    missing = [path for path in routes if f"/{path}" not in manual and not path.startswith("static")]
    assert missing == []


def test_it_imports_nothing_of_the_project_but_kit() -> None:
    ours = {"server", "handlers", "jobs", "services", "payments", "models", "migrations", "tests", "bench"}
    for file in HOME.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & ours, file
