"""小区 and its settings."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from kit.errors import Refusal
from kit.paging import Page
from kit.text import normalise
from models import audit
from models.access import Act, Actor, require, require_somewhere
from models.base import get_visible
from models.community import Community
from models.fee_item import FeeItem
from models.merchant_account import MerchantAccount
from models.unit_of_work import unit_of_work
from services.listing import newest_first
from services.unique import unique

KEEP: Any = object()
"""In a change: leave the setting as it is. None means to empty it."""


class CommunityCodeTaken(Refusal):
    zh = "已有小区使用这个代号。"
    en = "Another community has this code."


class MerchantAccountOfAnotherEntity(Refusal):
    """Money of one legal entity would arrive at the merchant account of another."""

    status = 422
    zh = "商户号与收费项目的收款主体不一致，钱会进错账户。"
    en = "The merchant account is another legal entity's than the fee item's."


@dataclass(frozen=True)
class NewCommunity:
    """A community to open."""

    name: str
    code: str
    address: str = ""
    merchant_account_id: str | None = None
    oldest_arrears_first: bool = False
    payment_minutes: int = 30
    prepaid_pay_day: int | None = None


@dataclass(frozen=True)
class CommunityChange:
    """What to change."""

    name: str = KEEP
    address: str = KEEP
    merchant_account_id: str | None = KEEP
    oldest_arrears_first: bool = KEEP
    payment_minutes: int = KEEP
    prepaid_fee_item_id: str | None = KEEP
    prepaid_pay_day: int | None = KEEP


@unit_of_work
async def create_community(actor: Actor, new: NewCommunity) -> Community:
    """Open a community. Organization-wide managers only. Refuses NotFound (merchant account), CommunityCodeTaken."""
    require(actor, Act.ORGANIZATION_MANAGE)
    with unique(communities_code=CommunityCodeTaken):
        community = await Community.create(
            organization_id=actor.organization_id,
            name=normalise(new.name),
            code=new.code,
            address=normalise(new.address),
            merchant_account_id=await _merchant_account_id(actor, new.merchant_account_id),
            oldest_arrears_first=new.oldest_arrears_first,
            payment_minutes=new.payment_minutes,
            prepaid_pay_day=new.prepaid_pay_day,
        )
    await audit.record_tx(
        actor, "community.create", "community", community.id, organization_id=community.organization_id,
        community_id=community.id, after=_settings(community) | {"code": community.code},
    )  # fmt: skip
    return community


@unit_of_work
async def update_community(actor: Actor, community_id: UUID, change: CommunityChange) -> Community:
    """Change settings: the community's managers; where its money arrives: organization-wide managers only.

    Refuses NotFound (community, merchant account, fee item), NotPermitted, and MerchantAccountOfAnotherEntity when a
    fee item without an account of its own belongs to another legal entity than the new one.
    """
    community = await get_visible(Community.visible_to(actor).select_for_update(), community_id)
    require(actor, Act.ORGANIZATION_MANAGE, community_id=community.id)
    changed = {name: value for name, value in vars(change).items() if value is not KEEP}
    for name in {"name", "address"} & set(changed):
        changed[name] = normalise(changed[name])
    if "merchant_account_id" in changed:
        require(actor, Act.ORGANIZATION_MANAGE)
        changed["merchant_account_id"] = await _merchant_account_id(actor, changed["merchant_account_id"])
        await _keep_entities_apart_tx(community, changed["merchant_account_id"])
    if changed.get("prepaid_fee_item_id") is not None:
        item = FeeItem.filter(community_id=community.id, active=True)
        changed["prepaid_fee_item_id"] = (await get_visible(item, changed["prepaid_fee_item_id"])).id
    before = _settings(community)
    if changed:
        community.update_from_dict(changed)
        await community.save(update_fields=list(changed))
        await audit.record_tx(
            actor, "community.update", "community", community.id, organization_id=community.organization_id,
            community_id=community.id, before=before, after=_settings(community),
        )  # fmt: skip
    return community


async def list_communities(actor: Actor, cursor: str | None, limit: int) -> Page[Community]:
    """Newest first. Residents: every community of the company, to find their room. Staff: where they have a role."""
    if actor.is_staff:
        require_somewhere(actor, Act.COMMUNITY_READ)
    return await newest_first(Community.visible_to(actor), cursor, limit)


async def get_community(actor: Actor, community_id: UUID) -> Community:
    """One community that is there for the actor; NotFound otherwise."""
    community = await get_visible(Community.visible_to(actor), community_id)
    if actor.is_staff:
        require(actor, Act.COMMUNITY_READ, community_id=community.id)
    return community


async def _merchant_account_id(actor: Actor, account_id: str | None) -> UUID | None:
    return (await get_visible(MerchantAccount.visible_to(actor), account_id)).id if account_id else None


async def _keep_entities_apart_tx(community: Community, merchant_account_id: UUID | None) -> None:
    if merchant_account_id is None:
        return
    account = await MerchantAccount.get(id=merchant_account_id)
    relying = FeeItem.filter(community_id=community.id, merchant_account_id__isnull=True, active=True)
    if await relying.exclude(legal_entity_id=account.legal_entity_id).exists():
        raise MerchantAccountOfAnotherEntity()


def _settings(community: Community) -> dict[str, Any]:
    account_id, prepaid_item_id = community.merchant_account_id, community.prepaid_fee_item_id
    return {
        "name": community.name,
        "address": community.address,
        "merchant_account_id": str(account_id) if account_id else None,
        "oldest_arrears_first": community.oldest_arrears_first,
        "payment_minutes": community.payment_minutes,
        "prepaid_fee_item_id": str(prepaid_item_id) if prepaid_item_id else None,
        "prepaid_pay_day": community.prepaid_pay_day,
    }
