"""Cursors: ours go on, everything else is refused as InvalidCursor."""

import base64
import json
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import InvalidCursor
from kit.ids import new_id
from kit.paging import Page, decode_cursor, encode_cursor, page_of

PARSERS = (date.fromisoformat, datetime.fromisoformat, UUID, int, str)
VALUES = [date(2026, 11, 1), datetime(2026, 11, 1, 12, 30, tzinfo=UTC), new_id(), 2**40, "3栋"]


def packed(document: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def test_a_cursor_comes_back_as_it_went() -> None:
    cursor = encode_cursor(VALUES)
    assert decode_cursor(cursor, PARSERS) == VALUES
    assert cursor.isascii() and not set(cursor) & set("+/=&?#%")


GARBAGE = [
    "", " ", "=", "====", "a", "ab", "%%%", "中文", "\0", "null", "../../etc", "A" * 100_000, "-_-_",
    packed(None), packed(1), packed("a"), packed({}), packed([]), packed([1, 2]), packed([None]), packed([[]]),
    packed([{}]), packed([True, False]), packed([1.5]), packed(["1.5"]), packed([""]), packed(["\0"]),
    packed(["\ud800"]), packed([10**30]), packed([-(10**30)]), packed(["9" * 30]), packed(["9" * 5000]),
    base64.urlsafe_b64encode(b"[NaN]").decode(), base64.urlsafe_b64encode(b"[Infinity]").decode(),
    base64.urlsafe_b64encode(b"[1e99999999999999999999]").decode(), base64.urlsafe_b64encode(b"\xff\xfe[").decode(),
    base64.urlsafe_b64encode(b"[" * 100_000).decode(), base64.urlsafe_b64encode(b"[" + b"9" * 5000 + b"]").decode(),
]  # fmt: skip


@pytest.mark.parametrize("parser", [UUID, date.fromisoformat, datetime.fromisoformat])
@pytest.mark.parametrize("cursor", GARBAGE, ids=lambda cursor: ascii(cursor[:30]))
def test_garbage(cursor: str, parser: Any) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(cursor, (parser,))
    with pytest.raises(InvalidCursor):
        decode_cursor(cursor, (parser, UUID, int))


@pytest.mark.parametrize("document", [[2**63], [-(2**63)], [10**30], ["9" * 19], ["99999999999999999999"]])
def test_a_number_that_no_column_holds(document: Any) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(packed(document), (int,))


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "\0"])
def test_text_that_no_column_holds(text: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(packed([text]), (str,))


def test_a_parser_that_stumbles_refuses() -> None:
    for error in (ValueError, TypeError, KeyError, AttributeError, OverflowError, ZeroDivisionError):

        def stumble(value: Any, error: type[Exception] = error) -> None:
            raise error(value)

        with pytest.raises(InvalidCursor):
            decode_cursor(packed([1]), (stumble,))


@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_random_text_is_refused_or_well_formed(cursor: str) -> None:
    for parsers in ((UUID,), (int,), (date.fromisoformat, int), (str, UUID)):
        try:
            values = decode_cursor(cursor, parsers)
        except InvalidCursor:
            continue
        assert len(values) == len(parsers)
        assert all(abs(value) < 2**63 for value in values if isinstance(value, int))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=3))
def test_any_json_in_a_cursor_is_refused_or_well_formed(document: list[Any]) -> None:
    for parsers in ((UUID,), (int,), (str, UUID), (date.fromisoformat, int)):
        try:
            values = decode_cursor(packed(document), parsers)
        except InvalidCursor:
            continue
        assert len(values) == len(parsers)
        assert all("\0" not in value for value in values if isinstance(value, str))


def test_a_page_ends_where_the_rows_end() -> None:
    assert page_of([1, 2], 2, lambda row: (row,)) == Page([1, 2], None)
    assert page_of([], 2, lambda row: (row,)) == Page([], None)


@given(st.lists(st.integers(0, 10**6), unique=True, max_size=40).map(sorted), st.integers(1, 7))
def test_pages_hand_out_every_row_once(rows: list[int], limit: int) -> None:
    seen: list[int] = []
    after = -1
    while True:
        page = page_of([row for row in rows if row > after][: limit + 1], limit, lambda row: (row,))
        seen += page.items
        if page.next_cursor is None:
            break
        (after,) = decode_cursor(page.next_cursor, (int,))
    assert seen == rows
