"""Receipts as files: asked for, made by the worker, the same for everybody who may see them; prints are counted."""

import asyncio
from datetime import timedelta

import httpx
import pytest

import payments
from kit import clock
from models.access import Role
from models.audit import Audit
from models.occupancy import OccupancyKind
from models.receipt import Receipt, ReceiptFile, ReceiptFileState, ReceiptPrint
from services import receipt_file as service
from tests.conftest import Drain, SandboxControl
from tests.test_receipt_pdf import pages, size_mm
from tests.world import Home, Person, World, unknown_id


async def receipt_of(home: Home, sandbox: SandboxControl, drain: Drain, payer: Person | None = None) -> Receipt:
    """A receipt as it comes about: opened, paid, called back, numbered by the job."""
    paid = (await sandbox.pay((await home.open(payer)).json())).json()
    await sandbox.called_back(paid["out_trade_no"])
    await drain()
    return await Receipt.get()


def text_of(answer: httpx.Response) -> str:
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf"), answer.text
    return "".join(pages(answer.content))


async def test_a_resident_asks_waits_and_reads(world: World, sandbox: SandboxControl, drain: Drain, books) -> None:
    home = await world.home()
    receipt = await receipt_of(home, sandbox, drain)
    path = f"/api/v1/receipts/{receipt.id}/pdf"

    first = await home.owner.get(path)
    again = await home.owner.get(path)
    assert [(one.status_code, one.headers["retry-after"], one.content) for one in (first, again)] == [
        (202, "1", b"")
    ] * 2
    assert await drain() == ["make_receipt_file"]
    made = await home.owner.get(path)

    text = text_of(made)
    code = (await home.owner.get(f"/api/v1/receipts/{receipt.id}")).json()["check_code"]
    for words in (receipt.number, "业主甲", "¥250.68", "贰佰伍拾元陆角捌分", code, "3栋1单元1201", "电子收据"):
        assert words in text
    assert made.headers["cache-control"] == "private, no-store"
    assert (await home.owner.get(path)).content == made.content and await drain() == []

    roll = f"{path}?format=80mm"
    assert (await home.owner.get(roll)).status_code == 202
    await drain()
    assert size_mm((await home.owner.get(roll)).content)[0] == 80.0
    assert (await home.owner.get(f"{path}?format=a5")).status_code == 422


async def test_who_paid_for_another_household_reads_a_surname_only_and_others_nothing(
    world: World, sandbox: SandboxControl, drain: Drain
) -> None:
    home = await world.home()
    tenant, stranger = await world.resident(home.company), await world.resident(home.company)
    lives_there = await world.customer(home.company, "租客丙")
    await world.occupancy(home.room, lives_there, OccupancyKind.TENANT, resident=tenant.resident)
    receipt = await receipt_of(home, sandbox, drain, tenant)
    path = f"/api/v1/receipts/{receipt.id}/pdf"

    for person in (tenant, home.owner):
        await person.get(path)
    await drain()

    assert "业**" in text_of(await tenant.get(path)) and "业主甲" not in text_of(await tenant.get(path))
    assert "业主甲" in text_of(await home.owner.get(path))
    foreign, unknown = await stranger.get(path), await stranger.get(f"/api/v1/receipts/{unknown_id()}/pdf")
    assert foreign.status_code == unknown.status_code == 404 and foreign.json() == unknown.json()
    assert await ReceiptFile.all().count() == 2


async def test_prints_are_counted_marked_and_audited(world: World, sandbox: SandboxControl, drain: Drain) -> None:
    home = await world.home()
    receipt = await receipt_of(home, sandbox, drain)
    cashier = await world.staff(home.company, Role.CASHIER, home.community)
    path = f"/api/v1/staff/receipts/{receipt.id}/prints"

    first = await cashier.post(path, {"format": "80mm"}, key="print-1")
    again = await cashier.post(path, {"format": "80mm"}, key="print-1")  # the second click is the same print
    assert (first.status_code, again.status_code) == (201, 201) and first.json() == again.json()
    others = await asyncio.gather(*(cashier.post(path, {"format": "80mm"}) for _ in range(2)))
    assert sorted(one.json()["copy_number"] for one in [first, *others]) == [1, 2, 3]
    await drain()

    listed = (await cashier.get(path)).json()["items"]
    assert len(listed) == 3 and {one["printed_by"] for one in listed} == {cashier.staff.name}
    by_number = {one["copy_number"]: one["id"] for one in listed}
    texts = {number: text_of(await cashier.get(f"{path}/{by_number[number]}/pdf")) for number in (1, 3)}
    assert "补打" not in texts[1] and "第1次打印" in texts[1]
    assert "补打（第3次打印）" in texts[3] and cashier.staff.name in texts[3]
    audits = await Audit.filter(act="receipt.print").order_by("id")
    assert sorted(one.after["copy_number"] for one in audits) == [1, 2, 3]
    assert {one.actor for one in audits} == {f"staff:{cashier.staff.id}"}

    auditor = await world.staff(home.company, Role.AUDITOR, home.community)
    refused = await auditor.post(path, {"format": "a4"})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_permitted")
    assert await ReceiptPrint.all().count() == 3


