"""The company and its legal entities."""

from uuid import UUID

from pydantic import Field

from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotFound, NotPermitted
from models.organization import LegalEntity
from services import organization as service

TAG = "物业公司 organization"


class OrganizationOut(Out):
    id: Id
    name: str


class LegalEntityIn(Body):
    """Who takes money: the company's name as on its licence, and its tax number."""

    name: str = Field(min_length=1, max_length=100)
    tax_number: str | None = Field(None, pattern=r"^[0-9A-Z]{15,20}$")


class LegalEntityOut(Out):
    id: Id
    name: str
    tax_number: str | None


def _out(entity: LegalEntity) -> LegalEntityOut:
    return LegalEntityOut(id=str(entity.id), name=entity.name, tax_number=entity.tax_number)


async def _replay(call: Call, entity_id: UUID) -> LegalEntityOut:
    return _out(await service.get_legal_entity(call.actor, entity_id))


@route("GET", "/api/v1/staff/organization", who=Who.STAFF, tag=TAG, summary="本公司", response=OrganizationOut,
       refusals=(NotPermitted,))  # fmt: skip
async def get_organization(call: Call) -> OrganizationOut:
    organization = await service.get_organization(call.actor)
    return OrganizationOut(id=str(organization.id), name=organization.name)


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
