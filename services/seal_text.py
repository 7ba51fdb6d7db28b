"""What a seal reads of a row, as text that stays the same: whatever the version of PostgreSQL, the zone of the session
or the order in which a restore put the columns.

A version names its columns one by one. A column that is added later is for a new version; a seal keeps the version it
was made with, so that it can be verified as long as its columns exist.
"""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

_ROW = struct.Struct(">Q4s")


def _instant(column: str) -> str:
    return f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"


def _day(column: str) -> str:
    return f"to_char({column}, 'YYYY-MM-DD')"


@dataclass(frozen=True)
class Reading:
    """How one table is read: its columns in order, by kind, and the one whose growing numbers give the order."""

    table: str
    columns: str  # in the order of the text; ``_at`` are instants, ``_on`` days
    documents: frozenset[str] = frozenset()  # jsonb
    order: str = "id"

    def select(self) -> str:
        """The columns as text, the order as ``sealed_row``."""
        parts = []
        for column in self.columns.split():
            form = _instant(column) if column.endswith("_at") else _day(column) if column.endswith("_on") else None
            parts.append(f"{form or column + '::text'} AS {column}")
        return f"SELECT {self.order} AS sealed_row, {', '.join(parts)} FROM {self.table}"  # noqa: S608 - our own names

    def text(self, row: Mapping[str, Any]) -> bytes:
        """One row's text: a JSON array of strings and nulls."""
        values = [
            _document(row[name]) if name in self.documents and row[name] is not None else row[name]
            for name in self.columns.split()
        ]
        return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


class _Number(str):
    """A number as it is written: never through a float, and no other document's text."""


def _document(stored: str) -> str:
    """jsonb with sorted keys and without blanks."""
    return _written(json.loads(stored, parse_float=_Number, parse_int=_Number))


def _written(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_written(name)}:{_written(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_written(one) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False)


_READINGS: Mapping[tuple[str, int], Reading] = {
    ("entries", 1): Reading(
        "entries",
        "id community_id legal_entity_id kind source_id leg debit_account_id credit_account_id amount_fen occurred_at"
        " posted_at posted_on",
    ),
    ("allocations", 1): Reading(
        "allocations", "id community_id payment_id bill_id bill_line_id amount_fen created_at"
    ),
    ("allocations", 2): Reading(
        "allocations", "id community_id payment_id refund_id bill_id bill_line_id amount_fen created_at"
    ),
    ("receipts", 1): Reading(
        "receipts",
        "serial id organization_id community_id legal_entity_id customer_id payer_resident_id payment_id year sequence"
        " number amount_fen issued_on content created_at",
        frozenset({"content"}),
        order="serial",
    ),
    ("audits", 1): Reading(
        "audits",
        "id organization_id community_id actor act target_kind target_id before after request_id happened_at",
        frozenset({"before", "after"}),
    ),
}  # fmt: skip
NEWEST = {table: max(version for name, version in _READINGS if name == table) for table, _ in _READINGS}
"""Table → the version that new seals are made with; its keys are what is sealed."""


def reading_of(table: str, version: int) -> Reading:
    """How ``version`` reads ``table``. KeyError for one that this program does not know."""
    return _READINGS[table, version]


@dataclass
class Digest:
    """The digest of a range, fed row by row; holds twelve bytes a row and nothing of their text."""

    row_count: int = 0
    outline: bytearray = field(default_factory=bytearray)
    _hash: Any = field(default_factory=hashlib.sha256)

    def add(self, row_id: int, text: bytes) -> None:
        """The next row, in the order of ids."""
        own = hashlib.sha256(text).digest()
        self._hash.update(own)
        self.outline += _ROW.pack(row_id, own[:4])
        self.row_count += 1

    def close(
        self, *, scope: str, version: int, first_row: int, last_row: int, previous_digest: str, sealed_at: datetime
    ) -> str:
        """The digest of the rows and of everything else that the seal says, in hex."""
        ending = [scope, version, first_row, last_row, self.row_count, previous_digest,
                  sealed_at.astimezone(UTC).isoformat(timespec="microseconds")]  # fmt: skip
        whole = self._hash.copy()
        whole.update(json.dumps(ending).encode())
        return str(whole.hexdigest())


def differing(sealed: bytes, found: bytes) -> dict[str, Sequence[int]]:
    """The rows that two outlines of a range disagree about: ``missing``, ``inserted`` and ``changed`` ids."""
    before, now = dict(_ROW.iter_unpack(sealed)), dict(_ROW.iter_unpack(found))
    return {
        "missing": sorted(before.keys() - now.keys()),
        "inserted": sorted(now.keys() - before.keys()),
        "changed": sorted(row for row in before.keys() & now.keys() if before[row] != now[row]),
    }
