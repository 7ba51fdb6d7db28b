"""Whatever happens to payments, in whatever order, no fen is lost or made (see tests/money_machine.py)."""

import asyncio

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import Drain, SandboxControl
from tests.money_machine import MoneyMachine, stage_for
from tests.world import World

pytestmark = pytest.mark.usefixtures("unlimited")  # more payments in a minute than a hand opens


async def test_no_order_of_events_loses_or_makes_a_fen(world: World, sandbox: SandboxControl, drain: Drain) -> None:
    await play(world, sandbox, drain, runs=8, steps=25)


async def play(world: World, sandbox: SandboxControl, drain: Drain, *, runs: int, steps: int) -> None:
    """Run the machine; a failing run is shrunk and prints its operations."""
    MoneyMachine.stage = await stage_for(world, sandbox, drain)
    how = settings(
        max_examples=runs, stateful_step_count=steps, deadline=None, print_blob=True, database=None,
        suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    await asyncio.to_thread(run_state_machine_as_test, MoneyMachine, settings=how)
