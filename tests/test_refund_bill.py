"""Refunds of what was paid on bills: asked for, approved, given back, and what becomes of bills and receipt."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

import payments
from models.access import Role, system_actor
from models.bill import Bill, BillLine, CreditNote
from models.ledger import Allocation, Entry
from models.message import Message
from models.payment import Payment
from models.refund import Refund
from models.unit_of_work import unit_of_work
from payments import refund_approval, refund_settled
from tests.conftest import Drain, SandboxControl
from tests.refund_home import Paid, paid_home
from tests.surplus_home import balances
from tests.world import World, unknown_id


@pytest.fixture
async def paid(world: World, sandbox: SandboxControl, drain: Drain) -> Paid:
    """Two bills of 250.68 and 250.69, paid by one payment."""
    return await paid_home(world, sandbox, drain, bills=2)


async def bill_now(paid: Paid, which: int = 0) -> tuple[str, int, int]:
    bill = await Bill.get(id=paid.home.bill_ids[which])
    return str(bill.state), bill.paid_fen, bill.credited_fen


async def nothing_moved(paid: Paid) -> None:
    payment = await Payment.get(id=paid.payment_id)
    assert (payment.reserved_fen, payment.refunded_fen) == (0, 0)
    assert await Entry.filter(kind__startswith="refund").count() == 0
    assert [await bill_now(paid, which) for which in range(2)] == [("paid", 25068, 0), ("paid", 25069, 0)]


@pytest.mark.row("a refund of what paid a bill, once it is surely back")
async def test_from_asked_to_a_bill_that_is_owed_again(
    paid: Paid, sandbox: SandboxControl, drain: Drain, books
) -> None:
    shown = (await paid.clerk.get(f"/api/v1/staff/payments/{paid.payment_id}/refundable")).json()["lines"]
    assert [(line["paid_fen"], line["left_fen"], line["kind"]) for line in shown] == [
        (25068, 25068, "bill"), (25069, 25069, "bill"),
    ]  # fmt: skip
    asked = await paid.ask(parts=[paid.part(0, 10000)])
    assert (asked.status_code, asked.json()["status"], asked.json()["amount_fen"]) == (201, "asked", 10000)
    await nothing_moved(paid)
    assert (await paid.shown())["refunds"] == []  # staff only think about it

    approved = await paid.act(asked.json()["id"], "approve")

    assert (approved.status_code, approved.json()["status"]) == (200, "processing")
    assert await balances() == {"wechat_clearing": 50137, "received": -40137, "refund_pending": -10000}
    assert await bill_now(paid) == ("paid", 25068, 0)  # until it is sure
    (mine,) = (await paid.home.owner.get("/api/v1/refunds")).json()["items"]
    assert (mine["status"], mine["status_text"], mine["payment_id"]) == ("processing", "退款处理中", paid.payment_id)

    done = await paid.decided(asked.json()["id"])

    assert done["status"] == "refunded"
    assert await balances() == {"wechat_clearing": 40137, "received": -40137}
    assert await bill_now(paid) == ("part_paid", 15068, 0)
    assert sorted(one.amount_fen for one in await Allocation.all()) == [-10000, 25068, 25069]
    assert await drain() == ["refund_settled", "send_message"]
    assert (await Message.get(kind="refunded")).data["thing3"] == "已原路退回付款账户"
    assert [one["status_text"] for one in (await paid.shown())["refunds"]] == ["已退款"]
    # The rest of the bill is paid anew, by a payment of its own.
    opened = (await paid.home.open(bill_ids=paid.home.bill_ids[:1])).json()
    assert opened["amount_fen"] == 10000
    again = (await sandbox.pay(opened)).json()
    await sandbox.called_back(again["out_trade_no"])
    assert await bill_now(paid) == ("paid", 25068, 0)


@pytest.mark.row("… and the bill is credited")
async def test_a_whole_refund_credits_the_bills_and_voids_the_receipt(
    paid: Paid, sandbox: SandboxControl, drain: Drain, books
) -> None:
    owner, receipt_id = paid.home.owner, (await paid.shown())["receipt_id"]
    pdf = f"/api/v1/receipts/{receipt_id}/pdf"
    assert (await owner.get(pdf)).status_code == 202
    await drain()
    before = await owner.get(pdf)
    whole = (await owner.get(f"/api/v1/receipts/{receipt_id}")).json()
    assert (whole["refunded_fen"], whole["voided_on"]) == (0, None)

    await paid.decided(await paid.under_way(parts=[paid.part(0)], bill_becomes="credited"))

    assert [await bill_now(paid, which) for which in range(2)] == [("credited", 0, 25068), ("paid", 25069, 0)]
    assert [one.amount_fen for one in await CreditNote.all()] == [25068]
    part = (await owner.get(f"/api/v1/receipts/{receipt_id}")).json()
    assert (part["refunded_fen"], part["voided_on"], part["number"]) == (25068, None, whole["number"])
    await paid.decided(await paid.under_way(bill_becomes="credited"))  # all that is left

    void = (await owner.get(f"/api/v1/receipts/{receipt_id}")).json()
    assert (void["refunded_fen"], void["number"]) == (50137, whole["number"])
    assert void["voided_on"] == (await Entry.filter(kind="refunded").order_by("-id").first()).posted_on.isoformat()  # type: ignore[union-attr]
    page = (await owner.get(f"/api/v1/receipts/{receipt_id}/page")).text
    assert "作废" in page and "其中已退款" in page and "501.37" in page
    assert (await owner.get(pdf)).status_code == 202  # what was drawn before is not so any more
    await drain()
    assert (await owner.get(pdf)).content != before.content
    assert await balances() == {}
    # Nothing of it is owed, and a right bill for the same may be made in its place.
    assert (await owner.get("/api/v1/bills?status=open")).json()["items"] == []
    refused = await paid.home.open()
    assert (refused.status_code, refused.json()["code"]) == (409, "bill_voided")
    item = (await BillLine.get(bill_id=paid.home.bill_ids[0])).fee_item_id
    right = await Bill.get(id=paid.home.bill_ids[0])
    line = payments.NewLine(item, "物业费", 20000)
    new = payments.NewBill(
        right.community_id, right.customer_id, right.subject_kind, right.subject_id, right.purpose, right.title,
        right.accrued_on, right.due_on, [line], room_id=right.room_id,
    )  # fmt: skip
    await unit_of_work(payments.issue_bill_tx)(system_actor("test"), new)
    (owed,) = (await owner.get("/api/v1/bills?status=open")).json()["items"]
    assert (owed["amount_fen"], owed["paid_fen"], owed["credited_fen"]) == (20000, 0, 0)
    summary = (await paid.finance.get(f"/api/v1/staff/communities/{paid.home.community.id}/summary")).json()
    assert (summary["billed_fen"], summary["paid_fen"], summary["owed_fen"]) == (20000, 0, 20000)


async def test_who_asks_alone_and_who_approves(paid: Paid, world: World, books) -> None:
    finance, manager = paid.finance, await world.staff(paid.home.company, Role.MANAGER)
    entity = f"/api/v1/staff/legal-entities/{paid.home.company.legal_entity.id}"
    assert (await manager.get(entity)).json()["refund_alone_fen"] == 50000
    assert (await finance.put(f"{entity}/refund-limit", {"refund_alone_fen": 9})).status_code == 403
    limited = await manager.put(f"{entity}/refund-limit", {"refund_alone_fen": 10000})
    assert (limited.status_code, limited.json()["refund_alone_fen"]) == (200, 10000)

    at_the_limit = await paid.asked(finance, parts=[paid.part(0, 10000)])
    one_more = await paid.asked(finance, parts=[paid.part(0, 1)])
    by_the_clerk = await paid.act(at_the_limit, "approve", person=paid.clerk)
    assert (by_the_clerk.status_code, by_the_clerk.json()["code"]) == (403, "not_permitted")
    assert (await paid.act(at_the_limit, "approve")).status_code == 200
    # In pieces it is as much.
    alone = await paid.act(one_more, "approve")
    assert (alone.status_code, alone.json()["code"], alone.json()["limit_fen"]) == (
        409,
        "refund_needs_second_person",
        10000,
    )
    assert (await Payment.get(id=paid.payment_id)).reserved_fen == 10000
    assert (await paid.act(one_more, "approve", person=paid.second)).status_code == 200
    again = await paid.act(one_more, "approve", person=paid.second)
    assert (again.status_code, again.json()["code"]) == (409, "move_not_allowed")
    # What was turned down stays so, and moved nothing.
    other = await paid.asked()
    rejected = await paid.act(other, "reject", {"reason": "未重复收费"})
    assert (rejected.json()["status"], rejected.json()["reject_reason"]) == ("rejected", "未重复收费")
    assert (await paid.act(other, "approve")).json()["code"] == "move_not_allowed"
    assert await Entry.filter(source_id=other).count() == 0
    stranger = await world.staff(await world.company(), Role.FINANCE)
    assert (await paid.ask(stranger)).status_code == 404
    assert (await paid.act(other, "approve", person=stranger)).status_code == 404


async def test_what_cannot_be_asked_for(paid: Paid, books) -> None:
    mine = paid.home.bill_ids[0]
    for parts, code in (
        ([{"bill_id": mine, "amount_fen": 25069}], "refund_too_large"),
        ([{"bill_id": mine, "amount_fen": 25068}, {"bill_id": mine, "amount_fen": 1}], "refund_too_large"),
        ([{"bill_id": unknown_id()}], "refund_too_large"),
        ([{"bill_id": mine, "bill_line_id": unknown_id()}], "refund_too_large"),
        ([{"bill_id": "nonsense"}], "not_found"),
        ([{"bill_id": mine, "amount_fen": 0}], "amount_not_positive"),
    ):
        answer = await paid.ask(parts=parts)
        assert answer.json()["code"] == code, parts
    assert (await paid.ask(reason="")).json()["code"] == "invalid_input"
    assert await Refund.all().count() == 0
    opened = await paid.home.owner.post(f"/api/v1/payments/{paid.payment_id}/refunds", {"reason": "交重了"})
    again = await paid.home.owner.post(f"/api/v1/payments/{paid.payment_id}/refunds", {"reason": "交重了"})
    assert (opened.status_code, opened.json()["status_text"]) == (201, "退款申请已提交，等待物业审核")
    assert (again.status_code, again.json()["code"]) == (409, "refund_asked_already")
    await paid.act(opened.json()["id"], "reject", {"reason": "两期费用不同，没有重复"})
    (seen,) = (await paid.shown())["refunds"]
    assert (seen["status"], seen["reason"]) == ("rejected", "两期费用不同，没有重复")
    await nothing_moved(paid)


async def raced(paid: Paid, parts: list[dict[str, Any]]) -> list[int]:
    """Two refunds of the same money, approved at the same moment."""
    ids = [await paid.asked(parts=parts) for _ in range(2)]
    answers = await asyncio.gather(
        *(paid.act(one, "approve", person=who) for one, who in zip(ids, (paid.finance, paid.second), strict=True))
    )
    return sorted(one.status_code for one in answers)


async def test_two_refunds_of_the_same_money_at_once(paid: Paid, owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of the payment lets one through. Without it the program takes twice from a line, and the database
    refuses; without that too the books say so."""
    assert await raced(paid, [paid.part(0, 15000)]) == [200, 409]
    assert await payments.violations() == []
    assert (await Payment.get(id=paid.payment_id)).reserved_fen == 15000
    unlocked(monkeypatch)
    assert await raced(paid, [paid.part(1, 15000)]) == [200, 500]
    assert await payments.violations() == []

    await owner.execute("DROP TRIGGER lines_hold ON refunds; DROP TRIGGER lines_hold ON refund_lines")
    assert await raced(paid, [paid.part(0, 6000)]) == [200, 200]
    assert {one.number for one in await payments.violations()} >= {"L18", "L33"}


def unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Approving reads without the lock, and both read before either writes."""

    async def without(refund_id: UUID) -> tuple[Payment, Refund, None]:
        refund = await Refund.get(id=refund_id)
        payment = await Payment.get(id=refund.payment_id)
        return payment, refund, None

    true = refund_approval.refuse_more_than_left_tx

    async def slowly(payment: Payment, refund: Refund) -> None:
        await true(payment, refund)
        await asyncio.sleep(0.15)

    monkeypatch.setattr(refund_approval, "lock_newest_tx", without)
    monkeypatch.setattr(refund_approval, "refuse_more_than_left_tx", slowly)


async def test_approving_twice_at_once_is_one_approval(paid: Paid, monkeypatch: pytest.MonkeyPatch, books) -> None:
    """With the lock off both go on, and the database lets one attempt of a refund through."""
    refund_id = await paid.asked(parts=[paid.part(0, 100)])
    both = (paid.finance, paid.second)
    answers = await asyncio.gather(*(paid.act(refund_id, "approve", person=who) for who in both))
    assert sorted(one.status_code for one in answers) == [200, 409]
    unlocked(monkeypatch)
    refund_id = await paid.asked(parts=[paid.part(0, 100)])
    answers = await asyncio.gather(*(paid.act(refund_id, "approve", person=who) for who in both))
    assert sorted(one.status_code for one in answers) == [200, 500]
    assert (await Payment.get(id=paid.payment_id)).reserved_fen == 200


async def test_paying_the_rest_while_more_goes_back(
    paid: Paid, sandbox: SandboxControl, drain: Drain, monkeypatch: pytest.MonkeyPatch, owner
) -> None:
    """A second payment of the reopened bill is settled while another refund of the first succeeds: both count. With the
    lock of the bills off, one forgets the other, and the commit is refused; without that too the books say so."""
    await paid.decided(await paid.under_way(parts=[paid.part(0, 10000)]))

    read, settled = asyncio.Event(), asyncio.Event()
    settled.set()

    async def both(amount_fen: int) -> list[int]:
        opened = (await paid.home.open(bill_ids=paid.home.bill_ids[:1])).json()
        await sandbox.fault("lost")
        assert (await sandbox.pay(opened)).status_code == 200
        await sandbox.no_faults()
        await sandbox.fault("refund_outcome", outcome="PROCESSING")
        await sandbox.fault("lost", of="refund")
        refund_id = await paid.under_way(parts=[paid.part(0, amount_fen)])
        await paid.decide("SUCCESS")
        back = asyncio.create_task(paid.act(refund_id, "check"))
        if not settled.is_set():
            await asyncio.wait_for(read.wait(), 5)
        confirmed = await paid.home.owner.post(f"/api/v1/payments/{opened['id']}/confirm")
        settled.set()
        return [(await back).status_code, confirmed.status_code]

    assert await both(5000) == [200, 200]
    assert await bill_now(paid) == ("part_paid", 20068, 0)
    assert await payments.violations() == []

    async def unguarded(bill_ids: set[UUID]) -> dict[UUID, Bill]:
        found = {bill.id: bill for bill in await Bill.filter(id__in=bill_ids)}
        read.set()
        await asyncio.wait_for(settled.wait(), 5)
        return found

    with monkeypatch.context() as off:
        off.setattr(refund_settled, "_lock_bills_tx", unguarded)
        read.clear()
        settled.clear()
        assert await both(700) == [500, 200]
    assert await payments.violations() == []
    (refund,) = await Refund.filter(state="processing")
    assert (await paid.act(str(refund.id), "check")).json()["status"] == "refunded"
    await owner.execute(
        "DROP TRIGGER paid_is_allocated ON bills; DROP TRIGGER allocated_is_paid ON allocations;"
        "ALTER TABLE bills DROP CONSTRAINT bills_state_of_settled"
    )
    monkeypatch.setattr(refund_settled, "_lock_bills_tx", unguarded)
    read.clear()
    settled.clear()
    assert await both(30) == [200, 200]
    assert "L4" in {one.number for one in await payments.violations()}
