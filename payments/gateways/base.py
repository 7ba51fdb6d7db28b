"""What a way to be paid must do, and the only words that cross its border.

A gateway decides nothing: it says what the other side said. Three kinds of answer are kept apart, because money goes
wrong where they are mixed up: *done*, *refused* (nothing happened there and nothing will) and *unknown* (it may have).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import BinaryIO, Protocol

from models.reconciliation import StatementKind


class TradeState(StrEnum):
    """What the other side says of an order."""

    PAID = "paid"  # the money came; also after any refund of it
    UNPAID = "unpaid"  # can still be paid: never to be treated as failed
    CLOSED = "closed"  # cannot be paid any more
    UNKNOWN_ORDER = "unknown_order"  # the other side never heard of it


@dataclass(frozen=True)
class PaidFact:
    """Somebody's word that an order was paid: from a callback or from a query. Amounts in fen."""

    mchid: str  # the calling merchant: sp_mchid in partner mode
    sub_mchid: str | None
    appid: str  # sp_appid in partner mode
    out_trade_no: str
    transaction_id: str
    amount_fen: int
    currency: str
    occurred_at: datetime
    openid: str | None
    sub_appid: str | None = None  # partner mode, when the payer was in the sub-merchant's app


@dataclass(frozen=True)
class OrderAnswer:
    """The answer to a query; ``paid`` is set when the state is PAID."""

    state: TradeState
    paid: PaidFact | None = None


class RefundStatus(StrEnum):
    """What the other side says of a refund."""

    PROCESSING = "processing"  # taken on; the money is not there yet
    SUCCESS = "success"  # the money is with the payer
    ABNORMAL = "abnormal"  # it cannot be delivered: a card that is no more, a wallet that is closed
    CLOSED = "closed"  # given up; nothing was given back


@dataclass(frozen=True)
class RefundFact:
    """Somebody's word about a refund: from a callback or from a query. Amounts in fen. What a query's answer does not
    name (the merchant) or a callback's does not (the currency) is None."""

    status: RefundStatus
    mchid: str | None  # the calling merchant: sp_mchid in partner mode
    sub_mchid: str | None
    out_trade_no: str
    transaction_id: str
    out_refund_no: str
    refund_id: str  # the other side's
    amount_fen: int
    total_fen: int  # of the order
    currency: str | None
    succeeded_at: datetime | None  # set when the status is SUCCESS


@dataclass(frozen=True)
class PhoneOrder:
    """What the payer's phone needs to pay; freshly signed each time, because signatures age."""

    appid: str
    time_stamp: str
    nonce_str: str
    package: str
    sign_type: str
    pay_sign: str


@dataclass(frozen=True)
class PlatformCertificate:
    """A certificate by which the other side signs. The dates are its own."""

    serial: str
    pem: str
    effective_at: datetime
    expires_at: datetime


class GatewayError(Exception):
    """Base of what a gateway may raise. ``code`` is the other side's, for the log and for finance."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code


class GatewayRefused(GatewayError):
    """Refused for good: the same request will be refused again."""


class OrderNumberUsed(GatewayRefused):
    """The number was used with other parameters, or its order is closed: a new number is needed."""


class OrderAlreadyPaid(GatewayRefused):
    """The order is paid: query and settle it."""


class OrderNotThere(GatewayRefused):
    """The other side says that it does not know the order. Unsigned, and perhaps only a moment late: no proof that
    nobody can pay it."""


class OutcomeUnknown(GatewayError):
    """No trustworthy answer (timeout, 5xx, bad signature): it may have happened. Repeat identically or query."""


class BillNotReady(OutcomeUnknown):
    """WeChat is still writing the bill: ask again later."""


class BillUnreadable(ValueError):
    """The file is not a trade bill, or does not agree with itself; nothing of it may be used."""


@dataclass(frozen=True)
class TradeLine:
    """One line: money that came (``refund_id`` is None), or money that went back. Amounts in fen."""

    occurred_at: datetime  # of a refund: the refund's
    mchid: str
    sub_mchid: str | None
    transaction_id: str
    out_trade_no: str
    amount_fen: int  # what was ordered; of a refund, what was asked back
    refund_id: str | None = None
    out_refund_no: str | None = None
    refund_state: str | None = None  # as the bill spells it: SUCCESS, PROCESSING, FAIL, CHANGE


@dataclass(frozen=True)
class TradeBill:
    """One day of one merchant account, its lines adding up to WeChat's own summary."""

    lines: Sequence[TradeLine] = ()

    @property
    def paid_fen(self) -> int:
        return sum(line.amount_fen for line in self.lines if line.refund_id is None)

    @property
    def refunded_fen(self) -> int:
        return sum(line.amount_fen for line in self.lines if line.refund_id is not None)


class Gateway(Protocol):
    """One merchant account's line to the other side. No method may be called inside a unit of work."""

    async def open_order(self, request: str) -> str:
        """Send the exact ``request`` body; the prepay id. Repeating it is safe. Raises any GatewayError."""
        ...

    async def ask(self, out_trade_no: str) -> OrderAnswer:
        """What the other side knows of the order: the truth. Raises OutcomeUnknown or GatewayRefused."""
        ...

    async def close_order(self, out_trade_no: str) -> None:
        """Afterwards the order cannot be paid. Repeating is safe. Raises OrderAlreadyPaid, OrderNotThere,
        OutcomeUnknown or GatewayRefused."""
        ...

    async def certificates(self) -> list[PlatformCertificate]:
        """By which certificates the other side signs now and soon. Raises OutcomeUnknown (also when the answer is not
        signed by a key that is known) or GatewayRefused: it has none for this merchant."""
        ...

    async def refund(self, request: str) -> RefundFact:
        """Send the exact ``request`` body; what the other side took on. Repeating it refunds once. Its answer says that
        it was accepted, never that it is done. Raises OutcomeUnknown or GatewayRefused."""
        ...

    async def ask_refund(self, out_refund_no: str) -> RefundFact | None:
        """What the other side knows of the refund: the truth. None: it was never accepted. Raises OutcomeUnknown or
        GatewayRefused."""
        ...

    async def trade_bill(self, bill_on: date) -> TradeBill:
        """Everything that was paid and refunded on a Beijing day; empty when nothing was. Raises BillNotReady,
        BillUnreadable, OutcomeUnknown or GatewayRefused."""
        ...

    async def bill_file(self, kind: StatementKind, bill_on: date, into: BinaryIO) -> bool:
        """Write a day's bill, as it comes, into a file; False when there is none, for nothing happened that day. The
        file is the one whose hash was signed. Raises as ``trade_bill``."""
        ...

    def sign_for_phone(self, appid: str, prepay_id: str) -> PhoneOrder:
        """What the phone needs to pay the order now."""
        ...
