"""From a signed request to a signed answer, with the faults that may come between.

Every family of routes uses ``caller_of`` and ``answer``.
"""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sanic import HTTPResponse, Request

from sandbox import authorization, platform_key
from sandbox.context import Context, context_of
from sandbox.error import PayError
from sandbox.merchant import KeyMode, Merchant
from sandbox.platform_key import SigningKey

JSON = "application/json; charset=utf-8"
# Longer than any client waits; then the connection is cut.
SILENCE_S = 55
# What a proxy says in WeChat's name.
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


@dataclass(frozen=True)
class File:
    """An answer that is no JSON and is not signed."""

    content: bytes
    content_type: str


def encode(document: Any) -> bytes:
    """The bytes of a JSON answer."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def json_answer(document: Any, status: int = 200) -> HTTPResponse:
    """An unsigned JSON answer."""
    return HTTPResponse(encode(document), status=status, content_type=JSON)


def caller_of(request: Request) -> Merchant:
    """The merchant who signed this request; PayError otherwise."""
    context = context_of(request)
    authorization.require_headers(request.path, request.headers.get("accept"), request.headers.get("user-agent"))
    headers = request.headers.getall("authorization", [])
    return authorization.verify(
        context.merchants,
        headers[0] if len(headers) == 1 else None,
        request.method,
        request.raw_url.decode("ascii", "replace"),
        request.body,
        context.clock.unix_s(),
    )


async def answer(
    request: Request,
    merchant: Merchant,
    operation: str,
    out_trade_no: str | None,
    accept: Callable[[], Awaitable[dict[str, Any] | File | None]],
) -> HTTPResponse:
    """Run ``accept`` (None means 204) and sign what it answers, but no file; faults may come between."""
    context = context_of(request)
    refused = context.faults.take("error", out_trade_no, operation)
    if refused is not None:
        raise PayError(refused["status"], refused["code"], "沙箱按要求报错")
    document = await accept()
    slow = context.faults.take("slow", out_trade_no, operation)
    if slow is not None:
        await asyncio.sleep(slow["delay_ms"] / 1000)
    lost = context.faults.take("answer_lost", out_trade_no, operation)
    if lost is not None:
        await _lose(request, lost["how"])
    html = context.faults.take("html", out_trade_no, operation)
    if html is not None:
        return HTTPResponse(HTML, status=html["status"], content_type="text/html")
    if isinstance(document, File):
        headers = {"Request-ID": request_id()}
        answered = HTTPResponse(document.content, headers=headers, content_type=document.content_type)
    else:
        answered = _signed(context, request, merchant, document, out_trade_no, operation)
    if answered.body and context.faults.take("truncated", out_trade_no, operation) is not None:
        await _break_off(request, answered)
    return answered


async def _break_off(request: Request, whole: HTTPResponse) -> None:
    """Send the head and half of the body, then cut the connection."""
    body = whole.body or b""
    headers = {**whole.headers, "Content-Type": whole.content_type, "Content-Length": len(body)}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    transport: Any = request.transport
    if transport is not None:
        transport.write(f"HTTP/1.1 {whole.status} OK\r\n{head}\r\n".encode() + body[: len(body) // 2])
        transport.close()
    await asyncio.sleep(SILENCE_S)


async def _lose(request: Request, how: str) -> None:
    if how == "500":
        raise PayError(500, "SYSTEM_ERROR", "系统异常，请用相同参数重新调用")
    if how == "429":
        raise PayError(429, "FREQUENCY_LIMITED", "频率限制，请降低频率后重试", number=268447840)
    if how == "timeout":
        await asyncio.sleep(SILENCE_S)
    transport: Any = request.transport
    if transport is not None:
        transport.abort()
    # The abort reaches the server as a lost connection, which cancels this handler.
    await asyncio.sleep(SILENCE_S)


def _signed(
    context: Context,
    request: Request,
    merchant: Merchant,
    document: dict[str, Any] | None,
    out_trade_no: str | None,
    operation: str,
) -> HTTPResponse:
    body = b"" if document is None else encode(document)
    key = _key_for(context, merchant, request.headers.get("wechatpay-serial"))
    signed_body, timestamp = body, context.clock.unix_s()
    stale = context.faults.take("stale_answer", out_trade_no, operation)
    if stale is not None:
        timestamp -= stale["age_s"]
    if context.faults.take("bad_signature", out_trade_no, operation) is not None:
        signed_body = body + b" "
    headers = {**platform_key.signature_headers(key, timestamp, signed_body), "Request-ID": request_id()}
    if document is None:
        return HTTPResponse(status=204, headers=headers)
    return HTTPResponse(body, status=200, headers=headers, content_type=JSON)


def _key_for(context: Context, merchant: Merchant, serial: str | None) -> SigningKey:
    """The public key when the request asked for it by its id or there is nothing else; else the certificate."""
    by_key = serial == merchant.platform_key.serial and merchant.key_mode is KeyMode.BOTH
    if by_key or merchant.key_mode is KeyMode.PUBLIC_KEY:
        return merchant.platform_key
    return platform_key.certificate_key(context.store)


def request_id(number: int = 0) -> str:
    """A Request-ID; its last part is the internal error number."""
    return f"08{secrets.token_hex(19).upper()}-{number}"


def pay_refusal(error: PayError) -> HTTPResponse:
    """A refusal of Pay APIv3: never signed."""
    return HTTPResponse(
        encode(error.body()),
        status=error.status,
        headers={"Request-ID": request_id(error.number)},
        content_type=JSON,
    )
