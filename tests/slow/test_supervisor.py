"""The supervisor with small stand-ins for the API and the worker: whatever happens to it, nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import psutil
import psycopg
import pytest

from server.embedded_postgres import EmbeddedPostgres, remove_files

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = """
import json, sys
from functools import partial
from pathlib import Path
import server.process
from server.supervisor import Child, Step, supervise
server.process.BACKOFF_S = 0.01
state, plan, ports, url = json.loads(sys.argv[1])
kinds = {"step": Step, "child": Child, "unready": partial(Child, ready=lambda: False)}
parts = [kinds[kind](name, [sys.executable, "-c", code, state]) for kind, name, code in plan]
sys.exit(supervise(Path(state), lambda server: parts, lambda: "the guide", ports=ports, database_url=url))
"""
STAYS = """
import os, signal, sys, time
from pathlib import Path
from server.child import end_with_parent
def note(number, frame):
    with open(Path(sys.argv[1], "ends"), "a") as file:
        file.write(f"NAME {number}\\n")
    time.sleep(LINGER)
    sys.exit(0)
signal.signal(signal.SIGTERM, note)
signal.signal(signal.SIGINT, note)
end_with_parent(grace_s=5)
Path(sys.argv[1], "NAME.pid").write_text(str(os.getpid()))
while True:
    time.sleep(60)
"""
NOWHERE = "postgresql://not-used-here/"


def stays(name: str, linger: float = 0.0) -> tuple[str, str, str]:
    return "child", name, STAYS.replace("NAME", name).replace("LINGER", str(linger))


class Run:
    """One supervisor under test."""

    started: ClassVar[list[Run]] = []

    def __init__(self, state: Path, plan: list[tuple[str, str, str]], **options: Any) -> None:
        order = json.dumps([str(state), plan, options.pop("ports", {}), options.pop("url", NOWHERE)])
        self.state = state
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, order],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **options,
        )
        self.started.append(self)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def read_until(self, words: str) -> str:
        assert self.process.stdout
        said = ""
        for line in self.process.stdout:
            said += line
            if words in line:
                return said
        raise AssertionError(f"never said {words!r}, but:\n{said}")

    def up(self) -> Run:
        self.read_until("the guide")
        return self

    def finish(self) -> tuple[int, str]:
        """The exit code, and what it said since it was last read."""
        said, _ = self.process.communicate(timeout=30)
        return self.process.returncode, said

    def child(self, name: str) -> psutil.Process:
        file = self.state / f"{name}.pid"
        wait_for(lambda: file.exists() and file.read_text() != "")
        return psutil.Process(int(file.read_text()))


def wait_for(true: Callable[[], bool], within_s: float = 15.0) -> None:
    until = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def alive(process: psutil.Process) -> bool:
    """A zombie has ended: it only waits for an init that some containers do not have."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def of_cluster(state: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["name"]):
        try:
            if process.info["name"] == "postgres" and process.cwd().startswith(str(state)):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def state() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="linli-run-")).resolve()
    yield folder
    while Run.started:
        run = Run.started.pop()
        run.kill()
        assert run.process.stdout
        run.process.stdout.close()
    remove_files(folder / "postgres")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_in_reverse_order(state: Path, number: int) -> None:
    run = Run(state, [stays("first"), ("step", "once", "print('done')"), stays("second")], url=None).up()
    children = [run.child("first"), run.child("second")]
    assert of_cluster(state)
    run.process.send_signal(number)
    assert run.finish() == (0, "")
    assert not any(alive(child) for child in children)
    assert not of_cluster(state)
    assert (state / "ends").read_text().split("\n")[:-1] == [f"second {signal.SIGTERM}", f"first {signal.SIGTERM}"]
    assert (state / "log" / "once.log").read_text() == "done\n"


def test_sigint_counts_though_a_script_had_it_ignored(state: Path) -> None:
    run = Run(state, [stays("api")], preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)).up()
    child = run.child("api")
    run.process.send_signal(signal.SIGINT)
    assert run.finish()[0] == 0
    assert not alive(child)


def test_ctrl_c_reaches_the_children_only_through_the_supervisor(state: Path) -> None:
    run = Run(state, [stays("api")]).up()
    run.child("api")
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.finish()[0] == 0
    assert (state / "ends").read_text() == f"api {signal.SIGTERM}\n"


def test_a_second_ctrl_c_does_not_wait_for_a_slow_child(state: Path) -> None:
    run = Run(state, [stays("api", linger=60)]).up()
    child = run.child("api")
    run.process.send_signal(signal.SIGINT)
    wait_for((state / "ends").exists)
    begun = time.monotonic()
    run.process.send_signal(signal.SIGINT)
    assert run.finish()[0] == 0
    assert time.monotonic() - begun < 5
    assert not alive(child)


def test_kill_9_leaves_nothing_and_the_next_start_keeps_the_data(state: Path) -> None:
    run = Run(state, [stays("api"), stays("worker")], url=None).up()
    children = [run.child("api"), run.child("worker")]
    server = EmbeddedPostgres.running(state / "postgres")
    assert server
    with psycopg.connect(server.url("postgres")) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    run.kill()
    wait_for(lambda: not any(alive(child) for child in children) and not of_cluster(state))
    run = Run(state, [stays("api")], url=None).up()
    server = EmbeddedPostgres.running(state / "postgres")
    assert server
    with psycopg.connect(server.url("postgres")) as connection:
        assert connection.execute("SELECT number FROM kept").fetchall() == [(7,)]
    run.process.terminate()
    assert run.finish()[0] == 0


