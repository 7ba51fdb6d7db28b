"""Refunds that WeChat cannot or need not carry out: by transfer, in cash, and those made by hand at its own site."""

import asyncio
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest

import payments
from kit import clock
from models.access import Role
from models.bill import Bill, BillKind
from models.deposit import Deposit
from models.discrepancy import Discrepancy
from models.ledger import Entry
from models.message import Message
from models.payment import Channel, Payment
from models.reconciliation import DayState, Difference, DifferenceAbout, DifferenceKind, Reconciliation, StatementKind
from models.refund import Refund, RefundAttempt
from models.unit_of_work import unit_of_work
from payments.merchant import settings
from tests.conftest import Drain, SandboxControl
from tests.counter import Counter
from tests.refund_home import Paid, paid_home
from tests.surplus_home import balances, states
from tests.till import till
from tests.world import World


@pytest.fixture
async def paid(world: World, sandbox: SandboxControl, drain: Drain) -> Paid:
    """One bill of 250.68, paid through WeChat."""
    return await paid_home(world, sandbox, drain)


@pytest.mark.row("… when WeChat cannot deliver it, and it is transferred")
async def test_what_wechat_cannot_deliver_is_transferred_once(paid: Paid, drain: Drain, books) -> None:
    refund_id = await paid.under_way(bill_becomes="credited")
    still = await paid.act(refund_id, "method", {"method": "bank"})
    assert (still.status_code, still.json()["code"]) == (409, "refund_at_wechat")
    await paid.decided(refund_id, "ABNORMAL")
    assert (await Discrepancy.get(kind="refund_stuck")).state == "open"
    unsure = await paid.act(refund_id, "method", {"method": "bank"})
    assert (unsure.status_code, unsure.json()["code"]) == (409, "refund_at_wechat")
    by_hand = await paid.act(refund_id, "pay-out", {"reference": "20261123-0001"})
    assert (by_hand.status_code, by_hand.json()["code"]) == (409, "refund_not_by_hand")

    changed = await paid.act(refund_id, "method", {"method": "bank", "given_up_at_wechat": True})

    assert (changed.status_code, changed.json()["status"], changed.json()["problem"]) == (200, "approved", None)
    assert await states() == ("approved", "closed")
    assert (await Discrepancy.get(kind="refund_stuck")).resolution == "method_changed"
    assert [one["status_text"] for one in (await paid.shown())["refunds"]] == ["退款处理中"]
    assert (await paid.act(refund_id, "retry")).json()["code"] == "move_not_allowed"
    nobody = await paid.act(refund_id, "pay-out", {"reference": "20261123-0001"}, person=paid.clerk)
    assert nobody.status_code == 403  # a transfer is finance's
    assert (await paid.act(refund_id, "pay-out", {})).json()["code"] == "bank_serial_needed"
    answers = await asyncio.gather(
        *(
            paid.act(refund_id, "pay-out", {"reference": "20261123-0001"}, person=who)
            for who in (paid.finance, paid.second)
        )
    )
    assert sorted(one.status_code for one in answers) == [200, 409]
    assert await balances() == {"wechat_clearing": 25068, "bank": -25068}
    assert (await Bill.get()).state == "credited"
    assert await drain() == ["refund_settled", "send_message"]
    assert (await Message.get(kind="refunded")).data["thing3"] == "已转账到您的银行账户"
    assert [(one["status_text"], one["method"]) for one in (await paid.shown())["refunds"]] == [("已退款", "bank")]
    # WeChat delivers it after all: a case, and no second entry.
    await paid.decide("SUCCESS")
    await paid.noticed()
    assert (await Discrepancy.get(kind="doubtful_refund")).state == "open"
    assert await Entry.filter(kind="refunded").count() == 1


@pytest.mark.row("… when WeChat closed it, or its year is over, and it is handed over in cash")
async def test_what_wechat_closed_is_handed_over_in_cash(paid: Paid, sandbox: SandboxControl, owner, books) -> None:
    first = await paid.under_way(parts=[paid.part(0, 1000)])
    await paid.decided(first, "CLOSED")
    assert (await paid.act(first, "method", {"method": "bank"})).status_code == 200
    assert (await paid.act(first, "method", {"method": "cash"})).status_code == 200
    refused = await paid.act(first, "pay-out", {}, person=paid.clerk)
    assert (refused.status_code, refused.json()["code"]) == (409, "cash_not_there")
    safe = Counter(paid.home, paid.clerk, paid.finance)
    assert (await safe.slip("withdrawal", 1000)).status_code == 201
    assert (await paid.act(first, "pay-out", {}, person=paid.clerk)).json()["status"] == "refunded"
    bill = await Bill.get()
    assert (bill.state, bill.paid_fen) == ("part_paid", 24068)
    await owner.execute("UPDATE payments SET paid_at = paid_at - interval '366 days'")
    late = await paid.under_way(parts=[paid.part(0, 2000)])
    assert (await Refund.get(id=late)).problem == "TRADE_OVERDUE"
    assert (await paid.act(late, "method", {"method": "bank"})).json()["status"] == "approved"
    # It was transferred under a serial that is another refund's: a slip of the pen.
    other = await paid.under_way(parts=[paid.part(0, 3000)], method="bank")
    assert (await paid.act(other, "pay-out", {"reference": "88880001"})).status_code == 200
    used = await paid.act(late, "pay-out", {"reference": "88880001"})
    assert (used.status_code, used.json()["code"]) == (409, "bank_serial_used")
    given_up = await paid.act(late, "cancel", {"reason": "业主改变主意"})
    assert given_up.json()["status"] == "cancelled"
    assert await balances() == {
        "wechat_clearing": 25068, "received": -21068, "bank": -4000,
    }  # fmt: skip
    assert len(await paid.at_wechat()) == 1


