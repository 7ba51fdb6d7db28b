"""对账: WeChat's bills as they came, what each day of them says, and where it differs from these books."""

from enum import StrEnum

from tortoise import fields
from tortoise.expressions import Q
from tortoise.queryset import QuerySet

from kit.state_machine import StateMachine
from models.access import TABLE, Act, Actor
from models.base import Row


class StatementKind(StrEnum):
    """Which of WeChat's bills."""

    TRADE = "trade"  # 交易账单: what was paid and refunded
    FUND_FLOW = "fund_flow"  # 资金账单: what flowed in and out of the merchant's balance


class DayState(StrEnum):
    """What is known of one day's bill."""

    WAITING = "waiting"  # not there yet, or not asked yet
    READ = "read"  # compared with the books
    QUIET = "quiet"  # WeChat says that there is no bill: nothing happened that day
    GONE = "gone"  # older than WeChat keeps: give the file by hand


# A day is read again whenever a corrected file comes, and a file given by hand overrides what WeChat's site had said.
DAY_MACHINE = StateMachine(
    noun="reconciliation",
    moves={
        DayState.WAITING: (DayState.READ, DayState.QUIET, DayState.GONE),
        DayState.QUIET: (DayState.READ,),
        DayState.GONE: (DayState.READ, DayState.QUIET),
    },
    required={DayState.READ: ("statement_id", "read_at")},
)


def _seen_by(actor: Actor, act: Act) -> bool:
    return actor.is_staff and bool(actor.community_ids(act) or actor.organization_roles & TABLE[act])


class Reconciliation(Row):
    """One kind of bill of one Beijing day of a merchant account. Unique: (merchant account, kind, day).

    ``wechat_fen`` and ``our_fen`` are net: what was paid less what was refunded; their difference is what the
    differences of the day add up to. Of a fund-flow bill both are what moved between WeChat and the bank.
    """

    organization_id = fields.UUIDField()
    merchant_account_id = fields.UUIDField()
    kind = fields.CharEnumField(StatementKind, max_length=32)
    bill_on = fields.DateField()
    state = fields.CharEnumField(DayState, max_length=32, default=DayState.WAITING)
    statement_id = fields.UUIDField(null=True)  # the file that counts
    next_check_at = fields.DatetimeField(null=True)  # when WeChat is asked (again), or the file compared again
    problem = fields.CharField(max_length=200, null=True)  # why it could not be read at the last look
    read_at = fields.DatetimeField(null=True)
    row_count = fields.IntField(default=0)
    wechat_fen = fields.BigIntField(default=0)
    our_fen = fields.BigIntField(default=0)
    fee_fen = fields.BigIntField(default=0)  # 手续费, less what came back with refunds
    pending_count = fields.IntField(default=0)  # refunds that were not decided yet

    class Meta:
        table = "reconciliations"
        unique_together = (("merchant_account_id", "kind", "bill_on"),)

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Reconciliation"]:
        """Finance and auditors anywhere in the organization: a merchant account may serve several communities."""
        seen = _seen_by(actor, Act.RECONCILIATION_READ)
        return cls.filter(organization_id=actor.organization_id) if seen else cls.filter(id=None)


class StatementSource(StrEnum):
    """How a file came here."""

    FETCHED = "fetched"  # from WeChat, its hash as WeChat's signed answer said
    BY_HAND = "by_hand"  # somebody gave it: nobody vouches for it but them


class StatementState(StrEnum):
    """What became of a file."""

    KEPT = "kept"  # here, not read yet
    CURRENT = "current"  # the one that counts for its day
    SUPERSEDED = "superseded"  # another file of the same day came later
    REFUSED = "refused"  # it does not hold: nothing of it was used


# WeChat gives the earlier file again when the one that came between, by hand, was wrong.
STATEMENT_MACHINE = StateMachine(
    noun="statement",
    moves={
        StatementState.KEPT: (StatementState.CURRENT, StatementState.REFUSED),
        StatementState.CURRENT: (StatementState.SUPERSEDED,),
        StatementState.SUPERSEDED: (StatementState.CURRENT,),
        StatementState.REFUSED: (StatementState.CURRENT,),
    },
    required={StatementState.REFUSED: ("problem",), StatementState.SUPERSEDED: ("superseded_at",)},
)


