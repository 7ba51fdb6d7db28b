"""The keys of what lies encrypted: do they fit the database, how many values are under each, write them anew."""

import asyncio
from collections.abc import Callable

import typer

from models.access import system_actor
from models.database import connect, disconnect
from models.secret import configure
from models.secret_column import SecretColumn
from server.settings import Settings
from services import key_rotation


def unfit(settings: Settings) -> str | None:
    """A sentence when this process must not start: with keys that do not fit, what it reads fails and what it writes
    cannot be found."""

    async def look() -> str | None:
        configure(settings.keyring())
        await connect(settings.require_database_url(), pool_size=2)
        try:
            return await key_rotation.unfit_keys()
        finally:
            await disconnect()

    problem = asyncio.run(look())
    return f"the keys do not fit the database: {problem}; see docs/privacy.md" if problem else None


async def show_status() -> bool:
    """Print how many values are under each key; whether all are under the keys that write."""
    counts = await key_rotation.key_counts()
    for one in counts:
        name = "unreadable" if one.key_id is None else f"key {one.key_id or '(no id)'}"
        typer.echo(f"{one.column:38} {name:24} {one.count:>9}  {'writes' if one.writes else 'to be rotated'}")
    if not counts:
        typer.echo("nothing is encrypted yet")
    return all(one.writes for one in counts)


async def run_rotation() -> list[str]:
    """Write everything anew that is not under the keys that write, saying how far it is; the rows that no key opens."""
    rotated = await key_rotation.rotate(system_actor("linli keys rotate"), _progress(typer.echo))
    for column, count in rotated.changed.items():
        typer.echo(f"{column:38} {count:>9} written anew")
    return rotated.unreadable


def _progress(say: Callable[[str], None]) -> Callable[[SecretColumn, int], None]:
    said: dict[str, int] = {}

    def tell(one: SecretColumn, done: int) -> None:
        if done - said.get(str(one), 0) >= 10_000:
            said[str(one)] = done
            say(f"{one!s:38} {done:>9} …")

    return tell
