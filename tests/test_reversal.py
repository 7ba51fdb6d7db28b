"""红冲: the mirror image of an entry posted by hand, once, by a second person."""

import asyncio
from typing import Any

import asyncpg
import pytest

import payments
from kit import clock
from models.access import Role
from models.ledger import Entry, EntryKind
from models.reversal import Reversal
from payments.reversal import REVERSIBLE
from tests.conftest import Drain, SandboxControl
from tests.finance_town import FINANCE, paid
from tests.test_closed_period import post_by_hand
from tests.world import Person, World, unknown_id


async def ask(person: Person, number: int, reason: str = "录错了", **options: Any) -> Any:
    return await person.post(f"{FINANCE}/reversals", {"entry_number": number, "reason": reason}, **options)


async def decide(person: Person, asked: dict[str, Any], word: str = "approve") -> Any:
    return await person.post(f"{FINANCE}/reversals/{asked['id']}/{word}")


async def test_what_was_posted_by_hand_is_reversed_once(
    world: World, sandbox: SandboxControl, drain: Drain, books: Any, owner: asyncpg.Connection
) -> None:
    home = await world.home()
    await paid(home, sandbox, drain, home.bills[0])
    payment = await Entry.get()
    await post_by_hand(owner, payment, clock.now(), unknown_id())
    wrong = await Entry.get(kind=EntryKind.ADJUSTMENT)
    first = await world.staff(home.company, Role.FINANCE, home.community)
    second = await world.staff(home.company, Role.FINANCE)

    asked = (await ask(first, wrong.id, key="once")).json()
    assert (asked["status"], asked["entry_number"]) == ("asked", wrong.id)
    assert (await ask(first, wrong.id, key="once")).json() == asked
    assert (await ask(second, wrong.id)).json()["code"] == "entry_reversed"
    assert await Entry.all().count() == 2  # asking posts nothing
    own = await decide(first, asked)
    assert (own.status_code, own.json()["code"]) == (409, "second_person_needed")
    declined = await decide(second, asked, "decline")
    assert declined.json()["status"] == "declined" and await Entry.all().count() == 2

    asked = (await ask(second, wrong.id)).json()  # a declined one makes room
    posted = await decide(first, asked)
    assert (posted.json()["status"], posted.json()["decided_by_staff_id"]) == ("posted", str(first.staff.id))
    mirror = await Entry.get(kind=EntryKind.REVERSAL)
    assert (mirror.debit_account_id, mirror.credit_account_id, mirror.amount_fen, str(mirror.source_id)) == (
        wrong.credit_account_id, wrong.debit_account_id, 77, asked["id"])  # fmt: skip
    assert mirror.posted_on == clock.today()
    for word in ("approve", "decline"):
        assert (await decide(first, asked, word)).json()["code"] == "move_not_allowed"
    assert (await ask(first, wrong.id)).json()["code"] == "entry_reversed"
    for entry in (payment, mirror):
        refused = await ask(first, entry.id)
        assert (refused.status_code, refused.json()["code"]) == (409, "entry_not_reversible")
    assert await Entry.all().count() == 3
    listed = (await first.get(f"{FINANCE}/reversals?community_id={home.community.id}")).json()["items"]
    assert [one["status"] for one in listed] == ["posted", "declined"]
    journal = (await first.get(f"/api/v1/staff/communities/{home.community.id}/entries")).json()["items"]
    assert [one["kind"] for one in journal] == ["reversal", "adjustment", "payment"]
    await _walls(world, home, wrong, asked)
    await _the_invariant_bites(owner, mirror)


async def _walls(world: World, home: Any, wrong: Entry, asked: dict[str, Any]) -> None:
    stranger = await world.staff(await world.company(2), Role.FINANCE)
    unknown = await ask(stranger, 2**40)
    theirs = await ask(stranger, wrong.id)
    assert theirs.status_code == unknown.status_code == 404 and theirs.json() == unknown.json()
    assert (await decide(stranger, asked)).status_code == 404
    auditor = await world.staff(home.company, Role.AUDITOR)
    assert (await ask(auditor, wrong.id)).status_code == (await decide(auditor, asked)).status_code == 403
    for number in (0, -1, 2**63, "1", 1.5, None):
        assert (await ask(auditor, number)).status_code == 422, number  # type: ignore[arg-type]


async def _the_invariant_bites(owner: asyncpg.Connection, mirror: Entry) -> None:
    (truth,) = [one for one in payments.INVARIANTS if one.number == "L41"]
    for change in ("amount_fen = 78", "debit_account_id = credit_account_id, credit_account_id = debit_account_id"):
        broken = owner.transaction()
        await broken.start()
        await owner.execute("ALTER TABLE entries DISABLE TRIGGER append_only")
        await owner.execute(f"UPDATE entries SET {change} WHERE id = $1", mirror.id)
        assert len(await owner.fetch(truth.sql)) == 1, change
        await broken.rollback()
    assert await owner.fetch(truth.sql) == []


async def test_two_who_approve_at_once_post_one(
    world: World, sandbox: SandboxControl, drain: Drain, owner: Any
) -> None:
    home = await world.home()
    await paid(home, sandbox, drain, home.bills[0])
    await post_by_hand(owner, await Entry.get(), clock.now(), unknown_id())
    wrong = await Entry.get(kind=EntryKind.ADJUSTMENT)
    people = [await world.staff(home.company, Role.FINANCE) for _ in range(3)]
    both = await asyncio.gather(*(ask(one, wrong.id) for one in people[:2]))
    assert sorted(one.status_code for one in both) == [201, 409]
    asked = next(one.json() for one in both if one.status_code == 201)
    others = [one for one in people if str(one.staff.id) != asked["asked_by_staff_id"]]
    both = await asyncio.gather(*(decide(one, asked) for one in others))
    assert sorted(one.status_code for one in both) == [200, 409]
    assert await Entry.filter(kind=EntryKind.REVERSAL).count() == await Reversal.all().count() == 1


@pytest.mark.parametrize("kind", EntryKind)
def test_only_what_was_posted_by_hand_is_reversible(kind: EntryKind) -> None:
    assert (kind in REVERSIBLE) is (kind is EntryKind.ADJUSTMENT)
