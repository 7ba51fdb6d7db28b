"""Customers on the register: found by their phone, shown masked, changed only by who manages all their rooms."""

import pytest

from kit.crypto import Undecipherable
from models.access import Role
from models.audit import Audit
from models.customer import ID_NUMBER_CONTEXT, PHONE_CONTEXT, Customer
from models.secret import decrypt
from tests.world import World, unknown_id

PATH = "/api/v1/staff/customers"
ID_NUMBER = "11010519491231002x"


async def test_phone_and_id_number_are_encrypted_and_shown_masked(world: World) -> None:
    home = await world.home(bills=0)
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    phone = world.phone()

    made = await butler.post(PATH, {"name": " 赵  六 ", "phone": f"+86 {phone}", "id_number": ID_NUMBER}, key="one")

    assert made.status_code == 201, made.text
    assert made.json() == {
        "id": made.json()["id"], "kind": "person", "name": "赵 六", "phone_masked": f"{phone[:3]}****{phone[-4:]}",
        "id_number_masked": "1****************X",
    }  # fmt: skip
    kept = await Customer.get(id=made.json()["id"])
    assert decrypt(str(kept.phone_cipher), PHONE_CONTEXT) == phone
    assert decrypt(str(kept.id_number_cipher), ID_NUMBER_CONTEXT) == ID_NUMBER.upper()
    with pytest.raises(Undecipherable):  # a number moved to another column cannot be read
        decrypt(str(kept.id_number_cipher), PHONE_CONTEXT)
    audits = str([dict(row) for row in await Audit.all()])
    assert phone not in audits and ID_NUMBER.upper() not in audits
    assert (await Audit.get()).after == {"kind": "person", "fields": ["name", "phone", "id_number"]}
    assert (await butler.post(PATH, {"name": " 赵  六 ", "phone": f"+86 {phone}", "id_number": ID_NUMBER}, key="one")
            ).json() == made.json()  # fmt: skip


async def test_a_customer_is_found_by_phone_or_name_and_changed(world: World) -> None:
    home = await world.home(bills=0)
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    phone, new_phone = world.phone(), world.phone()
    made = (await butler.post(PATH, {"kind": "company", "name": "南湖便利店", "phone": phone})).json()

    by_phone = (await butler.post(f"{PATH}/search", {"phone": phone})).json()["items"]
    by_name = (await butler.post(f"{PATH}/search", {"name": "南湖"})).json()["items"]
    assert by_phone == by_name == [made]
    changed = await butler.patch(f"{PATH}/{made['id']}", {"phone": new_phone})
    assert changed.json()["phone_masked"] == f"{new_phone[:3]}****{new_phone[-4:]}"
    assert changed.json()["name"] == "南湖便利店"
    assert (await butler.post(f"{PATH}/search", {"phone": phone})).json()["items"] == []
    emptied = await butler.patch(f"{PATH}/{made['id']}", {"phone": None, "name": "南湖超市"})
    assert (emptied.json()["phone_masked"], emptied.json()["name"]) == ("", "南湖超市")
    in_room = (await butler.get(PATH, params={"room_id": str(home.room.id)})).json()["items"]
    assert [one["id"] for one in in_room] == [str(home.customer.id)]


async def test_what_is_refused_changes_nothing(world: World) -> None:
    home = await world.home(bills=0)
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    count = await Customer.all().count()
    kept = dict(await Customer.get(id=home.customer.id))

    wrong = [
        await butler.post(PATH, {"name": "赵六", "phone": "12345"}),
        await butler.patch(f"{PATH}/{home.customer.id}", {"name": "赵六", "phone": "010-88886666"}),
    ]
    empty = await butler.post(f"{PATH}/search", {})

    assert [(answer.status_code, answer.json()["code"]) for answer in wrong] == [(422, "phone_not_valid")] * 2
    assert "12345" not in wrong[0].text
    assert (empty.status_code, empty.json()["code"]) == (422, "search_empty")
    assert await Customer.all().count() == count
    assert dict(await Customer.get(id=home.customer.id)) == kept


async def test_a_phone_reaches_every_room_so_who_changes_it_manages_them_all(world: World) -> None:
    home = await world.home(bills=0)
    other = await world.community(home.company, "月亮湾")
    await world.occupancy(await world.room(other, "1栋1单元101"), home.customer)
    here = await world.staff(home.company, Role.BUTLER, home.community)
    everywhere = await world.staff(home.company, Role.MANAGER)
    path = f"{PATH}/{home.customer.id}"
    kept = dict(await Customer.get(id=home.customer.id))

    refused = await here.patch(path, {"phone": world.phone()})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_permitted")
    assert dict(await Customer.get(id=home.customer.id)) == kept
    assert (await everywhere.patch(path, {"phone": world.phone()})).status_code == 200


async def test_customers_elsewhere_are_not_there(world: World) -> None:
    home = await world.home(bills=0)
    outsider = await world.staff(home.company, Role.BUTLER, await world.community(home.company, "月亮湾"))
    stranger = await world.staff(await world.company(), Role.MANAGER)
    guard = await world.staff(home.company, Role.GUARD, home.community)
    cashier = await world.staff(home.company, Role.CASHIER, home.community)
    path = f"{PATH}/{home.customer.id}"

    for person in (outsider, stranger):
        unknown = await person.get(f"{PATH}/{unknown_id()}")
        assert (unknown.status_code, (await person.get(path)).json()) == (404, unknown.json())
        assert (await person.patch(path, {"name": "改名"})).status_code == 404
        assert (await person.get(PATH)).json()["items"] == []
    assert (await guard.get(path)).status_code == 403
    assert (await cashier.get(path)).status_code == 200
    assert (await cashier.patch(path, {"name": "改名"})).status_code == 403
    assert (await cashier.post(PATH, {"name": "改名"})).status_code == 403
    assert (await Customer.get(id=home.customer.id)).name == "业主甲"


async def test_a_fresh_customer_is_of_who_registered_them(world: World) -> None:
    """No room and no bill yet: staff of another community must not set their own phone on them."""
    home = await world.home(bills=0)
    elsewhere = await world.community(home.company, "月亮湾")
    mine = await world.staff(home.company, Role.BUTLER, home.community)
    outsider = await world.staff(home.company, Role.BUTLER, elsewhere)
    manager = await world.staff(home.company, Role.MANAGER)
    made = (await mine.post("/api/v1/staff/customers", {"name": "新客户", "phone": world.phone()})).json()
    path = f"/api/v1/staff/customers/{made['id']}"

    assert (await outsider.patch(path, {"phone": world.phone()})).status_code == 404
    assert (await outsider.get(path)).status_code == 404
    assert (await mine.get(path)).json() == (await manager.get(path)).json() == made


async def test_who_only_owes_a_bill_is_of_that_community(world: World) -> None:
    home = await world.home(bills=0)
    elsewhere = await world.community(home.company, "月亮湾")
    outsider = await world.staff(home.company, Role.BUTLER, elsewhere)
    mine = await world.staff(home.company, Role.BUTLER, home.community)
    debtor = await world.customer(home.company, "临时客户")
    await world.bill(home.company, home.room, debtor)
    path = f"/api/v1/staff/customers/{debtor.id}"

    assert (await outsider.patch(path, {"phone": world.phone()})).status_code == 404
    assert (await mine.get(path)).status_code == 200
