"""Catching up: what is asked, what becomes a case, and what happens when WeChat does not answer as hoped."""

import asyncio
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import httpx
import pytest

import payments
from kit import clock
from models.access import Role
from models.catch_up import CatchUp, CatchUpDay
from models.discrepancy import Discrepancy
from models.payment import Payment, PaymentAttempt
from models.unit_of_work import unit_of_work
from payments import merchant
from payments.gateways.base import OutcomeUnknown
from tests.conftest import Drain, SandboxControl
from tests.surplus_home import states, surplus_home
from tests.wechat_bills import BillDesk, Line, of_orders, tomorrow_at
from tests.world import Home, World


async def desk_of(home: Home, sandbox: SandboxControl, more: Sequence[Line] = ()) -> BillDesk:
    """WeChat's bills of the sandbox's orders, and some more lines, all of today."""
    paid = of_orders(await sandbox.orders())
    desk = BillDesk(home.company.wechat, lambda day: [*paid(day), *(more if day == clock.business_date(began) else ())])
    began = clock.now()
    await payments.close()
    merchant._http = httpx.AsyncClient(transport=desk)
    return desk


def line(home: Home, number: int, **values: Any) -> Line:
    """Something that only WeChat knows."""
    given = {"transaction_id": f"42000000{number}", "out_trade_no": f"shop-{number}", "amount_fen": 100 + number}
    return Line(**({"at": clock.now(), "mchid": home.company.wechat.mchid} | given | values))


async def test_without_a_restore_there_is_nothing_to_do(world: World, sandbox: SandboxControl) -> None:
    assert await payments.catch_up() is None
    assert await payments.read_bills() == 0
    with pytest.raises(ValueError, match="not come yet"):
        await payments.begin_catch_up(clock.now() + timedelta(minutes=1))
    assert await CatchUp.all().count() == 0


async def test_an_order_that_was_closed_here_and_paid_there_is_settled(
    world: World, sandbox: SandboxControl, drain: Drain, books: Any
) -> None:
    """As after a restore from just before: closed in the backup's books, and WeChat is never asked again by itself."""
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("lost")
    await sandbox.pay(opened)
    attempt = await PaymentAttempt.get()
    attempt.state, attempt.next_check_at = "closed", None
    await attempt.save()
    payment = await Payment.get()
    payment.state, payment.closed_at, payment.close_reason = "closed", clock.now(), "expired"
    await payment.save()
    assert await payments.sweep() == 0

    await payments.begin_catch_up(clock.now())
    report = await payments.catch_up()

    assert report is not None and (report.asked, report.settled) == (1, 1)
    assert (await Payment.get()).state == "paid"
    await drain()


async def test_what_only_wechat_knows_is_a_case_each(world: World, sandbox: SandboxControl, books: Any) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    paid = (await sandbox.pay(opened)).json()
    await sandbox.called_back(paid["out_trade_no"])
    since = clock.now()
    refund = {"transaction_id": paid["transaction_id"], "out_trade_no": paid["out_trade_no"], "refund_id": "5030001"}
    await desk_of(home, sandbox, [
        line(home, 1), line(home, 2, at=since - timedelta(hours=1)), line(home, 3, **refund), line(home, 4),
    ])  # fmt: skip
    await payments.begin_catch_up(since)
    with clock.travel_to(tomorrow_at(10, 30)):
        report = await payments.catch_up()

    assert report is not None and report.only_at_wechat == 3  # what was before the backup is no news
    cases = {case.facts["came"]["amount_fen"]: case for case in await Discrepancy.all()}
    assert sorted(cases) == [101, 103, 104]
    assert (cases[103].facts["line"], str(cases[103].payment_id)) == ("refund", opened["id"])
    assert (cases[101].facts["number_is_ours"], cases[101].community_id) == (False, home.community.id)
    assert (await Payment.get()).state == "paid"


async def test_where_several_communities_are_paid_the_case_is_the_companys(
    world: World, sandbox: SandboxControl, books: Any
) -> None:
    home = await world.home()
    await world.community(home.company, "另一个小区")
    stranger = await world.company()
    await desk_of(home, sandbox, [line(home, 1)])
    await payments.begin_catch_up(clock.now() - timedelta(minutes=1))
    with clock.travel_to(tomorrow_at(10, 30)):
        await payments.read_bills()
    case = await Discrepancy.get()
    assert case.community_id is None

    path = f"/api/v1/staff/discrepancies/{case.id}"
    finance = await world.staff(home.company, Role.FINANCE, home.community)
    assert (await finance.get(path)).json()["community_id"] is None
    for role, company in ((Role.FINANCE, stranger), (Role.BUTLER, home.company)):
        assert (await (await world.staff(company, role)).get(path)).status_code == 404
    auditor = await world.staff(home.company, Role.AUDITOR)
    assert (await auditor.get(path)).status_code == 200
    assert (await auditor.post(f"{path}/resolve", {"resolution": "已核对"})).status_code == 403
    assert (await finance.post(f"{path}/resolve", {"resolution": "已核对"})).status_code == 200


async def test_a_bill_that_cannot_be_believed_is_asked_for_again(
    world: World, sandbox: SandboxControl, books: Any
) -> None:
    home = await world.home()
    desk = await desk_of(home, sandbox, [line(home, 1)])
    await payments.begin_catch_up(clock.now() - timedelta(minutes=1))
    told: list[str] = []
    moment = tomorrow_at(10, 30)
    for trouble in ({"spoil": True}, {"code": "STATEMENT_CREATING"}, {"code": "SYSTEM_ERROR"}, {"code": "NO_AUTH"}):
        for name, value in trouble.items():
            setattr(desk, name, value)
        with clock.travel_to(moment):
            assert await payments.read_bills(told.append) >= 1
            assert await payments.read_bills() == 0
        moment += timedelta(minutes=31)
        desk.spoil, desk.code = False, None
    assert all("not to be had yet" in words for words in told) and len(told) >= 4
    assert await Discrepancy.all().count() == 0 and await CatchUpDay.filter(state="read").count() == 0
    with clock.travel_to(moment):
        await payments.read_bills()
    assert await Discrepancy.all().count() == 1


