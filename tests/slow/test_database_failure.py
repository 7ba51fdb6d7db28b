"""A real PostgreSQL that is stopped and started under load, three times: nothing that was acknowledged is lost."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import date
from pathlib import Path
from time import monotonic

import asyncpg
import httpx
import pytest
import pytest_asyncio

from models import secret
from models.database import connect, credentials, disconnect
from models.payment import Payment
from models.unit_of_work import drain as drain_units
from models.unit_of_work import rows
from server.embedded_postgres import EmbeddedPostgres
from server.migration import prepare_embedded
from tests.conftest import Database, SandboxControl
from tests.test_serve import Command, free_port, until_answers
from tests.world import KEYRING, World

BILLS = 120
PLAIN = {200, 201, 409, 503}


class Cluster:
    """A cluster that writes to the disk as in production, and may be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = EmbeddedPostgres.start(folder)

    def stop(self) -> None:
        self.server.stop()

    def start(self) -> None:
        self.server = EmbeddedPostgres.start(self.folder)


@pytest.fixture
def restartable(tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path / "pg")
    yield found
    found.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def database(restartable: Cluster) -> AsyncIterator[Database]:
    server = restartable.server
    await prepare_embedded(server.url("postgres"), server.url("linli"))
    secret.configure(KEYRING)
    found = Database("linli", server.url("linli", "linli_app"), server.url("linli"))
    await connect(found.url)
    yield found
    await drain_units()
    await disconnect()


async def test_restarts_under_load(
    world: World, sandbox: SandboxControl, database: Database, restartable: Cluster, tmp_path: Path, books
) -> None:
    home = await world.home(bills=1)
    bills = [
        await world.bill(home.company, home.room, home.customer, 100 + n, month=date(2010 + n // 12, n % 12 + 1, 1))
        for n in range(BILLS)
    ]
    port, metrics = free_port(), free_port()
    api = Command(database, tmp_path / "s", sandbox.base, "serve", port=port, LINLI_METRICS_PORT=str(metrics),
                  LINLI_RATE_LIMITS="off")  # fmt: skip
    worker = Command(database, tmp_path / "s", sandbox.base, "worker")
    seen: Counter[tuple[int, str]] = Counter()
    acknowledged: dict[str, str] = {}
    longest_s = 0.0
    done = asyncio.Event()

    async def pay(client: httpx.AsyncClient, mine: list[str]) -> None:
        nonlocal longest_s
        for bill_id in mine:
            key, opened = f"open {bill_id}", None
            while opened is None and not done.is_set():
                begun = monotonic()
                answer = await client.post(
                    "/api/v1/payments", json={"bill_ids": [bill_id], "channel": "wechat_jsapi"},
                    headers=home.owner.headers | {"Idempotency-Key": key},
                )  # fmt: skip
                longest_s = max(longest_s, monotonic() - begun)
                seen[answer.status_code, answer.json().get("code", "")] += 1
                if answer.status_code == 201:
                    opened = answer.json()
                    acknowledged[opened["id"]] = bill_id
                else:
                    await asyncio.sleep(min(float(answer.headers.get("Retry-After", "0.2")), 1))
            if opened is not None:
                await sandbox.pay(opened)

    async def look(client: httpx.AsyncClient) -> None:
        while not done.is_set():
            alive = await client.get("/healthz")
            seen[alive.status_code, "healthz"] += 1
            answer = await client.get("/api/v1/bills", headers=home.owner.headers)
            seen[answer.status_code, answer.json().get("code", "")] += 1
            await asyncio.sleep(0.05)

    try:
        await until_answers(f"http://127.0.0.1:{port}/readyz")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            payers = [asyncio.create_task(pay(client, [str(bill.id) for bill in bills[n::4]])) for n in range(4)]
            looker = asyncio.create_task(look(client))
            for _ in range(3):
                await asyncio.sleep(2)
                await asyncio.to_thread(restartable.stop)
                await asyncio.sleep(1.5)
                await asyncio.to_thread(restartable.start)
            async with asyncio.timeout(240):
                await asyncio.gather(*payers)
            done.set()
            await looker

        # It recovers by itself: API ready, worker at work, and everything that was paid is settled and receipted.
        await until_answers(f"http://127.0.0.1:{port}/readyz")
        async with asyncio.timeout(180):
            while (await rows("SELECT count(*) AS n FROM receipts"))[0]["n"] < BILLS:
                await asyncio.sleep(0.5)
    finally:
        done.set()
        ended = [await worker.end(), await api.end()]
        (tmp_path / "ended.log").write_text("\n====\n".join(printed for _, printed in ended))

    assert {status for status, _ in seen} <= PLAIN, seen
    assert seen[200, "healthz"] > 10 and {code for status, code in seen if status == 503} <= {
        "database_away", "database_busy", "answer_late", "wechat_unavailable",
    }, seen  # fmt: skip
    assert any(status == 503 for status, _ in seen), "the restarts were not noticed: the test tries nothing"
    assert longest_s < 35
    assert len(acknowledged) == len(set(acknowledged.values())) == BILLS
    kept = {str(payment.id): payment.state.value for payment in await Payment.all()}
    assert {kept.get(payment_id) for payment_id in acknowledged} == {"paid"}
    assert [code for code, _ in ended] == [0, 0], ended
    owner = await asyncpg.connect(**credentials(database.owner_url))
    idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'linli' AND state LIKE 'idle in transaction%'"
    assert await owner.fetchval(idle) == 0
    await owner.close()
    print(f"restarts under load: {dict(seen)}, longest {longest_s:.1f} s")
