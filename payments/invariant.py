"""What a numbered truth about the money is; ``payments/check.py`` lists them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Invariant:
    """A truth. ``sql`` finds its violations as rows of (id, difference, …); it must find none."""

    number: str
    truth: str
    sql: str
