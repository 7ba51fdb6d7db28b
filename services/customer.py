"""业主/客户: who is on the register and may owe. Phone and ID number are hidden at rest and masked on every screen."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from kit.errors import InvalidInput, Refusal
from kit.paging import Page
from kit.text import normalise
from models import audit
from models.access import Act, Actor, require, require_somewhere
from models.base import get_visible
from models.customer import ID_NUMBER_CONTEXT, Customer, CustomerKind
from models.occupancy import Occupancy
from models.secret import decrypt, encrypt
from models.unit_of_work import rows, unit_of_work
from services.community import KEEP
from services.listing import newest_first, wanted_id
from services.phone import hide_phone, phone_indexes


class SearchEmpty(InvalidInput):
    """Neither a phone nor a name to look for."""

    zh = "请填写手机号或姓名。"
    en = "Give a phone number or a name to look for."


class CustomerForgotten(Refusal):
    """Only a pseudonym is left; somebody who comes back is registered anew."""

    zh = "这位客户的个人信息已经清除，请重新登记。"
    en = "This customer's personal data has been removed; register them anew."


@dataclass(frozen=True)
class NewCustomer:
    """A customer to register."""

    kind: CustomerKind
    name: str
    phone: str | None = None
    id_number: str | None = None


@dataclass(frozen=True)
class CustomerChange:
    """What to change; None empties a phone or an ID number."""

    name: str = KEEP
    phone: str | None = KEEP
    id_number: str | None = KEEP


@unit_of_work
async def create_customer(actor: Actor, new: NewCustomer) -> Customer:
    """Register a customer; whoever manages a register may. Refuses NotPermitted, PhoneNotValid."""
    require_somewhere(actor, Act.REGISTER_MANAGE)
    customer = await Customer.create(
        organization_id=actor.organization_id,
        kind=new.kind,
        name=normalise(new.name),
        registered_by_staff_id=actor.id if actor.is_staff else None,
        **_hidden(new.phone, new.id_number),
    )
    filled = ["name"] + [name for name in ("phone", "id_number") if getattr(new, name)]
    await _record_tx(actor, "customer.create", customer, {"kind": customer.kind.value, "fields": filled})
    return customer


@unit_of_work
async def update_customer(actor: Actor, customer_id: UUID, change: CustomerChange) -> Customer:
    """Change name, phone or ID number. What a phone opens reaches every room of the customer, so the actor must manage
    the register of every community where the customer has one. Refuses NotFound, NotPermitted, PhoneNotValid,
    CustomerForgotten."""
    require_somewhere(actor, Act.REGISTER_MANAGE)
    customer = await get_visible(Customer.visible_to(actor).select_for_update(), customer_id)
    await require_over_customer(actor, Act.REGISTER_MANAGE, customer)
    if customer.forgotten_at is not None:
        raise CustomerForgotten()
    changed: dict[str, Any] = {} if change.name is KEEP else {"name": normalise(change.name)}
    if change.phone is not KEEP:
        changed |= _hidden(change.phone, None, only="phone")
    if change.id_number is not KEEP:
        changed |= _hidden(None, change.id_number, only="id_number")
    if changed:
        customer.update_from_dict(changed)
        await customer.save(update_fields=list(changed))
        names = [name for name in ("name", "phone", "id_number") if getattr(change, name) is not KEEP]
        await _record_tx(actor, "customer.update", customer, {"fields": names})
    return customer


_COMMUNITIES = """
SELECT community_id FROM occupancies WHERE customer_id = $1
UNION SELECT community_id FROM bills WHERE customer_id = $1
ORDER BY community_id
"""


async def communities_of_customer(customer_id: UUID) -> list[UUID]:
    """Where the customer has or had a room or a bill."""
    return [found["community_id"] for found in await rows(_COMMUNITIES, customer_id)]


async def require_over_customer(actor: Actor, act: Act, customer: Customer) -> None:
    """NotPermitted unless the actor holds the act in every community where the customer has or had a room or a bill:
    who signs in as a customer sees what they owe in all of them."""
    for community_id in await communities_of_customer(customer.id):
        require(actor, act, community_id=community_id)


async def list_customers(actor: Actor, room_id: str | None, cursor: str | None, limit: int) -> Page[Customer]:
    """Newest first: those with a room in the actor's communities, and those without any room yet."""
    require_somewhere(actor, Act.REGISTER_READ)
    query = Customer.visible_to(actor)
    if room_id is not None:
        room = Occupancy.visible_to(actor).filter(room_id=wanted_id(room_id))
        query = query.filter(id__in=await room.values_list("customer_id", flat=True))
    return await newest_first(query, cursor, limit)


async def search_customers(
    actor: Actor, phone: str | None, name: str | None, cursor: str | None, limit: int
) -> Page[Customer]:
    """Those of this very phone and whose names begin so. Refuses NotPermitted, PhoneNotValid, SearchEmpty."""
    require_somewhere(actor, Act.REGISTER_READ)
    if not phone and not name:
        raise SearchEmpty(fields=[{"field": "phone", "code": "missing"}])
    query = Customer.visible_to(actor)
    if phone:
        query = query.filter(phone_index__in=phone_indexes(phone))
    if name:
        query = query.filter(name__startswith=normalise(name))
    return await newest_first(query, cursor, limit)


async def get_customer(actor: Actor, customer_id: UUID) -> Customer:
    """One customer that the staff member may see; NotFound otherwise."""
    require_somewhere(actor, Act.REGISTER_READ)
    return await get_visible(Customer.visible_to(actor), customer_id)


def id_number_masked(customer: Customer) -> str:
    """First and last character of the ID number, nothing of an empty one."""
    if customer.id_number_cipher is None:
        return ""
    number = decrypt(customer.id_number_cipher, ID_NUMBER_CONTEXT)
    return f"{number[:1]}{'*' * (len(number) - 2)}{number[-1:]}"


def _hidden(phone: str | None, id_number: str | None, only: str | None = None) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    if only != "id_number":
        columns |= hide_phone(phone).columns() if phone else dict(phone_cipher=None, phone_index=None, phone_masked="")
    if only != "phone":
        number = normalise(id_number).upper() if id_number else None
        columns["id_number_cipher"] = encrypt(number, ID_NUMBER_CONTEXT) if number else None
    return columns


async def _record_tx(actor: Actor, act: str, customer: Customer, after: dict[str, Any]) -> None:
    await audit.record_tx(actor, act, "customer", customer.id, organization_id=customer.organization_id, after=after)
