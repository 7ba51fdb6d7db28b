"""The sandbox towards a service provider: orders, queries, refunds and callbacks for its sub-merchants."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.testing import APPID, MCHID, Desk, desk

SUB, SUB_APP = "1900000109", "wx5f0c000000000109"
ROUTES = "/v3/pay/partner/transactions"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as opened:
        await opened.register(sub_merchants={SUB: [SUB_APP], "1900000110": []})
        await opened.control("PUT", f"/sandbox/apps/{SUB_APP}", {"secret": "s", "name": "特约商户"})
        await opened.control("POST", "/sandbox/login-code", {"openid": "sub-resident", "app": SUB_APP})
        yield opened


def order_of(shop: Desk, **changes: Any) -> dict[str, Any]:
    parties = {"sp_appid": APPID, "sp_mchid": MCHID, "sub_mchid": SUB, "payer": {"sp_openid": "resident-1"}}
    return shop.order(**{"appid": None, "mchid": None, **parties, **changes})


def query_of(number: str, sub_mchid: str = SUB) -> str:
    return f"{ROUTES}/out-trade-no/{number}?sp_mchid={MCHID}&sub_mchid={sub_mchid}"


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def place(shop: Desk, order: dict[str, Any], product: str = "jsapi") -> Any:
    return await shop.signed("POST", f"{ROUTES}/{product}", order)


async def test_a_sub_merchants_order_from_placing_to_refund(shop: Desk) -> None:
    order = order_of(shop, sub_appid=SUB_APP, payer={"sub_openid": "sub-resident"})
    answer = await place(shop, order)
    assert answer.status_code == 200 and shop.verifies(answer.headers, answer.content)
    assert (await place(shop, order)).status_code == 200
    number = order["out_trade_no"]
    unpaid = (await shop.signed("GET", query_of(number))).json()
    assert (unpaid["trade_state"], unpaid["sub_mchid"]) == ("NOTPAY", SUB)
    assert (await shop.control("POST", "/sandbox/pay", answer.json())).status_code == 200
    [delivery] = await shop.api.wait(1)
    told = delivery.resource()
    assert not {"mchid", "appid", "openid"} & set(told)
    assert {name: told[name] for name in ("sp_mchid", "sp_appid", "sub_mchid", "sub_appid")} == {
        "sp_mchid": MCHID,
        "sp_appid": APPID,
        "sub_mchid": SUB,
        "sub_appid": SUB_APP,
    }
    assert told["payer"]["sub_openid"] == "sub-resident"
    assert (await shop.signed("GET", query_of(number))).json() == told
    by_id = f"{ROUTES}/id/{told['transaction_id']}?sp_mchid={MCHID}&sub_mchid={SUB}"
    assert (await shop.signed("GET", by_id)).json() == told
    # For the routes of direct merchants there is no such order.
    assert refusal(await shop.query(number)) == (404, "ORDER_NOT_EXIST")

    refund = shop.refund(order)
    assert refusal(await shop.refunded(refund)) == (400, "PARAM_ERROR")
    assert refusal(await shop.refunded({**refund, "sub_mchid": "1900000110"})) == (400, "PARAM_ERROR")
    assert (await shop.refunded({**refund, "sub_mchid": SUB})).json()["status"] == "PROCESSING"
    path = f"/v3/refund/domestic/refunds/{refund['out_refund_no']}"
    assert (await shop.signed("GET", f"{path}?sub_mchid={SUB}")).json()["amount"]["refund"] == 38560
    assert refusal(await shop.signed("GET", path)) == (404, "RESOURCE_NOT_EXISTS")
    [made] = await shop.refunds(number)
    await shop.decide(made["refund_id"], "SUCCESS")
    notice = (await shop.api.wait(2))[1].resource()
    assert (notice["sp_mchid"], notice["sub_mchid"], notice["refund_status"]) == (MCHID, SUB, "SUCCESS")
    assert "mchid" not in notice


async def test_a_code_is_scanned_in_either_app(shop: Desk) -> None:
    for openid, payer in (("resident-1", {"sp_openid": "resident-1"}), ("sub-resident", None)):
        order = order_of(shop, sub_appid=SUB_APP, payer=None)
        code_url = (await place(shop, order, "native")).json()["code_url"]
        answer = await shop.control("POST", "/sandbox/pay", {"prepay_id": code_url, "openid": openid})
        assert answer.status_code == 200
        told = (await shop.signed("GET", query_of(order["out_trade_no"]))).json()
        assert payer is None or told["payer"] == payer
    assert told["payer"]["sub_openid"] == "sub-resident"


async def test_closing(shop: Desk) -> None:
    order = order_of(shop)
    await place(shop, order)
    path = f"{ROUTES}/out-trade-no/{order['out_trade_no']}/close"
    for body, expected in (
        ({"sp_mchid": MCHID, "sub_mchid": "1900000110"}, (400, "PARAM_ERROR")),
        ({"sp_mchid": MCHID, "sub_mchid": "1999999999"}, (403, "NO_AUTH")),
        ({"sp_mchid": "1900000001", "sub_mchid": SUB}, (400, "PARAM_ERROR")),
        ({"mchid": MCHID}, (400, "PARAM_ERROR")),
    ):
        assert refusal(await shop.signed("POST", path, body)) == expected
    assert refusal(await shop.close(order["out_trade_no"])) == (404, "ORDER_NOT_EXIST")
    body = {"sp_mchid": MCHID, "sub_mchid": SUB}
    assert [(await shop.signed("POST", path, body)).status_code for _ in range(2)] == [204, 204]
    assert refusal(await place(shop, order)) == (400, "ORDER_CLOSED")


@pytest.mark.parametrize(
    ("changes", "expected", "number"),
    [
        ({"sub_mchid": "1999999999"}, (403, "NO_AUTH"), 268443701),
        ({"sub_mchid": None}, (400, "PARAM_ERROR"), 268443704),
        ({"sub_mchid": MCHID}, (400, "PARAM_ERROR"), 268443705),
        ({"sp_mchid": "1900000001"}, (400, "PARAM_ERROR"), 268447843),
        ({"sp_appid": SUB_APP}, (400, "APPID_MCHID_NOT_MATCH"), 268445527),
        ({"sub_appid": APPID}, (400, "APPID_MCHID_NOT_MATCH"), 268445527),
        ({"payer": {}}, (400, "PARAM_ERROR"), 268501013),
        ({"payer": {"sub_openid": "sub-resident"}}, (400, "PARAM_ERROR"), 268435461),
        ({"payer": {"sp_openid": "sub-resident"}}, (400, "PARAM_ERROR"), 268435461),
        ({"payer": {"openid": "resident-1"}}, (400, "PARAM_ERROR"), 270924358),
        ({"appid": APPID}, (400, "PARAM_ERROR"), 270924358),
    ],
)
async def test_parties_that_do_not_belong_together(
    shop: Desk, changes: dict[str, Any], expected: tuple[int, str], number: int
) -> None:
    answer = await place(shop, order_of(shop, **changes))
    assert refusal(answer) == expected
    assert answer.headers["request-id"].endswith(f"-{number}")
    assert (await shop.client.get("/sandbox/orders")).json()["orders"] == []


async def test_queries_need_both_numbers(shop: Desk) -> None:
    order = order_of(shop)
    await place(shop, order)
    number = order["out_trade_no"]
    for target, expected in (
        (f"{ROUTES}/out-trade-no/{number}?sp_mchid={MCHID}", (400, "PARAM_ERROR")),
        (f"{ROUTES}/out-trade-no/{number}?mchid={MCHID}", (400, "PARAM_ERROR")),
        (query_of(number, "1900000110"), (400, "PARAM_ERROR")),
        (query_of(number, "1999999999"), (403, "NO_AUTH")),
        (query_of("L-unknown"), (404, "ORDER_NOT_EXIST")),
    ):
        assert refusal(await shop.signed("GET", target)) == expected, target
    # A direct order is none of a sub-merchant's, though the caller is the same.
    own = shop.order()
    await shop.place(own)
    assert refusal(await shop.signed("GET", query_of(own["out_trade_no"]))) == (404, "ORDER_NOT_EXIST")
    # The number is unique for the caller, whichever way it orders.
    assert refusal(await shop.place(shop.order(out_trade_no=number))) == (403, "OUT_TRADE_NO_USED")
