"""Receipts: as JSON and as a page to print."""

from datetime import date
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from pydantic import Field

from handlers.route import Call, Fen, Id, Out, PageOut, PageQuery, Reply, Who, route
from kit.errors import NotPermitted
from kit.money import format_yuan
from models.access import Actor
from models.receipt import Receipt
from services import receipt as service

TAG = "收据 receipts"
_PAGES = Environment(loader=PackageLoader("handlers"), autoescape=select_autoescape(default=True), trim_blocks=True)
_PAGES.filters["yuan"] = format_yuan
# A page for printing needs no script and loads nothing.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


class StaffReceiptQuery(PageQuery):
    number: str | None = Field(None, max_length=40, description="收据编号")


class ReceiptItemOut(Out):
    room: str | None
    title: str
    period_from: date | None = None
    period_to: date | None = None
    amount_fen: Fen


class ReceiptOut(Out):
    """A receipt. Items add up to ``amount_fen``. ``refunded_fen`` of it went back since; when all of it did, the
    receipt is void (作废) since ``voided_on``, and keeps its number."""

    id: Id
    number: str
    payment_id: Id
    issued_on: date
    legal_entity: str
    tax_number: str | None
    community: str
    customer: str
    items: list[ReceiptItemOut]
    amount_fen: Fen
    amount_in_capitals: str
    check_code: str = Field(description="核验码: what the paper must say too")
    channel: str
    transaction_id: str | None
    paid_at: str | None
    refunded_fen: Fen
    voided_on: date | None


async def _shown(actor: Actor, receipt: Receipt) -> ReceiptOut:
    return receipt_out(actor, receipt, (await service.standings([receipt]))[receipt.id])


def receipt_out(actor: Actor, receipt: Receipt, standing: service.Standing) -> ReceiptOut:
    """The receipt as this reader may see it."""
    content: dict[str, Any] = receipt.content
    return ReceiptOut(
        id=str(receipt.id),
        number=receipt.number,
        payment_id=str(receipt.payment_id),
        issued_on=receipt.issued_on,
        check_code=service.check_code(receipt),
        refunded_fen=standing.refunded_fen,
        voided_on=standing.voided_on,
        **(content | {"customer": service.customer_name_for(actor, receipt)}),
    )


@route("GET", "/api/v1/receipts", who=Who.RESIDENT, tag=TAG, summary="我的收据", query=PageQuery,
       response=PageOut[ReceiptOut])  # fmt: skip
@route("GET", "/api/v1/staff/receipts", who=Who.STAFF, tag=TAG, summary="查询收据", query=StaffReceiptQuery,
       response=PageOut[ReceiptOut], refusals=(NotPermitted,))  # fmt: skip
async def list_receipts(call: Call) -> PageOut[ReceiptOut]:
    """Newest first; staff find one by its number."""
    number = getattr(call.query, "number", None)
    page = await service.list_receipts(call.actor, call.query.cursor, call.query.limit, number)
    standings = await service.standings(page.items)
    items = [receipt_out(call.actor, receipt, standings[receipt.id]) for receipt in page.items]
    return PageOut[ReceiptOut](items=items, next_cursor=page.next_cursor)


@route("GET", "/api/v1/receipts/{receipt_id}", who=Who.RESIDENT, tag=TAG, summary="收据", response=ReceiptOut)
@route("GET", "/api/v1/staff/receipts/{receipt_id}", who=Who.STAFF, tag=TAG, summary="收据", response=ReceiptOut)
async def get_receipt(call: Call) -> ReceiptOut:
    """Who paid for another household sees the debtor's surname only."""
    return await _shown(call.actor, await service.get_receipt(call.actor, call.id("receipt_id")))


@route("GET", "/api/v1/receipts/{receipt_id}/page", who=Who.RESIDENT, tag=TAG, summary="打印收据",
       content_type="text/html")  # fmt: skip
@route("GET", "/api/v1/staff/receipts/{receipt_id}/page", who=Who.STAFF, tag=TAG, summary="打印收据",
       content_type="text/html")  # fmt: skip
async def print_receipt(call: Call) -> Reply:
    """A page to print."""
    receipt = await _shown(call.actor, await service.get_receipt(call.actor, call.id("receipt_id")))
    html = _PAGES.get_template("receipt.html").render(receipt=receipt)
    return Reply(html.encode(), headers=_HEADERS)
