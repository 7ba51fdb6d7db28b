"""Paid at once: money in hand is recorded whatever became of its bills, money that is held is never overdrawn."""

import asyncio
from datetime import date, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import payments
from kit import clock
from kit.errors import Refusal
from models.access import Role
from models.bill import Bill, BillKind
from models.discrepancy import Discrepancy
from models.ledger import Account, Allocation, Entry
from models.organization import LegalEntity
from models.payment import Channel, Payment, PaymentAttempt
from models.receipt import Receipt
from payments import at_once, held
from payments.ledger import DEBITED
from payments.merchant import gateway_of
from services.receipt_paper import _CHANNELS
from tests.conftest import Drain, SandboxControl
from tests.surplus_home import balances
from tests.till import Till, till
from tests.world import World


def test_every_channel_has_its_account_and_its_words() -> None:
    assert set(DEBITED) == set(Channel)
    assert set(_CHANNELS) == {str(channel) for channel in Channel}


@pytest.mark.parametrize(
    ("channel", "account", "reference", "words"),
    [
        (Channel.CASH, "cash_on_hand", "", "现金"),
        (Channel.POS, "pos_clearing", "000123", "POS 刷卡"),
        (Channel.BANK_TRANSFER, "bank", "20261102-7788", "银行转账"),
    ],
)
async def test_money_in_hand_pays_at_once_and_has_its_receipt(
    world: World, drain: Drain, books, channel: Channel, account: str, reference: str, words: str
) -> None:
    counter = await till(world, bills=2)
    came_at = clock.now() - timedelta(minutes=3)
    first, second = counter.home.bills

    payment = await counter.take(channel, (second, 69), (first, 25068), occurred_at=came_at, reference=reference)

    assert (payment.state, payment.amount_fen, payment.surplus_fen, payment.paid_at) == ("paid", 25137, 0, came_at)
    assert (payment.payer_staff_id, payment.merchant_account_id) == (counter.clerk.staff.id, None)
    assert await balances() == {account: 25137, "received": -25137}
    debited = await Account.get(kind=account)
    assert debited.holder_id == (counter.shift if channel is Channel.CASH else None)
    assert [(one.state, one.paid_fen) for one in await Bill.all().order_by("id")] == [
        ("paid", 25068),
        ("part_paid", 69),
    ]
    assert await drain() == ["payment_settled"]
    receipt = await Receipt.get(payment_id=payment.id)
    attempt = await PaymentAttempt.get(payment_id=payment.id)
    assert receipt.content["channel"] == channel
    assert receipt.content["transaction_id"] == (reference or attempt.out_trade_no)
    assert sum(item["amount_fen"] for item in receipt.content["items"]) == 25137
    assert _CHANNELS[receipt.content["channel"]] == words
    # The debtor sees it among their own, though somebody else took the money.
    (shown,) = (await counter.home.owner.get("/api/v1/payments")).json()["items"]
    assert (shown["id"], shown["channel"], shown["status"]) == (str(payment.id), str(channel), "paid")


async def test_money_in_hand_is_recorded_whatever_became_of_its_bills(world: World, drain: Drain, books) -> None:
    counter = await till(world, bills=3)
    finance = await world.staff(counter.home.company, Role.FINANCE, counter.home.community)
    voided, paid, due = counter.home.bills
    await finance.post(f"/api/v1/staff/bills/{voided.id}/void", {"reason": "算错了"})
    await counter.take(Channel.POS, (paid, paid.amount_fen))

    payment = await counter.take(Channel.CASH, (voided, 25068), (paid, 25069), (due, 25070 + 30))

    assert payment.surplus_fen == 25068 + 25069 + 30
    assert (await Bill.get(id=due.id)).state == "paid"
    case = await Discrepancy.get(payment_id=payment.id)
    assert (case.kind, case.state, case.amount_fen) == ("surplus", "open", payment.surplus_fen)
    # WeChat never had it, so a person hands it back; until then it can be thought over, and stay.
    path = f"/api/v1/staff/discrepancies/{case.id}"
    back = await finance.post(f"{path}/return", {"reason": "多收"})
    assert (back.status_code, back.json()["status"], back.json()["method"]) == (201, "approved", "cash")
    cancel = await finance.post(f"/api/v1/staff/refunds/{back.json()['id']}/cancel", {"reason": "业主要留着"})
    assert (cancel.status_code, cancel.json()["status"]) == (200, "cancelled")
    assert (await Payment.get(id=payment.id)).surplus_fate is None
    kept = await finance.post(f"{path}/keep", {"bill_ids": []})
    assert kept.status_code == 201
    assert await balances() == {"pos_clearing": 25069, "cash_on_hand": 75237, "received": -50139, "prepaid": -50167}
    await drain()


