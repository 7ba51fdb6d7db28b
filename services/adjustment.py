"""调整: an entry that no event explains, asked for by one person and signed by another."""

from dataclasses import dataclass
from uuid import UUID

import payments
from kit.errors import NotFound
from kit.paging import Page
from models import audit
from models.access import Act, Actor, require, require_somewhere
from models.base import get_visible
from models.community import Community
from models.merchant_account import MerchantAccount
from models.reconciliation import Adjustment, AdjustmentState, Difference
from models.unit_of_work import unit_of_work
from services.listing import newest_first


@dataclass(frozen=True)
class NewAdjustment:
    """What is asked for: 借 ``debit_kind`` 贷 ``credit_kind`` of a community at a merchant account."""

    community_id: str
    merchant_account_id: str
    difference_id: str | None
    debit_kind: str
    credit_kind: str
    amount_fen: int
    reason: str


async def ask_adjustment(actor: Actor, new: NewAdjustment) -> Adjustment:
    """Ask for an entry; nothing is posted until somebody else signs. Refuses NotFound, NotPermitted,
    AccountsNotAdjustable."""
    community = await get_visible(Community.visible_to(actor), new.community_id)
    require(actor, Act.ADJUSTMENT_ASK, community_id=community.id)
    payments.require_adjustable(new.debit_kind, new.credit_kind)
    mine = MerchantAccount.filter(organization_id=community.organization_id)
    account = await get_visible(mine, new.merchant_account_id)
    difference = None
    if new.difference_id is not None:
        difference = await get_visible(Difference.visible_to(actor), new.difference_id)
        if difference.merchant_account_id != account.id:
            raise NotFound()
    return await _ask(actor, community, account, difference, new)


@unit_of_work
async def _ask(
    actor: Actor, community: Community, account: MerchantAccount, difference: Difference | None, new: NewAdjustment
) -> Adjustment:
    adjustment = await Adjustment.create(
        organization_id=community.organization_id,
        community_id=community.id,
        legal_entity_id=account.legal_entity_id,
        merchant_account_id=account.id,
        difference_id=difference.id if difference else None,
        debit_kind=new.debit_kind,
        credit_kind=new.credit_kind,
        amount_fen=new.amount_fen,
        reason=new.reason,
        asked_by_staff_id=actor.id,
    )
    await _record_tx(actor, "adjustment.ask", adjustment)
    return adjustment


async def sign_adjustment(actor: Actor, adjustment_id: UUID) -> Adjustment:
    """The second signature: the entry is posted. Refuses NotFound, NotPermitted, SecondPersonNeeded, MoveNotAllowed."""
    found = await get_visible(Adjustment.visible_to(actor), adjustment_id)
    require(actor, Act.ADJUSTMENT_SIGN, community_id=found.community_id)
    return await _decide(actor, adjustment_id, post=True)


async def withdraw_adjustment(actor: Actor, adjustment_id: UUID) -> Adjustment:
    """It is refused, or taken back by who asked: nothing is posted. Refuses as ``sign_adjustment``."""
    found = await get_visible(Adjustment.visible_to(actor), adjustment_id)
    act = Act.ADJUSTMENT_ASK if found.asked_by_staff_id == actor.id else Act.ADJUSTMENT_SIGN
    require(actor, act, community_id=found.community_id)
    return await _decide(actor, adjustment_id, post=False)


@unit_of_work
async def _decide(actor: Actor, adjustment_id: UUID, *, post: bool) -> Adjustment:
    adjustment = await Adjustment.select_for_update().get(id=adjustment_id)
    await payments.decide_adjustment_tx(actor, adjustment, post=post)
    await _record_tx(actor, "adjustment.sign" if post else "adjustment.withdraw", adjustment)
    return adjustment


async def list_adjustments(
    actor: Actor, state: AdjustmentState | None, cursor: str | None, limit: int
) -> Page[Adjustment]:
    """Newest first, of the communities where the actor may read reconciliation. Refuses NotPermitted."""
    require_somewhere(actor, Act.RECONCILIATION_READ)
    query = Adjustment.visible_to(actor)
    return await newest_first(query.filter(state=state) if state else query, cursor, limit)


async def get_adjustment(actor: Actor, adjustment_id: UUID) -> Adjustment:
    """One adjustment; NotFound when it is not the actor's to see."""
    return await get_visible(Adjustment.visible_to(actor), adjustment_id)


async def _record_tx(actor: Actor, act: str, adjustment: Adjustment) -> None:
    await audit.record_tx(
        actor, act, "adjustment", adjustment.id, organization_id=adjustment.organization_id,
        community_id=adjustment.community_id,
        after={"state": adjustment.state.value, "debit": adjustment.debit_kind, "credit": adjustment.credit_kind,
               "amount_fen": adjustment.amount_fen},
    )  # fmt: skip
