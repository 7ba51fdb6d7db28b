"""查看完整信息: the full phone or ID number, for a reason, once, and written down before it is shown."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any
from uuid import UUID

from kit import clock
from kit.errors import Refusal
from kit.paging import Page
from kit.text import mask_in_text, normalise
from models import audit
from models.access import TABLE, Act, Actor, Role, require_at_one, require_somewhere
from models.base import get_visible
from models.customer import ID_NUMBER_CONTEXT, PHONE_CONTEXT, Customer
from models.occupancy import OccupancyRequest
from models.resident import Resident
from models.reveal import Reveal, RevealedField
from models.secret import decrypt
from models.staff import Staff
from models.unit_of_work import unit_of_work
from services.consent import communities_of_resident
from services.customer import communities_of_customer
from services.listing import newest_first

A_DAY = 30
"""How many a member of staff may look at in one Beijing day: work at the counter, not the copying of a register."""


class NothingToReveal(Refusal):
    """The field is empty."""

    zh = "没有登记这项信息。"
    en = "There is nothing recorded to reveal."


class RevealLimitReached(Refusal):
    """Too many looks today; ``limit`` a day."""

    status = 429
    zh = "今天查看完整信息已达{limit}次上限，请明天再试。"
    en = "The limit of {limit} reveals a day is reached; try again tomorrow."


@dataclass(frozen=True)
class RevealView:
    """One look, and the name of who looked."""

    reveal: Reveal
    staff_name: str


@unit_of_work
async def reveal_customer(actor: Actor, customer_id: UUID, field: RevealedField, reason: str) -> str:
    """The customer's full phone or ID number, after the look is on record. Refuses NotFound, NotPermitted (the actor
    needs the act in one of the customer's communities), NothingToReveal, RevealLimitReached."""
    require_somewhere(actor, Act.PERSON_REVEAL)
    customer = await get_visible(Customer.visible_to(actor), customer_id)
    stored, context = (
        (customer.phone_cipher, PHONE_CONTEXT)
        if field is RevealedField.PHONE
        else (customer.id_number_cipher, ID_NUMBER_CONTEXT)
    )
    communities = await communities_of_customer(customer.id)
    await _record_tx(actor, communities, field, reason, stored, customer_id=customer.id)
    return decrypt(str(stored), context)


@unit_of_work
async def reveal_resident(actor: Actor, resident_id: UUID, reason: str) -> str:
    """The phone that a resident shared; as for customers."""
    require_somewhere(actor, Act.PERSON_REVEAL)
    resident = await get_visible(Resident.visible_to(actor), resident_id)
    communities = await communities_of_resident(resident.id)
    stored = resident.phone_cipher
    await _record_tx(actor, communities, RevealedField.PHONE, reason, stored, resident_id=resident.id)
    return decrypt(str(stored), PHONE_CONTEXT)


@unit_of_work
async def reveal_request(actor: Actor, request_id: UUID, reason: str) -> str:
    """The phone that was typed into a request for a room; as for customers."""
    require_somewhere(actor, Act.PERSON_REVEAL)
    request = await get_visible(OccupancyRequest.visible_to(actor), request_id)
    stored = request.phone_cipher
    await _record_tx(
        actor, [request.community_id], RevealedField.PHONE, reason, stored, occupancy_request_id=request.id
    )
    return decrypt(str(stored), PHONE_CONTEXT)


async def _record_tx(
    actor: Actor,
    communities: Collection[UUID],
    field: RevealedField,
    reason: str,
    stored: str | None,
    **target: Any,
) -> None:
    community_id = require_at_one(actor, Act.PERSON_REVEAL, communities)
    if stored is None:
        raise NothingToReveal()
    await Staff.select_for_update().get(id=actor.id)  # so that the limit holds when several are asked for at once
    if await Reveal.filter(staff_id=actor.id, created_at__gte=_midnight(0)).count() >= A_DAY:
        raise RevealLimitReached(limit=A_DAY, retry_after_s=int((_midnight(1) - clock.now()).total_seconds()) + 1)
    # A reason is free text: a number that somebody writes into it shall not lie open beside the one that is hidden.
    kept = mask_in_text(normalise(reason))
    reveal = await Reveal.create(
        organization_id=actor.organization_id,
        community_id=community_id,
        staff_id=actor.id,
        role=_role(actor, community_id),
        field=field,
        reason=kept,
        **target,
    )
    ((name, target_id),) = target.items()
    await audit.record_tx(
        actor, "person.reveal", name.removesuffix("_id"), target_id, organization_id=reveal.organization_id,
        community_id=community_id, after={"field": field.value, "reason": kept},
    )  # fmt: skip


def _midnight(days: int) -> datetime:
    return datetime.combine(clock.today() + timedelta(days=days), time.min, clock.BEIJING)


def _role(actor: Actor, community_id: UUID | None) -> Role:
    """The role by which it is allowed, the first in the order of the roles."""
    held: set[Role] = set(actor.organization_roles).union(
        *([actor.roles.get(community_id, frozenset())] if community_id else actor.roles.values())
    )
    return next(role for role in Role if role in held & TABLE[Act.PERSON_REVEAL])


async def list_reveals(actor: Actor, cursor: str | None, limit: int) -> Page[RevealView]:
    """Newest first: who looked at what of whom, and why, in the communities where the actor may read it."""
    require_somewhere(actor, Act.REVEAL_READ)
    page = await newest_first(Reveal.visible_to(actor), cursor, limit)
    return Page(await _views(page.items), page.next_cursor)


async def _views(reveals: Sequence[Reveal]) -> list[RevealView]:
    names: dict[Any, str] = {one.id: one.name for one in await Staff.filter(id__in={one.staff_id for one in reveals})}
    return [RevealView(one, names[one.staff_id]) for one in reveals]
