"""/metrics: what Prometheus reads, on a port of its own, without an id in any label."""

import asyncio
import re
from collections.abc import AsyncIterator
from time import monotonic

import asyncpg
import httpx
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

import server.metric as metric
from handlers.route import all_routes
from jobs.alarm import look_at_alarms
from models.metric import LATELY
from models.unit_of_work import rows, unit_of_work
from services.alarm_rule import ALARMS
from tests.conftest import Database, SandboxControl
from tests.test_serve import free_port
from tests.world import World

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}|L20\d{6}|190000000|wx0|\d{11}")


@pytest_asyncio.fixture(loop_scope="session")
async def address(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    monkeypatch.setattr(metric, "KEPT_S", 0.0)
    LATELY.forget()  # what other tests did to WeChat is not this one's trouble
    port = free_port()
    async with metric.watched("api", "9.9", database.url, "127.0.0.1", port):
        yield f"http://127.0.0.1:{port}"


async def scraped(address: str) -> Samples:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        answer = await client.get(f"{address}/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    found: Samples = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(samples: Samples, name: str, /, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


async def test_a_payment_is_seen_in_every_count(
    world: World, sandbox: SandboxControl, address: str, drain, books
) -> None:
    before = await scraped(address)
    home = await world.home(bills=2)
    opened = (await home.open(bill_ids=home.bill_ids[:1])).json()
    assert (await home.open(bill_ids=["x"])).status_code == 404
    paid = (await sandbox.pay(opened)).json()
    await sandbox.called_back(paid["out_trade_no"])
    other = (await home.open(bill_ids=home.bill_ids[1:])).json()
    assert (await home.owner.post(f"/api/v1/payments/{other['id']}/cancel")).status_code == 200
    after = await scraped(address)

    def grew(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    route = {"method": "POST", "route": "/api/v1/payments"}
    assert grew("linli_requests_total", **route, status="201") == 2
    assert grew("linli_requests_total", **route, status="404") == 1
    assert grew("linli_request_seconds_count", **route) == 3
    assert grew("linli_payments_opened_total", outcome="opened") == 2
    assert grew("linli_settlements_total", source="callback", outcome="applied") == 1
    assert grew("linli_settlement_lag_seconds_count", source="callback") == 1
    assert grew("linli_callbacks_total", kind="payment", outcome="applied") == 1
    assert grew("linli_payments_closed_total", reason="cancelled") == 1
    assert grew("linli_wechat_call_seconds_count", operation="prepay", outcome="done") == 2
    assert grew("linli_wechat_call_seconds_count", operation="close", outcome="done") == 1
    assert value(after, "linli_undecided_attempts", state="closed") == 1  # asked about once more
    assert value(after, "linli_jobs", state="ready") == 1
    assert value(after, "linli_last_callback_age_seconds") < 10
    assert value(after, "linli_database_up") == value(after, "linli_build_info", version="9.9") == 1
    assert value(after, "linli_pool_size") == 16
    assert await drain() != []


async def test_no_label_holds_an_id_and_routes_are_the_declared_ones(
    world: World, sandbox: SandboxControl, address: str
) -> None:
    home = await world.home()
    await home.open()
    await home.owner.get("/api/v1/no/such/path")
    found = await scraped(address)

    labels = [label for _, these in found for label in these]
    assert [label for label in labels if _ID.search(label[1])] == []
    assert {text for name, text in labels if name == "route"} <= {route.path for route in all_routes()}
    assert len(found) < 20_000


async def test_alarms_are_there_and_tell(database: Database, address: str) -> None:
    await look_at_alarms()
    quiet = await scraped(address)
    assert {dict(labels)["name"] for name, labels in quiet if name == "linli_alarm"} == {one.name for one in ALARMS}
    assert sum(number for (name, _), number in quiet.items() if name == "linli_alarm") == 0

    await rows("UPDATE alarms SET active = true, begun_at = now(), told_at = now() WHERE name = 'clock_wrong'")
    assert value(await scraped(address), "linli_alarm", name="clock_wrong", severity="critical") == 1


async def test_it_is_not_on_the_public_address(api: httpx.AsyncClient, address: str) -> None:
    assert (await api.get("/metrics")).status_code == 404
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{address}/healthz")).text == "ok\n"
        assert (await client.get(f"{address}/")).status_code == 404
        assert (await client.post(f"{address}/metrics")).status_code == 404


async def test_strange_clients_do_no_harm(database: Database, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric, "_HEAD_S", 0.2)
    for sent in (b"", b"GET", b"\x00\xff\r\n\r\n", b"GET /metrics\r\n\r\n", b"x" * 20_000):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.write(sent)
        async with asyncio.timeout(5):
            await reader.read()
        writer.close()
    assert value(await scraped(address), "linli_database_up") == 1


async def test_a_database_that_hangs_is_told_in_time_and_the_counts_come_all_the_same(
    database: Database, address: str, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric, "READ_WITHIN_S", 0.5)
    async with owner.transaction():
        await owner.execute("LOCK TABLE payment_attempts IN ACCESS EXCLUSIVE MODE")
        begun = monotonic()
        hanging = await scraped(address)
        assert monotonic() - begun < 2
    assert value(hanging, "linli_database_up") == 0 and ("linli_janitor_due", frozenset()) not in hanging
    assert value(hanging, "linli_build_info", version="9.9") == 1

    again = await scraped(address)
    assert value(again, "linli_database_up") == 1 and ("linli_janitor_due", frozenset()) in again


async def test_readings_are_kept_for_some_seconds(
    database: Database, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric, "KEPT_S", 60.0)
    await scraped(address)
    asked = 0
    original = metric.read

    async def counted(fetch):
        nonlocal asked
        asked += 1
        return await original(fetch)

    monkeypatch.setattr(metric, "read", counted)
    await asyncio.gather(*(scraped(address) for _ in range(5)))
    assert asked == 0


async def test_the_pool_is_seen_filling(database: Database, address: str) -> None:
    go_on = asyncio.Event()

    @unit_of_work
    async def hold() -> None:
        await rows("SELECT 1")
        await go_on.wait()

    holders = [asyncio.ensure_future(hold()) for _ in range(15)]  # two of sixteen are kept for what is urgent
    await asyncio.sleep(0.3)
    full = await scraped(address)
    go_on.set()
    await asyncio.gather(*holders)

    # the fifteenth waits, and so does the scrape itself when what it knew of the database has grown old
    assert value(full, "linli_pool_in_use") == 14 and value(full, "linli_pool_waiting") in (1, 2)
    assert value(await scraped(address), "linli_pool_in_use") == 0
