"""Refunds in the sandbox: every rule of asking, how they end, and what the notices say."""

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sandbox.refund import YEAR_S
from sandbox.testing import APIV3_KEY, MCHID, Desk, desk


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as opened:
        yield opened


async def paid_order(shop: Desk, total: int = 10000) -> dict[str, Any]:
    order = shop.order(amount={"total": total, "currency": "CNY"})
    await shop.paid(order)
    return order


async def fault(shop: Desk, kind: str, **rest: Any) -> None:
    answer = await shop.control("POST", "/sandbox/faults", {"kind": kind, **rest})
    assert answer.status_code == 200, answer.text


async def advance(shop: Desk, seconds: int) -> None:
    await shop.control("POST", "/sandbox/clock", {"advance_s": seconds})


async def status(shop: Desk, refund: dict[str, Any]) -> str:
    return str((await shop.query_refund(refund["out_refund_no"])).json()["status"])


async def decided(shop: Desk, refund: dict[str, Any]) -> dict[str, Any]:
    """The refund once it is no longer on its way."""
    async with asyncio.timeout(5):
        while True:
            told: dict[str, Any] = (await shop.query_refund(refund["out_refund_no"])).json()
            if told["status"] != "PROCESSING":
                return told
            await asyncio.sleep(0.01)


async def noticed(shop: Desk, order: dict[str, Any], count: int = 1) -> list[dict[str, Any]]:
    """What the notices of an order's refunds said, once so many were delivered; every signature true."""
    async with asyncio.timeout(5):
        while True:
            got = [each for each in shop.api.deliveries if each.path == "/notify/refund"]
            if len(got) >= count:
                break
            await asyncio.sleep(0.01)
    assert all(shop.verifies(each.headers, each.body) for each in got)
    assert {each.resource()["out_trade_no"] for each in got} == {order["out_trade_no"]}
    return [each.resource() for each in got]


def refusal(answer: httpx.Response) -> tuple[int, str]:
    assert "wechatpay-signature" not in answer.headers
    return answer.status_code, answer.json()["code"]


async def test_a_refund_is_accepted_decided_and_told(shop: Desk) -> None:
    order = await paid_order(shop)
    refund = shop.refund(order, 2500, reason="多收的停车费")
    answer = await shop.refunded(refund)
    assert answer.status_code == 200
    assert shop.verifies(answer.headers, answer.content)
    told = answer.json()
    assert re.fullmatch(r"50\d{27}", told["refund_id"])
    assert (told["status"], "success_time" in told) == ("PROCESSING", False)
    assert told["out_refund_no"] == refund["out_refund_no"]
    assert (told["amount"]["refund"], told["amount"]["total"], told["amount"]["currency"]) == (2500, 10000, "CNY")
    # Asked for again it is the same one; the order says that something went back.
    assert (await shop.refunded(refund)).json() == told
    assert (await shop.query_refund(refund["out_refund_no"])).json() == told
    assert (await shop.query(order["out_trade_no"])).json()["trade_state"] == "REFUND"
    await advance(shop, 3)
    [notice] = await noticed(shop, order)
    done = await decided(shop, refund)
    assert done["status"] == "SUCCESS"
    assert notice == {
        "mchid": MCHID,
        "out_trade_no": order["out_trade_no"],
        "transaction_id": told["transaction_id"],
        "out_refund_no": refund["out_refund_no"],
        "refund_id": told["refund_id"],
        "refund_status": "SUCCESS",
        "success_time": done["success_time"],
        "user_received_account": "支付用户零钱",
        "amount": {"total": 10000, "refund": 2500, "payer_total": 10000, "payer_refund": 2500},
    }
    [log] = await shop.notices(order["out_trade_no"])
    assert (log["event_type"], log["format"]) == ("REFUND.SUCCESS", "json")
    # And by WeChat's number, without an address: no notice.
    rest = shop.refund(order, 7500, out_trade_no=None, transaction_id=told["transaction_id"], notify_url=None)
    assert (await shop.refunded(rest)).json()["out_trade_no"] == order["out_trade_no"]
    await advance(shop, 3)
    assert (await decided(shop, rest))["status"] == "SUCCESS"
    assert len(await shop.notices(order["out_trade_no"])) == 1


async def test_no_more_goes_back_than_came(shop: Desk) -> None:
    order = await paid_order(shop, 100)
    first = shop.refund(order, 60)
    assert (await shop.refunded(first)).status_code == 200
    assert refusal(await shop.refunded(shop.refund(order, 41))) == (400, "INVALID_REQUEST")
    # What is closed came back to the merchant, so it may go out again, under another number.
    refund_id = (await shop.refunds(order["out_trade_no"]))[0]["refund_id"]
    assert (await shop.decide(refund_id, "CLOSED")).json()["status"] == "CLOSED"
    assert (await shop.refunded(first)).json()["status"] == "CLOSED"
    assert (await shop.refunded(shop.refund(order, 100))).status_code == 200
    assert [each["refund_fen"] for each in await shop.refunds(order["out_trade_no"])] == [100, 60]


