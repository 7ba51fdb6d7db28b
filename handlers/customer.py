"""Customers on the register. Phone and ID number are shown masked."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from handlers.change import given_fields
from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotFound, NotPermitted
from kit.paging import DEFAULT_LIMIT, MAX_LIMIT
from models.customer import Customer, CustomerKind
from services import customer as service
from services import customer_forget as forget_service
from services import rate_limit
from services.customer_forget import CustomerStillNeeded
from services.phone import PhoneNotValid

TAG = "业主客户 customers"

Name = Annotated[str, Field(min_length=1, max_length=100)]
Phone = Annotated[str, Field(min_length=1, max_length=30)]
IdNumber = Annotated[str, Field(pattern=r"^[0-9A-Za-z()（）-]{5,32}$", description="身份证号或统一社会信用代码")]


class NewCustomerIn(Body):
    kind: CustomerKind = CustomerKind.PERSON
    name: Name
    phone: Phone | None = None
    id_number: IdNumber | None = None


class CustomerChangeIn(Body):
    """What is left out stays, and so does a name of null; null empties a phone or an ID number."""

    name: Name | None = None
    phone: Phone | None = None
    id_number: IdNumber | None = None


class CustomerSearchIn(Body):
    """This very phone, and a name that begins so. In a body, because a phone in an address would be logged."""

    phone: Phone | None = None
    name: Name | None = None
    cursor: str | None = Field(None, max_length=500)
    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)


class CustomerQuery(PageQuery):
    room_id: str | None = None


class CustomerOut(Out):
    id: Id
    kind: CustomerKind
    name: str
    phone_masked: str
    id_number_masked: str


def customer_out(customer: Customer) -> CustomerOut:
    """The customer as staff see them."""
    return CustomerOut(
        id=str(customer.id),
        kind=customer.kind,
        name=customer.name,
        phone_masked=customer.phone_masked,
        id_number_masked=service.id_number_masked(customer),
    )


async def _replay(call: Call, customer_id: UUID) -> CustomerOut:
    return customer_out(await service.get_customer(call.actor, customer_id))


@route("GET", "/api/v1/staff/customers", who=Who.STAFF, tag=TAG, summary="客户列表", query=CustomerQuery,
       response=PageOut[CustomerOut], refusals=(NotPermitted,))  # fmt: skip
async def list_customers(call: Call) -> PageOut[CustomerOut]:
    """Newest first."""
    page = await service.list_customers(call.actor, call.query.room_id, call.query.cursor, call.query.limit)
    return PageOut[CustomerOut](items=[customer_out(one) for one in page.items], next_cursor=page.next_cursor)


@route("POST", "/api/v1/staff/customers/search", who=Who.STAFF, tag=TAG, summary="按手机号或姓名查找客户",
       body=CustomerSearchIn, response=PageOut[CustomerOut],
       limits=(rate_limit.SEARCH_CUSTOMER,),
       refusals=(NotPermitted, PhoneNotValid, service.SearchEmpty))  # fmt: skip
async def search_customers(call: Call) -> PageOut[CustomerOut]:
    body = call.body
    page = await service.search_customers(call.actor, body.phone, body.name, body.cursor, body.limit)
    return PageOut[CustomerOut](items=[customer_out(one) for one in page.items], next_cursor=page.next_cursor)


@route("POST", "/api/v1/staff/customers", who=Who.STAFF, tag=TAG, summary="登记客户", body=NewCustomerIn,
       status=201, response=CustomerOut, replay=_replay, makes="customer",
       refusals=(NotPermitted, PhoneNotValid))  # fmt: skip
async def create_customer(call: Call) -> CustomerOut:
    return customer_out(await service.create_customer(call.actor, service.NewCustomer(**dict(call.body))))


@route("GET", "/api/v1/staff/customers/{customer_id}", who=Who.STAFF, tag=TAG, summary="客户详情",
       response=CustomerOut, refusals=(NotPermitted, NotFound))  # fmt: skip
async def get_customer(call: Call) -> CustomerOut:
    return customer_out(await service.get_customer(call.actor, call.id("customer_id")))


@route("PATCH", "/api/v1/staff/customers/{customer_id}", who=Who.STAFF, tag=TAG, summary="修改客户",
       body=CustomerChangeIn, response=CustomerOut,
       refusals=(NotPermitted, NotFound, PhoneNotValid, service.CustomerForgotten))  # fmt: skip
async def update_customer(call: Call) -> CustomerOut:
    """Whoever changes a customer manages the register of every community where the customer has a room."""
    given = given_fields(call.body, nullable={"phone", "id_number"})
    change = service.CustomerChange(**given)
    return customer_out(await service.update_customer(call.actor, call.id("customer_id"), change))


class ForgetIn(Body):
    reason: str = Field(min_length=4, max_length=200)


class ForgottenOut(Out):
    """``name`` is the pseudonym under which bills, payments and receipts stay."""

    id: Id
    name: str
    forgotten_at: datetime


@route("POST", "/api/v1/staff/customers/{customer_id}/forget", who=Who.STAFF, tag=TAG, summary="清除旧客户的个人信息",
       body=ForgetIn, response=ForgottenOut, refusals=(NotPermitted, NotFound, CustomerStillNeeded))  # fmt: skip
async def forget_customer(call: Call) -> ForgottenOut:
    """For a former customer of whom nothing is open. Cannot be taken back; a second click changes nothing."""
    customer = await forget_service.forget_customer(call.actor, call.id("customer_id"), call.body.reason)
    assert customer.forgotten_at is not None
    return ForgottenOut(id=str(customer.id), name=customer.name, forgotten_at=customer.forgotten_at)
