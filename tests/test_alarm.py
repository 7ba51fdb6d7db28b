"""Alarms: each is raised and cleared, told once, and explained in the runbook."""

import dataclasses
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

import payments
from jobs.alarm import check_books, look_at_alarms
from jobs.upkeep import prune
from kit import clock
from models.access import Role
from models.alarm import AlarmState
from models.job import enqueue_tx
from models.merchant_account import MerchantAccount, WechatPayKey, WechatPayKeyKind
from models.metric import LATELY
from models.unit_of_work import rows, unit_of_work
from services import process_report
from services.alarm_rule import ALARMS, BY_NAME
from services.reading import BOOKS, Readings, read
from tests.conftest import Database, SandboxControl
from tests.world import World

RUNBOOK = Path(__file__).parent.parent / "docs" / "production.md"


def later(**by: float):
    return clock.travel_to(clock.now() + timedelta(**by))


def certificate(serial: int, key: rsa.RSAPrivateKey, days: int) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=days, hours=1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    from cryptography.hazmat.primitives.serialization import Encoding

    return made.public_bytes(Encoding.PEM).decode()


# --- the rules, as a table: what is read → what is on ----------------------------------------------------------------

QUIET = Readings(last_callback_s=60, books_checked_s=3600)


@pytest.mark.parametrize(
    ("readings", "on"),
    [
        ({}, set()),
        ({"merchant_certificate_days": 31, "platform_certificate_days": 31}, set()),
        ({"merchant_certificate_days": 30}, {"certificate_ends_soon"}),
        ({"platform_certificate_days": 7}, {"certificate_ends_soon", "certificate_ends_now"}),
        ({"merchant_certificate_days": -1}, {"certificate_ends_soon", "certificate_ends_now"}),
        ({"wechat_skew_s": 30.4}, set()),
        ({"wechat_skew_s": -31}, {"clock_drifts"}),
        ({"database_skew_s": 121}, {"clock_drifts", "clock_wrong"}),
        ({"last_callback_s": 1799, "posted_lately": 9}, set()),
        ({"last_callback_s": 1800, "posted_lately": 2}, set()),
        ({"last_callback_s": 1800, "posted_lately": 3}, {"callbacks_silent"}),
        ({"last_callback_s": None, "posted_lately": 3}, {"callbacks_silent"}),
        ({"jobs_ready": 1, "jobs_ready_oldest_s": 300}, set()),
        ({"jobs_ready": 1, "jobs_ready_oldest_s": 301}, {"jobs_wait"}),
        ({"jobs_doing": 1, "jobs_doing_oldest_s": 601}, {"jobs_hang"}),
        ({"jobs_failed": 1}, {"jobs_failed"}),
        ({"janitor_due": 1, "janitor_overdue_s": 601}, {"janitor_overdue"}),
        ({"cases": {"suspense": 1, "surplus": 5}, "cases_left": {"surplus": 5}}, set()),
        ({"cases_left": {"doubtful_notice": 1}}, {"cases_open"}),
        ({"bills_missing": 1, "bills_missing_since": "2026-11-02"}, {"bills_missing"}),
        ({"books_checked_s": 36 * 3600}, set()),
        ({"books_checked_s": 36 * 3600 + 1}, {"books_unchecked"}),
        ({"wechat_calls": 4, "wechat_calls_unknown": 4}, set()),
        ({"wechat_calls": 10, "wechat_calls_unknown": 4}, set()),
        ({"wechat_calls": 10, "wechat_calls_unknown": 5}, {"wechat_unavailable"}),
    ],
)  # fmt: skip
def test_when_each_is_on(readings: dict, on: set[str]) -> None:
    now = dataclasses.replace(QUIET, **readings)
    found = {alarm.name: alarm.on(now) for alarm in ALARMS if alarm.name != BOOKS}

    assert {name for name, facts in found.items() if facts is not None} == on
    for name, facts in found.items():
        if facts is not None:  # both sentences are filled
            assert "{" not in BY_NAME[name].sentence(facts, "zh") + BY_NAME[name].sentence(facts, "en")


