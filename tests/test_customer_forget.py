"""A former customer becomes a pseudonym, and nobody of whom something is open does."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from kit import clock
from models.access import Role
from models.audit import Audit
from models.bill import Bill
from models.customer import Customer
from models.occupancy import Occupancy
from tests.conftest import SandboxControl
from tests.world import Home, World, unknown_id

WHY = {"reason": "业主已售房搬走"}


def path(customer: Customer) -> str:
    return f"/api/v1/staff/customers/{customer.id}/forget"


async def moved_out(home: Home) -> None:
    await Occupancy.filter(customer_id=home.customer.id).update(ends_on=clock.today() - timedelta(days=1))


async def test_a_former_customer_is_forgotten_and_the_bills_stay(world: World, sandbox: SandboxControl) -> None:
    home = await world.home(bills=1)
    manager = await world.staff(home.company, Role.MANAGER, home.community)
    paid = (await sandbox.pay((await home.open()).json())).json()
    await sandbox.called_back(paid["out_trade_no"])
    await moved_out(home)

    answers = await asyncio.gather(*(manager.post(path(home.customer), WHY) for _ in range(3)))

    assert [answer.status_code for answer in answers] == [200] * 3, [answer.text for answer in answers]
    name = f"客户{str(home.customer.id)[-6:].upper()}"
    assert {(answer.json()["name"], answer.json()["forgotten_at"]) for answer in answers} == {
        (name, answers[0].json()["forgotten_at"])
    }
    kept = await Customer.get(id=home.customer.id)
    assert (kept.name, kept.phone_cipher, kept.phone_index, kept.phone_masked) == (name, None, None, "")
    assert (await Occupancy.get()).resident_id is None
    assert (await Bill.get()).customer_id == kept.id
    (forgotten,) = await Audit.filter(act="customer.forget")
    assert (forgotten.target_id, forgotten.after) == (kept.id, WHY)
    changed = await manager.patch(f"/api/v1/staff/customers/{kept.id}", {"phone": world.phone()})
    assert (changed.status_code, changed.json()["code"]) == (409, "customer_forgotten")


@pytest.mark.parametrize(
    ("what", "facts"),
    [
        ("room", {"occupancies": 1, "open_bills": 0, "payments": 0, "cases": 0, "balance_fen": 0}),
        ("bill", {"occupancies": 0, "open_bills": 1, "payments": 0, "cases": 0, "balance_fen": 0}),
        ("payment", {"occupancies": 0, "open_bills": 1, "payments": 1, "cases": 0, "balance_fen": 0}),
        ("balance", {"occupancies": 0, "open_bills": 0, "payments": 0, "cases": 0, "balance_fen": 500}),
    ],
)
async def test_who_is_still_needed_is_refused_with_the_facts(
    world: World, owner: asyncpg.Connection, what: str, facts: dict[str, int]
) -> None:
    home = await world.home(bills=1 if what in ("bill", "payment") else 0)
    manager = await world.staff(home.company, Role.MANAGER)
    if what == "payment":
        assert (await home.open()).status_code == 201
    if what != "room":
        await moved_out(home)
    if what == "balance":
        wall = "organization_id, community_id, legal_entity_id"
        ids = [home.company.id, home.community.id, home.company.legal_entity.id]
        for number, (kind, holder) in enumerate((("bank", None), ("prepaid", home.customer.id)), start=1):
            await owner.execute(
                f"INSERT INTO accounts (id, created_at, {wall}, kind, holder_id)"
                " VALUES ($1, now(), $2, $3, $4, $5, $6)",
                f"00000000-0000-4000-8000-00000000000{number}", *ids, kind, holder,
            )  # fmt: skip
        await owner.execute(
            "INSERT INTO entries (community_id, legal_entity_id, kind, source_id, leg, debit_account_id,"
            " credit_account_id, amount_fen, occurred_at, posted_at, posted_on) VALUES ($1, $2, 'payment',"
            " gen_random_uuid(), 1, $3, $4, 500, now(), now(), (now() AT TIME ZONE 'Asia/Shanghai')::date)",
            *ids[1:], *(f"00000000-0000-4000-8000-00000000000{number}" for number in (1, 2)),
        )  # fmt: skip

    refused = await manager.post(path(home.customer), WHY)

    assert (refused.status_code, refused.json()["code"]) == (409, "customer_still_needed")
    assert {name: refused.json()[name] for name in facts} == facts
    assert f"余额{facts['balance_fen'] // 100}.00元" in refused.json()["title"]
    assert dict(await Customer.get(id=home.customer.id)) == dict(home.customer)


async def test_only_who_manages_all_places_of_the_customer_forgets_them(world: World) -> None:
    home = await world.home(bills=0)
    elsewhere = await world.community(home.company, "月亮湾")
    await world.occupancy(await world.room(elsewhere), home.customer, ends_on=clock.today() - timedelta(days=1))
    await moved_out(home)

    for role, community, expected in (
        (Role.BUTLER, home.community, 403), (Role.FINANCE, None, 403), (Role.AUDITOR, None, 403),
        (Role.MANAGER, home.community, 403), (Role.MANAGER, None, 200),
    ):  # fmt: skip
        somebody = await world.staff(home.company, role, community)
        assert (await somebody.post(path(home.customer), WHY)).status_code == expected, (role, community)
    stranger = await world.staff(await world.company(), Role.MANAGER)
    theirs = await stranger.post(path(home.customer), WHY)
    unknown = await stranger.post(f"/api/v1/staff/customers/{unknown_id()}/forget", WHY)
    assert (theirs.status_code, theirs.json()) == (404, unknown.json())