def test_a_start_right_after_kill_9_waits_for_the_children_of_before(state: Path) -> None:
    run = Run(state, [stays("api", linger=1.0)], url=None).up()
    child = run.child("api")
    run.kill()
    again = Run(state, [("step", "once", "pass")], url=None)
    assert "The previous run is still ending; waiting for it." in again.read_until("the guide")
    assert not alive(child)
    again.process.terminate()
    assert again.finish()[0] == 0


def test_a_child_that_ignores_everything_is_killed_with_its_own_children(state: Path) -> None:
    code = """
import os, signal, subprocess, sys, time
from pathlib import Path
from server.child import end_with_parent
signal.signal(signal.SIGTERM, signal.SIG_IGN)
end_with_parent(grace_s=0.2)
assert "LINLI_PARENT_PIPE" not in os.environ
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
Path(sys.argv[1], "other.pid").write_text(str(other.pid))
time.sleep(60)
"""
    run = Run(state, [("child", "stubborn", code)]).up()
    other = run.child("other")
    run.kill()
    wait_for(lambda: not alive(other))


def test_a_taken_port_is_one_sentence_that_names_its_variable(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = Run(state, [stays("api")], ports={"LINLI_PORT": port}).finish()
    assert code == 1
    assert said == f"Port {port} on 127.0.0.1 is taken: stop what uses it, or set LINLI_PORT to another port.\n"
    assert not (state / "log").exists()


def test_two_services_on_one_port_are_refused(state: Path) -> None:
    code, said = Run(state, [], ports={"LINLI_PORT": 8123, "LINLI_SANDBOX_PORT": 8123}).finish()
    assert code == 1
    assert said == "LINLI_PORT and LINLI_SANDBOX_PORT name the same port: set one of them to another.\n"


def test_a_second_supervisor_is_refused_and_the_first_stays(state: Path) -> None:
    run = Run(state, [stays("api")]).up()
    child = run.child("api")
    code, said = Run(state, [stays("api")]).finish()
    assert code == 1
    assert said == f"Linli already runs on {state} (process {run.process.pid}): use that, or stop it.\n"
    assert alive(child)
    run.process.terminate()
    assert run.finish() == (0, "")


def test_a_failing_step_ends_everything_and_shows_the_end_of_its_log(state: Path) -> None:
    step = ("step", "migrate", "import sys; print('column x is missing'); sys.exit(3)")
    run = Run(state, [stays("sandbox"), step, stays("api")], url=None)
    code, said = run.finish()
    assert code == 1
    log = state / "log" / "migrate.log"
    assert said == f"The step 'migrate' failed (exit code 3).\n    column x is missing\nIts log: {log}\n"
    assert not of_cluster(state)
    assert not (state / "api.pid").exists()


def test_a_child_that_ends_before_it_is_ready_ends_everything(state: Path) -> None:
    code, said = Run(state, [stays("sandbox"), ("unready", "api", "print('no key'); 1 / 0")]).finish()
    assert code == 1
    assert said.startswith("'api' ended at its start (exit code 1).\n    no key\n")
    assert not psutil.pid_exists(int((state / "sandbox.pid").read_text()))


def test_a_crashed_child_is_started_again_and_its_errors_reach_the_terminal(state: Path) -> None:
    code = """
import sys, time
from pathlib import Path
mark = Path(sys.argv[1], "crashed")
if mark.exists():
    Path(sys.argv[1], "again").touch()
    time.sleep(60)
mark.touch()
time.sleep(0.3)
print('{"event": "nothing special", "level": "info"}')
print('{"event": "out of luck", "level": "error"}', flush=True)
sys.exit(9)
"""
    run = Run(state, [("child", "worker", code)]).up()
    said = run.read_until("started again")
    assert '[worker] {"event": "out of luck", "level": "error"}' in said
    assert "nothing special" not in said
    assert "'worker' ended (exit code 9) and is started again (1 of 5); its log: " in said
    wait_for((state / "again").exists)
    run.process.terminate()
    assert run.finish() == (0, "")


def test_a_child_that_keeps_ending_is_given_up(state: Path) -> None:
    run = Run(state, [stays("api"), ("child", "worker", "import time; time.sleep(0.3); print('no luck'); 1 / 0")]).up()
    child = run.child("api")
    code, said = run.finish()
    assert code == 1
    assert said.count("is started again") == 5
    assert "'worker' ended 6 times in 5 minutes (exit code 1), so everything is stopped." in said
    assert "ZeroDivisionError" in said
    assert not alive(child)


def test_postgres_ending_by_itself_ends_everything(state: Path) -> None:
    run = Run(state, [stays("api")], url=None).up()
    server = EmbeddedPostgres.running(state / "postgres")
    assert server
    psutil.Process(int((server.home.data / "postmaster.pid").read_text().split()[0])).kill()
    code, said = run.finish()
    assert code == 1
    assert said == f"PostgreSQL ended unexpectedly; its log: {state}/postgres/server.log\n"
    assert not of_cluster(state)


def test_the_state_folder_and_its_logs_are_private(state: Path) -> None:
    for _ in range(2):
        run = Run(state, [("step", "once", "print('a secret')"), stays("api")]).up()
        run.process.terminate()
        run.finish()
    assert (state.stat().st_mode & 0o777) in (0o700, 0o710)
    assert state.stat().st_mode & 0o007 == 0
    logs = sorted((state / "log").iterdir())
    assert [log.name for log in logs] == ["api.log", "api.log.1", "once.log", "once.log.1"]
    assert {log.stat().st_mode & 0o777 for log in logs} == {0o600}
