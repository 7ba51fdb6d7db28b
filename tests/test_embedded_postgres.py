"""The embedded PostgreSQL: who may connect, where it lies, and what it makes of the remains of a killed run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import psutil
import psycopg
import pytest

from server import postgres_home
from server.embedded_postgres import CannotRun, EmbeddedPostgres, remove_files
from server.postgres_home import Account, can_pass
from server.supervisor import database

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL under another user's id")


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="linli-pg-")).resolve()
    postgres_home.private_folder(folder)
    yield folder
    for inner in [folder / "postgres", *folder.glob("*/postgres")]:
        remove_files(inner)
    shutil.rmtree(folder)


def ask(server: EmbeddedPostgres, query: str) -> object:
    with psycopg.connect(server.url("postgres")) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row and row[0]


def test_the_cluster_sorts_as_c_whatever_the_host_says(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("PGPORT", "1")
    with EmbeddedPostgres.start(place / "postgres", fast=True) as server:
        monkeypatch.delenv("PGPORT")
        assert ask(server, "SELECT datcollate || datctype FROM pg_database WHERE datname = 'template1'") == "CC"
        assert ask(server, "SHOW server_encoding") == "UTF8"
        assert ask(server, "SHOW TimeZone") == "UTC"
        assert ask(server, "SHOW listen_addresses") == ""


def test_it_is_careful_unless_told_to_be_fast(place: Path) -> None:
    with EmbeddedPostgres.start(place / "postgres") as server:
        assert [ask(server, f"SHOW {name}") for name in ("fsync", "synchronous_commit")] == ["on", "on"]
    with EmbeddedPostgres.start(place / "postgres", fast=True) as server:
        assert [ask(server, f"SHOW {name}") for name in ("fsync", "synchronous_commit")] == ["off", "off"]


def test_only_the_owner_and_root_can_reach_it(place: Path) -> None:
    with EmbeddedPostgres.start(place / "postgres", fast=True) as server:
        for folder in (server.socket_dir, server.home.data):
            assert folder.stat().st_mode & 0o777 == 0o700
        assert (server.socket_dir / ".s.PGSQL.5432").stat().st_mode & 0o777 == 0o700
        assert server.home.path.stat().st_mode & 0o007 == 0
        # and though the folders were opened, the server asks the kernel whose process it is
        names = (server.home.path / "pg_ident.conf").read_text()
        assert "nobody" not in names
        assert (server.home.path / "pg_hba.conf").read_text() == "local all all peer map=linli\n"


@ROOT_ONLY
def test_another_user_is_refused_by_the_folder_and_by_the_server(place: Path) -> None:
    with EmbeddedPostgres.start(place / "postgres", fast=True) as server:
        code = "import os, sys, psycopg; os.setgid(65534); os.setuid(65534); psycopg.connect(sys.argv[1])"
        command = [sys.executable, "-c", code, server.url("postgres")]
        assert "Permission denied" in subprocess.run(command, capture_output=True, text=True).stderr
        for folder in (place, server.home.path, server.socket_dir):
            folder.chmod(0o755)
        (server.socket_dir / ".s.PGSQL.5432").chmod(0o777)
        assert "Peer authentication failed" in subprocess.run(command, capture_output=True, text=True).stderr


@ROOT_ONLY
def test_where_the_other_user_cannot_enter_the_data_lies_elsewhere_and_no_mode_changes(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    for query in ("CREATE TABLE kept (a int)", "SELECT a FROM kept"):
        with EmbeddedPostgres.start(closed / "postgres", fast=True) as server:
            assert server.home.path.parent == postgres_home.SHARED_PLACE
            assert closed.stat().st_mode & 0o777 == 0o700
            assert (server.home.path / "belongs-to").read_text().strip() == str(closed / "postgres")
            assert server.home.path.stat().st_mode & 0o777 == 0o710
            with psycopg.connect(server.url("postgres")) as connection:
                connection.execute(query.encode())
    remove_files(closed / "postgres")
    assert not server.home.path.exists()


@ROOT_ONLY
def test_programs_that_the_other_user_cannot_read_are_copied_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = postgres_home.find_program(postgres_home.Home(place, None))
    monkeypatch.setattr(postgres_home, "can_pass", lambda path, account: "site-packages" not in str(path))
    for _ in range(2):
        with EmbeddedPostgres.start(place / "postgres", fast=True) as server:
            command = psutil.Process(int((server.home.data / "postmaster.pid").read_text().split()[0])).exe()
            assert Path(command).is_relative_to(server.home.path)
    assert packaged.exists()


def test_a_path_too_long_for_a_socket_gets_a_short_private_one(place: Path) -> None:
    folder = place / ("long" * 30) / "postgres"
    postgres_home.private_folder(folder.parent)
    with EmbeddedPostgres.start(folder, fast=True) as server:
        assert server.socket_dir.parent in (Path(tempfile.gettempdir()), Path("/tmp"))
        assert server.socket_dir.stat().st_mode & 0o777 == 0o700
        assert ask(server, "SELECT 1") == 1
        found = EmbeddedPostgres.running(folder)
        assert found and found.socket_dir == server.socket_dir
    assert not server.socket_dir.exists()


def test_no_short_folder_is_one_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_home, "LONGEST_SOCKET", 20)
    with pytest.raises(CannotRun, match="is too long for a socket: set LINLI_STATE to a folder with a shorter one"):
        EmbeddedPostgres.start(place / "postgres", fast=True)


@pytest.mark.parametrize("name", ["邻里 'a b' 100%", "one, two"])
def test_a_path_with_strange_letters_works(place: Path, name: str) -> None:
    folder = place / name
    postgres_home.private_folder(folder)
    with EmbeddedPostgres.start(folder / "postgres", fast=True) as server:
        assert (server.socket_dir == server.home.path / "socket") is ("," not in name)
        assert ask(server, "SELECT 1") == 1


def test_a_path_that_a_shell_would_read_otherwise_is_one_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = place / "dollar$" / "package"
    (package / postgres_home.INSTALL / "bin").mkdir(parents=True)
    (package / postgres_home.INSTALL / "bin" / "postgres").touch()
    spec = ModuleSpec("package", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    with pytest.raises(CannotRun, match="use a path without quotes, dollars and backslashes"):
        postgres_home.find_program(postgres_home.Home(place, None))


def test_a_stale_process_id_that_is_a_strangers_now_is_no_hindrance(place: Path) -> None:
    with EmbeddedPostgres.start(place / "postgres", fast=True) as server:
        lines = (server.home.data / "postmaster.pid").read_text().splitlines()
    identity = server.home.account
    stranger = subprocess.Popen(
        ["sleep", "60"], user=identity.uid if identity else None, group=identity.gid if identity else None, cwd="/"
    )
    try:
        (server.home.data / "postmaster.pid").write_text("\n".join([str(stranger.pid), *lines[1:]]))
        assert EmbeddedPostgres.running(place / "postgres") is None
        with EmbeddedPostgres.start(place / "postgres", fast=True) as server:
            assert ask(server, "SELECT 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_server_whose_keeper_was_killed_is_ended_by_the_next_start(place: Path) -> None:
    server = EmbeddedPostgres.start(place / "postgres", fast=True)
    with psycopg.connect(server.url("postgres")) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    before = (server.home.data / "postmaster.pid").read_text().split()[0]
    keeper = server._keeper
    assert keeper
    keeper.kill()
    keeper.wait()
    with EmbeddedPostgres.start(place / "postgres", fast=True) as again:
        assert ask(again, "SELECT number FROM kept") == 7
        assert (again.home.data / "postmaster.pid").read_text().split()[0] != before
        server._master = None  # the killed one's; stop() would end the new server too


def test_one_folder_has_one_server(place: Path) -> None:
    with EmbeddedPostgres.start(place / "postgres", fast=True) as server:
        with pytest.raises(CannotRun, match="PostgreSQL already runs for another process"):
            EmbeddedPostgres.start(place / "postgres", patience_s=0.1)
        found = EmbeddedPostgres.running(place / "postgres")
        assert found and found.is_alive
        assert ask(found, "SELECT 1") == 1
        found.stop()
        assert server.is_alive
    server.stop()
    assert not found.is_alive
    assert EmbeddedPostgres.running(place / "postgres") is None


def test_a_half_made_cluster_is_made_again(place: Path) -> None:
    half = place / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres.start(place / "postgres", fast=True) as server:
        assert ask(server, "SELECT 1") == 1
    assert not half.exists()


def test_data_of_another_version_and_a_broken_cluster_are_one_sentence(place: Path) -> None:
    with EmbeddedPostgres.start(place / "postgres", fast=True) as server:
        data = server.home.data
    (data / "PG_VERSION").write_text("17\n")
    with pytest.raises(CannotRun, match="was made by PostgreSQL 17, and this one is 18"):
        EmbeddedPostgres.start(place / "postgres", fast=True)
    (data / "PG_VERSION").write_text("18\n")
    (data / "global" / "pg_control").unlink()
    with pytest.raises(CannotRun, match=r"PostgreSQL did not start \(.*pg_control.*\); its log: "):
        EmbeddedPostgres.start(place / "postgres", fast=True)


def test_a_temporary_one_ends_with_its_process_and_leaves_no_files() -> None:
    code = """
import time
from server.embedded_postgres import EmbeddedPostgres
server = EmbeddedPostgres.temporary()
print(server.home.data, flush=True)
time.sleep(60)
"""
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    with owner.stdout:
        data = Path(owner.stdout.readline().strip())
        assert (data / "postmaster.pid").exists()
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    until = time.monotonic() + 15
    while data.parent.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_one_command_uses_the_running_server_or_starts_one(place: Path) -> None:
    with database(place, "postgresql://elsewhere/") as server:
        assert server is None
    with database(place, None) as server:
        assert server and ask(server, "SELECT 1") == 1
        with database(place, None) as same:
            assert same and same.socket_dir == server.socket_dir
        with pytest.raises(CannotRun, match="Linli already runs on"), database(place, None, alone=True):
            pass
        assert server.is_alive
    assert not server.is_alive


def test_who_may_pass_is_read_from_the_modes(place: Path) -> None:
    inner = place / "a" / "b"
    inner.mkdir(parents=True)
    other = Account(60600, 60600)
    place.chmod(0o755)
    inner.parent.chmod(0o751)
    assert can_pass(inner, other)
    inner.parent.chmod(0o754)
    assert not can_pass(inner, other)
    assert can_pass(inner, Account(os.geteuid(), 60600))