def test_the_runbook_explains_each_and_no_other() -> None:
    runbook = RUNBOOK.read_text().partition("## The runbook")[2].partition("\n## ")[0]
    sections = dict(re.findall(r"^### `(\w+)` \((\w+)\)\n\n(?=\S)", runbook, re.MULTILINE))

    assert sections == {alarm.name: alarm.severity.value for alarm in ALARMS}
    assert runbook.count("\n### ") == len(ALARMS)


# --- each raised and cleared, from what really lies in the database ---------------------------------------------------


async def test_a_quiet_house_has_none(world: World, sandbox: SandboxControl) -> None:
    await world.home()
    assert await look_at_alarms() == []
    assert await AlarmState.all().count() == len(ALARMS)


async def test_a_certificate_that_ends(world: World, sandbox: SandboxControl, owner: asyncpg.Connection) -> None:
    home = await world.home()
    await MerchantAccount.filter(id=home.company.merchant.id).update(
        certificate_expires_at=clock.now() + timedelta(days=20)
    )
    assert await look_at_alarms() == ["certificate_ends_soon"]
    with later(days=14):
        assert {"certificate_ends_soon", "certificate_ends_now"} <= set(await look_at_alarms())
    await MerchantAccount.filter(id=home.company.merchant.id).update(
        certificate_expires_at=clock.now() + timedelta(days=1800)
    )
    assert await look_at_alarms() == []

    # A platform certificate counts only where no public key of WeChat's has come in its place.
    (key,) = await WechatPayKey.filter(kind=WechatPayKeyKind.CERTIFICATE).limit(1)
    pem = certificate(1, rsa.generate_private_key(65537, 2048), days=3)
    await owner.execute("UPDATE wechat_pay_keys SET public_key_pem = $1 WHERE id = $2", pem, key.id)
    assert await look_at_alarms() == []
    await owner.execute("DELETE FROM wechat_pay_keys WHERE kind = 'public_key'")
    assert await look_at_alarms() == ["certificate_ends_now", "certificate_ends_soon"]
    assert (await AlarmState.get(name="certificate_ends_now")).facts == {"days": 3, "kinds": "platform"}


async def test_a_clock_that_is_wrong(world: World, sandbox: SandboxControl, database: Database) -> None:
    LATELY.forget()
    home = await world.home()
    await sandbox.post("/sandbox/clock", {"calendar_offset_s": -45})
    assert (await home.open()).status_code == 201
    await process_report.report("api", "x", clock.now())
    assert await look_at_alarms() == ["clock_drifts"]
    told = (await AlarmState.get(name="clock_drifts")).facts
    assert told["against"] == "wechat" and 44 <= told["seconds"] <= 47

    # The database's clock against ours: ten minutes off.
    with later(minutes=10):
        await process_report.report("api", "x", clock.now())
        assert {"clock_drifts", "clock_wrong"} <= set(await look_at_alarms())
        assert (await AlarmState.get(name="clock_wrong")).facts == {"seconds": 600, "against": "database"}
    LATELY.forget()
    await process_report.report("api", "x", clock.now())
    assert await look_at_alarms() == []


async def test_callbacks_that_do_not_come(world: World, sandbox: SandboxControl, drain, books) -> None:
    home = await world.home(bills=3)
    await sandbox.fault("lost", times=3)
    for bill_id in home.bill_ids:
        await sandbox.pay((await home.open(bill_ids=[bill_id])).json())
        with later(seconds=6):
            assert await payments.sweep() == 1
    assert await drain() != []
    with later(minutes=5):
        assert "callbacks_silent" in await look_at_alarms()
    with later(minutes=45):  # nothing was paid for a while: silence is no wonder
        assert "callbacks_silent" not in await look_at_alarms()