async def test_what_is_held_pays_what_is_owed_and_nothing_else(world: World, drain: Drain, books) -> None:
    counter = await till(world)
    home = counter.home
    await counter.top_up(20000)
    await counter.top_up(5000, BillKind.DEPOSIT)
    bill = home.bills[0]
    tenant = await world.customer(home.company, "租客丙")
    other = await LegalEntity.create(organization_id=home.company.id, name="装修公司")
    item = await world.fee_item(home.company, home.community, "装修费", legal_entity_id=other.id)
    of_tenant = await world.bill(home.company, home.room, tenant, 100, month=date(2026, 3, 1))
    of_entity = await world.bill(home.company, home.room, home.customer, 100, month=date(2026, 4, 1), item=item)
    another = await world.bill(
        home.company, home.room, home.customer, 70, month=date(2026, 5, 1), kind=BillKind.DEPOSIT
    )
    draft = await world.bill(home.company, home.room, home.customer, 100, month=date(2026, 6, 1), draft=True)
    paid = await world.bill(home.company, home.room, home.customer, 100, month=date(2026, 7, 1))
    await counter.take(Channel.CASH, (paid, 100))
    before = (await balances(), await Payment.all().count(), await Allocation.all().count())

    for channel, portions, code in (
        (Channel.PREPAID, [(bill, 20001)], "not_enough_held"),
        (Channel.DEPOSIT, [(bill, 5001)], "not_enough_held"),
        (Channel.PREPAID, [(of_entity, 100)], "not_enough_held"),  # nothing is held for this legal entity
        (Channel.PREPAID, [(of_tenant, 100)], "bill_of_another"),
        (Channel.PREPAID, [(another, 70)], "bill_is_no_charge"),
        (Channel.DEPOSIT, [(another, 70)], "bill_is_no_charge"),
        (Channel.PREPAID, [(paid, 100)], "bill_already_paid"),
        (Channel.PREPAID, [(bill, 25069)], "less_is_owed"),
        (Channel.PREPAID, [(draft, 100)], "not_found"),
        (Channel.CASH, [(draft, 100)], "not_found"),
        (Channel.CASH, [(bill, 100), (of_tenant, 100)], "bills_need_separate_payments"),
        (Channel.CASH, [(bill, 100), (of_entity, 100)], "bills_need_separate_payments"),
        (Channel.CASH, [(bill, 10**13), (another, 1)], "amount_too_large"),
    ):
        with pytest.raises(Refusal) as refused:
            await counter.take(channel, *portions)
        assert refused.value.code == code, (channel, code)
    assert (await balances(), await Payment.all().count(), await Allocation.all().count()) == before

    await counter.take(Channel.PREPAID, (bill, 20000))
    await counter.take(Channel.DEPOSIT, (bill, 5000))
    assert await balances() == {"pos_clearing": 25000, "cash_on_hand": 100, "received": -25100}
    await drain()


@pytest.fixture
async def twice(world: World) -> Till:
    """300.00 is held, and two bills of 250.68 and 250.69 want to be paid from it."""
    counter = await till(world, bills=2)
    await counter.top_up(30000)
    return counter


async def both(counter: Till) -> list[Any]:
    first, second = counter.home.bills
    return await asyncio.gather(
        counter.take(Channel.PREPAID, (first, 25068)),
        counter.take(Channel.PREPAID, (second, 25069)),
        return_exceptions=True,
    )