@pytest.mark.row("a refund of what was paid at the counter")
async def test_what_came_at_the_counter_goes_back_by_hand(world: World, drain: Drain, books) -> None:
    counter = await till(world)
    finance = await world.staff(counter.home.company, Role.FINANCE, counter.home.community)
    opened = (await Counter(counter.home, counter.clerk, finance).open_shift()).json()
    counter.shift = UUID(opened["id"])
    payment = await counter.take(Channel.CASH, (counter.home.bills[0], 25068))
    ask = f"/api/v1/staff/payments/{payment.id}/refunds"
    refused = await counter.clerk.post(ask, {"reason": "交重了", "method": "wechat_original"})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_through_wechat")
    refund = (await counter.clerk.post(ask, {"reason": "交重了"})).json()
    path = f"/api/v1/staff/refunds/{refund['id']}"
    early = await counter.clerk.post(f"{path}/pay-out", {})
    assert (early.status_code, early.json()["code"], refund["method"]) == (409, "move_not_allowed", "cash")
    assert (await finance.post(f"{path}/approve")).json()["status"] == "approved"
    assert (await counter.clerk.post(f"{path}/pay-out", {})).json()["status"] == "refunded"
    (drawer,) = (await counter.clerk.get(f"/api/v1/staff/shifts/{opened['id']}")).json()["drawers"]
    assert drawer["float_fen"] == 0  # out of the drawer it went into, not out of the empty safe
    assert await RefundAttempt.all().count() == 0
    assert (await Bill.get(id=counter.home.bills[0].id)).state == "open"
    assert await balances() == {}

    # A top-up of which a part has been used: as much as is left.
    await counter.top_up(20000)
    topped = await Payment.get(channel="pos")
    await counter.take(Channel.PREPAID, (counter.home.bills[0], 15000))
    for fen, code, status in ((5001, 409, "not_enough_held"), (5000, 200, "approved")):
        top_up = (await Bill.get(kind=BillKind.PREPAID)).id
        body = {"reason": "退预存", "parts": [{"bill_id": str(top_up), "amount_fen": fen}]}
        wish = (await finance.post(f"/api/v1/staff/payments/{topped.id}/refunds", body)).json()
        answer = await finance.post(f"/api/v1/staff/refunds/{wish['id']}/approve")
        assert (answer.status_code, answer.json().get("code", answer.json()["status"])) == (code, status)
    done = await finance.post(f"/api/v1/staff/refunds/{wish['id']}/pay-out", {"reference": "70000001"})
    assert (done.json()["kind"], done.json()["status"]) == ("prepaid", "refunded")
    bill = await Bill.get(kind=BillKind.PREPAID)
    assert (bill.state, bill.paid_fen, bill.credited_fen) == ("paid", 15000, 5000)  # nobody owes a top-up
    await counter.top_up(3000, BillKind.DEPOSIT)
    deposit = await Bill.get(kind=BillKind.DEPOSIT)
    held = await Payment.filter(channel="pos").order_by("-created_at").first()
    assert held is not None
    await drain()  # the deposit is made by the job that follows the money
    back = (await finance.post(f"/api/v1/staff/payments/{held.id}/refunds", {"reason": "退装修押金"})).json()
    early = await finance.post(f"/api/v1/staff/refunds/{back['id']}/approve")
    assert (early.status_code, early.json()["code"]) == (409, "deposit_return_not_asked")
    kept = f"/api/v1/staff/deposits/{(await Deposit.get()).id}"
    assert (await finance.post(f"{kept}/ask-return", {"reason": "装修验收合格"})).status_code == 200
    assert (await finance.post(f"/api/v1/staff/refunds/{back['id']}/approve")).status_code == 200
    away = await finance.post(f"{kept}/withdraw-return")
    assert (away.status_code, away.json()["code"]) == (409, "move_not_allowed")  # it is on its way
    await finance.post(f"/api/v1/staff/refunds/{back['id']}/pay-out", {"reference": "70000002"})
    assert (back["kind"], (await Bill.get(id=deposit.id)).state) == ("deposit", "credited")
    returned = (await finance.get(kept)).json()
    assert (returned["status"], returned["left_fen"]) == ("returned", 0)
    again = await finance.post(f"/api/v1/staff/payments/{held.id}/refunds", {"reason": "退装修押金"})
    assert (again.status_code, again.json()["code"]) == (409, "refund_too_large")
    assert await balances() == {"pos_clearing": 23000, "bank": -8000, "received": -15000}
    await drain()


