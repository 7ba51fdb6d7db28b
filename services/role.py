"""岗位 of staff: who may give and take which, and that an organization never loses its last manager."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from kit.errors import Refusal
from models import audit
from models.access import Act, Actor, Role, require
from models.base import get_visible
from models.community import Community
from models.organization import Organization
from models.staff import Staff, StaffRole
from models.unit_of_work import row, unit_of_work


class LastManager(Refusal):
    """The organization would have nobody left who may manage all of it."""

    status = 409
    zh = "这是公司最后一位管理员，请先指定另一位管理员。"
    en = "This is the organization's last manager: appoint another one first."


@dataclass(frozen=True)
class Grant:
    """A role in one community, or (``community_id`` None) in all of the organization."""

    community_id: UUID | None
    role: Role

    def plain(self) -> dict[str, str | None]:
        """As audit writes it."""
        return {"community_id": str(self.community_id) if self.community_id else None, "role": self.role.value}


@dataclass(frozen=True)
class StaffView:
    """A member of staff and their roles."""

    staff: Staff
    roles: Sequence[Grant]


def _in_order(grants: Iterable[Grant]) -> list[Grant]:
    return sorted(grants, key=lambda grant: (str(grant.community_id or ""), grant.role.value))


async def grants_of(staff_ids: Collection[UUID]) -> dict[UUID, list[Grant]]:
    """The roles of each, in a steady order, by one query."""
    held: dict[UUID, list[Grant]] = {staff_id: [] for staff_id in staff_ids}
    for found in await StaffRole.filter(staff_id__in=list(staff_ids)):
        held[found.staff_id].append(Grant(found.community_id, found.role))
    return {staff_id: _in_order(grants) for staff_id, grants in held.items()}


async def read_grants(actor: Actor, wanted: Iterable[tuple[str | None, Role]]) -> set[Grant]:
    """The roles that a request names. NotFound for a community that is not there for the actor."""
    grants = set()
    for community_id, role in wanted:
        community = await get_visible(Community.visible_to(actor), community_id) if community_id else None
        grants.add(Grant(community.id if community else None, role))
    return grants


def require_each(actor: Actor, grants: Iterable[Grant]) -> None:
    """NotPermitted unless the actor manages staff wherever one of the roles is."""
    for grant in grants:
        require(actor, Act.STAFF_MANAGE, community_id=grant.community_id)


async def require_over(actor: Actor, staff_id: UUID) -> list[Grant]:
    """The roles of a member of staff, when the actor manages staff wherever they have one; NotPermitted otherwise.

    An account belongs to whoever manages every place where it works: a password or a lock reaches all of them.
    """
    held = (await grants_of([staff_id]))[staff_id]
    if not held:
        require(actor, Act.STAFF_MANAGE)
    require_each(actor, held)
    return held


async def add_grants_tx(staff: Staff, grants: Iterable[Grant]) -> None:
    """Give the roles; the caller has checked that they may be given."""
    for grant in _in_order(grants):
        await StaffRole.create(
            organization_id=staff.organization_id,
            staff_id=staff.id,
            community_id=grant.community_id,
            role=grant.role,
        )


async def lock_organization_tx(organization_id: UUID | None) -> None:
    """Whoever changes who manages an organization waits here, so that two cannot remove each other at once."""
    await Organization.select_for_update().get(id=organization_id)


async def keep_a_manager_tx(organization_id: UUID) -> None:
    """LastManager when nobody is left who is enabled and manages all of the organization."""
    left = await row(
        "SELECT 1 FROM staff_roles r JOIN staff s ON s.id = r.staff_id"
        " WHERE r.organization_id = $1 AND r.community_id IS NULL AND r.role = 'manager' AND s.disabled_at IS NULL"
        " LIMIT 1",
        organization_id,
    )
    if left is None:
        raise LastManager()


def manages_all(grants: Iterable[Grant]) -> bool:
    """Whether a manager of the whole organization is among the roles."""
    return Grant(None, Role.MANAGER) in grants


@unit_of_work
async def set_roles(actor: Actor, staff_id: UUID, wanted: Iterable[tuple[str | None, Role]]) -> StaffView:
    """Afterwards the member of staff has exactly these roles, from their next request on.

    Only what changes must be the actor's to give: a manager of one community sends roles elsewhere back as they are.
    Refuses NotFound (staff or community), NotPermitted for a role given or taken where the actor does not manage
    staff, LastManager.
    """
    staff = await get_visible(Staff.visible_to(actor), staff_id)
    await lock_organization_tx(actor.organization_id)
    await Staff.select_for_update().get(id=staff.id)
    held = set((await grants_of([staff.id]))[staff.id])
    # A role elsewhere that stays need not be in a community that the actor sees.
    pairs = {(str(grant.community_id) if grant.community_id else None, grant.role): grant for grant in held}
    named = list(wanted)
    kept = {pairs[pair] for pair in named if pair in pairs}
    grants = kept | await read_grants(actor, [pair for pair in named if pair not in pairs])
    if not held:
        require(actor, Act.STAFF_MANAGE)
    require_each(actor, held ^ grants)
    for grant in held - grants:
        await StaffRole.filter(staff_id=staff.id, community_id=grant.community_id, role=grant.role).delete()
    await add_grants_tx(staff, grants - held)
    if manages_all(held) and not manages_all(grants):
        await keep_a_manager_tx(staff.organization_id)
    await audit.record_tx(
        actor, "staff.set_roles", "staff", staff.id, organization_id=staff.organization_id,
        before={"roles": [grant.plain() for grant in _in_order(held)]},
        after={"roles": [grant.plain() for grant in _in_order(grants)]},
    )  # fmt: skip
    return StaffView(staff, _in_order(grants))
