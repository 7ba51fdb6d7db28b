"""Money: rounding, sharing, reading, writing. The worked fees are in ``data/fees.json``; each names its rule."""

import json
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.money import (
    MAX_FEN,
    Rounding,
    RoundingUnit,
    chinese_capitals,
    format_yuan,
    parse_yuan,
    round_to_fen,
    split,
)

CASES = {case["id"]: case for case in json.loads((Path(__file__).parent / "data" / "fees.json").read_text())["cases"]}
MONTH = Decimal("89.53") * Decimal("2.80")  # the case file's usual room: 250.684 yuan a month
DAILY = Decimal("0.0005")


def _owner_change() -> dict[str, int]:
    seller = round_to_fen(Decimal("250.68") * 11 / 31)
    return {"seller": seller, "buyer": 25068 - seller}


def _vat_inside() -> dict[str, int]:
    net = round_to_fen(Decimal("250.68") / Decimal("1.06"))
    return {"net": net, "tax": 25068 - net}


WORKED: dict[str, Callable[[], Any]] = {
    "F001": lambda: round_to_fen(MONTH),
    "F002": lambda: round_to_fen(MONTH, unit=RoundingUnit.JIAO),
    "F004": lambda: round_to_fen(Decimal("50.50") * Decimal("1.25")),
    "F005": lambda: round_to_fen(Decimal("66.30") * Decimal("1.05")),
    "F008": lambda: round_to_fen((1285 - 1263 + 9 - 0) * Decimal("3.60")),
    "F010": lambda: round_to_fen(MONTH * 20 / 29),
    "F014": lambda: round_to_fen(3 * MONTH),
    "F015": lambda: 3 * round_to_fen(MONTH),
    "F016": _owner_change,
    "F021": lambda: round_to_fen(Decimal("752.05") * DAILY * 37),
    "F026": lambda: round_to_fen((1000 * DAILY * 10) + (600 * DAILY * 10)),
    "F028": lambda: round_to_fen(Decimal("5.00") * DAILY * 30),
    "F032": lambda: round_to_fen(Decimal(10 * 5 + 15 * 7)),
    "F037": lambda: split(100000, [Decimal(area) for area in ("89.53", "120.10", "75.00", "101.37")]),
    "F050": _vat_inside,
}
ELSEWHERE = {
    "F042": "tests/test_allocation.py",
    "F043": "tests/test_allocation.py",
    "F062": "no line for nothing: a rule of the bill run",
}


def test_every_worked_fee_is_tried_somewhere() -> None:
    assert set(WORKED) | set(ELSEWHERE) == set(CASES)


@pytest.mark.parametrize("case", WORKED)
def test_a_worked_fee(case: str) -> None:
    assert WORKED[case]() == CASES[case]["expected"]


@pytest.mark.parametrize(
    ("yuan", "rounding", "unit", "fen"),
    [
        ("0.005", Rounding.HALF_UP, RoundingUnit.FEN, 1),
        ("0.0049999", Rounding.HALF_UP, RoundingUnit.FEN, 0),
        ("0.015", Rounding.HALF_UP, RoundingUnit.FEN, 2),
        ("0.025", Rounding.HALF_UP, RoundingUnit.FEN, 3),
        ("-0.005", Rounding.HALF_UP, RoundingUnit.FEN, -1),
        ("63.125", Rounding.HALF_UP, RoundingUnit.FEN, 6313),
        ("0.001", Rounding.UP, RoundingUnit.FEN, 1),
        ("0.01", Rounding.UP, RoundingUnit.FEN, 1),
        ("0.0199", Rounding.DOWN, RoundingUnit.FEN, 1),
        ("250.684", Rounding.UP, RoundingUnit.FEN, 25069),
        ("250.684", Rounding.DOWN, RoundingUnit.FEN, 25068),
        ("250.65", Rounding.HALF_UP, RoundingUnit.JIAO, 25070),
        ("250.64", Rounding.HALF_UP, RoundingUnit.JIAO, 25060),
        ("250.61", Rounding.UP, RoundingUnit.JIAO, 25070),
        ("250.69", Rounding.DOWN, RoundingUnit.JIAO, 25060),
        ("250.50", Rounding.HALF_UP, RoundingUnit.YUAN, 25100),
        ("250.49", Rounding.HALF_UP, RoundingUnit.YUAN, 25000),
        ("250.01", Rounding.UP, RoundingUnit.YUAN, 25100),
        ("250.99", Rounding.DOWN, RoundingUnit.YUAN, 25000),
        ("0", Rounding.UP, RoundingUnit.YUAN, 0),
        ("100000000000", Rounding.HALF_UP, RoundingUnit.FEN, MAX_FEN),
    ],
)
def test_rounding(yuan: str, rounding: Rounding, unit: RoundingUnit, fen: int) -> None:
    assert round_to_fen(Decimal(yuan), rounding, unit) == fen


