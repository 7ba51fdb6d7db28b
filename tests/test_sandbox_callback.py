"""Callbacks: the schedule, the log, sending again, what survives a restart, and whom they never reach."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox import delivery
from sandbox.testing import Delivery, Desk, desk, receiver

SCHEDULE_S = [15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10800, 10800, 10800, 21600, 21600]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as opened:
        yield opened


async def advance(shop: Desk, seconds: int) -> None:
    await shop.control("POST", "/sandbox/clock", {"advance_s": seconds})


async def test_fifteen_retries_on_the_schedule_then_never_again(shop: Desk) -> None:
    shop.api.status = 500
    number = (await shop.paid())["out_trade_no"]
    for made, wait_s in enumerate(SCHEDULE_S, start=1):
        callback = await shop.until(number, "pending", made)
        assert wait_s - 1 <= callback["due_in_s"] <= wait_s
        assert len(shop.api.deliveries) == made
        await advance(shop, wait_s)
    callback = await shop.until(number, "exhausted")
    assert len(callback["attempts"]) == 16
    assert sum(SCHEDULE_S) == 24 * 3600 + 4 * 60
    await advance(shop, 86_400)
    await asyncio.sleep(0.02)
    assert len(shop.api.deliveries) == 16


async def test_not_before_it_is_due(shop: Desk) -> None:
    shop.api.status = 503
    number = (await shop.paid())["out_trade_no"]
    await shop.api.wait(1)
    await shop.until(number, "pending")
    await advance(shop, 12)
    await asyncio.sleep(0.05)
    assert len(shop.api.deliveries) == 1
    shop.api.status = 204
    await advance(shop, 4)
    await shop.api.wait(2)
    assert [attempt["status"] for attempt in (await shop.until(number, "delivered"))["attempts"]] == [503, 204]


async def test_a_fast_clock_and_fresh_signatures(shop: Desk) -> None:
    await shop.control("POST", "/sandbox/clock", {"speed": 100})
    shop.api.status = 500
    started = asyncio.get_running_loop().time()
    number = (await shop.paid())["out_trade_no"]
    first, second, third = (await shop.api.wait(3))[:3]
    passed = asyncio.get_running_loop().time() - started
    assert 0.3 <= passed < 2
    assert len({each.headers["wechatpay-nonce"] for each in (first, second, third)}) == 3
    assert len({each.headers["wechatpay-signature"] for each in (first, second, third)}) == 3
    assert all(shop.verifies(each.headers, each.body) for each in (first, second, third))
    assert first.resource() == second.resource() == third.resource()
    shop.api.status = 200
    log = await shop.until(number, "delivered")
    assert [attempt["reason"] for attempt in log["attempts"]][:2] == ["first", "retry"]
    assert log["attempts"][0]["answer"] == '{"code":"FAIL","message":"not now"}'


async def test_the_same_id_every_time(shop: Desk) -> None:
    shop.api.decide = lambda _: 500 if len(shop.api.deliveries) < 2 else 200
    number = (await shop.paid())["out_trade_no"]
    await shop.api.wait(1)
    log = await shop.until(number, "pending")
    answer = await shop.control("POST", f"/sandbox/callbacks/{log['id']}/resend", {"times": 3})
    assert answer.json() == {"statuses": [200, 200, 200]}
    assert len({each.body[:50] for each in shop.api.deliveries}) == 1
    assert log["id"] in shop.api.deliveries[0].body.decode()
    # Answered by hand, so the schedule ends.
    log = await shop.until(number, "delivered")
    assert log["due_in_s"] is None


async def test_a_hundred_at_once(shop: Desk) -> None:
    number = (await shop.paid())["out_trade_no"]
    log = await shop.until(number, "delivered")
    answer = await shop.control("POST", f"/sandbox/callbacks/{log['id']}/resend", {"times": 100, "parallel": True})
    assert answer.json() == {"statuses": [200] * 100}
    assert len(shop.api.deliveries) == 101
    for body in ({"times": 0}, {"times": 1001}, {"times": "2"}, {"often": 2}):
        answer = await shop.control("POST", f"/sandbox/callbacks/{log['id']}/resend", body)
        assert answer.status_code == 422
    answer = await shop.control("POST", "/sandbox/callbacks/none/resend", {})
    assert (answer.status_code, answer.json()["code"]) == (404, "callback_unknown")


async def test_no_answer_within_five_seconds_is_a_failure(shop: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert delivery.TIMEOUT_S == 5
    monkeypatch.setattr(delivery, "TIMEOUT_S", 0.1)
    shop.api.decide = lambda _: None
    number = (await shop.paid())["out_trade_no"]
    [attempt] = (await shop.until(number, "pending"))["attempts"]
    assert (attempt["status"], attempt["error"]) == (None, "timeout")


async def test_other_addresses_are_never_called(shop: Desk) -> None:
    async with receiver() as other:
        port = other.base.rpartition(":")[2]
        own_port = shop.api.base.rpartition(":")[2]
        for address in (
            f"{other.base}/notify",
            f"http://localhost:{own_port}/notify",
            f"https://127.0.0.1:{own_port}/notify",
            f"http://127.0.0.1:{own_port}@127.0.0.1:{port}/notify",
            "https://pay.example.com/notify",
        ):
            number = (await shop.paid(shop.order(notify_url=address)))["out_trade_no"]
            [log] = await shop.callbacks(number)
            assert (log["state"], log["attempts"]) == ("refused", [])
            answer = await shop.control("POST", f"/sandbox/callbacks/{log['id']}/resend", {})
            assert (answer.status_code, answer.json()["code"]) == (409, "callback_refused")
        # Nor by being sent on.
        shop.api.location, shop.api.status = f"{other.base}/notify", 307
        number = (await shop.paid())["out_trade_no"]
        await shop.api.wait(1)
        await shop.until(number, "pending")
        assert (other.deliveries, len(shop.api.deliveries)) == ([], 1)


async def test_pending_callbacks_and_orders_survive_a_restart(tmp_path: Path) -> None:
    def accept(delivery: Delivery) -> int:
        return status

    async with receiver() as api:
        api.decide, status = accept, 500
        async with desk(tmp_path, api=api) as before:
            token = (await before.place()).json()
            await before.control("POST", "/sandbox/faults", {"kind": "late", "delay_s": 60, "times": 1})
            number = (await before.paid())["out_trade_no"]
            assert (await before.callbacks(number))[0]["state"] == "pending"
        assert api.deliveries == []
        status = 200
        async with desk(tmp_path, api=api) as after:
            assert (await after.callbacks(number))[0]["due_in_s"] > 50
            await advance(after, 60)
            [sent] = await api.wait(1)
            assert after.verifies(sent.headers, sent.body)
            await after.until(number, "delivered")
            assert (await after.control("POST", "/sandbox/pay", token)).status_code == 200


async def test_the_calendar_can_be_moved(shop: Desk) -> None:
    shown = (await shop.control("POST", "/sandbox/clock", {"calendar_offset_s": 86_400})).json()
    assert shown["calendar_offset_s"] == 86_400
    assert (await shop.client.get("/sandbox/clock")).json()["calendar_offset_s"] == 86_400
    # Both sides live a day later.
    assert (await shop.place()).status_code == 401
    for body in ({"speed": 0}, {"speed": 1.5}, {"advance_s": -1}, {"back": 1}):
        assert (await shop.control("POST", "/sandbox/clock", body)).status_code == 422
