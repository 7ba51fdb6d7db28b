"""Callbacks lost, answers lost, time run out: everything ends in its right state without a person."""

import asyncio
import dataclasses
from datetime import datetime, timedelta

import httpx
import pytest

import payments
from kit import clock
from models.bill import Bill
from models.discrepancy import Discrepancy
from models.ledger import Entry
from models.payment import CloseReason, Payment, PaymentAttempt, PaymentState
from models.unit_of_work import unit_of_work
from payments import sweeping
from payments.gateways import wechat_pay
from payments.gateways.base import OutcomeUnknown
from payments.janitor import LIVE_S
from payments.merchant import gateway_of
from tests.conftest import Drain, SandboxControl
from tests.world import World


async def sweep_after(seconds: int) -> int:
    """Let so much time pass and sweep; how many attempts were looked at."""
    with clock.travel_to(clock.now() + timedelta(seconds=seconds)):
        return await payments.sweep()


@pytest.mark.row("paid, callback lost, late or out of order")
async def test_a_lost_callback_loses_nothing(world: World, sandbox: SandboxControl, drain: Drain, books) -> None:
    home = await world.home(bills=2)
    opened = (await home.open()).json()
    await sandbox.fault("lost")
    await sandbox.pay(opened)

    assert await sweep_after(6) == 1

    assert await drain() == ["payment_settled", "send_message"]
    assert (await Payment.get(id=opened["id"])).state is PaymentState.PAID
    assert [bill.state for bill in await Bill.all()] == ["paid", "paid"]
    assert await sweep_after(7200) == 0  # decided: nobody looks again


async def test_sweeps_at_once_do_the_work_once(world: World, sandbox: SandboxControl, books) -> None:
    home = await world.home(bills=6)
    for bill_id in home.bill_ids:
        person = await world.resident(home.company)
        await world.occupancy(home.room, await world.customer(home.company), resident=person.resident)
        assert (await home.open(person, [bill_id])).status_code == 201

    with clock.travel_to(clock.now() + timedelta(seconds=6)):
        looked = await asyncio.gather(*(payments.sweep() for _ in range(4)))

    assert sum(looked) == 6


