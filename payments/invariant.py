"""What an invariant is; they stand in ``check.py`` and the files beside it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Invariant:
    """A truth. ``sql`` finds its violations as rows of (id, difference, …); it must find none."""

    number: str
    truth: str
    sql: str
