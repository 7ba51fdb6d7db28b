"""退款单, what it takes from which bill, and its attempts at the channel."""

from enum import StrEnum

from tortoise import fields
from tortoise.expressions import Q, Subquery
from tortoise.queryset import QuerySet

from kit.state_machine import StateMachine
from models.access import Act, Actor
from models.base import Row
from models.merchant_account import MerchantMode
from models.payment import Payment


class RefundKind(StrEnum):
    """What is given back; it selects the account debited."""

    SURPLUS = "surplus"  # 溢收款: money that came and had no bill to go to
    BILL = "bill"  # what charges were paid with: out of received
    PREPAID = "prepaid"  # 预存款: out of the debtor's prepaid balance
    DEPOSIT = "deposit"  # 押金: out of what is held for the debtor


class RefundMethod(StrEnum):
    """How the money goes back."""

    WECHAT_ORIGINAL = "wechat_original"  # 微信原路退回, within a year of the payment
    BANK = "bank"  # 转账: a person transfers it, and says under which serial
    CASH = "cash"  # 现金: a person hands it over


BY_HAND = (RefundMethod.BANK, RefundMethod.CASH)


class BillFate(StrEnum):
    """What becomes of a bill whose money goes back."""

    OPEN = "open"  # 重新待缴: it is owed again
    CREDITED = "credited"  # 冲销: it need not be paid any more


class RefundState(StrEnum):
    """The life of a refund. Its amount is reserved from the approval until it is refunded or cancelled."""

    ASKED = "asked"  # 待审批: nothing is reserved, nothing has moved
    REJECTED = "rejected"  # 已驳回
    APPROVED = "approved"  # 已批准: reserved; not surely at WeChat yet, or to be paid out by a person
    PROCESSING = "processing"  # 退款处理中: WeChat has accepted it; the money is not there yet
    FAILED = "failed"  # 退款受阻: WeChat refused it, closed it or cannot deliver it; finance takes the next step
    REFUNDED = "refunded"  # 已退款: by WeChat's notice or answer to our question, or by who paid it out
    CANCELLED = "cancelled"  # 已取消: surely nothing was given back


# Final: rejected, refunded and cancelled. A failed one may still be refunded: what was abnormal can be delivered after
# all.
REFUND_MACHINE = StateMachine(
    noun="refund",
    moves={
        RefundState.ASKED: (RefundState.APPROVED, RefundState.REJECTED),
        RefundState.APPROVED: (
            RefundState.PROCESSING,
            RefundState.REFUNDED,
            RefundState.FAILED,
            RefundState.CANCELLED,
        ),
        RefundState.PROCESSING: (RefundState.REFUNDED, RefundState.FAILED),
        RefundState.FAILED: (
            RefundState.APPROVED,
            RefundState.PROCESSING,
            RefundState.REFUNDED,
            RefundState.CANCELLED,
        ),
    },
    required={
        RefundState.APPROVED: ("approved_by_staff_id", "approved_at"),
        RefundState.REJECTED: ("rejected_at", "reject_reason"),
        RefundState.FAILED: ("problem",),
        RefundState.REFUNDED: ("refunded_at",),
        RefundState.CANCELLED: ("cancelled_at", "cancel_reason"),
    },
)

UNDER_WAY = (RefundState.APPROVED, RefundState.PROCESSING, RefundState.FAILED)


