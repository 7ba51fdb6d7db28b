"""Imports at the same moment: the races made on purpose."""

import asyncio
import contextvars
from datetime import date
from typing import Any

import pytest

import payments
from models.bill import Bill, BillImport
from models.unit_of_work import unit_of_work
from services import bill_import
from services.bill_import import BillImportHasErrors, commit_import
from tests.bill_town import GOOD, SYSTEM, csv_of, town
from tests.world import Home, World


async def test_two_commits_of_one_file_at_once_import_it_once(world: World) -> None:
    home = await town(world)
    content = csv_of(GOOD)
    done = await asyncio.gather(*(commit_import(SYSTEM, home.community.id, "a.csv", content) for _ in range(6)))
    assert len({one.id for one in done}) == 1
    assert sum(not one.already_imported for one in done) == 1
    assert (await Bill.all().count(), await BillImport.all().count()) == (1, 1)


async def test_two_files_with_the_same_bill_at_once(world: World) -> None:
    home = await town(world)
    files = [csv_of(GOOD, *[""] * blank) for blank in range(5)]
    done = await asyncio.gather(*(commit_import(SYSTEM, home.community.id, "a.csv", one) for one in files))
    assert sorted(one.bill_count for one in done) == [0, 0, 0, 0, 1]
    assert (await Bill.all().count(), await BillImport.all().count()) == (1, 5)


@pytest.mark.parametrize("amount_fen, outcome", [(25068, "refused"), (None, "imported")])
async def test_a_bill_issued_while_the_file_is_imported(
    world: World, monkeypatch: pytest.MonkeyPatch, amount_fen: int | None, outcome: str
) -> None:
    """Somebody issues the same bill after the import has looked and before it writes. The unique rule stops the
    import, which looks again: a bill that differs is an error then, and nothing of the file stays."""
    home = await town(world)
    item = await world.fee_item(home.company, home.community, "物业费")
    original = bill_import.issue_bills_tx
    rivals = [amount_fen]

    async def with_a_rival(*arguments: Any) -> Any:
        if rivals and (fen := rivals.pop()):
            # A connection of its own, committed at once.
            await asyncio.create_task(_rival(world, home, item, fen))
        return await original(*arguments)

    monkeypatch.setattr(bill_import, "issue_bills_tx", with_a_rival)
    content = csv_of(GOOD, "3栋1单元1204,物业费,2026-11,,,,9.90,2026-12-10,,,")
    if outcome == "imported":
        assert (await commit_import(SYSTEM, home.community.id, "a.csv", content)).bill_count == 2
        return
    with pytest.raises(BillImportHasErrors) as refused:
        await commit_import(SYSTEM, home.community.id, "a.csv", content)
    assert [one["code"] for one in refused.value.facts["errors"]] == ["bill_exists_differs"]
    assert (await Bill.all().count(), await BillImport.all().count()) == (1, 0)


async def _rival(world: World, home: Home, item: Any, fen: int) -> None:
    new = payments.NewBill(
        community_id=home.community.id,
        room_id=home.room.id,
        customer_id=home.customer.id,
        subject_kind="room",
        subject_id=home.room.id,
        purpose=f"{item.code}:2026-11",
        title="2026年11月物业费",
        accrued_on=date(2026, 11, 30),
        due_on=date(2026, 12, 31),
        lines=[payments.NewLine(item.id, "物业费", fen)],
    )
    issue = unit_of_work(payments.issue_bill_tx)
    await contextvars.Context().run(asyncio.create_task, issue(SYSTEM, new))


async def test_without_the_turns_the_unique_rule_still_lets_one_through(
    world: World, monkeypatch: pytest.MonkeyPatch, books: Any
) -> None:
    """The race on purpose: imports do not take turns, and all have looked before any writes. The database lets one
    through; the others look again, and find that the file is in."""
    home = await town(world)
    together = 4
    looked, everybody = asyncio.Barrier(together), iter(range(together))
    original = bill_import.load_overlaps

    async def look(*arguments: Any) -> Any:
        found = await original(*arguments)
        if next(everybody, None) is not None:
            await looked.wait()
        return found

    monkeypatch.setattr(bill_import, "load_overlaps", look)
    monkeypatch.setattr(bill_import, "_LOCK", "SELECT $1::uuid")
    work = [commit_import(SYSTEM, home.community.id, "a.csv", csv_of(GOOD)) for _ in range(together)]
    done = await asyncio.gather(*work)
    assert next(everybody, None) is None, "all of them looked before any wrote"
    assert [one.already_imported for one in done].count(False) == 1 and len({one.id for one in done}) == 1
    assert (await Bill.all().count(), await BillImport.all().count()) == (1, 1)
