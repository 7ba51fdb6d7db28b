"""Seals: nothing that was written is changed, taken away, put in or put elsewhere without its name being called."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from kit import clock
from models.database import credentials
from models.seal import NOTHING_BEFORE, Seal
from models.unit_of_work import rows, unit_of_work
from services import seal
from services.seal import heads, horizon, seal_books
from services.seal_check import SealFault, check_seals
from services.seal_text import NEWEST, Digest, Reading, differing, reading_of
from tests.conftest import Database
from tests.furniture import NOW, TODAY, furnish, insert, uid

TABLES = ["allocations", "audits", "entries", "receipts"]


@pytest_asyncio.fixture(loop_scope="session")
async def rich(owner: asyncpg.Connection) -> asyncpg.Connection:
    """The owner's connection to a database with rows in every table, and none of them sealed."""
    await furnish(owner)
    await owner.execute("ALTER TABLE seals DISABLE TRIGGER USER")
    await owner.execute("DELETE FROM seals")
    await owner.execute("ALTER TABLE seals ENABLE TRIGGER USER")
    return owner


@contextlib.asynccontextmanager
async def another(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """One more session of the owner's."""
    connection = await asyncpg.connect(**credentials(database.owner_url))
    try:
        yield connection
    finally:
        await connection.close()


async def post(connection: asyncpg.Connection) -> int:
    """One more entry; its number."""
    number = await connection.fetchval("SELECT count(*) FROM entries")
    await insert(
        connection, "entries", community_id=uid(1, "community"), legal_entity_id=uid(1, "entity"), kind="payment",
        debit_account_id=uid(1, "wechat_clearing"), credit_account_id=uid(1, "received"), amount_fen=100 + number,
        posted_at=NOW, posted_on=TODAY,
    )  # fmt: skip
    return int(await connection.fetchval("SELECT currval('entries_id_seq')"))


async def break_it(connection: asyncpg.Connection, *statements: str) -> None:
    """As the owner, with triggers and foreign keys off, for nobody else can."""
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        for statement in statements:
            await connection.execute(statement)


async def faults() -> list[SealFault]:
    return (await check_seals()).faults


# --- sealing --------------------------------------------------------------------------------------------------------


async def test_everything_is_sealed_once(rich: asyncpg.Connection) -> None:
    assert await seal_books() == 18
    assert await seal_books() == 0

    made = await Seal.all().order_by("scope")
    assert [one.scope for one in made] == ["allocations", "audits/2026-11", "entries", "receipts"]
    for one in made:
        sealed = 9 if one.scope == "allocations" else 3  # what was paid, paid and given back
        assert (one.first_row, one.row_count, one.previous_digest) == (1, sealed, NOTHING_BEFORE)
    report = await check_seals()
    assert (report.faults, report.rows_read, report.unsealed, report.let_go) == ([], 18, 0, {})
    assert [(head.scope, head.digest) for head in report.heads] == [(one.scope, one.digest) for one in made]


async def test_a_seal_begins_where_the_one_before_ended(
    rich: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal, "ROWS_A_SEAL", 2)
    monkeypatch.setattr(seal, "ROWS_A_BATCH", 2)
    await seal_books()
    await rich.execute("SELECT nextval('entries_id_seq')")  # a transaction that was rolled back leaves a gap
    last = [await post(rich) for _ in range(3)][-1]
    assert await seal_books() == 3

    made = await Seal.filter(scope="entries").order_by("first_row")
    assert [(one.first_row, one.last_row, one.row_count) for one in made] == [
        (1, 2, 2), (3, 3, 1), (4, last - 1, 2), (last, last, 1)]  # fmt: skip
    assert [one.previous_digest for one in made] == [NOTHING_BEFORE, *(one.digest for one in made[:-1])]
    assert await faults() == []


async def test_nothing_to_seal_is_no_seal(database: Database) -> None:
    assert await seal_books() == 0
    report = await check_seals()
    assert (report.faults, report.heads, report.rows_read) == ([], [], 0)


async def test_sealers_at_once_seal_each_row_once(rich: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "ROWS_A_SEAL", 1)
    for _ in range(5):
        await post(rich)

    sealed = await asyncio.gather(*(seal_books() for _ in range(4)))
    assert sum(sealed) + await seal_books() == 23
    assert await Seal.filter(scope="entries").count() == 8
    assert await faults() == []


async def test_without_the_lock_the_unique_rules_refuse_the_second_sealer(
    rich: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the test above: two do meet here, and what stops the second is the database."""
    both, asked = asyncio.Barrier(2), seal.rows

    async def meet(sql: str, *values: Any) -> list[dict[str, Any]]:
        if "pg_try_advisory_xact_lock" in sql:
            return [{"got": True}]
        found = await asked(sql, *values)
        if "FROM entries WHERE" in sql:
            await both.wait()
        return found

    monkeypatch.setattr(seal, "rows", meet)
    monkeypatch.setattr(seal, "ROWS_A_SEAL", 3)
    ends = await asyncio.gather(seal._seal_next("entries", 3), seal._seal_next("entries", 3), return_exceptions=True)

    assert sorted(type(end).__name__ for end in ends) == ["IntegrityError", "int"]
    assert await Seal.filter(scope="entries").count() == 1


# --- the horizon ----------------------------------------------------------------------------------------------------


async def test_a_low_number_that_comes_late_is_waited_for(rich: asyncpg.Connection, database: Database) -> None:
    await seal_books()
    async with another(database) as slow:
        late = slow.transaction()
        await late.start()
        low = await post(slow)
        high = await post(rich)
        assert low < high

        assert await seal_books(patience_s=0.2) == 0
        assert await horizon("entries", 0.1) is None
        sealing = asyncio.create_task(seal_books(patience_s=20))
        await asyncio.sleep(0.2)
        assert not sealing.done()
        later = await post(rich)  # nobody is kept waiting by a sealer that waits
        await late.commit()
        await sealing

    sealed = await Seal.filter(scope="entries").order_by("-first_row").first()
    assert sealed is not None and (sealed.last_row, sealed.row_count) == (high, 2)
    assert later > high and await seal_books() == 1
    assert await faults() == []


async def test_without_waiting_a_row_escapes_its_seal(
    rich: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the naive rule seals up to the highest number, and the late row lies under a seal that
    does not know it."""

    async def nobody(table: str) -> set[str]:
        return set()

    monkeypatch.setattr(seal, "_writers", nobody)
    async with another(database) as slow:
        late = slow.transaction()
        await late.start()
        low = await post(slow)
        await post(rich)
        await seal_books()
        await late.commit()

    (found,) = await faults()
    assert (found.scope, found.found) == ("entries", {"inserted": [low]})


async def test_a_number_taken_before_its_transaction_has_an_id(rich: asyncpg.Connection, database: Database) -> None:
    """Why the horizon goes by locks: this writer has its number, and the oldest running transaction does not tell."""
    await post(rich)  # the sequence now gives numbers ahead without writing of it
    await rich.execute(
        """CREATE FUNCTION wait_here() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF NEW.amount_fen = 777 THEN PERFORM pg_advisory_xact_lock(777); END IF; RETURN NEW; END $$;
        CREATE TRIGGER wait_here BEFORE INSERT ON entries FOR EACH ROW EXECUTE FUNCTION wait_here();
        SELECT pg_advisory_lock(777)"""
    )
    async with another(database) as slow:
        pid = slow.get_server_pid()
        inserting = asyncio.create_task(insert(
            slow, "entries", community_id=uid(1, "community"), legal_entity_id=uid(1, "entity"), kind="payment",
            debit_account_id=uid(1, "wechat_clearing"), credit_account_id=uid(1, "received"), amount_fen=777,
            posted_at=NOW, posted_on=TODAY))  # fmt: skip
        while not await rich.fetchval("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1", pid):
            await asyncio.sleep(0.01)
        high = await post(rich)
        assert await rich.fetchval("SELECT backend_xid FROM pg_stat_activity WHERE pid = $1", pid) is None

        assert await horizon("entries", 0.1) is None
        await rich.execute("SELECT pg_advisory_unlock(777)")
        await inserting
    assert await horizon("entries", 5) == high


async def test_reading_and_vacuum_are_not_waited_for(rich: asyncpg.Connection, database: Database) -> None:
    async with another(database) as reader:
        async with reader.transaction(isolation="repeatable_read"):
            await reader.fetchval("SELECT count(*) FROM entries")
            await rich.execute("VACUUM (FREEZE) entries")
            assert await seal_books(patience_s=0) == 18
    assert await faults() == []


async def test_numbers_are_given_one_by_one(rich: asyncpg.Connection) -> None:
    """The horizon rests on it: a session that kept numbers back would use low ones late."""
    for table in TABLES:
        order = reading_of(table, NEWEST[table]).order
        name = await rich.fetchval("SELECT pg_get_serial_sequence($1, $2)", table, order)
        assert await rich.fetchval("SELECT seqcache FROM pg_sequence WHERE seqrelid = $1::regclass", name) == 1


# --- what is found --------------------------------------------------------------------------------------------------


async def _other_columns(owner: asyncpg.Connection, table: str) -> list[tuple[str, str]]:
    other = {
        "uuid": "gen_random_uuid()", "int8": "{0} + 1000", "int4": "{0} + 7", "int2": "{0} + 7", "varchar": "'y'",
        "timestamptz": "{0} + interval '1 microsecond'", "date": "{0} + 1", "jsonb": "'{{\"n\": 1.10}}'",
    }  # fmt: skip
    columns = await owner.fetch(
        "SELECT attname AS name, typname AS type FROM pg_attribute a JOIN pg_type t ON t.oid = atttypid"
        " WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attidentity = ''", table
    )  # fmt: skip
    return [(one["name"], other[one["type"]].format(one["name"])) for one in columns]


async def test_any_column_that_was_changed_is_found(rich: asyncpg.Connection) -> None:
    await seal_books()
    for table in TABLES:
        reading, tried = reading_of(table, NEWEST[table]), set()
        for column, value in await _other_columns(rich, table):
            change = rich.transaction()
            await change.start()
            await rich.execute("SET LOCAL session_replication_role = replica")  # neither triggers nor foreign keys
            for rule in await rich.fetch(
                "SELECT conname FROM pg_constraint WHERE conrelid = $1::regclass AND contype IN ('c', 'u')", table
            ):
                await rich.execute(f"ALTER TABLE {table} DROP CONSTRAINT {rule['conname']} CASCADE")
            await rich.execute(f"UPDATE {table} SET {column} = {value} WHERE {reading.order} = 2")
            digest = Digest()
            for row in await rich.fetch(f"{reading.select()} ORDER BY sealed_row"):
                digest.add(row["sealed_row"], reading.text(row))
            made = await rich.fetchrow("SELECT outline FROM seals WHERE split_part(scope, '/', 1) = $1", table)
            assert any(differing(made["outline"], bytes(digest.outline)).values()), (table, column)
            await change.rollback()
            tried.add(column)
        always = {"id"} if table == "audits" else set()  # PostgreSQL lets nobody give it
        assert tried == set(reading.columns.split()) - always
    assert await faults() == []


BREAKS: dict[str, tuple[str, str, str, dict[str, list[int]]]] = {
    "changed": ("entries", "UPDATE entries SET amount_fen = 99 WHERE id = 2", "entries", {"changed": [2]}),
    "deleted": ("allocations", "DELETE FROM allocations WHERE id = 2", "allocations", {"missing": [2]}),
    "the last one deleted": ("entries", "DELETE FROM entries WHERE id = 3", "entries", {"missing": [3]}),
    "all deleted": ("receipts", "DELETE FROM receipts", "receipts", {"missing": [1, 2, 3]}),
    "put in": (
        "entries",
        "INSERT INTO entries SELECT (jsonb_populate_record(e, jsonb_build_object('id', 4, 'leg', 9))).*"
        " FROM entries e WHERE id = 1",
        "entries",
        {"inserted": [4]},
    ),
    "put in front": (
        "entries",
        "INSERT INTO entries SELECT (jsonb_populate_record(e, jsonb_build_object('id', 0, 'leg', 9))).*"
        " FROM entries e WHERE id = 1",
        "entries",
        {"inserted": [0]},
    ),
    "put elsewhere": (
        "receipts",
        "UPDATE receipts SET serial = 13 - serial WHERE serial IN (1, 2); UPDATE receipts SET serial = serial - 10"
        " WHERE serial > 10",
        "receipts",
        {"changed": [1, 2]},
    ),
    "a month truncated": ("audits", "TRUNCATE audits", "audits/2026-11", {"missing": [1, 2, 3, 5]}),
    "an act of another": ("audits", "UPDATE audits SET actor = 'staff:x' WHERE id = 1", "audits/2026-11",
                          {"changed": [1]}),
    "moved to a month that is not sealed": (
        "audits", "UPDATE audits SET happened_at = '2026-12-01' WHERE id = 3", "audits/2026-11", {"missing": [3]},
    ),
    "put in behind": (
        "audits",
        "INSERT INTO audits OVERRIDING SYSTEM VALUE SELECT (jsonb_populate_record(a,"
        " '{\"id\": 4, \"happened_at\": \"2020-01-01\"}')).* FROM audits a WHERE id = 1",
        "audits",
        {"inserted": [4]},
    ),
}  # fmt: skip


async def test_what_was_done_to_a_row_is_named(rich: asyncpg.Connection) -> None:
    for sequence in ("entries_id_seq", "audits_id_seq"):  # a number that no row has: 4
        await rich.execute(f"SELECT nextval('{sequence}')")
    await post(rich)
    await insert(rich, "audits", act="test")
    await seal_books()
    for table in TABLES:
        await rich.execute(f"CREATE TABLE kept_{table} AS SELECT * FROM {table}")
    for name, (table, statement, scope, found) in BREAKS.items():
        await break_it(rich, statement)

        reported = await faults()
        named = {one.scope: {what: list(ids) for what, ids in one.found.items()} for one in reported}
        assert named[scope] == found, name
        assert {one.scope.split("/")[0] for one in reported} == {table}, name
        assert all(one.first_row <= min(min(ids) for ids in one.found.values()) for one in reported), name
        back = f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM kept_{table}"
        await break_it(rich, f"DELETE FROM {table}", back)
        assert await faults() == [], name


async def test_a_seal_that_was_changed_deleted_or_cut_off_is_found(
    rich: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal, "ROWS_A_SEAL", 1)
    await seal_books()
    noted = [head.digest for head in await heads()]
    changes = [
        "digest = repeat('a', 64)", "sealed_at = sealed_at + interval '1 microsecond'", "version = 2",
        "previous_digest = repeat('b', 64)", "outline = decode(repeat('00', 12), 'hex')", "last_row = 3",
        "first_row = 1", "scope = 'allocations'",
    ]  # fmt: skip
    async with asyncio.timeout(60):
        for change in changes:
            undo = await rich.fetchrow("SELECT * FROM seals WHERE scope = 'entries' AND first_row = 2")
            await rich.execute("ALTER TABLE seals DISABLE TRIGGER USER")
            await rich.execute("ALTER TABLE seals DROP CONSTRAINT IF EXISTS seals_check1")
            for rule in await rich.fetch(
                "SELECT conname FROM pg_constraint WHERE conrelid = 'seals'::regclass AND contype = 'u'"
            ):
                await rich.execute(f"ALTER TABLE seals DROP CONSTRAINT {rule['conname']}")
            await rich.execute(f"UPDATE seals SET {change} WHERE id = {undo['id']}")
            assert await faults(), change
            await rich.execute(f"DELETE FROM seals WHERE id = {undo['id']}")
            assert [one.words[:25] for one in await faults()] == ["a seal before this one is"], change
            marks = ", ".join(f"${number + 1}" for number in range(len(undo)))
            await rich.execute(f"INSERT INTO seals ({', '.join(undo.keys())}) VALUES ({marks})", *undo.values())
            assert await faults() == [], change

    await rich.execute("DELETE FROM seals WHERE scope = 'entries' AND first_row = 3")
    assert await faults() == []  # a chain that ends earlier holds by itself …
    (cut,) = (await check_seals(known_heads=noted)).faults  # … which is why its end is noted elsewhere
    assert "cut off" in cut.words


async def test_only_what_was_sealed_since_is_read_again(rich: asyncpg.Connection) -> None:
    await seal_books()
    await break_it(rich, "UPDATE entries SET amount_fen = 99 WHERE id = 2")
    with clock.travel_to(clock.now() + timedelta(days=1)):
        await post(rich)
        await seal_books()
    report = await check_seals(since=clock.now() + timedelta(hours=1))
    assert (report.faults, report.rows_read) == ([], 1)
    assert len(await faults()) == 1


# --- what retention lets go of --------------------------------------------------------------------------------------


async def old_month(owner: asyncpg.Connection) -> None:
    """A month of the audit, eleven years back, with two rows."""
    await owner.execute("CREATE TABLE audits_2015_03 PARTITION OF audits FOR VALUES FROM ('2015-03-01') TO"
                        " ('2015-04-01')")  # fmt: skip
    for _ in range(2):
        await insert(owner, "audits", act="test", happened_at=datetime(2015, 3, 5, tzinfo=UTC))


async def test_a_month_that_retention_took_is_let_go(rich: asyncpg.Connection) -> None:
    await old_month(rich)
    await seal_books()

    assert await rows("SELECT linli_drop_partitions() AS dropped") == [{"dropped": 1}]

    report = await check_seals()
    assert (report.faults, report.let_go, report.unsealed) == ([], {"audits/2015-03": 2}, 1)
    assert await seal_books() == 1  # what was let go of stands in the audit, and is sealed there
    (told,) = await rows("SELECT actor, after FROM audits WHERE act = 'audit.let_go'")
    assert told["actor"] == "system:drop_partitions"
    let_go_less = 'UPDATE audits SET after = \'{"month": "2015-03", "rows": 1}\' WHERE act = \'audit.let_go\''
    await break_it(rich, let_go_less)
    assert sorted(one.scope for one in await faults()) == ["audits/2015-03", f"audits/{clock.now():%Y-%m}"]


async def test_a_month_that_somebody_took_is_missing(rich: asyncpg.Connection) -> None:
    await old_month(rich)
    await seal_books()
    for how in ("TRUNCATE audits_2015_03", "DROP TABLE audits_2015_03"):
        await break_it(rich, how)
        (found,) = await faults()
        assert (found.scope, found.found) == ("audits/2015-03", {"missing": [4, 5]})
        assert (await check_seals()).let_go == {}


async def test_a_month_taken_before_its_time_is_missing_whatever_is_said_of_it(rich: asyncpg.Connection) -> None:
    await seal_books()
    await break_it(rich, "TRUNCATE audits")
    await insert(rich, "audits", act="audit.let_go", actor="system:drop_partitions", target_kind="partition",
                 after={"month": "2026-11", "rows": 3}, happened_at=datetime(2026, 12, 1, tzinfo=UTC))  # fmt: skip
    (found,) = await faults()
    assert (found.scope, found.found) == ("audits/2026-11", {"missing": [1, 2, 3]})


# --- the text -------------------------------------------------------------------------------------------------------


async def test_the_text_does_not_depend_on_the_session(rich: asyncpg.Connection, database: Database) -> None:
    async def texts(connection: asyncpg.Connection) -> list[bytes]:
        found = []
        for table in TABLES:
            reading = reading_of(table, NEWEST[table])
            found += [reading.text(one) for one in await connection.fetch(f"{reading.select()} ORDER BY sealed_row")]
        return found

    plain = await texts(rich)
    async with another(database) as strange:
        await strange.execute("SET timezone = 'Asia/Shanghai'; SET datestyle = 'German, DMY'; SET intervalstyle ="
                              " 'iso_8601'; SET extra_float_digits = -15; SET bytea_output = 'escape'")  # fmt: skip
        assert await texts(strange) == plain
    assert len(plain) == 18


def test_a_text_is_what_it_is() -> None:
    """Fixed for ever: a seal made yesterday is verified with this."""
    reading = Reading("t", "id name paid_at content", frozenset({"content"}))
    row = {"id": "7", "name": 'a"b\n业', "paid_at": None, "content": '{"b": 1.10, "a": [null, "1", 1]}'}
    written = '["7","a\\"b\\n业",null,"{\\"a\\":[null,\\"1\\",1],\\"b\\":1.10}"]'
    assert reading.text(row).decode() == written
    digest = Digest()
    digest.add(7, reading.text(row))
    closed = digest.close(scope="t", version=1, first_row=1, last_row=7, previous_digest=NOTHING_BEFORE,
                          sealed_at=datetime(2026, 11, 2, 4, tzinfo=UTC))  # fmt: skip
    assert closed == "9eb21a4bee0cb51179c4ffdc4107b4169fe1abd86f796852375fafdc5cc5e1ca"


def test_texts_that_look_alike_differ() -> None:
    reading = Reading("t", "id content", frozenset({"content"}))
    alike = ['{"a": 1}', '{"a": "1"}', '{"a": 1.0}', '{"a": [1]}', '{"a": null}', None, "null", '""']
    assert len({reading.text({"id": "1", "content": one}) for one in alike}) == len(alike)
    assert reading.text({"id": "1", "content": '{"a":1}'}) == reading.text({"id": "1", "content": '{ "a" : 1 }'})


async def test_every_column_of_what_is_sealed_is_read(rich: asyncpg.Connection) -> None:
    """A new column is for a new version of the reading."""
    for table, version in NEWEST.items():
        columns = await rich.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped", table
        )
        assert {one["attname"] for one in columns} == set(reading_of(table, version).columns.split())
    assert sorted(NEWEST) == TABLES


async def test_a_seal_of_an_unknown_version_is_no_good_seal(rich: asyncpg.Connection) -> None:
    await seal_books()
    await break_it(rich, "UPDATE seals SET version = 99 WHERE scope = 'entries'")
    (found,) = await faults()
    assert found.words == "this program does not know version 99 of this seal"


async def test_the_application_only_adds_seals(rich: asyncpg.Connection) -> None:
    await seal_books()
    for attempt in ("UPDATE seals SET version = 2", "DELETE FROM seals", "TRUNCATE seals"):
        with pytest.raises(Exception, match="permission denied"):
            await unit_of_work(rows)(attempt)
        with pytest.raises(asyncpg.RestrictViolationError):
            await rich.execute(attempt)
    assert await faults() == []
