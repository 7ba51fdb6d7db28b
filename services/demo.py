"""The demo: an empty database becomes two companies, three communities and half a year of their life.

Everything but keys and passwords follows from a seed. ``Installation`` marks the database as a demo, so that it may be
thrown away; no other database may.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import structlog

from kit import clock
from kit.ids import new_code
from models import audit
from models.access import STAFF_ROLES, Role, system_actor
from models.audit import Audit
from models.installation import Installation
from models.organization import Organization
from models.staff import Staff, StaffRole
from models.unit_of_work import unit_of_work
from services.demo_bill import issue_demo_bills
from services.demo_company import MadeCommunity, MadeCompany, Sandbox, make_companies, register_again
from services.demo_guide import demo_guide
from services.demo_money import make_payments
from services.demo_names import Dice
from services.demo_plan import PERSONAS
from services.demo_register import Person, RegisterMaker
from services.password import hash_password

__all__ = ["Sandbox", "demo_guide", "is_demo", "is_empty", "is_seeded", "register_again", "seed"]

SEED = 20261123
_PASSWORD_LENGTH = 12
_SEEDED = "demo.seed"

log = structlog.get_logger()


async def is_empty() -> bool:
    """Whether nobody has put anything into this database yet."""
    return not await Organization.exists() and not await Installation.exists()


async def is_demo() -> bool:
    """Whether the database carries the demo mark: then, and only then, it may be thrown away."""
    return await Installation.exists(id=1, demo=True)


async def is_seeded() -> bool:
    """Whether the demo was made to its end; a demo that is not was interrupted, and wants a reset."""
    return await Audit.exists(act=_SEEDED)


class NotEmpty(RuntimeError):
    """The database holds something already; a demo is only ever put into an empty one."""


async def seed(sandbox: Sandbox, *, seed: int = SEED) -> dict[str, Any]:
    """Fill an empty database; what scripts need to know of it: companies, staff with passwords, residents, merchants.

    The demo mark is set first, so an interrupted demo can be thrown away. Holds no key. Refuses with NotEmpty.
    """
    if not await is_empty():
        raise NotEmpty()
    await _mark()
    dice, today = Dice(seed), clock.today()
    companies = await make_companies(dice, sandbox)
    phones = _phones(dice)
    people: list[tuple[MadeCompany, Person]] = []
    for company in companies:
        register = RegisterMaker(dice, company, today, phones)
        await register.make()
        people += [(company, person) for person in register.people.values()]
        for made in company.communities:
            households = register.households[made.community.id]
            bills = await issue_demo_bills(dice, made, households, today)
            paid = await make_payments(dice, company, made, households, today)
            log.info("demo_community", code=made.plan.code, rooms=len(households), bills=bills, payments=paid)
    staff = await _make_staff(dice, companies)
    await _note_the_end(companies)
    return _told(companies, staff, people)


def _phones(dice: Dice) -> dict[str, tuple[str, str]]:
    """Name and phone of each persona; the same in both companies."""
    return {key: (dice.person(), dice.phone()) for key in dict.fromkeys(persona.key for persona in PERSONAS)}


@unit_of_work
async def _mark() -> None:
    await Installation.create(id=1, demo=True)


@unit_of_work
async def _note_the_end(companies: Sequence[MadeCompany]) -> None:
    for company in companies:
        organization_id = company.organization.id
        actor = system_actor("demo")
        await audit.record_tx(
            actor, _SEEDED, "organization", organization_id, organization_id=organization_id, after={"seed": True}
        )


async def _make_staff(dice: Dice, companies: Sequence[MadeCompany]) -> list[dict[str, Any]]:
    """A manager of each company, and every other role in each community; passwords are random and told once."""
    wanted: list[tuple[MadeCompany, MadeCommunity | None, Role]] = []
    for company in companies:
        wanted.append((company, None, Role.MANAGER))
        roles = sorted(STAFF_ROLES - {Role.MANAGER})
        wanted += [(company, made, role) for made in company.communities for role in roles]
    passwords = [new_code(_PASSWORD_LENGTH) for _ in wanted]
    hashes = await asyncio.gather(*(hash_password(password) for password in passwords))
    told = []
    for (company, made, role), password in zip(wanted, passwords, strict=True):
        place = made.plan.code.lower() if made else company.plan.key
        told.append(
            {
                "username": f"{role.value}-{place}",
                "password": password,
                "name": dice.person(),
                "role": role.value,
                "company": company.organization.name,
                "community": made.community.name if made else None,
            }
        )
    await _write_staff(wanted, told, hashes)
    return told


@unit_of_work
async def _write_staff(
    wanted: Sequence[tuple[MadeCompany, MadeCommunity | None, Role]],
    told: Sequence[Mapping[str, Any]],
    hashes: Sequence[str],
) -> None:
    for (company, made, role), one, password_hash in zip(wanted, told, hashes, strict=True):
        staff = await Staff.create(
            organization_id=company.organization.id,
            username=one["username"],
            password_hash=password_hash,
            name=one["name"],
        )
        await StaffRole.create(
            organization_id=company.organization.id,
            staff_id=staff.id,
            community_id=made.community.id if made else None,
            role=role,
        )


def _told(
    companies: Sequence[MadeCompany],
    staff: Sequence[Mapping[str, Any]],
    people: Sequence[tuple[MadeCompany, Person]],
) -> dict[str, Any]:
    accounts: dict[UUID, None] = {}
    for company in companies:
        for made in company.communities:
            accounts |= dict.fromkeys(made.merchant_account_ids)
    return {
        "companies": [
            {
                "name": company.organization.name,
                "appid": company.app.appid,
                "communities": [
                    {
                        "id": str(made.community.id),
                        "name": made.community.name,
                        "code": made.plan.code,
                        "oldest_arrears_first": made.plan.oldest_arrears_first,
                        "merchant_account_ids": [str(account_id) for account_id in made.merchant_account_ids],
                    }
                    for made in company.communities
                ],
            }
            for company in companies
        ],
        "staff": list(staff),
        "residents": [_told_of(company, person) for company, person in people],
        "merchant_account_ids": [str(account_id) for account_id in accounts],
    }


def _told_of(company: MadeCompany, person: Person) -> dict[str, Any]:
    names = {made.community.id: made.community.name for made in company.communities}
    kinds = {"seller": "owner", "buyer": "owner"}
    return {
        "key": person.persona.key,
        "openid": person.openid,
        "phone": person.phone,
        "appid": company.app.appid,
        "name": person.name,
        "signed_up": person.resident is not None,
        "rooms": [
            {
                "room_id": str(room.id),
                "room": room.name,
                "community": names[room.community_id],
                "kind": kinds.get(home.kind, home.kind),
                "claimed": home.claimed,
            }
            for room, home in person.rooms
        ],
        "note": person.persona.note,
    }
