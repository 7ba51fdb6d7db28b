"""物业公司 and its legal entities (收款主体)."""

from collections.abc import Collection
from uuid import UUID

from kit.errors import Refusal
from kit.paging import Page
from kit.text import normalise
from models import audit
from models.access import Act, Actor, Role, require, require_somewhere
from models.base import get_visible
from models.organization import LegalEntity, Organization
from models.unit_of_work import unit_of_work
from services.listing import newest_first
from services.password import hash_password
from services.role import Grant, StaffView
from services.staff import NewStaff, create_staff_tx
from services.unique import unique


class LegalEntityNameTaken(Refusal):
    zh = "已有同名的收款主体。"
    en = "There is a legal entity of this name already."


class SetUpYourOwnFirst(Refusal):
    """Whoever asks a second factor of their own role has one, or the next thing they did would be refused."""

    zh = "请先为自己的账号开启两步验证，再对自己的岗位作此要求。"
    en = "Set up your own second factor before you require one of your own role."


async def open_organization(actor: Actor, name: str, manager: NewStaff) -> tuple[Organization, StaffView]:
    """Begin an organization with its first manager, who manages all of it. For commands and jobs only: refuses
    NotPermitted to everybody else (nobody who signs in belongs to an organization that is not there yet), and
    UsernameTaken."""
    require(actor, Act.ORGANIZATION_MANAGE)
    return await _open(actor, name, manager, await hash_password(manager.password))


@unit_of_work
async def _open(actor: Actor, name: str, manager: NewStaff, password_hash: str) -> tuple[Organization, StaffView]:
    organization = await Organization.create(name=normalise(name))
    await audit.record_tx(
        actor, "organization.open", "organization", organization.id, organization_id=organization.id,
        after={"name": organization.name},
    )  # fmt: skip
    return organization, await create_staff_tx(
        actor, organization.id, manager, password_hash, {Grant(None, Role.MANAGER)}
    )


async def get_organization(actor: Actor) -> Organization:
    """The caller's own organization."""
    require_somewhere(actor, Act.COMMUNITY_READ)
    return await get_visible(Organization.all(), actor.organization_id or "")


@unit_of_work
async def require_second_factor(actor: Actor, roles: Collection[Role]) -> Organization:
    """Afterwards staff with one of the roles, anywhere in the organization, can do nothing but set up a second factor
    until they have one; their present sessions too. Organization-wide managers only. Refuses SetUpYourOwnFirst."""
    require(actor, Act.ORGANIZATION_MANAGE)
    if frozenset(roles) & actor.organization_roles.union(*actor.roles.values()) and actor.second_factor_at is None:
        raise SetUpYourOwnFirst()
    organization = await get_visible(Organization.all().select_for_update(), actor.organization_id or "")
    before = organization.second_factor_roles
    organization.second_factor_roles = sorted({role.value for role in roles})
    await organization.save(update_fields=["second_factor_roles"])
    await audit.record_tx(
        actor, "organization.require_second_factor", "organization", organization.id, organization_id=organization.id,
        before={"roles": before}, after={"roles": organization.second_factor_roles},
    )  # fmt: skip
    return organization


@unit_of_work
async def create_legal_entity(actor: Actor, name: str, tax_number: str | None) -> LegalEntity:
    """Register who takes money. Organization-wide managers only. Refuses LegalEntityNameTaken."""
    require(actor, Act.ORGANIZATION_MANAGE)
    with unique(legal_entities_name=LegalEntityNameTaken):
        entity = await LegalEntity.create(
            organization_id=actor.organization_id, name=normalise(name), tax_number=tax_number
        )
    await audit.record_tx(
        actor, "legal_entity.create", "legal_entity", entity.id, organization_id=entity.organization_id,
        after={"name": entity.name},
    )  # fmt: skip
    return entity


@unit_of_work
async def set_refund_limit(actor: Actor, entity_id: UUID, refund_alone_fen: int) -> LegalEntity:
    """Say up to which amount of one payment somebody may approve a refund that they asked for themselves; above it a
    second person is needed. In fen. Organization-wide managers only. Refuses NotFound."""
    require(actor, Act.ORGANIZATION_MANAGE)
    entity = await get_visible(LegalEntity.visible_to(actor).select_for_update(), entity_id)
    before = entity.refund_alone_fen
    entity.refund_alone_fen = refund_alone_fen
    await entity.save(update_fields=["refund_alone_fen"])
    await audit.record_tx(
        actor, "legal_entity.set_refund_limit", "legal_entity", entity.id, organization_id=entity.organization_id,
        before={"refund_alone_fen": before}, after={"refund_alone_fen": refund_alone_fen},
    )  # fmt: skip
    return entity


async def list_legal_entities(actor: Actor, cursor: str | None, limit: int) -> Page[LegalEntity]:
    """Newest first, for whoever works with fee items."""
    require_somewhere(actor, Act.FEE_ITEM_READ)
    return await newest_first(LegalEntity.visible_to(actor), cursor, limit)


async def get_legal_entity(actor: Actor, entity_id: UUID) -> LegalEntity:
    """One legal entity of the organization; NotFound otherwise."""
    require_somewhere(actor, Act.FEE_ITEM_READ)
    return await get_visible(LegalEntity.visible_to(actor), entity_id)
