"""对账: the days of each merchant account, their differences, and what finance does about them."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from tortoise.expressions import Q

import payments
from kit import clock
from kit.errors import InvalidInput, NotFound
from kit.paging import Page, decode_cursor, page_of
from models import audit
from models.access import Act, Actor, require, require_somewhere
from models.base import get_visible
from models.community import Community
from models.job import enqueue_tx
from models.merchant_account import MerchantAccount
from models.reconciliation import (
    DIFFERENCE_MACHINE,
    Difference,
    DifferenceKind,
    DifferenceState,
    Reconciliation,
    Statement,
    StatementKind,
    StatementSource,
)
from models.unit_of_work import rows, unit_of_work
from services.listing import newest_first, wanted_id

_BY_KIND = """
SELECT reconciliation_id, kind, state, count(*)::int AS number, sum(difference_fen)::bigint AS fen FROM differences
WHERE reconciliation_id = ANY($1::uuid[]) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


class StatementUnreadable(InvalidInput):
    """The file is empty, too large, or no whole gzip; whether it is a bill at all is said once it was read."""

    zh = "无法读取这个文件，请上传从微信商户平台下载的账单（CSV 或 GZIP）。"
    en = "This file cannot be read; give the bill as downloaded from WeChat's merchant platform (CSV or gzip)."


@dataclass(frozen=True)
class KindSum:
    """The differences of one kind and state on a day."""

    kind: DifferenceKind
    state: DifferenceState
    number: int
    fen: int


@dataclass(frozen=True)
class DayView:
    """A day, its merchant account's name, and its differences by kind: they add up to what the totals differ by."""

    day: Reconciliation
    merchant_account_name: str
    sums: Sequence[KindSum]


async def list_days(
    actor: Actor, merchant_account_id: str | None, kind: StatementKind | None, cursor: str | None, limit: int
) -> Page[DayView]:
    """The newest day first. Finance and auditors of the organization. Refuses NotPermitted, CursorNotValid."""
    require_somewhere(actor, Act.RECONCILIATION_READ)
    query = Reconciliation.visible_to(actor)
    if merchant_account_id is not None:
        query = query.filter(merchant_account_id=wanted_id(merchant_account_id))
    if kind is not None:
        query = query.filter(kind=kind)
    if cursor:
        day, last = decode_cursor(cursor, (_day, UUID))
        query = query.filter(Q(bill_on__lt=day) | Q(bill_on=day, id__lt=last))
    found = await query.order_by("-bill_on", "-id").limit(limit + 1)
    page = page_of(found, limit, lambda one: (one.bill_on.isoformat(), one.id))
    return Page(await _views(page.items), page.next_cursor)


def _day(value: object) -> date:
    if not isinstance(value, str):
        raise ValueError("not a day")
    return date.fromisoformat(value)


async def _views(days: Sequence[Reconciliation]) -> list[DayView]:
    sums: dict[UUID, list[KindSum]] = {day.id: [] for day in days}
    for one in await rows(_BY_KIND, list(sums)) if days else []:
        sums[one["reconciliation_id"]].append(
            KindSum(DifferenceKind(one["kind"]), DifferenceState(one["state"]), one["number"], one["fen"])
        )
    accounts = await MerchantAccount.filter(id__in={day.merchant_account_id for day in days})
    names: Mapping[UUID, str] = {account.id: account.name for account in accounts}
    return [DayView(day, names[day.merchant_account_id], sums[day.id]) for day in days]


async def get_day(actor: Actor, day_id: UUID) -> DayView:
    """One day; NotFound when it is not the actor's to see."""
    day = await get_visible(Reconciliation.visible_to(actor), day_id)
    return (await _views([day]))[0]


async def list_statements(actor: Actor, day_id: UUID) -> list[Statement]:
    """Every file that came for the day, the newest first: the one that counts and those that it superseded."""
    day = await get_visible(Reconciliation.visible_to(actor), day_id)
    same = Statement.filter(merchant_account_id=day.merchant_account_id, kind=day.kind, bill_on=day.bill_on)
    return await same.order_by("-id").limit(100)


async def run_again(actor: Actor, day_id: UUID) -> DayView:
    """Have the bill of a day fetched from WeChat and compared now, by a job; ``read_at`` tells when it was, and
    ``problem`` why it could not be. Refuses NotFound, NotPermitted."""
    day = await get_visible(Reconciliation.visible_to(actor), day_id)
    require_somewhere(actor, Act.RECONCILIATION_RUN)
    await _ask_for(actor, day)
    return await get_day(actor, day.id)