class Statement(Row):
    """A file as it came: its bytes are in ``statement_parts``. Unique: (merchant account, sha256 of the plain file)."""

    organization_id = fields.UUIDField()
    merchant_account_id = fields.UUIDField()
    kind = fields.CharEnumField(StatementKind, max_length=32, null=True)  # known once it was looked at
    bill_on = fields.DateField(null=True)
    source = fields.CharEnumField(StatementSource, max_length=32)
    given_by_staff_id = fields.UUIDField(null=True)
    sha256 = fields.CharField(max_length=64)
    plain_bytes = fields.BigIntField()
    packed_bytes = fields.BigIntField()
    state = fields.CharEnumField(StatementState, max_length=32, default=StatementState.KEPT)
    problem = fields.CharField(max_length=200, null=True)
    superseded_at = fields.DatetimeField(null=True)

    class Meta:
        table = "statements"
        unique_together = (("merchant_account_id", "sha256"),)

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Statement"]:
        """As the days that they are of."""
        seen = _seen_by(actor, Act.RECONCILIATION_READ)
        return cls.filter(organization_id=actor.organization_id) if seen else cls.filter(id=None)


class StatementPart(Row):
    """A piece of a file, gzip over all pieces in order. Append-only. Unique: (statement, number)."""

    statement_id = fields.UUIDField()
    number = fields.IntField()
    body = fields.BinaryField()

    class Meta:
        table = "statement_parts"
        unique_together = (("statement_id", "number"),)


class StatementSum(Row):
    """What a trade bill comes to for one community, as far as its lines are known here. Unique: (day, community)."""

    reconciliation_id = fields.UUIDField()
    community_id = fields.UUIDField()
    legal_entity_id = fields.UUIDField()
    line_count = fields.IntField()
    paid_fen = fields.BigIntField()
    refunded_fen = fields.BigIntField()
    fee_fen = fields.BigIntField()  # of payments
    fee_back_fen = fields.BigIntField()  # returned with refunds

    class Meta:
        table = "statement_sums"
        unique_together = (("reconciliation_id", "community_id", "legal_entity_id"),)


class DifferenceKind(StrEnum):
    """How WeChat's bill and these books differ."""

    ONLY_AT_WECHAT = "only_at_wechat"  # 微信有、我方无
    ONLY_WITH_US = "only_with_us"  # 我方有、微信无
    AMOUNT = "amount"  # 金额不符
    STATUS = "status"  # 状态不符
    FEE = "fee"  # 手续费不符
    CUT_OFF = "cut_off"  # 跨日: on the bill of the day before or after; no difference once that bill was read


class DifferenceAbout(StrEnum):
    """What a difference is about."""

    PAYMENT = "payment"
    REFUND = "refund"
    FLOW = "flow"  # of the fund-flow bill


class DifferenceState(StrEnum):
    """The life of a difference."""

    OPEN = "open"  # somebody must look
    EXPLAINED = "explained"  # a cut-off, and the bill of the other day has it
    MENDED = "mended"  # by itself: the bill or the books say the same by now
    RESOLVED = "resolved"  # by a person, who said what was done


# What was mended may differ again when another file of the day comes; what a person ended stays ended.
DIFFERENCE_MACHINE = StateMachine(
    noun="difference",
    moves={
        DifferenceState.OPEN: (DifferenceState.EXPLAINED, DifferenceState.MENDED, DifferenceState.RESOLVED),
        DifferenceState.EXPLAINED: (DifferenceState.OPEN, DifferenceState.MENDED),
        DifferenceState.MENDED: (DifferenceState.OPEN, DifferenceState.EXPLAINED),
    },
    required={DifferenceState.RESOLVED: ("resolved_at", "resolved_by_staff_id", "resolution")},
)


