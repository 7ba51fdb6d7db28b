"""The invariants of refunds bite: each is broken on purpose, as only the owner's hand could, and found."""

from datetime import date

import asyncpg
import pytest

import payments
from models.payment import Payment
from tests.conftest import Drain, SandboxControl
from tests.refund_home import paid_at
from tests.surplus_home import Surplus, surplus_home
from tests.world import World

# What is done to the books, and which invariants say so (others may too).
BROKEN: list[tuple[str, str, set[str]]] = [
    ("a kept surplus is taken from WeChat's account",
     "UPDATE entries SET debit_account_id = (SELECT id FROM accounts WHERE kind = 'wechat_clearing')"
     " WHERE debit_account_id = (SELECT id FROM accounts WHERE kind = 'surplus') AND kind = 'payment'", {"L2"}),
    ("a payment is taken from the debtor's surplus",
     "UPDATE entries SET debit_account_id = (SELECT id FROM accounts WHERE kind = 'surplus')"
     " WHERE kind = 'payment' AND debit_account_id = (SELECT id FROM accounts WHERE kind = 'wechat_clearing')", {"L2"}),
    ("a fate is forgotten",
     "UPDATE payments SET surplus_fate = NULL WHERE surplus_fate = 'kept'", {"L8", "L23", "L15"}),
    ("a refund is looked at by nobody",
     "UPDATE refund_attempts SET next_check_at = now() - interval '1 hour' WHERE state = 'accepted'", {"L14"}),
    ("an undecided surplus has a closed case",
     "UPDATE discrepancies SET state = 'resolved' WHERE kind = 'surplus' AND state = 'open'", {"L15"}),
    ("a payment forgets what it reserved", "UPDATE payments SET reserved_fen = 0 WHERE reserved_fen > 0", {"L18"}),
    ("a payment counts as refunded what is not", "UPDATE payments SET refunded_fen = refunded_fen + 1", {"L18"}),
    ("a refund's amount changes", "UPDATE refunds SET amount_fen = amount_fen - 1 WHERE state = 'processing'",
     {"L18", "L19", "L20", "L21", "L23"}),
    ("a refund is called refunded before WeChat says so",
     "UPDATE refunds SET state = 'refunded', refunded_at = now() WHERE state = 'processing'",
     {"L18", "L19", "L20", "L21"}),
    ("a refund is cancelled and not reversed",
     "UPDATE refunds SET state = 'cancelled' WHERE state = 'failed'", {"L18", "L19", "L20", "L21", "L23"}),
    ("an approval is not posted",
     "DELETE FROM entries WHERE kind = 'refund_approved'"
     " AND source_id IN (SELECT id FROM refunds WHERE state = 'failed')",
     {"L8", "L19", "L20"}),
    ("money is given back twice",
     "INSERT INTO entries (community_id, legal_entity_id, kind, source_id, leg, debit_account_id, credit_account_id,"
     " amount_fen, occurred_at, posted_at, posted_on) SELECT community_id, legal_entity_id, kind, source_id, 1,"
     " debit_account_id, credit_account_id, amount_fen, occurred_at, posted_at, posted_on FROM entries"
     " WHERE kind = 'refunded'", {"L19", "L20"}),
    ("a refund goes to a wrong account",
     "UPDATE entries SET credit_account_id = (SELECT id FROM accounts WHERE kind = 'received') WHERE kind = 'refunded'",
     {"L20"}),
    ("a refund loses its attempts",
     "DELETE FROM refund_attempts WHERE state = 'succeeded'", {"L21"}),
    ("an attempt is closed under a refund that is under way",
     "UPDATE refund_attempts SET state = 'closed' WHERE state = 'accepted'", {"L21"}),
    ("nobody looks at what is stuck", "DELETE FROM discrepancies WHERE kind = 'refund_stuck'", {"L22"}),
    ("a surplus is kept and returned", "UPDATE payments SET surplus_of_payment_id ="
     " (SELECT payment_id FROM refunds WHERE state = 'processing') WHERE surplus_of_payment_id IS NOT NULL", {"L23"}),
    ("more goes back than came",
     "UPDATE entries SET amount_fen = 90000000 WHERE kind = 'refunded'", {"L19", "L20", "L24"}),
    ("a refund that is only asked for was posted",
     "UPDATE refunds SET state = 'asked' WHERE id IN (SELECT refund_id FROM refund_lines) AND state = 'refunded'",
     {"L18", "L20", "L21", "L32", "L34"}),
    ("what went back of a line is forgotten", "DELETE FROM allocations WHERE refund_id IS NOT NULL", {"L4", "L32"}),
    ("more goes back of a line than was paid on it",
     "UPDATE allocations SET amount_fen = 1 WHERE refund_id IS NULL AND bill_line_id IN"
     " (SELECT bill_line_id FROM refund_lines)", {"L3", "L4", "L33"}),
    ("a bill counts as credited what no note says", "UPDATE bills SET credited_fen = credited_fen + 1"
     " WHERE credited_fen > 0", {"L34"}),
    ("a credit note is lost", "DELETE FROM credit_notes", {"L34"}),
    ("a refund takes more than its lines say",
     "UPDATE refund_lines SET amount_fen = amount_fen - 1", {"L32", "L35"}),
    ("a refund of charges takes from a deposit", "UPDATE refunds SET kind = 'deposit' WHERE kind = 'bill'",
     {"L20", "L35"}),
    ("what is transferred was sent by WeChat", "UPDATE refunds SET method = 'bank' WHERE kind = 'bill'",
     {"L20", "L21"}),
    ("who paid is not told", "DELETE FROM messages WHERE kind = 'refunded';"
     " UPDATE entries SET posted_at = posted_at - interval '10 minutes'", {"L25"}),
]  # fmt: skip