@given(st.decimals("-1000000", "1000000", places=6), st.sampled_from(Rounding), st.sampled_from(RoundingUnit))
def test_rounding_moves_less_than_one_unit_and_never_the_wrong_way(
    yuan: Decimal, rounding: Rounding, unit: RoundingUnit
) -> None:
    step = {RoundingUnit.FEN: 1, RoundingUnit.JIAO: 10, RoundingUnit.YUAN: 100}[unit]
    fen = round_to_fen(yuan, rounding, unit)
    moved = fen - Fraction(yuan) * 100
    assert isinstance(fen, int) and fen % step == 0
    if rounding is Rounding.UP:
        assert 0 <= moved < step
    elif rounding is Rounding.DOWN:
        assert -step < moved <= 0
    else:
        assert abs(moved) <= Fraction(step, 2)


AREAS = st.lists(st.decimals("0", "100000", places=2), min_size=1, max_size=40).filter(any)


@given(st.integers(-(10**12), 10**12), AREAS)
def test_a_split_keeps_the_sum_and_gives_everybody_their_share_to_the_fen(total: int, weights: list[Decimal]) -> None:
    parts = split(total, weights)
    whole = sum(Fraction(weight) for weight in weights)
    assert sum(parts) == total and len(parts) == len(weights)
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - total * Fraction(weight) / whole) < 1
        assert weight or part == 0
    assert split(-total, weights) == [-part for part in parts]


@given(st.integers(0, 10**9), AREAS)
def test_a_split_gives_the_larger_weight_never_less_and_ties_to_the_earlier(total: int, weights: list[Decimal]) -> None:
    parts = split(total, weights)
    for earlier in range(len(weights)):
        for later in range(earlier + 1, len(weights)):
            if weights[earlier] >= weights[later]:
                assert parts[earlier] >= parts[later]
            else:
                assert parts[earlier] <= parts[later]


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [
        (100, [1, 1, 1], [34, 33, 33]),
        (101, [1, 1, 1], [34, 34, 33]),
        (-100, [1, 1, 1], [-34, -33, -33]),
        (1, [1, 1, 1], [1, 0, 0]),
        (0, [1, 2], [0, 0]),
        (10, [0, 1, 0], [0, 10, 0]),
        (5, [Decimal("0.1"), Decimal("0.2"), Decimal("0.3")], [1, 2, 2]),
        (7, [Decimal("1E+3"), Decimal("1E-3")], [7, 0]),
    ],
)
def test_splits(total: int, weights: list[Any], parts: list[int]) -> None:
    assert split(total, weights) == parts


@pytest.mark.parametrize("weights", [[], [0], [0, 0], [-1], [2, -1], [Decimal("-0.01"), 1]])
def test_a_split_needs_weights(weights: list[Any]) -> None:
    with pytest.raises(ValueError, match="non-negative with a positive sum"):
        split(100, weights)


@given(st.integers(-MAX_FEN, MAX_FEN).filter(lambda fen: abs(fen) < MAX_FEN))
def test_what_is_written_reads_the_same(fen: int) -> None:
    assert parse_yuan(format_yuan(fen)) == fen


@pytest.mark.parametrize(
    ("text", "fen"),
    [
        ("0", 0), ("1250.5", 125050), ("0.01", 1), ("-3.20", -320), ("1,250.50", 125050), ("￥89.53", 8953),
        ("¥1", 100), (" 12 ", 1200),
        ("99999999999.99", 9999999999999), ("007", 700),
    ],
)  # fmt: skip
def test_reading_yuan(text: str, fen: int) -> None:
    assert parse_yuan(text) == fen


@pytest.mark.parametrize(
    "text",
    ["", " ", "¥", "-", ".", "1.", ".5", "1.234", "1e3", "NaN", "Infinity", "--1", "+1", "1.2.3", "12元", "一百",
     "1_000", "0x10", "100000000000", "1 000"],
)  # fmt: skip
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount in yuan"):
        parse_yuan(text)


@pytest.mark.parametrize(
    ("fen", "text"), [(0, "0.00"), (1, "0.01"), (-1, "-0.01"), (25068, "250.68"), (100, "1.00"), (-12345, "-123.45")]
)
def test_writing_yuan(fen: int, text: str) -> None:
    assert format_yuan(fen) == text


