"""The days of every merchant account: which bills are due, fetched, compared, and looked at again until they agree."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from uuid import UUID

import structlog

from kit import clock
from models.reconciliation import (
    DAY_MACHINE,
    DayState,
    Reconciliation,
    StatementKind,
    StatementSource,
)
from models.unit_of_work import row, rows, unit_of_work
from payments.gateways.base import BillUnreadable, GatewayError
from payments.merchant import gateway_of
from payments.reconcile import Read, no_cut_off_tx, read_statement
from payments.reconcile_follow import follow_up
from payments.statement import keep, spool

log = structlog.get_logger()

READY_AT = time(10, 5)  # Beijing, the next day: WeChat writes from nine on and says: fetch after ten
LATER_AT = time(10, 30)  # when a day that does not agree yet is looked at again
ASK_AGAIN_AFTER = timedelta(minutes=30)
KEPT_DAYS = 89  # WeChat keeps three months
LOOKED_AT_DAYS = 30  # so long a day that does not agree is fetched and compared again each morning

# Every day since a merchant account is here. A service provider's sub-merchant has no fund-flow bill that it may fetch.
_MAKE_DAYS = """
INSERT INTO reconciliations (id, created_at, organization_id, merchant_account_id, kind, bill_on, state, next_check_at,
    row_count, wechat_fen, our_fen, fee_fen, pending_count)
SELECT gen_random_uuid(), $1, m.organization_id, m.id, k.kind, d::date, 'waiting',
    (d::date + 1 + $4::time) AT TIME ZONE 'Asia/Shanghai', 0, 0, 0, 0, 0
FROM merchant_accounts m
CROSS JOIN (VALUES ('trade'), ('fund_flow')) k(kind)
CROSS JOIN LATERAL generate_series(
    greatest((m.created_at AT TIME ZONE 'Asia/Shanghai')::date, $2::date), $3::date, interval '1 day') d
WHERE m.mode = 'direct' OR k.kind = 'trade'
ON CONFLICT (merchant_account_id, kind, bill_on) DO NOTHING
"""
_CLAIM = """
UPDATE reconciliations SET next_check_at = $1 WHERE id = (
    SELECT id FROM reconciliations WHERE next_check_at <= $2 ORDER BY bill_on, kind DESC, id LIMIT 1
    FOR UPDATE SKIP LOCKED)
RETURNING id
"""


@dataclass(frozen=True)
class Looked:
    """What one look at a day came to; ``problem`` says why its bill could not be read."""

    state: DayState
    problem: str | None = None


async def sweep_reconciliations() -> int:
    """Make the days that are due and look at each whose time has come; how many. The job's work; may run twice."""
    await _make_days()
    looked = 0
    while (day_id := await _claim()) is not None:
        looked += 1
        try:
            await look_at(day_id)
        except Exception:  # one merchant account's trouble must not keep the others waiting; it is tried again
            log.exception("reconciliation_failed", reconciliation_id=str(day_id))
    return looked


@unit_of_work
async def _make_days() -> None:
    today = clock.today()
    await rows(_MAKE_DAYS, clock.now(), today - timedelta(days=KEPT_DAYS), today - timedelta(days=1), READY_AT)


@unit_of_work
async def _claim() -> UUID | None:
    now = clock.now()
    found = await row(_CLAIM, now + ASK_AGAIN_AFTER, now)
    return UUID(str(found["id"])) if found else None


async def look_at(day_id: UUID) -> Looked:
    """Fetch a day's bill, compare it, and do what follows. Refuses nothing: why it could not be read stands on the day,
    which is looked at again."""
    day = await Reconciliation.get(id=day_id)
    if day.bill_on < clock.today() - timedelta(days=KEPT_DAYS):
        log.error("bill_gone", merchant_account_id=str(day.merchant_account_id), bill_on=str(day.bill_on))
        return await _decide(day_id, DayState.GONE, "older than WeChat keeps")
    file = spool()
    try:
        gateway = await gateway_of(day.merchant_account_id)
        if not await gateway.bill_file(day.kind, day.bill_on, file):
            return await _quiet(day)
        file.seek(0)
        statement, _ = await keep(day.merchant_account_id, file, StatementSource.FETCHED)
        await compare(statement.id, day.bill_on)
    except (GatewayError, BillUnreadable) as error:
        log.warning("bill_not_read", merchant_account_id=str(day.merchant_account_id), bill_on=str(day.bill_on),
                    kind=day.kind.value, reason=str(error))  # fmt: skip
        return await _decide(day_id, None, str(error)[:200])
    finally:
        file.close()
    return Looked(DayState.READ)


