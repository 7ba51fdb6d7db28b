"""调整: asked for by one person, signed by another."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

import payments
from handlers.route import Body, Call, Fen, Id, Out, PageOut, PageQuery, PositiveFen, Who, route
from kit.errors import MoveNotAllowed, NotFound, NotPermitted
from models.ledger import AccountKind
from models.reconciliation import Adjustment, AdjustmentState
from services import adjustment as service

_TAG = "对账 reconciliation"
_BASE = "/api/v1/staff/adjustments"


class AdjustmentOut(Out):
    """借 ``debit_kind`` 贷 ``credit_kind``; posted once a second person signed."""

    id: Id
    community_id: Id
    merchant_account_id: Id
    difference_id: Id | None
    debit_kind: AccountKind
    credit_kind: AccountKind
    amount_fen: Fen
    reason: str
    status: AdjustmentState
    asked_by: Id
    asked_at: datetime
    decided_by: Id | None
    decided_at: datetime | None


class AdjustmentIn(Body):
    """Only wechat_clearing, bank, commission and suspense may be adjusted."""

    community_id: str
    merchant_account_id: str
    difference_id: str | None = None
    debit_kind: AccountKind
    credit_kind: AccountKind
    amount_fen: PositiveFen
    reason: Annotated[str, Field(min_length=2, max_length=200)]


class AdjustmentsQuery(PageQuery):
    status: AdjustmentState | None = None


def _out(adjustment: Adjustment) -> AdjustmentOut:
    return AdjustmentOut(
        id=str(adjustment.id),
        community_id=str(adjustment.community_id),
        merchant_account_id=str(adjustment.merchant_account_id),
        difference_id=str(adjustment.difference_id) if adjustment.difference_id else None,
        debit_kind=AccountKind(adjustment.debit_kind),
        credit_kind=AccountKind(adjustment.credit_kind),
        amount_fen=adjustment.amount_fen,
        reason=adjustment.reason,
        status=adjustment.state,
        asked_by=str(adjustment.asked_by_staff_id),
        asked_at=adjustment.created_at,
        decided_by=str(adjustment.decided_by_staff_id) if adjustment.decided_by_staff_id else None,
        decided_at=adjustment.decided_at,
    )


async def _replay(call: Call, adjustment_id: UUID) -> AdjustmentOut:
    return _out(await service.get_adjustment(call.actor, adjustment_id))


@route("POST", _BASE, who=Who.STAFF, tag=_TAG, summary="申请调整", body=AdjustmentIn, response=AdjustmentOut,
       status=201, replay=_replay, makes="adjustment",
       refusals=(NotFound, NotPermitted, payments.AccountsNotAdjustable))  # fmt: skip
async def ask_adjustment(call: Call) -> AdjustmentOut:
    """Nothing is posted until somebody else signs."""
    body = call.body
    new = service.NewAdjustment(
        community_id=body.community_id,
        merchant_account_id=body.merchant_account_id,
        difference_id=body.difference_id,
        debit_kind=body.debit_kind.value,
        credit_kind=body.credit_kind.value,
        amount_fen=body.amount_fen,
        reason=body.reason,
    )
    return _out(await service.ask_adjustment(call.actor, new))


@route("GET", _BASE, who=Who.STAFF, tag=_TAG, summary="调整列表", query=AdjustmentsQuery,
       response=PageOut[AdjustmentOut], refusals=(NotPermitted,))  # fmt: skip
async def list_adjustments(call: Call) -> PageOut[AdjustmentOut]:
    page = await service.list_adjustments(call.actor, call.query.status, call.query.cursor, call.query.limit)
    return PageOut[AdjustmentOut](items=[_out(one) for one in page.items], next_cursor=page.next_cursor)


@route("POST", _BASE + "/{adjustment_id}/sign", who=Who.STAFF, tag=_TAG, summary="复核调整", response=AdjustmentOut,
       refusals=(NotPermitted, MoveNotAllowed, payments.SecondPersonNeeded))  # fmt: skip
async def sign_adjustment(call: Call) -> AdjustmentOut:
    """The second signature, by another person than who asked: the entry is posted."""
    return _out(await service.sign_adjustment(call.actor, call.id("adjustment_id")))


@route("POST", _BASE + "/{adjustment_id}/withdraw", who=Who.STAFF, tag=_TAG, summary="撤回调整",
       response=AdjustmentOut, refusals=(NotPermitted, MoveNotAllowed))  # fmt: skip
async def withdraw_adjustment(call: Call) -> AdjustmentOut:
    """Refused, or taken back: nothing is posted."""
    return _out(await service.withdraw_adjustment(call.actor, call.id("adjustment_id")))
