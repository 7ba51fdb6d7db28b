"""Two hundred kills: at every named place, at any moment, and of the database itself. Nothing is lost or doubled.

``LINLI_SEED`` replays a run; ``LINLI_KILLS`` asks for fewer or more.
"""

import os
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from models import secret
from models.database import connect, disconnect
from server.embedded_postgres import EmbeddedPostgres
from tests.conftest import TEMPLATE, Database, _build_template
from tests.siege import Plan, Town, Trouble, points
from tests.siege_stories import STORIES
from tests.world import KEYRING

KILLS = int(os.environ.get("LINLI_KILLS", "200"))
SEED = int(os.environ.get("LINLI_SEED", str(secrets.randbelow(10**6))))


@pytest_asyncio.fixture(loop_scope="session")
async def fortress(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A PostgreSQL of its own, as careful as the real one: it will be stopped at once, again and again."""
    postgres = EmbeddedPostgres.start(tmp_path / "postgres")
    try:
        await _build_template(postgres)
        secret.configure(KEYRING)
        await connect(postgres.url(TEMPLATE, "linli_app"))
        yield postgres
        await disconnect()
    finally:
        postgres.stop()


async def test_two_hundred_kills_cost_nothing(fortress: EmbeddedPostgres, wechat_state: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    shutil.copy(wechat_state, state / "sandbox.db")
    database = Database(TEMPLATE, fortress.url(TEMPLATE, "linli_app"), fortress.url(TEMPLATE))
    plan = Plan(SEED, KILLS, postgres_folder=tmp_path / "postgres")

    async with Town(database, state, STORIES, SEED).standing(households=16) as town:
        await town.besieged(plan, fortress)

    assert set(points()) <= set(plan.done)
    assert len(plan.done) + plan.crashes >= KILLS and plan.crashes >= 3
    print(f"\nseed {SEED}: {len(plan.done)} kills and {plan.crashes} crashes of the database; {len(town.told.opened)} "
          f"payments opened; repaired after {', '.join(f'{took:.0f}' for took in plan.repaired_s)} s")  # fmt: skip


@pytest.mark.parametrize(
    ("sabotage", "point", "damage"),
    [
        ("consequences after the commit", "payments.settle.settle_tx.after_commit", "paid without exactly one receipt"),
        ("no janitor", "wechat_pay.POST.jsapi.after_call", "WeChat took"),
    ],
)
async def test_with_a_guard_off_the_damage_shows(
    database: Database, wechat_state: Path, tmp_path: Path, sabotage: str, point: str, damage: str
) -> None:
    """The negative control: what the siege looks for is there to be seen."""
    shutil.copy(wechat_state, tmp_path / "sandbox.db")
    plan = Plan(1, 0, [("serve", point)] * 8, patience_s=20)

    # Without a janitor everything hangs on notices, which are lost here, and on payers who ask: nobody does.
    stories = {name: STORIES[name] for name in ("pays while WeChat stumbles",)} if sabotage == "no janitor" else STORIES
    siege = Town(database, tmp_path, stories, 1, ["in a hurry", sabotage], within_s=25)
    async with siege.standing(households=6) as town:
        if sabotage == "no janitor":
            await town.wechat.fault("lost")
        with pytest.raises(Trouble, match=damage):
            await town.besieged(plan)