@pytest.fixture
async def every_state(world: World, sandbox: SandboxControl, drain: Drain) -> None:
    """Surpluses of one debtor: refunded, processing, failed, kept, undecided."""
    surplus = await surplus_home(world, sandbox, drain, bills=2)
    await surplus.send_back()
    await surplus.decide("SUCCESS")
    await surplus.noticed()
    await sandbox.fault("refund_outcome", outcome="PROCESSING")
    for month in (1, 2, 3, 4):
        if month == 2:
            await sandbox.fault("error", operation="refund", status=403, code="USER_ACCOUNT_ABNORMAL", times=1)
        again: Surplus = await surplus.another(world, drain, date(2025, month, 1))
        if month < 3:
            await again.send_back()
        elif month == 3:
            await again.keep()
    charged = await world.bill(surplus.home.company, surplus.home.room, surplus.home.customer, month=date(2025, 6, 1))
    surplus.home.bills = [charged]
    paid = await paid_at(surplus.home, world, sandbox, drain)
    for becomes in ("open", "credited"):
        await paid.decided(await paid.under_way(parts=[paid.part(0, 1000)], bill_becomes=becomes))
    await drain()
    assert await payments.violations() == []
    assert await Payment.all().count() == 7


async def test_each_bites(every_state: None, owner: asyncpg.Connection) -> None:
    named = set().union(*(numbers for _, _, numbers in BROKEN))
    assert named >= {"L2", "L8", "L14", "L15", *(f"L{number}" for number in (*range(18, 26), *range(32, 36)))}
    for what, statement, numbers in BROKEN:
        transaction = owner.transaction()
        await transaction.start()
        for table in ("payments", "refunds", "refund_attempts", "entries", "discrepancies", "messages", "bills",
                      "refund_lines", "credit_notes", "allocations"):  # fmt: skip
            await owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
            for check in await owner.fetch(
                "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid = $1::regclass", table
            ):
                await owner.execute(f"ALTER TABLE {table} DROP CONSTRAINT {check['conname']}")
        assert "0" != (await owner.execute(statement)).rpartition(" ")[2], what
        found = {one.number for one in payments.INVARIANTS if await owner.fetch(one.sql)}
        await transaction.rollback()
        assert found >= numbers, (what, found)
