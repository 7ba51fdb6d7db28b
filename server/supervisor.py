"""Run everything on one machine: the embedded PostgreSQL, what must be done once, and the processes that serve.

One process owns the rest and ends them in the reverse order; a pipe whose write end only it holds tells them when it
was killed. What a plan holds and in which order is the caller's (server/cli.py): steps run to their end, children stay.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from server.embedded_postgres import CannotRun, EmbeddedPostgres
from server.postgres_home import open_private, private_folder
from server.process import Child, Process, Step

__all__ = ["CannotRun", "Child", "Step", "database", "port_answers", "supervise"]

Plan = Callable[[EmbeddedPostgres | None], Iterable[Step | Child]]

READY_S = 60.0
PREVIOUS_RUN_S = 30.0
TICK_S = 0.2
LOOPBACK = "127.0.0.1"


class _Asked(Exception):
    """Somebody asked for the end: Ctrl-C, SIGTERM, or a closed terminal."""


def supervise(
    state: Path,
    prepare: Plan,
    guide: Callable[[], str],
    *,
    ports: Mapping[str, int],
    database_url: str | None,
) -> int:
    """Start all of the plan in its order, print the guide, and keep it running until a signal; return the exit code.

    `prepare` gets the embedded server (None when `database_url` names another) and gives steps and children in order;
    it may be a generator. Children that follow each other start together and are ready before the next step. `ports`
    names the variable by which each port can be changed. The code is 0 when asked to end by SIGINT, SIGTERM or SIGHUP,
    and 1, after one sentence that says why, when something could not be started or kept running.
    """
    try:
        state = private_folder(state)
        with _alone(state):
            return _Supervisor(state, dict(ports), database_url).run(prepare, guide)
    except _Asked:
        return 0
    except CannotRun as problem:
        _tell(str(problem))
        return 1


@contextmanager
def database(state: Path, database_url: str | None, *, alone: bool = False) -> Iterator[EmbeddedPostgres | None]:
    """The database for one command: None when `database_url` names it, else the embedded server.

    A server that `linli up` keeps is used as it is, and otherwise one is started for as long as the command takes. With
    `alone`, a running `linli up` is refused (CannotRun): for commands that take the data away.
    """
    state = private_folder(state)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_alone(state))
        except CannotRun:
            if alone:
                raise
        if database_url:
            yield None
            return
        server = EmbeddedPostgres.running(state / "postgres") or EmbeddedPostgres.start(state / "postgres")
        with server:
            yield server


def port_answers(port: int) -> bool:
    """Whether something takes connections on this port of 127.0.0.1; made to be a child's `ready`."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((LOOPBACK, port)) == 0


