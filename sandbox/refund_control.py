"""Control routes of refunds: what WeChat, its customer service and the merchant platform's web site would do."""

from sanic import Blueprint, HTTPResponse, Request

from sandbox import refund
from sandbox.answer import json_answer
from sandbox.context import context_of
from sandbox.control import fields
from sandbox.error import ControlError
from sandbox.parameter import MAX_FEN

refund_control = Blueprint("refund_control", url_prefix="/sandbox")


@refund_control.get("/refunds")
async def refunds(request: Request) -> HTTPResponse:
    """Refunds, newest first, at most 100."""
    found = refund.listing(context_of(request), request.args.get("out_trade_no"), request.args.get("status"))
    return json_answer({"refunds": found})


@refund_control.post("/refunds")
async def make_refund(request: Request) -> HTTPResponse:
    """A refund made by hand at WeChat's site."""
    body = fields(request, {"out_trade_no": str, "amount_fen": int}, {"mchid": str, "reason": str, "notify_url": str})
    if not 1 <= body["amount_fen"] <= MAX_FEN:
        raise ControlError(422, "invalid_input", "退款金额有误。", fields=["amount_fen"])
    return json_answer(refund.view(refund.make_by_hand(context_of(request), **body)))


@refund_control.post("/refunds/<refund_id:str>/decide")
async def decide(request: Request, refund_id: str) -> HTTPResponse:
    """Decide a refund now, or an abnormal one again."""
    body = fields(request, {"status": str})
    return json_answer(refund.decide_by_hand(context_of(request), refund_id, body["status"]))