@pytest.mark.row("a refund made by hand at WeChat's site, once finance says what it was")
async def test_a_refund_made_at_wechats_site_is_entered_once(
    paid: Paid, sandbox: SandboxControl, drain: Drain, books
) -> None:
    url = settings().notify_url("refund", paid.home.company.merchant.id)
    body = {"out_trade_no": paid.out_trade_no, "amount_fen": 300, "notify_url": url}
    assert (await sandbox.post("/sandbox/refunds", body)).status_code == 200
    await sandbox.post(f"/sandbox/refunds/{(await paid.at_wechat())[0]['refund_id']}/decide", {"status": "ABNORMAL"})
    await paid.noticed("REFUND.ABNORMAL")
    case = await Discrepancy.get(kind="foreign_refund")
    path = f"/api/v1/staff/discrepancies/{case.id}/record-refund"
    mine = {"parts": [paid.part(0, 300)]}
    not_yet = await paid.finance.post(path, mine)
    assert (not_yet.status_code, not_yet.json()["code"]) == (409, "refund_not_confirmed")
    await paid.decide("SUCCESS")
    await paid.noticed()
    for wrong, code in (({"parts": [paid.part(0, 299)]}, "foreign_refund_unmatched"), ({}, "foreign_refund_unmatched")):
        refused = await paid.finance.post(path, wrong)
        assert (refused.status_code, refused.json()["code"]) == (422, code)
    assert (await paid.clerk.post(path, mine)).status_code == 404  # does not see the case
    assert await Entry.all().count() == 1

    answers = await asyncio.gather(paid.finance.post(path, mine), paid.second.post(path, mine))

    assert sorted(one.status_code for one in answers) == [201, 409]
    again = await paid.finance.post(path, mine)
    assert (again.status_code, again.json()["code"]) == (409, "foreign_refund_recorded")
    assert await balances() == {"wechat_clearing": 24768, "received": -24768}
    bill = await Bill.get()
    assert (bill.state, bill.paid_fen) == ("part_paid", 24768)
    assert (await Discrepancy.get(kind="foreign_refund")).resolution == "refund_recorded"
    assert await states() == ("refunded", "succeeded")
    assert await drain() == ["refund_settled", "send_message"]
    with clock.travel_to(clock.now() + timedelta(days=1)):
        assert await payments.sweep_refunds() == 0  # told again, it is known


async def test_what_the_reconciliation_took_out_of_suspense_comes_from_there(
    paid: Paid, sandbox: SandboxControl, books
) -> None:
    """The bill of the day told of it before finance did: it has left WeChat's account already, and does so once."""
    url = settings().notify_url("refund", paid.home.company.merchant.id)
    body = {"out_trade_no": paid.out_trade_no, "amount_fen": 300, "notify_url": url}
    assert (await sandbox.post("/sandbox/refunds", body)).status_code == 200
    await paid.decide("SUCCESS")
    await paid.noticed()
    at: dict[str, Any] = {"organization_id": paid.home.company.id, "merchant_account_id": paid.home.company.merchant.id}
    day = await Reconciliation.create(
        **at, kind=StatementKind.TRADE, bill_on=date(2026, 1, 1), state=DayState.QUIET, our_fen=300
    )
    number = (await paid.at_wechat())[0]["out_refund_no"]
    found = await Difference.create(
        **at, reconciliation_id=day.id, community_id=paid.home.community.id, about=DifferenceAbout.REFUND,
        number=number, kind=DifferenceKind.ONLY_AT_WECHAT, occurred_at=clock.now(), wechat_fen=-300,
        difference_fen=-300,
    )  # fmt: skip
    place = unit_of_work(payments.place_difference_tx)
    assert await place(found.id, None)
    assert await balances() == {"wechat_clearing": 24768, "received": -25068, "suspense": 300}
    case = await Discrepancy.get(kind="foreign_refund")
    mine = {"parts": [paid.part(0, 300)]}

    done = await paid.finance.post(f"/api/v1/staff/discrepancies/{case.id}/record-refund", mine)

    assert done.status_code == 201
    assert await balances() == {"wechat_clearing": 24768, "received": -24768}
    await Difference.filter(id=found.id).update(placed_fen=0)
    assert not await place(found.id, None)  # posted as what it was
    await Difference.filter(id=found.id).update(placed_fen=-300)
