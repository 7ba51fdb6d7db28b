"""Migrations, applied one version at a time by whoever comes first."""

import asyncpg
from tortoise import Tortoise
from tortoise.migrations.api import migrate

from models.database import config, credentials, known_migrations

_LOCK = 0x6C696E6C69  # "linli"


async def pending(owner_url: str) -> list[str]:
    """What this code has and the database has not. Nothing for a database that is newer: old code works on it, by the
    rule of tests/test_migration.py. Refuses (ValueError) one that is newer and yet lacks something."""
    connection = await asyncpg.connect(**credentials(owner_url))
    try:
        if await connection.fetchval("SELECT to_regclass('tortoise_migrations')") is None:
            return known_migrations()
        applied = {row["name"] for row in await connection.fetch("SELECT name FROM tortoise_migrations")}
    finally:
        await connection.close()
    missing = [name for name in known_migrations() if name not in applied]
    newer = sorted(applied - set(known_migrations()))
    if newer and missing:
        raise ValueError(
            f"the database has {', '.join(newer)}, which this program does not know, and lacks {', '.join(missing)}"
        )
    return missing


async def apply(owner_url: str) -> list[str]:
    """Apply what is pending; the names. Two at once wait for each other."""
    guard = await asyncpg.connect(**credentials(owner_url))
    try:
        await guard.execute("SELECT pg_advisory_lock($1)", _LOCK)
        names = await pending(owner_url)
        if names:
            await migrate(config=config(owner_url, owner=True))
            await Tortoise.close_connections()
        return names
    finally:
        await guard.close()


async def make_embedded(postgres_url: str) -> None:
    """In the embedded server: make the database if there is none; it stays empty."""
    admin = await asyncpg.connect(**credentials(postgres_url))
    try:
        if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = 'linli'"):
            await admin.execute("CREATE DATABASE linli")
    finally:
        await admin.close()


async def prepare_embedded(postgres_url: str, linli_url: str) -> list[str]:
    """In the embedded server: make the database, apply what is pending (its names are answered), and let the role that
    owns nothing sign in."""
    await make_embedded(postgres_url)
    names = await apply(linli_url)
    owner = await asyncpg.connect(**credentials(linli_url))
    try:
        await owner.execute("ALTER ROLE linli_app LOGIN")
    finally:
        await owner.close()
    return names
