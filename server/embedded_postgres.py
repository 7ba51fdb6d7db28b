"""The PostgreSQL that comes with the Python dependencies, for a laptop and for tests.

Only the package's binaries are used; setting up, starting and stopping are done here, by a keeper process that outlives
even a killed master just long enough to stop the server (docs/decisions/0003-embedded-postgres.md).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import psutil

from server.postgres_home import (
    MAJOR,
    SHARED_PLACE,
    CannotRun,
    Home,
    builder,
    environment,
    find_program,
    give,
    give_tree,
    home_of,
    make_home,
    may_connect,
    open_private,
    run_as,
    socket_folder,
)

__all__ = ["CannotRun", "EmbeddedPostgres"]

KEEPER = Path(__file__).with_name("keeper.py")
READY_S = 120.0
STOP_S = 45.0
MEMORY_BYTES = 4 * 1024**3
SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "jit": "off",
    "cluster_name": "linli",
}
# For tests alone: a power cut may lose everything.
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


class EmbeddedPostgres:
    """One running cluster. `stop()` ends it, and so does the end of this process, however it comes."""

    def __init__(
        self, home: Home, socket_dir: Path, keeper: subprocess.Popen[bytes] | None, master: int | None
    ) -> None:
        self.home = home
        self.socket_dir = socket_dir
        self._keeper = keeper
        self._master = master

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        fast: bool = False,
        patience_s: float = 20.0,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> EmbeddedPostgres:
        """Start the cluster of `folder`, making it if there is none, and return when it takes connections.

        Refuses (CannotRun) a folder whose server another process keeps; one that is just ending is waited for up to
        `patience_s` seconds. What a killed run left behind is ended or cleared first; the data stays.
        """
        home = make_home(folder)
        lock = _lock(home, patience_s, cancelled)
        try:
            program = find_program(home)
            _end_leftovers(home.data)
            _make_cluster(home, program, fast)
            return cls._launch(home, program, lock, SETTINGS | (FAST if fast else {}), [], cancelled)
        finally:
            os.close(lock)

    @classmethod
    def temporary(cls) -> EmbeddedPostgres:
        """Start an empty cluster for tests: quick, careless of power cuts, and removed with its files at the end."""
        place = Path(tempfile.mkdtemp(prefix="linli-test-", dir=_memory()))
        try:
            home = make_home(place)
            lock = _lock(home, 0.0, lambda: False)
            try:
                program = find_program(home)
                _make_cluster(home, program, fast=True)
                remove = [str(place), str(home.path)]
                return cls._launch(home, program, lock, SETTINGS | FAST, remove, lambda: False)
            finally:
                os.close(lock)
        except BaseException:
            remove_files(place)
            raise

    @classmethod
    def running(cls, folder: Path) -> EmbeddedPostgres | None:
        """The server that another process keeps for `folder`, to connect to; `stop()` leaves such a one alone."""
        path = home_of(folder.expanduser().absolute()).resolve()
        lines = _postmaster(path / "data")
        if len(lines) < 8 or lines[7].strip() != "ready" or not _processes(path / "data"):
            return None
        return cls(Home(path, None), Path(lines[4].strip()), None, None)

    @property
    def is_alive(self) -> bool:
        """Whether the server still runs."""
        return bool(_processes(self.home.data)) if self._keeper is None else self._keeper.poll() is None

    def url(self, database: str, user: str = "postgres") -> str:
        """The address of a database for psycopg and asyncpg alike, over the socket; no password is needed."""
        host = quote(str(self.socket_dir), safe="")
        return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?host={host}"

    def stop(self) -> None:
        """End the server that this object started, and wait until nothing of it is left. May be called again."""
        if self._keeper is None or self._master is None:
            return
        os.close(self._master)
        self._master = None
        try:
            self._keeper.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        if self.home.data.exists():
            _end_leftovers(self.home.data)

    def __enter__(self) -> EmbeddedPostgres:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @classmethod
    def _launch(
        cls,
        home: Home,
        program: Path,
        lock: int,
        settings: dict[str, str],
        remove: Sequence[str],
        cancelled: Callable[[], bool],
    ) -> EmbeddedPostgres:
        sockets, brief = socket_folder(home)
        command = [str(program / "bin" / "postgres"), "-D", str(home.data)]
        files = {"hba_file": str(home.path / "pg_hba.conf"), "ident_file": str(home.path / "pg_ident.conf")}
        quoted = str(sockets).replace('"', '""')
        for name, value in (settings | files | {"unix_socket_directories": f'"{quoted}"'}).items():
            command += ["-c", f"{name}={value}"]
        if home.log.exists():
            home.log.replace(home.log.with_name("server.log.1"))
        log = open_private(home.log, os.O_WRONLY | os.O_APPEND)
        theirs, ours = os.pipe()
        order = {
            "command": command,
            "environment": environment(),
            "uid": home.account and home.account.uid,
            "gid": home.account and home.account.gid,
            "log_fd": log,
            "master_fd": theirs,
            "remove": [*remove, *([str(sockets)] if brief else [])],
        }
        try:
            keeper = subprocess.Popen(  # noqa: S603 - our own file, under our own interpreter
                [sys.executable, "-I", str(KEEPER), json.dumps(order)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs, log, lock),  # the keeper holds the lock to its own end
                start_new_session=True,
                cwd="/",
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
            os.close(log)
        server = cls(home, sockets, keeper, ours)
        server._wait(cancelled)
        return server

    def _wait(self, cancelled: Callable[[], bool]) -> None:
        until = time.monotonic() + READY_S
        while True:
            lines = _postmaster(self.home.data)
            if len(lines) >= 8 and lines[7].strip() == "ready" and lines[4].strip() == str(self.socket_dir):
                return
            if not self.is_alive or time.monotonic() > until or cancelled():
                reason = _last_line(self.home.log)
                self.stop()
                raise CannotRun(f"PostgreSQL did not start ({reason}); its log: {self.home.log}")
            time.sleep(0.02)


def _memory() -> str | None:
    """A folder that lies in memory, where there is one with room for the databases of tests; None for the usual one."""
    shared = Path("/dev/shm")  # noqa: S108 - only the parent; the folder itself gets a name that nobody can guess
    roomy = shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > MEMORY_BYTES
    return str(shared) if roomy else None


def remove_files(place: Path | str) -> None:
    """Remove a cluster's files for good, wherever they lie, after ending what still runs on them."""
    folder = Path(place).expanduser().absolute().resolve()
    home = home_of(folder)
    _end_leftovers(home / "data")
    if home != folder and home.parent == SHARED_PLACE:
        shutil.rmtree(home, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _lock(home: Home, patience_s: float, cancelled: Callable[[], bool]) -> int:
    lock = open_private(home.path / "lock", os.O_RDWR)
    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > until or cancelled():
                os.close(lock)
                raise CannotRun(f"PostgreSQL already runs for another process in {home.path}: stop that.") from None
            time.sleep(0.05)


def _make_cluster(home: Home, program: Path, fast: bool) -> None:
    """Run initdb where there is no cluster yet, beside its place first: a killed initdb leaves nothing half made."""
    version = home.data / "PG_VERSION"
    if not version.exists():
        fresh = home.path / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        runner = builder(home)
        give(fresh, runner)
        command: list[str | Path] = [
            program / "bin" / "initdb",
            "-D",
            fresh,
            "-U",
            "postgres",
            "--encoding=UTF8",
            "--locale=C",
        ]
        command += ["--auth-local=peer", "--auth-host=reject"] + (["--no-sync"] if fast else [])
        result = run_as(runner, command)
        if result.returncode:
            text = " ".join(line for line in result.stdout.splitlines() if "error" in line) or result.stdout[-300:]
            raise CannotRun(f"PostgreSQL could not make its files in {home.path} ({text.strip()}).")
        if home.account is not None:
            give_tree(fresh, home.account)
        fresh.replace(home.data)
    found = version.read_text(encoding="ascii").strip()
    if found != MAJOR:
        raise CannotRun(
            f"The data in {home.data} was made by PostgreSQL {found}, and this one is {MAJOR}: "
            "'make reset' makes new demo data, or set DATABASE_URL."
        )
    _write_rules(home)


def _write_rules(home: Home) -> None:
    """Only over the socket, and only for a process of ours or of root's: the kernel tells the server whose it is."""
    names = "".join(f'linli "{name}" all\n' for name in may_connect(home))
    for file, text in (("pg_hba.conf", "local all all peer map=linli\n"), ("pg_ident.conf", names)):
        path = home.path / file
        path.unlink(missing_ok=True)
        with os.fdopen(open_private(path, os.O_WRONLY), "w", encoding="utf-8") as out:
            out.write(text)
        if home.account is not None:
            give(path, home.account)


def _postmaster(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _processes(data: Path) -> list[psutil.Process]:
    """The PostgreSQL processes of this cluster. They work in its folder; a bare process id may be anybody's by now."""
    found = []
    for process in psutil.process_iter(["name"]):
        try:
            if process.info["name"] == "postgres" and process.cwd() == str(data):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def _end_leftovers(data: Path) -> None:
    """End what an earlier keeper could not, and clear the process id it left, which may name a stranger today."""
    for number, patience in ((signal.SIGINT, 25.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        left = _processes(data)
        first = (_postmaster(data) or [""])[0].strip()
        heads = [process for process in left if str(process.pid) == first]
        for process in heads or left:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        until = time.monotonic() + patience
        while (left := _processes(data)) and time.monotonic() < until:
            time.sleep(0.05)
        if not left:
            break
    else:
        raise CannotRun(f"A PostgreSQL that still runs in {data} cannot be ended: end it by hand.")
    (data / "postmaster.pid").unlink(missing_ok=True)


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "no log"
    return next((line.strip() for line in reversed(lines) if line.strip()), "no word in its log")