async def test_a_callback_that_comes_clears_it(world: World, sandbox: SandboxControl, drain, books) -> None:
    home = await world.home(bills=4)
    await sandbox.fault("lost", times=3)
    for bill_id in home.bill_ids[:3]:
        await sandbox.pay((await home.open(bill_ids=[bill_id])).json())
        with later(seconds=6):
            await payments.sweep()
    with later(minutes=5):
        assert "callbacks_silent" in await look_at_alarms()
    paid = (await sandbox.pay((await home.open(bill_ids=home.bill_ids[3:])).json())).json()
    await sandbox.called_back(paid["out_trade_no"])
    with later(minutes=5):
        assert "callbacks_silent" not in await look_at_alarms()


async def test_jobs_that_wait_hang_and_fail(world: World, database: Database, drain) -> None:
    @unit_of_work
    async def enqueue() -> None:
        await enqueue_tx("sweep_messages", {})

    await enqueue()
    assert await look_at_alarms() == []
    with later(minutes=6):
        assert "jobs_wait" in await look_at_alarms()
    assert await drain() == ["sweep_messages"]
    with later(minutes=6):
        assert "jobs_wait" not in await look_at_alarms()

    await enqueue()
    await rows("UPDATE procrastinate_jobs SET status = 'doing' WHERE status = 'todo'")
    with later(minutes=11):
        assert {"jobs_hang"} == {"jobs_hang", "jobs_wait"} & set(await look_at_alarms())
    await rows("UPDATE procrastinate_jobs SET status = 'failed' WHERE status = 'doing'")
    assert await look_at_alarms() == ["jobs_failed"]
    # What the runbook says to do about it.
    await rows("SELECT procrastinate_retry_job_v2(id, now(), NULL, NULL, NULL) FROM procrastinate_jobs"
               " WHERE status = 'failed'")  # fmt: skip
    assert await look_at_alarms() == [] and await drain() == ["sweep_messages"]


async def test_a_tick_that_failed_is_no_alarm_and_is_forgotten(database: Database, owner: asyncpg.Connection) -> None:
    @unit_of_work
    async def enqueue(name: str) -> None:
        await enqueue_tx(name, {})  # type: ignore[arg-type]

    await enqueue("sweep_attempts.clock")
    await rows("UPDATE procrastinate_jobs SET status = 'failed'")
    assert await look_at_alarms() == [] and await prune() == 0
    await owner.execute("UPDATE procrastinate_events SET at = at - interval '73 hours'")
    assert await prune() == 1


async def test_a_janitor_that_does_not_come(world: World, sandbox: SandboxControl, books) -> None:
    home = await world.home()
    await home.open()
    assert await look_at_alarms() == []
    with later(minutes=10, seconds=10):
        assert "janitor_overdue" in await look_at_alarms()
        await payments.sweep()
        assert "janitor_overdue" not in await look_at_alarms()


async def test_money_in_suspense_waits_for_finance(
    world: World, sandbox: SandboxControl, drain, owner: asyncpg.Connection, books
) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("wrong_amount_order", amount_fen=1)
    paid = (await sandbox.pay(opened)).json()
    await sandbox.called_back(paid["out_trade_no"])
    await drain()
    assert await look_at_alarms() == []  # a minute old: perhaps it clears itself up
    with later(minutes=6):
        assert "cases_open" in await look_at_alarms()
        assert (await AlarmState.get(name="cases_open")).facts == {"suspense": 1, "doubtful": 0}
    finance = await world.staff(home.company, Role.FINANCE)
    listed = await finance.get(f"/api/v1/staff/discrepancies?community_id={home.community.id}")
    (case,) = [one for one in listed.json()["items"] if one["kind"] == "suspense"]
    done = await finance.post(f"/api/v1/staff/discrepancies/{case['id']}/resolve", {"resolution": "已退回"})
    assert done.status_code == 200, done.text
    with later(minutes=6):
        assert "cases_open" not in await look_at_alarms()


