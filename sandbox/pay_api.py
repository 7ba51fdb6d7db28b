"""Pay APIv3, direct merchants: /v3/pay/transactions/… and /v3/certificates."""

import secrets
from typing import Any
from urllib.parse import parse_qs

from sanic import Blueprint, HTTPResponse, Request

from kit import crypto
from sandbox import order, parameter, platform_key
from sandbox.answer import answer, caller_of
from sandbox.context import Context, context_of
from sandbox.error import header_mchid_differs
from sandbox.merchant import Merchant

pay_api = Blueprint("pay_api", url_prefix="/v3")


@pay_api.post("/pay/transactions/jsapi")
async def jsapi(request: Request) -> HTTPResponse:
    """Order for a mini-program: a prepay_id."""
    return await _prepay(request, "JSAPI", "prepay_id")


@pay_api.post("/pay/transactions/native")
async def native(request: Request) -> HTTPResponse:
    """Order for a QR code: a code_url."""
    return await _prepay(request, "NATIVE", "code_url")


async def _prepay(request: Request, product: str, member: str) -> HTTPResponse:
    context, merchant = context_of(request), caller_of(request)
    body = parameter.body_of(request.body)
    out_trade_no = body.get("out_trade_no") if isinstance(body.get("out_trade_no"), str) else None

    async def accept() -> dict[str, Any]:
        token = order.place(context, merchant, product, body)
        if product == "JSAPI" and context.faults.take("before_answer", out_trade_no, "prepay") is not None:
            await _pay_before_answer(context, token)
        return {member: token}

    return await answer(request, merchant, "prepay", out_trade_no, accept)


async def _pay_before_answer(context: Context, token: str) -> None:
    _, callback_seq = order.pay(context, token)
    await context.courier.deliver_due(callback_seq)


@pay_api.get("/pay/transactions/out-trade-no/<out_trade_no:str>", unquote=True)
async def query_by_out_trade_no(request: Request, out_trade_no: str) -> HTTPResponse:
    """The order by the merchant's number."""
    context, merchant = context_of(request), caller_of(request)
    _check_mchid(request, merchant)

    async def accept() -> dict[str, Any]:
        return order.query(context, merchant, out_trade_no=out_trade_no)

    return await answer(request, merchant, "query", out_trade_no, accept)


@pay_api.get("/pay/transactions/id/<transaction_id:str>", unquote=True)
async def query_by_id(request: Request, transaction_id: str) -> HTTPResponse:
    """The order by WeChat's number."""
    context, merchant = context_of(request), caller_of(request)
    _check_mchid(request, merchant)
    found = order.query(context, merchant, transaction_id=transaction_id)

    async def accept() -> dict[str, Any]:
        return found

    return await answer(request, merchant, "query", found["out_trade_no"], accept)


@pay_api.post("/pay/transactions/out-trade-no/<out_trade_no:str>/close", unquote=True)
async def close(request: Request, out_trade_no: str) -> HTTPResponse:
    """Close an unpaid order: 204."""
    context, merchant = context_of(request), caller_of(request)
    body = parameter.body_of(request.body)

    async def accept() -> None:
        order.close(context, merchant, out_trade_no, body)

    return await answer(request, merchant, "close", out_trade_no, accept)


@pay_api.get("/certificates")
async def certificates(request: Request) -> HTTPResponse:
    """The platform's certificates, each sealed with the merchant's APIv3 key."""
    context, merchant = context_of(request), caller_of(request)

    async def accept() -> dict[str, Any]:
        return {"data": [_sealed(merchant, row) for row in platform_key.certificates(context.store)]}

    return await answer(request, merchant, "certificates", None, accept)


def _sealed(merchant: Merchant, row: dict[str, str]) -> dict[str, Any]:
    nonce = secrets.token_hex(6)
    plaintext = row["certificate"].encode()
    return {
        "serial_no": row["serial_no"],
        "effective_time": row["effective_time"],
        "expire_time": row["expire_time"],
        "encrypt_certificate": {
            "algorithm": "AEAD_AES_256_GCM",
            "nonce": nonce,
            "associated_data": "certificate",
            "ciphertext": crypto.aes_gcm_encrypt(merchant.apiv3_key, nonce.encode(), plaintext, b"certificate"),
        },
    }


def _check_mchid(request: Request, merchant: Merchant) -> None:
    given = parse_qs(request.query_string, keep_blank_values=True).get("mchid", [])
    if len(given) != 1 or not given[0]:
        issue = "输入源“/query/mchid”映射到值字段“直连商户号”必填性规则校验失败，此字段为必填项"
        raise parameter.wrong("mchid", None, issue, location="query")
    if given[0] != merchant.mchid:
        raise header_mchid_differs()
