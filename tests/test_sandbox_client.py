"""An independent client, the wechatpayv3 package, drives the whole sandbox. It raises when a signature is not true."""

import asyncio
import csv
import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from wechatpayv3 import WeChatPay, WeChatPayType

from kit import clock
from sandbox.testing import APIV3_KEY, APPID, MCHID, SERIAL_NO, Desk, desk

TODAY = clock.today()
SUB = "1900000109"


@pytest.fixture
async def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with desk(tmp_path) as opened:
        yield opened


def client_of(shop: Desk, **changes: Any) -> WeChatPay:
    platform = shop.merchant.platform
    keys = {"public_key": platform["public_key"], "public_key_id": platform["public_key_id"]}
    client = WeChatPay(
        **{
            "wechatpay_type": WeChatPayType.MINIPROG,
            "mchid": MCHID,
            "private_key": shop.merchant.private_key,
            "cert_serial_no": SERIAL_NO,
            "apiv3_key": APIV3_KEY,
            "appid": APPID,
            "notify_url": f"{shop.api.base}/notify",
            "timeout": (5, 5),
            **keys,
            **changes,
        }
    )
    client._core._gate_way = shop.base
    return client


async def ask(call: Callable[..., Any], *values: Any, **named: Any) -> tuple[int, Any]:
    """Status and answer of a call, in a thread of its own: the client blocks."""
    status, text = await asyncio.to_thread(call, *values, **named)
    return status, json.loads(text) if isinstance(text, str) and text else text


async def order(client: WeChatPay, number: str, fen: int = 500, **more: Any) -> dict[str, Any]:
    payer = {"openid": "resident-1"} if not more else {"sp_openid": "resident-1"}
    given = {"description": "停车费", "out_trade_no": number, "amount": {"total": fen}, "payer": payer}
    status, told = await ask(client.pay, **given, **more)
    assert status == 200, told
    return dict(told)


async def test_orders(shop: Desk) -> None:
    client = client_of(shop)
    prepay = await order(client, "PARK-000001")
    status, told = await ask(client.query, out_trade_no="PARK-000001")
    assert (status, told["trade_state"]) == (200, "NOTPAY")
    await shop.control("POST", "/sandbox/pay", prepay)
    [delivery] = await shop.api.wait(1)
    told = client.callback(delivery.headers, delivery.body)
    assert told["resource"]["out_trade_no"] == "PARK-000001"
    await order(client, "PARK-000002")
    assert (await ask(client.close, "PARK-000002"))[0] == 204
    status, told = await ask(client.close, "PARK-000001")
    assert (status, told["code"]) == (400, "ORDERPAID")


async def test_refunds(shop: Desk) -> None:
    client = client_of(shop)
    await shop.control("POST", "/sandbox/pay", await order(client, "PARK-000001"))
    amount = {"refund": 200, "total": 500, "currency": "CNY"}
    given = {"out_refund_no": "BACK-1", "amount": amount, "out_trade_no": "PARK-000001", "reason": "多收"}
    status, told = await ask(client.refund, **given)
    assert (status, told["status"]) == (200, "PROCESSING")
    await shop.decide(told["refund_id"], "ABNORMAL")
    status, told = await ask(client.query_refund, "BACK-1")
    assert (status, told["status"]) == (200, "ABNORMAL")
    card = {"bank_type": "ICBC_DEBIT", "bank_account": "6222020000000000000", "real_name": "住户"}
    status, told = await ask(client.abnormal_refund, told["refund_id"], "BACK-1", "USER_BANK_CARD", **card)
    assert (status, told["status"]) == (200, "PROCESSING")
    await shop.decide(told["refund_id"], "SUCCESS")
    notices = [client.callback(each.headers, each.body) for each in await shop.api.wait(3)]
    assert {each["event_type"] for each in notices[1:]} == {"REFUND.ABNORMAL", "REFUND.SUCCESS"}
    assert (await ask(client.query, out_trade_no="PARK-000001"))[1]["trade_state"] == "REFUND"
    status, told = await ask(client.refund, **{**given, "out_refund_no": "BACK-2", "amount": {**amount, "refund": 301}})
    assert (status, told["code"]) == (400, "INVALID_REQUEST")


async def test_bills(shop: Desk) -> None:
    client = client_of(shop)
    for number in ("PARK-000001", "PARK-000002"):
        await shop.control("POST", "/sandbox/pay", await order(client, number))
    await shop.control("POST", "/sandbox/clock", {"advance_to": "tomorrow 10:30"})
    for ask_for, column, values in (
        (client.trade_bill, "商户订单号", ["PARK-000001", "PARK-000002"]),
        (client.fundflow_bill, "收支金额(元)", ["5.00", "0.03", "5.00", "0.03"]),
    ):
        status, told = await ask(ask_for, str(TODAY))
        assert status == 200, told
        status, packed = await ask(client.download_bill, told["download_url"])
        content = gzip.decompress(packed)
        assert hashlib.sha1(content, usedforsecurity=False).hexdigest() == told["hash_value"]
        rows = list(csv.reader(content.decode("utf-8-sig").splitlines()))
        place = rows[0].index(column)
        assert [row[place].removeprefix("`") for row in rows[1:-2]] == values


async def test_certificates_and_their_change(shop: Desk, tmp_path: Path) -> None:
    """A client of the old kind: it has no public key, and fetches a certificate that it does not know."""
    (tmp_path / "certificates").mkdir()
    [known] = shop.merchant.platform["certificates"]
    (tmp_path / "certificates" / f"{known['serial_no']}.pem").write_text(known["certificate"])
    await shop.register(keys="certificate")
    folder = str(tmp_path / "certificates")
    client = client_of(shop, public_key=None, public_key_id=None, cert_dir=folder)
    await order(client, "PARK-000001")
    await shop.control("POST", "/sandbox/rotation", {})
    prepay = await order(client, "PARK-000002")
    assert len(client._core._certificates) == 2
    await shop.control("DELETE", "/sandbox/rotation")
    await shop.control("POST", "/sandbox/pay", prepay)
    [delivery] = await shop.api.wait(1)
    assert client.callback(delivery.headers, delivery.body)["resource"]["out_trade_no"] == "PARK-000002"


async def test_a_service_provider(shop: Desk) -> None:
    await shop.register(sub_merchants={SUB: []})
    client = client_of(shop, partner_mode=True)
    prepay = await order(client, "PARK-000001", sub_mchid=SUB)
    await shop.control("POST", "/sandbox/pay", prepay)
    status, told = await ask(client.query, out_trade_no="PARK-000001", sub_mchid=SUB)
    assert (status, told["trade_state"], told["sub_mchid"]) == (200, "SUCCESS", SUB)
    amount = {"refund": 500, "total": 500, "currency": "CNY"}
    status, told = await ask(client.refund, "BACK-1", amount, out_trade_no="PARK-000001", sub_mchid=SUB)
    assert (status, told["status"]) == (200, "PROCESSING")
    status, told = await ask(client.query_refund, "BACK-1", sub_mchid=SUB)
    assert (status, told["amount"]["refund"]) == (200, 500)
    await order(client, "PARK-000002", sub_mchid=SUB)
    assert (await ask(client.close, "PARK-000002", sub_mchid=SUB))[0] == 204
