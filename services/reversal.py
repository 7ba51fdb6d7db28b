"""红冲: asked for by one of finance, decided by another."""

from uuid import UUID

import payments
from kit.errors import NotFound, Refusal
from kit.paging import Page
from models.access import Act, Actor, require, require_somewhere
from models.base import get_visible
from models.community import Community
from models.ledger import Entry
from models.reversal import Reversal
from models.unit_of_work import unit_of_work
from services.listing import newest_first, wanted_id
from services.unique import unique


class EntryReversed(Refusal):
    """It was reversed, or somebody asked for that already."""

    zh = "这笔分录已经红冲，或已有待复核的红冲申请。"
    en = "This entry is reversed already, or its reversal is waiting for a decision."


async def ask_reversal(actor: Actor, entry_number: int, reason: str) -> Reversal:
    """Ask that an entry be reversed. Refuses NotFound for an entry that is not the actor's to see, NotPermitted,
    EntryReversed, and as the money island does: EntryNotReversible."""
    entry = await Entry.visible_to(actor).get_or_none(id=entry_number)
    if entry is None:
        raise NotFound()
    require(actor, Act.ENTRY_REVERSE, community_id=entry.community_id)
    return await _ask(actor, entry, reason)


@unit_of_work
async def _ask(actor: Actor, entry: Entry, reason: str) -> Reversal:
    community = await Community.get(id=entry.community_id)
    with unique(reversals_one_of_an_entry=EntryReversed):
        return await payments.ask_reversal_tx(actor, community.organization_id, entry, reason)


async def decide_reversal(actor: Actor, reversal_id: UUID, *, approve: bool) -> Reversal:
    """Post the reversal in the open month, or decline it. Refuses NotFound, NotPermitted, and as the money island does:
    SecondPersonNeeded, MoveNotAllowed."""
    reversal = await get_visible(Reversal.visible_to(actor), reversal_id)
    require(actor, Act.ENTRY_REVERSE, community_id=reversal.community_id)
    return await _decide(actor, reversal.id, approve)


@unit_of_work
async def _decide(actor: Actor, reversal_id: UUID, approve: bool) -> Reversal:
    return await payments.decide_reversal_tx(actor, reversal_id, approve=approve)


async def get_reversal(actor: Actor, reversal_id: UUID) -> Reversal:
    """One reversal that the actor may see; NotFound otherwise."""
    return await get_visible(Reversal.visible_to(actor), reversal_id)


async def list_reversals(actor: Actor, community_id: str | None, cursor: str | None, limit: int) -> Page[Reversal]:
    """Newest first, of the communities whose journal the actor may read."""
    require_somewhere(actor, Act.JOURNAL_READ)
    query = Reversal.visible_to(actor)
    if community_id is not None:
        query = query.filter(community_id=wanted_id(community_id))
    return await newest_first(query, cursor, limit)