# The first six amounts are the examples of 《正确填写票据和结算凭证的基本规定》.
# Where it leaves a 零 or a 整 free, one way is chosen: 整 after 角, no 零 between a full 元 (or 万) and what follows.
CAPITALS = {
    "1409.50": "壹仟肆佰零玖元伍角整",
    "6007.14": "陆仟零柒元壹角肆分",
    "1680.32": "壹仟陆佰捌拾元叁角贰分",
    "107000.53": "壹拾万柒仟元伍角叁分",
    "16409.02": "壹万陆仟肆佰零玖元零贰分",
    "325.04": "叁佰贰拾伍元零肆分",
    "0.00": "零元整",
    "0.01": "壹分",
    "0.10": "壹角整",
    "0.99": "玖角玖分",
    "1.00": "壹元整",
    "1.05": "壹元零伍分",
    "10.00": "壹拾元整",
    "11.00": "壹拾壹元整",
    "20.20": "贰拾元贰角整",
    "100.00": "壹佰元整",
    "101.01": "壹佰零壹元零壹分",
    "110.00": "壹佰壹拾元整",
    "250.68": "贰佰伍拾元陆角捌分",
    "1000.00": "壹仟元整",
    "1001.00": "壹仟零壹元整",
    "1010.10": "壹仟零壹拾元壹角整",
    "1100.00": "壹仟壹佰元整",
    "9999.99": "玖仟玖佰玖拾玖元玖角玖分",
    "10000.00": "壹万元整",
    "10001.00": "壹万零壹元整",
    "10100.00": "壹万零壹佰元整",
    "11000.00": "壹万壹仟元整",
    "100000.00": "壹拾万元整",
    "100001.00": "壹拾万零壹元整",
    "1000000.00": "壹佰万元整",
    "10010000.00": "壹仟零壹万元整",
    "10000001.00": "壹仟万零壹元整",
    "20304050.60": "贰仟零叁拾万肆仟零伍拾元陆角整",
    "100000000.00": "壹亿元整",
    "100000001.00": "壹亿零壹元整",
    "100010000.00": "壹亿零壹万元整",
    "100001000.00": "壹亿零壹仟元整",
    "110000000.00": "壹亿壹仟万元整",
    "100000000000.00": "壹仟亿元整",
    "10000000000.01": "壹佰亿元零壹分",
}


@pytest.mark.parametrize(("yuan", "words"), CAPITALS.items())
def test_capitals(yuan: str, words: str) -> None:
    assert chinese_capitals(int(Decimal(yuan) * 100)) == words


def read_capitals(words: str) -> int:
    """Reads 人民币大写 the way a person adds it up; knows nothing of how it was written."""
    digits, places = "零壹贰叁肆伍陆柒捌玖", {"拾": 10, "佰": 100, "仟": 1000}
    fen = total = group = digit = 0
    for sign in words.removesuffix("整"):
        if sign in digits:
            digit = digits.index(sign)
        elif sign in places:
            group, digit = group + digit * places[sign], 0
        elif sign in "万亿":
            total, group, digit = total + (group + digit) * (10**4 if sign == "万" else 10**8), 0, 0
        elif sign == "元":
            fen, total, group, digit = (total + group + digit) * 100, 0, 0, 0
        elif sign in "角分":
            fen, digit = fen + digit * (10 if sign == "角" else 1), 0
        else:
            raise AssertionError(f"{sign} does not belong into an amount")
    assert total == group == digit == 0, "an amount breaks off"
    return fen


AMOUNTS = st.integers(0, MAX_FEN) | st.builds(
    lambda digit, power, more: min(digit * 10**power + more, MAX_FEN),
    st.integers(1, 9),
    st.integers(0, 12),
    st.integers(0, 200) | st.sampled_from([10**5, 10**6, 10**8]),
)


@given(AMOUNTS)
def test_capitals_read_back(fen: int) -> None:
    words = chinese_capitals(fen)
    assert read_capitals(words) == fen
    assert ("零零" not in words and not words.startswith("零")) or fen == 0
    assert words.endswith("分") if fen % 10 else words.endswith("整")
    for wrong in ("零拾", "零佰", "零仟", "零万", "零亿", "零角", "零分", "亿万", "零整"):
        assert wrong not in words
    assert fen == 0 or "零元" not in words


@pytest.mark.parametrize("fen", [-1, MAX_FEN + 1])
def test_capitals_beyond_their_range(fen: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        chinese_capitals(fen)
