"""``linli restore``: a backup into an empty database, measured by its manifest, and then ahead to what WeChat knows."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

import payments
from kit.crypto import Keyring, Undecipherable
from models import audit
from models.access import system_actor
from models.database import APP_ROLE, connect, credentials, known_migrations
from models.unit_of_work import unit_of_work
from server.backup import FORMAT, MANIFEST, PROOF, facts_of, run_tool, sha256_of
from server.migration import apply
from server.postgres_home import CannotRun
from services.seal_check import check_seals

# True only once the worker and WeChat have been heard: right after a restore they tell what is still to be done.
WAITING = frozenset({"L13", "L14", "L16", "L17"})
APPEND_ONLY = ("entries", "allocations", "receipts", "audits", "seals")

_HOLDS = """
SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND n.nspname NOT IN ('information_schema')
  AND n.nspname NOT LIKE 'pg\\_%' ORDER BY 1 LIMIT 3
"""
_ROLE = f"""
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP_ROLE}') THEN CREATE ROLE {APP_ROLE} NOLOGIN; END IF;
    IF NOT pg_has_role(current_user, '{APP_ROLE}', 'MEMBER') THEN
        EXECUTE format('GRANT {APP_ROLE} TO %I', current_user);
    END IF;
END $$
"""
_RIGHTS = f"""
SELECT t.name FROM unnest($1::text[]) AS t(name) JOIN pg_class c ON c.oid = t.name::regclass
WHERE pg_get_userbyid(c.relowner) = '{APP_ROLE}'
   OR NOT has_table_privilege('{APP_ROLE}', c.oid, 'SELECT') OR NOT has_table_privilege('{APP_ROLE}', c.oid, 'INSERT')
   OR has_table_privilege('{APP_ROLE}', c.oid, 'UPDATE, DELETE, TRUNCATE')
   OR (SELECT count(*) FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgenabled = 'O'
       AND g.tgname IN ('append_only', 'no_truncate')) <> 2
"""  # noqa: S608 - our own names

Tell = Callable[[str], None]


def read_manifest(folder: Path, keyring: Keyring) -> dict[str, Any]:
    """The manifest of a backup that is whole and can be read with these keys; CannotRun says what is not so."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        dump = folder / manifest["dump"]["file"]
        if manifest["format"] != FORMAT:
            raise CannotRun(f"{folder} was made by another version of this program (format {manifest['format']})")
        if sha256_of(dump) != manifest["dump"]["sha256"]:
            raise CannotRun(f"{dump} is not what was written: its SHA-256 is not the one in the manifest")
        text, context = PROOF
        if keyring.decrypt(manifest["keys"]["proof"], context) != text:
            raise CannotRun("the keys open the backup to another text than was put in")
    except Undecipherable as error:
        raise CannotRun(
            "these are not the keys of this backup (LINLI_FIELD_KEYS; in dev keys.json of the state folder): "
            "without them phones and merchant keys in it cannot be read, and WeChat cannot be asked"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CannotRun(f"{folder} holds no backup that can be read: {error}") from error
    newer = sorted(set(manifest["migrations"]) - set(known_migrations()))
    if newer:
        raise CannotRun(f"the backup is newer than this program: it has {', '.join(newer)}")
    return manifest


async def restore(folder: Path, owner_url: str, app_url: str, keyring: Keyring, tell: Tell, *, embedded: bool) -> bool:
    """Fill an empty database from the backup and begin to catch up; whether everything was found to be right.

    Afterwards the application's pool is open. Raises CannotRun, and leaves the database as it was, for a backup that
    is not whole, keys that do not open it, a database that is not empty, and what pg_restore says.
    """
    manifest = read_manifest(folder, keyring)
    tell(f"the backup of {manifest['taken_at']} is whole, and the keys open it")
    await _fill(folder, manifest, owner_url)
    wrong = await _measure(manifest, owner_url)
    for name in await apply(owner_url):
        tell(f"migrated: {name}")
    await _open_doors(owner_url, embedded=embedded)
    tell(f"restored: {sum(manifest['rows'].values())} rows of {len(manifest['rows'])} tables; every session is ended")
    await connect(app_url)
    wrong += await _check(tell)
    for sentence in wrong:
        tell(f"WRONG: {sentence}")
    await _record(manifest, await payments.begin_catch_up(datetime.fromisoformat(manifest["taken_at"])))
    return not wrong


async def _fill(folder: Path, manifest: dict[str, Any], owner_url: str) -> None:
    connection = await asyncpg.connect(**credentials(owner_url))
    try:
        held = [one["name"] for one in await connection.fetch(_HOLDS)]
        if held:
            raise CannotRun(f"the database is not empty (it has {', '.join(held)} …): restore into a new one")
        await connection.execute(_ROLE)
        database = await connection.fetchval("SELECT current_database()")
    finally:
        await connection.close()
    options = ("--single-transaction", "--exit-on-error", "--no-owner", "--no-password", f"--dbname={database}")
    await run_tool(owner_url, "pg_restore", *options, str(folder / manifest["dump"]["file"]))


async def _measure(manifest: dict[str, Any], owner_url: str) -> list[str]:
    connection = await asyncpg.connect(**credentials(owner_url))
    try:
        facts = await facts_of(connection)
    finally:
        await connection.close()
    wrong = [
        f"table {name} has {facts['rows'].get(name, 'no')} rows, the backup had {count}"
        for name, count in manifest["rows"].items()
        if facts["rows"].get(name) != count
    ]
    wrong += [f"the {what} are not those of the backup" for what in ("balances", "seals", "migrations")
              if facts[what] != manifest[what]]  # fmt: skip
    return wrong


async def _open_doors(owner_url: str, *, embedded: bool) -> None:
    """The application may do what it may and no more; and whoever was signed in then signs in again: a session that
    was ended since would live again."""
    connection = await asyncpg.connect(**credentials(owner_url))
    try:
        if embedded:
            await connection.execute(f"ALTER ROLE {APP_ROLE} LOGIN")
        await connection.execute("DELETE FROM sessions")
        bad = [one["name"] for one in await connection.fetch(_RIGHTS, list(APPEND_ONLY))]
    finally:
        await connection.close()
    if bad:
        raise CannotRun(f"the rights or triggers of {', '.join(bad)} did not come back: do not use this database")


async def _check(tell: Tell) -> list[str]:
    found = await payments.violations()
    wrong = [f"{one.number} {one.truth} {one.found}" for one in found if one.number not in WAITING]
    waiting = len(found) - len(wrong)
    tell(f"{len(payments.INVARIANTS)} truths of the money checked" + (f"; {waiting} things wait" if waiting else ""))
    report = await check_seals()
    tell(f"{report.rows_read} sealed rows read again")
    return wrong + [f"{one.scope} {one.first_row}–{one.last_row}: {one.words} {one.found}" for one in report.faults]


@unit_of_work
async def _record(manifest: dict[str, Any], catch_up_id: UUID) -> None:
    await audit.record_tx(
        system_actor("linli restore"),
        "books.restore",
        "catch_up",
        catch_up_id,
        organization_id=None,
        after={"taken_at": manifest["taken_at"], "sha256": manifest["dump"]["sha256"]},
    )
