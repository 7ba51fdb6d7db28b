"""One process under the supervisor: what to run, its log, its end, and its new start after a crash."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from server.child import GRACE_S, PARENT_PIPE
from server.postgres_home import CannotRun, open_private

RESTARTS = 5
RESTART_WINDOW_S = 300.0
BACKOFF_S = 0.25
OLD_LOGS = 3
LAST_LINES = 15
# A line of a log that belongs on the terminal too: JSON as structlog writes it, or the words of other loggers.
ERROR = re.compile(rb'"level": ?"(error|critical)"|\b(ERROR|CRITICAL|FATAL)\b|^Traceback ')


@dataclass(frozen=True)
class Step:
    """A command that runs to its end before anything that follows in the plan starts."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Child:
    """A command that stays. `ready` says when others may count on it; without it, as soon as it is started."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] | None = None


class Process:
    """A step or child with its log file and, for a child, the account of its restarts."""

    def __init__(self, part: Step | Child, logs: Path, inherited: tuple[int, int]) -> None:
        self.part = part
        self.name = part.name
        self.log = logs / f"{part.name}.log"
        self.inherited = inherited
        self.running: subprocess.Popen[bytes] | None = None
        self.restarts: list[float] = []
        self.restart_at: float | None = None
        self._seen = 0
        _rotate(self.log)

    @property
    def is_alive(self) -> bool:
        return self.running is not None and self.running.poll() is None

    @property
    def code(self) -> int | None:
        return None if self.running is None else self.running.poll()

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        code = self.code
        return f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"

    def start(self) -> None:
        """Start it in a session of its own: Ctrl-C in the terminal reaches the supervisor alone, which ends all."""
        pipe = self.inherited[0]
        # libpq and asyncpg read PGHOST, PGPORT and the like; only the given address shall count
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        own = {"PYTHONUNBUFFERED": "1", **self.part.environment, PARENT_PIPE: str(pipe)}
        log = open_private(self.log, os.O_WRONLY | os.O_APPEND)
        try:
            self.running = subprocess.Popen(  # noqa: S603 - the plan is the project's own
                self.part.command,
                env=clean | own,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=self.inherited,
                start_new_session=True,
            )
        except OSError as error:
            raise CannotRun(f"'{self.name}' cannot be started: {error}.") from error
        finally:
            os.close(log)

    def is_ready(self) -> bool:
        """Whether it runs and its `ready` says so; one that just ended does not count, whoever answers in its place."""
        if not self.is_alive:
            return False
        ready = self.part.ready if isinstance(self.part, Child) else None
        return (ready is None or ready()) and self.is_alive

    def revive(self) -> str | None:
        """Start it again if it ended: after a pause that grows, and not a sixth time in five minutes (CannotRun)."""
        now = time.monotonic()
        if self.restart_at is not None:
            if now >= self.restart_at:
                self.restart_at = None
                self.start()
            return None
        if self.is_alive:
            return None
        self._kill_group()
        self.restarts = [at for at in self.restarts if now - at < RESTART_WINDOW_S]
        if len(self.restarts) >= RESTARTS:
            raise CannotRun(
                f"'{self.name}' ended {RESTARTS + 1} times in {RESTART_WINDOW_S / 60:.0f} minutes "
                f"({self.ending}), so everything is stopped.\n{self.last_lines()}"
            )
        self.restart_at = now + min(BACKOFF_S * 2 ** len(self.restarts), 5.0)
        self.restarts.append(now)
        count = f"{len(self.restarts)} of {RESTARTS}"
        return f"'{self.name}' ended ({self.ending}) and is started again ({count}); its log: {self.log}"

    def end(self, impatient: Callable[[], bool]) -> None:
        """Ask it to end by SIGTERM; after the grace time, or when it is to be quick, kill it and what it started."""
        if self.running is None:
            return
        if self.is_alive:
            self.running.send_signal(signal.SIGTERM)
            until = time.monotonic() + GRACE_S
            while self.is_alive and time.monotonic() < until and not impatient():
                time.sleep(0.02)
        self._kill_group()
        self.running.wait()

    def last_lines(self) -> str:
        """The end of its log, indented, and where the log is."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 20_000))
            lines = file.read().decode("utf-8", "replace").splitlines()[-LAST_LINES:]
        return "\n".join([*(f"    {line[:500]}" for line in lines), f"Its log: {self.log}"])

    def new_errors(self) -> list[str]:
        """The lines of errors written to the log since the last call, at most ten."""
        with self.log.open("rb") as file:
            file.seek(self._seen)
            text = file.read(1_000_000)
        whole = text[: text.rfind(b"\n") + 1] if len(text) < 1_000_000 else text
        self._seen += len(whole)
        found = [line for line in whole.splitlines() if ERROR.search(line)]
        return [line.decode("utf-8", "replace")[:300] for line in found[:10]]

    def _kill_group(self) -> None:
        """Kill what is left of its session: the process itself if it is, and the workers it started."""
        if self.running is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.running.pid, signal.SIGKILL)


def _rotate(log: Path) -> None:
    """Give the run a log of its own, and keep those of the last runs as .1, .2 and .3."""
    for number in range(OLD_LOGS, 0, -1):
        older = log.with_name(f"{log.name}.{number - 1}") if number > 1 else log
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number}"))
