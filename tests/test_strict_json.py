"""JSON from outside. What is refused is refused as MalformedJson or JsonTooDeep, whatever the bytes."""

import json
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import JsonTooDeep, MalformedJson, Refusal
from kit.strict_json import MAX_DEPTH, loads


@pytest.mark.parametrize(
    "raw",
    [
        b"", b" ", b"{", b"}", b"[1,]", b'{"a":1,}', b"{a:1}", b"{'a':1}", b"01", b"+1", b".5", b"1.", b"1 2", b"nul",
        b'"', b'"\\', b'"\\x"', b'"\n"', b"\xef\xbb\xbf{}", b"// no\n1", b"[}", b"{]",
    ],
)  # fmt: skip
def test_syntax(raw: bytes) -> None:
    with pytest.raises(MalformedJson):
        loads(raw)


@pytest.mark.parametrize(
    "raw",
    [b'{"a":1,"a":1}', b'{"a":1,"b":2,"a":3}', b'[{"x":{"a":1,"a":2}}]', b'{"a":1,"\\u0061":2}', b'{"":0,"":0}'],
)
def test_a_name_twice(raw: bytes) -> None:
    with pytest.raises(MalformedJson):
        loads(raw)


@pytest.mark.parametrize("raw", [b"NaN", b"Infinity", b"-Infinity", b'{"a":[NaN]}', b"nan", b"-NaN"])
def test_what_is_no_number(raw: bytes) -> None:
    with pytest.raises(MalformedJson):
        loads(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"1" * 4301,
        b"-" + b"9" * 5000,
        b'{"amount_fen":' + b"9" * 100_000 + b"}",
        b"1e401",
        b"1e-401",
        b"1e999999",
        b"1e99999999999999999999",
        b"-1E+99999999999999999999",
        b"0.1e99999999999999999999",
    ],
    ids=lambda raw: f"{raw[:24]!r}({len(raw)})",
)
def test_numbers_out_of_all_proportion(raw: bytes) -> None:
    with pytest.raises(MalformedJson):
        loads(raw)


@pytest.mark.parametrize("raw", [b'"\xff"', b'"\xc3"', b"\xfe\xff\x00\x31", '"é"'.encode("latin-1"), b'"\xed\xa0\x80"'])
def test_bytes_that_are_not_utf_8(raw: bytes) -> None:
    with pytest.raises(MalformedJson):
        loads(raw)


@pytest.mark.parametrize(
    "text",
    ['"\\ud800"', '"\\uDFFF"', '"\\ud800\\ud800"', '"\\ude00\\ud83d"', '{"\\ud800":1}', '[{"a":["x\\uD83D"]}]',
     '"\\u0000"', '{"\\u0000":1}', '{"a":["x\\u0000y"]}'],
)  # fmt: skip
def test_text_that_nothing_can_store(text: str) -> None:
    with pytest.raises(MalformedJson):
        loads(text.encode())


def test_emoji_written_as_a_pair_are_text() -> None:
    assert loads(b'{"\\ud83d\\ude00":"\\uD83D\\uDE00 \\\\u0000 \\\\ud800"}') == {"😀": "😀 \\u0000 \\ud800"}


def nested(depth: int, kind: str) -> bytes:
    opening, closing = {"array": ("[", "]"), "object": ('{"a":', "}")}[kind]
    return (opening * depth + "1" + closing * depth).encode()


@pytest.mark.parametrize("kind", ["array", "object"])
def test_depth(kind: str) -> None:
    assert loads(nested(MAX_DEPTH, kind)) is not None
    for depth in (MAX_DEPTH + 1, 1000, 100_000):
        with pytest.raises(JsonTooDeep):
            loads(nested(depth, kind))


def test_depth_counts_in_the_middle_too() -> None:
    wide = b"[" + b'{"a":[]},' * 50
    assert len(loads(wide + nested(MAX_DEPTH - 1, "array") + b"]")) == 51
    with pytest.raises(JsonTooDeep):
        loads(wide + nested(MAX_DEPTH, "array") + b"]")


def test_brackets_in_text_are_text() -> None:
    for text in ("[" * 500, "{" * 500, '"[' * 500, '\\"[' * 500, "\\", "\\\\[" * 100, "]}" * 500 + "[{" * 500):
        document = {"a": text, text: [text]}
        assert loads(json.dumps(document).encode()) == document


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 10_000_000,
        b'{"a":' * 2_000_000,
        b'"' + b'\\"[' * 3_000_000,
        b"[" + b'"[",' * 2_000_000,
        b"]" * 10_000_000,
        b"[}" * 5_000_000,
    ],
    ids=lambda raw: repr(raw[:8]),
)
def test_ten_megabytes_of_nonsense_are_refused_quickly(raw: bytes) -> None:
    begun = time.perf_counter()
    with pytest.raises((MalformedJson, JsonTooDeep)):
        loads(raw)
    assert time.perf_counter() - begun < 3  # well below a second; the rest is for a machine that is busy


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN, st.booleans())
def test_what_json_writes_is_read(document: Any, ascii_only: bool) -> None:
    assert loads(json.dumps(document, ensure_ascii=ascii_only).encode()) == document


def test_numbers_with_a_point_are_decimal() -> None:
    found = loads(b'{"a":2.80,"b":1e2,"c":-0.0,"d":3,"e":0e999}')
    assert found == {"a": Decimal("2.80"), "b": Decimal(100), "c": 0, "d": 3, "e": 0}
    assert [type(found[name]) for name in "abd"] == [Decimal, Decimal, int] and str(found["a"]) == "2.80"


@given(st.binary(max_size=60) | st.text('[]{}",:\\u0d8eE19-+.nax ', max_size=60).map(str.encode))
def test_no_bytes_raise_anything_but_a_refusal(raw: bytes) -> None:
    try:
        found = loads(raw)
    except Refusal as refusal:
        assert refusal.status == 400
    else:
        json.dumps(found, ensure_ascii=False, default=str).encode()
