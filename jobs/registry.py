"""The jobs by name, and what runs on a clock."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

JobFunction = Callable[..., Awaitable[Any]]

JOBS: dict[str, JobFunction] = {}


@dataclass(frozen=True)
class Periodic:
    """A job on a clock. ``cron`` has a sixth field for seconds."""

    name: str
    cron: str


PERIODIC: list[Periodic] = []


def job(name: str, *, cron: str | None = None) -> Callable[[JobFunction], JobFunction]:
    """Register a job. With ``cron`` it also runs on a clock, and then takes no arguments."""

    def register(function: JobFunction) -> JobFunction:
        if name in JOBS:
            raise ValueError(f"two jobs are named {name}")
        JOBS[name] = function
        if cron:
            PERIODIC.append(Periodic(name, cron))
        return function

    return register
