"""差错: cases that finance must look at."""

from enum import StrEnum

from tortoise import fields
from tortoise.expressions import Q
from tortoise.queryset import QuerySet

from kit.state_machine import StateMachine
from models.access import TABLE, Act, Actor
from models.base import Row, json_field


class DiscrepancyKind(StrEnum):
    """What does not agree."""

    DOUBTFUL_NOTICE = "doubtful_notice"  # a signed callback whose facts are not those of our order
    SUSPENSE = "suspense"  # money at WeChat that does not fit its order; in suspense where it is ours to book
    SURPLUS = "surplus"  # money that came for bills that no longer needed it; finance returns or keeps it
    REFUND_STUCK = "refund_stuck"  # a refund that does not get through without a person; source = refund
    DOUBTFUL_REFUND = "doubtful_refund"  # WeChat's word about a refund is not that of ours; source = refund attempt
    FOREIGN_REFUND = "foreign_refund"  # money of ours that somebody gave back at WeChat's own site
    ONLY_AT_WECHAT = "only_at_wechat"  # WeChat's bill has an order or a refund that these books do not know


class DiscrepancyState(StrEnum):
    """The life of a case."""

    OPEN = "open"
    RESOLVED = "resolved"


DISCREPANCY_MACHINE = StateMachine(
    noun="discrepancy",
    # A case opens again when the same order is doubted anew.
    moves={
        DiscrepancyState.OPEN: (DiscrepancyState.RESOLVED,),
        DiscrepancyState.RESOLVED: (DiscrepancyState.OPEN,),
    },
    required={DiscrepancyState.RESOLVED: ("resolved_at", "resolution")},
)


class Discrepancy(Row):
    """One case. Unique: (kind, source): a repeat of the same trouble is the same case.

    What no payment of ours explains belongs to a merchant account, and to a community only where all that account's
    money is of one.
    """

    organization_id = fields.UUIDField()
    community_id = fields.UUIDField(null=True)
    kind = fields.CharEnumField(DiscrepancyKind, max_length=32)
    source_id = fields.UUIDField()  # the payment attempt, or what the kind says
    payment_id = fields.UUIDField(null=True)
    merchant_account_id = fields.UUIDField(null=True)  # of a case without a payment
    amount_fen = fields.BigIntField()
    facts = json_field()  # what was expected and what came
    state = fields.CharEnumField(DiscrepancyState, max_length=32, default=DiscrepancyState.OPEN)
    resolved_at = fields.DatetimeField(null=True)
    resolved_by_staff_id = fields.UUIDField(null=True)  # null: by itself, when WeChat was asked
    resolution = fields.CharField(max_length=200, null=True)

    class Meta:
        table = "discrepancies"
        unique_together = (("kind", "source_id"),)

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Discrepancy"]:
        """Finance and auditors of the community; a case of no community is for all of them in the organization."""
        mine = actor.community_ids(Act.DISCREPANCY_READ)
        seen = Q(community_id__in=mine)
        if mine or actor.organization_roles & TABLE[Act.DISCREPANCY_READ]:
            seen |= Q(community_id__isnull=True)
        return cls.filter(seen, organization_id=actor.organization_id)
