"""The island of money. This is its door: nobody imports deeper.

``*_tx`` functions run inside the caller's unit of work; the others open their own and may call WeChat, so they are
called outside of one.
"""

from payments.bill import NewBill, NewLine, issue_bill_tx, publish_bill_tx, void_bill_tx
from payments.bill_batch import issue_bills_tx
from payments.callback import MAX_BYTES as MAX_NOTIFICATION_BYTES
from payments.callback import receive
from payments.charge import OpenedPayment, Payer, open_payment, pay_group
from payments.check import INVARIANTS, Violation, violations
from payments.errors import (
    AmountTooLarge,
    BillAlreadyPaid,
    BillExists,
    BillHasPayments,
    BillNotPayableOnline,
    BillsNeedSeparatePayments,
    BillVoided,
    LinesDoNotAddUp,
    NotificationMalformed,
    NotificationUnverified,
    PaymentInProgress,
    PaymentNotOpen,
    UnknownOrder,
    WechatRefused,
    WechatUnavailable,
)
from payments.gateways.base import PaidFact
from payments.janitor import check_attempt, close_payment, sweep
from payments.merchant import PaymentSettings, close, configure
from payments.receipt import issue_receipt
from payments.settle import Settled, Settlement, settle

__all__ = [
    "INVARIANTS",
    "MAX_NOTIFICATION_BYTES",
    "AmountTooLarge",
    "BillAlreadyPaid",
    "BillExists",
    "BillHasPayments",
    "BillNotPayableOnline",
    "BillVoided",
    "BillsNeedSeparatePayments",
    "LinesDoNotAddUp",
    "NewBill",
    "NewLine",
    "NotificationMalformed",
    "NotificationUnverified",
    "OpenedPayment",
    "PaidFact",
    "Payer",
    "PaymentInProgress",
    "PaymentNotOpen",
    "PaymentSettings",
    "Settled",
    "Settlement",
    "UnknownOrder",
    "Violation",
    "WechatRefused",
    "WechatUnavailable",
    "check_attempt",
    "close",
    "close_payment",
    "configure",
    "issue_bill_tx",
    "issue_bills_tx",
    "issue_receipt",
    "open_payment",
    "pay_group",
    "publish_bill_tx",
    "receive",
    "settle",
    "sweep",
    "violations",
    "void_bill_tx",
]
