"""The company and its legal entities."""

from uuid import UUID

from pydantic import Field

from handlers.route import Body, Call, Fen, Id, Out, PageOut, PageQuery, Who, route
from handlers.staff import StaffRole
from kit.errors import NotFound, NotPermitted
from kit.money import MAX_FEN
from models.access import STAFF_ROLES, Role
from models.organization import LegalEntity, Organization
from services import organization as service

TAG = "物业公司 organization"


class OrganizationOut(Out):
    """``second_factor_roles``: whoever has one of them needs a second factor."""

    id: Id
    name: str
    second_factor_roles: list[Role]


class SecondFactorRolesIn(Body):
    """All roles that are to need a second factor; none is every one's own choice."""

    roles: list[StaffRole] = Field(max_length=len(STAFF_ROLES))


class LegalEntityIn(Body):
    """Who takes money: the company's name as on its licence, and its tax number."""

    name: str = Field(min_length=1, max_length=100)
    tax_number: str | None = Field(None, pattern=r"^[0-9A-Z]{15,20}$")


class LegalEntityOut(Out):
    """``refund_alone_fen``: above it, of one payment, a refund is approved by another person than the one who asked."""

    id: Id
    name: str
    tax_number: str | None
    refund_alone_fen: Fen


class RefundLimitIn(Body):
    """In fen; 0: every refund needs two people."""

    refund_alone_fen: int = Field(ge=0, le=MAX_FEN)


def _organization_out(organization: Organization) -> OrganizationOut:
    return OrganizationOut(
        id=str(organization.id), name=organization.name, second_factor_roles=organization.second_factor_roles
    )


def _out(entity: LegalEntity) -> LegalEntityOut:
    return LegalEntityOut(
        id=str(entity.id), name=entity.name, tax_number=entity.tax_number, refund_alone_fen=entity.refund_alone_fen
    )


async def _replay(call: Call, entity_id: UUID) -> LegalEntityOut:
    return _out(await service.get_legal_entity(call.actor, entity_id))


@route("GET", "/api/v1/staff/organization", who=Who.STAFF, tag=TAG, summary="本公司", response=OrganizationOut,
       refusals=(NotPermitted,))  # fmt: skip
async def get_organization(call: Call) -> OrganizationOut:
    return _organization_out(await service.get_organization(call.actor))


@route("PUT", "/api/v1/staff/organization/second-factor-roles", who=Who.STAFF, tag=TAG, summary="设置须两步验证的岗位",
       body=SecondFactorRolesIn, response=OrganizationOut,
       refusals=(NotPermitted, service.SetUpYourOwnFirst))  # fmt: skip
async def require_second_factor(call: Call) -> OrganizationOut:
    """Applies at once: staff of these roles without a second factor can only set one up."""
    return _organization_out(await service.require_second_factor(call.actor, call.body.roles))


@route("GET", "/api/v1/staff/legal-entities", who=Who.STAFF, tag=TAG, summary="收款主体列表", query=PageQuery,
       response=PageOut[LegalEntityOut], refusals=(NotPermitted,))  # fmt: skip
async def list_legal_entities(call: Call) -> PageOut[LegalEntityOut]:
    page = await service.list_legal_entities(call.actor, call.query.cursor, call.query.limit)
    return PageOut[LegalEntityOut](items=[_out(one) for one in page.items], next_cursor=page.next_cursor)


@route("POST", "/api/v1/staff/legal-entities", who=Who.STAFF, tag=TAG, summary="登记收款主体", body=LegalEntityIn,
       status=201, response=LegalEntityOut, replay=_replay, makes="legal_entity",
       refusals=(NotPermitted, service.LegalEntityNameTaken))  # fmt: skip
async def create_legal_entity(call: Call) -> LegalEntityOut:
    return _out(await service.create_legal_entity(call.actor, call.body.name, call.body.tax_number))


@route("GET", "/api/v1/staff/legal-entities/{entity_id}", who=Who.STAFF, tag=TAG, summary="收款主体详情",
       response=LegalEntityOut, refusals=(NotPermitted, NotFound))  # fmt: skip
async def get_legal_entity(call: Call) -> LegalEntityOut:
    return _out(await service.get_legal_entity(call.actor, call.id("entity_id")))


@route("PUT", "/api/v1/staff/legal-entities/{entity_id}/refund-limit", who=Who.STAFF, tag=TAG,
       summary="设置退款双人审批限额", body=RefundLimitIn, response=LegalEntityOut,
       refusals=(NotPermitted, NotFound))  # fmt: skip
async def set_refund_limit(call: Call) -> LegalEntityOut:
    """Up to this amount of one payment whoever asked for a refund may approve it alone."""
    return _out(await service.set_refund_limit(call.actor, call.id("entity_id"), call.body.refund_alone_fen))
