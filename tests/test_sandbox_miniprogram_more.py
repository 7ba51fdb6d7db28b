"""The sandbox as the rest of the mini-program server API: texts, codes to scan, shipping, pushes, errors on demand."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from wechatpy.crypto import WeChatCrypto
from wechatpy.utils import check_signature

from sandbox.fault import APIS
from sandbox.testing import APPID, MCHID, SECRET, TEMPLATE, Delivery, Desk, desk

AES_KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as opened:
        yield opened


async def plain_token(shop: Desk, **changes: str) -> dict[str, Any]:
    query = {"grant_type": "client_credential", "appid": APPID, "secret": SECRET, **changes}
    told: dict[str, Any] = (await shop.client.get("/cgi-bin/token", params=query)).json()
    return told


async def stable_token(shop: Desk) -> str:
    body = {"grant_type": "client_credential", "appid": APPID, "secret": SECRET}
    return str((await shop.client.post("/cgi-bin/stable_token", json=body)).json()["access_token"])


async def call(shop: Desk, path: str, body: dict[str, Any], token: str | None = None) -> httpx.Response:
    return await shop.client.post(path, params={"access_token": token or await stable_token(shop)}, json=body)


async def errcode(shop: Desk, path: str, body: dict[str, Any], token: str | None = None) -> int:
    return int((await call(shop, path, body, token)).json()["errcode"])


async def check(shop: Desk, **changes: Any) -> dict[str, Any]:
    body = {"version": 2, "openid": "resident-1", "scene": 2, "content": "楼道的灯坏了", **changes}
    told: dict[str, Any] = (await call(shop, "/wxa/msg_sec_check", body)).json()
    return told


async def test_the_older_token_lives_beside_the_stable_one(shop: Desk) -> None:
    stable, first = await stable_token(shop), await plain_token(shop)
    assert first["expires_in"] == 7200
    second = await plain_token(shop)
    assert len({stable, first["access_token"], second["access_token"]}) == 3
    path, body = "/wxa/sec/order/is_trade_managed", {"appid": APPID}
    tokens = (stable, first["access_token"], second["access_token"])
    assert [await errcode(shop, path, body, each) for each in tokens] == [0, 0, 0]
    await shop.control("POST", "/sandbox/clock", {"advance_s": 301})
    # Five minutes after its successor the old one has ended; the stable one never noticed.
    assert [await errcode(shop, path, body, each) for each in tokens] == [0, 42001, 0]
    assert await stable_token(shop) == stable
    for changes, code in (({"secret": "x"}, 40125), ({"appid": "wx9"}, 40013), ({"grant_type": "x"}, 40002)):
        assert (await plain_token(shop, **changes))["errcode"] == code


async def test_a_unionid_when_the_person_has_one(shop: Desk) -> None:
    answer = await shop.control("POST", "/sandbox/login-code", {"openid": "resident-1", "unionid": "union-1"})
    query = {"appid": APPID, "secret": SECRET, "grant_type": "authorization_code", "js_code": answer.json()["code"]}
    assert (await shop.client.get("/sns/jscode2session", params=query)).json()["unionid"] == "union-1"


async def test_texts_are_judged_by_words(shop: Desk) -> None:
    assert (await check(shop))["result"] == {"suggest": "pass", "label": 100}
    told = await check(shop, content="这是违禁内容")
    assert (told["errcode"], told["result"]["suggest"]) == (0, "risky")
    assert told["detail"][0]["keyword"] == "违禁"
    assert (await check(shop, title="疑似"))["result"]["suggest"] == "review"
    words = {"risky": ["加微信"], "review": []}
    assert (await shop.control("PUT", "/sandbox/text-check", words)).json() == words
    assert (await check(shop, content="这是违禁内容"))["result"]["suggest"] == "pass"
    assert (await check(shop, content="请加微信"))["result"]["suggest"] == "risky"
    await shop.control("PUT", "/sandbox/apps/wx2", {"secret": "s2", "name": "另一个"})
    await shop.control("POST", "/sandbox/login-code", {"openid": "stranger", "app": "wx2"})
    for changes, code in (
        ({"content": ""}, 44002),
        ({"content": "x" * 2501}, 47001),
        ({"version": 1}, 47001),
        ({"scene": 5}, 40129),
        ({"openid": "nobody"}, 40003),
        ({"openid": "stranger"}, 43104),
    ):
        assert (await check(shop, **changes))["errcode"] == code, changes
    assert (await shop.control("PUT", "/sandbox/text-check", {"risky": [1], "review": []})).status_code == 422


async def test_a_code_to_scan_is_a_picture(shop: Desk) -> None:
    answer = await call(shop, "/wxa/getwxacodeunlimit", {"scene": "room=3-1201", "page": "pages/index", "width": 281})
    assert answer.headers["content-type"] == "image/jpeg"
    assert (answer.content[:4], answer.content[-2:]) == (b"\xff\xd8\xff\xe0", b"\xff\xd9")
    assert b"\xff\xc0\x00\x0b\x08" + (281).to_bytes(2, "big") * 2 in answer.content
    other = await call(shop, "/wxa/getwxacodeunlimit", {"scene": "room=3-1202", "page": "pages/index", "width": 281})
    assert other.content != answer.content
    for body, code in (
        ({"scene": ""}, 40169),
        ({"scene": "x" * 33}, 40169),
        ({"scene": "房"}, 40169),
        ({"scene": "a", "page": "/pages/index"}, 41030),
        ({"scene": "a", "page": "pages/index?a=1"}, 41030),
        ({"scene": "a", "width": 100}, 40097),
    ):
        assert await errcode(shop, "/wxa/getwxacodeunlimit", body) == code, body


def shipped(number: str, **changes: Any) -> dict[str, Any]:
    return {
        "order_key": {"order_number_type": 1, "mchid": MCHID, "out_trade_no": number},
        "logistics_type": 3,
        "delivery_mode": 1,
        "shipping_list": [{"item_desc": "物业费 2026-11"}],
        "upload_time": "2026-11-23T10:00:00.000+08:00",
        "payer": {"openid": "resident-1"},
        **changes,
    }


async def test_shipping_is_uploaded_once_and_corrected_once(shop: Desk) -> None:
    path = "/wxa/sec/order/upload_shipping_info"
    paid = await shop.paid()
    number = paid["out_trade_no"]
    assert await errcode(shop, path, shipped(number)) == 48001
    await shop.control("PUT", f"/sandbox/apps/{APPID}", {"secret": SECRET, "name": "邻里", "trade_managed": True})
    managed = await call(shop, "/wxa/sec/order/is_trade_managed", {"appid": APPID})
    assert managed.json()["is_trade_managed"] is True
    # Just after the payment the order is not known there yet.
    assert await errcode(shop, path, shipped(number)) == 10060001
    await shop.control("POST", "/sandbox/clock", {"advance_s": 60})
    for changes, code in (
        ({"payer": {"openid": "somebody"}}, 40003),
        ({"logistics_type": 5}, 47001),
        ({"logistics_type": 1}, 47001),
        ({"shipping_list": []}, 47001),
        ({"shipping_list": [{"item_desc": "费" * 121}]}, 47001),
        ({"order_key": {"order_number_type": 2, "transaction_id": "42"}}, 10060001),
    ):
        assert await errcode(shop, path, shipped(number, **changes)) == code, changes
    assert await errcode(shop, path, shipped(number)) == 0
    assert await errcode(shop, path, shipped(number)) == 10060023
    by_id = {"order_number_type": 2, "transaction_id": paid["transaction_id"]}
    assert await errcode(shop, path, shipped(number, order_key=by_id)) == 0
    assert await errcode(shop, path, shipped(number)) == 10060003
    [kept] = (await shop.client.get("/sandbox/shippings")).json()["shippings"]
    assert (kept["out_trade_no"], kept["uploads"], kept["order_key"]) == (number, 2, by_id)


async def configured(shop: Desk, **changes: str) -> int:
    push = {"url": f"{shop.api.base}/push", "token": "sandboxtoken", "encoding_aes_key": AES_KEY, **changes}
    document = {"secret": SECRET, "name": "邻里", "message_push": push}
    return (await shop.control("PUT", f"/sandbox/apps/{APPID}", document)).status_code


def query_of(delivery: Delivery) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(delivery.path).query).items()}


@pytest.mark.parametrize("form", ["json", "xml"])
async def test_an_event_is_pushed_encrypted(shop: Desk, form: str) -> None:
    assert await configured(shop, format=form) == 200
    shop.api.decide = lambda _: 500 if len(shop.api.deliveries) == 1 else 200
    message = {"MsgType": "event", "Event": "wxa_media_check", "trace_id": "t<1>"}
    answer = await shop.control("POST", f"/sandbox/apps/{APPID}/push", {"openid": "resident-1", "message": message})
    assert answer.json() == {"statuses": [500, 200], "answer": ""}
    for delivery in shop.api.deliveries:
        query = query_of(delivery)
        check_signature("sandboxtoken", query["signature"], query["timestamp"], query["nonce"])
        assert (query["encrypt_type"], query["openid"]) == ("aes", "resident-1")
        # Another's implementation of the scheme opens it.
        crypto = WeChatCrypto("sandboxtoken", AES_KEY, APPID)
        sealed = json.loads(delivery.body) if form == "json" else delivery.body
        opened = crypto.decrypt_message(sealed, query["msg_signature"], query["timestamp"], query["nonce"])
        if form == "json":
            told = json.loads(opened)
            assert (told["FromUserName"], told["Event"], told["trace_id"]) == ("resident-1", "wxa_media_check", "t<1>")
        else:
            assert "<Event>wxa_media_check</Event>" in opened and "<trace_id>t&lt;1&gt;</trace_id>" in opened


async def test_pushes_that_are_not_taken_and_the_address_check(shop: Desk) -> None:
    body = {"openid": "resident-1", "message": {"MsgType": "text", "Content": "你好"}}
    path = f"/sandbox/apps/{APPID}/push"
    assert (await shop.control("POST", path, body)).json()["code"] == "message_push_not_set"
    await configured(shop)
    shop.api.reply = lambda _: b"not success"
    assert (await shop.control("POST", path, {**body, "plain": True})).json()["statuses"] == [200, 200, 200]
    assert json.loads(shop.api.deliveries[0].body)["Content"] == "你好"
    assert "encrypt_type" not in query_of(shop.api.deliveries[0])
    assert (await shop.control("POST", f"{path}/verify", {})).json()["verified"] is False
    shop.api.reply = lambda delivery: query_of(delivery)["echostr"].encode()
    assert (await shop.control("POST", f"{path}/verify", {})).json()["verified"] is True
    assert await configured(shop, url="https://pay.example.com/push") == 200
    assert (await shop.control("POST", path, body)).json()["code"] == "message_push_refused"
    for unfit in ({"token": "-"}, {"encoding_aes_key": "short"}, {"format": "yaml"}, {"url": "http://x/?a"}):
        assert await configured(shop, **unfit) == 422
    assert (await shop.control("POST", path, {"openid": "resident-1", "message": {}})).status_code == 422
    assert (await shop.control("POST", "/sandbox/apps/wx9/push", body)).status_code == 404


async def test_errors_on_demand(shop: Desk) -> None:
    token = await stable_token(shop)
    message = {"touser": "resident-1", "template_id": TEMPLATE, "data": {"thing1": {"value": "物业费"}}}
    calls: dict[str, Any] = {
        "jscode2session": lambda: shop.client.get("/sns/jscode2session"),
        "token": lambda: shop.client.get("/cgi-bin/token"),
        "stable_token": lambda: shop.client.post("/cgi-bin/stable_token", json={}),
        "phone": lambda: call(shop, "/wxa/business/getuserphonenumber", {"code": "x"}, token),
        "message": lambda: call(shop, "/cgi-bin/message/subscribe/send", message, token),
        "text_check": lambda: call(shop, "/wxa/msg_sec_check", {}, token),
        "wxacode": lambda: call(shop, "/wxa/getwxacodeunlimit", {"scene": "a"}, token),
        "shipping": lambda: call(shop, "/wxa/sec/order/is_trade_managed", {"appid": APPID}, token),
    }
    assert set(calls) == set(APIS)
    for api, each in calls.items():
        for code in (40001, 42001, 45009):
            fault = {"kind": "api_error", "api": api, "errcode": code, "times": 1}
            assert (await shop.control("POST", "/sandbox/faults", fault)).status_code == 200
            assert (await each()).json()["errcode"] == code
        answer = await each()
        assert answer.headers["content-type"] == "image/jpeg" or answer.json().get("errcode") not in (42001, 45009)
    assert len((await shop.client.get("/sandbox/messages")).json()["messages"]) == 1
