"""发货信息: told once a payment, to apps that must tell, whatever WeChat answers."""

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

import payments
from kit import clock
from models.access import Role
from models.payment import PaymentAttempt
from models.shipping import ShippingState, ShippingUpload
from models.wechat_app import WechatApp
from services import miniprogram
from services.receipt import after_settlement
from services.shipping import RETRY_S, sweep_shipping
from tests.conftest import Drain, SandboxControl
from tests.world import Home, World


class Platform:
    """WeChat's upload_shipping_info: what it was told, and what it answers next."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.answers: list[int] = []
        self.tokens = 0

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/cgi-bin/stable_token":
            self.tokens += 1
            return httpx.Response(200, json={"access_token": f"token-{self.tokens}", "expires_in": 7200})
        assert request.url.path == "/wxa/sec/order/upload_shipping_info"
        self.told.append(json.loads(request.content) | {"token": request.url.params["access_token"]})
        code = self.answers.pop(0) if self.answers else 0
        return httpx.Response(200, json={"errcode": code, "errmsg": "x"})


@pytest.fixture
def platform(sandbox: SandboxControl, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    found = Platform()
    monkeypatch.setattr(miniprogram, "_http", httpx.AsyncClient(transport=httpx.MockTransport(found.answer)))
    yield found


async def switch(home: Home, world: World, on: bool = True, days: int = 0) -> None:
    manager = await world.staff(home.company, Role.MANAGER)
    answer = await manager.patch(
        f"/api/v1/staff/wechat-apps/{home.company.app.id}",
        {"uploads_shipping": on, "shipping_backlog_days": days},
    )
    assert answer.status_code == 200 and answer.json()["uploads_shipping"] is on


async def paid(home: Home, sandbox: SandboxControl, *bill_ids: str) -> PaymentAttempt:
    opened = (await home.open(bill_ids=list(bill_ids) or None)).json()
    order = (await sandbox.pay(opened)).json()
    await sandbox.called_back(order["out_trade_no"])
    return await PaymentAttempt.get(out_trade_no=order["out_trade_no"])


async def later(seconds: float) -> int:
    with clock.travel_to(clock.now() + timedelta(seconds=seconds)):
        return await sweep_shipping()


async def test_off_nothing_is_told(
    world: World, sandbox: SandboxControl, platform: Platform, drain: Drain, books
) -> None:
    home = await world.home()
    await paid(home, sandbox)
    # Messages are of no concern here, and the platform of this test knows none.
    await world_without_messages(home)
    await drain()

    assert await ShippingUpload.all().count() == 0 and await later(60) == 0 and platform.told == []


async def world_without_messages(home: Home) -> None:
    await WechatApp.filter(id=home.company.app.id).update(templates={})


async def told_home(world: World, bills: int = 1) -> Home:
    home = await world.home(bills=bills)
    await world_without_messages(home)
    await switch(home, world)
    return home


async def test_a_payment_is_told_once(
    world: World, sandbox: SandboxControl, platform: Platform, drain: Drain, books
) -> None:
    home = await told_home(world, bills=2)
    attempt = await paid(home, sandbox)
    await drain()
    await asyncio.gather(*(after_settlement(attempt.payment_id) for _ in range(3)))
    assert await later(5) == 0  # WeChat may not know the order yet
    await asyncio.gather(later(15), later(15))
    assert await later(100) == 0

    (told,) = platform.told
    assert told.pop("upload_time").endswith("+08:00") and told.pop("token") == "token-1"
    assert told == {
        "order_key": {"order_number_type": 2, "transaction_id": attempt.transaction_id},
        "logistics_type": 3, "delivery_mode": 1,
        "shipping_list": [{"item_desc": "2026年10月物业费、2026年11月物业费"}],
        "payer": {"openid": home.owner.openid},
    }  # fmt: skip
    upload = await ShippingUpload.get()
    assert upload.state is ShippingState.UPLOADED and upload.uploaded_at is not None


async def test_an_order_not_known_yet_or_a_busy_wechat_is_tried_again(
    world: World, sandbox: SandboxControl, platform: Platform, drain: Drain, books
) -> None:
    home = await told_home(world)
    await paid(home, sandbox)
    await drain()
    platform.answers = [10060001, 10060012, 10060019, -1]
    for expected in [ShippingState.QUEUED] * 4 + [ShippingState.UPLOADED]:
        due = (await ShippingUpload.get()).next_check_at
        assert due is not None
        with clock.travel_to(due + timedelta(seconds=1)):
            assert await sweep_shipping() == 1
        assert (await ShippingUpload.get()).state is expected
    assert len(platform.told) == 5


async def test_what_wechat_knows_already_is_done(
    world: World, sandbox: SandboxControl, platform: Platform, drain: Drain, books
) -> None:
    home = await told_home(world, bills=3)
    for bill_id in home.bill_ids:
        await paid(home, sandbox, bill_id)
    await drain()
    platform.answers = [10060002, 10060003, 10060023]
    await later(15)

    uploads = await ShippingUpload.all()
    assert {one.state for one in uploads} == {ShippingState.UPLOADED}
    assert sorted(one.detail for one in uploads) == ["10060002", "10060003", "10060023"]


async def test_a_stale_token_is_fetched_again(
    world: World, sandbox: SandboxControl, platform: Platform, drain: Drain, books
) -> None:
    home = await told_home(world)
    await paid(home, sandbox)
    await drain()
    platform.answers = [40001]
    await later(15)

    assert [one["token"] for one in platform.told] == ["token-1", "token-2"]
    assert (await ShippingUpload.get()).state is ShippingState.UPLOADED


async def test_an_app_that_is_not_enabled_stops_and_the_manager_is_told(
    world: World, sandbox: SandboxControl, platform: Platform, drain: Drain
) -> None:
    home = await told_home(world, bills=3)
    attempts = [await paid(home, sandbox, bill_id) for bill_id in home.bill_ids[:2]]
    await drain()
    platform.answers = [48001]
    with clock.travel_to(clock.now() + timedelta(seconds=15)):
        await sweep_shipping(limit=1)
        await sweep_shipping()

    assert len(platform.told) == 1  # the second did not even ask
    assert {(one.state, one.detail) for one in await ShippingUpload.all()} == {(ShippingState.FAILED, "48001")}
    manager = await world.staff(home.company, Role.MANAGER)
    app = (await manager.get(f"/api/v1/staff/wechat-apps/{home.company.app.id}")).json()
    assert (app["uploads_shipping"], app["shipping_refusal"]) == (False, "48001")
    assert {one.number for one in await payments.violations()} == {"L17"}
    attempts.append(await paid(home, sandbox, home.bill_ids[2]))
    await drain()
    assert await ShippingUpload.all().count() == 2

    # Enabled at last: the manager switches it on again, with the days that were missed.
    await switch(home, world, days=1)
    await drain()
    await later(15)
    assert {one.state for one in await ShippingUpload.all()} == {ShippingState.UPLOADED}
    told = [one["order_key"]["transaction_id"] for one in platform.told[1:]]
    assert sorted(told) == sorted(one.transaction_id for one in attempts)
    assert await payments.violations() == []


async def test_switched_on_later_only_what_comes_after_is_told(
    world: World, sandbox: SandboxControl, platform: Platform, drain: Drain, books
) -> None:
    home = await world.home(bills=2)
    await world_without_messages(home)
    before = await paid(home, sandbox, home.bill_ids[0])
    await drain()
    with clock.travel_to(clock.now() + timedelta(hours=2)):
        await switch(home, world)
    await drain()
    await after_settlement(before.payment_id)

    assert await ShippingUpload.all().count() == 0


async def test_other_refusals_and_a_wechat_that_stays_away_are_failures_that_check_names(
    world: World, sandbox: SandboxControl, platform: Platform, drain: Drain
) -> None:
    home = await told_home(world, bills=2)
    for bill_id in home.bill_ids:
        await paid(home, sandbox, bill_id)
    await drain()
    platform.answers = [40003, *[-1] * (len(RETRY_S) + 1)]
    with clock.travel_to(clock.now() + timedelta(seconds=15)):
        await sweep_shipping(limit=1)
    for hours in range(1, len(RETRY_S) + 2):
        with clock.travel_to(clock.now() + timedelta(days=2 * hours)):
            await sweep_shipping()

    assert sorted(one.detail for one in await ShippingUpload.all()) == ["40003", "errcode -1"]
    assert {one.state for one in await ShippingUpload.all()} == {ShippingState.FAILED}
    assert [one.number for one in await payments.violations()] == ["L17", "L17"]


async def test_who_is_no_manager_switches_nothing(world: World) -> None:
    home = await world.home()
    finance = await world.staff(home.company, Role.FINANCE)
    path = f"/api/v1/staff/wechat-apps/{home.company.app.id}"
    refused = await finance.patch(path, {"uploads_shipping": True})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_permitted")
    manager = await world.staff(home.company, Role.MANAGER)
    for days in (-1, 31, "1"):
        answer = await manager.patch(path, {"uploads_shipping": True, "shipping_backlog_days": days})
        assert answer.status_code == 422
    assert (await WechatApp.get(id=home.company.app.id)).shipping_since_at is None
