"""差错: what finance must look at, and what was done about it."""

from uuid import UUID

from tortoise.expressions import Q

from kit import clock
from kit.errors import Refusal
from kit.paging import Page
from models import audit
from models.access import Act, Actor, require, require_somewhere
from models.base import get_visible
from models.discrepancy import DISCREPANCY_MACHINE, Discrepancy, DiscrepancyKind, DiscrepancyState
from models.payment import Payment
from models.refund import Refund, RefundState
from models.unit_of_work import unit_of_work
from services.listing import newest_first, wanted_id


class CaseNeedsDecision(Refusal):
    """Words do not end it: the surplus is returned or kept, the refund that is stuck retried or cancelled."""

    status = 409
    zh = "这笔差错要先处理：溢收款请退回或留存，受阻的退款请重试或取消。"
    en = "This case ends by a decision: return or keep the surplus, retry or cancel the refund."


async def list_discrepancies(
    actor: Actor, state: DiscrepancyState | None, community_id: str | None, cursor: str | None, limit: int
) -> Page[Discrepancy]:
    """Newest first, of the communities whose cases the staff member may read."""
    require_somewhere(actor, Act.DISCREPANCY_READ)
    query = Discrepancy.visible_to(actor)
    if state is not None:
        query = query.filter(state=state)
    if community_id is not None:
        query = query.filter(community_id=wanted_id(community_id))
    return await newest_first(query, cursor, limit)


async def get_discrepancy(actor: Actor, discrepancy_id: UUID) -> Discrepancy:
    """One case; NotFound when it is not the actor's to see."""
    return await get_visible(Discrepancy.visible_to(actor), discrepancy_id)


async def resolve_discrepancy(actor: Actor, discrepancy_id: UUID, resolution: str) -> Discrepancy:
    """Note what was found and done. No money moves by this. Refuses with CaseNeedsDecision while something is to be
    decided about the money, and MoveNotAllowed when the case is resolved already."""
    found = await get_visible(Discrepancy.visible_to(actor), discrepancy_id)
    if found.community_id is None:
        require_somewhere(actor, Act.DISCREPANCY_RESOLVE)
    else:
        require(actor, Act.DISCREPANCY_RESOLVE, community_id=found.community_id)
    return await _resolve(actor, discrepancy_id, resolution)


@unit_of_work
async def _resolve(actor: Actor, discrepancy_id: UUID, resolution: str) -> Discrepancy:
    case = await Discrepancy.select_for_update().get(id=discrepancy_id)
    if await _undecided(case):
        raise CaseNeedsDecision()
    DISCREPANCY_MACHINE.enter(
        case,
        DiscrepancyState.RESOLVED,
        resolved_at=clock.now(),
        resolved_by_staff_id=actor.id,
        resolution=resolution,
    )
    await case.save(update_fields=["state", "resolved_at", "resolved_by_staff_id", "resolution"])
    await audit.record_tx(
        actor,
        "discrepancy.resolve",
        "discrepancy",
        case.id,
        organization_id=case.organization_id,
        community_id=case.community_id,
        before={"state": "open"},
        after={"state": "resolved"},  # the words stand on the case: there may be a phone number in them
    )
    return case


async def _undecided(case: Discrepancy) -> bool:
    if case.kind is DiscrepancyKind.SURPLUS:
        return await Payment.exists(id=case.payment_id, surplus_fate__isnull=True)
    if case.kind is DiscrepancyKind.REFUND_STUCK:
        stuck = Q(state=RefundState.FAILED) | Q(state=RefundState.APPROVED, problem__isnull=False)
        return await Refund.filter(stuck, id=case.source_id).exists()
    return False
