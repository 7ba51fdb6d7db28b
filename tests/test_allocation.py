"""How money is spread over bills and their lines."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.ids import new_id
from payments.allocation import BillDue, LineDue, Share, spread

CASES = {
    case["id"]: case["expected"]
    for case in json.loads((Path(__file__).parent / "data" / "fees.json").read_text())["cases"]
}


def bill(*dues: int, meant: int | None = None) -> BillDue:
    return BillDue(new_id(), sum(dues) if meant is None else meant, [LineDue(new_id(), due) for due in dues])


BILLS = st.lists(
    st.builds(
        lambda dues, more: bill(*dues, meant=max(sum(dues) + more, 0)),
        st.lists(st.integers(0, 100_000), min_size=0, max_size=5),
        st.integers(-60_000, 60_000) | st.just(0),
    ),
    max_size=6,
)


@given(st.integers(0, 1_000_000), BILLS)
def test_every_fen_goes_somewhere_and_nowhere_too_many(amount: int, bills: list[BillDue]) -> None:
    shares, surplus = spread(amount, bills)
    assert sum(share.amount_fen for share in shares) + surplus == amount and surplus >= 0
    assert all(share.amount_fen > 0 for share in shares)
    due = {(one.bill_id, line.line_id): line.due_fen for one in bills for line in one.lines}
    assert all(share.amount_fen <= due[share.bill_id, share.line_id] for share in shares)
    assert len({share.line_id for share in shares}) == len(shares)
    for one in bills:
        given_fen = sum(share.amount_fen for share in shares if share.bill_id == one.bill_id)
        assert given_fen <= one.meant_fen
    assert spread(amount, bills) == (shares, surplus)


@given(st.integers(0, 1_000_000), BILLS)
def test_money_goes_in_order_and_what_comes_later_gets_nothing_before_the_earlier_is_full(
    amount: int, bills: list[BillDue]
) -> None:
    shares, surplus = spread(amount, bills)
    given_to = {share.line_id: share.amount_fen for share in shares}
    lines = [line.line_id for one in bills for line in one.lines]
    assert [share.line_id for share in shares] == [line for line in lines if line in given_to]
    left = amount
    for one in bills:
        for_bill = min(left, one.meant_fen)
        for line in one.lines:
            assert given_to.get(line.line_id, 0) == min(for_bill, line.due_fen)
            for_bill -= given_to.get(line.line_id, 0)
            left -= given_to.get(line.line_id, 0)
    assert left == surplus


def open_after(amount: int, *bills: BillDue) -> list[int]:
    shares, _ = spread(amount, bills)
    return [
        sum(line.due_fen for line in one.lines) - sum(s.amount_fen for s in shares if s.bill_id == one.bill_id)
        for one in bills
    ]


def test_f042_the_oldest_bill_first() -> None:
    january, february, march = bill(25068), bill(25068), bill(25068)
    expected = CASES["F042"]
    assert open_after(50000, january, february, march) == [expected["jan"], expected["feb"], expected["mar"]]
    assert spread(50000, [january, february, march])[1] == expected["balance"]


def test_f043_the_late_fee_before_the_principal() -> None:
    late_fee, principal = LineDue(new_id(), 1391), LineDue(new_id(), 29000)
    one = BillDue(new_id(), 30391, [late_fee, principal])
    shares, surplus = spread(30000, [one])
    assert shares == [Share(one.bill_id, late_fee.line_id, 1391), Share(one.bill_id, principal.line_id, 28609)]
    assert (1391 - 1391, 29000 - 28609) == (CASES["F043"]["late_left"], CASES["F043"]["principal_left"])
    assert surplus == 0


@pytest.mark.parametrize(
    ("amount", "bills", "amounts", "surplus"),
    [
        (100, [], [], 100),
        (100, [bill(100)], [100], 0),
        (101, [bill(100)], [100], 1),
        (100, [bill(0)], [], 100),
        (0, [bill(100)], [], 0),
        (100, [bill(30, 0, 80)], [30, 70], 0),
        (100, [bill(60, meant=40), bill(60)], [40, 60], 0),  # a bill gets what was meant for it, not more
        (150, [bill(60, meant=40), bill(60)], [40, 60], 50),
        (100, [bill(60, meant=0), bill(10)], [10], 90),  # voided meanwhile
        (100, [bill(20, meant=90)], [20], 80),  # part of it was paid otherwise meanwhile
    ],
)
def test_spreads(amount: int, bills: list[BillDue], amounts: list[int], surplus: int) -> None:
    shares, left = spread(amount, bills)
    assert ([share.amount_fen for share in shares], left) == (amounts, surplus)
