"""Catching up: books that came back from a backup ask WeChat about everything since.

An order that the books hold is asked about by its number, as the janitor does. An order or refund that was made after
the backup is unknown here, so no number can be asked for: it is found in WeChat's trade bills, day by day, and becomes
a case for finance. A bill is there from ten o'clock of the next morning, so catching up may take until then.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import structlog

from kit import clock
from kit.ids import new_id
from models.catch_up import CATCH_UP_DAY_MACHINE, CatchUp, CatchUpDay, CatchUpDayState
from models.discrepancy import Discrepancy, DiscrepancyKind, DiscrepancyState
from models.merchant_account import MerchantAccount
from models.payment import UNDECIDED, AttemptState
from models.refund import UNDECIDED_REFUND, RefundAttemptState
from models.unit_of_work import row, rows, unit_of_work
from payments import janitor
from payments.gateways.base import BillUnreadable, GatewayError, TradeBill, TradeLine
from payments.merchant import gateway_of
from payments.refund_foreign import foreign_source
from payments.refund_janitor import check_refund, sweep_refunds

log = structlog.get_logger()

BILL_READY_AT = time(10, 5)  # Beijing, the next day; WeChat writes it from nine and says: fetch after ten
BILLS_KEPT = timedelta(days=90)
ASK_AGAIN_AFTER = timedelta(minutes=30)
LONGEST_ORDER = timedelta(hours=2)  # an order opened just before the books were lost may be paid this much later
CLOCK_SKEW = timedelta(minutes=10)
_LINES_AT_ONCE = 500
_HAS_THE_MONEY = (AttemptState.PAID, AttemptState.SUSPENDED)
_OUR_NUMBER = re.compile(r"L\d{8}[0-9A-Z]{18}")

# A closed attempt can have been paid before the close reached WeChat; long after its end nothing can have happened.
_ASK_AGAIN = """
UPDATE payment_attempts SET next_check_at = $1
WHERE state = ANY($2::text[]) OR (state = 'closed' AND expires_at > $3) RETURNING id
"""
_ASK_REFUNDS_AGAIN = "UPDATE refund_attempts SET next_check_at = $1 WHERE state = ANY($2::text[]) RETURNING id"
_CLAIM_DAY = """
UPDATE catch_up_days SET next_check_at = $1 WHERE id = (
    SELECT id FROM catch_up_days WHERE next_check_at <= $2 ORDER BY bill_on, id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id
"""
_KNOWN = """
SELECT out_trade_no, id, state, payment_id, community_id FROM payment_attempts
WHERE merchant_account_id = $1 AND out_trade_no = ANY($2::text[])
"""
_KNOWN_REFUNDS = """
SELECT out_refund_no, id, state FROM refund_attempts
WHERE merchant_account_id = $1 AND out_refund_no = ANY($2::text[])
"""
_FINISH = """
UPDATE catch_ups c SET finished_at = $1 WHERE finished_at IS NULL
  AND NOT EXISTS (SELECT FROM catch_up_days d WHERE d.catch_up_id = c.id AND d.state = 'waiting') RETURNING id
"""
# The one community that is paid at this merchant account; none when there are several.
_ONLY_COMMUNITY = """
SELECT min(id::text) AS id FROM (
    SELECT id FROM communities WHERE merchant_account_id = $1
    UNION SELECT community_id FROM fee_items WHERE merchant_account_id = $1
) paid HAVING count(*) = 1
"""
_OPEN_CASE = """
INSERT INTO discrepancies (id, created_at, organization_id, community_id, kind, source_id, payment_id,
                           merchant_account_id, amount_fen, facts, state)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (kind, source_id) DO NOTHING
"""

Tell = Callable[[str], None]


def _silent(_: str) -> None:
    return None


@dataclass(frozen=True)
class CatchUpReport:
    """How far it is: attempts asked about and settled by it, days by state, lines that only WeChat knows."""

    asked: int
    settled: int
    read: int
    waiting: int
    gone: int
    only_at_wechat: int
    finished: bool


async def begin_catch_up(backed_up_at: datetime) -> UUID:
    """Note that these books are as of ``backed_up_at`` and WeChat is ahead of them; the id of what is under way.

    One that is under way already is widened instead. Refuses (ValueError) a moment in the future.
    """
    if backed_up_at > clock.now():
        raise ValueError("books cannot be of a moment that has not come yet")
    return await _begin(backed_up_at)


@unit_of_work
async def _begin(backed_up_at: datetime) -> UUID:
    found = await CatchUp.filter(finished_at=None).select_for_update().get_or_none()
    if found is None:
        found = await CatchUp.create(backed_up_at=backed_up_at)
    elif backed_up_at < found.backed_up_at:
        found.backed_up_at = backed_up_at
        await found.save(update_fields=["backed_up_at"])
    day, last = clock.business_date(found.backed_up_at), clock.business_date(clock.now() + LONGEST_ORDER)
    accounts = await MerchantAccount.all().values_list("id", flat=True)
    days = [day + timedelta(days=number) for number in range((last - day).days + 1)]
    await CatchUpDay.bulk_create(
        (
            CatchUpDay(catch_up_id=found.id, merchant_account_id=account, bill_on=one, next_check_at=_ready_at(one))
            for account in accounts
            for one in days
        ),
        ignore_conflicts=True,
    )
    return UUID(str(found.id))


def _ready_at(bill_on: date) -> datetime:
    return datetime.combine(bill_on + timedelta(days=1), BILL_READY_AT, clock.BEIJING)


async def catch_up(tell: Tell = _silent) -> CatchUpReport | None:
    """Ask WeChat about everything since the backup, as far as it can be asked now; None when nothing is under way.

    May be repeated at any time: what is settled stays settled, and a case is opened once. Days whose bill is not there
    yet are left to the job.
    """
    under_way = await CatchUp.get_or_none(finished_at=None)
    if under_way is None:
        return None
    asked, refunds = await _ask_again(under_way.backed_up_at)
    tell(f"{len(asked)} orders and {refunds} refunds that the books hold are asked about")
    while await janitor.sweep() + await sweep_refunds():
        tell("… still asking")
    await read_bills(tell)
    return await _report(UUID(str(under_way.id)), asked)


@unit_of_work
async def _ask_again(backed_up_at: datetime) -> tuple[Sequence[UUID], int]:
    """Whatever is decided by asking WeChat gets its next look now: the attempts, and how many refunds. Everything of
    the island with a ``next_check_at`` that WeChat answers belongs here."""
    now, states = clock.now(), [state.value for state in UNDECIDED]
    attempts = await rows(_ASK_AGAIN, now, states, backed_up_at - janitor.GIVEN_UP_AFTER)
    refunds = await rows(_ASK_REFUNDS_AGAIN, now, [state.value for state in UNDECIDED_REFUND])
    return [UUID(str(one["id"])) for one in attempts], len(refunds)


async def read_bills(tell: Tell = _silent) -> int:
    """Read every day's bill that should be there by now; how many days were tried. The job's work; may run twice."""
    tried = 0
    while (day_id := await _claim_day()) is not None:
        tried += 1
        day = await CatchUpDay.get(id=day_id)
        try:
            await _read_day(day, tell)
        except Exception:  # one merchant account's trouble must not keep the others waiting; it is tried again
            log.exception("bill_failed", merchant_account_id=str(day.merchant_account_id), bill_on=str(day.bill_on))
            tell(f"{day.bill_on}: could not be worked, the log says why; asked again every half hour")
    await _finish()
    return tried


@unit_of_work
async def _claim_day() -> UUID | None:
    now = clock.now()
    found = await row(_CLAIM_DAY, now + ASK_AGAIN_AFTER, now)
    return UUID(str(found["id"])) if found else None


async def _read_day(day: CatchUpDay, tell: Tell) -> None:
    account = await MerchantAccount.get(id=day.merchant_account_id)
    about = f"{day.bill_on} of {account.name}"
    if day.bill_on < clock.today() - BILLS_KEPT:
        log.error("bill_gone", merchant_account_id=str(account.id), bill_on=str(day.bill_on))
        tell(f"{about}: WeChat no longer has this bill; compare by hand")
        return await _decide(day.id, CatchUpDayState.GONE)
    try:
        bill = await (await gateway_of(account.id)).trade_bill(day.bill_on)
    except (GatewayError, BillUnreadable) as error:
        log.warning("bill_not_read", merchant_account_id=str(account.id), bill_on=str(day.bill_on), reason=str(error))
        return tell(f"{about}: not to be had yet ({error}); asked again every half hour")
    missing = await _compare(account, day, bill)
    await _decide(day.id, CatchUpDayState.READ, line_count=len(bill.lines), missing_count=missing)
    tell(f"{about}: {len(bill.lines)} lines, {missing} that the books do not know")


@unit_of_work
async def _decide(day_id: UUID, state: CatchUpDayState, **facts: int) -> None:
    day = await CatchUpDay.select_for_update().get(id=day_id)
    if day.state is CatchUpDayState.WAITING:
        CATCH_UP_DAY_MACHINE.enter(day, state, next_check_at=None, **facts)
        await day.save(update_fields=["state", "next_check_at", *facts])


@unit_of_work
async def _finish() -> None:
    for done in await rows(_FINISH, clock.now()):
        log.info("caught_up", catch_up_id=str(done["id"]))


async def _compare(account: MerchantAccount, day: CatchUpDay, bill: TradeBill) -> int:
    """Open a case for what only WeChat knows and ask about what the books hold as unpaid; how many are not known."""
    under_way = await CatchUp.get(id=day.catch_up_id)
    since = under_way.backed_up_at - CLOCK_SKEW
    lines = [line for line in bill.lines if line.occurred_at >= since]
    only = await row(_ONLY_COMMUNITY, account.id)
    missing = 0
    for start in range(0, len(lines), _LINES_AT_ONCE):
        some = lines[start : start + _LINES_AT_ONCE]
        found = await rows(_KNOWN, account.id, [line.out_trade_no for line in some])
        known = {one["out_trade_no"]: one for one in found}
        found = await rows(_KNOWN_REFUNDS, account.id, [line.out_refund_no for line in some if line.out_refund_no])
        refunds = {one["out_refund_no"]: one for one in found}
        for line in some:
            attempt, refund = known.get(line.out_trade_no), refunds.get(line.out_refund_no)
            if (attempt if line.refund_id is None else refund) is None:
                missing += 1
                await _open_case(account, day.bill_on, line, attempt, UUID(only["id"]) if only else None)
            elif refund is not None and refund["state"] != RefundAttemptState.SUCCEEDED:
                await check_refund(refund["id"])
            elif refund is None and attempt is not None and attempt["state"] not in _HAS_THE_MONEY:
                await janitor.check_attempt(attempt["id"])
    return missing


@unit_of_work
async def _open_case(
    account: MerchantAccount, bill_on: date, line: TradeLine, attempt: dict[str, Any] | None, community_id: UUID | None
) -> None:
    """One case a line, however often the bill is read. A refund that a notice made a case of has it already."""
    number = line.refund_id or line.transaction_id
    if (
        attempt
        and line.out_refund_no
        and await Discrepancy.exists(
            kind=DiscrepancyKind.FOREIGN_REFUND, source_id=foreign_source(attempt["id"], line.out_refund_no)
        )
    ):
        return
    facts = {
        "line": "refund" if line.refund_id else "payment",
        "bill_on": bill_on.isoformat(),
        "out_trade_no": line.out_trade_no,
        "number_is_ours": bool(_OUR_NUMBER.fullmatch(line.out_trade_no)),
        "came": {
            "amount_fen": line.amount_fen,
            "mchid": line.mchid,
            "transaction_id": line.transaction_id,
            "occurred_at": line.occurred_at.isoformat(),
            "refund_id": line.refund_id,
            "out_refund_no": line.out_refund_no,
            "refund_state": line.refund_state,
        },
    }
    await rows(
        _OPEN_CASE,
        new_id(),
        clock.now(),
        account.organization_id,
        attempt["community_id"] if attempt else community_id,
        DiscrepancyKind.ONLY_AT_WECHAT.value,
        source_of(line.mchid, number),
        attempt["payment_id"] if attempt else None,
        account.id,
        line.amount_fen,
        json.dumps(facts, ensure_ascii=False),
        DiscrepancyState.OPEN.value,
    )


def source_of(mchid: str, number: str) -> UUID:
    """What stands for a thing of WeChat's that has no row here: the same number always gives the same id."""
    return uuid5(NAMESPACE_URL, f"wechat-pay:{mchid}:{number}")


async def _report(catch_up_id: UUID, asked: Sequence[UUID]) -> CatchUpReport:
    found = await row(
        "SELECT count(*) FILTER (WHERE state = 'read') AS read, count(*) FILTER (WHERE state = 'waiting') AS waiting,"
        " count(*) FILTER (WHERE state = 'gone') AS gone, COALESCE(sum(missing_count), 0)::int AS missing,"
        " (SELECT count(*) FROM payment_attempts WHERE id = ANY($2::uuid[]) AND state = 'paid') AS settled"
        " FROM catch_up_days WHERE catch_up_id = $1",
        catch_up_id,
        asked,
    )
    assert found is not None
    return CatchUpReport(
        asked=len(asked),
        settled=found["settled"],
        read=found["read"],
        waiting=found["waiting"],
        gone=found["gone"],
        only_at_wechat=found["missing"],
        finished=await CatchUp.exists(id=catch_up_id, finished_at__isnull=False),
    )
