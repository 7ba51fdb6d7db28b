"""Settle: from somebody's word that an order was paid to posted, allocated, marked — once, whoever says it how often.

Callback, query and every later source of news come through here. The word is compared with the order that we
committed before WeChat ever heard of it; only when merchant, app, currency and amount all agree is it applied.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import structlog

from kit import clock
from models.bill import PAYABLE, BillKind
from models.discrepancy import DiscrepancyKind
from models.job import QUEUE, enqueue_tx
from models.ledger import AccountKind, EntryKind
from models.metric import SETTLEMENT_LAG, SETTLEMENTS
from models.payment import AttemptState, Channel
from models.unit_of_work import row, rows, unit_of_work
from payments import settle_sql
from payments.allocation import BillDue, LineDue, Share, spread
from payments.case import open_case_tx, resolve_case_tx
from payments.gateways.base import PaidFact
from payments.ledger import CREDITED, DEBITED, HELD_FOR_CUSTOMER, account_tx

log = structlog.get_logger()


class Settled(StrEnum):
    """What became of the word."""

    APPLIED = "applied"  # posted now
    ALREADY = "already"  # it had been posted before
    DOUBTFUL = "doubtful"  # it does not agree with our order; nothing was posted
    SUSPENDED = "suspended"  # it does not agree, but it is WeChat's own answer: to suspense, and to finance
    UNKNOWN_ORDER = "unknown_order"  # no such order here


@dataclass(frozen=True)
class Settlement:
    """The outcome; ids are None for an unknown order, ``mismatches`` names the fields that did not agree."""

    outcome: Settled
    attempt_id: UUID | None = None
    payment_id: UUID | None = None
    mismatches: tuple[str, ...] = ()


Notice = tuple[UUID, datetime]
"""A kept notification, by its id and the instant of its partition."""


async def settle(merchant_account_id: UUID, fact: PaidFact, *, asked: bool, notice: Notice | None = None) -> Settlement:
    """Apply the word that an order was paid.

    ``asked`` says that WeChat answered a question of ours (the truth); otherwise it is a callback (a hint). Afterwards
    the attempt and payment are paid, bills marked, entries posted and the consequences enqueued — or nothing changed
    but a case for finance. A word that disagrees is never applied to a bill: a callback's is only recorded, and WeChat
    gets asked; an answer suspends the payment, and its money is posted to suspense. When the word is APPLIED, the
    ``notice`` that brought it is marked as worked in the same transaction; otherwise that is the caller's to do.
    """
    settlement = await unit_of_work(settle_tx)(merchant_account_id, fact, asked=asked, notice=notice)
    source = "query" if asked else "callback"
    SETTLEMENTS.labels(source, settlement.outcome.value).inc()
    if settlement.outcome is Settled.APPLIED:
        SETTLEMENT_LAG.labels(source).observe(max((clock.now() - fact.occurred_at).total_seconds(), 0))
    return settlement


async def settle_tx(
    merchant_account_id: UUID, fact: PaidFact, *, asked: bool, notice: Notice | None = None
) -> Settlement:
    """``settle`` inside the caller's transaction: for money that moves here and nowhere else."""
    order = await row(settle_sql.LOCK_ATTEMPT, merchant_account_id, fact.out_trade_no)
    if order is None:
        return Settlement(Settled.UNKNOWN_ORDER)
    mismatches = _mismatches(order, fact)
    state = AttemptState(order["state"])
    if state is AttemptState.SUSPENDED or (state is AttemptState.PAID and not mismatches):
        if asked:
            await _resolve_doubts_tx(order, "query_agrees_with_the_journal")
        return _about(order, Settled.ALREADY)
    if not mismatches:
        await apply_tx(order, fact, notice)
        return _about(order, Settled.APPLIED)
    if asked and state is not AttemptState.PAID:
        await _suspend_tx(order, fact, mismatches)
        return _about(order, Settled.SUSPENDED, mismatches)
    await _open_case_tx(order, fact, DiscrepancyKind.DOUBTFUL_NOTICE, mismatches)
    if not asked:
        # The job asks at once; should it get no answer, the sweep goes on asking, also about a closed attempt.
        await rows(settle_sql.ASK_AGAIN, order["id"], clock.now())
        await enqueue_tx("check_attempt", {"attempt_id": str(order["id"])})
    return _about(order, Settled.DOUBTFUL, mismatches)


