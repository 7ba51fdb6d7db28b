"""``linli backup``: everything in one moment, and a manifest by which a restore is measured.

pg_dump does the work. The manifest is read in the snapshot that pg_dump uses, so its counts, balances and seals are
exactly those of the dump, whatever was paid meanwhile.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg

from kit import clock
from kit.crypto import Keyring
from models.database import credentials
from server.postgres_home import INSTALL, PACKAGE, CannotRun, environment, open_private

FORMAT = 1
DUMP, MANIFEST = "linli.dump", "manifest.json"
PROOF = ("linli", "backup.proof")
"""What the manifest holds encrypted, so that a restore knows at once whether it has the right keys."""

_TABLES = """
SELECT c.relname::text AS name FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1
"""
_BALANCES = """
SELECT a.community_id::text, a.legal_entity_id::text, a.kind,
       COALESCE(sum(e.amount_fen) FILTER (WHERE e.debit_account_id = a.id), 0)::bigint AS debit_fen,
       COALESCE(sum(e.amount_fen) FILTER (WHERE e.credit_account_id = a.id), 0)::bigint AS credit_fen
FROM accounts a LEFT JOIN entries e ON a.id IN (e.debit_account_id, e.credit_account_id)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_HEADS = "SELECT DISTINCT ON (scope) scope, last_row, digest FROM seals ORDER BY scope, first_row DESC"


def default_folder() -> Path:
    """Where a backup goes when nobody says: a folder named for the moment, here."""
    return Path(f"linli-backup-{clock.now():%Y%m%dT%H%M%SZ}")


async def back_up(owner_url: str, folder: Path, keyring: Keyring) -> dict[str, Any]:
    """Write the backup; its manifest. The folder appears whole or not at all, readable by nobody else.

    Raises CannotRun for a folder that exists, for a database that was never migrated, and for what pg_dump says.
    """
    if await asyncio.to_thread(folder.exists):
        raise CannotRun(f"{folder} exists already, and a backup is never overwritten: name another folder")
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(mode=0o700, parents=True)
        manifest = await _dump(owner_url, partial, keyring)
        write_whole(partial / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1))
        partial.rename(folder)
    except OSError as error:
        raise CannotRun(f"the backup cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


async def _dump(owner_url: str, folder: Path, keyring: Keyring) -> dict[str, Any]:
    connection = await asyncpg.connect(**credentials(owner_url))
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
            taken_at = clock.now()
            facts = await facts_of(connection)
            path = folder / DUMP
            os.close(open_private(path, os.O_WRONLY))
            await run_tool(
                owner_url, "pg_dump", "--format=custom", "--no-password", f"--snapshot={snapshot}", f"--file={path}"
            )
    finally:
        await connection.close()
    with path.open("rb") as file:
        os.fsync(file.fileno())
    text, context = PROOF
    return {
        "format": FORMAT,
        "taken_at": taken_at.isoformat(),
        **facts,
        "dump": {"file": DUMP, "bytes": path.stat().st_size, "sha256": sha256_of(path)},
        "keys": {"writing": keyring.current, "proof": keyring.encrypt(text, context)},
    }


async def facts_of(connection: asyncpg.Connection) -> dict[str, Any]:
    """What a restore must come to: migrations, rows of every table, balances, heads of the seals.

    Raises CannotRun for a database without our tables.
    """
    if await connection.fetchval("SELECT to_regclass('tortoise_migrations')") is None:
        raise CannotRun("the database holds nothing of Linli's")
    names = [one["name"] for one in await connection.fetch(_TABLES)]
    counts = {name: await connection.fetchval(f'SELECT count(*) FROM "{name}"') for name in names}  # noqa: S608
    has_seals = "seals" in counts
    return {
        "server": await connection.fetchval("SHOW server_version"),
        "migrations": [
            one["name"] for one in await connection.fetch("SELECT name FROM tortoise_migrations ORDER BY name")
        ],
        "rows": counts,
        "balances": [dict(one) for one in await connection.fetch(_BALANCES)],
        "seals": [dict(one) for one in await connection.fetch(_HEADS)] if has_seals else [],
    }


async def run_tool(url: str, name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs on a database; CannotRun with its own words when it fails.

    Address and password go by the environment, which nobody else can read, never by the command line.
    """
    connection = await asyncpg.connect(**credentials(url))
    major = connection.get_server_version().major
    await connection.close()
    program = await asyncio.to_thread(find_tool, name, major)
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        env={**environment(), **_address(url)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        _, said = await process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        last = "\n".join(said.decode("utf-8", "replace").strip().splitlines()[-5:])
        raise CannotRun(f"{name} ended with {process.returncode}:\n{last}")


def _address(url: str) -> Mapping[str, str]:
    parts = credentials(url)
    found = {
        "PGHOST": str(parts["host"]),
        "PGPORT": str(parts["port"]),
        "PGUSER": str(parts["user"]),
        "PGDATABASE": str(parts["database"]),
        "PGAPPNAME": "linli",
    }
    if parts["password"]:
        found["PGPASSWORD"] = str(parts["password"])
    if "ssl" in parts:
        found["PGSSLMODE"] = str(parts["ssl"])
    return found


def find_tool(name: str, server_major: int) -> str:
    """The program that fits the server: of those on the PATH and the one among the Python packages, the one whose
    version is the server's, else the next newer. An older one cannot read the server."""
    found: dict[int, str] = {}
    for path in (_packaged(name), shutil.which(name)):
        if path is None:
            continue
        told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, env=environment())  # noqa: S603
        version = re.search(r"\) (\d+)", told.stdout)
        if version and int(version[1]) >= server_major:
            found.setdefault(int(version[1]), path)
    if not found:
        raise CannotRun(f"{name} of PostgreSQL {server_major} or newer is needed: install it, or put it on the PATH")
    return found[min(found)]


def _packaged(name: str) -> str | None:
    from importlib.util import find_spec

    spec = find_spec(PACKAGE)  # never imported: importing it creates files
    path = Path(spec.origin).parent / INSTALL / "bin" / name if spec and spec.origin else None
    return str(path) if path and path.is_file() else None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Write a private file to the disk before it is counted on."""
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_TRUNC), "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


def what_is_missing(dev: bool) -> str:
    """What the backup does not hold, for the person who thinks that it is everything."""
    keys = "the file keys.json of the state folder" if dev else "LINLI_FIELD_KEYS and LINLI_INDEX_KEY"
    return (
        f"Not in it: {keys} (without them phones, ID numbers and merchant keys cannot be read: keep them apart from\n"
        "the backup, and keep them as long as it), PostgreSQL's own roles and passwords, the environment, the logs."
    )
