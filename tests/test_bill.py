"""Bills by hand: what staff may issue and void, and what a resident gets to see of them."""

from datetime import date
from typing import Any

import pytest

from kit.ids import new_id
from models.access import Act, Role
from models.bill import Bill, BillLine
from models.occupancy import OccupancyKind
from services.bill import BillFilter, list_bills
from services.session import authenticate
from tests.conftest import SandboxControl
from tests.world import Home, Person, World, unknown_id


async def desk(world: World, role: Role = Role.FINANCE) -> tuple[Home, Person, dict[str, Any]]:
    """A home, a member of staff, and a bill that could be issued there."""
    home = await world.home(bills=0)
    person = await world.staff(home.company, role, home.community)
    item = await world.fee_item(home.company, home.community)
    document = {
        "community_id": str(home.community.id),
        "room_id": str(home.room.id),
        "customer_id": str(home.customer.id),
        "purpose": "card",
        "title": "门禁卡",
        "accrued_on": "2026-11-23",
        "due_on": "2026-11-30",
        "lines": [
            {
                "fee_item_id": str(item.id),
                "title": "门禁卡",
                "amount_fen": 3000,
                "quantity": "2",
                "unit": "张",
                "unit_price": "15.00",
                "formula": "2 张 × 15.00 元",
            }
        ],
    }
    return home, person, document


async def test_a_bill_by_hand_reaches_the_resident_with_its_lines(world: World) -> None:
    home, finance, document = await desk(world)

    made = (await finance.post("/api/v1/staff/bills", document)).json()

    seen = (await home.owner.get("/api/v1/bills?status=open")).json()
    assert seen["next_cursor"] is None
    (bill,) = seen["items"]
    assert bill == made
    assert (bill["status"], bill["amount_fen"], bill["paid_fen"]) == ("open", 3000, 0)
    assert (bill["room"], bill["community"], bill["due_on"]) == ("3栋1单元1201", "阳光花园", "2026-11-30")
    (line,) = bill["lines"]
    assert (line["quantity"], line["unit_price"], line["formula"]) == ("2.0000", "15.000000", "2 张 × 15.00 元")


@pytest.mark.parametrize(
    ("_case", "amount", "code"),
    [
        ("zero", 0, "amount_not_positive"),
        ("negative", -1, "amount_not_positive"),
        ("fractional", 0.5, "not_a_whole_number"),
        ("whole but written with a point", 3000.0, "not_a_whole_number"),
        ("text", "3000", "not_a_whole_number"),
        ("true", True, "not_a_whole_number"),
        ("huge", 10**30, "amount_too_high"),
        ("one fen above the most", 10**13 + 1, "amount_too_high"),
        ("nothing", None, "not_a_whole_number"),
    ],
)
async def test_amounts_that_are_none(world: World, _case: str, amount: Any, code: str) -> None:
    _, finance, document = await desk(world)
    document["lines"][0]["amount_fen"] = amount

    answer = await finance.post("/api/v1/staff/bills", document)

    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert answer.json()["fields"][0]["field"] == "lines.0.amount_fen"
    assert await Bill.all().count() == 0 and await BillLine.all().count() == 0


@pytest.mark.parametrize("field", ["community_id", "room_id", "customer_id"])
async def test_ids_of_another_company_are_not_found(world: World, field: str) -> None:
    _, finance, document = await desk(world)
    other = await world.company(2)
    community = await world.community(other)
    room = await world.room(community)
    foreign = {
        "community_id": community.id,
        "room_id": room.id,
        "customer_id": (await world.customer(other)).id,
    }

    answers = [
        await finance.post("/api/v1/staff/bills", document | {field: str(value)})
        for value in (foreign[field], new_id(), "no id")
    ]

    assert {(answer.status_code, answer.text) for answer in answers} == {(404, answers[0].text)}
    assert await Bill.all().count() == 0


