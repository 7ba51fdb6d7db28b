"""支付单 and its 支付尝试."""

from enum import StrEnum
from uuid import UUID

from tortoise import fields
from tortoise.expressions import Q
from tortoise.queryset import QuerySet

from kit.state_machine import StateMachine
from models.access import Act, Actor
from models.base import Row
from models.merchant_account import MerchantMode


class Channel(StrEnum):
    """How money is sent."""

    WECHAT_JSAPI = "wechat_jsapi"  # 小程序支付
    SURPLUS = "surplus"  # 溢收款转入: nothing comes from outside; the debtor's own surplus pays
    CASH = "cash"  # 现金
    POS = "pos"  # POS 刷卡
    BANK_TRANSFER = "bank_transfer"  # 银行转账
    PREPAID = "prepaid"  # 预存款抵扣: the debtor's own prepaid balance pays
    DEPOSIT = "deposit"  # 押金抵扣: a deposit that is held for the debtor pays


IN_HAND = frozenset({Channel.CASH, Channel.POS, Channel.BANK_TRANSFER})
"""Money that is in hand when it is written down: it is recorded, whatever became of its bill."""

INTERNAL = frozenset({Channel.SURPLUS, Channel.PREPAID, Channel.DEPOSIT})
"""Money that is here already: nothing comes from outside, so it counts in no sum of what came."""


class PaymentState(StrEnum):
    """The life of a payment."""

    OPEN = "open"  # 待支付
    PAID = "paid"  # 已支付
    CLOSED = "closed"  # 已关闭: expired, taken over or refused; nothing was paid
    SUSPENDED = "suspended"  # 待核查: money came that fails our checks; it lies in suspense, finance decides


# A closed payment may still become paid or suspended: WeChat's word that money came always wins over our belief that
# it did not. Paid and suspended are final.
PAYMENT_MACHINE = StateMachine(
    noun="payment",
    moves={
        PaymentState.OPEN: (PaymentState.PAID, PaymentState.CLOSED, PaymentState.SUSPENDED),
        PaymentState.CLOSED: (PaymentState.PAID, PaymentState.SUSPENDED),
    },
    required={PaymentState.PAID: ("paid_at",), PaymentState.CLOSED: ("closed_at", "close_reason")},
)


class CloseReason(StrEnum):
    """Why a payment was closed without money."""

    EXPIRED = "expired"  # nobody paid in time
    REPLACED = "replaced"  # the same payer chose anew
    TAKEN_OVER = "taken_over"  # another payer took over
    BILL_CHANGED = "bill_changed"  # a bill was paid otherwise or voided meanwhile
    REFUSED = "refused"  # WeChat refused to open it
    CANCELLED = "cancelled"  # the payer gave up


class SurplusFate(StrEnum):
    """What was decided, once, about money that found no bill."""

    RETURNED = "returned"  # 退回: a refund gives it back
    KEPT = "kept"  # 留存: it paid other bills, or became the debtor's prepaid balance


