"""Pay APIv3, orders: /v3/pay/transactions/… of merchants, /v3/pay/partner/transactions/… of service providers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from sanic import Blueprint, HTTPResponse, Request

from sandbox import order, parameter, party
from sandbox.answer import answer, caller_of
from sandbox.context import Context, context_of
from sandbox.error import header_mchid_differs
from sandbox.merchant import Merchant
from sandbox.parameter import Group
from sandbox.party import Party

pay_api = Blueprint("pay_api", url_prefix="/v3/pay")


@dataclass(frozen=True)
class Family:
    """What differs between a merchant's routes and a service provider's."""

    mchid: str
    products: dict[str, Group]
    close: Group
    parties: Callable[[Context, Merchant, dict[str, Any]], Party]
    is_partner: bool = False


DIRECT = Family("mchid", {"JSAPI": parameter.JSAPI, "NATIVE": parameter.NATIVE}, parameter.CLOSE, party.direct)
PARTNER = Family(
    "sp_mchid",
    {"JSAPI": parameter.PARTNER_JSAPI, "NATIVE": parameter.PARTNER_NATIVE},
    parameter.PARTNER_CLOSE,
    party.partner,
    is_partner=True,
)


@pay_api.post("/transactions/jsapi")
async def jsapi(request: Request) -> HTTPResponse:
    """Order for a mini-program: a prepay_id."""
    return await _prepay(request, DIRECT, "JSAPI", "prepay_id")


@pay_api.post("/transactions/native")
async def native(request: Request) -> HTTPResponse:
    """Order for a QR code: a code_url."""
    return await _prepay(request, DIRECT, "NATIVE", "code_url")


@pay_api.post("/partner/transactions/jsapi")
async def partner_jsapi(request: Request) -> HTTPResponse:
    """A service provider's order for a mini-program."""
    return await _prepay(request, PARTNER, "JSAPI", "prepay_id")


@pay_api.post("/partner/transactions/native")
async def partner_native(request: Request) -> HTTPResponse:
    """A service provider's order for a QR code."""
    return await _prepay(request, PARTNER, "NATIVE", "code_url")


async def _prepay(request: Request, family: Family, product: str, member: str) -> HTTPResponse:
    context, merchant = context_of(request), caller_of(request)
    body = parameter.body_of(request.body)
    out_trade_no = body.get("out_trade_no") if isinstance(body.get("out_trade_no"), str) else None

    async def accept() -> dict[str, Any]:
        parameter.check(body, family.products[product])
        token = order.place(context, family.parties(context, merchant, body), product, body)
        if product == "JSAPI" and context.faults.take("before_answer", out_trade_no, "prepay") is not None:
            await _pay_before_answer(context, token)
        return {member: token}

    return await answer(request, merchant, "prepay", out_trade_no, accept)


async def _pay_before_answer(context: Context, token: str) -> None:
    _, callback_seq = order.pay(context, token)
    await context.courier.deliver_due(callback_seq)


@pay_api.get("/transactions/out-trade-no/<out_trade_no:str>", unquote=True)
async def query_by_out_trade_no(request: Request, out_trade_no: str) -> HTTPResponse:
    """The order by the merchant's number."""
    return await _query_by_out_trade_no(request, DIRECT, out_trade_no)


@pay_api.get("/partner/transactions/out-trade-no/<out_trade_no:str>", unquote=True)
async def partner_query_by_out_trade_no(request: Request, out_trade_no: str) -> HTTPResponse:
    """A service provider's order by its number."""
    return await _query_by_out_trade_no(request, PARTNER, out_trade_no)


async def _query_by_out_trade_no(request: Request, family: Family, out_trade_no: str) -> HTTPResponse:
    context, merchant = context_of(request), caller_of(request)
    sub_mchid = _named_by_query(request, family, merchant)

    async def accept() -> dict[str, Any]:
        return order.query(context, merchant, sub_mchid=sub_mchid, out_trade_no=out_trade_no)

    return await answer(request, merchant, "query", out_trade_no, accept)


@pay_api.get("/transactions/id/<transaction_id:str>", unquote=True)
async def query_by_id(request: Request, transaction_id: str) -> HTTPResponse:
    """The order by WeChat's number."""
    return await _query_by_id(request, DIRECT, transaction_id)


@pay_api.get("/partner/transactions/id/<transaction_id:str>", unquote=True)
async def partner_query_by_id(request: Request, transaction_id: str) -> HTTPResponse:
    """A service provider's order by WeChat's number."""
    return await _query_by_id(request, PARTNER, transaction_id)


async def _query_by_id(request: Request, family: Family, transaction_id: str) -> HTTPResponse:
    context, merchant = context_of(request), caller_of(request)
    sub_mchid = _named_by_query(request, family, merchant)
    found = order.query(context, merchant, sub_mchid=sub_mchid, transaction_id=transaction_id)

    async def accept() -> dict[str, Any]:
        return found

    return await answer(request, merchant, "query", found["out_trade_no"], accept)


@pay_api.post("/transactions/out-trade-no/<out_trade_no:str>/close", unquote=True)
async def close(request: Request, out_trade_no: str) -> HTTPResponse:
    """Close an unpaid order: 204."""
    return await _close(request, DIRECT, out_trade_no)


@pay_api.post("/partner/transactions/out-trade-no/<out_trade_no:str>/close", unquote=True)
async def partner_close(request: Request, out_trade_no: str) -> HTTPResponse:
    """Close a service provider's unpaid order: 204."""
    return await _close(request, PARTNER, out_trade_no)


async def _close(request: Request, family: Family, out_trade_no: str) -> HTTPResponse:
    context, merchant = context_of(request), caller_of(request)
    body = parameter.body_of(request.body)

    async def accept() -> None:
        parameter.check(body, family.close)
        if body[family.mchid] != merchant.mchid:
            raise header_mchid_differs()
        sub_mchid = body.get("sub_mchid")
        if sub_mchid is not None:
            party.sub_merchant(merchant, sub_mchid)
        order.close(context, merchant, out_trade_no, sub_mchid)

    return await answer(request, merchant, "close", out_trade_no, accept)


def _named_by_query(request: Request, family: Family, merchant: Merchant) -> str | None:
    """Checks the numbers in the query; answers the sub-merchant's."""
    if _required(request, family.mchid) != merchant.mchid:
        raise header_mchid_differs()
    if not family.is_partner:
        return None
    sub_mchid = _required(request, "sub_mchid")
    party.sub_merchant(merchant, sub_mchid)
    return sub_mchid


def _required(request: Request, name: str) -> str:
    given = parse_qs(request.query_string, keep_blank_values=True).get(name, [])
    if len(given) != 1 or not given[0]:
        issue = f"输入源“/query/{name}”映射到值字段“商户号”必填性规则校验失败，此字段为必填项"
        raise parameter.wrong(name, None, issue, location="query")
    return given[0]