async def test_lines_of_two_legal_entities_are_two_bills(world: World) -> None:
    from models.organization import LegalEntity

    home, finance, document = await desk(world)
    water_company = await LegalEntity.create(organization_id=home.company.id, name="供水公司")
    water = await world.fee_item(home.company, home.community, "水费", legal_entity_id=water_company.id)
    document["lines"].append({"fee_item_id": str(water.id), "title": "水费", "amount_fen": 3600})

    answer = await finance.post("/api/v1/staff/bills", document)

    assert (answer.status_code, answer.json()["code"]) == (422, "lines_do_not_add_up")
    assert await Bill.all().count() == 0


@pytest.mark.parametrize("role", [Role.CASHIER, Role.GUARD, Role.REPAIRER, Role.BUTLER, Role.AUDITOR])
async def test_who_may_not_issue(world: World, role: Role) -> None:
    _, person, document = await desk(world, role)

    answer = await person.post("/api/v1/staff/bills", document)

    assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted")
    assert await Bill.all().count() == 0


async def test_a_draft_is_shown_to_nobody_until_it_is_published(world: World) -> None:
    home, finance, document = await desk(world)
    draft = (await finance.post("/api/v1/staff/bills", document | {"draft": True})).json()
    assert draft["status"] == "draft"
    assert (await home.owner.get("/api/v1/bills")).json()["items"] == []
    assert (await home.owner.get(f"/api/v1/bills/{draft['id']}")).status_code == 404

    published = await finance.post(f"/api/v1/staff/bills/{draft['id']}/publish")
    again = await finance.post(f"/api/v1/staff/bills/{draft['id']}/publish")

    assert (published.status_code, published.json()["status"]) == (200, "open")
    assert (again.status_code, again.json()["code"]) == (409, "move_not_allowed")
    assert len((await home.owner.get("/api/v1/bills")).json()["items"]) == 1


async def test_a_void_bill_may_be_issued_anew(world: World) -> None:
    _, finance, document = await desk(world)
    first = (await finance.post("/api/v1/staff/bills", document)).json()
    assert (await finance.post("/api/v1/staff/bills", document)).json()["code"] == "bill_exists"

    voided = await finance.post(f"/api/v1/staff/bills/{first['id']}/void", {"reason": "开错了"})
    second = await finance.post("/api/v1/staff/bills", document)

    assert voided.json()["status"] == "void" and second.status_code == 201
    twice = await finance.post(f"/api/v1/staff/bills/{first['id']}/void", {"reason": "开错了"})
    assert (twice.status_code, twice.json()["code"]) == (409, "move_not_allowed")


