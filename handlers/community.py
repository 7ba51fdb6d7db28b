"""Communities: residents choose one to find their room; staff open them and set them up."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from handlers.change import given_fields
from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotFound, NotPermitted
from models.community import Community
from services import community as service

TAG = "小区 communities"

Name = Annotated[str, Field(min_length=1, max_length=100)]
Address = Annotated[str, Field(max_length=200)]
Minutes = Annotated[int, Field(strict=True, ge=2, le=110, description="微信支付单保留几分钟")]

PayDay = Annotated[int, Field(strict=True, ge=1, le=28, description="每月几号用预存款自动缴费；空: 不自动")]


class CommunityBriefOut(Out):
    """A community as every resident of the company may see it."""

    id: Id
    name: str
    address: str


class CommunityOut(Out):
    """A community and its settings."""

    id: Id
    name: str
    code: str
    address: str
    merchant_account_id: Id | None
    oldest_arrears_first: bool
    payment_minutes: int
    prepaid_fee_item_id: Id | None
    prepaid_pay_day: int | None


class NewCommunityIn(Body):
    """``code`` stands in receipt numbers and never changes."""

    name: Name
    code: str = Field(pattern=r"^[A-Z0-9]{1,16}$")
    address: Address = ""
    merchant_account_id: str | None = None
    oldest_arrears_first: bool = False
    payment_minutes: Minutes = 30
    prepaid_pay_day: PayDay | None = None


class CommunityChangeIn(Body):
    """What is left out or null stays; but null means for ``merchant_account_id`` that nothing can be paid online, for
    ``prepaid_fee_item_id`` (whose money top-ups are) that residents cannot top up, for ``prepaid_pay_day`` that
    balances pay by hand only."""

    name: Name | None = None
    address: Address | None = None
    merchant_account_id: str | None = None
    oldest_arrears_first: bool | None = None
    payment_minutes: Minutes | None = None
    prepaid_fee_item_id: str | None = None
    prepaid_pay_day: PayDay | None = None


def _out(community: Community) -> CommunityOut:
    account_id, prepaid_item_id = community.merchant_account_id, community.prepaid_fee_item_id
    return CommunityOut(
        id=str(community.id),
        name=community.name,
        code=community.code,
        address=community.address,
        merchant_account_id=str(account_id) if account_id else None,
        oldest_arrears_first=community.oldest_arrears_first,
        payment_minutes=community.payment_minutes,
        prepaid_fee_item_id=str(prepaid_item_id) if prepaid_item_id else None,
        prepaid_pay_day=community.prepaid_pay_day,
    )


async def _replay(call: Call, community_id: UUID) -> CommunityOut:
    return _out(await service.get_community(call.actor, community_id))


@route("GET", "/api/v1/communities", who=Who.RESIDENT, tag=TAG, summary="选择小区", query=PageQuery,
       response=PageOut[CommunityBriefOut])  # fmt: skip
async def list_communities_to_join(call: Call) -> PageOut[CommunityBriefOut]:
    """Every community of the company, newest first."""
    page = await service.list_communities(call.actor, call.query.cursor, call.query.limit)
    items = [CommunityBriefOut(id=str(one.id), name=one.name, address=one.address) for one in page.items]
    return PageOut[CommunityBriefOut](items=items, next_cursor=page.next_cursor)


@route("GET", "/api/v1/staff/communities", who=Who.STAFF, tag=TAG, summary="小区列表", query=PageQuery,
       response=PageOut[CommunityOut], refusals=(NotPermitted,))  # fmt: skip
async def list_communities(call: Call) -> PageOut[CommunityOut]:
    """Those in which the member of staff has a role, newest first."""
    page = await service.list_communities(call.actor, call.query.cursor, call.query.limit)
    return PageOut[CommunityOut](items=[_out(one) for one in page.items], next_cursor=page.next_cursor)


@route("POST", "/api/v1/staff/communities", who=Who.STAFF, tag=TAG, summary="新开小区", body=NewCommunityIn,
       status=201, response=CommunityOut, replay=_replay, makes="community",
       refusals=(NotPermitted, NotFound, service.CommunityCodeTaken))  # fmt: skip
async def create_community(call: Call) -> CommunityOut:
    """Organization-wide managers only."""
    return _out(await service.create_community(call.actor, service.NewCommunity(**dict(call.body))))


@route("GET", "/api/v1/staff/communities/{community_id}", who=Who.STAFF, tag=TAG, summary="小区详情",
       response=CommunityOut, refusals=(NotPermitted, NotFound))  # fmt: skip
async def get_community(call: Call) -> CommunityOut:
    return _out(await service.get_community(call.actor, call.id("community_id")))


@route("PATCH", "/api/v1/staff/communities/{community_id}", who=Who.STAFF, tag=TAG, summary="修改小区设置",
       body=CommunityChangeIn, response=CommunityOut,
       refusals=(NotPermitted, NotFound, service.MerchantAccountOfAnotherEntity))  # fmt: skip
async def update_community(call: Call) -> CommunityOut:
    """The community's managers; where its money arrives only organization-wide ones may change."""
    given = given_fields(call.body, nullable={"merchant_account_id", "prepaid_fee_item_id", "prepaid_pay_day"})
    return _out(await service.update_community(call.actor, call.id("community_id"), service.CommunityChange(**given)))