async def test_wechat_does_not_answer(world: World, sandbox: SandboxControl) -> None:
    LATELY.forget()
    home = await world.home(bills=2)
    await sandbox.fault("error", operation="prepay", times=6)
    for bill_id in home.bill_ids:
        assert (await home.open(bill_ids=[bill_id])).status_code == 503
    await process_report.report("api", "x", clock.now())
    assert await look_at_alarms() == ["wechat_unavailable"]
    assert (await AlarmState.get(name="wechat_unavailable")).facts == {"unknown": 6, "calls": 6}

    with later(minutes=4):  # a process that is gone says nothing any more
        assert "wechat_unavailable" not in await look_at_alarms()
    LATELY.forget()


async def test_the_books_are_broken(world: World, sandbox: SandboxControl, owner: asyncpg.Connection) -> None:
    home = await world.home()
    paid = (await sandbox.pay((await home.open()).json())).json()
    await sandbox.called_back(paid["out_trade_no"])
    assert await check_books() == 0 and await look_at_alarms() == []

    await owner.execute("ALTER TABLE entries DISABLE TRIGGER ALL; UPDATE entries SET amount_fen = amount_fen + 1")
    broken = await check_books()
    assert broken >= 2 and await look_at_alarms() == [BOOKS]
    facts = (await AlarmState.get(name=BOOKS)).facts
    assert facts["number"] == broken and "L1" in facts["truths"]
    await owner.execute("UPDATE entries SET amount_fen = amount_fen - 1; ALTER TABLE entries ENABLE TRIGGER ALL")
    assert await check_books() == 0 and await look_at_alarms() == []
    with later(hours=37):
        assert "books_unchecked" in await look_at_alarms()
        await check_books()
        assert "books_unchecked" not in await look_at_alarms()


# --- told once --------------------------------------------------------------------------------------------------------


async def test_begins_goes_on_hourly_and_ends_in_one_line_each(database: Database) -> None:
    @unit_of_work
    async def enqueue() -> None:
        await enqueue_tx("sweep_messages", {})

    await enqueue()
    await rows("UPDATE procrastinate_jobs SET status = 'failed'")
    told: list[tuple[int, str, str]] = []
    with structlog.testing.capture_logs() as lines, clock.travel_to(clock.now()):
        for minute in range(0, 130, 5):
            if minute == 125:
                await rows("UPDATE procrastinate_jobs SET status = 'succeeded'")
            # Two workers look, and each was just started.
            await look_at_alarms()
            await look_at_alarms()
            told += [(minute, line["event"], line["severity"]) for line in lines if line.get("alarm") == "jobs_failed"]
            lines.clear()
            clock.shift(timedelta(minutes=5))

    assert told == [
        (0, "alarm_begins", "warning"),
        (60, "alarm_goes_on", "warning"),
        (120, "alarm_goes_on", "warning"),
        (125, "alarm_ends", "warning"),
    ]


async def test_the_line_says_what_and_since_when(database: Database) -> None:
    @unit_of_work
    async def enqueue() -> None:
        await enqueue_tx("sweep_messages", {})

    await enqueue()
    await rows("UPDATE procrastinate_jobs SET status = 'failed'")
    with structlog.testing.capture_logs() as lines:
        await look_at_alarms()
    (line,) = lines
    since = line.pop("since")
    assert abs((datetime.fromisoformat(since) - clock.now()).total_seconds()) < 10
    assert line == {
        "event": "alarm_begins",
        "log_level": "error",
        "alarm": "jobs_failed",
        "severity": "warning",
        "zh": "有1个任务已放弃重试",
        "en": "1 jobs were given up",
    }


async def test_the_same_readings_for_metrics_and_alarms(world: World, sandbox: SandboxControl, owner) -> None:
    await world.home()
    LATELY.forget()
    await process_report.report("worker", "1", clock.now())

    by_pool, by_itself = await read(rows), await read(owner.fetch)

    assert by_pool.processes == by_itself.processes == {("worker", "1"): 1}
    assert by_itself.certificates_unknown == 1 and by_itself.last_callback_s is None
