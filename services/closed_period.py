"""月结: what stands in the way of closing a month, and closing it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import payments
from kit import clock
from kit.errors import Refusal
from kit.paging import Page
from models.access import Act, Actor, require
from models.base import get_visible
from models.closed_period import ClosedBalance, ClosedPeriod
from models.organization import LegalEntity
from models.unit_of_work import rows, unit_of_work
from services.listing import newest_first

CODE_LASTS = timedelta(minutes=15)
"""How old the session's second factor may be when a month is closed."""

_AT_MOST = 50
_COMMUNITIES = "SELECT DISTINCT community_id AS id FROM accounts WHERE legal_entity_id = $1"
_UNCLOSED = """
SELECT min(posted_on) AS first_on FROM entries
WHERE legal_entity_id = $1 AND community_id IN (SELECT community_id FROM accounts WHERE legal_entity_id = $1)
    AND posted_on < $2
    AND posted_on >= COALESCE((SELECT max(month) + interval '1 month' FROM closed_periods WHERE legal_entity_id = $1),
                              '-infinity')
"""
# A case of no payment and no merchant account is of every legal entity that has money in its community.
_OPEN_CASES = """
SELECT d.id, d.kind, d.amount_fen, d.created_at, d.payment_id, count(*) OVER ()::int AS found
FROM discrepancies d
LEFT JOIN payments p ON p.id = d.payment_id
LEFT JOIN merchant_accounts m ON m.id = d.merchant_account_id
WHERE d.state = 'open' AND d.created_at < ($2::date + interval '1 month') AT TIME ZONE 'Asia/Shanghai'
    AND CASE WHEN d.payment_id IS NOT NULL THEN p.legal_entity_id = $1
             WHEN d.merchant_account_id IS NOT NULL THEN m.legal_entity_id = $1
             ELSE d.community_id IN (SELECT community_id FROM accounts WHERE legal_entity_id = $1) END
ORDER BY d.id LIMIT $3
"""

_DIFFERENCES = """
SELECT d.id, d.kind, d.difference_fen, r.bill_on, count(*) OVER ()::int AS found
FROM differences d
JOIN reconciliations r ON r.id = d.reconciliation_id
JOIN merchant_accounts m ON m.id = d.merchant_account_id
WHERE d.state = 'open' AND m.legal_entity_id = $1 AND r.bill_on < $2::date + interval '1 month'
ORDER BY r.bill_on, d.id LIMIT $3
"""
_UNREAD = """
SELECT min(r.bill_on) AS first_on FROM reconciliations r JOIN merchant_accounts m ON m.id = r.merchant_account_id
WHERE r.state = 'waiting' AND m.legal_entity_id = $1 AND r.bill_on < $2::date + interval '1 month'
"""


class MonthNotReady(Refusal):
    """Something of the month is not decided yet; ``blockers`` says what, as its checklist does."""

    zh = "还有事项没有处理完，不能结账，请先查看结账检查清单。"
    en = "Something is not settled yet; see the checklist of the month."


class FreshSecondFactorNeeded(Refusal):
    """What cannot be undone takes a code of the last quarter of an hour."""

    status = 403
    zh = "结账后不能恢复，请开启两步验证，并在15分钟内用验证码重新登录后再操作。"
    en = "Closing cannot be undone: sign in with your second factor and close within 15 minutes."


@dataclass(frozen=True)
class Blocker:
    """One thing in the way: month_not_over, earlier_month_open, unread_bill, open_case, or open_difference. ``facts``
    name it."""

    code: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checklist:
    """Whether the month is closed, and what stands in the way; of open cases and of open differences at most 50
    each are named, the counts are of all."""

    month: date
    period: ClosedPeriod | None
    blockers: Sequence[Blocker]
    open_cases: int
    open_differences: int


@dataclass(frozen=True)
class FrozenMonth:
    """A closed month and what its accounts moved."""

    period: ClosedPeriod
    balances: Sequence[ClosedBalance]


async def check_month(actor: Actor, legal_entity_id: UUID, month: date) -> Checklist:
    """What stands in the way of closing the month. Refuses NotFound, and NotPermitted who may not read the journal in
    every community where the legal entity has money."""
    entity = await _entity(actor, legal_entity_id, Act.JOURNAL_READ)
    period = await ClosedPeriod.get_or_none(legal_entity_id=entity.id, month=month)
    if period is not None:
        return Checklist(month, period, [], 0, 0)
    return await _checklist(entity.id, month)


