"""The island of money. This is its door: nobody imports deeper.

``*_tx`` functions run inside the caller's unit of work; the others open their own and may call WeChat, so they are
called outside of one.
"""

from payments.bill import NewBill, NewLine, issue_bill_tx, publish_bill_tx, void_bill_tx
from payments.bill_batch import issue_bills_tx
from payments.callback import MAX_BYTES as MAX_NOTIFICATION_BYTES
from payments.callback import receive
from payments.cash import count_drawer_tx, drawer_tx, hand_over_drawer_tx, post_bank_slip_tx
from payments.catch_up import CatchUpReport, begin_catch_up, catch_up, read_bills
from payments.charge import OpenedPayment, Payer, open_payment, pay_group
from payments.check import INVARIANTS, Violation, violations
from payments.errors import (
    AmountTooLarge,
    BillAlreadyPaid,
    BillExists,
    BillHasPayments,
    BillNotPayableOnline,
    BillOfAnother,
    BillsNeedSeparatePayments,
    BillVoided,
    CashNotThere,
    LinesDoNotAddUp,
    NoSurplus,
    NotificationMalformed,
    NotificationUnverified,
    PaymentInProgress,
    PaymentNotOpen,
    RefundAtWechat,
    RefundJustSent,
    SurplusDecided,
    UnknownOrder,
    WechatRefused,
    WechatUnavailable,
)
from payments.gateways.base import PaidFact
from payments.janitor import check_attempt, close_payment, sweep
from payments.merchant import PaymentSettings, close, configure, forget_keys, keys_changed_tx
from payments.receipt import issue_receipt
from payments.refund import cancel_refund, retry_refund, submit_refund
from payments.refund_janitor import check_refund, sweep_refunds
from payments.settle import Settled, Settlement, settle
from payments.surplus import keep_surplus_tx, return_surplus_tx
from payments.wechat_pay_key import refresh_wechat_pay_keys, sweep_wechat_pay_keys

__all__ = [
    "INVARIANTS",
    "MAX_NOTIFICATION_BYTES",
    "AmountTooLarge",
    "BillAlreadyPaid",
    "BillExists",
    "BillHasPayments",
    "BillNotPayableOnline",
    "BillOfAnother",
    "BillVoided",
    "BillsNeedSeparatePayments",
    "CashNotThere",
    "CatchUpReport",
    "LinesDoNotAddUp",
    "NewBill",
    "NewLine",
    "NoSurplus",
    "NotificationMalformed",
    "NotificationUnverified",
    "OpenedPayment",
    "PaidFact",
    "Payer",
    "PaymentInProgress",
    "PaymentNotOpen",
    "PaymentSettings",
    "RefundAtWechat",
    "RefundJustSent",
    "Settled",
    "Settlement",
    "SurplusDecided",
    "UnknownOrder",
    "Violation",
    "WechatRefused",
    "WechatUnavailable",
    "begin_catch_up",
    "cancel_refund",
    "catch_up",
    "check_attempt",
    "check_refund",
    "close",
    "close_payment",
    "configure",
    "count_drawer_tx",
    "drawer_tx",
    "forget_keys",
    "hand_over_drawer_tx",
    "issue_bill_tx",
    "issue_bills_tx",
    "issue_receipt",
    "keep_surplus_tx",
    "keys_changed_tx",
    "open_payment",
    "pay_group",
    "post_bank_slip_tx",
    "publish_bill_tx",
    "read_bills",
    "receive",
    "refresh_wechat_pay_keys",
    "retry_refund",
    "return_surplus_tx",
    "settle",
    "submit_refund",
    "sweep",
    "sweep_refunds",
    "sweep_wechat_pay_keys",
    "violations",
    "void_bill_tx",
]
