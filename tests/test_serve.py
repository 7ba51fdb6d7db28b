"""The processes as they are run: the API alone on its database, the worker that works, readiness that tells."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest_asyncio

from models.message import Message, MessageState
from models.receipt import Receipt
from models.unit_of_work import rows, unit_of_work
from tests.conftest import Database, SandboxControl
from tests.world import World


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Command:
    """A ``linli`` process of the test's own."""

    def __init__(
        self, database: Database, state: Path, sandbox: str, *arguments: str, port: int = 0, **more: str
    ) -> None:
        environment = {
            **os.environ,
            "LINLI_ENV": "dev",
            "LINLI_STATE": str(state),
            "DATABASE_URL": database.url,
            "LINLI_OWNER_DATABASE_URL": database.owner_url,
            "LINLI_PORT": str(port or free_port()),
            "LINLI_WECHAT_PAY_BASE": sandbox,
            "LINLI_WECHAT_API_BASE": sandbox,
            # the keyring of the tests, so that the process can read what the builders wrote
            "LINLI_FIELD_KEYS": json.dumps({"test": "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="}),
            "LINLI_INDEX_KEY": "aWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWk=",
            **more,
        }
        # A file, because a pipe that nobody reads is full some time, and then whoever writes a line into it waits.
        self.printed = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "server.cli", *arguments],
            env=environment,
            stdout=self.printed,
            stderr=subprocess.STDOUT,
        )

    async def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Ask it to end; its exit code and what it printed."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> tuple[int, str]:
        await asyncio.to_thread(self.process.wait, timeout=60)
        if not self.printed.closed:
            self.printed.seek(0)
            self.said = self.printed.read().decode()
            self.printed.close()
        return self.process.returncode, self.said


async def until_answers(url: str, status: int = 200) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(20):
        while True:
            try:
                answer = await client.get(url)
                if answer.status_code == status:
                    return answer
            except httpx.HTTPError:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture(loop_scope="session")
async def serving(database: Database, sandbox: SandboxControl, tmp_path: Path) -> AsyncIterator[tuple[Command, int]]:
    port = free_port()
    command = Command(database, tmp_path / "state", sandbox.base, "serve", port=port)
    try:
        await until_answers(f"http://127.0.0.1:{port}/healthz")
        yield command, port
    finally:
        await command.end()


async def test_the_api_serves_and_ends_cleanly(serving: tuple[Command, int]) -> None:
    command, port = serving
    not_ready = await until_answers(f"http://127.0.0.1:{port}/readyz", 503)
    checks = not_ready.json()["checks"]

    assert checks["database"] == checks["migrations"] == "ok"
    assert checks["worker"] == "no worker seen for 60 s"
    code, _ = await command.end()
    assert code == 0


async def test_a_second_api_process_refuses_to_start(
    serving: tuple[Command, int], database: Database, sandbox: SandboxControl, tmp_path: Path
) -> None:
    second = Command(database, tmp_path / "state", sandbox.base, "serve")
    code, printed = await second.ended()

    assert code == 1
    assert printed.strip() == (
        "linli: another API process serves this database already; one API process is all that runs without Redis"
    )


async def test_one_with_redis_refuses_to_start_beside_one_without(
    serving: tuple[Command, int], database: Database, sandbox: SandboxControl, tmp_path: Path
) -> None:
    redis = f"redis://127.0.0.1:{free_port()}"
    second = Command(database, tmp_path / "state", sandbox.base, "serve", REDIS_URL=redis)
    code, printed = await second.ended()

    assert code == 1
    assert printed.strip() == (
        "linli: an API process without REDIS_URL serves this database already: give it REDIS_URL too"
    )


async def test_a_taken_port_is_one_sentence(
    serving: tuple[Command, int], database: Database, sandbox: SandboxControl, tmp_path: Path
) -> None:
    _, port = serving
    code, printed = await Command(database, tmp_path / "state", sandbox.base, "serve", port=port).ended()

    assert (code, len(printed.strip().splitlines())) == (1, 1)
    assert printed.startswith(f"linli: port {port} cannot be taken")


async def test_the_worker_works_what_money_left_and_is_seen(
    world: World,
    serving: tuple[Command, int],
    database: Database,
    sandbox: SandboxControl,
    tmp_path: Path,
    owner,
    books,
) -> None:
    _, port = serving
    home = await world.home()
    opened = (await home.open()).json()
    paid = (await sandbox.pay(opened)).json()
    await sandbox.called_back(paid["out_trade_no"])
    # What a worker that was killed left behind: a job for ever in "doing".
    await owner.execute("UPDATE procrastinate_jobs SET status = 'doing'")

    worker = Command(database, tmp_path / "state", sandbox.base, "worker")
    try:
        await until_answers(f"http://127.0.0.1:{port}/readyz")
        async with asyncio.timeout(40):
            while not await Message.filter(state=MessageState.SENT).exists():
                await asyncio.sleep(0.1)
    finally:
        code, _ = await worker.end(signal.SIGINT)

    assert code == 0
    assert await Receipt.all().count() == 1


async def test_check_tells_what_is_broken_and_ends_with_one(
    world: World, sandbox: SandboxControl, database: Database, tmp_path: Path, owner
) -> None:
    home = await world.home()
    paid = (await sandbox.pay((await home.open()).json())).json()
    await sandbox.called_back(paid["out_trade_no"])
    clean = await Command(database, tmp_path / "state", sandbox.base, "check").ended()
    assert clean[0] == 0 and "BROKEN" not in clean[1]

    # The owner of the database itself tampers with the journal.
    await owner.execute("ALTER TABLE entries DISABLE TRIGGER ALL; UPDATE entries SET amount_fen = amount_fen + 1")
    code, printed = await Command(database, tmp_path / "state", sandbox.base, "check", "--json").ended()

    assert code == 1
    found = {one["number"]: one["found"] for one in json.loads(printed)}
    attempt_id = await owner.fetchval("SELECT id::text FROM payment_attempts")
    assert found["L1"] == {"id": attempt_id, "difference": -1, "state": "paid"}
    assert found["L7"]["difference"] == 1


async def test_a_missing_setting_is_one_sentence(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LINLI_", "DATABASE"))}
    for command in ("serve", "worker", "check", "migrate"):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "server.cli", command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1, (command, done.stderr)
        assert done.stderr.startswith("linli: DATABASE_URL is not set"), (command, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1


async def test_prune_and_rescue_leave_young_work_alone(database: Database, owner) -> None:
    from jobs.upkeep import make_partitions, prune, rescue_jobs
    from models.job import enqueue_tx

    @unit_of_work
    async def enqueue() -> None:
        await enqueue_tx("send_message", {"message_id": "x"})

    await enqueue()
    assert await rescue_jobs() == 0 and await prune() == 0
    (job,) = await rows("SELECT id FROM procrastinate_jobs")
    await rows("SELECT procrastinate_finish_job_v1($1, 'succeeded', false)", job["id"])
    assert await prune() == 0
    await owner.execute("UPDATE procrastinate_events SET at = at - interval '73 hours'")
    assert await prune() == 1
    await make_partitions()
