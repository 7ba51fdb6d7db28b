"""Migrations that the code of the version before survives, and code that survives a migration of the version after."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from tortoise.migrations import operations as ops

import migrations
from jobs.alarm import look_at_alarms
from models.database import config, credentials, known_migrations
from models.payment import Payment, PaymentState
from server.migration import apply, pending
from services import health
from tests.conftest import Database, SandboxControl
from tests.world import World

FROZEN = 3
# Tables that grow with every payment or bill: an index on them is built while the others go on.
LARGE = {
    "allocations", "audits", "bill_lines", "bills", "entries", "messages", "notifications", "payment_attempts",
    "payment_bills", "payments", "receipts",
}  # fmt: skip
GONE = (ops.DeleteModel, ops.RemoveField, ops.RenameModel, ops.RenameField)
# What is taken away, or given another name or type, is missed by the code that still runs. A rule (constraint, trigger)
# may be taken away: that only allows more. So may an index or a function be that is made anew in the same step.
_FORBIDDEN = {
    r"\bDROP\s+(TABLE|COLUMN|TYPE|SCHEMA|ROLE|VIEW)\b": "drops what the old code may use",
    r"\bRENAME\b": "renames what the old code may use",
    r"\bSET\s+NOT\s+NULL\b": "demands what the old code does not write",
    r"\bADD\s+(COLUMN\s+)?(?!CONSTRAINT|CHECK|UNIQUE|FOREIGN|PRIMARY)\w+\s+[^;,]*\bNOT\s+NULL\b(?![^;,]*\bDEFAULT\b)":
        "adds a column that old code leaves empty",
    r"\bALTER\s+(COLUMN\s+)?\w+\s+(SET\s+DATA\s+)?TYPE\b": "changes a type under the old code",
    r"\bTRUNCATE\s+(?!ON\b|OR\b)\w": "empties a table",
    r"\bREVOKE\b(?![^;]*\bFROM\s+PUBLIC\b)(?![^;]*%)": "takes a right that the old code may need",
    r"\bLOCK\s+TABLE\b": "locks a table",
}  # fmt: skip


def statements(operation: object) -> str:
    """The SQL of an operation without its comments and the bodies of functions."""
    sql = getattr(operation, "sql", "")
    text = "\n".join(part if isinstance(part, str) else str(part) for part in ([sql] if isinstance(sql, str) else sql))
    text = re.sub(r"--[^\n]*", "", text)
    return re.sub(r"\$(\w*)\$.*?\$\1\$", "''", text, flags=re.DOTALL)


def complaints(operations: list) -> Iterator[str]:
    """What the code of the version before would not survive."""
    new = {operation.options.get("table") for operation in operations if isinstance(operation, ops.CreateModel)}
    sqls = [statements(operation) for operation in operations if isinstance(operation, ops.RunSQL)]
    new |= {name for sql in sqls for name in re.findall(r"\bCREATE\s+TABLE\s+(?:IF NOT EXISTS\s+)?(\w+)", sql)}
    created = {operation.name for operation in operations if isinstance(operation, ops.CreateModel)}
    for operation in operations:
        if isinstance(operation, GONE):
            yield f"{type(operation).__name__} takes away what the old code may use"
        if isinstance(operation, ops.AddField) and operation.model_name not in created:
            # Tortoise's own default is one that neither the old code nor the rows that are there know.
            if not operation.field.null and not operation.field.has_db_default():
                yield f"{operation.model_name}.{operation.name} is one that old code leaves empty"
    for sql in sqls:
        for pattern, why in _FORBIDDEN.items():
            for found in re.finditer(pattern, sql, re.IGNORECASE):
                table = re.search(r"\bALTER\s+TABLE\s+(?:ONLY\s+)?(\w+)[^;]*$", sql[: found.start()], re.IGNORECASE)
                if table is None or table[1] not in new:
                    yield f"{' '.join(found[0].split())}: {why}"
        for found in re.finditer(
            r"\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+(?!CONCURRENTLY)\w+\s+ON\s+(\w+)", sql, re.IGNORECASE
        ):
            if found[1] in LARGE - new:
                yield f"an index on {found[1]} that everybody has to wait for"


def later_migrations() -> list[str]:
    return [name for name in known_migrations() if int(name[:4]) > FROZEN]


# Written before any table had rows to wait for; whatever comes later builds its indexes CONCURRENTLY.
EARLY = {"refund", "receipt_files", "seals", "reconciliation"}


@pytest.mark.parametrize("name", later_migrations())
def test_the_version_before_survives_it(name: str) -> None:
    module = __import__(f"migrations.{name}", fromlist=["Migration"])
    found = list(complaints(module.Migration.operations))
    assert [one for one in found if not (name[5:] in EARLY and one.startswith("an index on"))] == []


@pytest.mark.parametrize(
    ("sql", "bad"),
    [
        ("ALTER TABLE bills DROP COLUMN title", True),
        ("DROP TABLE bills", True),
        ("ALTER TABLE bills RENAME COLUMN title TO name", True),
        ("ALTER TABLE bills ALTER COLUMN title SET NOT NULL", True),
        ("ALTER TABLE bills ADD COLUMN x int NOT NULL", True),
        ("ALTER TABLE bills ADD x text NOT NULL CHECK (x <> '')", True),
        ("ALTER TABLE bills ADD COLUMN x int NOT NULL DEFAULT 0", False),
        ("ALTER TABLE bills ADD COLUMN x int", False),
        ("ALTER TABLE bills ALTER COLUMN amount_fen TYPE numeric", True),
        ("REVOKE UPDATE ON bills FROM linli_app", True),
        ("REVOKE EXECUTE ON FUNCTION f() FROM PUBLIC", False),
        ("CREATE INDEX i ON bills (title)", True),
        ("CREATE UNIQUE INDEX i ON payments (id)", True),
        ("CREATE INDEX CONCURRENTLY i ON bills (title)", False),
        ("CREATE INDEX i ON staff (username)", False),
        ("CREATE TABLE t (a int NOT NULL); ALTER TABLE t ALTER COLUMN a SET NOT NULL; CREATE INDEX i ON t (a)", False),
        ("ALTER TABLE bills DROP CONSTRAINT bills_check", False),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN DROP TABLE x; END $$", False),
        ("-- DROP TABLE bills\nSELECT 1", False),
        ("TRUNCATE bills", True),
        ("CREATE TRIGGER t BEFORE UPDATE OR TRUNCATE ON bills EXECUTE FUNCTION f()", False),
        ("ALTER TABLE bills ADD CHECK (title IS NOT NULL)", False),
        # A default that the database does not know is one that old code does not write.
        ("ALTER TABLE payments ADD COLUMN refunded_fen bigint NOT NULL", True),
    ],
)
def test_the_rule_of_migrations(sql: str, bad: bool) -> None:
    assert bool(list(complaints([ops.RunSQL(sql)]))) is bad


async def test_no_migration_waits_for_a_lock_without_end(database: Database, owner: asyncpg.Connection) -> None:
    """Who waits for a table makes everybody wait who comes after; so it gives up, and is run again."""
    options = config(database.owner_url, owner=True)["connections"]["default"]["credentials"]
    migrating = await asyncpg.connect(**credentials(database.owner_url), server_settings=options["server_settings"])
    try:
        assert await migrating.fetchval("SHOW lock_timeout") == "5s"
        await migrating.execute("SET lock_timeout = '100ms'")
        async with owner.transaction():
            await owner.execute("SELECT 1 FROM bills")  # anybody who reads holds off a change of the table
            with pytest.raises(asyncpg.LockNotAvailableError):
                await migrating.execute("ALTER TABLE bills ADD COLUMN x int")
    finally:
        await migrating.close()


async def furnish_the_future(owner: asyncpg.Connection) -> None:
    """What the next version may do to the schema: add, and loosen."""
    await owner.execute(
        """
        ALTER TABLE bills ADD COLUMN next_version text, ADD COLUMN next_number int NOT NULL DEFAULT 0;
        ALTER TABLE payments ADD COLUMN next_version jsonb;
        CREATE TABLE next_version (id uuid PRIMARY KEY, bill_id uuid REFERENCES bills (id));
        ALTER TABLE payment_attempts DROP CONSTRAINT payment_attempts_state_check;
        INSERT INTO tortoise_migrations (app, name, applied_at) VALUES ('linli', '9999_next', now());
        """
    )


async def test_this_version_works_on_the_next_ones_schema(
    world: World, sandbox: SandboxControl, owner: asyncpg.Connection, drain, books
) -> None:
    await furnish_the_future(owner)

    home = await world.home(bills=2)
    paid = (await sandbox.pay((await home.open()).json())).json()
    await sandbox.called_back(paid["out_trade_no"])
    assert await drain() == ["payment_settled", "send_message"]
    assert (await Payment.get()).state is PaymentState.PAID
    assert (await home.owner.get("/api/v1/bills")).status_code == 200
    assert await look_at_alarms() == []
    assert (await health.checks())["migrations"] == "ok"


async def test_migrating_with_the_version_before_is_no_error_and_does_nothing(
    database: Database, owner: asyncpg.Connection
) -> None:
    """A roll-back starts the old version, and its migration step with it."""
    await furnish_the_future(owner)
    assert await pending(database.owner_url) == []
    assert await asyncio.wait_for(apply(database.owner_url), 10) == []


async def test_a_database_of_another_branch_is_refused(database: Database, owner: asyncpg.Connection) -> None:
    """Newer, and yet without what this version needs: nobody tried that together."""
    await furnish_the_future(owner)
    await owner.execute("DELETE FROM tortoise_migrations WHERE name = $1", known_migrations()[-1])
    with pytest.raises(ValueError, match="has 9999_next, which this program does not know"):
        await pending(database.owner_url)


def test_the_frozen_ones_are_the_first_three() -> None:
    assert [name[:4] for name in known_migrations()][:FROZEN] == ["0001", "0002", "0003"]
    assert Path(migrations.__path__[0]).is_dir()
