"""Every fault: what it does, to which orders, and how often."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kit import clock
from sandbox.fault import KINDS
from sandbox.testing import Desk, desk


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as opened:
        yield opened


async def fault(shop: Desk, kind: str, **rest: Any) -> dict[str, Any]:
    answer = await shop.control("POST", "/sandbox/faults", {"kind": kind, **rest})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def faults(shop: Desk) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = (await shop.client.get("/sandbox/faults")).json()["faults"]
    return told


async def amount(shop: Desk, number: str) -> int:
    return int((await shop.query(number)).json()["amount"]["total"])


async def test_faults_are_set_counted_down_and_taken_back(shop: Desk) -> None:
    order = shop.order()
    first = await fault(shop, "lost", times=1, out_trade_no=order["out_trade_no"])
    assert first == {
        "id": first["id"],
        "kind": "lost",
        "out_trade_no": order["out_trade_no"],
        "times_left": 1,
        "params": {},
    }
    await fault(shop, "duplicate", times=2)
    await fault(shop, "slow", delay_ms=1)
    for placed in (shop.order(), order):
        await shop.paid(placed)
    assert [each["kind"] for each in await faults(shop)] == ["slow"]
    await fault(shop, "lost")
    assert (await shop.control("DELETE", f"/sandbox/faults/{(await faults(shop))[0]['id']}")).json() == {"deleted": 1}
    assert (await shop.control("DELETE", "/sandbox/faults")).json() == {"deleted": 1}
    assert await faults(shop) == []


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "earthquake"},
        {"kind": ["lost"]},
        {},
        {"kind": "lost", "amount_fen": 1},
        {"kind": "lost", "times": 0},
        {"kind": "lost", "times": True},
        {"kind": "lost", "out_trade_no": 1},
        {"kind": "wrong_amount"},
        {"kind": "wrong_amount", "amount_fen": "1"},
        {"kind": "answer_lost"},
        {"kind": "answer_lost", "operation": "earthquake"},
        {"kind": "answer_lost", "operation": "query", "how": "softly"},
        {"kind": "error", "operation": "query", "status": 200},
        {"kind": "duplicate", "count": 1},
    ],
)
async def test_what_is_not_in_the_table_is_refused_with_the_table(shop: Desk, body: dict[str, Any]) -> None:
    answer = await shop.control("POST", "/sandbox/faults", body)
    assert answer.status_code == 422
    known = answer.json()["known"]
    kind = body.get("kind")
    assert set(known) == (set(KINDS) if not isinstance(kind, str) or kind not in KINDS else {kind})


async def test_duplicate(shop: Desk) -> None:
    await fault(shop, "duplicate", count=5, times=1)
    number = (await shop.paid())["out_trade_no"]
    deliveries = await shop.api.wait(5)
    assert len({json.loads(each.body)["id"] for each in deliveries}) == 1
    assert len((await shop.until(number, "delivered"))["attempts"]) == 5
    await shop.paid()
    await shop.api.wait(6)
    await asyncio.sleep(0.02)
    assert len(shop.api.deliveries) == 6


async def test_lost_and_then_sent_by_hand(shop: Desk) -> None:
    order = shop.order()
    await fault(shop, "lost", out_trade_no=order["out_trade_no"])
    await shop.paid()
    await shop.paid(order)
    await shop.control("POST", "/sandbox/clock", {"advance_s": 86_400})
    await asyncio.sleep(0.02)
    assert len(shop.api.deliveries) == 1
    [log] = await shop.callbacks(order["out_trade_no"])
    assert (log["state"], log["attempts"]) == ("lost", [])
    assert (await shop.query(order["out_trade_no"])).json()["trade_state"] == "SUCCESS"
    answer = await shop.control("POST", f"/sandbox/callbacks/{log['id']}/resend", {})
    assert answer.json() == {"statuses": [200]}


async def test_late(shop: Desk) -> None:
    await fault(shop, "late", delay_s=1800)
    number = (await shop.paid())["out_trade_no"]
    assert 1795 < (await shop.callbacks(number))[0]["due_in_s"] <= 1800
    await shop.control("POST", "/sandbox/clock", {"advance_s": 1790})
    await asyncio.sleep(0.02)
    assert shop.api.deliveries == []
    await shop.control("POST", "/sandbox/clock", {"advance_s": 10})
    await shop.api.wait(1)


@pytest.mark.parametrize(
    ("kind", "params", "lie"),
    [
        ("wrong_amount", {"amount_fen": 1}, {"amount": {"total": 1, "payer_total": 1}}),
        ("wrong_currency", {}, {"amount": {"currency": "USD", "payer_currency": "USD"}}),
        ("wrong_currency", {"currency": "EUR"}, {"amount": {"currency": "EUR", "payer_currency": "EUR"}}),
        ("wrong_mchid", {}, {"mchid": "1999999999"}),
        ("wrong_mchid", {"mchid": "1900000109"}, {"mchid": "1900000109"}),
        ("wrong_appid", {"appid": "wx2"}, {"appid": "wx2"}),
    ],
)
async def test_callbacks_that_lie(shop: Desk, kind: str, params: dict[str, Any], lie: dict[str, Any]) -> None:
    await fault(shop, kind, **params)
    number = (await shop.paid())["out_trade_no"]
    [delivery] = await shop.api.wait(1)
    assert shop.verifies(delivery.headers, delivery.body)
    truth = (await shop.query(number)).json()
    expected = {**truth, **{name: value for name, value in lie.items() if name != "amount"}}
    expected["amount"] = truth["amount"] | lie.get("amount", {})
    assert truth != expected
    assert delivery.resource() == expected


async def test_wrong_amount_order_lies_in_the_query_too(shop: Desk) -> None:
    order = shop.order()
    await fault(shop, "wrong_amount_order", amount_fen=7, times=1)
    await shop.place(order)
    assert await amount(shop, order["out_trade_no"]) == 38560
    await shop.paid(order)
    assert (await shop.api.wait(1))[0].resource()["amount"]["total"] == 7
    assert await amount(shop, order["out_trade_no"]) == 7


async def test_signtest_is_followed_by_a_true_signature(shop: Desk) -> None:
    await fault(shop, "signtest", times=1)
    # Even an API that takes the false one gets the true one later.
    number = (await shop.paid())["out_trade_no"]
    [probe] = await shop.api.wait(1)
    assert probe.headers["wechatpay-signature"].startswith("WECHATPAY/SIGNTEST/")
    assert not shop.verifies(probe.headers, probe.body)
    log = await shop.until(number, "pending")
    await shop.control("POST", "/sandbox/clock", {"advance_s": 15})
    _, proper = await shop.api.wait(2)
    assert shop.verifies(proper.headers, proper.body)
    log = await shop.until(number, "delivered")
    assert [attempt["signature"] for attempt in log["attempts"]] == ["probe", "true"]


async def test_certificate_signed_and_unknown_serial(shop: Desk) -> None:
    await fault(shop, "certificate_signed", times=1)
    await shop.paid()
    [delivery] = await shop.api.wait(1)
    [certificate] = shop.merchant.platform["certificates"]
    assert delivery.headers["wechatpay-serial"] == certificate["serial_no"]
    assert shop.verifies(delivery.headers, delivery.body)
    await fault(shop, "unknown_serial", times=1)
    number = (await shop.paid())["out_trade_no"]
    _, foreign = await shop.api.wait(2)
    assert foreign.headers["wechatpay-serial"].startswith("PUB_KEY_ID_")
    assert not shop.verifies(foreign.headers, foreign.body)
    await shop.until(number, "pending")
    await shop.control("POST", "/sandbox/clock", {"advance_s": 15})
    await shop.until(number, "delivered")
    assert shop.verifies(shop.api.deliveries[2].headers, shop.api.deliveries[2].body)


async def test_before_answer(shop: Desk) -> None:
    await fault(shop, "before_answer", times=1)
    order = shop.order()
    answer = await shop.place(order)
    # The callback has been answered by the time that the prepay_id arrives.
    assert answer.status_code == 200
    [log] = await shop.callbacks(order["out_trade_no"])
    assert (log["state"], len(log["attempts"])) == ("delivered", 1)
    answer = await shop.control("POST", "/sandbox/pay", answer.json())
    assert answer.json()["code"] == "order_paid"


@pytest.mark.parametrize("how", ["500", "cut", "timeout"])
async def test_answer_lost_after_acceptance(shop: Desk, how: str) -> None:
    order = shop.order()
    shop.client.timeout = httpx.Timeout(0.3 if how == "timeout" else 5)
    for operation, call in (("prepay", shop.place(order)), ("close", shop.close(order["out_trade_no"]))):
        await fault(shop, "answer_lost", operation=operation, how=how, times=1)
        if how == "500":
            answer = await call
            assert (answer.status_code, answer.json()["code"]) == (500, "SYSTEM_ERROR")
            assert "wechatpay-signature" not in answer.headers
        else:
            with pytest.raises(httpx.ReadTimeout if how == "timeout" else httpx.RemoteProtocolError):
                await call
        state = {"prepay": "NOTPAY", "close": "CLOSED"}[operation]
        assert (await shop.query(order["out_trade_no"])).json()["trade_state"] == state


async def test_error_before_acceptance(shop: Desk) -> None:
    order = shop.order()
    await fault(shop, "error", operation="prepay", status=429, code="FREQUENCY_LIMITED", times=1)
    answer = await shop.place(order)
    assert (answer.status_code, answer.json()["code"]) == (429, "FREQUENCY_LIMITED")
    assert (await shop.query(order["out_trade_no"])).status_code == 404
    assert (await shop.place(order)).status_code == 200
    await fault(shop, "error", operation="query")
    answer = await shop.query(order["out_trade_no"])
    assert (answer.status_code, answer.json()["code"]) == (500, "SYSTEM_ERROR")
    # A request that is not signed properly does not use it up.
    await shop.control("DELETE", "/sandbox/faults")
    await fault(shop, "error", operation="certificates", times=1)
    await shop.signed("GET", "/v3/certificates", signature="bm8=")
    assert len(await faults(shop)) == 1


async def test_bad_signature_on_answers(shop: Desk) -> None:
    order = shop.order()
    await fault(shop, "bad_signature", operation="prepay", times=1)
    for verifies in (False, True):
        answer = await shop.place(order)
        assert answer.status_code == 200
        assert shop.verifies(answer.headers, answer.content) is verifies
    await fault(shop, "bad_signature", times=1)
    answer = await shop.close(order["out_trade_no"])
    assert (answer.status_code, shop.verifies(answer.headers, answer.content)) == (204, False)


async def test_stale_callbacks_are_fresh_the_next_time(shop: Desk) -> None:
    await fault(shop, "stale", age_s=301, times=1)
    number = (await shop.paid())["out_trade_no"]
    [stale] = await shop.api.wait(1)
    # Truthfully signed, and too old: here the API takes it, as an API should not.
    assert shop.verifies(stale.headers, stale.body)
    assert 300 <= clock.unix_s() - int(stale.headers["wechatpay-timestamp"]) <= 303
    log = await shop.until(number, "delivered")
    await shop.control("POST", f"/sandbox/callbacks/{log['id']}/resend", {})
    assert clock.unix_s() - int(shop.api.deliveries[1].headers["wechatpay-timestamp"]) < 5


async def test_reorder_delivers_the_last_first(shop: Desk) -> None:
    await fault(shop, "reorder", count=3, times=1)
    orders = [shop.order() for _ in range(4)]
    for order in orders[:2]:
        await shop.paid(order)
    await asyncio.sleep(0.03)
    assert shop.api.deliveries == []
    assert (await shop.callbacks(orders[0]["out_trade_no"]))[0]["state"] == "held"
    for order in orders[2:]:
        await shop.paid(order)
    await shop.api.wait(4)
    numbers = [order["out_trade_no"] for order in orders]
    told = [each.resource()["out_trade_no"] for each in shop.api.deliveries]
    assert [number for number in told if number != numbers[3]] == numbers[2::-1]
    # A payment and its refund, of one order only; and taking faults back lets go of what is held.
    await fault(shop, "reorder", out_trade_no=numbers[0], of="refund")
    for _ in range(2):
        await shop.refunded(shop.refund(orders[0], 1))
    first, second = [each["refund_id"] for each in await shop.refunds(numbers[0])]
    await shop.decide(second, "SUCCESS")
    await shop.paid()
    await shop.api.wait(5)
    await shop.decide(first, "SUCCESS")
    told = [each.resource().get("refund_id") for each in await shop.api.wait(7)]
    assert told[5:] == [first, second]
    for number, path in ((8, "/{id}"), (9, "")):
        held = await fault(shop, "reorder", count=9)
        await shop.paid()
        await shop.control("DELETE", "/sandbox/faults" + path.format(**held))
        await shop.api.wait(number)


async def test_stale_answers(shop: Desk) -> None:
    await fault(shop, "stale_answer", operation="prepay", times=1)
    answer = await shop.place()
    assert shop.verifies(answer.headers, answer.content)
    assert clock.unix_s() - int(answer.headers["wechatpay-timestamp"]) >= 301


@pytest.mark.parametrize("status", [200, 502])
async def test_html_instead_of_json(shop: Desk, status: int) -> None:
    order = shop.order()
    await fault(shop, "html", operation="prepay", status=status, times=1)
    answer = await shop.place(order)
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (status, "text/html")
    assert "wechatpay-signature" not in answer.headers
    assert (await shop.query(order["out_trade_no"])).json()["trade_state"] == "NOTPAY"


async def test_an_answer_that_ends_in_the_middle(shop: Desk) -> None:
    order = shop.order()
    await fault(shop, "truncated", operation="prepay", times=1)
    with pytest.raises(httpx.RemoteProtocolError, match="complete"):
        await shop.place(order)
    assert (await shop.query(order["out_trade_no"])).json()["trade_state"] == "NOTPAY"


async def test_slow(shop: Desk) -> None:
    order = shop.order()
    await shop.place(order)
    await fault(shop, "slow", delay_ms=200, operation="query", times=1)
    started = asyncio.get_running_loop().time()
    await shop.query(order["out_trade_no"])
    assert asyncio.get_running_loop().time() - started >= 0.2


async def test_faults_survive_a_restart(tmp_path: Path) -> None:
    async with desk(tmp_path) as before:
        await fault(before, "lost", times=3)
    async with desk(tmp_path) as after:
        assert [(each["kind"], each["times_left"]) for each in await faults(after)] == [("lost", 3)]


def test_every_kind_is_acted_on_by_some_test_of_the_sandbox() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_sandbox*.py"))
    assert [kind for kind in KINDS if f'"{kind}"' not in text] == []
