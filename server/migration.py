"""Migrations, applied one version at a time by whoever comes first."""

import asyncpg
from tortoise import Tortoise
from tortoise.migrations.api import migrate

from models.database import config, credentials, known_migrations

_LOCK = 0x6C696E6C69  # "linli"


async def pending(owner_url: str) -> list[str]:
    """What this code has and the database has not. Refuses (ValueError) a database that is newer than the code."""
    connection = await asyncpg.connect(**credentials(owner_url))
    try:
        if await connection.fetchval("SELECT to_regclass('tortoise_migrations')") is None:
            return known_migrations()
        applied = {row["name"] for row in await connection.fetch("SELECT name FROM tortoise_migrations")}
    finally:
        await connection.close()
    newer = sorted(applied - set(known_migrations()))
    if newer:
        raise ValueError(f"the database is newer than this program: it has {', '.join(newer)}")
    return [name for name in known_migrations() if name not in applied]


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


async def prepare_embedded(postgres_url: str, linli_url: str) -> list[str]:
    """In the embedded server: make the database, apply what is pending (its names are answered), and let the role that
    owns nothing sign in."""
    admin = await asyncpg.connect(**credentials(postgres_url))
    try:
        if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = 'linli'"):
            await admin.execute("CREATE DATABASE linli")
    finally:
        await admin.close()
    names = await apply(linli_url)
    owner = await asyncpg.connect(**credentials(linli_url))
    try:
        await owner.execute("ALTER ROLE linli_app LOGIN")
    finally:
        await owner.close()
    return names
