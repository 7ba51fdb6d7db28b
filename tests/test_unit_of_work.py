"""The only door to a transaction: all or nothing, never nested, never left open by a caller that goes away."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
from tortoise.backends.asyncpg.client import AsyncpgDBClient
from tortoise.connection import get_connection
from tortoise.exceptions import IntegrityError
from tortoise.transactions import in_transaction

import models.unit_of_work as unit_of_work_module
from kit.crypto import load_private_key
from models.audit import record_tx
from models.database import connect
from models.job import enqueue_tx
from models.merchant_account import MerchantMode
from models.organization import Organization
from models.pool import Client
from models.unit_of_work import (
    DatabaseBusy,
    NestedUnitOfWork,
    drain,
    inside_unit_of_work,
    row,
    rows,
    unit_of_work,
)
from payments.gateways.merchant_keys import MerchantKeys
from payments.gateways.wechat_pay import WechatPay
from sandbox.platform_key import make_key_pair
from services import miniprogram
from tests.conftest import Database

POOL = 4


async def names() -> list[str]:
    return [one["name"] for one in await rows("SELECT name FROM organizations ORDER BY name")]


@unit_of_work
async def make(*wanted: str, fail: BaseException | None = None) -> int:
    for name in wanted:
        await Organization.create(name=name)
    if fail:
        raise fail
    return len(wanted)


class TestOneTransaction:
    async def test_commits_and_answers(self, database: Database) -> None:
        assert await make("a", "b") == 2
        assert await names() == ["a", "b"]
        assert not inside_unit_of_work()

    async def test_any_exception_takes_everything_back(self, database: Database) -> None:
        for error in (LookupError("x"), DatabaseBusy(), asyncio.CancelledError(), KeyError()):
            with pytest.raises(type(error)):
                await make("a", "b", fail=error)
            assert await names() == []
        assert await make("c") == 1

    async def test_a_refusal_of_the_database_takes_everything_back(self, database: Database) -> None:
        @unit_of_work
        async def twice() -> None:
            made = await Organization.create(name="a")
            await Organization.create(id=made.id, name="b")

        with pytest.raises(IntegrityError):
            await twice()
        assert await names() == []

    async def test_a_refusal_at_commit_takes_everything_back(
        self, database: Database, owner: asyncpg.Connection
    ) -> None:
        await owner.execute(
            """CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN RAISE EXCEPTION 'not so' USING ERRCODE = 'check_violation'; END $$;
               CREATE CONSTRAINT TRIGGER no AFTER INSERT ON organizations DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION no()"""
        )
        for _ in range(20):  # more often than the pool has connections
            with pytest.raises((asyncpg.CheckViolationError, IntegrityError)):
                await make("a")
        assert await names() == []
        assert await idle_in_transaction(owner) == 0

    async def test_nobody_else_sees_it_before_the_commit(self, database: Database, owner: asyncpg.Connection) -> None:
        seen = []

        @unit_of_work
        async def work() -> None:
            assert inside_unit_of_work()
            await Organization.create(name="a")
            seen.append(await owner.fetchval("SELECT count(*) FROM organizations"))

        await work()
        assert [*seen, await owner.fetchval("SELECT count(*) FROM organizations")] == [0, 1]

    async def test_rows_and_row_answer_dicts(self, database: Database) -> None:
        await make("a", "b")
        assert await rows("SELECT name FROM organizations WHERE name > $1 ORDER BY name", "a") == [{"name": "b"}]
        assert await row("SELECT name FROM organizations WHERE name = $1", "z") is None
        assert await rows("UPDATE organizations SET name = 'c' WHERE name = 'a' RETURNING name") == [{"name": "c"}]


class TestNesting:
    async def test_is_refused_and_takes_the_outer_one_back(self, database: Database) -> None:
        @unit_of_work
        async def outer() -> None:
            await Organization.create(name="outer")
            await make("inner")

        with pytest.raises(NestedUnitOfWork, match="make"):
            await outer()
        assert await names() == []

    async def test_is_refused_by_a_detour_too(self, database: Database) -> None:
        @unit_of_work
        async def outer() -> list[Any]:
            return await asyncio.gather(make("inner"), return_exceptions=True)

        (refused,) = await outer()
        assert isinstance(refused, NestedUnitOfWork)
        assert await names() == []

    async def test_one_after_the_other_is_fine(self, database: Database) -> None:
        await make("a")
        await make("b")
        assert await names() == ["a", "b"]


@pytest_asyncio.fixture(loop_scope="session")
async def small_pool(database: Database, owner: asyncpg.Connection) -> AsyncIterator[Database]:
    """The application with a pool of four, whose deadlocks are found at once."""
    await owner.execute(f"ALTER DATABASE {database.name} SET deadlock_timeout = '30ms'")
    await get_connection("default").close()
    await connect(database.url, pool_size=POOL)
    yield database
    for task in (stuck := list(unit_of_work_module._running)):
        task.cancel()  # where connections were lost, what waits for one waits for ever
    await asyncio.gather(*stuck, return_exceptions=True)
    pool = get_connection("default")._pool
    if pool is not None:
        pool.terminate()
        get_connection("default")._pool = None


class TestTryingAgain:
    async def test_a_deadlock_is_run_again(self, small_pool: Database) -> None:
        await make("one", "two")
        ready = asyncio.Barrier(2)
        runs: list[str] = []

        @unit_of_work
        async def rename(first: str, second: str) -> None:
            runs.append(first)
            for position, name in enumerate((first, second)):
                await rows("UPDATE organizations SET name = name || $2 WHERE left(name, 3) = $1", name, f"-{first}")
                if position == 0 and runs.count(first) == 1:
                    await ready.wait()

        async with asyncio.timeout(10):
            await asyncio.gather(rename("one", "two"), rename("two", "one"))
        assert sorted(runs) in (["one", "one", "two"], ["one", "two", "two"])
        found = await names()
        assert found in (["one-one-two", "two-one-two"], ["one-two-one", "two-two-one"])

    async def test_three_times_in_all(self, database: Database) -> None:
        runs = []

        @unit_of_work
        async def work(error: Exception) -> None:
            runs.append(await Organization.create(name="a"))
            raise error

        for tries, error in enumerate((asyncpg.DeadlockDetectedError("x"), asyncpg.SerializationError("x")), start=1):
            with pytest.raises(DatabaseBusy) as busy:
                await work(error)
            assert (len(runs), busy.value.status, busy.value.retry_after_s) == (3 * tries, 503, 2)
        assert await names() == []

    async def test_the_second_run_starts_from_nothing(self, database: Database) -> None:
        runs = []

        @unit_of_work
        async def work() -> int:
            runs.append(1)
            await Organization.create(name="a")
            if len(runs) < 3:
                raise asyncpg.DeadlockDetectedError("again")
            return len(runs)

        assert await work() == 3
        assert await names() == ["a"]


class TestWaiting:
    async def test_a_lock_that_is_not_to_be_had(self, database: Database, owner: asyncpg.Connection) -> None:
        await make("a")

        @unit_of_work
        async def work() -> None:
            await Organization.create(name="b")
            await rows("SET LOCAL lock_timeout = '30ms'")
            await rows("UPDATE organizations SET name = 'c' WHERE name = 'a'")

        async with owner.transaction():
            await owner.execute("SELECT FROM organizations FOR UPDATE")
            with pytest.raises(DatabaseBusy):
                await work()
        assert await names() == ["a"]

    async def test_a_statement_that_takes_too_long(self, database: Database) -> None:
        @unit_of_work
        async def work() -> None:
            await Organization.create(name="b")
            await rows("SET LOCAL statement_timeout = '30ms'")
            await rows("SELECT pg_sleep(5)")

        with pytest.raises(DatabaseBusy):
            await work()
        assert await names() == []

    async def test_every_wait_is_bounded(self, database: Database) -> None:
        bounds = {"lock_timeout": "5s", "statement_timeout": "30s", "idle_in_transaction_session_timeout": "1min"}
        for name, bound in bounds.items():
            assert await row(f"SHOW {name}") == {name: bound}


async def idle_in_transaction(owner: asyncpg.Connection) -> int:
    """How many sessions of the application hold a transaction open and do nothing."""
    return await owner.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND state LIKE 'idle in transaction%'"
    )


async def hang_up(callers: int, call: Callable[[int], Awaitable[Any]]) -> int:
    """Start ``callers``, cancel each after a random moment; how many were cancelled before they were done."""
    chance = random.Random(20261101)
    cancelled = 0

    async def caller(number: int) -> None:
        nonlocal cancelled
        task = asyncio.ensure_future(call(number))
        await asyncio.sleep(chance.choice((0, 0, chance.uniform(0, 0.01), chance.uniform(0, 0.3))))
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            cancelled += 1

    for begin in range(0, callers, 40):
        await asyncio.gather(*[caller(number) for number in range(begin, begin + 40)])
    return cancelled


def lent() -> int:
    """How many connections the pool has given away and not got back."""
    pool = get_connection("default")._pool
    return pool.get_size() - pool.get_idle_size() if pool else 0


async def serves_all_at_once(within_s: float = 3) -> None:
    """As many units of work as the pool has connections meet inside their transactions."""
    meeting = asyncio.Barrier(POOL)

    @unit_of_work
    async def work() -> None:
        await rows("SELECT 1")
        await meeting.wait()

    async with asyncio.timeout(within_s):
        await asyncio.gather(*[work() for _ in range(POOL)])


class TestHangingUp:
    async def test_four_hundred_hang_ups_leak_nothing(self, small_pool: Database, owner: asyncpg.Connection) -> None:
        started: set[str] = set()

        @unit_of_work
        async def work(number: int) -> None:
            started.add(f"{number:03}")
            await Organization.create(name=f"{number:03}-a")
            await rows("SELECT pg_sleep(0.001)")
            await Organization.create(name=f"{number:03}-b")

        cancelled = await hang_up(400, work)
        async with asyncio.timeout(10):
            await drain()
        assert cancelled > 100, "the test does not try what it means to"
        assert lent() == 0 and await idle_in_transaction(owner) == 0
        await serves_all_at_once()
        found = await names()
        assert found == [f"{number}-{half}" for number in sorted(started) for half in "ab"]
        assert len(started) > 200

    async def test_the_same_without_the_shield_leaks(
        self, small_pool: Database, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The control, with neither the shield nor our transaction, which gives back what a failed BEGIN had taken:
        without it nobody would know whether the test above tries anything."""
        monkeypatch.setattr(Client, "_in_transaction", AsyncpgDBClient._in_transaction)

        async def work(number: int) -> None:
            async with in_transaction("default"):
                await Organization.create(name=f"{number:03}-a")
                await rows("SELECT pg_sleep(0.001)")
                await Organization.create(name=f"{number:03}-b")

        async with asyncio.timeout(10):
            while lent() < POOL // 2:  # every caller is done by then, so what is still lent is lost
                await hang_up(80, work)
        with pytest.raises(TimeoutError):
            await serves_all_at_once(within_s=0.5)

    async def test_the_work_of_a_caller_that_left_is_waited_for(self, database: Database) -> None:
        inside, go_on = asyncio.Event(), asyncio.Event()

        @unit_of_work
        async def work() -> None:
            await Organization.create(name="a")
            inside.set()
            await go_on.wait()

        caller = asyncio.ensure_future(work())
        await inside.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert await names() == []
        draining = asyncio.ensure_future(drain())
        await asyncio.sleep(0.01)
        assert not draining.done()
        go_on.set()
        async with asyncio.timeout(5):
            await draining
        assert await names() == ["a"]

    async def test_work_that_fails_after_its_caller_left_is_taken_back(
        self, database: Database, owner: asyncpg.Connection
    ) -> None:
        inside = asyncio.Event()

        @unit_of_work
        async def work() -> None:
            await Organization.create(name="a")
            inside.set()
            await asyncio.sleep(0.01)
            raise LookupError

        caller = asyncio.ensure_future(work())
        await inside.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await drain()
        assert await names() == [] and await idle_in_transaction(owner) == 0


