"""The drill: the books are lost, come back from a backup, and catch up with what WeChat knows."""

import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

import payments
from kit import clock
from kit.crypto import Keyring
from models.access import Role
from models.audit import Audit
from models.catch_up import CatchUp, CatchUpDay
from models.database import connect, credentials, disconnect
from models.discrepancy import Discrepancy
from models.payment import Payment
from models.unit_of_work import rows
from payments import merchant
from server.backup import back_up, find_tool
from server.embedded_postgres import EmbeddedPostgres
from server.postgres_home import CannotRun
from server.restore import restore
from services.seal import seal_books
from services.seal_check import check_seals
from tests.conftest import Database, Drain, SandboxControl
from tests.wechat_bills import BillDesk, of_orders, tomorrow_at
from tests.world import KEYRING, Home, World


@dataclass
class Elsewhere:
    """A new, empty database."""

    owner_url: str
    app_url: str

    async def restore(self, folder: Path, tell: Callable[[str], None] = print, keyring: Keyring = KEYRING) -> bool:
        return await restore(folder, self.owner_url, self.app_url, keyring, tell, embedded=True)

    async def tables(self) -> int:
        connection = await asyncpg.connect(**credentials(self.owner_url))
        try:
            return int(await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))
        finally:
            await connection.close()


@pytest_asyncio.fixture(loop_scope="session")
async def elsewhere(cluster: EmbeddedPostgres, database: Database) -> AsyncIterator[Elsewhere]:
    """Where the books come back."""
    name = f"{database.name}_again"
    admin = await asyncpg.connect(**credentials(cluster.url("postgres")))
    await admin.execute(f"CREATE DATABASE {name}")
    yield Elsewhere(cluster.url(name), cluster.url(name, "linli_app"))
    await disconnect()
    await connect(database.url)  # the fixtures below close what they opened
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


async def paid(home: Home, sandbox: SandboxControl, bill_id: str, *, callback: bool = True) -> dict[str, Any]:
    """Open a payment for one bill and pay it."""
    opened = (await home.open(bill_ids=[bill_id])).json()
    if not callback:
        await sandbox.fault("lost")
    done = (await sandbox.pay(opened)).json()
    if callback:
        await sandbox.called_back(done["out_trade_no"])
    return dict(opened | done)