async def test_a_file_is_fetched_from_wechat_alone(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    await desk_of(home, sandbox)
    gateway = await merchant.gateway_of(home.company.merchant.id)
    for url in (
        "http://127.0.0.1:1/v3/billdownload/file?token=1",
        "https://api.mch.weixin.qq.com.example/x",
        "file:///x",
    ):
        with pytest.raises(OutcomeUnknown, match="DOWNLOAD_ADDRESS"):
            await gateway.download(url, 1000)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="never called inside"):
        await unit_of_work(gateway.trade_bill)(date(2026, 11, 2))


async def test_readers_at_once_open_a_case_once(world: World, sandbox: SandboxControl, books: Any) -> None:
    home = await world.home()
    desk = await desk_of(home, sandbox, [line(home, number) for number in range(5)])
    await payments.begin_catch_up(clock.now() - timedelta(minutes=1))
    with clock.travel_to(tomorrow_at(10, 30)):
        tried = await asyncio.gather(*(payments.read_bills() for _ in range(4)))
    assert sum(tried) == len(desk.asked) and len(set(desk.asked)) == len(desk.asked)
    assert await Discrepancy.all().count() == 5


async def test_one_account_in_trouble_does_not_keep_the_others_waiting(
    world: World, sandbox: SandboxControl, books: Any
) -> None:
    home = await world.home()
    broken = await world.merchant(home.company.id, home.company.legal_entity.id, world.wechat[1])
    broken.private_key_cipher = "v1.lost.x"
    await broken.save()
    await desk_of(home, sandbox, [line(home, 1)])
    await payments.begin_catch_up(clock.now() - timedelta(minutes=1))
    with clock.travel_to(tomorrow_at(10, 30)):
        await payments.read_bills()
    assert await Discrepancy.all().count() == 1
    assert {day.merchant_account_id for day in await CatchUpDay.filter(bill_on=clock.today(), state="waiting")} == {
        broken.id
    }


async def test_days_that_wechat_no_longer_has_are_told(world: World, sandbox: SandboxControl, books: Any) -> None:
    home = await world.home()
    desk = await desk_of(home, sandbox)
    await payments.begin_catch_up(clock.now() - timedelta(days=92))
    with clock.travel_to(tomorrow_at(10, 30) + timedelta(days=1)):
        report = await payments.catch_up()
    assert report is not None and report.finished and report.waiting == 0
    assert report.gone == 4 and len(desk.asked) == report.read
    assert await payments.catch_up() is None


async def test_a_second_restore_widens_what_is_under_way(world: World, sandbox: SandboxControl, books: Any) -> None:
    await world.home()
    first = await payments.begin_catch_up(clock.now() - timedelta(days=1))
    days = await CatchUpDay.all().count()
    earlier = clock.now() - timedelta(days=3)
    assert await payments.begin_catch_up(earlier) == first
    assert await payments.begin_catch_up(clock.now()) == first
    assert (await CatchUp.get()).backed_up_at == earlier
    assert await CatchUpDay.all().count() == days + 2


# --- refunds, and the sandbox's own bills ---------------------------------------------------------------------------


async def test_a_refund_that_succeeded_meanwhile_is_settled_and_is_no_case(
    world: World, sandbox: SandboxControl, drain: Drain, books: Any
) -> None:
    surplus = await surplus_home(world, sandbox, drain)
    await sandbox.fault("refund_outcome", outcome="PROCESSING")
    await sandbox.fault("lost", of="refund")
    since = clock.now()
    await surplus.send_back()
    await surplus.decide("SUCCESS")
    assert await states() == ("processing", "accepted")

    await payments.begin_catch_up(since)
    told: list[str] = []
    report = await payments.catch_up(told.append)
    assert told[0] == "0 orders and 1 refunds that the books hold are asked about"
    assert await states() == ("refunded", "succeeded")
    with clock.travel_to(tomorrow_at(10, 30)):
        report = await payments.catch_up(told.append)
    assert report is not None and report.only_at_wechat == 0
    assert told[-1].endswith(" lines, 0 that the books do not know") and " 0 lines" not in told[-1]
    assert await Discrepancy.filter(kind="only_at_wechat").count() == 0
    await drain()


async def test_a_refund_made_by_hand_is_one_case_with_its_notice_or_without(
    world: World, sandbox: SandboxControl, drain: Drain, books: Any
) -> None:
    surplus = await surplus_home(world, sandbox, drain)
    since = clock.now()
    url = merchant.settings().notify_url("refund", surplus.home.company.merchant.id)
    for amount_fen, notify in ((300, {"notify_url": url}), (400, {})):
        made = await sandbox.post(
            "/sandbox/refunds", {"out_trade_no": surplus.out_trade_no, "amount_fen": amount_fen, **notify}
        )
        assert made.status_code == 200, made.text
    await sandbox.post("/sandbox/clock", {"advance_s": 3})
    await surplus.noticed()
    await payments.begin_catch_up(since)
    with clock.travel_to(tomorrow_at(10, 30)):
        report = await payments.catch_up()
    assert report is not None and report.only_at_wechat == 2
    found = {case.amount_fen: str(case.kind) for case in await Discrepancy.exclude(kind="surplus")}
    assert found == {300: "foreign_refund", 400: "only_at_wechat"}
    assert {str(case.payment_id) for case in await Discrepancy.all()} == {surplus.payment_id}
