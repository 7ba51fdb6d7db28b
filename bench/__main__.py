"""``python -m bench [NAME …]``: every benchmark in turn, or those that are named."""

import asyncio
import platform
import sys
import time
from collections.abc import Awaitable, Callable, Mapping

import psutil

from bench import balances, notice, open_bills, reconcile, settle
from bench.town import Town, town
from payments import violations

Found = Mapping[str, float]


async def settlements(built: Town) -> Found:
    """The rows that settlements stand on grow tenfold twice; --million grows them once more."""
    found: Found = {}
    rows = 0
    for wanted in (0, 10_000, 100_000, *((1_000_000,) if "--million" in sys.argv else ())):
        if wanted > rows:
            await built.add(wanted - rows, settled=True, bills_each=1)
        found = await settle.run(built, wanted)
        rows = wanted + settle.SETTLED_BY_A_RUN
        show(f"settlements on top of {wanted:,} settled payments", found)
    return {}


async def reconciliation(built: Town) -> Found:
    """A million rows; --small takes twenty thousand."""
    return await reconcile.run(built, 20_000 if "--small" in sys.argv else reconcile.ROWS)


BENCHMARKS: dict[str, Callable[[Town], Awaitable[Found]]] = {
    "balances": balances.run,
    "notice": notice.run,
    "open_bills": open_bills.run,
    "settlements": settlements,
    "reconcile": reconciliation,
}


async def main(names: list[str]) -> None:
    print(f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}, PostgreSQL 18")
    for name in names or BENCHMARKS:
        started = time.monotonic()
        async with town() as built:
            show(name, await BENCHMARKS[name](built))
            # the seeded past has no receipts, and the jobs of the new payments are not run
            broken = [one for one in await violations() if one.number != "L13"]
            assert not broken, broken
        print(f"({name}: {time.monotonic() - started:.0f} s, the invariants hold)")


def show(title: str, found: Found) -> None:
    if found:
        print(f"\n{title}")
    for name, value in found.items():
        print(f"    {name:36} {value:>14,.2f}".replace(".00", "   "))


if __name__ == "__main__":
    asyncio.run(main([name for name in sys.argv[1:] if not name.startswith("-")]))
