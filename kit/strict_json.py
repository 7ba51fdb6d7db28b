"""JSON from outside, read strictly: no duplicate keys, no NaN or Infinity, bounded depth, text that can be stored."""

import json
import re
from decimal import Decimal
from typing import Any, NoReturn

from kit.errors import JsonTooDeep, MalformedJson

MAX_DEPTH = 32
_MAX_EXPONENT = 400  # what a double can hold, and then some

# Possessive, and content with a string that never ends: no text makes it step back.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_ALL_BRACKETS_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]"))
_SUSPECT_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _decimal(text: str) -> Decimal:
    number = Decimal(text)
    # Decimal would hold 1e999999, and whoever makes an integer of it would wait for a million digits.
    if number and abs(number.adjusted()) > _MAX_EXPONENT:
        raise ValueError("a number out of all proportion")
    return number


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate key")
    return members


def _refuse_depth(raw: bytes) -> None:
    """Take away the innermost pairs of brackets, all at once, as often as they may be nested; what is left is deeper.

    Linear, and in C: a loop over the bytes takes three times as long.
    """
    brackets = _STRING.sub(b"", raw).translate(_ALL_BRACKETS_SQUARE).translate(None, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        if b"[]" not in brackets:
            break
        brackets = brackets.replace(b"[]", b"")
    # Brackets that never close are for the parser to refuse, unless there are enough of them to trouble it.
    if b"[]" in brackets or brackets.count(b"[") > MAX_DEPTH:
        raise JsonTooDeep(limit=MAX_DEPTH)


def _refuse_text(value: Any) -> None:
    """NUL and halves of surrogate pairs are legal in JSON, but no database column and no UTF-8 answer takes them."""
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("NUL in a text")
        value.encode()  # UnicodeEncodeError, a ValueError, for a lone surrogate
    elif isinstance(value, dict):
        for name, member in value.items():
            _refuse_text(name)
            _refuse_text(member)
    elif isinstance(value, list):
        for member in value:
            _refuse_text(member)


def loads(raw: bytes) -> Any:
    """Parse UTF-8 JSON. Refuses with MalformedJson or JsonTooDeep; numbers with a point become Decimal."""
    # The depth matters only where brackets abound: counting costs nothing on ordinary bodies.
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        _refuse_depth(raw)
    try:
        found = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_decimal,
        )
        if _SUSPECT_ESCAPE.search(raw):
            _refuse_text(found)
        return found
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise MalformedJson() from error