class _Supervisor:
    def __init__(self, state: Path, ports: dict[str, int], database_url: str | None) -> None:
        self.state = state
        self.ports = ports
        self.database_url = database_url
        self.server: EmbeddedPostgres | None = None
        self.processes: list[Process] = []
        self.asked = 0
        self.terminal = _terminal()
        self.woken, self.wake = os.pipe()
        os.set_blocking(self.wake, False)

    def run(self, prepare: Plan, guide: Callable[[], str]) -> int:
        pipe_read, pipe_write = os.pipe()  # nobody writes: its end of file is the news that we are gone
        with self._signals(), _previous_run_ended(self.state, self._pause) as mark:
            try:
                _require_free(self.ports)
                if not self.database_url:
                    self.server = EmbeddedPostgres.start(self.state / "postgres", cancelled=lambda: self.asked > 0)
                    self._pause(0)
                self._start(prepare(self.server), (pipe_read, mark))
                print(guide(), flush=True)
                while True:
                    self._pause(TICK_S)
                    self._look()
            except _Asked:
                return 0
            except CannotRun:
                if self.asked:
                    return 0
                raise
            finally:
                self._end()
                os.close(pipe_read)
                os.close(pipe_write)

    def _start(self, plan: Iterable[Step | Child], inherited: tuple[int, int]) -> None:
        starting: list[Process] = []
        logs = private_folder(self.state / "log")
        for part in plan:
            if isinstance(part, Step):
                self._await_ready(starting)
                starting = []
            process = Process(part, logs, inherited)
            self.processes.append(process)
            process.start()
            if isinstance(part, Step):
                while process.is_alive:
                    self._pause(0.05)
                self.processes.remove(process)
                if process.code != 0:
                    raise CannotRun(f"The step '{part.name}' failed ({process.ending}).\n{process.last_lines()}")
            else:
                starting.append(process)
        self._await_ready(starting)

    def _await_ready(self, starting: list[Process]) -> None:
        until = time.monotonic() + READY_S
        for process in starting:
            while not process.is_ready():
                if not process.is_alive:
                    raise CannotRun(f"'{process.name}' ended at its start ({process.ending}).\n{process.last_lines()}")
                if time.monotonic() > until:
                    raise CannotRun(f"'{process.name}' was not ready in {READY_S:.0f} s.\n{process.last_lines()}")
                self._pause(0.05)

    def _look(self) -> None:
        """Look at everything that should run: pass on errors, start again what ended, give up on what keeps ending."""
        if self.terminal is not None and self.terminal.poll(0):
            raise _Asked
        if self.server is not None and not self.server.is_alive:
            raise CannotRun(f"PostgreSQL ended unexpectedly; its log: {self.server.home.log}")
        for process in self.processes:
            for line in process.new_errors():
                _tell(f"[{process.name}] {line}")
            if (news := process.revive()) is not None:
                _tell(news)

    def _end(self) -> None:
        """End the children in the reverse order, then PostgreSQL. Another signal meanwhile ends the patience."""
        try:
            before = self.asked
            for process in reversed(self.processes):
                process.end(impatient=lambda: self.asked > before)
        finally:
            if self.server is not None:
                self.server.stop()

    def _pause(self, seconds: float) -> None:
        if not self.asked:
            select.select([self.woken], [], [], seconds)
        if self.asked:
            raise _Asked

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Handle signals explicitly: a script's `&` leaves SIGINT ignored, and SIGTERM would end only us."""

        def note(number: int, frame: FrameType | None) -> None:
            self.asked += 1
            with contextlib.suppress(BlockingIOError):
                os.write(self.wake, b"!")

        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored on purpose: nohup
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self.woken)
            os.close(self.wake)


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Hold the state folder's lock. The kernel gives it up with our end, so there is no stale one to guess about."""
    lock = open_private(state / "lock", os.O_RDWR)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 20).decode("ascii", "replace").strip() or "unknown"
            raise CannotRun(f"Linli already runs on {state} (process {holder}): use that, or stop it.") from None
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(lock)


@contextmanager
def _previous_run_ended(state: Path, pause: Callable[[float], None]) -> Iterator[int]:
    """Wait for the children of a killed run: each holds this lock to its own end. Give it to be handed to ours."""
    mark = open_private(state / "children.lock", os.O_RDWR)
    try:
        until = time.monotonic() + PREVIOUS_RUN_S
        told = False
        while True:
            try:
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise CannotRun("The processes of the previous run do not end: end them by hand.") from None
                if not told:
                    _tell("The previous run is still ending; waiting for it.")
                    told = True
                pause(0.1)
        fcntl.flock(mark, fcntl.LOCK_SH)
        yield mark
    finally:
        os.close(mark)


def _require_free(ports: Mapping[str, int]) -> None:
    if len(set(ports.values())) < len(ports):
        raise CannotRun(f"{' and '.join(ports)} name the same port: set one of them to another.")
    for variable, port in ports.items():
        _require_port(variable, port)


def _require_port(variable: str, port: int) -> None:
    sentence = f"Port {port} on {LOOPBACK} is taken: stop what uses it, or set {variable} to another port."
    if not 0 < port < 65536:
        raise CannotRun(f"{variable} is {port}, which is no port: set it to a number from 1 to 65535.")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except PermissionError:
            raise CannotRun(f"Port {port} is not allowed for this user: set {variable} to another port.") from None
        except OSError:
            raise CannotRun(sentence) from None
    if port_answers(port):  # macOS binds beside a server that listens on all addresses
        raise CannotRun(sentence)


def _terminal() -> select.poll | None:
    """The terminal in whose foreground this runs, to notice that it was closed; with nohup or `&` that means nothing.

    The kernel sends SIGHUP to the first process of the terminal's session alone. A shell passes it on; make does not.
    """
    try:
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN or os.tcgetpgrp(0) != os.getpgrp():
            return None
    except OSError:
        return None
    watch = select.poll()
    watch.register(0, 0)  # hang-up is always told, and typed letters do not matter
    return watch


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
