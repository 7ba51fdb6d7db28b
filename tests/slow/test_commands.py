"""The commands that an operator or cron runs, each in a process of its own: exit codes and words.

What they do is shown in process, in tests/test_restore.py, tests/test_seal.py and tests/test_key_rotation.py.
"""

import asyncio
import base64
import json
import os
import sys
from pathlib import Path

import asyncpg
import pytest

from models import secret
from server.keys import show_status
from services import key_rotation
from services.seal import seal_books
from tests.conftest import Database
from tests.furniture import furnish
from tests.test_key_rotation import ALONE, NEW, NEW_INDEX, OLD, OLD_INDEX, keys_as_before
from tests.world import World

__all__ = ["keys_as_before"]  # a fixture that every test here uses


async def test_backup_check_and_restore(owner: asyncpg.Connection, database: Database, tmp_path: Path) -> None:
    """Exit codes and words, as cron and a person meet them."""
    await furnish(owner)
    await owner.execute("ALTER TABLE seals DISABLE TRIGGER USER; DELETE FROM seals")
    await seal_books()

    async def linli(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "server.cli", *arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "LINLI_ENV": "dev", "LINLI_STATE": str(tmp_path / "state"),
                 "DATABASE_URL": database.url, "LINLI_OWNER_DATABASE_URL": database.owner_url},
        )  # fmt: skip
        said, _ = await process.communicate()
        return process.returncode or 0, said.decode()

    (tmp_path / "state").mkdir()
    code, said = await linli("backup", str(tmp_path / "backup"))
    head = next(line.split()[-1] for line in said.splitlines() if line.startswith("head   entries"))
    assert code == 0 and "Not in it: the file keys.json" in said
    code, said = await linli("check", "--seals", "--head", head)
    assert code == 0 and f"ok     entries 3 {head}" in said and "18 rows read again, 0 not sealed yet" in said
    await owner.execute("ALTER TABLE entries DISABLE TRIGGER USER; UPDATE entries SET amount_fen = 1 WHERE id = 2")
    code, said = await linli("check", "--seals", "--head", "f" * 64)
    assert code == 1 and "BROKEN entries, rows 1 to 3: rows are not as they were sealed: 1 changed (changed: 2)" in said
    assert f"BROKEN seals: no seal has the digest {'f' * 64}" in said
    code, said = await linli("restore", str(tmp_path / "backup"))
    assert code == 1 and "linli: the database is not empty" in said
    await owner.execute("UPDATE catch_ups SET finished_at = begun_at")
    code, said = await linli("catch-up")
    assert code == 1 and "nothing to catch up with" in said


async def _with_keys(
    database: Database, keys: dict[str, bytes], index: dict[str, bytes], *words: str
) -> tuple[int, str]:
    def told(named: dict[str, bytes]) -> str:
        return json.dumps({name: base64.b64encode(key).decode() for name, key in named.items()})

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server.cli", *words,
        env=os.environ | {"DATABASE_URL": database.url, "LINLI_FIELD_KEYS": told(keys), "LINLI_INDEX_KEY": told(index),
                          "LINLI_PORT": "1"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_keys_are_told_and_rotated(world: World, database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    await world.home(bills=0)
    both, index = {"test": OLD, "new": NEW}, {"": OLD_INDEX, "i2": NEW_INDEX}

    (worker_code, worker), (status_code, status) = await asyncio.gather(
        _with_keys(database, {"new": NEW}, index, "worker"), _with_keys(database, both, index, "keys", "status")
    )
    assert worker_code == 1 and "the keys do not fit the database" in worker and "“test”" in worker
    assert status_code == 1
    assert f"{'customers.phone_cipher':38} {'key test':24} {1:>9}  to be rotated" in status
    rotate_code, rotated = await _with_keys(database, both, index, "keys", "rotate")
    assert rotate_code == 0 and f"{'customers.phone_cipher':38} {1:>9} written anew" in rotated, rotated
    secret.configure(ALONE)
    capsys.readouterr()
    assert await show_status() and await key_rotation.unfit_keys() is None
    assert f"{'customers.phone_index':38} {'key i2':24} {1:>9}  writes" in capsys.readouterr().out
