"""Surplus that stays: it pays bills of the same debtor through the same settle, and what is left is prepaid."""

import asyncio
from datetime import date

import pytest

import payments
from models.bill import Bill
from models.ledger import Allocation, Entry
from models.message import Message
from models.organization import LegalEntity
from models.payment import Payment, PaymentAttempt
from models.receipt import Receipt
from models.refund import Refund
from tests.conftest import Drain, SandboxControl
from tests.surplus_home import Surplus, balances, surplus_home
from tests.world import World, unknown_id


@pytest.fixture
async def surplus(world: World, sandbox: SandboxControl, drain: Drain) -> Surplus:
    """A surplus of 250.68, about which nothing is decided."""
    return await surplus_home(world, sandbox, drain)


async def nothing_moved(surplus: Surplus) -> None:
    assert (await Payment.get(id=surplus.payment_id)).surplus_fate is None
    assert await balances() == {"wechat_clearing": 25068, "surplus": -25068}
    assert await Payment.all().count() == 1 and await Refund.all().count() == 0


async def test_kept_without_bills_it_is_the_debtors_prepaid_balance(surplus: Surplus, drain: Drain, books) -> None:
    answer = await surplus.keep()

    assert answer.status_code == 201
    kept = answer.json()
    assert (kept["status"], kept["channel"], kept["amount_fen"]) == ("paid", "surplus", 25068)
    assert await balances() == {"wechat_clearing": 25068, "prepaid": -25068}
    bill = await Bill.get(id=kept["bill_ids"][0])
    assert (bill.kind, bill.state, bill.title, str(bill.subject_id)) == (
        "prepaid",
        "paid",
        "溢收款转预存",
        surplus.case_id,
    )
    assert await drain() == ["payment_settled", "send_message"]
    shown = await surplus.shown()
    assert (shown["surplus_fate"], shown["notice"]) == ("kept", "多付的250.68元已留存，用于抵扣账单或转为预存款。")
    message = await Message.get(kind="surplus_kept")
    assert (message.resident_id, message.data["thing3"]) == (surplus.home.owner.resident.id, "已转为预存款")
    # Its own receipt says that no new money came: the channel names the surplus.
    receipt = await Receipt.get(payment_id=kept["id"])
    assert (receipt.amount_fen, receipt.content["channel"]) == (25068, "surplus")
    assert [item["title"] for item in receipt.content["items"]] == ["溢收款转预存"]
    assert (await surplus.home.owner.get(f"/api/v1/receipts/{receipt.id}")).status_code == 200


async def test_kept_for_bills_it_pays_the_oldest_first_as_far_as_it_reaches(
    surplus: Surplus, world: World, drain: Drain, books
) -> None:
    home = surplus.home
    older = await world.bill(home.company, home.room, home.customer, 20000, month=date(2026, 8, 1))
    younger = await world.bill(home.company, home.room, home.customer, 10000, month=date(2026, 9, 1))

    answer = await surplus.keep(younger.id, older.id)

    assert answer.status_code == 201
    found = {bill.id: (bill.state, bill.paid_fen) for bill in await Bill.filter(id__in=[older.id, younger.id])}
    assert found == {older.id: ("paid", 20000), younger.id: ("part_paid", 5068)}
    assert await balances() == {"wechat_clearing": 25068, "received": -25068}
    # The rest of it is paid as any bill is.
    opened = await home.open(bill_ids=[str(younger.id)])
    assert opened.json()["amount_fen"] == 4932


@pytest.mark.row("… kept")
async def test_what_the_bills_leave_is_prepaid(surplus: Surplus, world: World, drain: Drain, books) -> None:
    home = surplus.home
    bill = await world.bill(
        home.company, home.room, home.customer, 20000, month=date(2026, 8, 1), lines_fen=[5000, 15000]
    )

    kept = (await surplus.keep(bill.id)).json()

    assert len(kept["bill_ids"]) == 2
    assert await balances() == {"wechat_clearing": 25068, "received": -20000, "prepaid": -5068}
    assert [one.amount_fen for one in await Allocation.all().order_by("amount_fen")] == [5000, 5068, 15000]
    assert {
        entry.kind for entry in await Entry.filter(source_id=(await PaymentAttempt.get(payment_id=kept["id"])).id)
    } == {"payment"}


