"""Charge: open a payment for chosen bills, so that at most one is under way for any bill.

The order of things is the promise: the attempt with its number is committed, then WeChat is called, then the answer
is committed. A crash, a lost answer or a second tap in between finds the committed attempt and goes on with it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from tortoise.exceptions import IntegrityError

from kit import clock
from kit.errors import NotFound, Refusal
from kit.ids import new_code
from kit.money import MAX_FEN
from models import audit
from models.access import Actor
from models.bill import PAYABLE, Bill, BillState
from models.community import Community
from models.merchant_account import MerchantAccount
from models.metric import PAYMENTS_OPENED
from models.payment import (
    UNDECIDED,
    AttemptState,
    Channel,
    CloseReason,
    Payment,
    PaymentAttempt,
    PaymentBill,
    PaymentState,
)
from models.unit_of_work import unit_of_work
from payments import janitor
from payments.errors import (
    AmountTooLarge,
    BillAlreadyPaid,
    BillNotPayableOnline,
    BillsNeedSeparatePayments,
    BillVoided,
    PaymentInProgress,
    WechatRefused,
    WechatUnavailable,
)
from payments.gateways.base import GatewayRefused, OrderAlreadyPaid, OrderNumberUsed, OutcomeUnknown, PhoneOrder
from payments.gateways.wechat_pay import jsapi_request
from payments.merchant import gateway_of, keys_of, settings

log = structlog.get_logger()

UNDISTURBED_S = 60  # how long another payer has to wait before taking over
LAST_MINUTE_S = 60  # an attempt with less time than this left is not handed out again
ONE_PAYMENT_FEN = 10_000_000_00  # WeChat's own bound is far below the database's
_ROUNDS = 4
# WeChat raises a time_expire that is under a minute away, and its prepay id lives two hours (facts: 4012791897).


@dataclass(frozen=True)
class Payer:
    """Who pays, by which identity of which mini-program."""

    resident_id: UUID
    appid: str
    openid: str


@dataclass(frozen=True)
class OpenedPayment:
    """The payment, and what the phone needs to pay it (None when it was paid in the meantime)."""

    payment: Payment
    phone_order: PhoneOrder | None


async def open_payment(actor: Actor, bill_ids: Sequence[UUID], payer: Payer, channel: Channel) -> OpenedPayment:
    """Open a payment for all that is still owed on ``bill_ids``, or hand out the live one again.

    The same payer with the same bills and amounts gets the live attempt, freshly signed. Another choice of the same
    payer replaces the earlier payment; another payer is refused with PaymentInProgress for a minute and then takes
    over; in both cases the earlier order is first closed at WeChat, and if WeChat says that it was paid, settled.
    Refuses as the errors of this island say; WechatUnavailable leaves the attempt to be resumed by a repeat.
    """
    try:
        opened = await _open_payment(actor, bill_ids, payer, channel)
    except Refusal as refusal:
        PAYMENTS_OPENED.labels(refusal.code).inc()
        raise
    PAYMENTS_OPENED.labels("opened").inc()
    return opened


async def _open_payment(actor: Actor, bill_ids: Sequence[UUID], payer: Payer, channel: Channel) -> OpenedPayment:
    for _ in range(_ROUNDS):
        try:
            found = await _commit_intent(actor, list(bill_ids), payer, channel)
        except IntegrityError as error:
            # Another phone was quicker by a hair: the partial unique index let only one through. Look again.
            if "payment_bills_one_live" not in str(error):
                raise
            continue
        if isinstance(found, _Rivals):
            for payment_id in found.payment_ids:
                await janitor.close_payment(payment_id, found.reason)
            continue
        return await _prepay(found)
    raise PaymentInProgress(retry_after_s=5)


@dataclass(frozen=True)
class _Rivals:
    """Live payments that stand in the way and may be closed."""

    payment_ids: list[UUID]
    reason: CloseReason


@unit_of_work
async def _commit_intent(
    actor: Actor, bill_ids: list[UUID], payer: Payer, channel: Channel
) -> PaymentAttempt | _Rivals:
    # Only bills are locked here: the live payments are read, and the unique index decides a race for the bill.
    bills = await Bill.filter(id__in=bill_ids).order_by("id").select_for_update()
    if len(bills) != len(set(bill_ids)):
        raise NotFound()
    _refuse_unpayable(bills)
    live = await PaymentBill.filter(bill_id__in=bill_ids, live=True)
    if live:
        return await _reusable_or_rivals(bills, {choice.payment_id for choice in live}, payer)
    payment = await _create_payment_tx(actor, bills, payer, channel)
    return await _create_attempt_tx(payment, bills, payer)


def _refuse_unpayable(bills: Sequence[Bill]) -> None:
    for bill in bills:
        if bill.state is BillState.DRAFT:
            raise NotFound()
        if bill.state in (BillState.VOID, BillState.CREDITED):
            raise BillVoided(bill_title=bill.title, bill_id=str(bill.id))
        if bill.state not in PAYABLE:
            raise BillAlreadyPaid(bill_title=bill.title, bill_id=str(bill.id))
        if bill.merchant_account_id is None:
            raise BillNotPayableOnline(bill_title=bill.title, bill_id=str(bill.id))
    groups: dict[str, list[str]] = {}
    for bill in bills:
        groups.setdefault(pay_group(vars(bill)) or "", []).append(str(bill.id))
    if len(groups) > 1:
        raise BillsNeedSeparatePayments(count=len(groups), groups=sorted(groups.values()))
    if sum(bill.owed_fen for bill in bills) > min(ONE_PAYMENT_FEN, MAX_FEN):
        raise AmountTooLarge()


def pay_group(bill: Mapping[str, Any]) -> str | None:
    """What bills must share to be paid together: debtor and merchant account. ``bill`` holds the columns of a bill;
    None when it cannot be paid online."""
    if bill["merchant_account_id"] is None:
        return None
    shared = "".join(str(bill[f"{name}_id"]) for name in ("community", "customer", "legal_entity", "merchant_account"))
    return hashlib.sha256(shared.encode()).hexdigest()[:16]


async def _reusable_or_rivals(bills: Sequence[Bill], payment_ids: set[UUID], payer: Payer) -> PaymentAttempt | _Rivals:
    payments = await Payment.filter(id__in=payment_ids).order_by("id")
    attempts = await PaymentAttempt.filter(payment_id__in=payment_ids, state__in=UNDECIDED)
    now = clock.now()
    mine = all(payment.payer_resident_id == payer.resident_id for payment in payments)
    if mine and len(payments) == 1 and len(attempts) == 1:
        chosen = {choice.bill_id: choice.amount_fen for choice in await PaymentBill.filter(payment_id=payments[0].id)}
        owed = {bill.id: bill.owed_fen for bill in bills}
        time_left = attempts[0].expires_at - now > timedelta(seconds=LAST_MINUTE_S)
        same_app = (attempts[0].sub_appid or attempts[0].appid, attempts[0].openid) == (payer.appid, payer.openid)
        if chosen == owed and time_left and same_app:
            return attempts[0]
    for payment in payments:
        undisturbed = (payment.created_at + timedelta(seconds=UNDISTURBED_S) - now).total_seconds()
        if payment.payer_resident_id != payer.resident_id and undisturbed > 0:
            raise PaymentInProgress(retry_after_s=max(1, int(undisturbed)))
    return _Rivals([payment.id for payment in payments], CloseReason.REPLACED if mine else CloseReason.TAKEN_OVER)


async def _create_payment_tx(actor: Actor, bills: Sequence[Bill], payer: Payer, channel: Channel) -> Payment:
    first = bills[0]
    payment = await Payment.create(
        organization_id=first.organization_id,
        community_id=first.community_id,
        customer_id=first.customer_id,
        legal_entity_id=first.legal_entity_id,
        merchant_account_id=first.merchant_account_id,
        channel=channel,
        payer_resident_id=payer.resident_id,
        amount_fen=sum(bill.owed_fen for bill in bills),
    )
    for bill in bills:
        await PaymentBill.create(
            community_id=bill.community_id,
            payment_id=payment.id,
            bill_id=bill.id,
            customer_id=bill.customer_id,
            legal_entity_id=bill.legal_entity_id,
            amount_fen=bill.owed_fen,
        )
    await audit.record_tx(
        actor,
        "payment.open",
        "payment",
        payment.id,
        organization_id=payment.organization_id,
        community_id=payment.community_id,
        after={"amount_fen": payment.amount_fen, "bill_ids": [str(bill.id) for bill in bills]},
    )
    return payment


async def _create_attempt_tx(payment: Payment, bills: Sequence[Bill], payer: Payer) -> PaymentAttempt:
    account_id = payment.merchant_account_id
    assert account_id is not None, "what is payable online has one"
    keys = await keys_of(account_id)
    if keys is None or not await MerchantAccount.exists(id=account_id, active=True):
        raise BillNotPayableOnline(bill_title=bills[0].title)
    # A service provider orders as itself, for the mini-program that the payer is in.
    appid, sub_appid = payer.appid, None
    if keys.sp_appid and keys.sp_appid != payer.appid:
        appid, sub_appid = keys.sp_appid, payer.appid
    community = await Community.get(id=payment.community_id)
    expires_at = clock.now().replace(microsecond=0) + timedelta(minutes=community.payment_minutes)
    out_trade_no = f"L{clock.today():%Y%m%d}{new_code(18)}"
    return await PaymentAttempt.create(
        community_id=payment.community_id,
        payment_id=payment.id,
        merchant_account_id=account_id,
        mode=keys.mode,
        mchid=keys.mchid,
        sub_mchid=keys.sub_mchid,
        appid=appid,
        sub_appid=sub_appid,
        openid=payer.openid,
        out_trade_no=out_trade_no,
        amount_fen=payment.amount_fen,
        request=jsapi_request(
            keys,
            appid=appid,
            sub_appid=sub_appid,
            openid=payer.openid,
            description=_description(community.name, bills),
            out_trade_no=out_trade_no,
            amount_fen=payment.amount_fen,
            expires_at=expires_at,
            notify_url=settings().notify_url("pay", account_id),
        ),
        expires_at=expires_at,
        next_check_at=janitor.first_check_at(),
    )


def _description(community_name: str, bills: Sequence[Bill]) -> str:
    """What the payer reads in WeChat; at most 127 characters."""
    more = f"等{len(bills)}笔" if len(bills) > 1 else ""
    return f"{community_name} {bills[0].title}"[: 127 - len(more)] + more


async def _prepay(attempt: PaymentAttempt) -> OpenedPayment:
    gateway = await gateway_of(attempt.wechat_account_id)
    if attempt.state is AttemptState.CREATED:
        try:
            prepay_id = await gateway.open_order(attempt.request)
        except OutcomeUnknown as error:
            log.warning("prepay_unknown", out_trade_no=attempt.out_trade_no, code=error.code)
            raise WechatUnavailable() from error
        except OrderAlreadyPaid as error:
            # Ours, paid, and we were never told: ask and settle, then the bills answer for themselves.
            await janitor.check_attempt(attempt.id)
            return await _as_it_is(attempt.payment_id, error)
        except OrderNumberUsed as error:
            await janitor.close_payment(attempt.payment_id, CloseReason.REFUSED)
            raise WechatUnavailable() from error
        except GatewayRefused as error:
            log.error("prepay_refused", out_trade_no=attempt.out_trade_no, code=error.code, message=str(error))
            await janitor.close_payment(attempt.payment_id, CloseReason.REFUSED)
            raise WechatRefused(wechat_code=error.code) from error
        attempt = await _commit_prepay(attempt.id, prepay_id)
    payment = await Payment.get(id=attempt.payment_id)
    appid = attempt.sub_appid or attempt.appid
    if payment.state is not PaymentState.OPEN or attempt.prepay_id is None or appid is None:
        return OpenedPayment(payment, None)
    return OpenedPayment(payment, gateway.sign_for_phone(appid, attempt.prepay_id))


async def _as_it_is(payment_id: UUID, error: GatewayRefused) -> OpenedPayment:
    payment = await Payment.get(id=payment_id)
    if payment.state is PaymentState.OPEN:
        raise WechatUnavailable() from error
    return OpenedPayment(payment, None)


@unit_of_work
async def _commit_prepay(attempt_id: UUID, prepay_id: str) -> PaymentAttempt:
    """Note the prepay id, unless news of the payment overtook the answer."""
    attempt = await PaymentAttempt.select_for_update().get(id=attempt_id)
    if attempt.state in UNDECIDED:
        attempt.state = AttemptState.PREPAID
        attempt.prepay_id = prepay_id
        await attempt.save(update_fields=["state", "prepay_id"])
    return attempt
