"""Keys change while everything runs: what is under the old one and under the new one is read side by side."""

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from tortoise import Tortoise

import payments
from kit.crypto import Keyring
from kit.errors import NotPermitted
from models import secret
from models.access import Role, system_actor
from models.audit import Audit
from models.customer import ID_NUMBER_CONTEXT, PHONE_CONTEXT, Customer
from models.merchant_account import APIV3_KEY_CONTEXT, MerchantAccount
from models.occupancy import Occupancy, OccupancyKind
from models.resident import Resident
from models.secret_column import SECRET_COLUMNS
from services import key_rotation
from services.miniprogram import configure as forget_tokens
from tests.conftest import Database, Drain, SandboxControl
from tests.world import KEYRING, World

OLD, NEW, OLD_INDEX, NEW_INDEX = b"k" * 32, b"n" * 32, b"i" * 32, b"j" * 32
# The four steps: add the new keys, let them write, (rotate), take the old ones away.
ADDED = Keyring({"new": NEW, "test": OLD}, "test", OLD_INDEX, "", {"i2": NEW_INDEX})
WRITING = Keyring({"test": OLD, "new": NEW}, "new", NEW_INDEX, "i2", {"": OLD_INDEX})
ALONE = Keyring({"new": NEW}, "new", NEW_INDEX, "i2")
COMMAND = system_actor("linli keys rotate")


@pytest.fixture(autouse=True)
def keys_as_before() -> Iterator[None]:
    yield
    secret.configure(KEYRING)


def quietly(*_: object) -> None:
    """Progress that nobody reads."""


def test_the_register_knows_every_encrypted_column(database: Database) -> None:
    """Whoever adds a column that ends in _cipher adds it to the register, with its index and its primary key."""
    found = {}
    for model in Tortoise.apps["linli"].values():
        columns = model._meta.fields_db_projection
        for column in columns.values():
            if column.endswith("_cipher"):
                index = column.removesuffix("_cipher") + "_index"
                key = model._meta.db_pk_column
                found[model._meta.db_table, column] = (index if index in columns.values() else None, key)
    assert found == {(one.table, one.column): (one.index, one.key) for one in SECRET_COLUMNS}
    assert len(found) >= 9


async def _counts() -> dict[str, set[str | None]]:
    counted: dict[str, set[str | None]] = {}
    for one in await key_rotation.key_counts():
        assert one.count > 0
        counted.setdefault(one.column, set()).add(one.key_id)
    return counted


async def test_keys_change_while_people_live_their_day(
    world: World, sandbox: SandboxControl, drain: Drain, books: Any
) -> None:
    home = await world.home(bills=2)
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    phones = [world.phone() for _ in range(4)]
    number = {"name": "赵六", "phone": phones[0], "id_number": "11010519491231002X"}
    customer = (await butler.post("/api/v1/staff/customers", number)).json()["id"]
    waiting = await world.customer(home.company, "李小红", phones[1])
    await world.occupancy(home.room, waiting, OccupancyKind.FAMILY)
    asked = {"room_id": str(home.room.id), "kind": "tenant", "name": "租客", "phone": phones[2]}
    stranger = await world.resident(home.company)
    await stranger.post("/api/v1/occupancy-requests", asked)

    async def day(bill_id: str) -> None:
        """Search, share a phone, pay: with whatever keys there are."""
        found = await butler.post("/api/v1/staff/customers/search", {"phone": phones[0]})
        assert [one["id"] for one in found.json()["items"]] == [customer], found.text
        assert found.json()["items"][0]["id_number_masked"] == "1****************X"
        member = {"name": "又一次", "phone": phones[1], "kind": "family"}
        twice = await home.owner.post(f"/api/v1/rooms/{home.room.id}/members", member)
        assert twice.json()["code"] == "already_member"
        paid = (await sandbox.pay((await home.open(bill_ids=[bill_id])).json())).json()
        await sandbox.called_back(paid["out_trade_no"])
        await drain()

    def step(ring: Keyring) -> None:
        """A process starts anew: its keys, and nothing remembered."""
        secret.configure(ring)
        payments.configure(payments.merchant.settings())
        forget_tokens(sandbox.base)

    step(ADDED)
    assert await key_rotation.unfit_keys() is None
    early = await butler.post("/api/v1/staff/customers", {"name": "早", "phone": phones[3]})
    step(WRITING)
    assert await key_rotation.unfit_keys() is None
    await day(home.bill_ids[0])
    person = await world.resident(home.company)
    bound = await person.post("/api/v1/auth/phone", {"code": await sandbox.phone_code(person.openid, phones[1])})
    assert [one["room"] for one in bound.json()["bound"]] == ["3栋1单元1201"]  # the register has the old index
    mixed = await _counts()
    assert mixed["residents.phone_cipher"] == {"new"} and mixed["customers.phone_cipher"] == {"test"}
    assert mixed["residents.phone_index"] == {"i2"} and mixed["customers.phone_index"] == {""}
    secret.configure(ADDED)  # a process that was not started anew yet reads what the others write
    resident = await Resident.get(id=person.resident.id)
    assert secret.decrypt(str(resident.phone_cipher), PHONE_CONTEXT) == phones[1]
    assert resident.phone_index in secret.blind_indexes(phones[1], PHONE_CONTEXT)

    secret.configure(WRITING)
    told: list[tuple[str, int]] = []
    rotated, *_ = await asyncio.gather(
        key_rotation.rotate(COMMAND, lambda one, done: told.append((str(one), done))),
        *(butler.post("/api/v1/staff/customers/search", {"phone": phones[0]}) for _ in range(5)),
    )
    assert rotated.unreadable == [] and rotated.changed["customers.phone_cipher"] == 4
    assert ("customers.phone_cipher", 4) in told
    assert set().union(*(await _counts()).values()) == {"new", "i2"}
    assert {one.after["column"] for one in await Audit.filter(act="key.rotate")} >= {
        "merchant_accounts.private_key_cipher", "wechat_apps.secret_cipher", "occupancy_requests.phone_cipher",
    }  # fmt: skip
    assert sum((await key_rotation.rotate(COMMAND, quietly)).changed.values()) == 0  # a second run finds nothing

    step(ALONE)
    assert await key_rotation.unfit_keys() is None
    await day(home.bill_ids[1])
    kept = await Customer.get(id=customer)
    assert secret.decrypt(str(kept.id_number_cipher), ID_NUMBER_CONTEXT) == number["id_number"]
    assert secret.decrypt(str((await Customer.get(id=early.json()["id"])).phone_cipher), PHONE_CONTEXT) == phones[3]
    account = await MerchantAccount.get(id=home.company.merchant.id)
    assert secret.decrypt(account.apiv3_key_cipher, APIV3_KEY_CONTEXT) == home.company.wechat.apiv3_key
    assert (await Occupancy.get(customer_id=waiting.id)).resident_id == person.resident.id
    await books()


