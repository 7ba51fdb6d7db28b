"""The machine of tests/test_money_machine.py, for longer."""

import pytest

from tests.conftest import Drain, SandboxControl
from tests.test_money_machine import play
from tests.world import World

pytestmark = pytest.mark.usefixtures("unlimited")


async def test_no_order_of_events_loses_or_makes_a_fen_for_longer(
    world: World, sandbox: SandboxControl, drain: Drain
) -> None:
    await play(world, sandbox, drain, runs=60, steps=40)