@unit_of_work
async def _ask_for(actor: Actor, day: Reconciliation) -> None:
    await audit.record_tx(
        actor, "reconciliation.run", "reconciliation", day.id, organization_id=day.organization_id,
        after={"kind": day.kind.value, "bill_on": day.bill_on.isoformat()},
    )  # fmt: skip
    await enqueue_tx("reconcile_day", {"reconciliation_id": str(day.id)})


async def give_statement(actor: Actor, merchant_account_id: UUID, content: bytes) -> Statement:
    """Keep a file that somebody gives by hand; a job reads it, so its state says later what became of it. The same file
    again is the same statement. Refuses NotFound, NotPermitted, StatementUnreadable."""
    require_somewhere(actor, Act.RECONCILIATION_RUN)
    account = await MerchantAccount.get_or_none(id=merchant_account_id, organization_id=actor.organization_id)
    if account is None:
        raise NotFound()
    try:
        statement, _ = await payments.keep_statement(account.id, io.BytesIO(content), StatementSource.BY_HAND, by=actor)
    except payments.BillUnreadable:
        raise StatementUnreadable(fields=[{"field": "body", "code": "file"}]) from None
    return statement


async def get_statement(actor: Actor, statement_id: UUID) -> Statement:
    """One file; NotFound when it is not the actor's to see."""
    return await get_visible(Statement.visible_to(actor), statement_id)


async def list_differences(
    actor: Actor,
    reconciliation_id: str | None,
    state: DifferenceState | None,
    kind: DifferenceKind | None,
    cursor: str | None,
    limit: int,
) -> Page[Difference]:
    """Of one day, or of all: with ``state`` open it is finance's work list. Refuses NotPermitted."""
    require_somewhere(actor, Act.RECONCILIATION_READ)
    query = Difference.visible_to(actor)
    if reconciliation_id is not None:
        query = query.filter(reconciliation_id=wanted_id(reconciliation_id))
    if state is not None:
        query = query.filter(state=state)
    if kind is not None:
        query = query.filter(kind=kind)
    return await newest_first(query, cursor, limit)


async def get_difference(actor: Actor, difference_id: UUID) -> Difference:
    """One difference; NotFound when it is not the actor's to see."""
    return await get_visible(Difference.visible_to(actor), difference_id)


async def resolve_difference(actor: Actor, difference_id: UUID, resolution: str) -> Difference:
    """Note what was found and done; moves no money. Refuses NotFound, NotPermitted, MoveNotAllowed (not open)."""
    await _allowed(actor, difference_id)
    return await _resolve(actor, difference_id, resolution)


async def _allowed(actor: Actor, difference_id: UUID) -> Difference:
    found = await get_visible(Difference.visible_to(actor), difference_id)
    if found.community_id is None:
        require_somewhere(actor, Act.RECONCILIATION_RUN)
    else:
        require(actor, Act.RECONCILIATION_RUN, community_id=found.community_id)
    return found


@unit_of_work
async def _resolve(actor: Actor, difference_id: UUID, resolution: str) -> Difference:
    difference = await Difference.select_for_update().get(id=difference_id)
    DIFFERENCE_MACHINE.enter(
        difference,
        DifferenceState.RESOLVED,
        resolved_at=clock.now(),
        resolved_by_staff_id=actor.id,
        resolution=resolution,
    )
    await difference.save(update_fields=["state", "resolved_at", "resolved_by_staff_id", "resolution"])
    await _record_tx(actor, "difference.resolve", difference, {"state": "resolved"})
    return difference


async def place_difference(actor: Actor, difference_id: UUID, community_id: str) -> Difference:
    """Say of which community money is that only WeChat knew; WeChat is asked once more, and it is posted to suspense.

    Refuses NotFound (also a community that is not the actor's), NotPermitted, DifferenceNotConfirmed.
    """
    difference = await _allowed(actor, difference_id)
    community = await get_visible(Community.visible_to(actor), community_id)
    require(actor, Act.RECONCILIATION_RUN, community_id=community.id)
    await payments.confirm_difference(difference.id)
    return await _place(actor, difference.id, community.id)


@unit_of_work
async def _place(actor: Actor, difference_id: UUID, community_id: UUID) -> Difference:
    if not await payments.place_difference_tx(difference_id, community_id):
        raise payments.DifferenceNotConfirmed()
    difference = await Difference.get(id=difference_id)
    await _record_tx(actor, "difference.place", difference, {"placed_fen": difference.placed_fen})
    return difference


async def _record_tx(actor: Actor, act: str, difference: Difference, after: Mapping[str, Any]) -> None:
    await audit.record_tx(
        actor, act, "difference", difference.id, organization_id=difference.organization_id,
        community_id=difference.community_id, after=after,
    )  # fmt: skip