@pytest.mark.row("only WeChat knows of it: the books came back from a backup")
async def test_the_drill(
    world: World, sandbox: SandboxControl, drain: Drain, database: Database, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    """Three paid, one open, the backup; the open one is paid, and two more; the database is lost."""
    home = await world.home(bills=6)
    bills = home.bill_ids
    before = [await paid(home, sandbox, bill_id) for bill_id in bills[:3]]
    await drain()
    await seal_books()
    in_flight = (await home.open(bill_ids=[bills[3]])).json()
    manifest = await back_up(database.owner_url, tmp_path / "backup", KEYRING)
    await sandbox.pay(in_flight)
    after = [await paid(home, sandbox, bill_id) for bill_id in bills[4:]]
    await drain()
    lost = [one["out_trade_no"] for one in after]
    balance = (await rows("SELECT sum(amount_fen)::bigint AS fen FROM entries"))[0]["fen"]

    await disconnect()
    told: list[str] = []
    assert await elsewhere.restore(tmp_path / "backup", told.append)
    assert not [words for words in told if "WRONG" in words]
    assert await Payment.filter(state="paid").count() == 3
    assert (await home.owner.get("/api/v1/bills")).status_code == 401  # whoever was signed in signs in again
    assert await Audit.filter(act="books.restore").count() == 1

    # What the books hold is asked about at once; what they do not know, once the day's bill is there.
    desk = BillDesk(home.company.wechat, of_orders(await sandbox.orders()))
    await payments.close()
    merchant._http = httpx.AsyncClient(transport=desk)  # closed with everything else, by the sandbox's fixture
    report = await payments.catch_up(told.append)
    assert report is not None
    assert (report.asked, report.settled, report.read, report.finished) == (1, 1, 0, False)
    assert report.waiting >= 1 and desk.asked == []
    assert (await Payment.get(id=in_flight["id"])).state == "paid"
    with clock.travel_to(tomorrow_at(9, 59)):
        assert await payments.read_bills() == 0
    desk.code = "STATEMENT_CREATING"
    with clock.travel_to(tomorrow_at(10, 6)):
        assert await payments.read_bills() == 1
        assert await Discrepancy.all().count() == 0
        desk.code = None
        assert await payments.read_bills() == 0  # in half an hour
    with clock.travel_to(tomorrow_at(10, 40)):
        assert await payments.read_bills(told.append) == 1
        assert told[-1].endswith(": 6 lines, 2 that the books do not know")
        for case in await Discrepancy.all():
            assert (case.kind, case.state, case.payment_id) == ("only_at_wechat", "open", None)
            assert (case.community_id, case.merchant_account_id) == (home.community.id, home.company.merchant.id)
            assert case.facts["number_is_ours"] and case.facts["line"] == "payment"
        told_of = {case.facts["out_trade_no"]: case.amount_fen for case in await Discrepancy.all()}
        assert told_of == {number: bill.amount_fen for number, bill in zip(lost, home.bills[4:], strict=True)}

        # Again: nothing twice, also when the day is read anew.
        await rows("UPDATE catch_up_days SET state = 'waiting', line_count = NULL, missing_count = NULL,"
                   " next_check_at = now() WHERE state = 'read'")  # fmt: skip
        assert await payments.read_bills() == 1
        assert await Discrepancy.all().count() == 2
    day = await CatchUpDay.get(state="read")
    assert (day.line_count, day.missing_count) == (6, 2)
    while await CatchUpDay.exists(state="waiting"):  # near midnight tomorrow's bill is wanted as well
        with clock.travel_to(tomorrow_at(10, 40) + timedelta(days=1)):
            await payments.read_bills()
    assert await CatchUp.exists(finished_at__isnull=False)
    assert await payments.catch_up() is None

    await drain()
    assert await payments.violations() == []
    await seal_books()
    report_of_seals = await check_seals(known_heads=[one["digest"] for one in manifest["seals"]])
    assert report_of_seals.faults == [] and report_of_seals.rows_read > 0
    came = (await rows("SELECT sum(amount_fen)::bigint AS fen FROM entries"))[0]["fen"]
    assert balance - came == sum(bill.amount_fen for bill in home.bills[4:])
    assert len(before) == 3

    # WeChat repeats its notice of a lost order: it is never told to rest.
    callback = (await sandbox.callbacks(lost[0]))[0]
    again = await sandbox.post(f"/sandbox/callbacks/{callback['id']}/resend", {"times": 1})
    assert again.status_code < 300
    assert (await sandbox.called_back(lost[0], len(callback["attempts"]) + 1))["attempts"][-1]["status"] == 503

    # The resident may pay the bill again, for the books show it open; finance has the first payment before its eyes.
    finance = await world.staff(home.company, Role.FINANCE, home.community)
    listed = (await finance.get("/api/v1/staff/discrepancies?status=open")).json()["items"]
    assert {one["kind"] for one in listed} == {"only_at_wechat"} and len(listed) == 2
    assert listed[0]["payment_id"] is None
    closed = await finance.post(f"/api/v1/staff/discrepancies/{listed[0]['id']}/resolve", {"resolution": "已补记"})
    assert closed.json()["status"] == "resolved"


# --- the backup -----------------------------------------------------------------------------------------------------


async def test_a_backup_is_whole_private_and_never_overwritten(
    owner: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "backup"
    manifest = await back_up(database.owner_url, folder, KEYRING)

    assert sorted(path.name for path in folder.iterdir()) == ["linli.dump", "manifest.json"]
    assert [path.stat().st_mode & 0o777 for path in (folder, *sorted(folder.iterdir()))] == [0o700, 0o600, 0o600]
    assert json.loads((folder / "manifest.json").read_text()) == manifest
    assert manifest["rows"]["entries"] == 0 and "0004" not in manifest["rows"]
    assert manifest["migrations"][0] == "0001_initial"
    with pytest.raises(CannotRun, match="exists already"):
        await back_up(database.owner_url, folder, KEYRING)
    assert [path.name for path in folder.parent.iterdir()] == ["backup"]


async def test_a_backup_that_fails_leaves_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.backup.find_tool", lambda name, major: "/bin/false")
    with pytest.raises(CannotRun, match="pg_dump ended with 1"):
        await back_up(database.owner_url, tmp_path / "backup", KEYRING)
    assert os.listdir(tmp_path) == []


async def test_the_manifest_is_of_the_moment_of_the_dump(
    owner: asyncpg.Connection, database: Database, elsewhere: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody writes between the counting and the dump: neither has it."""
    from server import backup

    run = backup.run_tool

    async def late(*arguments: str) -> None:
        await owner.execute("INSERT INTO organizations (id, created_at, name) VALUES (gen_random_uuid(), now(), 'x')")
        await run(*arguments)

    monkeypatch.setattr(backup, "run_tool", late)
    await back_up(database.owner_url, tmp_path / "backup", KEYRING)
    monkeypatch.undo()
    await disconnect()
    assert await elsewhere.restore(tmp_path / "backup")
    assert await rows("SELECT count(*) AS n FROM organizations") == [{"n": 0}]
    assert await rows("SELECT current_user::text AS role") == [{"role": "linli_app"}]
    for refused in ("UPDATE entries SET leg = 1", "DELETE FROM seals", "TRUNCATE audits"):
        with pytest.raises(Exception, match="permission denied"):
            await rows(refused)

    with pytest.raises(CannotRun, match="is not empty"):
        await elsewhere.restore(tmp_path / "backup")


async def test_no_password_is_on_a_command_line(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another user of the machine sees of it."""
    seen = tmp_path / "seen"
    tool = tmp_path / "tool"
    tool.write_text(f'#!/bin/sh\necho "$0 $*" > {seen}\necho "password $PGPASSWORD" >> {seen}\nexit 3\n')
    tool.chmod(0o755)
    monkeypatch.setattr("server.backup.find_tool", lambda name, major: str(tool))
    url = database.owner_url.replace("postgres@", "postgres:se%63ret@")
    with pytest.raises(CannotRun) as refused:
        await back_up(url, tmp_path / "backup", KEYRING)
    command, password = seen.read_text().splitlines()
    assert "secret" not in command and "secret" not in str(refused.value) and password == "password secret"


async def test_what_does_not_fit_is_refused_before_anything_is_done(
    database: Database, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    await back_up(database.owner_url, folder, KEYRING)

    async def refused(words: str, keyring: Keyring = KEYRING) -> None:
        with pytest.raises(CannotRun, match=words):
            await elsewhere.restore(folder, keyring=keyring)
        connection = await asyncpg.connect(**credentials(elsewhere.owner_url))
        assert (
            await connection.fetchval("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0
        )
        await connection.close()

    await refused("not the keys of this backup", Keyring({"test": b"x" * 32}, "test", b"i" * 32))
    manifest = (folder / "manifest.json").read_text()
    for change, words in {
        '"0001_initial"': ('"9999_future"', "newer than this program"),
        '"format": 1': ('"format": 2', "another version"),
        '"sha256": "': ('"sha256": "0', "is not what was written"),
        '"taken_at"': ('taken_at"', "no backup that can be read"),
    }.items():  # fmt: skip
        (folder / "manifest.json").write_text(manifest.replace(change, words[0], 1))
        await refused(words[1])
    (folder / "manifest.json").write_text(manifest)
    dump = (folder / "linli.dump").read_bytes()
    (folder / "linli.dump").write_bytes(dump[:-1])
    await refused("is not what was written")
    (folder / "linli.dump").unlink()
    await refused("no backup that can be read")


async def test_a_backup_that_does_not_restore_leaves_the_database_empty(
    database: Database, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    """All or nothing: cut short, but with a manifest that agrees."""
    from server.backup import sha256_of

    folder = tmp_path / "backup"
    await back_up(database.owner_url, folder, KEYRING)
    dump = folder / "linli.dump"
    dump.write_bytes(dump.read_bytes()[:-2000])
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["dump"]["sha256"] = sha256_of(dump)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CannotRun, match="pg_restore ended with"):
        await elsewhere.restore(folder)
    assert await elsewhere.tables() == 0


async def test_books_that_come_back_otherwise_are_called_wrong(
    owner: asyncpg.Connection, database: Database, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    await back_up(database.owner_url, folder, KEYRING)
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"entries": 0', '"entries": 7'))
    told: list[str] = []
    await disconnect()
    assert not await elsewhere.restore(folder, told.append)
    assert "WRONG: table entries has 0 rows, the backup had 7" in told


def test_the_tool_fits_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tool(version: int) -> None:
        path = tmp_path / "pg_dump"
        path.write_text(f'#!/bin/sh\necho "pg_dump (PostgreSQL) {version}.3 (Debian {version}.3-1)"\n')
        path.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    tool(16)
    assert find_tool("pg_dump", 16) == str(tmp_path / "pg_dump")
    assert find_tool("pg_dump", 15) == str(tmp_path / "pg_dump")
    packaged = find_tool("pg_dump", 18)
    assert "(PostgreSQL) 18" in subprocess.run([packaged, "--version"], capture_output=True, text=True).stdout
    with pytest.raises(CannotRun, match="pg_dump of PostgreSQL 19 or newer is needed"):
        find_tool("pg_dump", 19)