async def test_a_clerk_finds_a_receipt_by_its_number_and_compares_the_code(
    world: World, sandbox: SandboxControl, drain: Drain
) -> None:
    home = await world.home()
    receipt = await receipt_of(home, sandbox, drain)
    cashier = await world.staff(home.company, Role.CASHIER, home.community)
    elsewhere = await world.staff(home.company, Role.CASHIER, await world.community(home.company))

    (found,) = (await cashier.get("/api/v1/staff/receipts", params={"number": receipt.number})).json()["items"]
    assert found["id"] == str(receipt.id) and len(found["check_code"]) == 9
    assert (await cashier.get("/api/v1/staff/receipts", params={"number": "X"})).json()["items"] == []
    assert (await elsewhere.get("/api/v1/staff/receipts", params={"number": receipt.number})).json()["items"] == []


async def test_a_file_that_fails_is_tried_again_and_never_stops_a_receipt(
    world: World, sandbox: SandboxControl, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = await world.home()

    def no_paper(*_arguments: object) -> None:
        raise MemoryError("no paper")

    with monkeypatch.context() as broken:
        broken.setattr(service, "receipt_pdf", no_paper)
        receipt = await receipt_of(home, sandbox, drain)
        path = f"/api/v1/receipts/{receipt.id}/pdf"
        assert receipt.sequence == 1
        assert (await home.owner.get(path)).status_code == 202
        await drain()
        file = await ReceiptFile.get()
        assert (file.state, file.attempts, file.detail) == (ReceiptFileState.QUEUED, 1, "MemoryError")
        for hours in (1, 2, 3, 24, 48):
            with clock.travel_to(clock.now() + timedelta(hours=hours)):
                await service.sweep_receipt_files()
        refused = await home.owner.get(path)
        assert (refused.status_code, refused.json()["code"]) == (503, "receipt_file_not_made")

    # Whoever asks has it queued again: given up, it stood in `linli check`; now it is made.
    assert (await ReceiptFile.get()).state is ReceiptFileState.QUEUED
    with clock.travel_to(clock.now() + timedelta(minutes=2)):
        assert await service.sweep_receipt_files() == 1
    assert receipt.number in text_of(await home.owner.get(path))


async def test_check_names_files_that_were_given_up(world: World, sandbox: SandboxControl, drain: Drain) -> None:
    home = await world.home()
    receipt = await receipt_of(home, sandbox, drain)
    await home.owner.get(f"/api/v1/receipts/{receipt.id}/pdf")
    assert await payments.violations() == []
    file = await ReceiptFile.get()
    await ReceiptFile.filter(id=file.id).update(state=ReceiptFileState.FAILED, next_check_at=None)

    (broken,) = await payments.violations()
    assert (broken.number, broken.found["id"]) == ("L16", file.id)


async def test_old_files_are_forgotten_and_made_again_the_same(
    world: World, sandbox: SandboxControl, drain: Drain
) -> None:
    home = await world.home()
    receipt = await receipt_of(home, sandbox, drain)
    path = f"/api/v1/receipts/{receipt.id}/pdf"
    await home.owner.get(path)
    await drain()
    before = (await home.owner.get(path)).content

    assert await service.forget_receipt_files() == 0
    with clock.travel_to(clock.now() + timedelta(days=91)):
        assert await service.forget_receipt_files() == 1
    assert (await home.owner.get(path)).status_code == 202
    await drain()
    assert (await home.owner.get(path)).content == before


async def test_the_loop_goes_on_while_a_receipt_is_drawn(world: World, sandbox: SandboxControl, drain: Drain) -> None:
    home = await world.home()
    receipt = await receipt_of(home, sandbox, drain)
    await home.owner.get(f"/api/v1/receipts/{receipt.id}/pdf")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.create_task(tick())
    await service.make_receipt_file((await ReceiptFile.get()).id)
    ticking.cancel()
    assert ticks >= 5