class Payment(Row):
    """One payer pays chosen bills of one debtor, one community and one merchant account, all at once."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    customer_id = fields.UUIDField()  # the debtor
    legal_entity_id = fields.UUIDField()
    merchant_account_id = fields.UUIDField(null=True)  # of a payment through WeChat
    channel = fields.CharEnumField(Channel, max_length=32)
    payer_resident_id = fields.UUIDField(null=True, db_index=True)
    payer_staff_id = fields.UUIDField(null=True)
    shift_id = fields.UUIDField(null=True)  # of money that was taken at the counter
    tendered_fen = fields.BigIntField(null=True)  # cash that was given; what is more than the amount went back
    amount_fen = fields.BigIntField()
    state = fields.CharEnumField(PaymentState, max_length=32, default=PaymentState.OPEN)
    surplus_fen = fields.BigIntField(default=0)  # of the money that came, what found no bill to go to
    surplus_fate = fields.CharEnumField(SurplusFate, max_length=32, null=True)  # null: not decided, or no surplus
    surplus_of_payment_id = fields.UUIDField(null=True)  # paid from the surplus of that payment (channel surplus)
    reserved_fen = fields.BigIntField(default=0, db_default=0)  # of refunds that are approved and not decided
    refunded_fen = fields.BigIntField(default=0, db_default=0)  # of refunds that are surely with the payer
    reference = fields.CharField(
        max_length=64, default="", db_default=""
    )  # the POS voucher's number, the bank's serial
    paid_at = fields.DatetimeField(null=True)  # the channel's time
    closed_at = fields.DatetimeField(null=True)
    close_reason = fields.CharEnumField(CloseReason, max_length=32, null=True)

    class Meta:
        table = "payments"
        indexes = (("community_id", "created_at", "id"), ("customer_id",))

    @property
    def through_wechat(self) -> bool:
        """Whether WeChat took the money, and so can give it back by the way it came."""
        return self.channel.startswith("wechat_")

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Payment"]:
        """Staff who may read payments; residents: what they paid, and what was paid of what they owe."""
        if actor.is_staff:
            return cls.filter(community_id__in=actor.community_ids(Act.PAYMENT_READ))
        return cls.filter(
            Q(payer_resident_id=actor.id) | Q(customer_id__in=actor.customer_ids),
            organization_id=actor.organization_id,
        )


class PaymentBill(Row):
    """A bill chosen in a payment and what of it is to be paid. At most one live row a bill, by a partial index."""

    community_id = fields.UUIDField()
    payment_id = fields.UUIDField(db_index=True)
    bill_id = fields.UUIDField(db_index=True)
    customer_id = fields.UUIDField()  # with legal_entity_id: the database holds payment and bill to the same
    legal_entity_id = fields.UUIDField()
    amount_fen = fields.BigIntField()
    live = fields.BooleanField(default=True)  # while the payment is open

    class Meta:
        table = "payment_bills"
        unique_together = (("payment_id", "bill_id"),)


class AttemptState(StrEnum):
    """The life of one order at WeChat."""

    CREATED = "created"  # committed here; WeChat may or may not know it
    PREPAID = "prepaid"  # WeChat gave a prepay_id
    PAID = "paid"  # WeChat has the money, posted
    CLOSED = "closed"  # WeChat confirmed that it cannot be paid any more, or never knew it
    SUSPENDED = "suspended"  # WeChat has money that fails our checks, posted to suspense


UNDECIDED = (AttemptState.CREATED, AttemptState.PREPAID)

ATTEMPT_MACHINE = StateMachine(
    noun="payment_attempt",
    moves={
        AttemptState.CREATED: (
            AttemptState.PREPAID,
            AttemptState.PAID,
            AttemptState.CLOSED,
            AttemptState.SUSPENDED,
        ),
        AttemptState.PREPAID: (AttemptState.PAID, AttemptState.CLOSED, AttemptState.SUSPENDED),
        AttemptState.CLOSED: (AttemptState.PAID, AttemptState.SUSPENDED),
    },
    required={
        AttemptState.PREPAID: ("prepay_id",),
        AttemptState.PAID: ("transaction_id", "paid_at", "received_fen"),
    },
)


class PaymentAttempt(Row):
    """One order at WeChat, committed before WeChat hears of it. ``request`` is the exact body that is sent, so that a
    repeat after a lost answer is identical. Unique: (mchid, out_trade_no); at most one undecided per payment.

    What is paid at once has one attempt without a merchant, decided in the transaction that made it; its number is
    unique among those: (``""``, out_trade_no)."""

    community_id = fields.UUIDField()
    payment_id = fields.UUIDField(db_index=True)
    merchant_account_id = fields.UUIDField(null=True)
    mode = fields.CharEnumField(MerchantMode, max_length=32, null=True)
    mchid = fields.CharField(max_length=32)  # the calling one: sp_mchid in partner mode; "" where nobody is called
    sub_mchid = fields.CharField(max_length=32, null=True)
    appid = fields.CharField(max_length=32, null=True)  # sp_appid in partner mode
    sub_appid = fields.CharField(max_length=32, null=True)
    openid = fields.CharField(max_length=128)
    out_trade_no = fields.CharField(max_length=32)
    amount_fen = fields.BigIntField()
    request = fields.TextField()
    state = fields.CharEnumField(AttemptState, max_length=32, default=AttemptState.CREATED)
    prepay_id = fields.CharField(max_length=64, null=True)
    expires_at = fields.DatetimeField()
    next_check_at = fields.DatetimeField(null=True)  # when the janitor looks again; null once surely decided
    check_count = fields.IntField(default=0)
    transaction_id = fields.CharField(max_length=32, null=True)
    received_fen = fields.BigIntField(null=True)
    paid_at = fields.DatetimeField(null=True)

    class Meta:
        table = "payment_attempts"
        unique_together = (("mchid", "out_trade_no"),)

    @property
    def wechat_account_id(self) -> UUID:
        """The merchant account that the order was placed through; only WeChat's orders are asked for theirs."""
        assert self.merchant_account_id is not None, "no order at WeChat"
        return self.merchant_account_id
