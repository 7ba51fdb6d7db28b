"""How the tables are reached: the list of model modules, and the pool that the process opens and closes."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tortoise import Tortoise

import migrations

MODULES = [
    f"models.{name}"
    for name in (
        "organization", "wechat_app", "community", "room", "customer", "occupancy", "resident", "staff", "session",
        "merchant_account", "fee_item", "bill", "payment", "refund", "ledger", "notification", "receipt", "message",
        "discrepancy", "audit", "idempotency", "installation", "wechat_push", "shipping", "alarm",
        "process_report", "policy", "consent", "reveal", "export", "seal", "catch_up", "rate_limit", "second_factor",
        "prepaid", "deposit",
        "reconciliation",
        "closed_period", "reversal", "report_file",
        "shift", "bank_slip",
    )
]  # fmt: skip
APP_ROLE = "linli_app"


def known_migrations() -> list[str]:
    """The migrations of this code, in order."""
    return sorted(path.stem for path in Path(migrations.__path__[0]).glob("[0-9]*.py"))


def credentials(url: str) -> dict[str, Any]:
    """asyncpg's parts of a ``postgresql://user:password@host:port/database?host=/socket/folder`` URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError("DATABASE_URL must begin with postgresql://")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    found: dict[str, Any] = {
        "host": query.get("host") or parts.hostname or "127.0.0.1",
        "port": int(query.get("port") or parts.port or 5432),
        "user": unquote(parts.username or query.get("user") or "postgres"),
        "password": unquote(parts.password) if parts.password else None,
        "database": unquote(parts.path.lstrip("/")) or "postgres",
    }
    if "sslmode" in query:
        found["ssl"] = query["sslmode"]
    return found


def config(url: str, *, owner: bool = False, pool_size: int = 16) -> dict[str, Any]:
    """Tortoise's configuration. Unless ``owner``, every session takes the role that owns nothing.

    Waiting is bounded: a connection for 3 s (models/pool.py), a lock for 5 s, because whoever holds a row of money
    holds it for milliseconds; a statement for 30 s, the longest that a file of bills takes; a session that idles inside
    a transaction is ended after 60 s, or it would hold its locks for as long as a hung process lives. A migration waits
    for its locks as briefly: while it waits, everybody who comes after it for the same table waits too.
    """
    settings = {"timezone": "UTC", "application_name": "linli", "lock_timeout": "5s"}
    if not owner:
        settings |= {
            "role": APP_ROLE,
            "statement_timeout": "30s",
            "idle_in_transaction_session_timeout": "60s",
        }
    options = {
        "minsize": 1,
        "maxsize": pool_size,
        "server_settings": settings,
        "command_timeout": None if owner else 35,
        "reset": _as_it_is,
        "timeout": 5,  # to connect
    }
    return {
        "connections": {"default": {"engine": "models.pool", "credentials": credentials(url) | options}},
        "apps": {"linli": {"models": MODULES, "default_connection": "default", "migrations": "migrations"}},
        "use_tz": True,
        "timezone": "UTC",
    }


async def _as_it_is(_connection: Any) -> None:
    """What is done to a connection that comes back to the pool, after asyncpg rolled back what was left open: nothing.

    asyncpg would send RESET ALL and more, one round trip for every statement outside of a transaction and one for
    each transaction. Nothing here sets anything on a session or holds its locks (a rule of the house has a test).
    """


async def connect(url: str, *, owner: bool = False, pool_size: int = 16) -> None:
    """Open the pool for this process."""
    await Tortoise.init(config=config(url, owner=owner, pool_size=pool_size), _enable_global_fallback=True)


async def disconnect() -> None:
    """Close the pool."""
    await Tortoise.close_connections()