def _mismatches(order: dict[str, Any], fact: PaidFact) -> tuple[str, ...]:
    """The facts of the word that are not those of the order."""
    compared = {
        "mchid": (order["mchid"], fact.mchid),
        "sub_mchid": (order["sub_mchid"], fact.sub_mchid),
        "appid": (order["appid"], fact.appid),
        "sub_appid": (order["sub_appid"], fact.sub_appid or order["sub_appid"]),
        "currency": ("CNY", fact.currency),
        "amount": (order["amount_fen"], fact.amount_fen),
        "transaction_id": (order["transaction_id"] or fact.transaction_id, fact.transaction_id),
    }
    return tuple(name for name, (ours, theirs) in compared.items() if ours != theirs)


async def apply_tx(order: dict[str, Any], fact: PaidFact, notice: Notice | None = None) -> int:
    """Post, allocate and mark what surely came for ``order``: the columns of its attempt and payment, which the caller
    made or locked. The bills are locked here. Returns what found no bill, in fen; it has its case."""
    bills = await rows(settle_sql.LOCK_BILLS, order["payment_id"])
    lines = await rows(settle_sql.LINES_DUE, [bill["id"] for bill in bills])
    shares, surplus_fen = spread(fact.amount_fen, _dues(bills, lines))
    kinds = {bill["id"]: BillKind(bill["kind"]) for bill in bills}
    legs = await _legs_tx(order, shares, surplus_fen, kinds)
    await _write_tx(order, fact, shares, surplus_fen, legs, notice)
    if surplus_fen:
        await _open_case_tx(order, fact, DiscrepancyKind.SURPLUS, (), amount_fen=surplus_fen)
    return surplus_fen


def _dues(bills: Sequence[dict[str, Any]], lines: Sequence[dict[str, Any]]) -> list[BillDue]:
    """The chosen bills, oldest first, each with what it can still take: nothing when that is paid or void by now."""
    oldest_first = sorted(bills, key=lambda bill: (bill["accrued_on"], bill["due_on"], bill["id"]))
    return [
        BillDue(
            bill["id"],
            min(bill["meant_fen"], bill["owed_fen"]) if bill["state"] in PAYABLE else 0,
            [LineDue(line["id"], line["due_fen"]) for line in lines if line["bill_id"] == bill["id"]],
        )
        for bill in oldest_first
    ]


@dataclass(frozen=True)
class _Leg:
    kind: EntryKind
    leg: int
    credit_account_id: UUID
    amount_fen: int


async def _legs_tx(
    order: dict[str, Any], shares: Sequence[Share], surplus_fen: int, kinds: dict[UUID, BillKind]
) -> list[_Leg]:
    """One credit per kind of account that gets money; the legs add up to what came."""
    totals: dict[AccountKind, int] = {}
    for share in shares:
        credited = CREDITED[kinds[share.bill_id]]
        totals[credited] = totals.get(credited, 0) + share.amount_fen
    if surplus_fen:
        totals[AccountKind.SURPLUS] = surplus_fen
    legs = []
    for position, (kind, amount_fen) in enumerate(sorted(totals.items())):
        holder = order["customer_id"] if kind in HELD_FOR_CUSTOMER else None
        account_id = await _account_tx(order, kind, holder)
        entry_kind = EntryKind.SURPLUS if kind is AccountKind.SURPLUS else EntryKind.PAYMENT
        legs.append(_Leg(entry_kind, position, account_id, amount_fen))
    return legs


async def _account_tx(order: dict[str, Any], kind: AccountKind, holder_id: UUID | None) -> UUID:
    return await account_tx(order["organization_id"], order["legal_entity_id"], order["community_id"], kind, holder_id)


