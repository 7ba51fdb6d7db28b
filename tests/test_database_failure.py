"""The database full, slow, away: a bounded wait, a plain answer, and everything as before when it is back.

The same with a real server stopped under load is in tests/slow/test_database_failure.py.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from time import monotonic
from types import SimpleNamespace
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
from sanic.compat import Header
from tortoise.connection import get_connection

import models.pool as pool_module
import payments
import server.dispatch as dispatch
from handlers.route import Call, Route, Who, all_routes
from kit import clock
from kit.ids import new_token
from models.bill import Bill
from models.database import connect
from models.organization import Organization
from models.payment import Payment, PaymentState
from models.pool import DatabaseBusy, pool, urgent
from models.unit_of_work import drain, rows, unit_of_work
from payments.gateways import wechat_pay
from tests.conftest import Database, SandboxControl
from tests.world import World


@pytest_asyncio.fixture(loop_scope="session")
async def full(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Event]:
    """A pool of eight whose seven common places are taken until the event is set; nobody waits longer than 0.4 s."""
    await get_connection("default").close()
    await connect(database.url, pool_size=8)
    go_on = asyncio.Event()

    @unit_of_work
    async def hold() -> None:
        await rows("SELECT 1")
        await go_on.wait()

    holders = [asyncio.ensure_future(hold()) for _ in range(7)]
    await asyncio.sleep(0.3)
    monkeypatch.setattr(pool_module, "PATIENCE_S", 0.4)
    yield go_on
    go_on.set()
    await asyncio.gather(*holders)


async def test_no_connection_is_to_be_had(api: httpx.AsyncClient, database: Database, full: asyncio.Event) -> None:
    begun = monotonic()
    answers = await asyncio.gather(
        *(api.get("/api/v1/bills", headers={"Authorization": f"Bearer {new_token()}"}) for _ in range(20))
    )
    assert 0.3 < monotonic() - begun < 3

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "database_busy")}
    assert {answer.headers["Retry-After"] for answer in answers} == {"2"}
    assert (await api.get("/healthz")).status_code == 200
    assert (await api.get("/readyz")).json()["checks"]["database"] == "DatabaseBusy"
    full.set()
    await drain()
    assert (await api.get("/api/v1/bills", headers={"Authorization": f"Bearer {new_token()}"})).status_code == 401
    found = pool()
    assert found is not None and (found.in_use, found.waiting) == (0, 0)


async def test_what_is_urgent_still_gets_one(database: Database, full: asyncio.Event) -> None:
    with pytest.raises(DatabaseBusy):
        await rows("SELECT 1")
    token = urgent.set(True)
    try:
        assert await rows("SELECT 1 AS one") == [{"one": 1}]
    finally:
        urgent.reset(token)


async def test_a_callback_is_worked_while_the_others_wait(
    world: World, sandbox: SandboxControl, monkeypatch: pytest.MonkeyPatch, books
) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    go_on = asyncio.Event()

    @unit_of_work
    async def hold() -> None:
        await rows("SELECT 1")
        await go_on.wait()

    holders = [asyncio.ensure_future(hold()) for _ in range(14)]
    await asyncio.sleep(0.3)
    monkeypatch.setattr(pool_module, "PATIENCE_S", 0.4)
    try:
        assert (await home.owner.get("/api/v1/bills")).status_code == 503
        paid = (await sandbox.pay(opened)).json()
        callback = await sandbox.called_back(paid["out_trade_no"])
    finally:
        go_on.set()
        await asyncio.gather(*holders)
    assert callback["attempts"][0]["status"] == 204
    assert (await Payment.get()).state is PaymentState.PAID


async def test_a_wait_that_is_given_up_takes_no_place_with_it(database: Database, full: asyncio.Event) -> None:
    for _ in range(3):
        await asyncio.gather(*(rows("SELECT 1") for _ in range(10)), return_exceptions=True)
    waiting = [asyncio.ensure_future(rows("SELECT 1")) for _ in range(10)]
    await asyncio.sleep(0.05)
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    full.set()
    await drain()

    meeting = asyncio.Barrier(7)

    @unit_of_work
    async def meet() -> None:
        await meeting.wait()

    async with asyncio.timeout(5):
        await asyncio.gather(*(meet() for _ in range(7)))


async def test_sessions_that_the_server_ends_are_replaced(
    world: World, sandbox: SandboxControl, owner: asyncpg.Connection, books
) -> None:
    """What a restart does to idle sessions, and to those at work."""
    home = await world.home(bills=2)
    await asyncio.gather(*(home.owner.get("/api/v1/bills") for _ in range(16)))
    working = [asyncio.ensure_future(home.owner.get("/api/v1/bills")) for _ in range(40)]
    for _ in range(5):
        await owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await asyncio.sleep(0.02)
    answers = await asyncio.gather(*working)
    seen = {(answer.status_code, answer.json().get("code")) for answer in answers}
    assert seen <= {(200, None), (503, "database_away")}, seen

    assert (await home.open()).status_code == 201
    found = pool()
    assert found is not None and (found.in_use, found.waiting) == (0, 0)


async def test_a_begin_that_fails_gives_its_connection_back(database: Database, owner: asyncpg.Connection) -> None:
    @unit_of_work
    async def work() -> None:
        await Organization.create(name="a")

    for _ in range(20):  # more often than the pool has places
        # The server has gone, and the driver does not know it yet.
        await owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await asyncio.gather(work(), return_exceptions=True)
    found = pool()
    assert found is not None and found.in_use == 0
    # What the last blow hit may be noticed only when it is used.
    ended = [(await asyncio.gather(work(), return_exceptions=True))[0] for _ in range(5)]
    assert ended[-1] is None, ended


async def test_a_table_that_is_locked_is_busy_not_a_fault(
    world: World, sandbox: SandboxControl, owner: asyncpg.Connection, database: Database
) -> None:
    home = await world.home()
    await get_connection("default").close()
    await connect(database.url, pool_size=8)
    pool_options = get_connection("default").extra
    assert pool_options["timeout"] == 5
    get_connection("default").server_settings["lock_timeout"] = "200ms"
    async with owner.transaction():
        await owner.execute("LOCK TABLE bills IN ACCESS EXCLUSIVE MODE")
        begun = monotonic()
        reading, opening = await asyncio.gather(home.owner.get("/api/v1/bills"), home.open())
        assert monotonic() - begun < 3
    for answer in (reading, opening):
        assert (answer.status_code, answer.json()["code"]) == (503, "database_busy")
        assert int(answer.headers["Retry-After"]) > 0
    assert await Payment.all().count() == 0
    assert (await home.open()).status_code == 201


async def test_an_answer_that_takes_too_long_is_told_so(
    api: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound is ours; what is under way goes on to its end."""

    @unit_of_work
    async def slow() -> None:
        await Organization.create(name="late")
        await rows("SELECT pg_sleep(0.5)")

    async def handler(call: Call) -> None:
        await slow()

    declared = Route("GET", "/slow", "x", handler, Who.PUBLIC, "x", answer_within_s=0.1)  # type: ignore[arg-type]

    monkeypatch.setattr(dispatch, "count_request", lambda *_: None)  # no route that is not declared in the counts
    app = SimpleNamespace(ctx=SimpleNamespace(trusted_proxies=()))
    request: Any = SimpleNamespace(headers=Header(), body=b"", args={}, stream=None, ip="127.0.0.1", app=app)
    begun = monotonic()
    answer = await dispatch.handle(declared)(request)
    assert monotonic() - begun < 0.4
    assert answer.status == 503 and b"answer_late" in (answer.body or b"") and answer.headers["Retry-After"] == "5"
    await drain()
    assert await Organization.filter(name="late").exists()


