"""Three weeks of traffic with every fault of the sandbox: at the end WeChat, the journal and the bills say the same."""

from typing import Any

from models.reconciliation import Difference
from tests.conftest import Drain, SandboxControl
from tests.reconcile_days import FAULTS, clearing_fen, play, under_way_fen, unexplained
from tests.surplus_home import balances
from tests.world import World

DAYS = 21


async def test_three_weeks_end_without_an_unexplained_difference(
    world: World, sandbox: SandboxControl, drain: Drain, books: Any
) -> None:
    town = await play(world, sandbox, drain, DAYS)
    kinds = (await sandbox.client.get("/sandbox/faults")).json()["kinds"]
    assert {fault["kind"] for fault in FAULTS} | {"refund_outcome"} >= set(kinds) - {
        "late", "stale_answer", "slow", "api_error"}  # fmt: skip
    assert await unexplained() == []
    assert len(town.ever_open) >= 5
    assert {str(one.state) for one in await Difference.all()} <= {"mended", "explained"}
    assert (await balances())["bank"] == town.drawn_fen
    # All was drawn each night: what the books still hold at WeChat is what WeChat already took for refunds under way.
    assert await clearing_fen() == await under_way_fen()