async def _write_tx(
    order: dict[str, Any],
    fact: PaidFact,
    shares: Sequence[Share],
    surplus_fen: int,
    legs: Sequence[_Leg],
    notice: Notice | None,
) -> None:
    kind, holder = DEBITED[Channel(order["channel"])]
    debit = await _account_tx(order, kind, order[holder])
    await rows(
        settle_sql.WRITE,
        order["id"],
        order["payment_id"],
        fact.transaction_id,
        fact.amount_fen,
        fact.occurred_at,
        surplus_fen,
        order["community_id"],
        order["legal_entity_id"],
        debit,
        [leg.kind.value for leg in legs],
        [leg.leg for leg in legs],
        [leg.credit_account_id for leg in legs],
        [leg.amount_fen for leg in legs],
        [share.bill_id for share in shares],
        [share.line_id for share in shares],
        [share.amount_fen for share in shares],
        clock.now(),
        QUEUE,
        "payment_settled",
        json.dumps({"payment_id": str(order["payment_id"])}),
        *(notice or (None, None)),
    )


async def _suspend_tx(order: dict[str, Any], fact: PaidFact, mismatches: tuple[str, ...]) -> None:
    """WeChat itself says something else than we ordered: the bills are free again, and finance has a case.

    Only a wrong amount or app is money that surely came to this merchant account, in fen: it is posted to suspense.
    What came in another currency or for another merchant is no fen of these books, and nothing is posted.
    """
    holder = order["merchant_account_id"]
    came_fen = fact.amount_fen if set(mismatches) <= {"amount", "appid", "sub_appid"} else None
    await rows(
        settle_sql.SUSPEND,
        order["id"],
        order["payment_id"],
        order["community_id"],
        order["legal_entity_id"],
        await _account_tx(order, AccountKind.WECHAT_CLEARING, holder),
        await _account_tx(order, AccountKind.SUSPENSE, holder),
        came_fen,
        fact.occurred_at,
        clock.now(),
        fact.transaction_id,
    )
    await _open_case_tx(order, fact, DiscrepancyKind.SUSPENSE, mismatches)
    await _resolve_doubts_tx(order, "query_confirmed_money_in_suspense")
    log.error(
        "payment_suspended",
        out_trade_no=order["out_trade_no"],
        payment_id=str(order["payment_id"]),
        came_fen=fact.amount_fen,
        currency=fact.currency,
        mismatches=" ".join(mismatches),
    )


async def _open_case_tx(
    order: dict[str, Any],
    fact: PaidFact,
    kind: DiscrepancyKind,
    mismatches: tuple[str, ...],
    amount_fen: int | None = None,
) -> None:
    """One case per kind and attempt, however often the same trouble is told."""
    facts = {
        "mismatches": list(mismatches),
        "expected": {"amount_fen": order["amount_fen"], "mchid": order["mchid"], "appid": order["appid"]},
        "came": {
            "amount_fen": fact.amount_fen,
            "mchid": fact.mchid,
            "appid": fact.appid,
            "currency": fact.currency,
            "transaction_id": fact.transaction_id,
            "occurred_at": fact.occurred_at.isoformat(),
        },
        "out_trade_no": order["out_trade_no"],
    }
    await open_case_tx(
        kind,
        order["id"],
        organization_id=order["organization_id"],
        community_id=order["community_id"],
        payment_id=order["payment_id"],
        amount_fen=amount_fen or max(fact.amount_fen, 1),
        facts=facts,
    )


async def _resolve_doubts_tx(order: dict[str, Any], resolution: str) -> None:
    await resolve_case_tx(DiscrepancyKind.DOUBTFUL_NOTICE, order["id"], resolution)


def _about(order: dict[str, Any], outcome: Settled, mismatches: tuple[str, ...] = ()) -> Settlement:
    return Settlement(outcome, order["id"], order["payment_id"], mismatches)