def test_callbacks_are_answered_before_wechat_stops_waiting() -> None:
    callbacks = [route for route in all_routes() if route.path.startswith("/callbacks/")]
    assert callbacks
    for route in callbacks:
        assert route.urgent and route.answer_within_s <= 4, route.path
    assert all(route.answer_within_s < 90 for route in all_routes())  # the web server's own bound comes later


async def test_wechat_is_away_for_half_an_hour(
    world: World, sandbox: SandboxControl, drain, books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening is refused in plain words and in time; what was paid is settled; then everything is as it should be."""
    monkeypatch.setattr(wechat_pay, "_TIMEOUT", httpx.Timeout(0.15))  # six seconds in truth
    home = await world.home(bills=4)
    paid_before = [(await home.open(bill_ids=[bill_id])).json() for bill_id in home.bill_ids[:2]]
    for operation in ("prepay", "query", "close"):
        await sandbox.fault("slow", operation=operation, delay_ms=1000, times=100_000)

    begun = monotonic()
    refused = await home.open(bill_ids=home.bill_ids[2:3], key="tap")
    took_s = monotonic() - begun
    assert (refused.status_code, refused.json()["code"]) == (503, "wechat_unavailable")
    assert refused.json()["title"] == "微信支付暂时没有回应，请稍后重试，不会重复扣款。" and took_s < 3 * 0.15 + 1

    # One payer's callback comes through, the other's is lost with everything else.
    settled = (await sandbox.pay(paid_before[0])).json()
    await sandbox.called_back(settled["out_trade_no"])
    await sandbox.fault("lost")
    await sandbox.pay(paid_before[1])
    assert (await Payment.get(id=paid_before[0]["id"])).state is PaymentState.PAID

    with clock.travel_to(clock.now()):
        for _ in range(15):
            clock.shift(timedelta(minutes=2))
            swept = monotonic()
            await payments.sweep()
            assert monotonic() - swept < 2
            found = pool()
            assert found is not None and (found.in_use, found.waiting) == (0, 0)
        assert (await Payment.get(id=paid_before[1]["id"])).state is PaymentState.OPEN
        await drain()

        await sandbox.no_faults()
        for _ in range(40):
            clock.shift(timedelta(minutes=2))
            await payments.sweep()
        await drain()
        states = {payment.id: payment.state for payment in await Payment.all()}
        assert sorted(states.values()) == ["closed", "paid", "paid"]
        assert [bill.state for bill in await Bill.all().order_by("accrued_on")] == ["paid", "paid", "open", "open"]
        assert (await home.open(bill_ids=home.bill_ids[2:])).status_code == 201
