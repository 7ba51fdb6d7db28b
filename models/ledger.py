"""The journal (分录), its accounts, and the allocations that say which fen paid which bill line."""

from enum import StrEnum

from tortoise import fields
from tortoise.models import Model
from tortoise.queryset import QuerySet

from kit import clock
from models.access import Act, Actor
from models.base import Row


class AccountKind(StrEnum):
    """What an account holds. Cash basis: what is owed is bills, not accounts."""

    WECHAT_CLEARING = "wechat_clearing"  # 微信在途: at WeChat, not yet in the bank; holder = merchant account
    BANK = "bank"  # 银行存款
    CASH_ON_HAND = "cash_on_hand"  # 库存现金; holder = shift; none = the safe (保险柜)
    POS_CLEARING = "pos_clearing"  # POS 在途
    RECEIVED = "received"  # 已收款: income received for charges
    PREPAID = "prepaid"  # 预存款; holder = customer
    DEPOSIT = "deposit"  # 押金; holder = customer
    SURPLUS = "surplus"  # 溢收款: money that has no bill to go to; holder = customer
    SUSPENSE = "suspense"  # 待查款: money that fails our checks; holder = merchant account
    COMMISSION = "commission"  # 手续费
    REFUND_PENDING = "refund_pending"  # 退款在途: approved, not with the payer yet; holder = merchant account or null
    CASH_VARIANCE = "cash_variance"  # 长短款: what a count found more or less than it should


class Account(Row):
    """One account of one legal entity in one community. Unique: (legal entity, community, kind, holder)."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    legal_entity_id = fields.UUIDField()
    kind = fields.CharEnumField(AccountKind, max_length=32)
    holder_id = fields.UUIDField(null=True)

    class Meta:
        table = "accounts"

    @classmethod
    def prepaid_of(cls, actor: Actor) -> QuerySet["Account"]:
        """Prepaid balances: staff who may read them; residents: their own."""
        found = cls.filter(kind=AccountKind.PREPAID)
        if actor.is_staff:
            return found.filter(community_id__in=actor.community_ids(Act.PREPAID_READ))
        return found.filter(holder_id__in=actor.customer_ids, organization_id=actor.organization_id)


class EntryKind(StrEnum):
    """Why money moved. (kind, source id, leg) is unique: the same event posts once, whatever is repeated."""

    PAYMENT = "payment"  # money came for bills; source = payment attempt, a leg per account credited
    SURPLUS = "surplus"  # of money that came, the part without a bill; source = payment attempt
    SUSPENSE = "suspense"  # money came that fails our checks; source = payment attempt
    REFUND_APPROVED = "refund_approved"  # what is to be given back leaves its account; source = refund
    REFUNDED = "refunded"  # it is with the payer: by WeChat, by transfer or in cash; source = refund
    REFUND_CANCELLED = "refund_cancelled"  # an approval is reversed; source = refund
    COMMISSION = "commission"  # WeChat kept it of a day's payments; source = reconciliation, or difference
    COMMISSION_REFUND = "commission_refund"  # WeChat gave it back with refunds; the same sources
    SETTLED_TO_BANK = "settled_to_bank"  # between WeChat's balance and the bank; source = movement
    WECHAT_UNIDENTIFIED = "wechat_unidentified"  # money that only WeChat knew, to suspense; source = difference
    FOREIGN_REFUND = "foreign_refund"  # given back at WeChat's own site, out of suspense; source = difference
    ADJUSTMENT = "adjustment"  # two people say so; source = adjustment
    REVERSAL = "reversal"  # 红冲: the mirror image of another entry; source = reversal
    SHIFT_FLOAT = "shift_float"  # 备用金 from the safe into a drawer; source = shift drawer
    CASH_VARIANCE = "cash_variance"  # a count found more or less; source = shift drawer
    SHIFT_HANDOVER = "shift_handover"  # a counted drawer's cash to the next shift or the safe; source = shift drawer
    CASH_BANKED = "cash_banked"  # from the safe to the bank; source = bank slip
    CASH_DRAWN = "cash_drawn"  # from the bank into the safe; source = bank slip


class Entry(Model):
    """借 ``debit_account_id`` 贷 ``credit_account_id`` ``amount_fen``: names two accounts and one positive amount, so
    it cannot be unbalanced. Append-only, by grants and by triggers."""

    id = fields.BigIntField(primary_key=True)
    community_id = fields.UUIDField()
    legal_entity_id = fields.UUIDField()
    kind = fields.CharEnumField(EntryKind, max_length=32)
    source_id = fields.UUIDField()
    leg = fields.SmallIntField()
    debit_account_id = fields.UUIDField(db_index=True)
    credit_account_id = fields.UUIDField(db_index=True)
    amount_fen = fields.BigIntField()
    occurred_at = fields.DatetimeField()  # the channel's time
    posted_at = fields.DatetimeField(default=clock.now)
    posted_on = fields.DateField()  # Beijing date of posting, frozen

    class Meta:
        table = "entries"
        unique_together = (("kind", "source_id", "leg"),)
        indexes = (("community_id", "posted_on", "id"),)

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Entry"]:
        """Finance and auditors of the community."""
        return cls.filter(community_id__in=actor.community_ids(Act.JOURNAL_READ))


class Allocation(Model):
    """Which fen of a payment went to which bill line, and, negative, which a refund took back from it. Append-only.
    Unique: (payment, line) of what was paid, (refund, line) of what went back; together never below zero."""

    id = fields.BigIntField(primary_key=True)
    community_id = fields.UUIDField()
    payment_id = fields.UUIDField()
    refund_id = fields.UUIDField(null=True)  # what went back; null: what was paid
    bill_id = fields.UUIDField(db_index=True)
    bill_line_id = fields.UUIDField()
    amount_fen = fields.BigIntField()
    created_at = fields.DatetimeField(default=clock.now)

    class Meta:
        table = "allocations"
