"""Cases for finance: one per kind and source, however often the same trouble is told."""

from typing import Any
from uuid import UUID

from kit import clock
from models.discrepancy import DISCREPANCY_MACHINE, Discrepancy, DiscrepancyKind, DiscrepancyState


async def open_case_tx(
    kind: DiscrepancyKind,
    source_id: UUID,
    *,
    organization_id: UUID,
    community_id: UUID,
    payment_id: UUID,
    amount_fen: int,
    facts: dict[str, Any],
) -> Discrepancy:
    """Afterwards the case is open and says ``facts``. The caller holds a lock on what it is about, so that nobody else
    is between the look and the insert."""
    case = await Discrepancy.get_or_none(kind=kind, source_id=source_id)
    if case is None:
        return await Discrepancy.create(
            organization_id=organization_id,
            community_id=community_id,
            kind=kind,
            source_id=source_id,
            payment_id=payment_id,
            amount_fen=amount_fen,
            facts=facts,
        )
    if case.state is DiscrepancyState.RESOLVED:
        case.facts = facts
        await reopen_case_tx(case)
    return case


async def reopen_case_tx(case: Discrepancy) -> None:
    """A case that was resolved is open again, and nothing of its resolution stays."""
    if case.state is DiscrepancyState.RESOLVED:
        DISCREPANCY_MACHINE.enter(
            case, DiscrepancyState.OPEN, resolved_at=None, resolved_by_staff_id=None, resolution=None
        )
        await case.save()


async def resolve_case_tx(kind: DiscrepancyKind, source_id: UUID, resolution: str) -> None:
    """An open case about this resolved itself; nothing when there is none."""
    await Discrepancy.filter(kind=kind, source_id=source_id, state=DiscrepancyState.OPEN).update(
        state=DiscrepancyState.RESOLVED, resolved_at=clock.now(), resolution=resolution
    )
