"""The island of money. This is its door: nobody imports deeper.

``*_tx`` functions run inside the caller's unit of work; the others open their own and may call WeChat, so they are
called outside of one.
"""

from payments.adjustment import decide_adjustment_tx, require_adjustable
from payments.at_once import Portion, Tender, pay_at_once_tx
from payments.bill import NewBill, NewLine, issue_bill_tx, publish_bill_tx, void_bill_tx
from payments.bill_batch import issue_bills_tx
from payments.callback import MAX_BYTES as MAX_NOTIFICATION_BYTES
from payments.callback import receive
from payments.cash import count_drawer_tx, drawer_tx, hand_over_drawer_tx, hold_open_shift_tx, post_bank_slip_tx
from payments.catch_up import CatchUpReport, begin_catch_up, catch_up, read_bills
from payments.charge import OpenedPayment, Payer, open_payment, pay_group
from payments.check import INVARIANTS, Violation, violations
from payments.closed_period import close_month_tx, lock_month_tx
from payments.deposit import ask_deposit_return_tx, deduct_deposit_tx, hold_deposits_tx, withdraw_deposit_return_tx
from payments.errors import (
    AccountsNotAdjustable,
    AmountTooLarge,
    BankSerialNeeded,
    BankSerialUsed,
    BillAlreadyPaid,
    BillExists,
    BillHasPayments,
    BillIsNoCharge,
    BillNotForPrepaid,
    BillNotPayableOnline,
    BillOfAnother,
    BillsNeedSeparatePayments,
    BillVoided,
    CashNotThere,
    DepositReturnNotAsked,
    DifferenceNotConfirmed,
    EntryNotReversible,
    ForeignRefundRecorded,
    ForeignRefundUnmatched,
    LessIsOwed,
    LinesDoNotAddUp,
    MonthClosed,
    MonthNotOver,
    NoForeignRefund,
    NoSurplus,
    NotEnoughHeld,
    NothingOwed,
    NotificationMalformed,
    NotificationUnverified,
    NotThroughWechat,
    PaymentInProgress,
    PaymentNotOpen,
    PaymentNotPaid,
    RefundAskedAlready,
    RefundAtWechat,
    RefundJustSent,
    RefundKindsDiffer,
    RefundNeedsSecondPerson,
    RefundNotByHand,
    RefundNotConfirmed,
    RefundTooLarge,
    SecondPersonNeeded,
    SurplusDecided,
    UnknownOrder,
    WechatRefused,
    WechatUnavailable,
)
from payments.gateways.base import BillUnreadable, PaidFact
from payments.janitor import check_attempt, close_payment, sweep
from payments.merchant import PaymentSettings, close, configure, forget_keys, keys_changed_tx
from payments.prepaid import (
    PaidFromPrepaid,
    pay_all_from_prepaid_tx,
    pay_chosen_from_prepaid_tx,
    pay_owed_from_prepaid_tx,
)
from payments.receipt import issue_receipt
from payments.reconcile_day import compare as compare_statement
from payments.reconcile_day import look_at as look_at_day
from payments.reconcile_day import sweep_reconciliations
from payments.reconcile_follow import confirm as confirm_difference
from payments.reconcile_follow import place_tx as place_difference_tx
from payments.refund import cancel_refund, retry_refund, submit_refund
from payments.refund_approval import RefundWish, approve_refund, ask_refund_tx, reject_refund_tx
from payments.refund_by_hand import change_refund_method, pay_out_refund
from payments.refund_foreign import record_confirmed_refund
from payments.refund_janitor import check_refund, sweep_refunds
from payments.refund_lines import PaidLine, RefundPart, paid_lines
from payments.reversal import ask_reversal_tx, decide_reversal_tx
from payments.settle import Settled, Settlement, settle
from payments.statement import keep as keep_statement
from payments.surplus import keep_surplus_tx, return_surplus_tx
from payments.wechat_pay_key import refresh_wechat_pay_keys, sweep_wechat_pay_keys

__all__ = [
    "INVARIANTS",
    "MAX_NOTIFICATION_BYTES",
    "AccountsNotAdjustable",
    "AmountTooLarge",
    "BankSerialNeeded",
    "BankSerialUsed",
    "BillAlreadyPaid",
    "BillExists",
    "BillHasPayments",
    "BillIsNoCharge",
    "BillNotForPrepaid",
    "BillNotPayableOnline",
    "BillOfAnother",
    "BillUnreadable",
    "BillVoided",
    "BillsNeedSeparatePayments",
    "CashNotThere",
    "CatchUpReport",
    "DepositReturnNotAsked",
    "DifferenceNotConfirmed",
    "EntryNotReversible",
    "ForeignRefundRecorded",
    "ForeignRefundUnmatched",
    "LessIsOwed",
    "LinesDoNotAddUp",
    "MonthClosed",
    "MonthNotOver",
    "NewBill",
    "NewLine",
    "NoForeignRefund",
    "NoSurplus",
    "NotEnoughHeld",
    "NotThroughWechat",
    "NothingOwed",
    "NotificationMalformed",
    "NotificationUnverified",
    "OpenedPayment",
    "PaidFact",
    "PaidFromPrepaid",
    "PaidLine",
    "Payer",
    "PaymentInProgress",
    "PaymentNotOpen",
    "PaymentNotPaid",
    "PaymentSettings",
    "Portion",
    "RefundAskedAlready",
    "RefundAtWechat",
    "RefundJustSent",
    "RefundKindsDiffer",
    "RefundNeedsSecondPerson",
    "RefundNotByHand",
    "RefundNotConfirmed",
    "RefundPart",
    "RefundTooLarge",
    "RefundWish",
    "SecondPersonNeeded",
    "Settled",
    "Settlement",
    "SurplusDecided",
    "Tender",
    "UnknownOrder",
    "Violation",
    "WechatRefused",
    "WechatUnavailable",
    "approve_refund",
    "ask_deposit_return_tx",
    "ask_refund_tx",
    "ask_reversal_tx",
    "begin_catch_up",
    "cancel_refund",
    "catch_up",
    "change_refund_method",
    "check_attempt",
    "check_refund",
    "close",
    "close_month_tx",
    "close_payment",
    "compare_statement",
    "configure",
    "confirm_difference",
    "count_drawer_tx",
    "decide_adjustment_tx",
    "decide_reversal_tx",
    "deduct_deposit_tx",
    "drawer_tx",
    "forget_keys",
    "hand_over_drawer_tx",
    "hold_deposits_tx",
    "hold_open_shift_tx",
    "issue_bill_tx",
    "issue_bills_tx",
    "issue_receipt",
    "keep_statement",
    "keep_surplus_tx",
    "keys_changed_tx",
    "lock_month_tx",
    "look_at_day",
    "open_payment",
    "paid_lines",
    "pay_all_from_prepaid_tx",
    "pay_at_once_tx",
    "pay_chosen_from_prepaid_tx",
    "pay_group",
    "pay_out_refund",
    "pay_owed_from_prepaid_tx",
    "place_difference_tx",
    "post_bank_slip_tx",
    "publish_bill_tx",
    "read_bills",
    "receive",
    "record_confirmed_refund",
    "refresh_wechat_pay_keys",
    "reject_refund_tx",
    "require_adjustable",
    "retry_refund",
    "return_surplus_tx",
    "settle",
    "submit_refund",
    "sweep",
    "sweep_reconciliations",
    "sweep_refunds",
    "sweep_wechat_pay_keys",
    "violations",
    "void_bill_tx",
    "withdraw_deposit_return_tx",
]