async def close_month(actor: Actor, legal_entity_id: UUID, month: date) -> FrozenMonth:
    """Close the month for good: no entry is posted in it or before it any more.

    Refuses NotFound; NotPermitted who may not close in every community where the legal entity has money;
    FreshSecondFactorNeeded; MonthNotReady with the ``blockers``; as the money island does: MonthClosed.
    """
    entity = await _entity(actor, legal_entity_id, Act.FINANCE_CLOSE)
    if actor.second_factor_at is None or actor.second_factor_at < clock.now() - CODE_LASTS:
        raise FreshSecondFactorNeeded()
    return await _frozen(await _close(actor, entity, month))


@unit_of_work
async def _close(actor: Actor, entity: LegalEntity, month: date) -> ClosedPeriod:
    await payments.lock_month_tx(entity.id, month)
    if await ClosedPeriod.exists(legal_entity_id=entity.id, month__gte=month):
        raise payments.MonthClosed()
    # Looked at under the lock: what posters of this month opened is there by now.
    found = await _checklist(entity.id, month)
    if found.blockers:
        raise MonthNotReady(blockers=[{"code": one.code, **one.facts} for one in found.blockers])
    return await payments.close_month_tx(actor, entity, month)


async def list_months(actor: Actor, legal_entity_id: UUID, cursor: str | None, limit: int) -> Page[ClosedPeriod]:
    """The closed months of a legal entity, the latest first. Refuses as ``check_month`` does."""
    entity = await _entity(actor, legal_entity_id, Act.JOURNAL_READ)
    return await newest_first(ClosedPeriod.filter(legal_entity_id=entity.id), cursor, limit)


async def get_month(actor: Actor, period_id: UUID) -> FrozenMonth:
    """One closed month with its frozen totals. Refuses as ``check_month`` does."""
    period = await get_visible(ClosedPeriod.filter(organization_id=actor.organization_id), period_id)
    await _entity(actor, period.legal_entity_id, Act.JOURNAL_READ)
    return await _frozen(period)


async def _frozen(period: ClosedPeriod) -> FrozenMonth:
    balances = await ClosedBalance.filter(closed_period_id=period.id).order_by("community_id", "kind")
    return FrozenMonth(period, balances)


async def _entity(actor: Actor, legal_entity_id: UUID, act: Act) -> LegalEntity:
    """The legal entity, to somebody who holds the act wherever it has money; one without money yet, to who holds the
    act in the whole organization."""
    entity = await get_visible(LegalEntity.visible_to(actor), legal_entity_id)
    communities = [one["id"] for one in await rows(_COMMUNITIES, entity.id)]
    if not communities:
        require(actor, act)
    for community_id in communities:
        require(actor, act, community_id=community_id)
    return entity


async def _checklist(legal_entity_id: UUID, month: date) -> Checklist:
    found = []
    if (clock.today().year, clock.today().month) <= (month.year, month.month):
        found.append(Blocker("month_not_over"))
    (earlier,) = await rows(_UNCLOSED, legal_entity_id, month)
    if earlier["first_on"] is not None:
        found.append(Blocker("earlier_month_open", {"month": f"{earlier['first_on']:%Y-%m}"}))
    (unread,) = await rows(_UNREAD, legal_entity_id, month)
    if unread["first_on"] is not None:
        found.append(Blocker("unread_bill", {"bill_on": unread["first_on"].isoformat()}))
    cases = await rows(_OPEN_CASES, legal_entity_id, month, _AT_MOST)
    for case in cases:
        facts = {"discrepancy_id": str(case["id"]), "kind": case["kind"], "amount_fen": case["amount_fen"]}
        found.append(Blocker("open_case", facts))
    differences = await rows(_DIFFERENCES, legal_entity_id, month, _AT_MOST)
    for one in differences:
        facts = {"difference_id": str(one["id"]), "kind": one["kind"], "amount_fen": one["difference_fen"]}
        found.append(Blocker("open_difference", facts | {"bill_on": one["bill_on"].isoformat()}))
    counts = [listed[0]["found"] if listed else 0 for listed in (cases, differences)]
    return Checklist(month, None, found, *counts)