async def test_a_paid_bill_cannot_be_voided(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    finance = await world.staff(home.company, Role.FINANCE, home.community)
    paid = (await sandbox.pay((await home.open()).json())).json()
    await sandbox.called_back(paid["out_trade_no"])

    answer = await finance.post(f"/api/v1/staff/bills/{home.bill_ids[0]}/void", {"reason": "开错了"})

    assert (answer.status_code, answer.json()["code"]) == (409, "bill_has_payments")
    assert (await Bill.get(id=home.bill_ids[0])).state == "paid"


async def test_what_was_owed_before_is_not_shown_to_who_came_after(world: World) -> None:
    home = await world.home(bills=0)
    old = await world.bill(home.company, home.room, home.customer, 111, month=date(2026, 9, 1))
    new = await world.bill(home.company, home.room, home.customer, 222, month=date(2026, 10, 1))
    buyer = await world.resident(home.company)
    customer = await world.customer(home.company, "新业主")
    await world.occupancy(home.room, customer, resident=buyer.resident, starts_on=date(2026, 10, 12))

    assert [bill["amount_fen"] for bill in (await home.owner.get("/api/v1/bills")).json()["items"]] == [111, 222]
    assert [bill["amount_fen"] for bill in (await buyer.get("/api/v1/bills")).json()["items"]] == [222]
    hidden, unknown = await buyer.get(f"/api/v1/bills/{old.id}"), await buyer.get(f"/api/v1/bills/{unknown_id()}")
    assert hidden.status_code == 404 and hidden.json() == unknown.json()
    assert (await buyer.get(f"/api/v1/bills/{new.id}")).status_code == 200


async def test_who_moved_out_sees_their_own_debts_and_nothing_else(world: World) -> None:
    home = await world.home(bills=0)
    seller = await world.resident(home.company)
    customer = await world.customer(home.company, "旧业主")
    await world.occupancy(
        home.room, customer, resident=seller.resident, starts_on=date(2018, 1, 1), ends_on=date(2026, 9, 30)
    )
    await world.bill(home.company, home.room, customer, 111, month=date(2026, 9, 1))
    await world.bill(home.company, home.room, home.customer, 222, month=date(2026, 10, 1))

    assert [bill["amount_fen"] for bill in (await seller.get("/api/v1/bills")).json()["items"]] == [111]


async def test_a_household_that_ended_tomorrow_still_sees(world: World) -> None:
    from datetime import timedelta

    from kit import clock

    home = await world.home(bills=1)
    tenant = await world.resident(home.company)
    await world.occupancy(
        home.room,
        await world.customer(home.company, "租客"),
        OccupancyKind.TENANT,
        resident=tenant.resident,
        ends_on=clock.today(),
    )
    assert len((await tenant.get("/api/v1/bills")).json()["items"]) == 1
    with clock.travel_to(clock.now() + timedelta(days=1)):
        assert (await tenant.get("/api/v1/bills")).json()["items"] == []


async def test_paging_shows_every_bill_once_in_order(world: World) -> None:
    home = await world.home(bills=0)
    for number in range(23):
        await world.bill(
            home.company, home.room, home.customer, 100 + number, month=date(2024 + number // 12, number % 12 + 1, 1)
        )
    seen, cursor, pages = [], "", 0
    while True:
        page = (await home.owner.get(f"/api/v1/bills?limit=5{cursor}")).json()
        seen += [bill["amount_fen"] for bill in page["items"]]
        pages += 1
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"

    assert seen == [100 + number for number in range(23)] and pages == 5
    for bad in ("x", "WyJ4Il0", "bnVsbA", "%00"):
        answer = await home.owner.get(f"/api/v1/bills?cursor={bad}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor"), answer.text
    assert (await home.owner.get("/api/v1/bills?limit=0")).status_code == 422
    assert (await home.owner.get("/api/v1/bills?offset=5")).json()["code"] == "unknown_field"


async def test_lists_show_exactly_what_visible_to_lets_see(world: World) -> None:
    """The statement that lists (services/bill_sql.py) says the rule of Bill.visible_to again; here they are compared,
    for everybody, over bills before and after each occupancy began, of both debtors, in every state."""
    home = await world.home(bills=0)
    buyer, seller = await world.resident(home.company), await world.resident(home.company)
    flat = await world.room(home.community, "3栋1单元1202")
    bought, sold = await world.customer(home.company, "新业主"), await world.customer(home.company, "旧业主")
    await world.occupancy(flat, bought, resident=buyer.resident, starts_on=date(2026, 6, 15))
    await world.occupancy(flat, sold, resident=seller.resident, starts_on=date(2018, 1, 1), ends_on=date(2026, 6, 14))
    for month in range(3, 10):
        await world.bill(home.company, flat, sold if month < 6 else bought, month=date(2026, month, 1))
        await world.bill(home.company, home.room, home.customer, month=date(2026, month, 1), draft=month == 9)
    elsewhere = await world.company()
    foreign = await world.community(elsewhere, "别处")
    their_room = await world.room(foreign)
    await world.bill(elsewhere, their_room, await world.customer(elsewhere))
    staff = [await world.staff(home.company, role, home.community) for role in (Role.FINANCE, Role.REPAIRER)]
    stranger = await world.staff(elsewhere, Role.FINANCE, foreign)

    counts = []
    for person in (home.owner, buyer, seller, *staff, stranger):
        actor = await authenticate(person.token)
        wanted = {bill.id for bill in await Bill.visible_to(actor)}
        if actor.is_staff and not actor.community_ids(Act.BILL_READ):
            assert (await person.get("/api/v1/staff/bills")).status_code == 403 and not wanted
            continue
        listed = await list_bills(actor, BillFilter(), None, 100)
        assert {bill.id for bill in listed.items} == wanted
        counts.append(len(wanted))
    # the owner's six (no draft), the buyer's from June on, the seller's before, finance all, the stranger their one
    assert counts == [6, 4, 3, 14, 1]