async def compare(statement_id: UUID, bill_on: date | None = None) -> Read:
    """Read a kept file, ask WeChat about what an answer can mend, and compare once more. Raises BillUnreadable."""
    read = await read_statement(statement_id, bill_on)
    if read.open_count and await follow_up(read.reconciliation_id):
        read = await read_statement(statement_id, read.bill_on)
    await _look_later(read.reconciliation_id)
    return read


@unit_of_work
async def _look_later(day_id: UUID) -> None:
    """A day with an open difference or an undecided refund is looked at again tomorrow; one that agrees is not."""
    day = await Reconciliation.select_for_update().get(id=day_id)
    found = await row("SELECT count(*) AS n FROM differences WHERE reconciliation_id = $1 AND state = 'open'", day_id)
    unsettled = day.pending_count or (found and found["n"])
    recent = day.bill_on >= clock.today() - timedelta(days=LOOKED_AT_DAYS)
    day.next_check_at = _tomorrow() if unsettled and recent else None
    await day.save(update_fields=["next_check_at"])


def _tomorrow() -> datetime:
    return datetime.combine(clock.today() + timedelta(days=1), LATER_AT, clock.BEIJING)


async def _quiet(day: Reconciliation) -> Looked:
    """WeChat says that nothing happened. Where our own books say otherwise, an open difference says so."""
    found = await _decide(day.id, DayState.QUIET, None)
    if day.kind is StatementKind.TRADE and found.state is DayState.QUIET:
        await _missing_on_a_quiet_day(day.id)
    return found


_MISSING = """
INSERT INTO differences (id, created_at, organization_id, merchant_account_id, reconciliation_id, community_id, about,
    number, kind, attempt_id, out_trade_no, channel_number, occurred_at, our_fen, difference_fen, fee_fen, our_status,
    placed_fen, state)
SELECT gen_random_uuid(), now(), r.organization_id, r.merchant_account_id, r.id, a.community_id, 'payment',
    a.out_trade_no,
    CASE WHEN a.paid_at >= $3::timestamptz - interval '10 minutes' THEN 'cut_off' ELSE 'only_with_us' END, a.id,
    a.out_trade_no, a.transaction_id, a.paid_at, a.received_fen, -a.received_fen, 0, a.state, 0, 'open'
FROM reconciliations r JOIN payment_attempts a ON a.merchant_account_id = r.merchant_account_id
  AND a.paid_at >= $2 AND a.paid_at < $3 AND a.state IN ('paid', 'suspended') AND a.received_fen IS NOT NULL
JOIN payments p ON p.id = a.payment_id AND p.channel LIKE 'wechat%'
WHERE r.id = $1 ON CONFLICT (reconciliation_id, about, number) DO NOTHING
"""
_OUR_TOTAL = """
UPDATE reconciliations SET our_fen = -COALESCE(
    (SELECT sum(difference_fen) FROM differences WHERE reconciliation_id = $1), 0) WHERE id = $1
"""


@unit_of_work
async def _missing_on_a_quiet_day(day_id: UUID) -> None:
    day = await Reconciliation.select_for_update().get(id=day_id)
    begins = datetime.combine(day.bill_on, time(), clock.BEIJING)
    await rows(_MISSING, day_id, begins, begins + timedelta(days=1))
    await rows(_OUR_TOTAL, day_id)
    await no_cut_off_tx(day.merchant_account_id, day.bill_on - timedelta(days=1))
    found = await row("SELECT count(*) AS n FROM differences WHERE reconciliation_id = $1 AND state = 'open'", day_id)
    if found and found["n"]:
        # WeChat may have been too early with its word; it is asked once more tomorrow, for as long as it differs.
        day.next_check_at = _tomorrow()
        await day.save(update_fields=["next_check_at"])


@unit_of_work
async def _decide(day_id: UUID, state: DayState | None, problem: str | None) -> Looked:
    """What WeChat said instead of a bill; one that was read before stays read."""
    day = await Reconciliation.select_for_update().get(id=day_id)
    day.problem = problem
    if state is not None:
        day.next_check_at = None
        if day.state is not state and day.state is not DayState.READ and DAY_MACHINE.allows(day.state, state):
            DAY_MACHINE.enter(day, state)
    await day.save(update_fields=["problem", "state", "next_check_at"])
    return Looked(day.state, problem)
