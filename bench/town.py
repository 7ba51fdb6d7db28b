"""A database of a wanted size: the register by the tests' builders, bills and payments by SQL, as many as asked for."""

import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
from tortoise import Tortoise
from tortoise.migrations.api import migrate

from models import secret
from models.database import config, connect, credentials, disconnect
from sandbox.app import open_context
from sandbox.config import Config
from sandbox.merchant import Merchant
from server.embedded_postgres import EmbeddedPostgres
from server.settings import Settings
from tests.world import Company, Person, World, registered_at_wechat

BILLS_OF_AN_OPEN_PAYMENT = 3
ROOMS = 2_000
_numbers = itertools.count(1)

# Rooms with an owner each; the first room is that of the resident who lists bills.
_REGISTER = """
WITH made AS (
    SELECT uuidv7() AS room, uuidv7() AS customer, n FROM generate_series(1, $5::int) n
), customers_made AS (
    INSERT INTO customers (id, created_at, organization_id, kind, name, phone_masked)
    SELECT customer, now(), $1, 'person', '业主' || n, '' FROM made
), rooms_made AS (
    INSERT INTO rooms (id, created_at, community_id, building_id, unit_id, number, name, natural_key, area_m2)
    SELECT room, now(), $2, $3, $4, n::text, '1栋1单元' || n, lpad(n::text, 8, '0'), 88.5 FROM made
)
SELECT room, customer FROM made
"""

# One statement makes payments with everything that hangs on them, settled or still to be paid. Constraints that other
# rows must satisfy are not checked row by row here; the invariants are, when a benchmark ends.
_PAYMENTS = """
WITH picked AS MATERIALIZED (
    SELECT uuidv7() AS payment, uuidv7() AS attempt, p.customer, p.room, g.n
    FROM generate_series(1, $1::int) g(n) JOIN bench_people p ON p.n = g.n % $2::int + 1
), owed AS MATERIALIZED (
    SELECT picked.*, uuidv7() AS bill, uuidv7() AS line, k, 10000 + k AS fen
    FROM picked CROSS JOIN generate_series(1, $3::int) k
), bills_made AS (
    INSERT INTO bills (id, created_at, organization_id, community_id, room_id, customer_id, legal_entity_id,
        merchant_account_id, kind, subject_kind, subject_id, purpose, title, state, amount_fen, paid_fen, accrued_on,
        due_on, issued_at)
    SELECT bill, now(), $4, $5, room, customer, $6, $7, 'charge', 'room', room, bill::text, '物业费',
        CASE WHEN $8 THEN 'paid' ELSE 'open' END, fen, CASE WHEN $8 THEN fen ELSE 0 END, '2026-10-31', '2026-10-31',
        now() FROM owed
), lines_made AS (
    INSERT INTO bill_lines (id, created_at, community_id, bill_id, position, fee_item_id, title, unit, formula,
        amount_fen)
    SELECT line, now(), $5, bill, 1, $9, '物业费', '', '', fen FROM owed
), payments_made AS (
    INSERT INTO payments (id, created_at, organization_id, community_id, customer_id, legal_entity_id,
        merchant_account_id, channel, payer_resident_id, amount_fen, state, surplus_fen, paid_at)
    SELECT payment, now(), $4, $5, customer, $6, $7, 'wechat_jsapi', $15, sum(fen),
        CASE WHEN $8 THEN 'paid' ELSE 'open' END, 0, CASE WHEN $8 THEN now() END FROM owed GROUP BY payment, customer
), choices_made AS (
    INSERT INTO payment_bills (id, created_at, community_id, payment_id, bill_id, customer_id, legal_entity_id,
        amount_fen, live)
    SELECT uuidv7(), now(), $5, payment, bill, customer, $6, fen, NOT $8 FROM owed
), attempts_made AS (
    INSERT INTO payment_attempts (id, created_at, community_id, payment_id, merchant_account_id, mode, mchid, appid,
        openid, out_trade_no, amount_fen, request, state, prepay_id, expires_at, next_check_at, check_count,
        transaction_id, received_fen, paid_at)
    SELECT attempt, now(), $5, payment, $7, 'direct', $10, $11, 'o-bench', 'BENCH' || $14 || '-' || n, sum(fen), '{}',
        CASE WHEN $8 THEN 'paid' ELSE 'prepaid' END, 'wx' || n, now() + interval '1 day',
        CASE WHEN $8 THEN NULL ELSE now() + interval '1 day' END, 0, CASE WHEN $8 THEN 'T' || $14 || '-' || n END,
        CASE WHEN $8 THEN sum(fen) END, CASE WHEN $8 THEN now() END
    FROM owed GROUP BY attempt, payment, n
), allocated AS (
    INSERT INTO allocations (community_id, payment_id, bill_id, bill_line_id, amount_fen, created_at)
    SELECT $5, payment, bill, line, fen, now() FROM owed WHERE $8
), posted AS (
    INSERT INTO entries (community_id, legal_entity_id, kind, source_id, leg, debit_account_id, credit_account_id,
        amount_fen, occurred_at, posted_at, posted_on)
    SELECT $5, $6, 'payment', attempt, 0, $12, $13, sum(fen), now(), now(), (now() AT TIME ZONE 'Asia/Shanghai')::date
    FROM owed WHERE $8 GROUP BY attempt
)
SELECT 'BENCH' || $14 || '-' || n AS out_trade_no, sum(fen)::bigint AS amount_fen FROM owed GROUP BY n ORDER BY n
"""
_A_STATEMENT = 50_000

