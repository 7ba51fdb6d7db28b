"""收费项目: what is charged for, whose money it is, where it is paid."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from kit.errors import NotFound, Refusal
from kit.ids import parse_id
from kit.paging import Page
from kit.text import normalise
from models import audit
from models.access import Act, Actor, require
from models.base import get_visible
from models.community import Community
from models.fee_item import FeeItem
from models.merchant_account import MerchantAccount
from models.organization import LegalEntity
from models.unit_of_work import unit_of_work
from services.community import KEEP, MerchantAccountOfAnotherEntity
from services.listing import newest_first
from services.unique import unique


class FeeItemCodeTaken(Refusal):
    zh = "本小区已有收费项目使用这个代号。"
    en = "Another fee item of this community has this code."


class FeeItemNameTaken(Refusal):
    zh = "本小区已有同名的收费项目。"
    en = "Another fee item of this community has this name."


@dataclass(frozen=True)
class NewFeeItem:
    """A fee item to make. Without a merchant account of its own it is paid at the community's."""

    code: str
    name: str
    legal_entity_id: str
    merchant_account_id: str | None = None


@dataclass(frozen=True)
class FeeItemChange:
    """What to change. Whose money it is never changes: that would be another fee item."""

    name: str = KEEP
    merchant_account_id: str | None = KEEP
    active: bool = KEEP


_TAKEN: dict[str, type[Refusal]] = {
    "uid_fee_items_communi_76a7d7": FeeItemCodeTaken,  # (community_id, code)
    "uid_fee_items_communi_354474": FeeItemNameTaken,  # (community_id, name)
}


@unit_of_work
async def create_fee_item(actor: Actor, community_id: UUID, new: NewFeeItem) -> FeeItem:
    """Make a fee item. Refuses NotFound (community, legal entity, merchant account), NotPermitted, FeeItemCodeTaken,
    FeeItemNameTaken, and MerchantAccountOfAnotherEntity when it would be paid at another legal entity's account."""
    community = await get_visible(Community.visible_to(actor).select_for_update(), community_id)
    require(actor, Act.FEE_ITEM_MANAGE, community_id=community.id)
    entity = await get_visible(LegalEntity.visible_to(actor), new.legal_entity_id)
    account_id = await _account_id_tx(community, entity.id, new.merchant_account_id)
    with unique(**_TAKEN):
        item = await FeeItem.create(
            organization_id=community.organization_id,
            community_id=community.id,
            code=new.code,
            name=normalise(new.name),
            legal_entity_id=entity.id,
            merchant_account_id=account_id,
        )
    await audit.record_tx(
        actor, "fee_item.create", "fee_item", item.id, organization_id=item.organization_id,
        community_id=item.community_id, after=_plain(item) | {"code": item.code, "legal_entity_id": str(entity.id)},
    )  # fmt: skip
    return item


@unit_of_work
async def update_fee_item(actor: Actor, item_id: UUID, change: FeeItemChange) -> FeeItem:
    """Rename, switch off or on, or say where it is paid; bills that are issued keep what they froze. Refuses
    NotFound, NotPermitted, FeeItemNameTaken, MerchantAccountOfAnotherEntity."""
    seen = await get_visible(FeeItem.visible_to(actor), item_id)
    require(actor, Act.FEE_ITEM_MANAGE, community_id=seen.community_id)
    community = await Community.select_for_update().get(id=seen.community_id)
    item = await FeeItem.select_for_update().get(id=seen.id)
    before = _plain(item)
    changed: dict[str, Any] = {name: value for name, value in vars(change).items() if value is not KEEP}
    if "name" in changed:
        changed["name"] = normalise(changed["name"])
    if "merchant_account_id" in changed or changed.get("active"):
        wanted = changed.get("merchant_account_id", item.merchant_account_id)
        account_id = await _account_id_tx(community, item.legal_entity_id, wanted)
        if "merchant_account_id" in changed:
            changed["merchant_account_id"] = account_id
    if changed:
        item.update_from_dict(changed)
        with unique(**_TAKEN):
            await item.save(update_fields=list(changed))
        await audit.record_tx(
            actor, "fee_item.update", "fee_item", item.id, organization_id=item.organization_id,
            community_id=item.community_id, before=before, after=_plain(item),
        )  # fmt: skip
    return item


async def list_fee_items(actor: Actor, community_id: UUID, cursor: str | None, limit: int) -> Page[FeeItem]:
    """The community's, newest first."""
    community = await get_visible(Community.visible_to(actor), community_id)
    require(actor, Act.FEE_ITEM_READ, community_id=community.id)
    return await newest_first(FeeItem.visible_to(actor).filter(community_id=community.id), cursor, limit)


async def get_fee_item(actor: Actor, item_id: UUID) -> FeeItem:
    """One fee item that the actor may see; NotFound otherwise."""
    item = await get_visible(FeeItem.visible_to(actor), item_id)
    require(actor, Act.FEE_ITEM_READ, community_id=item.community_id)
    return item


async def _account_id_tx(community: Community, legal_entity_id: UUID, wanted: str | UUID | None) -> UUID | None:
    """The merchant account of the item's own, checked, or None; the community's is checked then. The community is
    locked, so that its account does not change meanwhile."""
    own = None
    if wanted is not None:
        # Finance may name an account of the organization without being able to read it.
        own = await MerchantAccount.get_or_none(id=parse_id(wanted), organization_id=community.organization_id)
        if own is None:
            raise NotFound()
    used = own or await MerchantAccount.get_or_none(id=community.merchant_account_id)
    if used is not None and used.legal_entity_id != legal_entity_id:
        raise MerchantAccountOfAnotherEntity()
    return own.id if own else None


def _plain(item: FeeItem) -> dict[str, Any]:
    account_id = item.merchant_account_id
    return {
        "name": item.name,
        "merchant_account_id": str(account_id) if account_id else None,
        "active": item.active,
    }
