"""Audit, read: who did what to which row."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from kit.ids import parse_id
from kit.paging import Page, decode_cursor, page_of
from models.access import Act, Actor, require, require_somewhere
from models.audit import Audit
from models.base import get_visible
from models.community import Community
from models.staff import Staff
from services.listing import wanted_id, whole_number


@dataclass(frozen=True)
class AuditView:
    """An act, and the name of the member of staff who did it."""

    audit: Audit
    staff_name: str | None


async def list_audits(
    actor: Actor, community_id: str | None, target_id: str | None, cursor: str | None, limit: int
) -> Page[AuditView]:
    """Newest first, of the communities where the actor may read audit; organization-wide staff also what belongs to
    no community. Refuses NotFound (community), NotPermitted."""
    require_somewhere(actor, Act.AUDIT_READ)
    query = Audit.visible_to(actor)
    if community_id is not None:
        community = await get_visible(Community.visible_to(actor), community_id)
        require(actor, Act.AUDIT_READ, community_id=community.id)
        query = query.filter(community_id=community.id)
    if target_id is not None:
        query = query.filter(target_id=wanted_id(target_id))
    if cursor:
        (last,) = decode_cursor(cursor, (whole_number,))
        query = query.filter(id__lt=last)
    page = page_of(await query.order_by("-id").limit(limit + 1), limit, lambda audit: (audit.id,))
    names = await _names(page.items)
    return Page([AuditView(audit, names.get(audit.actor)) for audit in page.items], page.next_cursor)


async def _names(audits: Sequence[Audit]) -> dict[str, str]:
    hands = {audit.actor: parse_id(audit.actor.removeprefix("staff:")) for audit in audits}
    ids: list[UUID] = [found for found in hands.values() if found]
    return {f"staff:{staff.id}": staff.name for staff in await Staff.filter(id__in=ids)} if ids else {}
