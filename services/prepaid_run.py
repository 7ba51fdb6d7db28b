"""Runs: once a month, or when finance starts one, every balance of a community pays what its owner owes.

A run goes from account to account, one transaction each, in batches; it may be killed anywhere and is gone on with. An
account has one line a run, written in the transaction of its payment, and a bill that is paid is paid: nothing twice.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog

import payments
from kit import clock
from kit.errors import Refusal
from kit.ids import new_id
from kit.paging import Page
from models import audit
from models.access import Act, Actor, require, require_somewhere, system_actor
from models.base import get_visible
from models.community import Community
from models.job import enqueue_tx
from models.ledger import Account
from models.prepaid import PREPAID_RUN_MACHINE, PrepaidRun, PrepaidRunLine, PrepaidRunOutcome, PrepaidRunState
from models.unit_of_work import row, rows, unit_of_work
from services.listing import newest_first, wanted_id
from services.unique import unique

log = structlog.get_logger()

A_BATCH = 50
_A_PASSAGE_S = 20  # then the worker's place is given to others, and the next tick goes on
_LEASE_S = 60

_WITH_BALANCE = """
FROM accounts a LEFT JOIN prepaid_agreements g ON g.account_id = a.id
WHERE a.community_id = $1 AND a.kind = 'prepaid' AND COALESCE(g.pays_monthly, true)
  AND COALESCE((SELECT sum(amount_fen) FROM entries WHERE credit_account_id = a.id), 0)
    > COALESCE((SELECT sum(amount_fen) FROM entries WHERE debit_account_id = a.id), 0)
"""
_COUNT = f"SELECT count(*)::int AS accounts {_WITH_BALANCE}"
_NEXT = f"""
SELECT a.id {_WITH_BALANCE}
  AND NOT EXISTS (SELECT FROM prepaid_run_lines l WHERE l.run_id = $2 AND l.account_id = a.id)
ORDER BY a.id LIMIT $3
"""  # noqa: S608
_CLAIM_LINE = """
INSERT INTO prepaid_run_lines (id, created_at, community_id, run_id, account_id, outcome, paid_fen, bill_count,
                               still_owed_fen)
VALUES ($1, $2, $3, $4, $5, $6, 0, 0, 0) ON CONFLICT (run_id, account_id) DO NOTHING RETURNING id
"""
_TOTALS = """
SELECT run_id, count(*)::int AS done, count(*) FILTER (WHERE outcome = 'paid')::int AS paid,
       count(*) FILTER (WHERE outcome = 'part_paid')::int AS part_paid,
       count(*) FILTER (WHERE outcome = 'nothing_owed')::int AS nothing_owed,
       count(*) FILTER (WHERE outcome = 'failed')::int AS failed,
       sum(paid_fen)::bigint AS paid_fen, sum(bill_count)::int AS bills, sum(still_owed_fen)::bigint AS still_owed_fen
FROM prepaid_run_lines WHERE run_id = ANY($1::uuid[]) GROUP BY run_id
"""


class PrepaidRunUnderWay(Refusal):
    """One at a time in a community."""

    status = 409
    zh = "本小区的预存款缴费正在进行，请等它完成。"
    en = "A run over this community's balances is under way."


@dataclass(frozen=True)
class RunView:
    """A run and how far it is: ``totals`` counts its lines."""

    run: PrepaidRun
    totals: dict[str, Any]


async def start_run(actor: Actor, community_id: UUID) -> RunView:
    """Have every balance of the community pay now, whatever the day. Refuses NotFound, NotPermitted,
    PrepaidRunUnderWay. Repeating it is safe: what is paid is not owed any more."""
    community = await get_visible(Community.visible_to(actor), community_id)
    require(actor, Act.PREPAID_MANAGE, community_id=community.id)
    with unique(prepaid_runs_one_running=PrepaidRunUnderWay):
        run = await _start(actor, community, monthly=False)
    assert run is not None
    return (await _views([run]))[0]


async def start_monthly_runs() -> int:
    """Start this month's run in every community whose day has come and that has none yet; how many."""
    today = clock.today()
    month = today.replace(day=1)
    started = 0
    for community in await Community.filter(prepaid_pay_day__lte=today.day).order_by("id"):
        if not await PrepaidRun.filter(community_id=community.id, month=month).exists():
            started += await _start(system_actor("start_monthly_runs"), community, monthly=True) is not None
    return started


@unit_of_work
async def _start(actor: Actor, community: Community, *, monthly: bool) -> PrepaidRun | None:
    """Two ticks at once wait for each other at the community's row; a monthly run waits for one under way to end."""
    await Community.select_for_update().get(id=community.id)
    month = clock.today().replace(day=1) if monthly else None
    if monthly:
        runs = PrepaidRun.filter(community_id=community.id)
        if await runs.filter(month=month).exists() or await runs.filter(state=PrepaidRunState.RUNNING).exists():
            return None
    counted = await row(_COUNT, community.id)
    assert counted is not None
    run = await PrepaidRun.create(
        organization_id=community.organization_id,
        community_id=community.id,
        month=month,
        started_by_staff_id=None if monthly else actor.id,
        account_count=counted["accounts"],
        next_check_at=clock.now() + timedelta(seconds=_LEASE_S),  # the job comes first, the sweep where it did not
    )
    await audit.record_tx(
        actor, "prepaid.run", "prepaid_run", run.id, organization_id=run.organization_id,
        community_id=run.community_id, after={"account_count": run.account_count},
    )  # fmt: skip
    await enqueue_tx("work_prepaid_run", {"run_id": str(run.id)})
    return run


