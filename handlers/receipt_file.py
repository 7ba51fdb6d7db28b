"""Receipts as PDF: electronic ones for everybody who may see them, counted prints for staff."""

from datetime import datetime
from uuid import UUID

from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Query, Reply, Who, route
from kit.errors import NotPermitted
from models.receipt import ReceiptFile, ReceiptFormat, ReceiptPrint
from services import rate_limit
from services import receipt_file as service

TAG = "收据 receipts"
_PDF = {"tag": TAG, "content_type": "application/pdf", "waits": True, "limits": (rate_limit.READ_RECEIPT_FILE,),
        "refusals": (service.ReceiptFileNotMade,)}  # fmt: skip


class ReceiptFileQuery(Query):
    format: ReceiptFormat = ReceiptFormat.A4


class PrintReceiptIn(Body):
    format: ReceiptFormat


class ReceiptPrintOut(Out):
    """A counted print. From ``copy_number`` 2 on the paper says 补打."""

    id: Id
    receipt_id: Id
    format: ReceiptFormat
    copy_number: int
    printed_by: str
    printed_at: datetime


def _print_out(copy: ReceiptPrint) -> ReceiptPrintOut:
    return ReceiptPrintOut(
        id=str(copy.id),
        receipt_id=str(copy.receipt_id),
        format=copy.format,
        copy_number=copy.copy_number,
        printed_by=copy.printed_by,
        printed_at=copy.created_at,
    )


def _file(file: ReceiptFile | None) -> Reply:
    if file is None:
        return Reply(status=202, headers={"Retry-After": "1", "Cache-Control": "no-store"})
    headers = {
        "Content-Disposition": f'inline; filename="receipt-{file.receipt_id}-{file.format}.pdf"',
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
        "ETag": f'"{file.sha256}"',
    }
    return Reply(file.body, content_type="application/pdf", headers=headers)


async def _replay_print(call: Call, print_id: UUID) -> ReceiptPrintOut:
    return _print_out(await service.get_print(call.actor, call.id("receipt_id"), print_id))


@route("GET", "/api/v1/receipts/{receipt_id}/pdf", who=Who.RESIDENT, summary="收据 PDF", query=ReceiptFileQuery, **_PDF)
@route("GET", "/api/v1/staff/receipts/{receipt_id}/pdf", who=Who.STAFF, summary="收据 PDF", query=ReceiptFileQuery,
       **_PDF)  # fmt: skip
async def get_receipt_pdf(call: Call) -> Reply:
    """The electronic receipt. The worker makes it when it is first asked for: until then 202, ask again."""
    return _file(await service.receipt_file(call.actor, call.id("receipt_id"), call.query.format))


@route("POST", "/api/v1/staff/receipts/{receipt_id}/prints", who=Who.STAFF, tag=TAG, summary="打印收据（计次）",
       body=PrintReceiptIn, status=201, response=ReceiptPrintOut, replay=_replay_print, makes="receipt_print",
       refusals=(NotPermitted,))  # fmt: skip
async def create_print(call: Call) -> ReceiptPrintOut:
    """Counts a copy on paper; the second and later ones say 补打."""
    copy = await service.print_receipt(call.actor, call.id("receipt_id"), call.body.format)
    return _print_out(copy)


@route("GET", "/api/v1/staff/receipts/{receipt_id}/prints", who=Who.STAFF, tag=TAG, summary="打印记录", query=PageQuery,
       response=PageOut[ReceiptPrintOut])  # fmt: skip
async def list_prints(call: Call) -> PageOut[ReceiptPrintOut]:
    """Newest first."""
    page = await service.list_prints(call.actor, call.id("receipt_id"), call.query.cursor, call.query.limit)
    return PageOut[ReceiptPrintOut](items=[_print_out(copy) for copy in page.items], next_cursor=page.next_cursor)


@route("GET", "/api/v1/staff/receipts/{receipt_id}/prints/{print_id}/pdf", who=Who.STAFF, summary="打印件 PDF", **_PDF)
async def get_print_pdf(call: Call) -> Reply:
    """The copy to print. 202 until the worker has made it."""
    return _file(await service.print_file(call.actor, call.id("receipt_id"), call.id("print_id")))
