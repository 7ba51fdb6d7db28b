"""The state: one sqlite file, one connection, one process.

Calls are short and run inline; whatever happens between two awaits is therefore one step for everybody else.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1

SCHEMA = """
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE platform_certificate (
    serial_no TEXT PRIMARY KEY, certificate TEXT NOT NULL, private_key TEXT NOT NULL,
    effective_time TEXT NOT NULL, expire_time TEXT NOT NULL);

CREATE TABLE merchant (
    mchid TEXT PRIMARY KEY, serial_no TEXT NOT NULL, public_key TEXT NOT NULL, apiv3_key TEXT NOT NULL,
    platform_key_id TEXT NOT NULL, platform_public_key TEXT NOT NULL, platform_private_key TEXT NOT NULL);
CREATE TABLE merchant_app (mchid TEXT NOT NULL, appid TEXT NOT NULL, PRIMARY KEY (mchid, appid)) WITHOUT ROWID;

CREATE TABLE app (seq INTEGER PRIMARY KEY, appid TEXT NOT NULL UNIQUE, secret TEXT NOT NULL, name TEXT NOT NULL);
CREATE TABLE template (
    appid TEXT NOT NULL, template_id TEXT NOT NULL, title TEXT NOT NULL,
    PRIMARY KEY (appid, template_id)) WITHOUT ROWID;
CREATE TABLE person (openid TEXT PRIMARY KEY, appid TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE code (
    code TEXT PRIMARY KEY, kind TEXT NOT NULL, openid TEXT NOT NULL, phone TEXT, expires_s INTEGER NOT NULL,
    used INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE access_token (
    token TEXT PRIMARY KEY, appid TEXT NOT NULL, issued_s INTEGER NOT NULL, expires_s INTEGER NOT NULL,
    forced INTEGER NOT NULL, revoked INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX access_token_by_app ON access_token (appid, expires_s);
CREATE TABLE subscription (
    openid TEXT NOT NULL, template_id TEXT NOT NULL, remaining INTEGER NOT NULL,
    PRIMARY KEY (openid, template_id)) WITHOUT ROWID;
CREATE TABLE message (
    seq INTEGER PRIMARY KEY, openid TEXT NOT NULL, appid TEXT NOT NULL, template_id TEXT NOT NULL, page TEXT,
    data TEXT NOT NULL, sent_at TEXT NOT NULL);
CREATE INDEX message_by_person ON message (openid, seq);

-- mchid is the calling merchant, for whom out_trade_no is unique.
CREATE TABLE trade (
    seq INTEGER PRIMARY KEY, mchid TEXT NOT NULL, appid TEXT NOT NULL, out_trade_no TEXT NOT NULL,
    product TEXT NOT NULL, fingerprint TEXT NOT NULL, description TEXT NOT NULL, attach TEXT,
    notify_url TEXT NOT NULL, openid TEXT, total_fen INTEGER NOT NULL, currency TEXT NOT NULL,
    created_at TEXT NOT NULL, time_expire TEXT NOT NULL, expires_s INTEGER NOT NULL,
    trade_state TEXT NOT NULL, transaction_id TEXT UNIQUE, success_time TEXT,
    UNIQUE (mchid, out_trade_no));
CREATE INDEX trade_by_state ON trade (trade_state, seq);
CREATE TABLE prepay (
    prepay_id TEXT PRIMARY KEY, trade_seq INTEGER NOT NULL, expires_s INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX prepay_by_trade ON prepay (trade_seq);

CREATE TABLE callback (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, mchid TEXT NOT NULL, out_trade_no TEXT NOT NULL,
    event_type TEXT NOT NULL, original_type TEXT NOT NULL, summary TEXT NOT NULL, resource TEXT NOT NULL,
    notify_url TEXT NOT NULL, create_time TEXT NOT NULL, treatment TEXT NOT NULL,
    state TEXT NOT NULL, rounds INTEGER NOT NULL DEFAULT 0, due_ms INTEGER);
CREATE INDEX callback_due ON callback (due_ms) WHERE state = 'pending';
CREATE INDEX callback_by_order ON callback (out_trade_no);
CREATE TABLE callback_attempt (
    seq INTEGER PRIMARY KEY, callback_seq INTEGER NOT NULL, at TEXT NOT NULL, reason TEXT NOT NULL,
    signature TEXT NOT NULL, status INTEGER, error TEXT, answer TEXT NOT NULL);
CREATE INDEX callback_attempt_by_callback ON callback_attempt (callback_seq);

CREATE TABLE fault (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, out_trade_no TEXT, operation TEXT, times_left INTEGER,
    params TEXT NOT NULL);
"""


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
        if version == 0:
            self._connection.executescript(f"BEGIN;{SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
        elif version != SCHEMA_VERSION:
            self.close()
            raise StateUnusable("the state file is of another version of the sandbox: delete it and start again")

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
