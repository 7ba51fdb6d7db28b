"""Receipts: numbered without gaps, the same again, and readable by whom they concern."""

import asyncio
from datetime import UTC, date, datetime

import pytest

import payments
from kit import clock
from models.access import Role
from models.message import Message
from models.occupancy import OccupancyKind
from models.payment import Payment
from models.receipt import Receipt, ReceiptCounter
from services.receipt import after_settlement
from tests.conftest import Drain, SandboxControl
from tests.world import Home, World


async def pay(home: Home, sandbox: SandboxControl, bill_ids: list[str]) -> Payment:
    opened = (await home.open(bill_ids=bill_ids)).json()
    paid = (await sandbox.pay(opened)).json()
    await sandbox.called_back(paid["out_trade_no"])
    return await Payment.get(id=opened["id"])


async def test_numbers_have_no_gaps_whatever_is_asked_at_once(world: World, sandbox: SandboxControl, books) -> None:
    home = await world.home(bills=5)
    paid = [await pay(home, sandbox, [bill_id]) for bill_id in home.bill_ids]

    given = await asyncio.gather(*(payments.issue_receipt(payment.id) for payment in paid for _ in range(4)))

    assert await Receipt.all().count() == 5
    assert sorted({receipt.sequence for receipt in given if receipt}) == [1, 2, 3, 4, 5]
    for payment in paid:
        numbers = {receipt.number for receipt in given if receipt and receipt.payment_id == payment.id}
        assert len(numbers) == 1
    assert (await ReceiptCounter.get()).last_sequence == 5


async def test_a_failure_gives_its_number_back(
    world: World, sandbox: SandboxControl, books, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = await world.home(bills=2)
    first, second = [await pay(home, sandbox, [bill_id]) for bill_id in home.bill_ids]

    async def fails(**_values: object) -> None:
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(Receipt, "create", fails)
        with pytest.raises(RuntimeError, match="disk is full"):
            await payments.issue_receipt(first.id)
    receipt = await payments.issue_receipt(second.id)

    assert receipt is not None and receipt.sequence == 1


async def test_the_consequences_may_run_twice(world: World, sandbox: SandboxControl, drain: Drain, books) -> None:
    home = await world.home()
    payment = await pay(home, sandbox, home.bill_ids)
    await drain()

    await asyncio.gather(*(after_settlement(payment.id) for _ in range(5)))

    assert await drain() == []
    assert await Receipt.all().count() == 1 and await Message.all().count() == 1
    message = await Message.get()
    assert (message.state, message.data["amount2"]) == ("sent", "250.68元")


async def test_what_a_receipt_says(world: World, sandbox: SandboxControl, drain: Drain, books) -> None:
    home = await world.home(bills=2)
    await pay(home, sandbox, home.bill_ids)
    await drain()

    (listed,) = (await home.owner.get("/api/v1/receipts")).json()["items"]
    receipt = (await home.owner.get(f"/api/v1/receipts/{listed['id']}")).json()

    assert receipt == listed
    assert receipt["amount_fen"] == 50137 == sum(item["amount_fen"] for item in receipt["items"])
    assert receipt["amount_in_capitals"] == "伍佰零壹元叁角柒分"
    assert receipt["customer"] == "业主甲" and receipt["legal_entity"] == home.company.legal_entity.name
    assert [item["room"] for item in receipt["items"]] == ["3栋1单元1201"] * 2
    assert receipt["number"].startswith(f"{home.community.code}-") and receipt["number"].endswith("-000001")
    page = await home.owner.get(f"/api/v1/receipts/{listed['id']}/page")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for text in ("伍佰零壹元叁角柒分", "501.37", receipt["number"], "3栋1单元1201"):
        assert text in page.text


async def test_names_on_the_page_cannot_become_markup(world: World, sandbox: SandboxControl, drain: Drain) -> None:
    company = await world.company(name="<script>alert(1)</script>")
    community = await world.community(company)
    room = await world.room(community)
    owner, customer = await world.owner(company, room, "<img src=x>")
    bill = await world.bill(company, room, customer)
    home = Home(company, community, room, owner, customer, [bill])
    await pay(home, sandbox, home.bill_ids)
    await drain()
    (listed,) = (await owner.get("/api/v1/receipts")).json()["items"]

    page = (await owner.get(f"/api/v1/receipts/{listed['id']}/page")).text

    assert "<script" not in page and "<img" not in page and "&lt;script&gt;" in page


async def test_somebody_who_pays_for_another_household_sees_a_surname_only(
    world: World, sandbox: SandboxControl, drain: Drain
) -> None:
    home = await world.home()
    tenant = await world.resident(home.company)
    await world.occupancy(
        home.room, await world.customer(home.company, "租客丙"), OccupancyKind.TENANT, resident=tenant.resident
    )
    opened = (await home.open(tenant)).json()
    paid = (await sandbox.pay(opened)).json()
    await sandbox.called_back(paid["out_trade_no"])
    await drain()

    seen = {}
    for name, person in (("tenant", tenant), ("owner", home.owner)):
        (receipt,) = (await person.get("/api/v1/receipts")).json()["items"]
        seen[name] = receipt["customer"]

    assert seen == {"tenant": "业**", "owner": "业主甲"}


async def test_staff_see_receipts_by_role(world: World, sandbox: SandboxControl, drain: Drain) -> None:
    home = await world.home()
    await pay(home, sandbox, home.bill_ids)
    await drain()
    answers = {}
    for role in (Role.CASHIER, Role.GUARD, Role.AUDITOR):
        person = await world.staff(home.company, role, home.community)
        answer = await person.get("/api/v1/staff/receipts")
        answers[role] = len(answer.json()["items"]) if answer.status_code == 200 else answer.json()["code"]

    assert answers == {Role.CASHIER: 1, Role.GUARD: "not_permitted", Role.AUDITOR: 1}


async def test_the_year_is_the_beijing_year_of_posting(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    with clock.travel_to(datetime(2026, 12, 31, 16, 30, tzinfo=UTC)):  # half past midnight in Beijing
        home = await world.home()
        await pay(home, sandbox, home.bill_ids)
        await drain()

    receipt = await Receipt.get()
    assert (receipt.year, receipt.issued_on) == (2027, date(2027, 1, 1))
    assert "-2027-000001" in receipt.number
