"""Refunds, for staff: look, ask WeChat, try again, give up."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

import payments
from handlers.route import Body, Call, Fen, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import MoveNotAllowed, NotPermitted
from models.refund import RefundAttemptState, RefundKind, RefundMethod, RefundState
from services import refund as service

TAG = "退款 refunds"
WORDS = {
    RefundState.APPROVED: {"zh": "退款处理中", "en": "Being refunded"},
    RefundState.PROCESSING: {"zh": "退款处理中", "en": "Being refunded"},
    RefundState.FAILED: {"zh": "退款受阻，待财务处理", "en": "Held up; finance takes the next step"},
    RefundState.REFUNDED: {"zh": "已退款", "en": "Refunded"},
    RefundState.CANCELLED: {"zh": "退款已取消", "en": "Cancelled"},
}


class RefundAttemptOut(Out):
    """One number at WeChat. ``accepted`` means taken on, not refunded."""

    out_refund_no: str
    status: RefundAttemptState
    wechat_refund_id: str | None
    sent_at: datetime | None
    succeeded_at: datetime | None


class RefundOut(Out):
    """A refund. Only ``refunded`` means that the money is back; ``problem`` is WeChat's code for what is in the way."""

    id: Id
    kind: RefundKind
    method: RefundMethod
    status: RefundState
    status_text: str
    community_id: Id
    payment_id: Id
    amount_fen: Fen
    reason: str
    problem: str | None
    created_at: datetime
    approved_by_staff_id: Id
    refunded_at: datetime | None
    cancelled_at: datetime | None
    cancel_reason: str | None
    attempts: list[RefundAttemptOut]


class RefundQuery(PageQuery):
    status: RefundState | None = None
    community_id: str | None = None
    payment_id: str | None = None


class CancelRefundIn(Body):
    """Why nothing shall be given back."""

    reason: Annotated[str, Field(min_length=2, max_length=200)]


def refund_out(view: service.RefundView, language: str) -> RefundOut:
    """The refund as staff see it."""
    refund = view.refund
    return RefundOut(
        id=str(refund.id),
        kind=refund.kind,
        method=refund.method,
        status=refund.state,
        status_text=WORDS[refund.state][language],
        community_id=str(refund.community_id),
        payment_id=str(refund.payment_id),
        amount_fen=refund.amount_fen,
        reason=refund.reason,
        problem=refund.problem,
        created_at=refund.created_at,
        approved_by_staff_id=str(refund.approved_by_staff_id),
        refunded_at=refund.refunded_at,
        cancelled_at=refund.cancelled_at,
        cancel_reason=refund.cancel_reason,
        attempts=[
            RefundAttemptOut(
                out_refund_no=attempt.out_refund_no,
                status=attempt.state,
                wechat_refund_id=attempt.wechat_refund_id,
                sent_at=attempt.sent_at,
                succeeded_at=attempt.succeeded_at,
            )
            for attempt in view.attempts
        ],
    )


@route("GET", "/api/v1/staff/refunds", who=Who.STAFF, tag=TAG, summary="退款列表", query=RefundQuery,
       response=PageOut[RefundOut], refusals=(NotPermitted,))  # fmt: skip
async def list_refunds(call: Call) -> PageOut[RefundOut]:
    """Newest first."""
    query = call.query
    wanted = service.RefundFilter(query.status, query.community_id, query.payment_id)
    page = await service.list_refunds(call.actor, wanted, query.cursor, query.limit)
    items = [refund_out(view, call.language) for view in page.items]
    return PageOut[RefundOut](items=items, next_cursor=page.next_cursor)


@route("GET", "/api/v1/staff/refunds/{refund_id}", who=Who.STAFF, tag=TAG, summary="退款详情",
       response=RefundOut)  # fmt: skip
async def get_refund(call: Call) -> RefundOut:
    return refund_out(await service.get_refund(call.actor, call.id("refund_id")), call.language)


@route("POST", "/api/v1/staff/refunds/{refund_id}/check", who=Who.STAFF, tag=TAG, summary="立即向微信查询退款",
       response=RefundOut, refusals=(NotPermitted,))  # fmt: skip
async def check_refund(call: Call) -> RefundOut:
    """WeChat is asked now instead of waiting for its notice."""
    return refund_out(await service.check_refund(call.actor, call.id("refund_id")), call.language)


async def replay_refund(call: Call, refund_id: UUID) -> RefundOut:
    """The refund that an earlier request made or moved, as it is now."""
    return refund_out(await service.get_refund(call.actor, refund_id), call.language)


@route("POST", "/api/v1/staff/refunds/{refund_id}/retry", who=Who.STAFF, tag=TAG, summary="重新退款",
       response=RefundOut, replay=replay_refund, makes="refund",
       refusals=(NotPermitted, MoveNotAllowed, payments.RefundAtWechat))  # fmt: skip
async def retry_refund(call: Call) -> RefundOut:
    """The same number goes to WeChat again; a new one only when WeChat said that the old one is closed."""
    return refund_out(await service.retry_refund(call.actor, call.id("refund_id")), call.language)


@route("POST", "/api/v1/staff/refunds/{refund_id}/cancel", who=Who.STAFF, tag=TAG, summary="取消退款",
       body=CancelRefundIn, response=RefundOut,
       refusals=(NotPermitted, MoveNotAllowed, payments.RefundJustSent, payments.RefundAtWechat,
                 payments.WechatUnavailable))  # fmt: skip
async def cancel_refund(call: Call) -> RefundOut:
    """Only what WeChat surely did not take on; the surplus is then to be decided anew."""
    view = await service.cancel_refund(call.actor, call.id("refund_id"), call.body.reason)
    return refund_out(view, call.language)
