"""The benchmark of settlements says of pgbench that it runs the same statements: here they are compared."""

from bench.settle import STATEMENTS, script
from tests.conftest import SandboxControl
from tests.test_queries import cost, counting
from tests.world import World

__all__ = ["counting"]


async def test_pgbench_runs_what_a_callback_runs(world: World, sandbox: SandboxControl, counting: list[str]) -> None:
    home = await world.home(bills=3)
    for bill_id in home.bill_ids:
        opened = (await home.open(bill_ids=[bill_id])).json()
        async with cost(counting) as spent:
            paid = (await sandbox.pay(opened)).json()
            await sandbox.called_back(paid["out_trade_no"])

    ours = [" ".join(sql.split()) for transaction in STATEMENTS for sql, _ in transaction]
    assert spent == ours
    for sql, values in (statement for transaction in STATEMENTS for statement in transaction):
        assert f"${len(values)}" in sql and f"${len(values) + 1}" not in sql
    assert script().count("BEGIN;") == len(STATEMENTS)
