"""缴款单 and 备用金领取单: cash of the safe to the bank, and from the bank into the safe."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import payments
from kit import clock
from kit.errors import InvalidInput, NotFound, Refusal
from kit.paging import Page
from kit.text import normalise
from models import audit
from models.access import Act, Actor, require, require_somewhere
from models.bank_slip import BankSlip, BankSlipKind
from models.base import get_visible
from models.community import Community
from models.organization import LegalEntity
from models.unit_of_work import unit_of_work
from services.listing import newest_first, wanted_id
from services.unique import unique

_ACTS = {BankSlipKind.DEPOSIT: Act.CASH_BANK, BankSlipKind.WITHDRAWAL: Act.CASH_DRAW}


class BankSlipKnown(Refusal):
    """A slip is recorded once."""

    status = 409
    zh = "这张单据的号码已经登记过。"
    en = "A slip with this number is recorded already."


class BankedInFuture(InvalidInput):
    """The bank cannot have done yet what is to come."""

    zh = "办理时间不能晚于现在。"
    en = "The time of the slip lies in the future."


@dataclass(frozen=True)
class NewBankSlip:
    """A slip as the bank gave it."""

    kind: BankSlipKind
    legal_entity_id: str
    number: str
    bank: str
    amount_fen: int
    banked_at: datetime


@unit_of_work
async def record_bank_slip(actor: Actor, community_id: str, new: NewBankSlip) -> BankSlip:
    """Record a slip and post it: afterwards the safe holds less by a deposit, or more by a withdrawal. Refuses NotFound
    (community, legal entity), NotPermitted, BankSlipKnown, BankedInFuture, CashNotThere."""
    community = await get_visible(Community.visible_to(actor), community_id)
    require(actor, _ACTS[new.kind], community_id=community.id)
    entity = await LegalEntity.visible_to(actor).get_or_none(id=wanted_id(new.legal_entity_id))
    if entity is None:
        raise NotFound()
    if new.banked_at > clock.now():
        raise BankedInFuture(fields=[{"field": "banked_at", "code": "future"}])
    with unique(uid_bank_slips_legal_e_e23ced=BankSlipKnown):
        slip = await BankSlip.create(
            organization_id=community.organization_id,
            community_id=community.id,
            legal_entity_id=entity.id,
            kind=new.kind,
            number=normalise(new.number),
            bank=normalise(new.bank),
            amount_fen=new.amount_fen,
            banked_at=new.banked_at,
            recorded_by_staff_id=actor.id,
        )
    await payments.post_bank_slip_tx(slip)
    await audit.record_tx(
        actor, "bank_slip.record", "bank_slip", slip.id, organization_id=slip.organization_id,
        community_id=slip.community_id, after={"kind": slip.kind.value, "amount_fen": slip.amount_fen},
    )  # fmt: skip
    return slip


async def get_bank_slip(actor: Actor, slip_id: UUID) -> BankSlip:
    """One slip of the actor's communities; NotFound otherwise."""
    return await get_visible(BankSlip.visible_to(actor), slip_id)


async def list_bank_slips(actor: Actor, community_id: str | None, cursor: str | None, limit: int) -> Page[BankSlip]:
    """Newest first, of the communities whose shifts the actor may read."""
    require_somewhere(actor, Act.SHIFT_READ)
    query = BankSlip.visible_to(actor)
    if community_id is not None:
        query = query.filter(community_id=wanted_id(community_id))
    return await newest_first(query, cursor, limit)