async def work_run(run_id: UUID) -> int:
    """Go on with a run for some seconds; how many accounts were worked. Two at once share the work, and no account is
    worked twice."""
    begun, worked = time.monotonic(), 0
    while time.monotonic() - begun < _A_PASSAGE_S:
        batch = await _take(run_id)
        if not batch:
            break
        for account_id in batch:
            try:
                worked += await _pay(run_id, account_id)
            except Exception:  # one account's trouble must not keep the others waiting
                log.exception("prepaid_not_paid", run_id=str(run_id), account_id=str(account_id))
                await _note_failed(run_id, account_id)
    return worked


async def sweep_runs() -> int:
    """Go on with runs that nobody is at; how many there were."""
    due = await PrepaidRun.filter(state=PrepaidRunState.RUNNING, next_check_at__lte=clock.now()).order_by("id")
    for run in due:
        await work_run(run.id)
    return len(due)


@unit_of_work
async def _take(run_id: UUID) -> list[UUID]:
    """The next accounts without a line; when there are none the run is done."""
    run = await PrepaidRun.select_for_update().get(id=run_id)
    if run.state is PrepaidRunState.DONE:
        return []
    batch = [UUID(str(one["id"])) for one in await rows(_NEXT, run.community_id, run.id, A_BATCH)]
    if batch:
        run.next_check_at = clock.now() + timedelta(seconds=_LEASE_S)
        await run.save(update_fields=["next_check_at"])
    else:
        assigned = PREPAID_RUN_MACHINE.enter(run, PrepaidRunState.DONE, finished_at=clock.now(), next_check_at=None)
        await run.save(update_fields=list(assigned))
    return batch


@unit_of_work
async def _pay(run_id: UUID, account_id: UUID) -> int:
    run, account = await PrepaidRun.get(id=run_id), await Account.get(id=account_id)
    line_id = await _claim_tx(run, account_id, PrepaidRunOutcome.NOTHING_OWED)
    if line_id is None:
        return 0
    paid = await payments.pay_all_from_prepaid_tx(system_actor("work_prepaid_run"), account)
    if paid.payment is not None or paid.still_owed_fen:
        await PrepaidRunLine.filter(id=line_id).update(
            payment_id=paid.payment.id if paid.payment else None,
            outcome=PrepaidRunOutcome.PART_PAID if paid.still_owed_fen else PrepaidRunOutcome.PAID,
            paid_fen=paid.payment.amount_fen if paid.payment else 0,
            bill_count=paid.bill_count,
            still_owed_fen=paid.still_owed_fen,
        )
    return 1


@unit_of_work
async def _note_failed(run_id: UUID, account_id: UUID) -> None:
    await _claim_tx(await PrepaidRun.get(id=run_id), account_id, PrepaidRunOutcome.FAILED)


async def _claim_tx(run: PrepaidRun, account_id: UUID, outcome: PrepaidRunOutcome) -> UUID | None:
    """The account's line of this run, or None when it has one: whoever writes it first works the account."""
    made = await row(_CLAIM_LINE, new_id(), clock.now(), run.community_id, run.id, account_id, outcome.value)
    return UUID(str(made["id"])) if made else None


async def list_runs(actor: Actor, community_id: str | None, cursor: str | None, limit: int) -> Page[RunView]:
    """Newest first, of the communities whose balances the staff member may read."""
    require_somewhere(actor, Act.PREPAID_READ)
    query = PrepaidRun.visible_to(actor)
    if community_id is not None:
        query = query.filter(community_id=wanted_id(community_id))
    page = await newest_first(query, cursor, limit)
    return Page(await _views(page.items), page.next_cursor)


async def get_run(actor: Actor, run_id: UUID) -> RunView:
    """One run and how far it is; NotFound otherwise."""
    return (await _views([await get_visible(PrepaidRun.visible_to(actor), run_id)]))[0]


async def list_run_lines(actor: Actor, run_id: UUID, cursor: str | None, limit: int) -> Page[PrepaidRunLine]:
    """What a run did with each balance, newest first; NotFound as ``get_run``."""
    run = await get_visible(PrepaidRun.visible_to(actor), run_id)
    return await newest_first(PrepaidRunLine.filter(run_id=run.id), cursor, limit)


async def _views(runs: Sequence[PrepaidRun]) -> list[RunView]:
    found = {UUID(str(one.pop("run_id"))): one for one in await rows(_TOTALS, [run.id for run in runs])}
    nothing = dict.fromkeys(
        ("done", "paid", "part_paid", "nothing_owed", "failed", "paid_fen", "bills", "still_owed_fen"), 0
    )
    return [RunView(run, found.get(run.id, nothing)) for run in runs]
