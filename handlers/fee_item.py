"""Fee items."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from handlers.change import given_fields
from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotFound, NotPermitted
from models.fee_item import FeeItem
from services import fee_item as service
from services.community import MerchantAccountOfAnotherEntity

TAG = "收费项目 fee items"

Name = Annotated[str, Field(min_length=1, max_length=50)]


class NewFeeItemIn(Body):
    """Without a merchant account of its own it is paid at the community's."""

    code: str = Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")
    name: Name
    legal_entity_id: str
    merchant_account_id: str | None = None


class FeeItemChangeIn(Body):
    """What is left out or null stays; but ``merchant_account_id`` null means the community's."""

    name: Name | None = None
    merchant_account_id: str | None = None
    active: bool | None = None


class FeeItemOut(Out):
    id: Id
    community_id: Id
    code: str
    name: str
    legal_entity_id: Id
    merchant_account_id: Id | None
    active: bool


def _out(item: FeeItem) -> FeeItemOut:
    return FeeItemOut(
        id=str(item.id),
        community_id=str(item.community_id),
        code=item.code,
        name=item.name,
        legal_entity_id=str(item.legal_entity_id),
        merchant_account_id=str(item.merchant_account_id) if item.merchant_account_id else None,
        active=item.active,
    )


async def _replay(call: Call, item_id: UUID) -> FeeItemOut:
    return _out(await service.get_fee_item(call.actor, item_id))


@route("GET", "/api/v1/staff/communities/{community_id}/fee-items", who=Who.STAFF, tag=TAG, summary="收费项目列表",
       query=PageQuery, response=PageOut[FeeItemOut], refusals=(NotPermitted, NotFound))  # fmt: skip
async def list_fee_items(call: Call) -> PageOut[FeeItemOut]:
    page = await service.list_fee_items(call.actor, call.id("community_id"), call.query.cursor, call.query.limit)
    return PageOut[FeeItemOut](items=[_out(item) for item in page.items], next_cursor=page.next_cursor)


@route("POST", "/api/v1/staff/communities/{community_id}/fee-items", who=Who.STAFF, tag=TAG, summary="新增收费项目",
       body=NewFeeItemIn, status=201, response=FeeItemOut, replay=_replay, makes="fee_item",
       refusals=(NotPermitted, NotFound, service.FeeItemCodeTaken, service.FeeItemNameTaken,
                 MerchantAccountOfAnotherEntity))  # fmt: skip
async def create_fee_item(call: Call) -> FeeItemOut:
    new = service.NewFeeItem(**dict(call.body))
    return _out(await service.create_fee_item(call.actor, call.id("community_id"), new))


@route("GET", "/api/v1/staff/fee-items/{item_id}", who=Who.STAFF, tag=TAG, summary="收费项目详情",
       response=FeeItemOut, refusals=(NotPermitted, NotFound))  # fmt: skip
async def get_fee_item(call: Call) -> FeeItemOut:
    return _out(await service.get_fee_item(call.actor, call.id("item_id")))


@route("PATCH", "/api/v1/staff/fee-items/{item_id}", who=Who.STAFF, tag=TAG, summary="修改收费项目",
       body=FeeItemChangeIn, response=FeeItemOut,
       refusals=(NotPermitted, NotFound, service.FeeItemNameTaken, MerchantAccountOfAnotherEntity))  # fmt: skip
async def update_fee_item(call: Call) -> FeeItemOut:
    """Bills that are issued keep what they froze."""
    given = given_fields(call.body, nullable={"merchant_account_id"})
    return _out(await service.update_fee_item(call.actor, call.id("item_id"), service.FeeItemChange(**given)))