async def queued(owner: asyncpg.Connection) -> list[str]:
    return [one["task_name"] for one in await owner.fetch("SELECT task_name FROM procrastinate_jobs ORDER BY id")]


class TestConsequences:
    async def test_are_refused_outside(self, database: Database, owner: asyncpg.Connection) -> None:
        with pytest.raises(RuntimeError, match="inside the transaction"):
            await enqueue_tx("send_message", {})
        assert await queued(owner) == []

    async def test_are_there_with_the_commit_and_not_before(
        self, database: Database, owner: asyncpg.Connection
    ) -> None:
        seen = []

        @unit_of_work
        async def work() -> None:
            await enqueue_tx("send_message", {"message_id": "x"})
            await enqueue_tx("check_attempt", {"小区": 1}, not_before=datetime(2030, 1, 1, tzinfo=UTC))
            seen.append(await queued(owner))

        await work()
        assert [*seen, await queued(owner)] == [[], ["send_message", "check_attempt"]]
        found = await owner.fetch("SELECT * FROM procrastinate_jobs ORDER BY id")
        assert [(one["queue_name"], one["status"], one["lock"], one["queueing_lock"]) for one in found] == [
            ("linli", "todo", None, None)
        ] * 2
        assert [one["scheduled_at"] for one in found] == [None, datetime(2030, 1, 1, tzinfo=UTC)]
        assert [one["args"] for one in found] == ['{"message_id": "x"}', '{"小区": 1}']

    async def test_are_taken_back_with_it(self, database: Database, owner: asyncpg.Connection) -> None:
        @unit_of_work
        async def work() -> None:
            await enqueue_tx("send_message", {})
            raise LookupError

        with pytest.raises(LookupError):
            await work()
        assert await queued(owner) == []

    async def test_twice_the_same_is_two_jobs_and_no_violation(
        self, database: Database, owner: asyncpg.Connection
    ) -> None:
        @unit_of_work
        async def work() -> None:
            await enqueue_tx("send_message", {"message_id": "x"})

        await work()
        await work()
        assert await queued(owner) == ["send_message"] * 2

    async def test_audit_is_refused_outside(self, database: Database) -> None:
        from kit.ids import new_id
        from models.access import system_actor

        with pytest.raises(RuntimeError, match="inside the transaction"):
            await record_tx(system_actor("test"), "x", "x", new_id(), organization_id=None)


class TestGateways:
    """A call to WeChat inside a transaction would hold its locks for as long as WeChat takes."""

    async def test_wechat_pay_refuses_inside(self, database: Database) -> None:
        asked: list[str] = []

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(request.url.path)
            return httpx.Response(500)

        keys = MerchantKeys(
            MerchantMode.DIRECT, "1900000001", None, "0" * 40, load_private_key(make_key_pair()[1]), b"k" * 32, {}
        )
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            gateway = WechatPay(keys, client, "https://api.mch.weixin.qq.com")
            for call in (
                lambda: gateway.open_order("{}"),
                lambda: gateway.ask("order-1"),
                lambda: gateway.close_order("order-1"),
                lambda: gateway.certificates(),
            ):
                with pytest.raises(RuntimeError, match="never called inside a transaction"):
                    await unit_of_work(call)()
        assert asked == []

    async def test_the_mini_program_api_refuses_inside(self, database: Database) -> None:
        @unit_of_work
        async def work() -> None:
            await miniprogram._call("GET", "/sns/jscode2session")

        with pytest.raises(RuntimeError, match="never called inside a transaction"):
            await work()
