"""Where everything ends: each row of the table in docs/payments.md has its test; the races among them are here."""

import ast
import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import payments
from kit import clock
from models.bill import Bill
from models.discrepancy import Discrepancy
from models.ledger import Entry
from models.merchant_account import MerchantAccount
from models.occupancy import OccupancyKind
from models.payment import CloseReason, Payment, PaymentAttempt, PaymentState
from payments import janitor
from payments.merchant import gateway_of
from tests.conftest import Drain, SandboxControl
from tests.world import World

ROOT = Path(__file__).parent.parent


def rows_of_the_table() -> list[str]:
    text = (ROOT / "docs" / "payments.md").read_text()
    lines = text.partition("## Where everything ends")[2].partition("## ")[0].splitlines()
    return [line.split("|")[1].strip() for line in lines if line.startswith("| ")][2:]


def rows_that_tests_show() -> set[str]:
    """The words of every ``@pytest.mark.row("…")`` above a test."""
    shown = set()
    for path in [*(ROOT / "tests").glob("test_*.py"), *(ROOT / "tests" / "slow").glob("test_*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and node.name.startswith("test_"):
                shown |= {call.args[0].value for call in node.decorator_list  # type: ignore[attr-defined]
                          if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.row"}  # fmt: skip
    return shown


def test_every_row_of_the_table_has_its_test_and_every_test_its_row() -> None:
    rows = rows_of_the_table()

    assert len(rows) > 15 and len(set(rows)) == len(rows)
    assert set(rows) == rows_that_tests_show()


async def two_payments_of_one_bill(
    world: World, sandbox: SandboxControl, owner: asyncpg.Connection
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first was paid and believed closed; the family opened a second one, which is paid too. No callback came."""
    home = await world.home()
    family = await world.resident(home.company)
    member = await world.customer(home.company, "家属乙")
    await world.occupancy(home.room, member, OccupancyKind.FAMILY, resident=family.resident)
    await sandbox.fault("lost")
    first = (await home.open()).json()
    assert (await sandbox.pay(first)).status_code == 200
    await owner.execute(
        "UPDATE payment_attempts SET state = 'closed', next_check_at = now() + interval '5 minutes';"
        "UPDATE payments SET state = 'closed', closed_at = now(), close_reason = 'taken_over';"
        "UPDATE payment_bills SET live = false"
    )
    second = (await home.open(family)).json()
    return first, second


@pytest.mark.row("… and its bills were paid by another payment meanwhile")
async def test_of_two_payments_of_one_bill_the_second_becomes_surplus(
    world: World, sandbox: SandboxControl, drain: Drain, owner, books
) -> None:
    first, second = await two_payments_of_one_bill(world, sandbox, owner)
    assert (await sandbox.pay(second)).status_code == 200

    with clock.travel_to(clock.now() + timedelta(seconds=6)):
        await payments.sweep()
    with clock.travel_to(clock.now() + timedelta(seconds=301)):
        await payments.sweep()
    await drain()

    states = {str(one.id): (one.state, one.surplus_fen) for one in await Payment.all()}
    assert states == {second["id"]: ("paid", 0), first["id"]: ("paid", 25068)}
    bill, case = await Bill.get(), await Discrepancy.get()
    assert (bill.state, bill.paid_fen) == ("paid", 25068)
    assert (case.kind, case.state, str(case.payment_id), case.amount_fen) == ("surplus", "open", first["id"], 25068)
    assert sorted((entry.kind, entry.amount_fen) for entry in await Entry.all()) == [
        ("payment", 25068), ("surplus", 25068),
    ]  # fmt: skip


@pytest.mark.row("a bill was voided or paid otherwise meanwhile")
async def test_a_bill_paid_otherwise_closes_the_payment_that_is_under_way(
    world: World, sandbox: SandboxControl, drain: Drain, owner, books
) -> None:
    """The money of the first, believed closed, shows while the second is still open and unpaid."""
    first, second = await two_payments_of_one_bill(world, sandbox, owner)
    attempt = await PaymentAttempt.get(payment_id=first["id"])

    await payments.check_attempt(attempt.id)
    await drain()

    other = await Payment.get(id=second["id"])
    assert (other.state, other.close_reason) == ("closed", "bill_changed")
    assert (await Payment.get(id=first["id"])).state is PaymentState.PAID
    assert (await sandbox.pay(second)).status_code == 409  # closed at WeChat too
    assert await Entry.all().count() == 1


@pytest.mark.row("the merchant account was switched off")
async def test_a_merchant_switched_off_opens_nothing_new_and_settles_what_was_opened(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    home = await world.home(bills=2)
    opened = (await home.open(bill_ids=home.bill_ids[:1])).json()
    await MerchantAccount.filter(id=home.company.merchant.id).update(active=False)

    refused = await home.open(bill_ids=home.bill_ids[1:])
    paid = (await sandbox.pay(opened)).json()
    await sandbox.called_back(paid["out_trade_no"])

    assert (refused.status_code, refused.json()["code"]) == (409, "bill_not_payable_online")
    assert [(one.state, str(one.id)) for one in await Payment.all()] == [("paid", opened["id"])]


@pytest.mark.row("the callback and our close are worked at the same moment")
@pytest.mark.parametrize("close_first", [True, False])
async def test_whichever_of_callback_and_close_commits_first_the_money_counts(
    world: World, sandbox: SandboxControl, owner, books, close_first: bool
) -> None:
    """Both wait for the payment's row, in this order, and are let go together."""
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("lost")
    await sandbox.pay(opened)
    payment, attempt = await Payment.get(), await PaymentAttempt.get()
    answer = await (await gateway_of(payment.merchant_account_id)).ask(attempt.out_trade_no)
    assert answer.paid is not None

    async with owner.transaction():
        await owner.execute("SELECT FROM payments FOR UPDATE")
        works = [
            lambda: janitor._commit_closed(payment.id, CloseReason.EXPIRED),
            lambda: payments.settle(payment.merchant_account_id, answer.paid, asked=False),
        ]
        tasks = []
        for work in works if close_first else reversed(works):
            tasks.append(asyncio.create_task(work()))
            await asyncio.sleep(0.2)
        assert not any(task.done() for task in tasks)
    await asyncio.gather(*tasks)

    payment = await Payment.get()
    assert (payment.state, payment.close_reason, payment.surplus_fen) == ("paid", None, 0)
    assert [entry.amount_fen for entry in await Entry.all()] == [25068]


async def test_without_the_look_under_the_lock_the_close_would_overrule_the_money(
    world: World, sandbox: SandboxControl, owner, books
) -> None:
    """The negative control: a close that does not look again what became of the payment. The database refuses it."""
    home = await world.home()
    paid = (await sandbox.pay((await home.open()).json())).json()
    await sandbox.called_back(paid["out_trade_no"])

    with pytest.raises(asyncpg.PostgresError):
        await owner.execute("UPDATE payments SET state = 'closed', closed_at = now(), close_reason = 'expired'")

    assert (await Payment.get()).state is PaymentState.PAID
