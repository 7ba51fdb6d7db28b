"""Rooms by the names that people write for them. Pure."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from kit.text import normalise

# What stands between the numbers of a building, a staircase and a room, in the ways people write it.
_SEPARATORS = re.compile(r"号楼|单元|[栋幢座楼室房号门\s\-–—_/\\#,，、.]+")
_MOST_CANDIDATES = 200
_MOST_SUGGESTED = 3


@dataclass(frozen=True)
class RoomName:
    """A room of the register."""

    id: UUID
    name: str


def room_key(text: str) -> tuple[str, ...]:
    """The parts of a room's name: ``"03栋1单元1201室"`` and ``"3-1-1201"`` → ("3", "1", "1201")."""
    parts = [part for part in _SEPARATORS.split(normalise(text).upper()) if part]
    return tuple(part.lstrip("0") or "0" if part.isdigit() else part for part in parts)


def _bare(text: str) -> str:
    return normalise(text).replace(" ", "").upper()


class RoomFinder:
    """All rooms of a community, found by full name, or by a looser one where only one room can be meant."""

    def __init__(self, rooms: Iterable[RoomName]) -> None:
        self._exact: dict[str, list[RoomName]] = {}
        self._loose: dict[tuple[str, ...], list[RoomName]] = {}
        self._by_part: dict[str, list[RoomName]] = {}
        for room in rooms:
            self._exact.setdefault(_bare(room.name), []).append(room)
            key = room_key(room.name)
            self._loose.setdefault(key, []).append(room)
            for part in {key[-1:], key[:-1]} - {()}:
                self._by_part.setdefault("\0".join(part), []).append(room)

    def find(self, text: str) -> Sequence[RoomName]:
        """The rooms that ``text`` may mean: one, none, or several among which nobody but its writer can choose."""
        return self._exact.get(_bare(text)) or self._loose.get(room_key(text)) or ()

    def closest(self, text: str) -> list[str]:
        """Up to three names that look like ``text``: of rooms with the same number, or in the same place."""
        key = room_key(text)
        near = [*self._by_part.get("\0".join(key[-1:]), ()), *self._by_part.get("\0".join(key[:-1]), ())]
        names = list(dict.fromkeys(room.name for room in near))[:_MOST_CANDIDATES]
        return difflib.get_close_matches(normalise(text), names, n=_MOST_SUGGESTED, cutoff=0.5)
