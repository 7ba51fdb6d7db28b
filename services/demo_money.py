"""The demo's money: payments that were made over the months, through the one settle that all money goes through.

The sandbox does not know these orders, and needs not: they are decided. Each is written as if it had been opened, and
then settled on the word that it was paid, at the time that it was paid.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import payments
from kit import clock
from kit.ids import new_id
from kit.money import format_yuan
from models.merchant_account import MerchantAccount, MerchantMode
from models.message import Message, MessageKind, MessageState
from models.payment import Channel, Payment, PaymentAttempt, PaymentBill
from models.receipt import Receipt
from models.unit_of_work import rows, unit_of_work
from services.demo_company import MadeCommunity, MadeCompany
from services.demo_names import Dice
from services.demo_plan import Habit
from services.demo_register import Household, months_before

_AT_ONCE = 6
_PART = 3  # a part payment leaves out a third of the last bill

# Payments in which of the months before this one (0: this month), by habit.
_PAYS = {
    Habit.PROMPT: (3, 1),
    Habit.COMPLETE: (3, 0),
    Habit.LATE: (1,),
    Habit.BEHIND: (4,),
    Habit.PART: (1,),
    Habit.SILENT: (),
}
_OPEN_BILLS = """
SELECT id, room_id, customer_id, legal_entity_id, merchant_account_id, amount_fen, accrued_on, issued_at
FROM bills WHERE community_id = $1 ORDER BY accrued_on, id
"""


@dataclass
class _Paying:
    """A payment to make: whose bills, how much of each, by whom and when."""

    at: datetime
    household: Household
    bills: Sequence[Mapping[str, Any]]
    amounts: list[int]
    payment_id: UUID
    out_trade_no: str

    @property
    def amount_fen(self) -> int:
        return sum(self.amounts)


async def make_payments(
    dice: Dice, company: MadeCompany, made: MadeCommunity, households: Sequence[Household], today: date
) -> int:
    """Pay bills of a community as the households' habits say; how many payments. Each has its receipt and its message.

    Afterwards old bills are mostly paid, some in part, some are overdue, and every invariant of the money holds.
    """
    planned = await _plan(dice, made, households, today)
    accounts = {account.id: account for account in await MerchantAccount.filter(id__in=made.merchant_account_ids)}
    await _open(company, made, planned, accounts)
    for day in sorted({paying.at for paying in planned}):
        with clock.travel_to(day + timedelta(seconds=5)):
            await _settle_all([paying for paying in planned if paying.at == day], company, made, accounts)
    await _tell(dice, company, made, planned)
    return len(planned)


async def _plan(dice: Dice, made: MadeCommunity, households: Sequence[Household], today: date) -> list[_Paying]:
    by_room: dict[UUID, list[dict[str, Any]]] = {}
    for bill in await rows(_OPEN_BILLS, made.community.id):
        by_room.setdefault(bill["room_id"], []).append(bill)
    planned: list[_Paying] = []
    for household in households:
        owed = by_room.get(household.room.id, [])
        for back in _PAYS[household.habit] if household.payer_resident_id else ():
            at = _moment(dice, today, back)
            due = [bill for bill in owed if bill["issued_at"] < at]
            owed = [bill for bill in owed if bill["issued_at"] >= at]
            for group in _groups(due):
                amounts = [bill["amount_fen"] for bill in group]
                if household.habit is Habit.PART:
                    amounts[-1] -= max(amounts[-1] // _PART, 1) if amounts[-1] > 1 else 0
                order = f"L{at:%Y%m%d}{dice.letters(f'{made.plan.code}:{len(planned)}', 18)}"
                planned.append(_Paying(at, household, group, amounts, _id_at(at), order))
    return sorted(planned, key=lambda paying: paying.at)


def _id_at(instant: datetime) -> UUID:
    """An id as if made then: lists that show the newest first go by id."""
    millis = int(instant.timestamp()) * 1000
    return UUID(int=millis << 80 | new_id().int & ((1 << 80) - 1))


def _moment(dice: Dice, today: date, back: int) -> datetime:
    """Some day in the month so many months ago, never in the future. Days are few, so that many settle together."""
    if back == 0:
        return clock.now().replace(microsecond=0) - timedelta(minutes=50)
    day = months_before(today, back).replace(day=dice.random.choice((6, 9, 12, 18, 24)))
    return datetime.combine(day, time(dice.random.choice((9, 12, 20)), 30), clock.BEIJING)


def _groups(bills: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Bills that may be paid together: of one debtor and one merchant account."""
    groups: dict[tuple[UUID, UUID], list[dict[str, Any]]] = {}
    for bill in bills:
        groups.setdefault((bill["customer_id"], bill["merchant_account_id"]), []).append(bill)
    return list(groups.values())