async def test_two_at_once_never_overdraw(twice: Till, books) -> None:
    answers = await both(twice)

    assert sorted(type(one).__name__ for one in answers) == ["NotEnoughHeld", "Payment"]
    assert (await balances())["prepaid"] in (25068 - 30000, 25069 - 30000)


_UNLOCKED = "SELECT id FROM accounts WHERE kind = $1 AND legal_entity_id = $2 AND community_id = $3 AND holder_id = $4"


async def unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look without its lock, and time for the other to look as well."""
    meeting = asyncio.Barrier(2)
    original = held.held_tx

    async def look(*of: Any) -> int:
        found = await original(*of)
        await meeting.wait()
        return found

    monkeypatch.setattr(held, "_LOCK", _UNLOCKED)
    monkeypatch.setattr(at_once, "held_tx", look)


async def test_without_the_lock_the_database_refuses_the_second(
    twice: Till, books, monkeypatch: pytest.MonkeyPatch
) -> None:
    await unlocked(monkeypatch)

    answers = await both(twice)

    failed = [one for one in answers if isinstance(one, Exception)]
    assert len(failed) == 1 and "overdrawn" in str(failed[0]), answers
    assert await Payment.all().count() == 2


async def test_without_both_guards_it_would_be_overdrawn(
    twice: Till, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control."""
    await owner.execute("DROP TRIGGER held_is_not_overdrawn ON entries")
    await unlocked(monkeypatch)

    assert not [one for one in await both(twice) if isinstance(one, Exception)]

    assert (await balances())["prepaid"] == 25068 + 25069 - 30000 > 0
    assert {one.number for one in await payments.violations()} == {"L26"}


@pytest.mark.parametrize("counter_first", [True, False])
async def test_counter_and_phone_pay_one_bill_at_the_same_moment(
    world: World, sandbox: SandboxControl, drain: Drain, owner: asyncpg.Connection, books, counter_first: bool
) -> None:
    """Both wait for the bill, in this order, and are let go together: the second is surplus, and decided."""
    counter = await till(world)
    finance = await world.staff(counter.home.company, Role.FINANCE, counter.home.community)
    (bill,) = counter.home.bills
    opened = (await counter.home.open()).json()
    await sandbox.fault("lost")
    await sandbox.pay(opened)
    phone, attempt = await Payment.get(), await PaymentAttempt.get()
    account_id = attempt.wechat_account_id
    answer = await (await gateway_of(account_id)).ask(attempt.out_trade_no)
    assert answer.paid is not None
    works = [
        lambda: counter.take(Channel.CASH, (bill, bill.amount_fen)),
        lambda: payments.settle(account_id, answer.paid, asked=True),
    ]
    async with owner.transaction():
        await owner.execute("SELECT FROM bills FOR UPDATE")
        tasks = []
        for work in works if counter_first else reversed(works):
            tasks.append(asyncio.create_task(work()))
            await asyncio.sleep(0.2)
        assert not any(task.done() for task in tasks)
    await asyncio.gather(*tasks)

    cash = await Payment.get(channel="cash")
    await phone.refresh_from_db()
    late = phone if counter_first else cash
    assert (cash.state, phone.state) == ("paid", "paid")
    assert (late.surplus_fen, cash.surplus_fen + phone.surplus_fen) == (25068, 25068)
    assert await balances() == {"wechat_clearing": 25068, "cash_on_hand": 25068, "received": -25068, "surplus": -25068}
    (case,) = await Discrepancy.all()
    assert (case.payment_id, case.state) == (late.id, "open")
    decided = await finance.post(f"/api/v1/staff/discrepancies/{case.id}/keep", {"bill_ids": []})
    assert decided.status_code == 201
    assert (await balances())["prepaid"] == -25068
    await drain()