class Difference(Row):
    """One thing that WeChat's bill of a day and these books say differently. Unique: (day, about, number).

    ``difference_fen`` is WeChat's net less ours, so that a day's differences add up to what its totals differ by.
    """

    organization_id = fields.UUIDField()
    merchant_account_id = fields.UUIDField()
    reconciliation_id = fields.UUIDField()
    community_id = fields.UUIDField(null=True)
    about = fields.CharEnumField(DifferenceAbout, max_length=32)
    number = fields.CharField(max_length=64)  # out_trade_no, out_refund_no or the flow's
    kind = fields.CharEnumField(DifferenceKind, max_length=32)
    attempt_id = fields.UUIDField(null=True)  # our payment attempt, where there is one; of a refund, its payment's
    refund_attempt_id = fields.UUIDField(null=True)
    out_trade_no = fields.CharField(max_length=64, null=True)
    channel_number = fields.CharField(max_length=64, null=True)  # WeChat's: transaction id, refund id
    occurred_at = fields.DatetimeField()
    wechat_fen = fields.BigIntField(null=True)
    our_fen = fields.BigIntField(null=True)
    difference_fen = fields.BigIntField()
    fee_fen = fields.BigIntField(default=0)  # what the bill says of commission
    wechat_status = fields.CharField(max_length=64, null=True)
    our_status = fields.CharField(max_length=64, null=True)
    placed_fen = fields.BigIntField(default=0)  # of what only WeChat knew, what was posted to suspense
    state = fields.CharEnumField(DifferenceState, max_length=32, default=DifferenceState.OPEN)
    resolved_at = fields.DatetimeField(null=True)
    resolved_by_staff_id = fields.UUIDField(null=True)
    resolution = fields.CharField(max_length=200, null=True)

    class Meta:
        table = "differences"
        unique_together = (("reconciliation_id", "about", "number"),)

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Difference"]:
        """Finance and auditors of the community; what belongs to no community is for all of them."""
        mine = actor.community_ids(Act.RECONCILIATION_READ)
        seen = Q(community_id__in=mine)
        if _seen_by(actor, Act.RECONCILIATION_READ):
            seen |= Q(community_id__isnull=True)
        return cls.filter(seen, organization_id=actor.organization_id)


class Movement(Row):
    """Money between a merchant's balance at WeChat and its bank account. Unique: (merchant account, number).

    ``amount_fen`` is positive when it went to the bank (提现), negative when it was put in (充值); ``posted_fen`` is
    what of it the books could post.
    """

    organization_id = fields.UUIDField()
    merchant_account_id = fields.UUIDField()
    number = fields.CharField(max_length=64)
    name = fields.CharField(max_length=64)
    amount_fen = fields.BigIntField()
    posted_fen = fields.BigIntField(default=0)
    occurred_at = fields.DatetimeField()

    class Meta:
        table = "movements"
        unique_together = (("merchant_account_id", "number"),)


class AdjustmentState(StrEnum):
    """The life of an adjustment."""

    ASKED = "asked"  # one person asks for it
    POSTED = "posted"  # another one signed it, and it was posted
    WITHDRAWN = "withdrawn"  # refused or taken back; nothing was posted


ADJUSTMENT_MACHINE = StateMachine(
    noun="adjustment",
    moves={AdjustmentState.ASKED: (AdjustmentState.POSTED, AdjustmentState.WITHDRAWN)},
    required={
        AdjustmentState.POSTED: ("decided_by_staff_id", "decided_at"),
        AdjustmentState.WITHDRAWN: ("decided_by_staff_id", "decided_at"),
    },
)


class Adjustment(Row):
    """An entry that no event explains, because two people say so: 借 ``debit_kind`` 贷 ``credit_kind``."""

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField()
    legal_entity_id = fields.UUIDField()
    merchant_account_id = fields.UUIDField()
    difference_id = fields.UUIDField(null=True)
    debit_kind = fields.CharField(max_length=32)
    credit_kind = fields.CharField(max_length=32)
    amount_fen = fields.BigIntField()
    reason = fields.CharField(max_length=200)
    state = fields.CharEnumField(AdjustmentState, max_length=32, default=AdjustmentState.ASKED)
    asked_by_staff_id = fields.UUIDField()
    decided_by_staff_id = fields.UUIDField(null=True)
    decided_at = fields.DatetimeField(null=True)

    class Meta:
        table = "adjustments"

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Adjustment"]:
        """Finance and auditors of the community."""
        return cls.filter(community_id__in=actor.community_ids(Act.RECONCILIATION_READ))