async def test_the_same_number_is_the_same_refund(shop: Desk) -> None:
    order, other = await paid_order(shop), await paid_order(shop)
    refund = shop.refund(order, 100)
    await shop.refunded(refund)
    for changes, code in (
        ({"amount": {"refund": 101, "total": 10000, "currency": "CNY"}}, "REFUND_FEE_MISMATCH"),
        ({"amount": {"refund": 100, "total": 9999, "currency": "CNY"}}, "REFUND_FEE_MISMATCH"),
        ({"reason": "另一个原因"}, "INVALID_REQUEST"),
        ({"out_trade_no": other["out_trade_no"]}, "INVALID_REQUEST"),
    ):
        assert refusal(await shop.refunded({**refund, **changes})) == (400, code)
    assert len(await shop.refunds(order["out_trade_no"])) == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount": {"refund": 0, "total": 10000, "currency": "CNY"}}, "/amount/refund"),
        ({"amount": {"refund": "1", "total": 10000, "currency": "CNY"}}, "/amount/refund"),
        ({"amount": {"refund": 1, "total": 10000}}, "/amount/currency"),
        ({"amount": {"refund": 1, "total": 10000, "currency": "USD"}}, "/amount/currency"),
        ({"out_refund_no": "x" * 65}, "/out_refund_no"),
        ({"out_refund_no": "退款"}, "/out_refund_no"),
        ({"out_refund_no": None}, "/out_refund_no"),
        ({"reason": "退" * 81}, "/reason"),
        ({"notify_url": "http://127.0.0.1/" + "n" * 240}, "/notify_url"),
        ({"notify_url": "http://127.0.0.1/n?order=1"}, "/notify_url"),
        ({"out_trade_no": None}, "/out_trade_no"),
        ({"attach": "x"}, "/attach"),
        ({"funds_account": "MINE"}, "/funds_account"),
    ],
)
async def test_parameters_that_do_not_fit(shop: Desk, changes: dict[str, Any], field: str) -> None:
    order = await paid_order(shop)
    answer = await shop.refunded(shop.refund(order, **changes))
    assert refusal(answer) == (400, "PARAM_ERROR")
    assert answer.json()["detail"]["field"] == field
    assert await shop.refunds(order["out_trade_no"]) == []
    assert (await shop.query(order["out_trade_no"])).json()["trade_state"] == "SUCCESS"


async def test_what_cannot_be_refunded(shop: Desk) -> None:
    unpaid = shop.order()
    await shop.place(unpaid)
    for order in (unpaid, shop.order()):
        assert refusal(await shop.refunded(shop.refund(order))) == (404, "RESOURCE_NOT_EXISTS")
    assert refusal(await shop.query_refund("R-unknown")) == (404, "RESOURCE_NOT_EXISTS")
    order = await paid_order(shop)
    wrong_total = shop.refund(order, amount={"refund": 1, "total": 9999, "currency": "CNY"})
    assert refusal(await shop.refunded(wrong_total)) == (400, "INVALID_REQUEST")
    assert refusal(await shop.refunded(shop.refund(order, sub_mchid="1900000109"))) == (403, "NO_AUTH")
    await advance(shop, YEAR_S + 60)
    assert refusal(await shop.refunded(shop.refund(order))) == (400, "TRADE_OVERDUE")


async def test_fifty_times_and_no_more(shop: Desk) -> None:
    order = await paid_order(shop)
    for _ in range(50):
        assert (await shop.refunded(shop.refund(order, 1))).status_code == 200
    assert refusal(await shop.refunded(shop.refund(order, 1))) == (400, "INVALID_REQUEST")


