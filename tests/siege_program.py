"""One process of the real program, forked from one that has imported everything: it starts in a moment, and is killed
like any other. See ``tests/siege.py``."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import handlers.api  # noqa: F401 - what the program imports, imported once for all forks
import jobs.worker  # noqa: F401
import sandbox.main  # noqa: F401
import server.app
import server.cli
import server.serve


def run(arguments: Sequence[str], environment: Mapping[str, str], log: Path, changes: Sequence[str]) -> None:
    """Be ``linli <arguments>``, with this environment and nothing else of it, all output in the log."""
    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.clear()
    os.environ.update(environment)
    for change in changes:
        CHANGES[change]()
    sys.argv = ["linli", *arguments]
    server.cli.app(list(arguments))


def _consequences_after_the_commit() -> None:
    """Settle enqueues what follows in a transaction of its own, after that of the money."""
    from models.job import enqueue_tx
    from models.unit_of_work import unit_of_work
    from payments import callback, janitor, settle_sql
    from payments.settle import Settled, Settlement, settle

    settle_sql.WRITE = settle_sql.WRITE.partition("SELECT procrastinate_defer_jobs_v1")[0] + (
        "SELECT $18::varchar, $19::varchar, $20::jsonb"
    )

    @unit_of_work
    async def follow(payment_id: str) -> None:
        await enqueue_tx("payment_settled", {"payment_id": payment_id})

    async def split(*arguments: Any, **options: Any) -> Settlement:
        settled = await settle(*arguments, **options)
        if settled.outcome is Settled.APPLIED:
            await follow(str(settled.payment_id))
        return settled

    callback.settle = janitor.settle = split


def _no_janitor() -> None:
    """Nobody asks WeChat about what is not decided."""
    from payments import janitor

    sweep = janitor._SWEEP
    sweep._claim = sweep._claim.replace("WHERE next_check_at <= $2", "WHERE false AND next_check_at <= $2")


def _in_a_hurry() -> None:
    """For the twin in ``make test``: the same leases and looks, with seconds for what takes half a minute."""
    from jobs import registry, upkeep
    from payments import janitor, sweeping
    from services import idempotency, message

    idempotency.LEASE_S = sweeping._CLAIM_S = 2
    janitor.STEPS_S = (1, 3, 6, 12, *janitor.STEPS_S[2:])
    message.RETRY_S = (1, *message.RETRY_S[1:])
    message._LEASE_S = 3
    upkeep._STALLED_S = 6
    quick = {"rescue_jobs", "sweep_attempts", "sweep_messages"}
    registry.PERIODIC[:] = [
        registry.Periodic(one.name, "* * * * * */2" if one.name in quick else one.cron) for one in registry.PERIODIC
    ]


CHANGES: dict[str, Callable[[], None]] = {
    "consequences after the commit": _consequences_after_the_commit,
    "no janitor": _no_janitor,
    "in a hurry": _in_a_hurry,
}
