"""The machine of tests/test_money_machine.py, for longer."""

import pytest

from tests.conftest import Drain, SandboxControl
from tests.money_machine import MoneyMachine
from tests.test_money_machine import play
from tests.world import World

pytestmark = pytest.mark.usefixtures("unlimited")


async def test_no_order_of_events_loses_or_makes_a_fen_for_longer(
    world: World, sandbox: SandboxControl, drain: Drain
) -> None:
    MoneyMachine.reached.clear()
    await play(world, sandbox, drain, runs=60, steps=60)
    reached = {one for one, times in MoneyMachine.reached.items() if times}
    assert {"settled", "surplus", "reopened", "credited"} <= reached and reached & {"kept", "returned"}, (
        MoneyMachine.reached
    )
