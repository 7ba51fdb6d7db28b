"""JSON from outside, read strictly: no duplicate keys, no NaN or Infinity, bounded depth."""

import json
from decimal import Decimal
from typing import Any, NoReturn

from kit.errors import JsonTooDeep, MalformedJson

MAX_DEPTH = 32


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate key")
    return members


def _refuse_depth(raw: bytes) -> None:
    depth = 0
    in_string = escaped = False
    for byte in raw:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in (0x5B, 0x7B):
            depth += 1
            if depth > MAX_DEPTH:
                raise JsonTooDeep(limit=MAX_DEPTH)
        elif byte in (0x5D, 0x7D):
            depth -= 1


def loads(raw: bytes) -> Any:
    """Parse UTF-8 JSON. Refuses with MalformedJson or JsonTooDeep; numbers with a point become Decimal."""
    # The depth matters only where brackets abound: counting costs nothing on ordinary bodies.
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        _refuse_depth(raw)
    try:
        return json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=Decimal,
        )
    except (ValueError, RecursionError) as error:
        raise MalformedJson() from error
