"""The sandbox's check of who signed a request: its order, and WeChat's own sentences."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kit import clock
from sandbox.testing import MCHID, Desk, desk


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as opened:
        yield opened


def refusal(answer: Any) -> tuple[int, str]:
    """Status and code; a refusal is never signed."""
    assert "wechatpay-signature" not in answer.headers
    return answer.status_code, answer.json()["code"]


async def test_authorization_is_checked_in_order(shop: Desk) -> None:
    async def certificates(**parts: Any) -> Any:
        return await shop.signed("GET", "/v3/certificates", **parts)

    stale = str(clock.unix_s() - 301)
    later = str(clock.unix_s() + 301)
    for parts, message in (
        ({"signature": "bm8="}, "签名错误"),
        ({"signature": "%%%"}, "签名错误"),
        ({"timestamp": stale}, "Http头Authorization中的timestamp与发起请求的时间不得超过5分钟"),
        ({"timestamp": later}, "Http头Authorization中的timestamp与发起请求的时间不得超过5分钟"),
        ({"serial_no": "4" * 40}, "商户证书序列号有误。请使用签名私钥匹配的证书序列号"),
        ({"mchid": "1900000000"}, "商户证书序列号有误。请使用签名私钥匹配的证书序列号"),
    ):
        answer = await certificates(**parts)
        assert refusal(answer) == (401, "SIGN_ERROR")
        assert answer.json()["message"] == message

    malformed = "Http头Authorization值格式错误，请参考《微信支付商户REST API签名规则》"
    on_pay = "签名信息错误，验签失败"
    wrong_scheme = "HTTP头Authorization认证类型不正确"
    query = f"/v3/pay/transactions/out-trade-no/L0000000?mchid={MCHID}"
    for target, header, message in (
        ("/v3/certificates", "", malformed),
        ("/v3/certificates", "Bearer x", malformed),
        ("/v3/certificates", 'WECHATPAY2-SHA256-RSA2048 mchid="1"', malformed),
        (query, "", on_pay),
        (query, "Bearer x", on_pay),
        (query, "WECHATPAY2-SM2-WITH-SM3 x", wrong_scheme),
    ):
        answer = await shop.signed("GET", target, headers={"Authorization": header})
        assert refusal(answer) == (401, "SIGN_ERROR")
        assert answer.json()["message"] == message


async def test_a_changed_query_or_body_breaks_the_signature(shop: Desk) -> None:
    raw = json.dumps(shop.order()).encode()
    taken = await shop.signed("POST", "/v3/pay/transactions/jsapi", shop.order())
    headers = {name: taken.request.headers[name] for name in ("authorization", "accept", "user-agent")}
    answer = await shop.client.post("/v3/pay/transactions/jsapi", content=raw, headers=headers)
    assert refusal(answer) == (401, "SIGN_ERROR")


async def test_user_agent_and_accept_are_required(shop: Desk) -> None:
    for name in ("User-Agent", "Accept"):
        answer = await shop.signed("GET", "/v3/certificates", headers={name: ""})
        assert refusal(answer) == (400, "INVALID_REQUEST")
        assert answer.json()["message"] == "Http头缺少Accept或User-Agent"
        answer = await shop.signed("POST", "/v3/pay/transactions/jsapi", shop.order(), headers={name: ""})
        assert refusal(answer) == (401, "SIGN_ERROR")
