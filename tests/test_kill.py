"""Killed in the middle: a handful of places here, two hundred kills in ``tests/slow/test_kill.py``."""

import inspect
import shutil
from pathlib import Path

import pytest

import jobs.worker  # noqa: F401 - importing declares the units of work
from models.unit_of_work import units
from payments.gateways.base import Gateway
from tests.conftest import Database
from tests.siege import CALLS, COMMITS, Plan, Town

# Units of work of the money that no household's day comes by, each with the reason.
ELSEWHERE: dict[str, str] = {}
CALL_OF = {
    "open_order": "wechat_pay.POST.jsapi",
    "ask": "wechat_pay.GET.out-trade-no",
    "close_order": "wechat_pay.POST.close",
    "certificates": "wechat_pay.GET.certificates",
}


def test_every_commit_and_every_call_of_the_money_is_a_place_to_be_killed_at() -> None:
    # a function that ends in _tx is no unit of work but part of one; a builder of the tests makes it one for itself
    assert {unit for unit in units() if unit.startswith("payments.") and not unit.endswith("_tx")} == {
        place for place in COMMITS if place.startswith("payments.")
    } | set(ELSEWHERE)
    assert set(COMMITS) <= set(units())
    assert set(CALL_OF) == {name for name, method in vars(Gateway).items() if inspect.iscoroutinefunction(method)}
    assert set(CALL_OF.values()) <= set(CALLS)


HANDFUL = [
    ("serve", "payments.charge._commit_intent.after_commit"),
    ("serve", "wechat_pay.POST.jsapi.after_call"),
    ("serve", "payments.settle.settle.after_commit"),
    ("worker", "payments.janitor._claim.after_commit"),
    ("worker", "payments.receipt.issue_receipt.after_commit"),
    ("serve", "blind"),
]


@pytest.mark.row("killed anywhere in between")
async def test_a_handful_of_kills_costs_nothing(database: Database, wechat_state: Path, tmp_path: Path) -> None:
    shutil.copy(wechat_state, tmp_path / "sandbox.db")
    plan = Plan(1, 0, HANDFUL, patience_s=15)

    async with Town(database, tmp_path, 1, ["in a hurry"]).standing(households=6) as town:
        await town.besieged(plan)

    assert sorted(plan.done) == sorted(HANDFUL)
