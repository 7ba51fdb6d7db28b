"""Ending in the middle of the work: what was accepted is answered, what was begun is finished or begun again."""

import asyncio
import itertools
from collections import Counter
from pathlib import Path
from time import monotonic

import asyncpg
import httpx
import pytest

from models.payment import Payment, PaymentState
from models.receipt import Receipt
from models.unit_of_work import drain, finish, rows
from tests.conftest import Database, SandboxControl
from tests.test_serve import Command, free_port, until_answers
from tests.world import World, unknown_id


async def test_term_under_load_loses_no_accepted_request(
    world: World, sandbox: SandboxControl, database: Database, tmp_path: Path, books
) -> None:
    home = await world.home(bills=3)
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    command = Command(
        database, tmp_path / "state", sandbox.base, "serve", port=port, LINLI_DRAIN_S="1", LINLI_LOG_LEVEL="info"
    )
    balanced: Counter[object] = Counter()
    stubborn: Counter[object] = Counter()
    unanswered: list[str] = []
    leaving: list[dict] = []
    ending = asyncio.Event()

    async def through_a_balancer(client: httpx.AsyncClient) -> None:
        """Who reads /readyz sends nothing here any more when it says 503, and sees no trouble at all."""
        while not leaving:
            answer = await client.get("/api/v1/bills", headers=home.owner.headers)
            balanced[answer.status_code] += 1

    async def stubbornly(client: httpx.AsyncClient, name: int) -> None:
        """Who goes on to the end may find the door closed, but what was begun is answered."""
        for number in itertools.count():
            code = f"stubborn{name}x{number}"
            headers = home.owner.headers | {"Idempotency-Key": code, "X-Request-Id": code}
            try:
                answer = await client.post(f"/api/v1/payments/{unknown_id()}/cancel", headers=headers)
                stubborn[answer.status_code] += 1
            except httpx.ConnectError:
                stubborn["refused"] += 1
                return
            except httpx.TransportError:
                stubborn["closed"] += 1
                unanswered.append(code)

    async def watch(client: httpx.AsyncClient) -> None:
        await ending.wait()
        while True:
            try:
                answer = await client.get("/readyz")
            except httpx.TransportError:
                return
            if answer.json().get("checks") == {"process": "leaving"}:
                leaving.append({"status": answer.status_code, "connection": answer.headers["connection"]})
            await asyncio.sleep(0.05)

    try:
        await until_answers(f"{base}/healthz")
        async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=20) as client:
            tasks = [asyncio.create_task(through_a_balancer(client)) for _ in range(4)]
            tasks += [asyncio.create_task(stubbornly(client, name)) for name in range(3)]
            tasks += [asyncio.create_task(watch(client))]
            await asyncio.sleep(0.5)
            # An order that WeChat is slow about, accepted before the end was asked for.
            await sandbox.fault("slow", operation="prepay", delay_ms=2000)
            slow = asyncio.create_task(
                client.post(
                    "/api/v1/payments",
                    json={"bill_ids": home.bill_ids, "channel": "wechat_jsapi"},
                    headers=home.owner.headers | {"Idempotency-Key": "one"},
                )
            )
            await asyncio.sleep(0.3)
            begun = monotonic()
            ending.set()
            code, printed = await command.end()
            took_s = monotonic() - begun
            opened = await slow
            async with asyncio.timeout(20):
                await asyncio.gather(*tasks)
    finally:
        await command.end()

    assert code == 0 and 1 < took_s < 20, printed
    assert opened.status_code == 201
    assert set(balanced) == {200}, balanced
    assert set(stubborn) <= {404, "refused", "closed"} and stubborn[404] > 0, stubborn
    assert [code for code in unanswered if code in printed] == []  # each answer has its line in the log
    assert "stubborn0x0" in printed
    assert leaving and {(one["status"], one["connection"]) for one in leaving} == {(503, "close")}
    assert '"event": "ended"' in printed and "ended_in_the_middle" not in printed and "Traceback" not in printed
    assert (await Payment.get()).state is PaymentState.OPEN


async def test_a_worker_that_is_ended_gives_its_job_back(
    world: World, sandbox: SandboxControl, database: Database, tmp_path: Path, owner: asyncpg.Connection, books
) -> None:
    home = await world.home()
    paid = (await sandbox.pay((await home.open()).json())).json()
    await sandbox.called_back(paid["out_trade_no"])
    worker = Command(database, tmp_path / "state", sandbox.base, "worker")
    try:
        async with owner.transaction():
            await owner.execute("LOCK TABLE receipts IN ACCESS EXCLUSIVE MODE")  # the job waits for it, at most 5 s
            async with asyncio.timeout(20):
                job = "SELECT status FROM procrastinate_jobs WHERE task_name = 'payment_settled'"
                while await owner.fetchval(job) != "doing":
                    await asyncio.sleep(0.05)
            begun = monotonic()
            code, printed = await worker.end()
            took_s = monotonic() - begun
    finally:
        await worker.end()

    assert code == 0 and took_s < 20, printed
    (left,) = await rows("SELECT status, attempts FROM procrastinate_jobs WHERE task_name = 'payment_settled'")
    assert left == {"status": "todo", "attempts": 1}
    assert await Receipt.all().count() == 0
    assert await rows("SELECT id FROM procrastinate_workers") == []


async def test_the_end_waits_only_so_long_for_what_was_begun(database: Database) -> None:
    go_on = asyncio.Event()
    caller = asyncio.ensure_future(finish(go_on.wait()))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    begun = monotonic()
    assert await drain(0.1) == 1
    assert monotonic() - begun < 1
    go_on.set()
    assert await drain(1) == 0
    assert await caller is True


@pytest.mark.parametrize(("env", "given", "expected"), [("dev", None, 0), ("production", None, 5), ("dev", "7", 7)])
def test_how_long_it_says_that_it_leaves(
    env: str, given: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from server.settings import Settings

    monkeypatch.setenv("LINLI_ENV", env)
    if given:
        monkeypatch.setenv("LINLI_DRAIN_S", given)
    assert Settings().draining_s() == expected  # type: ignore[call-arg]