async def test_one_sweep_works_more_than_one_batch(
    world: World, sandbox: SandboxControl, books, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = await world.home(bills=5)
    for bill_id in home.bill_ids:
        person = await world.resident(home.company)
        await world.occupancy(home.room, await world.customer(home.company), resident=person.resident)
        assert (await home.open(person, [bill_id])).status_code == 201
    monkeypatch.setattr(sweeping, "A_BATCH", 2)

    assert await sweep_after(6) == 5
    assert await sweep_after(6) == 0


@pytest.mark.row("nobody paid in time")
async def test_an_unpaid_payment_is_asked_about_by_the_steps_and_then_closed(
    world: World, sandbox: SandboxControl, books
) -> None:
    home = await world.home()
    await home.open()
    made = await PaymentAttempt.get()
    looks = []
    with clock.travel_to(clock.now()):
        for _ in range(40):
            attempt = await PaymentAttempt.get()
            if attempt.next_check_at is None:
                break
            looks.append(round((attempt.next_check_at - made.created_at).total_seconds()))
            clock.shift(attempt.next_check_at - clock.now() + timedelta(milliseconds=50))
            await payments.sweep()

    # Each look comes a moment after it is due, so what is between the steps drifts by a little; thirty minutes are
    # given, and after the close WeChat is asked twice more.
    expected = [5, 30, 60, 150, 180, 270, 300, 390, 480, 570, 600, *range(690, 1800, 90), 1800, 2100, 5400]
    assert len(looks) == len(expected), looks
    assert all(0 <= look - step <= 5 for look, step in zip(looks, expected, strict=True)), looks
    payment = await Payment.get()
    assert (payment.state, payment.close_reason) == ("closed", "expired")
    assert [order["trade_state"] for order in await sandbox.orders()] == ["CLOSED"]
    assert (await Bill.get()).state == "open"
    assert (await home.open()).status_code == 201


@pytest.mark.parametrize("paid_after_s", [4, 61, 240, 620, 1790])
async def test_whenever_it_is_paid_a_lost_callback_costs_less_than_two_minutes(
    world: World, sandbox: SandboxControl, books, paid_after_s: int
) -> None:
    """Each look of the sweep comes when it is due; the one that follows the payment settles it."""
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("lost")
    with clock.travel_to(clock.now()):
        opened_at = clock.now()
        await looked_until(opened_at + timedelta(seconds=paid_after_s))
        assert (await sandbox.pay(opened)).status_code == 200
        paid_at = clock.now()
        await looked_until(paid_at + timedelta(seconds=LIVE_S + 1))

    payment, entry = await Payment.get(), await Entry.get()
    assert (payment.state, payment.close_reason) == ("paid", None)
    assert entry.posted_at - paid_at <= timedelta(seconds=LIVE_S + 1)


async def looked_until(instant: datetime) -> None:
    """Let the clock run to ``instant``, with a sweep whenever one is due."""
    while True:
        due = await PaymentAttempt.filter(next_check_at__lte=instant).order_by("next_check_at").first()
        if due is None or due.next_check_at is None:
            break
        clock.shift(max(due.next_check_at - clock.now(), timedelta()))
        await payments.sweep()
    clock.shift(max(instant - clock.now(), timedelta()))


async def test_an_order_that_nobody_can_pay_yet_waits_by_the_steps_alone(
    world: World, sandbox: SandboxControl, books
) -> None:
    """Its prepay answer was lost: no phone holds a prepay id, so there is no hurry."""
    home = await world.home()
    await sandbox.fault("answer_lost", operation="prepay", how="500", times=3)
    assert (await home.open()).status_code == 503

    await sweep_after(61)

    attempt = await PaymentAttempt.get()
    assert attempt.next_check_at is not None
    assert 178 <= (attempt.next_check_at - attempt.created_at).total_seconds() <= 182


async def test_without_an_answer_it_is_asked_hourly_and_never_given_up(
    world: World, sandbox: SandboxControl, books
) -> None:
    """WeChat is away for more than a day: by the steps, every minute after the expiry, hourly from the third hour on,
    and on the second day no less. When it is back the money is found."""
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("lost")
    await sandbox.pay(opened)
    await sandbox.fault("error", operation="query", status=503, code="SERVICE_UNAVAILABLE")
    gaps: dict[str, set[int]] = {"live": set(), "soon": set(), "hourly": set()}
    with clock.travel_to(clock.now()):
        opened_at = clock.now()
        for age_s, kind in ((1500, "live"), (3000, "soon"), (4 * 3600, "hourly"), (23 * 3600, "hourly"),
                            (50 * 3600, "hourly")):  # fmt: skip
            clock.shift(opened_at + timedelta(seconds=age_s) - clock.now())
            for _ in range(2):
                attempt = await PaymentAttempt.get()
                assert attempt.state == "prepaid" and attempt.next_check_at is not None
                clock.shift(max(attempt.next_check_at - clock.now(), timedelta()))
                before = clock.now()
                assert await payments.sweep() == 1
                attempt = await PaymentAttempt.get()
                assert attempt.next_check_at is not None
                gaps[kind].add(round((attempt.next_check_at - before).total_seconds()))

        assert gaps["live"] <= {89, 90, 91} and gaps["soon"] <= {59, 60, 61} and gaps["hourly"] <= {3599, 3600, 3601}
        await sandbox.no_faults()
        clock.shift(timedelta(seconds=3601))
        assert await payments.sweep() == 1

    assert (await Payment.get()).state is PaymentState.PAID


@pytest.mark.row("… but it was paid in the last second, or while we closed it")
async def test_paid_in_the_last_second_is_settled_not_closed(world: World, sandbox: SandboxControl, books) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("lost")
    await sandbox.pay(opened)

    await sweep_after(31 * 60)

    payment = await Payment.get()
    assert (payment.state, payment.close_reason) == ("paid", None)


@pytest.mark.row("… but it was paid in the last second, or while we closed it")
async def test_paid_between_our_question_and_our_close(
    world: World, sandbox: SandboxControl, books, monkeypatch
) -> None:
    """WeChat answers "unpaid"; the resident pays; our close is told ORDERPAID: the payment is settled."""
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("lost")
    gateway = type(await gateway_of(home.company.merchant.id))
    true_close = gateway.close_order

    async def rival_first(self, out_trade_no: str) -> None:
        monkeypatch.setattr(gateway, "close_order", true_close)
        assert (await sandbox.pay(opened)).status_code == 200
        await true_close(self, out_trade_no)

    monkeypatch.setattr(gateway, "close_order", rival_first)
    state = await payments.close_payment((await Payment.get()).id, CloseReason.EXPIRED)

    assert state is PaymentState.PAID
    assert (await Payment.get()).close_reason is None
    assert await Entry.all().count() == 1


@pytest.mark.parametrize("how", ["500", "cut", "timeout"])
async def test_the_prepay_answer_is_lost_and_the_repeat_goes_on_with_the_same_order(
    world: World, sandbox: SandboxControl, books, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "timeout":  # the true patience is six seconds
        monkeypatch.setattr(wechat_pay, "_TIMEOUT", httpx.Timeout(0.3))
    home = await world.home()
    await sandbox.fault("answer_lost", operation="prepay", how=how, times=3)

    lost = await home.open(key="tap-1")
    assert (lost.status_code, lost.json()["code"]) == (503, "wechat_unavailable")
    assert lost.headers["Retry-After"] == "3"
    assert await Payment.all().count() == 1

    again = await home.open(key="tap-1")

    assert again.status_code == 201
    assert len(await sandbox.orders()) == 1 and await PaymentAttempt.all().count() == 1
    assert (await sandbox.pay(again.json())).status_code == 200


async def test_one_lost_prepay_answer_is_not_even_noticed(world: World, sandbox: SandboxControl, books) -> None:
    home = await world.home()
    await sandbox.fault("answer_lost", operation="prepay", how="500", times=2)

    assert (await home.open()).status_code == 201
    assert len(await sandbox.orders()) == 1


async def test_an_order_whose_answer_was_lost_for_good_is_closed_when_its_time_is_up(
    world: World, sandbox: SandboxControl, books
) -> None:
    home = await world.home()
    await sandbox.fault("answer_lost", operation="prepay", how="500", times=3)
    assert (await home.open()).status_code == 503

    await sweep_after(6)
    assert (await Payment.get()).state is PaymentState.OPEN  # WeChat knows it and nobody has paid: not failed
    await sweep_after(31 * 60)

    assert (await Payment.get()).state is PaymentState.CLOSED
    assert [order["trade_state"] for order in await sandbox.orders()] == ["CLOSED"]


async def test_an_order_that_wechat_never_heard_of_is_closed_when_its_time_is_up(
    world: World, sandbox: SandboxControl, books
) -> None:
    home = await world.home()
    await sandbox.fault("error", operation="prepay", status=500, code="SYSTEM_ERROR")
    assert (await home.open()).status_code == 503

    await sweep_after(6)
    assert (await Payment.get()).state is PaymentState.OPEN
    await sweep_after(31 * 60)

    assert (await Payment.get()).state is PaymentState.CLOSED
    assert await sandbox.orders() == []


async def test_while_wechat_is_away_nothing_is_decided(world: World, sandbox: SandboxControl, books) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("lost")
    await sandbox.pay(opened)
    await sandbox.fault("error", operation="query", status=503, code="SERVICE_UNAVAILABLE")
    await sandbox.fault("error", operation="close", status=503, code="SERVICE_UNAVAILABLE")

    for minutes in (1, 10, 35, 90):
        await sweep_after(minutes * 60)
        assert (await Payment.get()).state is PaymentState.OPEN
        assert (await PaymentAttempt.get()).next_check_at is not None

    await sandbox.no_faults()
    await sweep_after(120 * 60)
    assert (await Payment.get()).state is PaymentState.PAID


async def test_an_answer_with_a_bad_signature_is_no_answer(world: World, sandbox: SandboxControl, books) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("lost")
    await sandbox.pay(opened)
    await sandbox.fault("bad_signature", operation="query")

    await sweep_after(6)
    assert (await Payment.get()).state is PaymentState.OPEN

    await sandbox.no_faults()
    await sweep_after(120)
    assert (await Payment.get()).state is PaymentState.PAID


async def test_a_close_whose_answer_was_lost_is_closed_by_the_next_look(
    world: World, sandbox: SandboxControl, books
) -> None:
    home = await world.home()
    await home.open()
    await sandbox.fault("answer_lost", operation="close", how="500", times=1)

    await sweep_after(31 * 60)
    assert (await Payment.get()).state is PaymentState.OPEN
    await sweep_after(33 * 60)

    payment = await Payment.get()
    assert (payment.state, payment.close_reason) == ("closed", "expired")


async def test_the_gateway_refuses_to_be_called_inside_a_transaction(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    gateway = await gateway_of(home.company.merchant.id)

    @unit_of_work
    async def wrong() -> None:
        await gateway.ask("L20261123ABCDEF")

    with pytest.raises(RuntimeError, match="never called inside a transaction"):
        await wrong()


async def test_wechat_not_listening_at_all_is_an_unknown_outcome(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    payments.configure(payments.PaymentSettings("http://127.0.0.1:9", "http://127.0.0.1:8000", dev=True))
    gateway = await gateway_of(home.company.merchant.id)

    with pytest.raises(OutcomeUnknown):
        await gateway.ask("L20261123ABCDEF")
    answer = await home.open()

    assert (answer.status_code, answer.json()["code"]) == (503, "wechat_unavailable")
    assert (await Payment.get()).state is PaymentState.OPEN


def test_production_speaks_to_wechat_and_nobody_else() -> None:
    for base in ("http://127.0.0.1:8100", "https://api.mch.weixin.qq.com.evil.example", "http://api.mch.weixin.qq.com"):
        with pytest.raises(ValueError, match="allow-list"):
            payments.PaymentSettings(base, "https://linli.example")
    with pytest.raises(ValueError, match="https only"):
        payments.PaymentSettings("https://api.mch.weixin.qq.com", "http://linli.example")
    assert payments.PaymentSettings("https://api2.mch.weixin.qq.com", "https://linli.example").dev is False


async def test_not_there_is_no_proof_that_nobody_can_pay(world: World, sandbox: SandboxControl, books) -> None:
    """The phone holds a prepay id and has just paid; a replica that is behind says that the order does not exist."""
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("lost")
    await sandbox.pay(opened)
    await sandbox.fault("error", operation="close", status=404, code="ORDER_NOT_EXIST", times=1)

    cancelled = await home.owner.post(f"/api/v1/payments/{opened['id']}/cancel")

    assert (cancelled.status_code, cancelled.json()["code"]) == (503, "wechat_unavailable")
    assert (await Payment.get()).state is PaymentState.OPEN
    await sweep_after(3600)
    assert (await Payment.get()).state is PaymentState.PAID


async def test_an_order_that_stays_not_there_is_given_up_a_day_after_its_expiry(
    world: World, sandbox: SandboxControl, books
) -> None:
    home = await world.home()
    await home.open()
    await sandbox.fault("error", operation="close", status=404, code="ORDER_NOT_EXIST")
    await sandbox.fault("error", operation="query", status=404, code="ORDER_NOT_EXIST")

    await sweep_after(40 * 60)
    assert (await Payment.get()).state is PaymentState.OPEN
    await sweep_after(26 * 3600)

    payment = await Payment.get()
    assert (payment.state, payment.close_reason) == ("closed", "expired")


async def test_a_closed_order_is_asked_about_twice_more(world: World, sandbox: SandboxControl, books) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    await home.owner.post(f"/api/v1/payments/{opened['id']}/cancel")
    closed_at = (await Payment.get()).closed_at
    assert closed_at is not None
    looks = []
    with clock.travel_to(clock.now()):
        while (attempt := await PaymentAttempt.get()).next_check_at is not None and len(looks) < 9:
            looks.append(round((attempt.next_check_at - closed_at).total_seconds()))
            clock.shift(attempt.next_check_at - clock.now() + timedelta(milliseconds=50))
            await payments.sweep()

    assert looks == [300, 3600]


async def test_money_that_shows_after_a_close_is_found(world: World, sandbox: SandboxControl, owner, books) -> None:
    """We believe it closed, WeChat has the money, and no callback ever comes."""
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("lost")
    await sandbox.pay(opened)
    await owner.execute(
        "UPDATE payment_attempts SET state = 'closed', next_check_at = now() + interval '5 minutes';"
        "UPDATE payments SET state = 'closed', closed_at = now(), close_reason = 'cancelled';"
        "UPDATE payment_bills SET live = false"
    )

    await sweep_after(301)

    payment = await Payment.get(id=opened["id"])
    assert (payment.state, payment.close_reason) == ("paid", None)
    assert (await Bill.get()).state == "paid"


async def test_a_doubt_about_a_closed_order_is_asked_about_until_there_is_an_answer(
    world: World, sandbox: SandboxControl, drain: Drain, owner, books
) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("wrong_amount", amount_fen=1)
    await owner.execute(
        "UPDATE payment_attempts SET state = 'closed', next_check_at = NULL;"
        "UPDATE payments SET state = 'closed', closed_at = now() - interval '3 days', close_reason = 'cancelled';"
        "UPDATE payment_bills SET live = false"
    )
    paid = (await sandbox.pay(opened)).json()
    callback = await sandbox.called_back(paid["out_trade_no"])
    assert callback["attempts"][-1]["status"] == 204
    await sandbox.fault("error", operation="query", status=503, code="SERVICE_UNAVAILABLE")
    assert await drain() == ["check_attempt"]  # asked, and no answer came
    assert (await Payment.get()).state is PaymentState.CLOSED

    await sandbox.no_faults()
    await sweep_after(3601)

    assert (await Payment.get()).state is PaymentState.PAID
    assert [entry.amount_fen for entry in await Entry.all()] == [25068]


@pytest.mark.row("WeChat itself says another currency or merchant")
async def test_wechats_own_word_in_another_currency_frees_the_bill_and_calls_finance(
    world: World, sandbox: SandboxControl, books, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("lost")
    await sandbox.pay(opened)
    true = wechat_pay.paid_fact
    with monkeypatch.context() as changed:
        changed.setattr(wechat_pay, "paid_fact", lambda answer: dataclasses.replace(true(answer), currency="HKD"))
        await sweep_after(6)

    payment, attempt = await Payment.get(), await PaymentAttempt.get()
    assert (payment.state, attempt.state, attempt.received_fen) == ("suspended", "suspended", None)
    assert await Entry.all().count() == 0  # no fen of these books
    case = await Discrepancy.get()
    assert (case.kind, case.state, case.facts["mismatches"]) == ("suspense", "open", ["currency"])
    assert (await home.open()).status_code == 201


async def test_a_sweep_leaves_the_work_to_one_that_is_under_way(world: World, sandbox: SandboxControl, books) -> None:
    """A WeChat that hangs must not take every place of the worker."""
    home = await world.home()
    await home.open()
    await sandbox.fault("slow", operation="query", delay_ms=500, times=1)
    with clock.travel_to(clock.now() + timedelta(seconds=6)):
        first = asyncio.create_task(payments.sweep())
        await asyncio.sleep(0.1)
        assert await payments.sweep() == 0
        assert await first == 1