async def test_what_it_cannot_pay(surplus: Surplus, world: World, books) -> None:
    home = surplus.home
    tenant = await world.customer(home.company, "租客丙")
    other = await LegalEntity.create(organization_id=home.company.id, name="装修公司")
    item = await world.fee_item(home.company, home.community, "装修费", legal_entity_id=other.id)
    of_tenant = await world.bill(home.company, home.room, tenant, 100, month=date(2026, 3, 1))
    of_entity = await world.bill(home.company, home.room, home.customer, 100, month=date(2026, 4, 1), item=item)
    draft = await world.bill(home.company, home.room, home.customer, 100, month=date(2026, 5, 1), draft=True)
    open_one = await world.bill(home.company, home.room, home.customer, 100, month=date(2026, 6, 1))
    stranger = await world.home()
    expected = [
        (of_tenant.id, 409, "bill_of_another"),
        (of_entity.id, 409, "bill_of_another"),
        (home.bill_ids[0], 409, "bill_voided"),
        (draft.id, 404, "not_found"),
        (stranger.bill_ids[0], 404, "not_found"),
        (unknown_id(), 404, "not_found"),
        ("none", 404, "not_found"),
    ]
    for bill_id, status, code in expected:
        answer = await surplus.keep(open_one.id, bill_id)
        assert (answer.status_code, answer.json()["code"]) == (status, code), bill_id
    assert (await surplus.keep(open_one.id, open_one.id)).status_code == 422
    await nothing_moved(surplus)


async def test_a_bill_that_somebody_is_paying_is_left_to_them(surplus: Surplus, world: World, books) -> None:
    home = surplus.home
    bill = await world.bill(home.company, home.room, home.customer, 100, month=date(2026, 6, 1))
    assert (await home.open(bill_ids=[str(bill.id)])).status_code == 201

    answer = await surplus.keep(bill.id)

    assert (answer.status_code, answer.json()["code"]) == (409, "payment_in_progress")
    assert (await Payment.get(id=surplus.payment_id)).surplus_fate is None


async def test_a_decision_is_final_and_a_repeat_the_same(surplus: Surplus, drain: Drain, books) -> None:
    first = await surplus.keep(key="once")
    again = await surplus.keep(key="once")
    back = await surplus.send_back()
    more = await surplus.keep()

    assert first.json()["id"] == again.json()["id"]
    for refused in (back, more):
        assert (refused.status_code, refused.json()["code"], refused.json()["fate"]) == (409, "surplus_decided", "kept")
    assert await Payment.filter(channel="surplus").count() == 1


async def test_eight_decisions_at_once_are_one(surplus: Surplus, books) -> None:
    answers = await asyncio.gather(*(surplus.keep() if number % 2 else surplus.send_back() for number in range(8)))

    assert sorted(one.status_code for one in answers) == [201] + [409] * 7
    assert await Payment.filter(channel="surplus").count() + await Refund.all().count() == 1


@pytest.mark.row("a surplus, until finance decides")
async def test_words_alone_do_not_decide(surplus: Surplus, books) -> None:
    words = await surplus.finance.post(
        f"/api/v1/staff/discrepancies/{surplus.case_id}/resolve", {"resolution": "已处理"}
    )

    assert (words.status_code, words.json()["code"]) == (409, "case_needs_decision")
    await nothing_moved(surplus)


async def test_other_cases_are_no_surplus(surplus: Surplus, sandbox: SandboxControl, books) -> None:
    await sandbox.fault("error", operation="refund", status=403, code="USER_ACCOUNT_ABNORMAL")
    await surplus.send_back()
    (stuck,) = (await surplus.finance.get("/api/v1/staff/discrepancies?status=open")).json()["items"]
    surplus.case_id = stuck["id"]

    for answer in (await surplus.send_back(), await surplus.keep()):
        assert (answer.status_code, answer.json()["code"]) == (409, "no_surplus")


async def test_a_client_that_hangs_up_while_deciding_leaves_one_decision(
    surplus: Surplus, sandbox: SandboxControl, books
) -> None:
    await sandbox.fault("slow", operation="refund", delay_ms=300)
    asking = [asyncio.create_task(surplus.send_back()) for _ in range(10)]
    await asyncio.sleep(0.15)
    for one in asking:
        one.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    await asyncio.sleep(0.5)

    assert await Refund.all().count() <= 1
    again = await surplus.send_back()
    assert again.status_code in (201, 409)
    assert await Refund.all().count() == 1
    await payments.sweep_refunds()
    assert len(await surplus.at_wechat()) == 1