_ACCOUNT = """
INSERT INTO accounts (id, created_at, organization_id, community_id, legal_entity_id, kind, holder_id)
VALUES (uuidv7(), now(), $1, $2, $3, $4, $5) RETURNING id
"""


@dataclass
class Town:
    """One company with one community, and WeChat's side of its merchant account."""

    settings: Settings
    url: str  # the application's door
    company: Company
    merchant: Merchant  # as the sandbox knows it: with WeChat's own signing key
    resident: Person
    owner: asyncpg.Connection
    ids: list[object]

    async def add(self, payments: int, *, settled: bool, bills_each: int) -> list[tuple[str, int]]:
        """Make payments; (out_trade_no, amount_fen) of those that are still to be paid."""
        made: list[tuple[str, int]] = []
        organization, community, entity, merchant, item, mchid, appid, clearing, received = self.ids
        left = payments
        while left:
            count = min(left, _A_STATEMENT)
            found = await self.owner.fetch(
                _PAYMENTS, count, ROOMS, bills_each, organization, community, entity, merchant, settled, item, mchid,
                appid, clearing, received, str(next(_numbers)), self.resident.resident.id,
            )  # fmt: skip
            made += [] if settled else [(row["out_trade_no"], row["amount_fen"]) for row in found]
            left -= count
        await self.owner.execute("VACUUM ANALYZE")
        return made


@contextlib.asynccontextmanager
async def town() -> AsyncIterator[Town]:
    """A durable PostgreSQL of its own, as in production: what a commit costs is part of what is measured."""
    with tempfile.TemporaryDirectory(prefix="linli-bench-") as folder:
        place = Path(folder)
        with EmbeddedPostgres.start(place / "state") as server:
            async with _built(server, place) as made:
                yield made


@contextlib.asynccontextmanager
async def _built(server: EmbeddedPostgres, place: Path) -> AsyncIterator[Town]:
    admin = await asyncpg.connect(**credentials(server.url("postgres")))
    await admin.execute("CREATE DATABASE linli")
    await admin.close()
    await migrate(config=config(server.url("linli"), owner=True))
    await Tortoise.close_connections()
    owner = await asyncpg.connect(**credentials(server.url("linli")))
    await owner.execute("ALTER ROLE linli_app LOGIN")
    settings = Settings.model_validate({"env": "dev", "state": place / "state"}).with_database(
        server.url("linli", "linli_app"), server.url("linli")
    )
    secret.configure(settings.keyring())
    await connect(settings.require_database_url())
    try:
        yield await _settle_down(settings, owner, place)
    finally:
        await disconnect()
        await owner.close()


async def _settle_down(settings: Settings, owner: asyncpg.Connection, place: Path) -> Town:
    wechat = registered_at_wechat(place / "sandbox.db")
    context = open_context(Config(place / "sandbox.db"))
    merchant = context.merchants.get(wechat[0].mchid)
    assert merchant is not None

    async def no_login(*_: str) -> None:
        return None

    world = World(httpx.AsyncClient(), no_login, wechat)
    company = await world.company(0)
    community = await world.community(company)
    room = await world.room(community)
    resident, customer = await world.owner(company, room)
    item = await world.fee_item(company, community)
    for month in range(1, 13):
        await world.bill(company, room, customer, month=item.created_at.date().replace(year=2025, month=month, day=1))
    people = await owner.fetch(_REGISTER, company.id, community.id, room.building_id, room.unit_id, ROOMS)
    await owner.execute("CREATE TABLE bench_people (n int PRIMARY KEY, room uuid, customer uuid)")
    await owner.executemany(
        "INSERT INTO bench_people VALUES ($1, $2, $3)",
        [(number, one["room"], one["customer"]) for number, one in enumerate(people, start=1)],
    )
    # Half a minute instead of half an hour for a million rows; the invariants are checked at the end instead.
    await owner.execute("SET session_replication_role = replica")
    entity = company.legal_entity.id
    clearing = await owner.fetchval(_ACCOUNT, company.id, community.id, entity, "wechat_clearing", company.merchant.id)
    received = await owner.fetchval(_ACCOUNT, company.id, community.id, entity, "received", None)
    ids = [company.id, community.id, entity, company.merchant.id, item.id, merchant.mchid, company.app.appid, clearing,
           received]  # fmt: skip
    return Town(settings, settings.require_database_url(), company, merchant, resident, owner, ids)
