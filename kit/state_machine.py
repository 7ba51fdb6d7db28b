"""State is data: which moves exist, what a row must hold on entering a state, and what is frozen afterwards."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kit.errors import MoveNotAllowed


@dataclass(frozen=True)
class StateMachine:
    """A noun's life as a table.

    ``moves``: state → states that may follow. ``required``: state → fields that must be set on entering it.
    ``frozen``: state → fields that may not change once in it.
    """

    noun: str
    moves: Mapping[StrEnum, Iterable[StrEnum]]
    required: Mapping[StrEnum, Iterable[str]] = field(default_factory=dict)
    frozen: Mapping[StrEnum, Iterable[str]] = field(default_factory=dict)

    def allows(self, before: StrEnum, after: StrEnum) -> bool:
        """Whether the table has the move."""
        return after in self.moves.get(before, ())

    def is_final(self, state: StrEnum) -> bool:
        """Whether no move leaves the state."""
        return not tuple(self.moves.get(state, ()))

    def enter(self, row: Any, after: StrEnum, **values: Any) -> dict[str, Any]:
        """Put ``row`` (locked by the caller) into ``after`` with ``values``; answers what was assigned.

        Refuses with MoveNotAllowed when the table has no such move; a missing required field or a changed frozen one
        is a programmer's error and raises ValueError. Assigns on the object; the caller saves.
        """
        before = row.state
        if not self.allows(before, after):
            raise MoveNotAllowed(noun=self.noun, before=str(before), after=str(after))
        for name in self.frozen.get(before, ()):
            if name in values and values[name] != getattr(row, name):
                raise ValueError(f"{self.noun}.{name} is frozen in state {before}")
        for name in self.required.get(after, ()):
            if values.get(name, getattr(row, name, None)) is None:
                raise ValueError(f"{self.noun} needs {name} to become {after}")
        assigned = {"state": after, **values}
        for name, value in assigned.items():
            setattr(row, name, value)
        return assigned
