"""The invariants of reconciliation bite: each is broken on purpose, as only the owner's hand could, and found."""

from typing import Any

import asyncpg

import payments
from tests.conftest import Drain, SandboxControl
from tests.surplus_home import surplus_home
from tests.wechat_days import at, draw, finance_of, pay
from tests.world import World

# What is done to the books, and which invariants say so (others may too).
BROKEN: list[tuple[str, str, set[str]]] = [
    ("a day's commission is posted twice",
     "INSERT INTO entries (community_id, legal_entity_id, kind, source_id, leg, debit_account_id, credit_account_id,"
     " amount_fen, occurred_at, posted_at, posted_on) SELECT community_id, legal_entity_id, kind, source_id, 7,"
     " debit_account_id, credit_account_id, amount_fen, occurred_at, posted_at, posted_on FROM entries"
     " WHERE kind = 'commission'", {"L36"}),
    ("commission is not posted", "DELETE FROM entries WHERE kind = 'commission'", {"L36"}),
    ("commission is taken from the bank",
     "UPDATE entries SET credit_account_id = (SELECT id FROM accounts WHERE kind = 'bank') WHERE kind = 'commission'",
     {"L36"}),
    ("a movement is not posted", "DELETE FROM entries WHERE kind = 'settled_to_bank'", {"L37"}),
    ("a movement counts as posted what is not", "UPDATE movements SET posted_fen = posted_fen - 1", {"L37"}),
    ("a movement goes to suspense",
     "UPDATE entries SET debit_account_id = (SELECT id FROM accounts WHERE kind = 'suspense')"
     " WHERE kind = 'settled_to_bank'", {"L37"}),
    ("more goes to the bank than lay at WeChat",
     "UPDATE entries SET amount_fen = amount_fen + 900000 WHERE kind = 'settled_to_bank';"
     " UPDATE movements SET posted_fen = posted_fen + 900000",
     {"L24"}),
    ("a refund by hand is forgotten", "UPDATE differences SET placed_fen = 0", {"L38"}),
    ("a refund by hand is posted otherwise",
     "UPDATE entries SET amount_fen = amount_fen + 1 WHERE kind = 'foreign_refund'", {"L38"}),
    ("an adjustment is posted with one signature",
     "UPDATE adjustments SET decided_by_staff_id = asked_by_staff_id WHERE state = 'posted'", {"L38"}),
    ("an adjustment is posted and nobody signed",
     "UPDATE adjustments SET state = 'asked', decided_at = NULL, decided_by_staff_id = NULL", {"L38"}),
    ("a difference is thrown away", "DELETE FROM adjustments; DELETE FROM differences", {"L38", "L39"}),
    ("a day's total is made to agree", "UPDATE reconciliations SET our_fen = wechat_fen WHERE kind = 'trade'", {"L39"}),
    ("a piece of a file is lost", "DELETE FROM statement_parts", {"L39"}),
    ("the file of a day is another day's", "UPDATE statements SET bill_on = bill_on - 1", {"L39"}),
]  # fmt: skip


async def test_each_bites(world: World, sandbox: SandboxControl, drain: Drain, owner: asyncpg.Connection) -> None:
    with at(1, 12):
        surplus = await surplus_home(world, sandbox, drain, bills=2)
        home = surplus.home
        bill = await world.bill(
            home.company, home.room, home.customer, month=home.bills[0].accrued_on.replace(year=2024)
        )
        number = await pay(home, sandbox, bill.id)
        by_hand = {"out_trade_no": number, "amount_fen": 5000, "mchid": home.company.wechat.mchid}
        refund = (await sandbox.post("/sandbox/refunds", by_hand)).json()
        await sandbox.post(f"/sandbox/refunds/{refund['refund_id']}/decide", {"status": "SUCCESS"})
        await draw(home, sandbox, 10_000)
        await drain()
    with at(2, 10, 30):
        await payments.sweep_reconciliations()
        finance, second = await finance_of(world, home), await finance_of(world, home)
        (open_one,) = (await finance.get("/api/v1/staff/differences?status=open")).json()["items"]
        wanted: dict[str, Any] = {
            "community_id": str(home.community.id), "merchant_account_id": str(home.company.merchant.id),
            "difference_id": open_one["id"], "debit_kind": "bank", "credit_kind": "suspense", "amount_fen": 5000,
            "reason": "已收回现金"}  # fmt: skip
        asked = (await finance.post("/api/v1/staff/adjustments", wanted)).json()
        assert (await second.post(f"/api/v1/staff/adjustments/{asked['id']}/sign")).status_code == 200
        await drain()
    assert await payments.violations() == []
    assert set().union(*(numbers for _, _, numbers in BROKEN)) == {"L24", *(f"L{number}" for number in range(36, 40))}
    tables = ("entries", "movements", "differences", "adjustments", "reconciliations", "statements", "statement_parts")
    for what, statement, numbers in BROKEN:
        transaction = owner.transaction()
        await transaction.start()
        for table in tables:
            await owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
            for check in await owner.fetch(
                "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid = $1::regclass", table
            ):
                await owner.execute(f"ALTER TABLE {table} DROP CONSTRAINT {check['conname']}")
        assert "0" != (await owner.execute(statement)).rpartition(" ")[2], what
        found = {one.number for one in payments.INVARIANTS if await owner.fetch(one.sql)}
        await transaction.rollback()
        assert found >= numbers, (what, found)