async def test_an_abnormal_refund_is_sent_to_a_card(shop: Desk) -> None:
    order = await paid_order(shop)
    await fault(shop, "refund_outcome", outcome="ABNORMAL", times=1)
    refund = shop.refund(order)
    refund_id = (await shop.refunded(refund)).json()["refund_id"]
    path = f"/v3/refund/domestic/refunds/{refund_id}/apply-abnormal-refund"
    again = {"out_refund_no": refund["out_refund_no"], "type": "MERCHANT_BANK_CARD"}
    assert refusal(await shop.signed("POST", path, again)) == (400, "INVALID_REQUEST")
    await advance(shop, 3)
    [notice] = await noticed(shop, order)
    assert (notice["refund_status"], "success_time" in notice) == ("ABNORMAL", False)
    assert refusal(await shop.signed("POST", path, {**again, "out_refund_no": "R-other"})) == (
        *(404, "RESOURCE_NOT_EXISTS"),
    )
    assert refusal(await shop.signed("POST", path, {**again, "type": "CASH"})) == (400, "PARAM_ERROR")
    # A card number in plain text is refused; sealed with WeChat's key it is taken.
    card = {**again, "type": "USER_BANK_CARD", "bank_type": "ICBC_DEBIT", "bank_account": "6222020000000000000"}
    assert refusal(await shop.signed("POST", path, card)) == (400, "PARAM_ERROR")
    key: Any = serialization.load_pem_public_key(shop.merchant.platform["public_key"].encode())
    scheme = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)  # noqa: S303 - the protocol's
    sealed = key.encrypt(card["bank_account"].encode(), scheme)
    answer = await shop.signed("POST", path, {**card, "bank_account": base64.b64encode(sealed).decode()})
    assert (answer.status_code, answer.json()["status"]) == (200, "PROCESSING")
    await advance(shop, 3)
    assert [each["refund_status"] for each in await noticed(shop, order, 2)] == ["ABNORMAL", "SUCCESS"]


async def test_outcomes_on_demand(shop: Desk) -> None:
    order = await paid_order(shop)
    await fault(shop, "refund_outcome", outcome="CLOSED", delay_s=0, times=1)
    closed = shop.refund(order, 100)
    await shop.refunded(closed)
    assert (await decided(shop, closed))["status"] == "CLOSED"
    assert [each["refund_status"] for each in await noticed(shop, order)] == ["CLOSED"]
    await fault(shop, "refund_outcome", outcome="PROCESSING", out_trade_no=order["out_trade_no"], times=1)
    never = shop.refund(order, 100)
    await shop.refunded(never)
    await advance(shop, 30 * 86_400)
    await asyncio.sleep(0.05)
    assert await status(shop, never) == "PROCESSING"


async def test_decided_by_hand_and_again(shop: Desk) -> None:
    order = await paid_order(shop)
    refund = shop.refund(order)
    refund_id = (await shop.refunded(refund)).json()["refund_id"]
    assert (await shop.decide(refund_id, "ABNORMAL")).json()["status"] == "ABNORMAL"
    assert (await shop.decide(refund_id, "SUCCESS")).json()["status"] == "SUCCESS"
    for late in ("SUCCESS", "CLOSED", "ABNORMAL"):
        answer = await shop.decide(refund_id, late)
        assert (answer.status_code, answer.json()["code"]) == (409, "refund_decided")
    assert (await shop.decide(refund_id, "PROCESSING")).status_code == 422
    assert (await shop.decide("50000", "SUCCESS")).status_code == 404
    assert [each["refund_status"] for each in await noticed(shop, order, 2)] == ["ABNORMAL", "SUCCESS"]


async def test_the_notice_before_the_answer(shop: Desk) -> None:
    order = await paid_order(shop)
    await fault(shop, "before_answer", operation="refund", times=1)
    answer = await shop.refunded(shop.refund(order))
    # The answer still says what was true when the refund was accepted.
    assert answer.json()["status"] == "PROCESSING"
    [log] = await shop.notices(order["out_trade_no"])
    assert (log["state"], log["resource"]["refund_status"]) == ("delivered", "SUCCESS")


@pytest.mark.parametrize("how", ["500", "429", "cut", "timeout"])
async def test_accepted_though_the_answer_says_nothing_of_it(shop: Desk, how: str) -> None:
    order = await paid_order(shop)
    refund = shop.refund(order)
    await fault(shop, "answer_lost", operation="refund", how=how, times=1)
    shop.client.timeout = httpx.Timeout(0.3 if how == "timeout" else 5)
    if how in ("500", "429"):
        assert (
            refusal(await shop.refunded(refund))
            == {
                "500": (500, "SYSTEM_ERROR"),
                "429": (429, "FREQUENCY_LIMITED"),
            }[how]
        )
    else:
        with pytest.raises(httpx.ReadTimeout if how == "timeout" else httpx.RemoteProtocolError):
            await shop.refunded(refund)
    assert await status(shop, refund) == "PROCESSING"
    assert (await shop.refunded(refund)).status_code == 200
    assert len(await shop.refunds(order["out_trade_no"])) == 1


