"""Killed in the middle: a handful of places here, two hundred kills in ``tests/slow/test_kill.py``."""

import inspect
import re
import shutil
from pathlib import Path

import pytest

import jobs.worker  # noqa: F401 - importing declares the units of work
import payments
from models.unit_of_work import units
from payments.gateways.base import Gateway
from tests.conftest import Database
from tests.siege import CALLS, COMMITS, Plan, Town
from tests.siege_stories import STORIES

# Units of work of the money that no household's day comes by, each with the reason.
_CATCHING_UP = "after a restore: tests/test_restore.py"
_REFUSED = "a refund that WeChat refuses or a person takes back: tests/test_refund.py"
_BY_STAFF = "one transaction that a clerk repeats: tests/test_refund_bill.py, tests/test_refund_by_hand.py"
_RECONCILED = "the comparison of a morning, which takes no payment's way: tests/test_reconciliation.py"
ELSEWHERE = {
    "payments.catch_up._begin": _CATCHING_UP,
    "payments.catch_up._ask_again": _CATCHING_UP,
    "payments.catch_up._claim_day": _CATCHING_UP,
    "payments.catch_up._decide": _CATCHING_UP,
    "payments.catch_up._finish": _CATCHING_UP,
    "payments.catch_up._open_case": _CATCHING_UP,
    "payments.refund._note_trouble": _REFUSED,
    "payments.refund._commit_retry": _REFUSED,
    "payments.refund._commit_cancel": _REFUSED,
    "payments.refund_approval._commit_approval": _BY_STAFF,
    "payments.refund_by_hand._commit_change": _BY_STAFF,
    "payments.refund_by_hand._commit_pay_out": _BY_STAFF,
    "payments.refund_foreign._enter": _BY_STAFF,
    "payments.refund_foreign.record_foreign_refund": "made by hand at WeChat's site: tests/test_refund_rules.py",
    "payments.reconcile._read": _RECONCILED,
    "payments.reconcile._refuse": _RECONCILED,
    "payments.reconcile_day._claim": _RECONCILED,
    "payments.reconcile_day._decide": _RECONCILED,
    "payments.reconcile_day._look_later": _RECONCILED,
    "payments.reconcile_day._make_days": _RECONCILED,
    "payments.reconcile_day._missing_on_a_quiet_day": _RECONCILED,
    "payments.reconcile_follow.place": _RECONCILED,
    "payments.statement._keep": _RECONCILED,
}
CALL_OF = {
    "open_order": "wechat_pay.POST.jsapi",
    "ask": "wechat_pay.GET.out-trade-no",
    "close_order": "wechat_pay.POST.close",
    "certificates": "wechat_pay.GET.certificates",
    "refund": "wechat_pay.POST.refunds",
    "ask_refund": "wechat_pay.GET.refunds",
}


def units_of_the_money() -> set[str]:
    """What is declared as a unit of work in payments/, and what is made one where it is called."""
    # A test of the gateways wraps their calls, to see them refused inside a transaction: those are no units of ours.
    own = {unit for unit in units() if unit.startswith("payments.") and ".gateways." not in unit}
    declared = {unit for unit in own if not unit.endswith("_tx")}
    made = {f"payments.{path.stem}.{name}" for path in Path(payments.__path__[0]).glob("*.py")
            for name in re.findall(r"unit_of_work\((\w+)\)\(", path.read_text())}  # fmt: skip
    return declared | made


def test_every_commit_and_every_call_of_the_money_is_a_place_to_be_killed_at() -> None:
    places = {place for place in COMMITS if place.startswith("payments.")}
    assert units_of_the_money() == places | set(ELSEWHERE)
    assert set(COMMITS) - places <= set(units())
    calls = {name for name, method in vars(Gateway).items() if inspect.iscoroutinefunction(method)}
    files = {
        "bill_file",
        "trade_bill",
    }  # a day's bills are read in the morning and after a restore, never while somebody pays
    assert set(CALL_OF) | files == calls
    assert set(CALL_OF.values()) <= set(CALLS)


HANDFUL = [
    ("serve", "payments.charge._commit_intent.after_commit"),
    ("serve", "wechat_pay.POST.jsapi.after_call"),
    ("serve", "payments.settle.settle_tx.after_commit"),
    ("worker", "payments.sweeping._claim.after_commit"),
    ("worker", "payments.receipt.issue_receipt.after_commit"),
    ("serve", "blind"),
]


@pytest.mark.row("killed anywhere in between")
async def test_a_handful_of_kills_costs_nothing(database: Database, wechat_state: Path, tmp_path: Path) -> None:
    shutil.copy(wechat_state, tmp_path / "sandbox.db")
    plan = Plan(1, 0, HANDFUL, patience_s=15)

    async with Town(database, tmp_path, STORIES, 1, ["in a hurry"]).standing(households=6) as town:
        await town.besieged(plan)

    assert sorted(plan.done) == sorted(HANDFUL)
