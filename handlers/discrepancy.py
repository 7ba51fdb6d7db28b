"""差错 cases."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from handlers.route import Body, Call, Fen, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import MoveNotAllowed, NotPermitted
from models.discrepancy import Discrepancy, DiscrepancyKind, DiscrepancyState
from services import discrepancy as service


class DiscrepancyOut(Out):
    """A case: what was expected, what came, and what was done. What only WeChat knows has no payment, and no community
    where its merchant account serves several."""

    id: Id
    kind: DiscrepancyKind
    status: DiscrepancyState
    community_id: Id | None
    payment_id: Id | None
    amount_fen: Fen
    facts: dict[str, Any]
    created_at: datetime
    resolved_at: datetime | None
    resolution: str | None


class DiscrepancyQuery(PageQuery):
    status: DiscrepancyState | None = None
    community_id: str | None = None


class ResolveIn(Body):
    """What was found and done, in words."""

    resolution: Annotated[str, Field(min_length=2, max_length=200)]


def _out(case: Discrepancy) -> DiscrepancyOut:
    return DiscrepancyOut(
        id=str(case.id),
        kind=case.kind,
        status=case.state,
        community_id=str(case.community_id) if case.community_id else None,
        payment_id=str(case.payment_id) if case.payment_id else None,
        amount_fen=case.amount_fen,
        facts=case.facts,
        created_at=case.created_at,
        resolved_at=case.resolved_at,
        resolution=case.resolution,
    )


@route("GET", "/api/v1/staff/discrepancies", who=Who.STAFF, tag="财务 finance", summary="差错列表",
       query=DiscrepancyQuery, response=PageOut[DiscrepancyOut], refusals=(NotPermitted,))  # fmt: skip
async def list_discrepancies(call: Call) -> PageOut[DiscrepancyOut]:
    query = call.query
    page = await service.list_discrepancies(call.actor, query.status, query.community_id, query.cursor, query.limit)
    return PageOut[DiscrepancyOut](items=[_out(case) for case in page.items], next_cursor=page.next_cursor)


@route("GET", "/api/v1/staff/discrepancies/{discrepancy_id}", who=Who.STAFF, tag="财务 finance", summary="差错详情",
       response=DiscrepancyOut)  # fmt: skip
async def get_discrepancy(call: Call) -> DiscrepancyOut:
    return _out(await service.get_discrepancy(call.actor, call.id("discrepancy_id")))


@route("POST", "/api/v1/staff/discrepancies/{discrepancy_id}/resolve", who=Who.STAFF, tag="财务 finance",
       summary="处理差错", body=ResolveIn, response=DiscrepancyOut,
       refusals=(NotPermitted, MoveNotAllowed, service.CaseNeedsDecision))  # fmt: skip
async def resolve_discrepancy(call: Call) -> DiscrepancyOut:
    """Notes what was done; moves no money."""
    return _out(await service.resolve_discrepancy(call.actor, call.id("discrepancy_id"), call.body.resolution))