async def test_notices_lost_late_doubled_and_lying(shop: Desk) -> None:
    order = await paid_order(shop)
    await shop.api.wait(1)
    await fault(shop, "lost", of="refund", times=1)
    await fault(shop, "duplicate", of="transaction", times=1)
    refund = shop.refund(order, 100)
    refund_id = (await shop.refunded(refund)).json()["refund_id"]
    await shop.decide(refund_id, "SUCCESS")
    [log] = await shop.notices(order["out_trade_no"])
    assert log["state"] == "lost"
    # The payment's fault waits for a payment.
    kinds = [each["kind"] for each in (await shop.client.get("/sandbox/faults")).json()["faults"]]
    assert kinds == ["duplicate"]
    await shop.control("DELETE", "/sandbox/faults")
    await fault(shop, "late", delay_s=600, times=1)
    await fault(shop, "duplicate", count=3, times=1)
    await fault(shop, "wrong_amount", amount_fen=7, times=1)
    await fault(shop, "wrong_mchid", times=1)
    await fault(shop, "wrong_currency")
    refund_id = (await shop.refunded(shop.refund(order, 200))).json()["refund_id"]
    await shop.decide(refund_id, "SUCCESS")
    assert (await shop.notices(order["out_trade_no"]))[0]["due_in_s"] > 590
    await advance(shop, 600)
    told = await noticed(shop, order, 3)
    assert [each["mchid"] for each in told] == ["1999999999"] * 3
    assert told[0]["amount"] == {"total": 10000, "refund": 7, "payer_total": 10000, "payer_refund": 7}


async def test_made_by_hand_at_wechats_site(shop: Desk) -> None:
    order = await paid_order(shop, 500)
    made = await shop.refund_by_hand(order["out_trade_no"], 200, reason="客服退款")
    assert (made["by_hand"], made["status"], made["refund_fen"]) == (True, "PROCESSING", 200)
    await advance(shop, 3)
    # The merchant can ask for it once it has learnt the number; no notice without an address.
    done = await decided(shop, made)
    assert (done["status"], done["amount"]["refund"]) == ("SUCCESS", 200)
    assert (await shop.query(order["out_trade_no"])).json()["trade_state"] == "REFUND"
    assert await shop.notices(order["out_trade_no"]) == []
    await shop.refund_by_hand(order["out_trade_no"], 100, notify_url=f"{shop.api.base}/notify/refund")
    await advance(shop, 3)
    assert [each["amount"]["refund"] for each in await noticed(shop, order)] == [100]
    for body, expected in (
        ({"out_trade_no": order["out_trade_no"], "amount_fen": 201}, (409, "refund_refused")),
        ({"out_trade_no": "L-unknown", "amount_fen": 1}, (404, "order_not_paid")),
        ({"out_trade_no": order["out_trade_no"], "amount_fen": 0}, (422, "invalid_input")),
    ):
        answer = await shop.control("POST", "/sandbox/refunds", body)
        assert (answer.status_code, answer.json()["code"]) == expected


async def test_the_old_notice_of_the_merchant_platform(shop: Desk) -> None:
    assert (await shop.register(refund_notify_url=f"{shop.api.base}/notify/old")).status_code == 200
    order = await paid_order(shop, 500)
    made = await shop.refund_by_hand(order["out_trade_no"], 200)
    await shop.decide(made["refund_id"], "SUCCESS")
    _, delivery = await shop.api.wait(2)
    assert (delivery.path, delivery.headers["content-type"]) == ("/notify/old", "text/xml")
    assert "wechatpay-signature" not in delivery.headers
    outside = dict(re.findall(rb"<(\w+)>([^<]*)</", delivery.body))
    assert (outside[b"return_code"], outside[b"mch_id"]) == (b"SUCCESS", MCHID.encode())
    key = hashlib.md5(APIV3_KEY.encode(), usedforsecurity=False).hexdigest().encode()
    opened = Cipher(algorithms.AES(key), modes.ECB()).decryptor()  # noqa: S305
    inside = dict(re.findall(rb"<(\w+)>([^<]*)</", opened.update(base64.b64decode(outside[b"req_info"]))))
    assert inside[b"out_refund_no"] == made["out_refund_no"].encode()
    assert (inside[b"refund_status"], inside[b"refund_fee"]) == (b"SUCCESS", b"200")
    [log] = await shop.notices(order["out_trade_no"])
    assert log["format"] == "xml"


async def test_refunds_survive_a_restart(tmp_path: Path) -> None:
    async with desk(tmp_path) as before:
        order = await paid_order(before)
        refund = before.refund(order, notify_url=None)
        await before.refunded(refund)
    async with desk(tmp_path) as after:
        assert await status(after, refund) == "PROCESSING"
        await advance(after, 3)
        assert (await decided(after, refund))["status"] == "SUCCESS"