@unit_of_work
async def _open(
    company: MadeCompany, made: MadeCommunity, planned: Sequence[_Paying], accounts: Mapping[UUID, MerchantAccount]
) -> None:
    """Payments, choices and attempts as an opening leaves them behind."""
    await Payment.bulk_create(
        [
            Payment(
                id=paying.payment_id,
                created_at=paying.at - timedelta(seconds=40),
                organization_id=company.organization.id,
                community_id=made.community.id,
                customer_id=paying.bills[0]["customer_id"],
                legal_entity_id=paying.bills[0]["legal_entity_id"],
                merchant_account_id=paying.bills[0]["merchant_account_id"],
                channel=Channel.WECHAT_JSAPI,
                payer_resident_id=paying.household.payer_resident_id,
                amount_fen=paying.amount_fen,
            )
            for paying in planned
        ]
    )
    await PaymentBill.bulk_create(
        [
            PaymentBill(
                community_id=made.community.id,
                payment_id=paying.payment_id,
                bill_id=bill["id"],
                customer_id=bill["customer_id"],
                legal_entity_id=bill["legal_entity_id"],
                amount_fen=amount_fen,
            )
            for paying in planned
            for bill, amount_fen in zip(paying.bills, paying.amounts, strict=True)
        ]
    )
    await PaymentAttempt.bulk_create(
        [_attempt(company, made, paying, accounts[paying.bills[0]["merchant_account_id"]]) for paying in planned]
    )


def _attempt(company: MadeCompany, made: MadeCommunity, paying: _Paying, account: MerchantAccount) -> PaymentAttempt:
    order = {
        "appid": company.app.appid,
        "mchid": account.mchid,
        "out_trade_no": paying.out_trade_no,
        "amount": {"total": paying.amount_fen, "currency": "CNY"},
        "payer": {"openid": paying.household.payer_openid},
    }
    return PaymentAttempt(
        created_at=paying.at - timedelta(seconds=40),
        community_id=made.community.id,
        payment_id=paying.payment_id,
        merchant_account_id=account.id,
        mode=MerchantMode.DIRECT,
        mchid=account.mchid,
        appid=company.app.appid,
        openid=paying.household.payer_openid,
        out_trade_no=paying.out_trade_no,
        amount_fen=paying.amount_fen,
        request=json.dumps(order, ensure_ascii=False),
        expires_at=paying.at + timedelta(minutes=29),
        next_check_at=clock.now() + timedelta(minutes=30),  # the janitor leaves it alone while the demo is made
    )


async def _settle_all(
    planned: Sequence[_Paying],
    company: MadeCompany,
    made: MadeCommunity,
    accounts: Mapping[UUID, MerchantAccount],
) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(paying: _Paying) -> None:
        account = accounts[paying.bills[0]["merchant_account_id"]]
        fact = payments.PaidFact(
            mchid=account.mchid,
            sub_mchid=None,
            appid=company.app.appid,
            out_trade_no=paying.out_trade_no,
            transaction_id=f"4200{paying.payment_id.int % 10**24:024d}",
            amount_fen=paying.amount_fen,
            currency="CNY",
            occurred_at=paying.at,
            openid=paying.household.payer_openid,
        )
        async with gate:
            done = await payments.settle(account.id, fact, asked=True)
            if done.outcome is not payments.Settled.APPLIED:
                raise RuntimeError(f"a payment of the demo was not applied: {done}")
            await payments.issue_receipt(paying.payment_id)

    await asyncio.gather(*(one(paying) for paying in planned))


@unit_of_work
async def _tell(dice: Dice, company: MadeCompany, made: MadeCommunity, planned: Sequence[_Paying]) -> None:
    """The messages that followed, told long ago: nothing of the past is sent when the worker starts."""
    paid = {paying.payment_id: paying for paying in planned}
    messages = []
    for receipt in await Receipt.filter(payment_id__in=list(paid)):
        paying = paid[receipt.payment_id]
        sent = dice.chance(70)
        messages.append(
            Message(
                id=_id_at(paying.at),
                created_at=paying.at + timedelta(seconds=6),
                organization_id=company.organization.id,
                community_id=made.community.id,
                resident_id=receipt.payer_resident_id,
                kind=MessageKind.PAYMENT_RECEIVED,
                source_id=receipt.payment_id,
                data={
                    "thing1": f"{made.community.name}缴费成功",
                    "amount2": f"{format_yuan(receipt.amount_fen)}元",
                    "character_string3": receipt.number,
                },
                state=MessageState.SENT if sent else MessageState.REFUSED,
                attempts=1,
                sent_at=paying.at + timedelta(seconds=7) if sent else None,
                detail="" if sent else "43101",
            )
        )
    await Message.bulk_create(messages)