async def test_what_somebody_changes_meanwhile_is_not_overwritten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = await world.home(bills=0)
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    newer = world.phone()
    read = key_rotation._left

    async def left(one: Any, after: object) -> list[dict[str, Any]]:
        found = await read(one, after)
        if str(one) == "customers.phone_cipher" and found:
            answer = await butler.patch(f"/api/v1/staff/customers/{home.customer.id}", {"phone": newer})
            assert answer.status_code == 200
        return found

    monkeypatch.setattr(key_rotation, "_left", left)
    secret.configure(WRITING)
    rotated = await key_rotation.rotate(COMMAND, quietly)

    kept = await Customer.get(id=home.customer.id)
    assert rotated.changed["customers.phone_cipher"] == 0
    assert secret.decrypt(str(kept.phone_cipher), PHONE_CONTEXT) == newer
    assert kept.phone_index == secret.blind_index(newer, PHONE_CONTEXT)


async def test_a_value_that_no_key_opens_is_named_and_the_others_go_on(world: World, owner: asyncpg.Connection) -> None:
    home = await world.home(bills=0)
    good = await world.customer(home.company)
    torn = f"UPDATE customers SET phone_cipher = left(phone_cipher, -6) || 'AAAA==' WHERE id = '{home.customer.id}'"
    await owner.execute(torn)
    secret.configure(WRITING)

    rotated = await key_rotation.rotate(COMMAND, quietly)

    assert rotated.unreadable == [f"customers.phone_cipher {home.customer.id}"]
    assert str((await Customer.get(id=good.id)).phone_cipher).startswith("v1.new.")
    with pytest.raises(NotPermitted):
        actor = (await world.staff(home.company, Role.MANAGER)).staff
        await key_rotation.rotate(_as_staff(actor.id), quietly)


def _as_staff(staff_id: Any) -> Any:
    from models.access import Actor, ActorKind

    return Actor(kind=ActorKind.STAFF, id=staff_id, organization_roles=frozenset({Role.MANAGER}))


async def test_keys_that_do_not_fit_are_found_before_anything_is_written(world: World) -> None:
    assert await key_rotation.unfit_keys() is None  # nothing is encrypted yet
    await world.home(bills=0)
    wrong = {
        "customers.phone_cipher has values of key “test”, which LINLI_FIELD_KEYS does not hold":
            Keyring({"other": OLD}, "other", OLD_INDEX),
        "customers.phone_cipher cannot be read: the key “test” of LINLI_FIELD_KEYS is another than the one that wrote":
            Keyring({"test": NEW}, "test", OLD_INDEX),
        "customers.phone_index: the key “” of LINLI_INDEX_KEY is another than the one that wrote":
            Keyring({"test": OLD}, "test", NEW_INDEX),
        "customers.phone_index has values of key “”, which LINLI_INDEX_KEY does not hold":
            Keyring({"test": OLD}, "test", NEW_INDEX, "i2"),
    }  # fmt: skip
    for sentence, ring in wrong.items():
        secret.configure(ring)
        assert await key_rotation.unfit_keys() == sentence
    secret.configure(KEYRING)
    assert await key_rotation.unfit_keys() is None
