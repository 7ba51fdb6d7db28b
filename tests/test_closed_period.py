"""月结: what stands in the way, what is frozen, and that nothing gets into a closed month, not by a race either."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest

import payments
from kit import clock
from models.access import Role
from models.audit import Audit
from models.closed_period import ClosedPeriod
from models.database import credentials
from models.ledger import Entry
from models.reconciliation import (
    DayState,
    Difference,
    DifferenceAbout,
    DifferenceKind,
    DifferenceState,
    Reconciliation,
    StatementKind,
)
from models.session import Session
from models.unit_of_work import rows, unit_of_work
from tests.conftest import Database, Drain, SandboxControl
from tests.finance_town import FINANCE, paid
from tests.surplus_home import paid_for_nothing
from tests.world import Home, Person, World, unknown_id

NOVEMBER = date(2026, 11, 1)
IN_NOVEMBER = datetime(2026, 11, 20, 4, tzinfo=UTC)
IN_DECEMBER = datetime(2026, 12, 3, 4, tzinfo=UTC)


def months(home: Home, rest: str = "") -> str:
    return f"{FINANCE}/legal-entities/{home.company.legal_entity.id}/months{rest}"


async def with_code(person: Person, at: datetime | None = None) -> Person:
    """As if they had just signed in with their second factor."""
    now = clock.now()
    await Session.filter(staff_id=person.staff.id).update(
        second_factor_at=at or now, expires_at=now + timedelta(hours=1)
    )
    return person


async def close(person: Person, home: Home, month: str = "2026-11", **options: Any) -> Any:
    return await person.post(months(home, f"/{month}/close"), **options)


async def post_by_hand(connection: asyncpg.Connection, like: Entry, posted_at: datetime, source: str) -> None:
    """An entry by raw SQL, of the same accounts."""
    await connection.execute(
        "INSERT INTO entries (community_id, legal_entity_id, kind, source_id, leg, debit_account_id, credit_account_id,"
        " amount_fen, occurred_at, posted_at, posted_on) SELECT community_id, legal_entity_id, 'adjustment', $2, 0,"
        " debit_account_id, credit_account_id, 77, $3, $3, ($3 AT TIME ZONE 'Asia/Shanghai')::date"
        " FROM entries WHERE id = $1", like.id, source, posted_at)  # fmt: skip


async def test_a_month_is_closed_once_nothing_stands_in_the_way(
    world: World, sandbox: SandboxControl, drain: Drain, books: Any, owner: asyncpg.Connection
) -> None:
    with clock.travel_to(IN_NOVEMBER):
        home = await world.home(bills=3)
        finance = await with_code(await world.staff(home.company, Role.FINANCE))
        await paid(home, sandbox, drain, home.bills[0])
        surplus = await paid_for_nothing(home, finance, sandbox, drain, [str(home.bills[1].id)])
        early = await close(finance, home)
        assert (early.status_code, early.json()["code"]) == (409, "month_not_ready")
        assert [one["code"] for one in early.json()["blockers"]] == ["month_not_over", "open_case"]

    with clock.travel_to(IN_DECEMBER):
        await with_code(finance)
        listed = (await finance.get(months(home, "/2026-11/checklist"))).json()
        assert (listed["closed"], listed["open_cases"]) == (None, 1)
        (blocker,) = listed["blockers"]
        assert (blocker["code"], blocker["discrepancy_id"], blocker["amount_fen"]) == (
            "open_case", surplus.case_id, surplus.amount_fen)  # fmt: skip
        later = (await finance.get(months(home, "/2026-12/checklist"))).json()["blockers"]
        assert [one["code"] for one in later] == ["month_not_over", "earlier_month_open", "open_case"]
        assert later[1]["month"] == "2026-11"
        assert (await close(finance, home)).json()["code"] == "month_not_ready"
        assert (await surplus.keep()).status_code == 201  # decided; its entries are December's
        await drain()

        await _a_bill_of_wechat_is_in_the_way(finance, home)
        await with_code(finance, clock.now() - timedelta(minutes=16))
        stale = await close(finance, home)
        assert (stale.status_code, stale.json()["code"]) == (403, "fresh_second_factor_needed")
        assert await ClosedPeriod.all().count() == 0
        await with_code(finance)
        closed = await close(finance, home, key="close")
        assert closed.status_code == 201, closed.text
        frozen = closed.json()
        assert (frozen["month"], frozen["entry_count"]) == ("2026-11", 2)
        assert frozen["amount_fen"] == home.bills[0].amount_fen + surplus.amount_fen
        moved = {one["account"]: (one["debit_fen"], one["credit_fen"]) for one in frozen["balances"]}
        assert moved == {
            "wechat_clearing": (frozen["amount_fen"], 0), "received": (0, home.bills[0].amount_fen),
            "surplus": (0, surplus.amount_fen),
        }  # fmt: skip
        again = await close(finance, home, key="close")
        assert again.json() == frozen and (await close(finance, home)).json()["code"] == "month_closed"
        assert (await close(finance, home, "2026-10")).json()["code"] == "month_closed"
        assert [one["month"] for one in (await finance.get(months(home))).json()["items"]] == ["2026-11"]
        assert (await finance.get(f"{FINANCE}/months/{frozen['id']}")).json() == frozen
        shown = (await finance.get(months(home, "/2026-11/checklist"))).json()
        assert (shown["closed"]["id"], shown["blockers"]) == (frozen["id"], [])
        (told,) = await Audit.filter(act="finance.close")
        assert told.actor == f"staff:{finance.staff.id}" and told.after["month"] == "2026-11"
        await _nothing_gets_in(owner)
        await paid(home, sandbox, drain, home.bills[2])  # December goes on
    assert await payments.violations() == []


async def _a_bill_of_wechat_is_in_the_way(finance: Person, home: Home) -> None:
    """One that was not read, then one with a difference that nobody decided; December's is in nobody's way."""
    merchant = {"organization_id": home.company.id, "merchant_account_id": home.company.merchant.id}
    trade = {**merchant, "kind": StatementKind.TRADE, "next_check_at": clock.now()}
    day = await Reconciliation.create(**trade, bill_on=date(2026, 11, 30))
    later = await Reconciliation.create(**trade, bill_on=date(2026, 12, 1))
    listed = (await finance.get(months(home, "/2026-11/checklist"))).json()
    assert [(one["code"], one["bill_on"]) for one in listed["blockers"]] == [("unread_bill", "2026-11-30")]
    await Reconciliation.filter(id=day.id).update(state=DayState.QUIET, next_check_at=None)
    difference = await Difference.create(
        **merchant, reconciliation_id=day.id, about=DifferenceAbout.PAYMENT, number="L1", kind=DifferenceKind.AMOUNT,
        occurred_at=clock.now(), difference_fen=-7,
    )  # fmt: skip
    listed = (await finance.get(months(home, "/2026-11/checklist"))).json()
    (blocker,) = listed["blockers"]
    assert (blocker["code"], blocker["difference_id"], blocker["amount_fen"]) == (
        "open_difference", str(difference.id), -7)  # fmt: skip
    assert (listed["open_cases"], listed["open_differences"]) == (0, 1)
    await with_code(finance)
    assert (await close(finance, home)).json()["code"] == "month_not_ready"
    await Difference.filter(id=difference.id).update(state=DifferenceState.MENDED, difference_fen=0)
    await Reconciliation.filter(id=later.id).update(state=DayState.QUIET, next_check_at=None)


async def _nothing_gets_in(owner: asyncpg.Connection) -> None:
    """Neither the application nor the owner posts in a closed month, or before it; what got in is found."""
    like = await Entry.filter(posted_on__lt=date(2026, 12, 1)).first()
    assert like is not None
    for at in (IN_NOVEMBER, datetime(2026, 11, 30, 15, 59, 59, tzinfo=UTC), datetime(2019, 1, 1, tzinfo=UTC)):
        with pytest.raises(asyncpg.RestrictViolationError, match="month_is_open"):
            await post_by_hand(owner, like, at, unknown_id())
    before = await payments.violations()
    broken = owner.transaction()
    await broken.start()
    await owner.execute("ALTER TABLE entries DISABLE TRIGGER month_is_open")
    await post_by_hand(owner, like, IN_NOVEMBER, unknown_id())
    (found,) = [one for one in payments.INVARIANTS if one.number == "L40"]
    assert {one["difference"] + one["credit_difference"] for one in await owner.fetch(found.sql)} == {77}
    await broken.rollback()
    assert before == await payments.violations() == []


async def test_who_may_close(world: World, sandbox: SandboxControl, drain: Drain) -> None:
    """Finance of every community where the legal entity has money, and nobody else."""
    with clock.travel_to(IN_NOVEMBER):
        home = await world.home()
        await paid(home, sandbox, drain, home.bills[0])
    with clock.travel_to(IN_DECEMBER):
        second = await world.community(home.company, "月亮湾")
        flat = await world.room(second)
        await world.occupancy(flat, home.customer, resident=home.owner.resident)
        await paid(home, sandbox, drain, await world.bill(home.company, flat, home.customer))
        of_one = await with_code(await world.staff(home.company, Role.FINANCE, home.community))
        auditor = await with_code(await world.staff(home.company, Role.AUDITOR))
        stranger = await with_code(await world.staff(await world.company(2), Role.FINANCE))
        for person, status in ((of_one, 403), (auditor, 403), (stranger, 404)):
            assert (await close(person, home)).status_code == status
        assert (await of_one.get(months(home))).status_code == 403
        assert (await auditor.get(months(home))).json()["items"] == []
        assert (await stranger.get(months(home, "/2026-11/checklist"))).status_code == 404
        finance = await with_code(await world.staff(home.company, Role.FINANCE))
        for month in ("2026-13", "november", "2026-1"):
            assert (await close(finance, home, month)).status_code == 404
        assert (await close(finance, home)).status_code == 201


async def test_posting_at_midnight_while_the_month_is_closed(
    world: World, sandbox: SandboxControl, drain: Drain, database: Database, owner: asyncpg.Connection
) -> None:
    """Who posted first is waited for and counted; who comes second is refused. With the lock taken out of the trigger
    the same race loses an entry, and the invariant finds it."""
    with clock.travel_to(IN_NOVEMBER):
        home = await world.home()
        await paid(home, sandbox, drain, home.bills[0])
    like = await Entry.first()
    assert like is not None
    at_midnight = datetime(2026, 11, 30, 15, 59, 59, tzinfo=UTC)
    finance = await with_code(await world.staff(home.company, Role.FINANCE))
    poster = await asyncpg.connect(**credentials(database.owner_url))
    try:
        with clock.travel_to(IN_DECEMBER):
            await with_code(finance)
            posting = poster.transaction()
            await posting.start()
            await post_by_hand(poster, like, at_midnight, unknown_id())
            closing = asyncio.create_task(close(finance, home))
            await _waits_for_a_lock(owner)
            assert not closing.done() and await ClosedPeriod.all().count() == 0
            await posting.commit()
            closed = (await closing).json()
            assert (closed["entry_count"], closed["amount_fen"]) == (2, like.amount_fen + 77)
            assert await payments.violations() == []
            with pytest.raises(asyncpg.RestrictViolationError, match="month_is_open"):
                await post_by_hand(poster, like, at_midnight, unknown_id())
            await _negative_control(owner, poster, like, home, finance)
    finally:
        await poster.close()


async def _waits_for_a_lock(owner: asyncpg.Connection) -> None:
    async with asyncio.timeout(10):
        while not await owner.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            await asyncio.sleep(0.01)


async def _negative_control(
    owner: asyncpg.Connection, poster: asyncpg.Connection, like: Entry, home: Home, finance: Person
) -> None:
    body = await owner.fetchval("SELECT prosrc FROM pg_proc WHERE proname = 'linli_month_is_open'")
    without = body.replace("PERFORM pg_advisory_xact_lock_shared", "PERFORM hashtextextended('x', 0); -- ")
    assert without != body
    replace = "CREATE OR REPLACE FUNCTION linli_month_is_open() RETURNS trigger LANGUAGE plpgsql AS $body${}$body$"
    await owner.execute(replace.format(without))
    with clock.travel_to(datetime(2027, 1, 2, 4, tzinfo=UTC)):
        await with_code(finance)
        posting = poster.transaction()
        await posting.start()
        await post_by_hand(poster, like, datetime(2026, 12, 31, 15, 59, 59, tzinfo=UTC), unknown_id())
        closed = await close(finance, home, "2026-12")
        assert closed.json()["entry_count"] == 0
        await posting.commit()
        assert {one.number for one in await payments.violations()} == {"L40"}


async def test_a_payment_refused_at_midnight_is_posted_in_the_new_month(
    world: World, sandbox: SandboxControl, drain: Drain, books: Any
) -> None:
    """A process whose clock is behind posts into the month that was just closed: refused, and the next try has it."""
    with clock.travel_to(IN_NOVEMBER):
        home = await world.home(bills=2)
        await paid(home, sandbox, drain, home.bills[0])
    with clock.travel_to(IN_DECEMBER):
        finance = await with_code(await world.staff(home.company, Role.FINANCE))
        assert (await close(finance, home)).status_code == 201
    with clock.travel_to(datetime(2026, 11, 30, 15, 59, 50, tzinfo=UTC)):
        opened = (await home.open(bill_ids=[home.bill_ids[1]])).json()
        told = (await sandbox.pay(opened)).json()
        callback = await sandbox.called_back(told["out_trade_no"])
        assert callback["attempts"][0]["status"] == 500
        assert await Entry.all().count() == 1
    shown = (await home.owner.post(f"/api/v1/payments/{opened['id']}/confirm")).json()
    await drain()
    if clock.today() < date(2026, 12, 1):  # today's clock is in the closed month, too: December has to come first
        with clock.travel_to(IN_DECEMBER):
            shown = (await home.owner.post(f"/api/v1/payments/{opened['id']}/confirm")).json()
            await drain()
    assert shown["status"] == "paid"
    assert (await Entry.all().order_by("-id").first()).posted_on >= date(2026, 12, 1)


async def test_payments_do_not_wait_for_each_other_nor_for_the_closing_of_another_month(
    world: World, sandbox: SandboxControl, drain: Drain, database: Database
) -> None:
    """Two posters of one month hold its lock together; the closer of the month before holds another."""
    home = await world.home()
    await paid(home, sandbox, drain, home.bills[0])
    like = await Entry.first()
    assert like is not None
    first, second = [await asyncpg.connect(**credentials(database.owner_url)) for _ in range(2)]
    try:
        for connection in (first, second):
            await connection.execute("SET lock_timeout = '1s'")
            await connection.execute("BEGIN")
        await post_by_hand(first, like, IN_DECEMBER, unknown_id())
        await post_by_hand(second, like, IN_DECEMBER, unknown_id())

        async def november() -> None:
            await payments.lock_month_tx(like.legal_entity_id, NOVEMBER)
            await post_by_hand(first, like, IN_DECEMBER, unknown_id())

        await unit_of_work(november)()
        held = await rows("SELECT count(*)::int AS n FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock'")
        assert held[0]["n"] == 2
    finally:
        for connection in (first, second):
            await connection.execute("ROLLBACK")
            await connection.close()
