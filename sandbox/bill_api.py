"""Pay APIv3, bills: /v3/bill/… and /v3/billdownload/file; and the hand that puts money into an account."""

from typing import Any
from urllib.parse import parse_qs

from sanic import Blueprint, HTTPResponse, Request

from sandbox import bill, fund, parameter, party
from sandbox.answer import File, answer, caller_of, json_answer
from sandbox.context import context_of
from sandbox.control import fields

bill_api = Blueprint("bill_api", url_prefix="/v3")
bill_control = Blueprint("bill_control", url_prefix="/sandbox")


@bill_api.get("/bill/tradebill")
async def tradebill(request: Request) -> HTTPResponse:
    """A day's payments and refunds: where to fetch them, and their hash."""
    context, merchant = context_of(request), caller_of(request)
    given = _given(request, ("bill_date", "bill_type", "tar_type", "sub_mchid"))

    async def accept() -> dict[str, Any]:
        day, kind = bill.day_of(given["bill_date"]), _one_of(given, "bill_type", "ALL", *bill.TRADE_HEADERS)
        zipped = _one_of(given, "tar_type", "", "GZIP") == "GZIP"
        if "sub_mchid" in given:
            party.sub_merchant(merchant, given["sub_mchid"])
        content = bill.trade_bill(context, merchant, day, kind, given.get("sub_mchid"))
        return bill.keep(context, merchant, content, zipped, f"http://{request.host}")

    return await answer(request, merchant, "tradebill", None, accept)


@bill_api.get("/bill/fundflowbill")
async def fundflowbill(request: Request) -> HTTPResponse:
    """What flowed in and out of an account in a day."""
    context, merchant = context_of(request), caller_of(request)
    given = _given(request, ("bill_date", "account_type", "tar_type"))

    async def accept() -> dict[str, Any]:
        day, account = bill.day_of(given["bill_date"]), _one_of(given, "account_type", "BASIC", *fund.ACCOUNTS)
        zipped = _one_of(given, "tar_type", "", "GZIP") == "GZIP"
        content = bill.flow_bill(context, merchant, day, account)
        return bill.keep(context, merchant, content, zipped, f"http://{request.host}")

    return await answer(request, merchant, "fundflowbill", None, accept)


@bill_api.get("/billdownload/file")
async def download(request: Request) -> HTTPResponse:
    """The file, not signed."""
    context, merchant = context_of(request), caller_of(request)

    async def accept() -> File:
        content, zipped = bill.fetch(context, merchant, request.args.get("token", ""))
        return File(content, "application/x-gzip" if zipped else "text/plain")

    return await answer(request, merchant, "billdownload", None, accept)


@bill_control.post("/merchants/<mchid:str>/movements")
async def move(request: Request, mchid: str) -> HTTPResponse:
    """Money that the merchant puts in, or draws out."""
    body = fields(request, {"amount_fen": int}, {"account": str})
    return json_answer(fund.move(context_of(request), mchid, body["amount_fen"], body.get("account", "BASIC")))


def _given(request: Request, names: tuple[str, ...]) -> dict[str, str]:
    found = parse_qs(request.query_string, keep_blank_values=True)
    given = {name: values[0] for name, values in found.items() if name in names}
    if "bill_date" not in given:
        issue = "输入源“/query/bill_date”映射到值字段“账单日期”必填性规则校验失败，此字段为必填项"
        raise parameter.wrong("bill_date", None, issue, location="query")
    return given


def _one_of(given: dict[str, str], name: str, default: str, *choices: str) -> str:
    chosen = given.get(name, default)
    if name in given and chosen not in choices:
        raise parameter.wrong(name, chosen, f"{name}取值有误", location="query")
    return chosen
