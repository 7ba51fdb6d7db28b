"""The sandbox as the mini-program server API: codes, tokens, phone numbers and subscription messages."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.template_message import LIMITS
from sandbox.testing import APPID, SECRET, TEMPLATE, Desk, desk


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as opened:
        yield opened


async def session(shop: Desk, code: str | None, **changes: str | None) -> dict[str, Any]:
    params = {"appid": APPID, "secret": SECRET, "js_code": code, "grant_type": "authorization_code", **changes}
    answer = await shop.client.get("/sns/jscode2session", params={k: v for k, v in params.items() if v is not None})
    assert answer.status_code == 200
    told: dict[str, Any] = answer.json()
    return told


async def login_code(shop: Desk, openid: str = "resident-1", **app: str) -> str:
    answer = await shop.control("POST", "/sandbox/login-code", {"openid": openid, **app})
    assert set(answer.json()) == {"code"}, answer.text
    return str(answer.json()["code"])


async def token(shop: Desk, **changes: Any) -> dict[str, Any]:
    body = {"grant_type": "client_credential", "appid": APPID, "secret": SECRET, **changes}
    answer = await shop.client.post("/cgi-bin/stable_token", json=body)
    told: dict[str, Any] = answer.json()
    return told


async def advance(shop: Desk, seconds: int) -> None:
    await shop.control("POST", "/sandbox/clock", {"advance_s": seconds})


async def test_a_login_code_is_good_once_for_five_minutes_in_its_app(shop: Desk) -> None:
    code = await login_code(shop)
    told = await session(shop, code)
    assert set(told) == {"openid", "session_key"}
    assert told["openid"] == "resident-1"
    assert (await session(shop, code))["errcode"] == 40163
    stale = await login_code(shop)
    await advance(shop, 300)
    assert (await session(shop, stale))["errcode"] == 40029
    await shop.control("PUT", "/sandbox/apps/wx2", {"secret": "s2", "name": "另一个"})
    other = await login_code(shop, "resident-2", app="wx2")
    assert (await session(shop, other))["errcode"] == 40029
    assert (await session(shop, other, appid="wx2", secret="s2"))["openid"] == "resident-2"


@pytest.mark.parametrize(
    ("changes", "errcode"),
    [
        ({"js_code": "unknown"}, 40029),
        ({"js_code": None}, 41008),
        ({"appid": None}, 41002),
        ({"appid": "wx9"}, 40013),
        ({"secret": None}, 41004),
        ({"secret": "wrong"}, 40125),
        ({"grant_type": "password"}, 40002),
    ],
)
async def test_login_refusals(shop: Desk, changes: dict[str, str | None], errcode: int) -> None:
    told = await session(shop, await login_code(shop), **changes)
    assert told["errcode"] == errcode
    assert "rid: " in told["errmsg"]


async def test_an_openid_belongs_to_one_app(shop: Desk) -> None:
    await shop.control("PUT", "/sandbox/apps/wx2", {"secret": "s2", "name": "另一个"})
    await login_code(shop, "neighbour", app="wx2")
    await login_code(shop, "neighbour")
    answer = await shop.control("POST", "/sandbox/login-code", {"openid": "neighbour", "app": APPID})
    assert (answer.status_code, answer.json()["code"]) == (409, "openid_of_another_app")
    answer = await shop.control("POST", "/sandbox/login-code", {"openid": "x", "app": "wx9"})
    assert (answer.status_code, answer.json()["code"]) == (404, "app_unknown")
    answer = await shop.control("POST", "/sandbox/login-code", {"openid": "not an openid"})
    assert answer.status_code == 422


async def test_stable_token(shop: Desk) -> None:
    first = await token(shop)
    assert first["expires_in"] == 7200
    assert (await token(shop))["access_token"] == first["access_token"]
    await advance(shop, 6895)
    assert 300 < (await token(shop))["expires_in"] <= 305
    await advance(shop, 10)
    second = await token(shop)
    assert second["access_token"] != first["access_token"]
    # Both are good for the last five minutes of the old one.
    for each in (first, second):
        assert (await phone(shop, each["access_token"], "unknown"))["errcode"] == 40029
    await advance(shop, 300)
    assert (await phone(shop, first["access_token"], "unknown"))["errcode"] == 42001
    third = await token(shop, force_refresh=True)
    assert (await phone(shop, second["access_token"], "unknown"))["errcode"] == 40001
    assert (await token(shop))["access_token"] == third["access_token"]
    assert (await token(shop, force_refresh=True))["errcode"] == 45011
    for _ in range(19):
        await advance(shop, 30)
        assert "access_token" in await token(shop, force_refresh=True)
    await advance(shop, 30)
    assert (await token(shop, force_refresh=True))["errcode"] == 45009


async def test_token_refusals(shop: Desk) -> None:
    for changes, errcode in (
        ({"appid": "wx9"}, 40013),
        ({"secret": "wrong"}, 40125),
        ({"appid": ""}, 41002),
        ({"secret": ""}, 41004),
        ({"grant_type": "x"}, 40002),
        ({"force_refresh": "yes"}, 47001),
    ):
        assert (await token(shop, **changes))["errcode"] == errcode
    assert (await shop.client.post("/cgi-bin/stable_token", content=b"{")).json()["errcode"] == 47001
    assert (await phone(shop, "", "x"))["errcode"] == 41001
    assert (await phone(shop, "unknown", "x"))["errcode"] == 40001


async def phone(shop: Desk, access_token: str, code: str, **body: str) -> dict[str, Any]:
    answer = await shop.client.post(
        "/wxa/business/getuserphonenumber", params={"access_token": access_token}, json={"code": code, **body}
    )
    told: dict[str, Any] = answer.json()
    return told


async def phone_code(shop: Desk, openid: str = "resident-1") -> str:
    answer = await shop.control("POST", "/sandbox/phone-code", {"openid": openid, "phone": "13800001234"})
    return str(answer.json()["code"])


async def test_a_phone_code_is_good_once(shop: Desk) -> None:
    access_token = (await token(shop))["access_token"]
    code = await phone_code(shop)
    assert (await session(shop, code))["errcode"] == 40029
    assert (await phone(shop, access_token, await login_code(shop)))["errcode"] == 40029
    assert (await phone(shop, access_token, code, openid="resident-2"))["errcode"] == 40029
    told = await phone(shop, access_token, code, openid="resident-1")
    assert (told["errcode"], told["errmsg"]) == (0, "ok")
    assert told["phone_info"]["watermark"]["appid"] == APPID
    assert told["phone_info"] | {"watermark": 0} == {
        "phoneNumber": "13800001234",
        "purePhoneNumber": "13800001234",
        "countryCode": "86",
        "watermark": 0,
    }
    assert (await phone(shop, access_token, code))["errcode"] == 40029
    stale = await phone_code(shop)
    await advance(shop, 301)
    assert (await phone(shop, access_token, stale))["errcode"] == 40029
    answer = await shop.control("POST", "/sandbox/phone-code", {"openid": "resident-1", "phone": "1380000"})
    assert (answer.status_code, answer.json()["fields"]) == (422, ["phone"])


async def send(shop: Desk, **changes: Any) -> int:
    body = {
        "touser": "resident-1",
        "template_id": TEMPLATE,
        "page": "pages/bill/index",
        "data": {"thing1": {"value": "物业费"}, "amount2": {"value": "¥385.60"}},
        **changes,
    }
    access_token = (await token(shop))["access_token"]
    answer = await shop.client.post(f"/cgi-bin/message/subscribe/send?access_token={access_token}", json=body)
    return int(answer.json()["errcode"])


async def test_a_message_arrives_and_uses_up_one_subscription(shop: Desk) -> None:
    answer = await shop.control(
        "POST", "/sandbox/subscriptions", {"openid": "resident-1", "template_id": TEMPLATE, "times": 2}
    )
    assert answer.json() == {"openid": "resident-1", "template_id": TEMPLATE, "remaining": 2}
    assert [await send(shop) for _ in range(3)] == [0, 0, 43101]
    messages = (await shop.client.get("/sandbox/messages", params={"openid": "resident-1"})).json()["messages"]
    assert len(messages) == 2
    assert messages[0] | {"sent_at": ""} == {
        "openid": "resident-1",
        "app": APPID,
        "template_id": TEMPLATE,
        "title": "缴费成功通知",
        "page": "pages/bill/index",
        "data": {"thing1": "物业费", "amount2": "¥385.60"},
        "sent_at": "",
    }
    assert (await shop.client.get("/sandbox/messages", params={"openid": "resident-2"})).json() == {"messages": []}


async def test_the_allowance_of_a_person_who_was_never_asked(tmp_path: Path) -> None:
    async with desk(tmp_path, subscriptions=1) as shop:
        # A refused message uses nothing up.
        assert await send(shop, data={}) == 47003
        assert [await send(shop) for _ in range(2)] == [0, 43101]


async def test_message_refusals(shop: Desk) -> None:
    await shop.control("PUT", "/sandbox/apps/wx2", {"secret": "s2", "name": "另一个"})
    await login_code(shop, "stranger", app="wx2")
    for changes, errcode in (
        ({"touser": "nobody"}, 40003),
        ({"touser": "stranger"}, 40003),
        ({"template_id": "unknown"}, 40037),
        ({"page": "/pages/bill"}, 41030),
        ({"data": None}, 47003),
        ({"data": {"thing1": "物业费"}}, 47003),
        ({"data": {"thing1": {"value": " "}}}, 47003),
        ({"data": {"thing1": {"value": 1}}}, 47003),
        ({"data": {"matter1": {"value": "物业费"}}}, 47003),
    ):
        assert await send(shop, **changes) == errcode, changes
    answer = await shop.client.post("/cgi-bin/message/subscribe/send?access_token=x", json={})
    assert answer.json()["errcode"] == 40001


VALUES: dict[str, tuple[list[str], list[str]]] = {
    "thing": (["费" * 20], ["费" * 21]),
    "number": (["12.5", "9" * 32], ["一", "9" * 33]),
    "letter": (["Ab"], ["A1"]),
    "symbol": (["%#"], ["%a", "%" * 6]),
    "character_string": (["A-1/2"], ["物", "x" * 33]),
    "time": (["15:01", "2019年10月1日 15:01", "2019年10月1日~2019年10月2日"], ["25:00", "2019-10-01"]),
    "date": (["2019年10月1日", "2019年10月1日 15:01"], ["2019/10/1", "15:01"]),
    "amount": (["¥100.00", "12元"], ["一百元", "12345678901元"]),
    "phone_number": (["+86-0766-66888866"], ["物业", "1" * 18]),
    "car_number": (["粤B12345"], ["粤B12345678"]),
    "name": (["物业管家", "Linli"], ["管" * 11, "物业A"]),
    "phrase": (["已缴费"], ["已缴费成功了", "paid"]),
    "enum": (["是"], ["是" * 21]),
}


@pytest.mark.parametrize("kind", sorted(LIMITS))
async def test_limits_of_each_kind_of_value(shop: Desk, kind: str) -> None:
    good, bad = VALUES[kind]
    for value in good:
        assert await send(shop, data={f"{kind}1": {"value": value}}) == 0, value
    for value in bad:
        assert await send(shop, data={f"{kind}1": {"value": value}}) == 47003, value


async def test_registering_an_app_again(shop: Desk) -> None:
    shown = (await shop.control("PUT", f"/sandbox/apps/{APPID}", {"secret": "new", "name": "邻里二"})).json()
    assert shown == {"appid": APPID, "name": "邻里二", "templates": {TEMPLATE: "缴费成功通知"}}
    assert (await token(shop))["errcode"] == 40125
    body = {"secret": "new", "name": "邻里", "templates": {"t2": "派单"}}
    assert (await shop.control("PUT", f"/sandbox/apps/{APPID}", body)).json()["templates"] == {"t2": "派单"}
    unfits: list[dict[str, Any]] = [{"templates": {"t2": 2}}, {"templates": []}, {"secret": ""}, {"colour": "green"}]
    for unfit in unfits:
        answer = await shop.control("PUT", f"/sandbox/apps/{APPID}", {**body, **unfit})
        assert answer.status_code == 422


async def test_codes_tokens_and_inbox_survive_a_restart(tmp_path: Path) -> None:
    async with desk(tmp_path) as before:
        code, told = await login_code(before), await token(before)
        assert await send(before) == 0
        await before.control(
            "POST", "/sandbox/subscriptions", {"openid": "resident-1", "template_id": TEMPLATE, "times": 0}
        )
    async with desk(tmp_path) as after:
        assert (await session(after, code))["openid"] == "resident-1"
        assert (await token(after))["access_token"] == told["access_token"]
        assert len((await after.client.get("/sandbox/messages")).json()["messages"]) == 1
        assert await send(after) == 43101
