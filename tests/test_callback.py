"""What WeChat calls: believed only when signed and when every fact agrees; applied once, however often it comes."""

import asyncio
from datetime import timedelta

import pytest

from kit import clock
from models.access import Role
from models.bill import Bill
from models.discrepancy import Discrepancy
from models.ledger import Allocation, Entry
from models.notification import Notification
from models.payment import Payment, PaymentAttempt, PaymentState
from tests.conftest import Drain, SandboxControl
from tests.world import Home, World


async def paid_home(world: World, sandbox: SandboxControl, bills: int = 1) -> tuple[Home, dict, str]:
    """A home whose owner has paid; nothing is known here until WeChat's callback comes."""
    home = await world.home(bills=bills)
    opened = (await home.open()).json()
    paid = await sandbox.pay(opened)
    return home, opened, paid.json()["out_trade_no"]


async def nothing_moved() -> None:
    assert await Entry.all().count() == 0
    assert await Allocation.all().count() == 0
    assert [payment.state for payment in await Payment.all()] in ([], [PaymentState.OPEN])


@pytest.mark.row("paid, callback came")
async def test_the_same_callback_a_hundred_times_in_parallel_settles_once(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    _home, _opened, out_trade_no = await paid_home(world, sandbox, bills=3)
    callback = await sandbox.called_back(out_trade_no)

    answer = await sandbox.post(f"/sandbox/callbacks/{callback['id']}/resend", {"times": 100, "parallel": True})

    assert answer.json()["statuses"] == [204] * 100
    assert await Entry.all().count() == 1
    assert [entry.amount_fen for entry in await Entry.all()] == [25068 + 25069 + 25070]
    assert await Allocation.all().count() == 3
    (kept,) = await Notification.all()
    assert (kept.outcome, kept.deliveries) == ("applied", 101)
    assert await drain() == ["payment_settled", "send_message"]


async def test_a_hundred_first_deliveries_in_parallel_settle_once(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    """None of them is a repeat of one that has been worked: they all race for the same order."""
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("duplicate", count=100)

    paid = (await sandbox.pay(opened)).json()
    await sandbox.called_back(paid["out_trade_no"], attempts=100)

    assert await Entry.all().count() == 1
    assert await drain() == ["payment_settled", "send_message"]
    assert (await Bill.get(id=home.bill_ids[0])).paid_fen == 25068


async def test_the_callback_comes_before_the_prepay_answer(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    home = await world.home()
    await sandbox.fault("before_answer")

    opened = await home.open()

    assert opened.status_code == 201
    async with asyncio.timeout(5):
        while (await home.owner.get(f"/api/v1/payments/{opened.json()['id']}")).json()["status"] != "paid":
            await asyncio.sleep(0.05)
    assert await Entry.all().count() == 1


async def test_a_probe_is_refused_and_the_true_one_applied(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("signtest", times=1)
    paid = (await sandbox.pay(opened)).json()
    first = await sandbox.called_back(paid["out_trade_no"])
    assert [attempt["status"] for attempt in first["attempts"]] == [401]
    await nothing_moved()
    assert await Notification.all().count() == 0  # nothing of an unverified body is kept

    await sandbox.post("/sandbox/clock", {"speed": 1000})
    second = await sandbox.called_back(paid["out_trade_no"], attempts=2)

    assert [attempt["status"] for attempt in second["attempts"]] == [401, 204]
    assert (await Payment.get(id=opened["id"])).state is PaymentState.PAID


@pytest.mark.row("paid, callback lost, late or out of order")
async def test_a_late_callback_is_applied(world: World, sandbox: SandboxControl, drain: Drain, books) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("late", delay_s=600)
    paid = (await sandbox.pay(opened)).json()
    await nothing_moved()

    await sandbox.post("/sandbox/clock", {"speed": 10_000})
    await sandbox.called_back(paid["out_trade_no"])

    assert (await Payment.get(id=opened["id"])).state is PaymentState.PAID


@pytest.mark.row("paid, callback says another amount, merchant, app or currency")
@pytest.mark.parametrize(
    ("fault", "params", "mismatch"),
    [
        ("wrong_amount", {"amount_fen": 1}, "amount"),
        ("wrong_mchid", {}, "mchid"),
        ("wrong_appid", {}, "appid"),
        ("wrong_currency", {}, "currency"),
    ],
)
async def test_a_signed_callback_with_wrong_facts_is_never_applied(
    world: World, sandbox: SandboxControl, drain: Drain, books, fault: str, params: dict, mismatch: str
) -> None:
    """It is quarantined (204: no use in repeating it), WeChat is asked, and WeChat's own answer is applied."""
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault(fault, **params)

    paid = (await sandbox.pay(opened)).json()
    callback = await sandbox.called_back(paid["out_trade_no"])

    assert callback["attempts"][0]["status"] == 204
    await nothing_moved()
    (kept,) = await Notification.all()
    assert (kept.outcome, kept.detail) == ("quarantined", mismatch)
    (case,) = await Discrepancy.all()
    assert (case.kind, case.state, case.facts["mismatches"]) == ("doubtful_notice", "open", [mismatch])

    assert await drain() == ["check_attempt", "payment_settled", "send_message"]
    payment = await Payment.get(id=opened["id"])
    assert (payment.state, payment.surplus_fen) == ("paid", 0)
    assert [entry.amount_fen for entry in await Entry.all()] == [25068]
    (case,) = await Discrepancy.all()
    assert (case.state, case.resolution) == ("resolved", "query_confirmed_payment")


@pytest.mark.row("WeChat itself says another amount or app")
async def test_money_that_came_in_another_amount_goes_to_suspense(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    home = await world.home()
    finance = await world.staff(home.company, Role.FINANCE, home.community)
    opened = (await home.open()).json()
    await sandbox.fault("wrong_amount_order", amount_fen=99)

    paid = (await sandbox.pay(opened)).json()
    await sandbox.called_back(paid["out_trade_no"])
    await nothing_moved()
    assert await drain() == ["check_attempt"]

    assert (await Payment.get(id=opened["id"])).state is PaymentState.SUSPENDED
    bill = await Bill.get(id=home.bill_ids[0])
    assert (bill.state, bill.paid_fen) == ("open", 0)
    summary = (await finance.get(f"/api/v1/staff/communities/{home.community.id}/summary")).json()
    assert {one["account"]: one["credit_fen"] - one["debit_fen"] for one in summary["balances"]} == {
        "wechat_clearing": -99,
        "suspense": 99,
    }
    assert summary["debit_fen"] == summary["credit_fen"] == 99
    cases = (await finance.get("/api/v1/staff/discrepancies")).json()["items"]
    assert [(one["kind"], one["status"], one["amount_fen"]) for one in cases] == [
        ("suspense", "open", 99),
        ("doubtful_notice", "resolved", 99),
    ]
    assert (await home.open()).status_code == 201  # the bill can be paid again


async def test_an_unknown_order_is_told_again_and_applied_once_it_is_known(
    world: World, sandbox: SandboxControl, drain: Drain, owner, books
) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    true_number = (await PaymentAttempt.get()).out_trade_no
    await owner.execute("UPDATE payment_attempts SET out_trade_no = 'Lsomewhere-else'")
    paid = (await sandbox.pay(opened)).json()
    first = await sandbox.called_back(paid["out_trade_no"])
    assert first["attempts"][0]["status"] == 503
    await nothing_moved()
    assert (await Notification.get()).outcome == "unknown_order"

    await owner.execute("UPDATE payment_attempts SET out_trade_no = $1", true_number)
    await sandbox.post("/sandbox/clock", {"speed": 1000})
    await sandbox.called_back(paid["out_trade_no"], attempts=2)

    assert (await Notification.get()).outcome == "applied"
    assert (await Payment.get(id=opened["id"])).state is PaymentState.PAID


async def test_a_callback_signed_by_the_certificate_is_believed_too(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    """While a merchant changes over, both kinds of key sign."""
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("certificate_signed")

    paid = (await sandbox.pay(opened)).json()
    callback = await sandbox.called_back(paid["out_trade_no"])

    assert [attempt["status"] for attempt in callback["attempts"]] == [204]
    assert (await Payment.get(id=opened["id"])).state is PaymentState.PAID


async def test_an_unknown_serial_is_refused(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("unknown_serial")

    paid = (await sandbox.pay(opened)).json()
    callback = await sandbox.called_back(paid["out_trade_no"])

    assert callback["attempts"][0]["status"] == 401
    await nothing_moved()
    assert opened["status"] == "open"


@pytest.mark.row("paid after we closed it")
async def test_a_success_after_we_closed_is_still_applied(
    world: World, sandbox: SandboxControl, drain: Drain, owner, books
) -> None:
    """WeChat's word that money came wins over our belief that it did not."""
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("late", delay_s=600)
    paid = (await sandbox.pay(opened)).json()
    await owner.execute(
        "UPDATE payment_attempts SET state = 'closed', next_check_at = NULL;"
        "UPDATE payments SET state = 'closed', closed_at = now(), close_reason = 'expired';"
        "UPDATE payment_bills SET live = false"
    )

    await sandbox.post("/sandbox/clock", {"speed": 10_000})
    await sandbox.called_back(paid["out_trade_no"])

    payment = await Payment.get(id=opened["id"])
    assert (payment.state, payment.close_reason, payment.surplus_fen) == ("paid", None, 0)


async def test_time_of_the_channel_and_of_posting_are_both_kept(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    home, opened, out_trade_no = await paid_home(world, sandbox)
    await sandbox.called_back(out_trade_no)

    entry = await Entry.get()
    payment = await Payment.get(id=opened["id"])
    assert entry.occurred_at == payment.paid_at
    assert entry.posted_on == clock.business_date(entry.posted_at)
    assert timedelta() <= entry.posted_at - entry.occurred_at < timedelta(seconds=30)
    assert home.bills[0].id is not None
