"""The sandbox as WeChat Pay: orders, queries, closing, signatures, and every refusal."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from kit import clock, crypto
from sandbox.clock import beijing
from sandbox.platform_key import make_key_pair
from sandbox.testing import APIV3_KEY, APPID, MCHID, SERIAL_NO, Desk, desk


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as opened:
        yield opened


def refusal(answer: Any) -> tuple[int, str]:
    """Status and code; a refusal is never signed, and names a Request-ID."""
    assert "wechatpay-signature" not in answer.headers
    assert answer.headers["request-id"]
    return answer.status_code, answer.json()["code"]


async def test_a_resident_pays_and_the_callback_says_so(shop: Desk) -> None:
    order = shop.order(attach="bill-7")
    answer = await shop.place(order)
    prepay_id = answer.json()["prepay_id"]
    assert (answer.status_code, len(prepay_id)) == (200, 36)
    assert re.fullmatch(r"wx20\d{12}[0-9a-z]{20}", prepay_id)

    unpaid = (await shop.query(order["out_trade_no"])).json()
    assert unpaid == {
        "appid": APPID,
        "mchid": MCHID,
        "out_trade_no": order["out_trade_no"],
        "trade_state": "NOTPAY",
        "trade_state_desc": "订单未支付",
        "amount": {"total": 38560, "currency": "CNY"},
    }
    paid = (await shop.control("POST", "/sandbox/pay", {"prepay_id": prepay_id})).json()
    assert set(paid) == {"out_trade_no", "transaction_id", "trade_state"}
    assert re.fullmatch(r"42\d{26}", paid["transaction_id"])

    [delivery] = await shop.api.wait(1)
    told = delivery.resource()
    assert (await shop.query(order["out_trade_no"])).json() == told
    by_id = await shop.signed("GET", f"/v3/pay/transactions/id/{paid['transaction_id']}?mchid={MCHID}")
    assert by_id.json() == told
    assert told | {"success_time": ""} == {
        "appid": APPID,
        "mchid": MCHID,
        "out_trade_no": order["out_trade_no"],
        "transaction_id": paid["transaction_id"],
        "trade_type": "JSAPI",
        "trade_state": "SUCCESS",
        "trade_state_desc": "支付成功",
        "bank_type": "OTHERS",
        "attach": "bill-7",
        "success_time": "",
        "payer": {"openid": "resident-1"},
        "amount": {"total": 38560, "payer_total": 38560, "currency": "CNY", "payer_currency": "CNY"},
    }
    assert told["success_time"].endswith("+08:00")


async def test_answer_and_callback_are_signed_as_documented(shop: Desk) -> None:
    await shop.paid()
    answer = await shop.query((await shop.client.get("/sandbox/orders")).json()["orders"][0]["out_trade_no"])
    [delivery] = await shop.api.wait(1)
    platform = shop.merchant.platform
    key: Any = serialization.load_pem_public_key(platform["public_key"].encode())
    for headers, body in ((dict(answer.headers), answer.content), (delivery.headers, delivery.body)):
        assert headers["wechatpay-serial"] == platform["public_key_id"]
        assert headers["wechatpay-signature-type"] == "WECHATPAY2-SHA256-RSA2048"
        message = f"{headers['wechatpay-timestamp']}\n{headers['wechatpay-nonce']}\n".encode() + body + b"\n"
        signature = base64.b64decode(headers["wechatpay-signature"])
        key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    envelope = json.loads(delivery.body)
    assert set(envelope) == {"id", "create_time", "resource_type", "event_type", "summary", "resource"}
    assert len(envelope["id"]) == 36
    assert (envelope["resource_type"], envelope["event_type"]) == ("encrypt-resource", "TRANSACTION.SUCCESS")
    sealed = envelope["resource"]
    assert (sealed["original_type"], sealed["algorithm"]) == ("transaction", "AEAD_AES_256_GCM")
    assert (sealed["associated_data"], len(sealed["nonce"])) == ("transaction", 12)


async def test_without_the_public_key_id_answers_are_signed_by_the_certificate(shop: Desk) -> None:
    [certificate] = shop.merchant.platform["certificates"]
    for serial in ("", "PUB_KEY_ID_0000000000000000000000000000000001", certificate["serial_no"]):
        answer = await shop.signed(
            "POST", "/v3/pay/transactions/jsapi", shop.order(), headers={"Wechatpay-Serial": serial}
        )
        assert answer.headers["wechatpay-serial"] == certificate["serial_no"]
        assert shop.verifies(answer.headers, answer.content)


async def test_certificates_unseal_to_the_one_in_use(shop: Desk) -> None:
    answer = await shop.signed("GET", "/v3/certificates")
    assert shop.verifies(answer.headers, answer.content)
    [row] = answer.json()["data"]
    sealed = row["encrypt_certificate"]
    pem = crypto.aes_gcm_decrypt(
        APIV3_KEY.encode(), sealed["nonce"].encode(), sealed["ciphertext"], sealed["associated_data"].encode()
    )
    [known] = shop.merchant.platform["certificates"]
    assert pem.decode() == known["certificate"]
    assert len(row["serial_no"]) == 40
    assert x509.load_pem_x509_certificate(pem).serial_number == int(row["serial_no"], 16)


async def test_closing_is_204_signed_over_an_empty_body_and_may_be_repeated(shop: Desk) -> None:
    order = shop.order()
    prepay_id = (await shop.place(order)).json()["prepay_id"]
    for _ in range(2):
        answer = await shop.close(order["out_trade_no"])
        assert (answer.status_code, answer.content) == (204, b"")
        assert shop.verifies(answer.headers, b"")
    assert (await shop.query(order["out_trade_no"])).json()["trade_state"] == "CLOSED"
    assert refusal(await shop.place(order)) == (400, "ORDER_CLOSED")
    answer = await shop.control("POST", "/sandbox/pay", {"prepay_id": prepay_id})
    assert (answer.status_code, answer.json()["code"]) == (409, "order_closed")


async def test_the_same_order_again_and_a_changed_one(shop: Desk) -> None:
    order = shop.order()
    first, again = await shop.place(order), await shop.place(dict(reversed(order.items())))
    assert again.status_code == 200
    assert first.json() != again.json()
    for changed in ({"description": "别的"}, {"amount": {"total": 1}}, {"attach": "x"}):
        assert refusal(await shop.place({**order, **changed})) == (403, "OUT_TRADE_NO_USED")
    native = {name: value for name, value in order.items() if name != "payer"}
    assert refusal(await shop.place(native, "native")) == (403, "OUT_TRADE_NO_USED")
    # Both prepay_ids live, the order is paid once.
    for token, status in ((first, 200), (again, 409)):
        answer = await shop.control("POST", "/sandbox/pay", token.json())
        assert answer.status_code == status
    assert refusal(await shop.place(order)) == (400, "ORDERPAID")
    assert refusal(await shop.close(order["out_trade_no"])) == (400, "ORDERPAID")


async def test_ten_payments_at_once_pay_once(shop: Desk) -> None:
    token = (await shop.place()).json()
    answers = await asyncio.gather(*(shop.control("POST", "/sandbox/pay", token) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 9]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"order_paid"}
    await asyncio.sleep(0.05)
    assert len(shop.api.deliveries) == 1


async def test_unknown_orders(shop: Desk) -> None:
    assert refusal(await shop.query("L0000000")) == (404, "ORDER_NOT_EXIST")
    assert refusal(await shop.close("L0000000")) == (404, "ORDER_NOT_EXIST")
    answer = await shop.signed("GET", f"/v3/pay/transactions/id/4200000000?mchid={MCHID}")
    assert refusal(answer) == (404, "ORDER_NOT_EXIST")
    answer = await shop.control("POST", "/sandbox/pay", {"prepay_id": "wx1"})
    assert (answer.status_code, answer.json()["code"]) == (404, "prepay_unknown")


async def test_another_merchant_does_not_see_the_order(shop: Desk) -> None:
    order = shop.order()
    await shop.place(order)
    other = {
        "serial_no": SERIAL_NO,
        "public_key": shop.merchant.public_key,
        "apiv3_key": APIV3_KEY,
        "appids": [APPID],
    }
    keys = (await shop.control("PUT", "/sandbox/merchants/1900000109", other)).json()
    assert keys["public_key_id"] != shop.merchant.platform["public_key_id"]
    assert keys["public_key"] != shop.merchant.platform["public_key"]
    target = f"/v3/pay/transactions/out-trade-no/{order['out_trade_no']}?mchid=1900000109"
    assert refusal(await shop.signed("GET", target, mchid="1900000109")) == (404, "ORDER_NOT_EXIST")
    assert refusal(await shop.signed("GET", target)) == (400, "PARAM_ERROR")
    # The same number is free for the other merchant.
    answer = await shop.signed(
        "POST", "/v3/pay/transactions/jsapi", {**order, "mchid": "1900000109"}, mchid="1900000109"
    )
    assert answer.status_code == 200


UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"amount": {"total": 0}}, "/amount/total"),
    ({"amount": {"total": "1"}}, "/amount/total"),
    ({"amount": {"total": True}}, "/amount/total"),
    ({"amount": {"total": 1.0}}, "/amount/total"),
    ({"amount": {"total": 1, "currency": "USD"}}, "/amount/currency"),
    ({"amount": {"total": 1, "yuan": 1}}, "/amount/yuan"),
    ({"amount": None}, "/amount"),
    ({"payer": None}, "/payer"),
    ({"payer": {}}, "/payer/openid"),
    ({"out_trade_no": 20261123}, "/out_trade_no"),
    ({"out_trade_no": "short"}, "/out_trade_no"),
    ({"out_trade_no": "x" * 33}, "/out_trade_no"),
    ({"out_trade_no": "has space"}, "/out_trade_no"),
    ({"description": ""}, "/description"),
    ({"description": "费" * 128}, "/description"),
    ({"attach": "x" * 129}, "/attach"),
    ({"notify_url": "http://127.0.0.1/notify?a=1"}, "/notify_url"),
    ({"notify_url": "ftp://127.0.0.1/notify"}, "/notify_url"),
    ({"notify_url": "http://127.0.0.1/" + "x" * 255}, "/notify_url"),
    ({"time_expire": "2026-11-23 12:00:00"}, "/time_expire"),
    ({"time_expire": "2026-13-23T12:00:00+08:00"}, "/time_expire"),
    ({"limit_pay": ["cash_only"]}, "/limit_pay/0"),
    ({"detail": {"goods_detail": [{"merchant_goods_id": "1", "quantity": 0, "unit_price": 1}]}},
     "/detail/goods_detail/0/quantity"),
    ({"detail": {"invoice_id": "1", "goods_detail": [
        {"merchant_goods_id": "1", "quantity": 1, "unit_price": 1, "goods_name": "费" * 200}] * 12}}, "/detail"),
    ({"scene_info": {"device_id": "1"}}, "/scene_info/payer_client_ip"),
    ({"settle_info": {"profit_sharing": "Y"}}, "/settle_info/profit_sharing"),
    ({"colour": "green"}, "/colour"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "pointer"), UNFIT, ids=[f"{position}" for position in range(len(UNFIT))])
async def test_parameters_that_do_not_fit(shop: Desk, changes: dict[str, Any], pointer: str) -> None:
    answer = await shop.place(shop.order(**changes))
    assert refusal(answer) == (400, "PARAM_ERROR")
    detail = answer.json()["detail"]
    assert (detail["field"], detail["location"]) == (pointer, "body")
    if changes == {"amount": {"total": 0}}:
        assert detail["issue"] == "输入源“/body/amount/total”映射到数值字段“总金额”规则校验失败，值低于最小值 1"
        assert detail["value"] == 0


async def test_who_may_order_and_pay_for_what(shop: Desk) -> None:
    await shop.control("PUT", "/sandbox/apps/wx2", {"secret": "s", "name": "另一个"})
    await shop.control("POST", "/sandbox/login-code", {"openid": "stranger", "app": "wx2"})
    assert refusal(await shop.place(shop.order(appid="wx2"))) == (400, "APPID_MCHID_NOT_MATCH")
    for openid in ("stranger", "nobody"):
        answer = await shop.place(shop.order(payer={"openid": openid}))
        assert refusal(answer) == (400, "PARAM_ERROR")
        assert answer.json()["message"] == "appid和openid不匹配"
    answer = await shop.place(shop.order(mchid="1900000109"))
    assert refusal(answer) == (400, "PARAM_ERROR")
    assert answer.json()["message"] == "http header中的mchid与post payload中的mchid不匹配"
    token = (await shop.place()).json()
    answer = await shop.control("POST", "/sandbox/pay", {**token, "openid": "stranger"})
    assert (answer.status_code, answer.json()["code"]) == (409, "payer_differs")
    answer = await shop.signed("GET", "/v3/pay/transactions/out-trade-no/L0000000")
    assert (answer.json()["detail"]["field"], answer.json()["detail"]["location"]) == ("mchid", "query")


async def test_a_body_that_is_not_an_object(shop: Desk) -> None:
    answer = await shop.signed("POST", "/v3/pay/transactions/jsapi", [1])
    assert refusal(answer) == (400, "PARAM_ERROR")


async def test_unknown_path_and_method_have_no_body(shop: Desk) -> None:
    for method, path, status in (("GET", "/v3/nothing", 404), ("DELETE", "/v3/certificates", 405)):
        answer = await shop.client.request(method, path)
        assert (answer.status_code, answer.content) == (status, b"")


async def test_time_runs_out(shop: Desk) -> None:
    async def pay(token: dict[str, str]) -> tuple[int, str]:
        answer = await shop.control("POST", "/sandbox/pay", token)
        return answer.status_code, answer.json().get("code", "")

    def within(seconds: int) -> str:
        return beijing(clock.now() + timedelta(seconds=seconds))

    short = shop.order(time_expire=within(600))
    too_soon = shop.order(time_expire=within(-600))
    too_late = shop.order(time_expire=within(40 * 86_400))
    tokens = [(await shop.place(order)).json() for order in (short, too_soon, too_late)]
    orders = (await shop.client.get("/sandbox/orders")).json()["orders"]
    # Raised to one minute, lowered to fifteen days.
    assert orders[1]["time_expire"] <= within(60)
    assert within(15 * 86_400 - 5) <= orders[0]["time_expire"] <= within(15 * 86_400)
    await shop.control("POST", "/sandbox/clock", {"advance_s": 61})
    assert await pay(tokens[1]) == (409, "order_expired")
    await shop.control("POST", "/sandbox/clock", {"advance_s": 600})
    assert await pay(tokens[0]) == (409, "order_expired")
    assert refusal(await shop.place(short)) == (400, "ORDER_CLOSED")
    # Past its time an order is not closed by itself.
    assert (await shop.query(short["out_trade_no"])).json()["trade_state"] == "NOTPAY"
    await shop.control("POST", "/sandbox/clock", {"advance_s": 7200})
    assert await pay(tokens[2]) == (409, "prepay_expired")
    assert await pay((await shop.place(too_late)).json()) == (200, "")


async def test_native_codes(shop: Desk) -> None:
    order = shop.order(payer=None)
    old, new = [(await shop.place(order, "native")).json()["code_url"] for _ in range(2)]
    assert old.startswith("weixin://wxpay/bizpayurl?pr=")
    answer = await shop.control("POST", "/sandbox/pay", {"prepay_id": old, "openid": "resident-1"})
    assert answer.status_code == 404
    answer = await shop.control("POST", "/sandbox/pay", {"prepay_id": new})
    assert (answer.status_code, answer.json()["code"]) == (422, "openid_missing")
    await shop.control("POST", "/sandbox/pay", {"prepay_id": new, "openid": "resident-1"})
    told = (await shop.api.wait(1))[0].resource()
    assert (told["trade_type"], told["payer"]) == ("NATIVE", {"openid": "resident-1"})


async def test_registering_again_keeps_the_platforms_keys(shop: Desk) -> None:
    public_key, _ = make_key_pair()
    body = {"serial_no": "AB" * 20, "public_key": public_key, "apiv3_key": "k" * 32, "appids": [APPID]}
    answer = await shop.control("PUT", f"/sandbox/merchants/{MCHID}", body)
    assert answer.json() == shop.merchant.platform
    assert (await shop.client.get(f"/sandbox/merchants/{MCHID}")).json() == shop.merchant.platform
    assert refusal(await shop.place()) == (401, "SIGN_ERROR")
    for wrong in (
        {"apiv3_key": "short"},
        {"public_key": "no key"},
        {"public_key": shop.merchant.platform["certificates"][0]["certificate"]},
        {"serial_no": "none"},
        {"appids": "wx"},
        {"appids": [1]},
        {"extra": 1},
    ):
        answer = await shop.control("PUT", f"/sandbox/merchants/{MCHID}", {**body, **wrong})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def test_orders_are_listed_in_pages(shop: Desk) -> None:
    orders = [shop.order() for _ in range(5)]
    for order in orders:
        await shop.place(order)
    await shop.close(orders[2]["out_trade_no"])
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await shop.client.get("/sandbox/orders", params={"limit": 2, "cursor": cursor})).json()
        seen += [row["out_trade_no"] for row in page["orders"]]
        cursor = page["next_cursor"]
    assert seen == [order["out_trade_no"] for order in reversed(orders)]
    closed = (await shop.client.get("/sandbox/orders", params={"state": "CLOSED"})).json()["orders"]
    assert [row["out_trade_no"] for row in closed] == [orders[2]["out_trade_no"]]
    for query, status in (("state=GONE", 422), ("limit=0", 422), ("limit=x", 422), ("cursor=x", 400)):
        assert (await shop.client.get(f"/sandbox/orders?{query}")).status_code == status
