"""Pay APIv3, refunds: /v3/refund/domestic/refunds…, for direct merchants and for service providers alike."""

from typing import Any

from sanic import Blueprint, HTTPResponse, Request

from sandbox import parameter, platform_key, refund
from sandbox.answer import answer, caller_of
from sandbox.context import context_of

refund_api = Blueprint("refund_api", url_prefix="/v3/refund/domestic")


@refund_api.post("/refunds")
async def refunds(request: Request) -> HTTPResponse:
    """Ask for a refund: accepted, normally PROCESSING."""
    context, merchant = context_of(request), caller_of(request)
    body = parameter.body_of(request.body)
    out_trade_no = refund.order_number(context, merchant, body)

    async def accept() -> dict[str, Any]:
        row = refund.place(context, merchant, body)
        if row["due_ms"] is not None and context.faults.take("before_answer", out_trade_no, "refund") is not None:
            callback_seq = refund.decide(context, row["seq"])
            if callback_seq is not None:
                await context.courier.deliver_due(callback_seq)
        return refund.document(row)

    return await answer(request, merchant, "refund", out_trade_no, accept)


@refund_api.get("/refunds/<number:str>", unquote=True)
async def refund_query(request: Request, number: str) -> HTTPResponse:
    """The refund by the merchant's number."""
    context, merchant = context_of(request), caller_of(request)
    out_trade_no = refund.order_number(context, merchant, {"out_refund_no": number})

    async def accept() -> dict[str, Any]:
        return refund.document(refund.query(context, merchant, number, request.args.get("sub_mchid")))

    return await answer(request, merchant, "refund_query", out_trade_no, accept)


@refund_api.post("/refunds/<number:str>/apply-abnormal-refund", unquote=True)
async def apply_abnormal_refund(request: Request, number: str) -> HTTPResponse:
    """Send an abnormal refund, by WeChat's number, to another account."""
    context, merchant = context_of(request), caller_of(request)
    body = parameter.body_of(request.body)
    platform_key.check_sealed(
        context.store,
        merchant.platform_key,
        request.headers.get("wechatpay-serial"),
        body,
        ("bank_account", "real_name"),
    )

    async def accept() -> dict[str, Any]:
        return refund.document(refund.repair_abnormal(context, merchant, number, body))

    out_trade_no = refund.order_number(context, merchant, body)
    return await answer(request, merchant, "refund_abnormal", out_trade_no, accept)
