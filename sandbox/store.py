"""The state: one sqlite file, one connection, one process.

Calls are short and run inline; whatever happens between two awaits is therefore one step for everybody else.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox.schema import STEPS


class StateUnusable(RuntimeError):
    """The state file cannot be opened: in use, of another version, or no sqlite file."""


class Store:
    """Opened by the process that serves; a second one on the same file is refused."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Keys and secrets lie inside: nobody else may read it, nor the journal files, which sqlite makes alike.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=2)
        self._connection.row_factory = sqlite3.Row
        try:
            for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=NORMAL"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._migrate()
        except sqlite3.DatabaseError as error:
            self.close()
            raise StateUnusable(f"{path}: {error}; is another sandbox running on it?") from error

    def _migrate(self) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(STEPS):
            self.close()
            raise StateUnusable("the state file is of a later version of the sandbox: delete it and start again")
        for number, step in enumerate(STEPS[version:], start=version + 1):
            self._connection.executescript(f"BEGIN;{step}PRAGMA user_version={number};COMMIT;")

    def close(self) -> None:
        """Write everything back into the one file and let go of it."""
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside or nothing. Must not contain an await."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def execute(self, sql: str, *values: Any) -> int:
        """Run one statement; answers how many rows it changed."""
        return self._connection.execute(sql, values).rowcount

    def insert(self, table: str, **values: Any) -> int:
        """Insert one row; answers its rowid."""
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        statement = f"INSERT INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608 - no name comes from outside
        cursor = self._connection.execute(statement, tuple(values.values()))
        return cursor.lastrowid or 0

    def row(self, sql: str, *values: Any) -> dict[str, Any] | None:
        """The first row or None."""
        found = self._connection.execute(sql, values).fetchone()
        return None if found is None else dict(found)

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Every row."""
        return [dict(found) for found in self._connection.execute(sql, values)]

    def number(self, name: str, default: int) -> int:
        """A whole number kept under ``name``; the default is kept when there is none yet."""
        found = self.row("SELECT value FROM setting WHERE name = ?", name)
        if found is None:
            self.set_number(name, default)
            return default
        return int(found["value"])

    def set_number(self, name: str, value: int) -> None:
        """Keep a whole number under ``name``."""
        self.execute("INSERT OR REPLACE INTO setting (name, value) VALUES (?, ?)", name, str(value))