class Refund(Row):
    """Money of one payment that goes back to its payer. While it is under way its amount is reserved on the payment:
    refunded and reserved never exceed what came, by a check of the database. Asked for by a member of staff or by the
    payer, approved by a member of staff. What is not surplus says in its lines which bills it takes the money from."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    payment_id = fields.UUIDField(db_index=True)
    customer_id = fields.UUIDField()  # the debtor of the payment
    legal_entity_id = fields.UUIDField()
    merchant_account_id = fields.UUIDField(null=True)  # null: the payment did not come through WeChat
    kind = fields.CharEnumField(RefundKind, max_length=32)
    method = fields.CharEnumField(RefundMethod, max_length=32, default=RefundMethod.WECHAT_ORIGINAL)
    amount_fen = fields.BigIntField()
    reason = fields.CharField(max_length=80)  # as long as WeChat takes it; the payer may read it there
    state = fields.CharEnumField(RefundState, max_length=32, default=RefundState.APPROVED)
    problem = fields.CharField(max_length=64, null=True)  # WeChat's code, while something stands in the way
    asked_by_staff_id = fields.UUIDField(null=True)
    asked_by_resident_id = fields.UUIDField(null=True)
    approved_by_staff_id = fields.UUIDField(null=True)
    approved_at = fields.DatetimeField(null=True)
    rejected_by_staff_id = fields.UUIDField(null=True)
    rejected_at = fields.DatetimeField(null=True)
    reject_reason = fields.CharField(max_length=200, null=True)
    paid_out_by_staff_id = fields.UUIDField(null=True)  # who transferred it or handed it over
    pay_out_reference = fields.CharField(max_length=64, null=True)  # the bank's serial; unique per legal entity
    refunded_at = fields.DatetimeField(null=True)  # the channel's time
    cancelled_at = fields.DatetimeField(null=True)
    cancel_reason = fields.CharField(max_length=200, null=True)

    class Meta:
        table = "refunds"
        indexes = (("community_id", "created_at", "id"),)

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Refund"]:
        """Staff who may read refunds of the community; residents: of what they paid, and of what they owed."""
        if actor.is_staff:
            return cls.filter(community_id__in=actor.community_ids(Act.REFUND_READ))
        paid = Payment.filter(payer_resident_id=actor.id, organization_id=actor.organization_id).values("id")
        return cls.filter(
            Q(payment_id__in=Subquery(paid)) | Q(customer_id__in=actor.customer_ids),
            organization_id=actor.organization_id,
        )


class RefundLine(Row):
    """Of which bill line a refund takes how much, and what becomes of the bill. Append-only. Unique: (refund, line).

    The lines of a refund add up to it, and of no line more is on its way back, or is back, than the payment had paid
    on it: both at commit, by triggers.
    """

    community_id = fields.UUIDField()
    refund_id = fields.UUIDField()
    payment_id = fields.UUIDField()  # that of the refund: the database holds the line to what the payment paid
    bill_id = fields.UUIDField()
    bill_line_id = fields.UUIDField(db_index=True)
    amount_fen = fields.BigIntField()
    fate = fields.CharEnumField(BillFate, max_length=32)

    class Meta:
        table = "refund_lines"
        unique_together = (("refund_id", "bill_line_id"),)


class RefundAttemptState(StrEnum):
    """The life of one refund number at WeChat."""

    CREATED = "created"  # committed here; WeChat may or may not know it
    ACCEPTED = "accepted"  # WeChat took it on (PROCESSING): not refunded yet
    SUCCEEDED = "succeeded"  # the money is back with the payer, posted
    ABNORMAL = "abnormal"  # WeChat cannot deliver it; its merchant platform can still make it succeed
    CLOSED = "closed"  # WeChat gave it up, or surely never knew it: the number is spent


# Late news overrides nothing that is final: succeeded and closed. What was abnormal may yet succeed, or be given up.
REFUND_ATTEMPT_MACHINE = StateMachine(
    noun="refund_attempt",
    moves={
        RefundAttemptState.CREATED: (
            RefundAttemptState.ACCEPTED,
            RefundAttemptState.SUCCEEDED,
            RefundAttemptState.ABNORMAL,
            RefundAttemptState.CLOSED,
        ),
        RefundAttemptState.ACCEPTED: (
            RefundAttemptState.SUCCEEDED,
            RefundAttemptState.ABNORMAL,
            RefundAttemptState.CLOSED,
        ),
        RefundAttemptState.ABNORMAL: (RefundAttemptState.SUCCEEDED, RefundAttemptState.CLOSED),
    },
    required={
        RefundAttemptState.ACCEPTED: ("wechat_refund_id",),
        RefundAttemptState.SUCCEEDED: ("wechat_refund_id", "succeeded_at"),
        RefundAttemptState.ABNORMAL: ("wechat_refund_id",),
    },
)

UNDECIDED_REFUND = (RefundAttemptState.CREATED, RefundAttemptState.ACCEPTED, RefundAttemptState.ABNORMAL)


class RefundAttempt(Row):
    """One refund number, committed before WeChat hears of it. ``request`` is the exact body that is sent, so that a
    repeat after a lost answer is identical. Unique: (mchid, out_refund_no); at most one of a refund is not closed."""

    community_id = fields.UUIDField()
    refund_id = fields.UUIDField(db_index=True)
    merchant_account_id = fields.UUIDField()
    mode = fields.CharEnumField(MerchantMode, max_length=32)
    mchid = fields.CharField(max_length=32)  # the calling one: sp_mchid in partner mode
    sub_mchid = fields.CharField(max_length=32, null=True)
    out_trade_no = fields.CharField(max_length=32)
    transaction_id = fields.CharField(max_length=32)  # of the payment
    out_refund_no = fields.CharField(max_length=64)
    amount_fen = fields.BigIntField()
    total_fen = fields.BigIntField()  # of the order
    request = fields.TextField()
    state = fields.CharEnumField(RefundAttemptState, max_length=32, default=RefundAttemptState.CREATED)
    wechat_refund_id = fields.CharField(max_length=64, null=True)
    sent_at = fields.DatetimeField(null=True)  # when WeChat was last asked to do it
    next_check_at = fields.DatetimeField(null=True)  # when the janitor looks again; null once surely decided
    check_count = fields.IntField(default=0)
    succeeded_at = fields.DatetimeField(null=True)  # WeChat's time

    class Meta:
        table = "refund_attempts"
        unique_together = (("mchid", "out_refund_no"),)
