"""Crash points: a process ends exactly where it was told to, and nowhere while nobody tells it."""

import subprocess
import sys

import pytest

import jobs.worker  # noqa: F401 - importing declares the units of work
from kit import crash_point
from models.organization import Organization
from models.unit_of_work import unit_of_work, units
from tests.conftest import Database

PASSING = """
import sys
from kit import crash_point
crash_point.arm(sys.argv[1] if len(sys.argv) > 1 else None)
for number in range(1, 5):
    print(number, flush=True)
    crash_point.passing("payments.settle.settle_tx.after_commit")
    crash_point.passing("payments.settle.settle_tx.before_commit")
"""


@pytest.mark.parametrize(
    ("where", "code", "passed"),
    [
        (["payments.settle.settle_tx.after_commit"], 137, 1),
        (["payments.settle.settle_tx.before_commit:3"], 137, 3),
        (["payments.settle.settle_tx.after_commit:9"], 0, 4),
        (["payments.charge.open_payment.after_commit"], 0, 4),
        ([], 0, 4),
    ],
)
def test_a_process_ends_at_the_passage_it_was_told(where: list[str], code: int, passed: int) -> None:
    ended = subprocess.run([sys.executable, "-c", PASSING, *where], capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stdout.split()) == (code, [str(number) for number in range(1, passed + 1)])
    assert ended.stderr == (f"crash point {where[0].partition(':')[0]}\n" if code else "")


@pytest.mark.parametrize("text", ["", "settle", "settle.after_commit:0", "settle.after_commit:-1", "a b.after_commit"])
def test_text_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="crash point is written as"):
        crash_point.arm(text)


async def test_each_commit_has_one_before_and_one_after(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    @unit_of_work
    async def work() -> None:
        await Organization.create(name="a")

    monkeypatch.setattr(crash_point, "passing", seen.append)
    await work()

    place = f"{__name__}.test_each_commit_has_one_before_and_one_after.<locals>.work"
    assert seen == [f"{place}.before_commit", f"{place}.after_commit"]
    assert place in units()


async def test_before_the_commit_nothing_is_there_and_after_it_everything(
    database: Database, owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    @unit_of_work
    async def work() -> None:
        await Organization.create(name="a")

    class Ended(Exception):
        pass

    def end_at(moment: str) -> None:
        def passing(name: str) -> None:
            if name.endswith(moment):
                raise Ended

        monkeypatch.setattr(crash_point, "passing", passing)

    counts = []
    for moment in ("before_commit", "after_commit"):
        end_at(moment)
        with pytest.raises(Ended):
            await work()
        counts.append(await owner.fetchval("SELECT count(*) FROM organizations"))
    assert counts == [0, 1]


@pytest.mark.parametrize(
    ("method", "target", "place"),
    [
        ("POST", "/v3/pay/transactions/jsapi", "POST.jsapi"),
        ("POST", "/v3/pay/partner/transactions/jsapi", "POST.jsapi"),
        ("GET", "/v3/pay/transactions/out-trade-no/L20261123ABC?mchid=1900000001", "GET.out-trade-no"),
        ("POST", "/v3/pay/transactions/out-trade-no/L20261123ABC/close", "POST.close"),
        ("GET", "/v3/certificates", "GET.certificates"),
        ("GET", "/v3/refund/domestic/refunds/R2026?sub_mchid=1", "GET.refunds"),
    ],
)
def test_a_call_is_named_by_its_method_and_the_last_word_of_its_path(method: str, target: str, place: str) -> None:
    assert crash_point.place_of_call("wechat_pay", method, target) == f"wechat_pay.{place}"