async def test_what_a_phone_had_opened_is_closed_afterwards(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    counter = await till(world)
    opened = (await counter.home.open()).json()

    await counter.take(Channel.CASH, (counter.home.bills[0], 25068))
    await drain()

    shown = (await counter.home.owner.get(f"/api/v1/payments/{opened['id']}")).json()
    assert (shown["status"], shown["close_reason"]) == ("closed", "bill_changed")
    assert (await sandbox.pay(opened)).status_code == 409


DEBTS = st.lists(st.integers(1, 40_000), min_size=1, max_size=4)
TENDERS = st.lists(
    st.tuples(
        st.sampled_from([Channel.CASH, Channel.POS, Channel.BANK_TRANSFER, Channel.PREPAID]),
        st.dictionaries(st.integers(0, 3), st.integers(1, 60_000), min_size=1, max_size=4),
    ),
    max_size=6,
)


async def test_no_portions_lose_or_make_a_fen(world: World, books) -> None:
    counter = await till(world, bills=0)
    loop, months = asyncio.get_running_loop(), iter(range(10_000))
    how = settings(
        max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),
    )  # fmt: skip

    async def play(debts: list[int], held_fen: int, tenders: list[tuple[Channel, dict[int, int]]]) -> None:
        home = counter.home
        customer = await world.customer(home.company, "业主")
        home.customer = customer
        n = next(months)
        month = date(2000 + n // 12, 1 + n % 12, 1)
        bills = [
            await world.bill(home.company, home.room, customer, fen, month=month, item=await item_of(number))
            for number, fen in enumerate(debts)
        ]
        if held_fen:
            await counter.top_up(held_fen, month=month)
        owed, surplus, came = list(debts), 0, 0
        for channel, chosen in tenders:
            portions = {number: fen for number, fen in chosen.items() if number < len(bills)}
            if not portions:
                continue
            fits = all(fen <= owed[number] for number, fen in portions.items()) and sum(portions.values()) <= held_fen
            try:
                await counter.take(channel, *((bills[number], fen) for number, fen in portions.items()))
            except Refusal:
                assert channel is Channel.PREPAID and not fits
                continue
            assert channel is not Channel.PREPAID or fits
            for number, fen in portions.items():
                part = min(fen, owed[number])
                owed[number] -= part
                surplus += fen - part
            held_fen -= sum(portions.values()) if channel is Channel.PREPAID else 0
            came += sum(portions.values()) if channel is not Channel.PREPAID else 0
        assert [
            one.amount_fen - one.paid_fen for one in await Bill.filter(id__in=[b.id for b in bills]).order_by("id")
        ] == owed
        holding = {one.kind: one.id for one in await Account.filter(holder_id=customer.id)}
        for kind, fen in (("prepaid", held_fen), ("surplus", surplus)):
            credited = sum(one.amount_fen for one in await Entry.filter(credit_account_id=holding.get(kind)))
            debited = sum(one.amount_fen for one in await Entry.filter(debit_account_id=holding.get(kind)))
            assert credited - debited == fen, kind
        assert sum(one.surplus_fen for one in await Payment.filter(customer_id=customer.id)) == surplus <= came

    async def item_of(number: int) -> Any:
        return await world.fee_item(counter.home.company, counter.home.community, f"费用{number}")

    @how
    @given(DEBTS, st.integers(0, 50_000), TENDERS)
    def run(debts: list[int], held_fen: int, tenders: list[tuple[Channel, dict[int, int]]]) -> None:
        asyncio.run_coroutine_threadsafe(play(debts, held_fen, tenders), loop).result(60)

    await asyncio.to_thread(run)


async def test_the_invariants_bite(world: World, owner: asyncpg.Connection, drain: Drain, books) -> None:
    counter = await till(world)
    await counter.top_up(5000)
    await counter.take(Channel.CASH, (counter.home.bills[0], 68))
    await drain()
    for statement, number in (
        ("UPDATE entries SET debit_account_id = (SELECT id FROM accounts WHERE kind = 'pos_clearing')", "L2"),
        ("UPDATE entries e SET debit_account_id = credit_account_id, credit_account_id = debit_account_id", "L26"),
        ("UPDATE payment_attempts SET paid_at = paid_at + interval '1 second'", "L27"),
    ):
        transaction = owner.transaction()
        await transaction.start()
        for table in ("entries", "payment_attempts"):
            await owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        await owner.execute(statement)
        found = {one.number for one in payments.INVARIANTS if await owner.fetch(one.sql)}
        await transaction.rollback()
        assert number in found, statement
