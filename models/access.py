"""Who may do what: the actor of a request or job, and the one table role × act.

``require`` is called first by every service; no entry means refused. Reads begin at ``Model.visible_to(actor)``.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from kit.errors import NotPermitted, OwnerNeeded


class Role(StrEnum):
    """What somebody is, in one community (staff: 岗位) or for one room (residents)."""

    MANAGER = "manager"  # 项目经理
    BUTLER = "butler"  # 楼栋管家
    DISPATCHER = "dispatcher"  # 调度
    REPAIRER = "repairer"  # 维修工
    CASHIER = "cashier"  # 收费员
    FINANCE = "finance"  # 财务
    GUARD = "guard"  # 保安
    AUDITOR = "auditor"  # 审计
    OWNER = "owner"  # 业主
    FAMILY = "family"  # 家属
    TENANT = "tenant"  # 租客


STAFF_ROLES = frozenset(Role) - {Role.OWNER, Role.FAMILY, Role.TENANT}
RESIDENT_ROLES = frozenset({Role.OWNER, Role.FAMILY, Role.TENANT})


class Act(StrEnum):
    """Everything that can be asked for, one name each."""

    ORGANIZATION_MANAGE = "organization.manage"  # communities, legal entities, apps, merchant accounts, policies
    STAFF_MANAGE = "staff.manage"  # accounts and roles of staff
    STAFF_READ = "staff.read"
    COMMUNITY_READ = "community.read"
    REGISTER_READ = "register.read"  # buildings, rooms, customers, occupancies
    REGISTER_MANAGE = "register.manage"
    REQUEST_READ = "occupancy_request.read"
    REQUEST_DECIDE = "occupancy_request.decide"
    CUSTOMER_FORGET = "customer.forget"  # a former customer keeps a pseudonym only
    PERSON_REVEAL = "person.reveal"  # the full phone or ID number, with a reason
    REVEAL_READ = "reveal.read"
    CONSENT_RECORD = "consent.record"  # a consent that was given at the counter
    HOUSEHOLD_INVITE = "household.invite"  # an owner invites and removes family or tenant
    FEE_ITEM_READ = "fee_item.read"
    FEE_ITEM_MANAGE = "fee_item.manage"
    BILL_READ = "bill.read"
    BILL_ISSUE = "bill.issue"  # one by one or by import
    BILL_VOID = "bill.void"
    BILL_PAY = "bill.pay"
    PAYMENT_READ = "payment.read"
    PAYMENT_CHECK = "payment.check"  # ask WeChat now instead of waiting for the sweep
    REFUND_READ = "refund.read"
    REFUND_APPROVE = "refund.approve"  # and what follows when one does not get through: again, or not at all
    REFUND_ASK = "refund.ask"
    REFUND_PAY_OUT = "refund.pay_out"  # hand it over in cash or transfer it
    SURPLUS_DECIDE = "surplus.decide"  # return or keep money that found no bill
    RECEIPT_READ = "receipt.read"
    RECEIPT_PRINT = "receipt.print"
    JOURNAL_READ = "journal.read"
    DISCREPANCY_READ = "discrepancy.read"
    DISCREPANCY_RESOLVE = "discrepancy.resolve"
    MESSAGE_READ = "message.read"
    AUDIT_READ = "audit.read"
    PREPAID_READ = "prepaid.read"  # balances, their statements, and what runs paid
    PREPAID_TOP_UP = "prepaid.top_up"  # ask for a top-up on behalf of a customer
    PREPAID_PAY = "prepaid.pay"  # pay what a customer owes from their balance
    PREPAID_MANAGE = "prepaid.manage"  # what a balance may pay, and runs over all of them
    DEPOSIT_READ = "deposit.read"
    DEPOSIT_ISSUE = "deposit.issue"  # ask a customer for one
    DEPOSIT_DEDUCT = "deposit.deduct"
    DEPOSIT_RETURN = "deposit.return"  # ask that it goes back, or withdraw that
    RECONCILIATION_READ = "reconciliation.read"  # WeChat's bills, and where they differ from the books
    RECONCILIATION_RUN = "reconciliation.run"  # compare again, give a file by hand, end a difference
    ADJUSTMENT_ASK = "adjustment.ask"  # ask for an entry that no event explains
    ADJUSTMENT_SIGN = "adjustment.sign"  # the second person, never the one who asked
    FINANCE_CLOSE = "finance.close"  # a month of a legal entity, for good
    ENTRY_REVERSE = "entry.reverse"  # ask for a reversal, or decide about a colleague's
    SHIFT_READ = "shift.read"
    SHIFT_WORK = "shift.work"  # open, count and hand over one's own, and take money in it
    SHIFT_APPROVE = "shift.approve"
    CASH_BANK = "cash.bank"  # from the safe to the bank
    CASH_DRAW = "cash.draw"  # from the bank into the safe


_ = Role
TABLE: Mapping[Act, frozenset[Role]] = {
    Act.ORGANIZATION_MANAGE: frozenset({_.MANAGER}),
    Act.STAFF_MANAGE: frozenset({_.MANAGER}),
    Act.STAFF_READ: frozenset({_.MANAGER, _.AUDITOR}),
    Act.COMMUNITY_READ: STAFF_ROLES,
    Act.REGISTER_READ: frozenset({_.MANAGER, _.BUTLER, _.DISPATCHER, _.CASHIER, _.FINANCE, _.AUDITOR}),
    Act.REGISTER_MANAGE: frozenset({_.MANAGER, _.BUTLER}),
    Act.REQUEST_READ: frozenset({_.MANAGER, _.BUTLER, _.AUDITOR}),
    Act.REQUEST_DECIDE: frozenset({_.MANAGER, _.BUTLER}),
    Act.CUSTOMER_FORGET: frozenset({_.MANAGER}),
    Act.PERSON_REVEAL: frozenset({_.MANAGER, _.BUTLER, _.FINANCE}),
    Act.REVEAL_READ: frozenset({_.MANAGER, _.AUDITOR}),
    Act.CONSENT_RECORD: frozenset({_.MANAGER, _.BUTLER}),
    Act.HOUSEHOLD_INVITE: frozenset({_.OWNER}),
    Act.FEE_ITEM_READ: frozenset({_.MANAGER, _.BUTLER, _.CASHIER, _.FINANCE, _.AUDITOR}),
    Act.FEE_ITEM_MANAGE: frozenset({_.MANAGER, _.FINANCE}),
    Act.BILL_READ: frozenset({_.MANAGER, _.BUTLER, _.CASHIER, _.FINANCE, _.AUDITOR, _.OWNER, _.FAMILY, _.TENANT}),
    Act.BILL_ISSUE: frozenset({_.MANAGER, _.FINANCE}),
    Act.BILL_VOID: frozenset({_.MANAGER, _.FINANCE}),
    Act.BILL_PAY: frozenset({_.OWNER, _.FAMILY, _.TENANT}),
    Act.PAYMENT_READ: frozenset({_.MANAGER, _.CASHIER, _.FINANCE, _.AUDITOR}),
    Act.PAYMENT_CHECK: frozenset({_.CASHIER, _.FINANCE}),
    Act.REFUND_READ: frozenset({_.MANAGER, _.CASHIER, _.FINANCE, _.AUDITOR}),
    Act.REFUND_APPROVE: frozenset({_.FINANCE}),
    Act.REFUND_ASK: frozenset({_.CASHIER, _.FINANCE}),
    Act.REFUND_PAY_OUT: frozenset({_.CASHIER, _.FINANCE}),
    Act.SURPLUS_DECIDE: frozenset({_.FINANCE}),
    Act.RECEIPT_READ: frozenset({_.MANAGER, _.CASHIER, _.FINANCE, _.AUDITOR}),
    Act.RECEIPT_PRINT: frozenset({_.MANAGER, _.CASHIER, _.FINANCE}),
    Act.JOURNAL_READ: frozenset({_.FINANCE, _.AUDITOR}),
    Act.DISCREPANCY_READ: frozenset({_.FINANCE, _.AUDITOR}),
    Act.DISCREPANCY_RESOLVE: frozenset({_.FINANCE}),
    Act.MESSAGE_READ: frozenset({_.MANAGER, _.BUTLER, _.AUDITOR}),
    Act.AUDIT_READ: frozenset({_.MANAGER, _.AUDITOR}),
    Act.PREPAID_READ: frozenset({_.MANAGER, _.CASHIER, _.FINANCE, _.AUDITOR}),
    Act.PREPAID_TOP_UP: frozenset({_.MANAGER, _.CASHIER, _.FINANCE}),
    Act.PREPAID_PAY: frozenset({_.CASHIER, _.FINANCE}),
    Act.PREPAID_MANAGE: frozenset({_.FINANCE}),
    Act.DEPOSIT_READ: frozenset({_.MANAGER, _.CASHIER, _.FINANCE, _.AUDITOR}),
    Act.DEPOSIT_ISSUE: frozenset({_.MANAGER, _.CASHIER, _.FINANCE}),
    Act.DEPOSIT_DEDUCT: frozenset({_.FINANCE}),
    Act.DEPOSIT_RETURN: frozenset({_.CASHIER, _.FINANCE}),
    Act.RECONCILIATION_READ: frozenset({_.MANAGER, _.FINANCE, _.AUDITOR}),
    Act.RECONCILIATION_RUN: frozenset({_.FINANCE}),
    Act.ADJUSTMENT_ASK: frozenset({_.FINANCE}),
    Act.ADJUSTMENT_SIGN: frozenset({_.MANAGER, _.FINANCE}),
    Act.FINANCE_CLOSE: frozenset({_.FINANCE}),
    Act.ENTRY_REVERSE: frozenset({_.FINANCE}),
    Act.SHIFT_READ: frozenset({_.MANAGER, _.CASHIER, _.FINANCE, _.AUDITOR}),
    Act.SHIFT_WORK: frozenset({_.CASHIER}),
    Act.SHIFT_APPROVE: frozenset({_.FINANCE}),
    Act.CASH_BANK: frozenset({_.CASHIER, _.FINANCE}),
    Act.CASH_DRAW: frozenset({_.FINANCE}),
}
del _


class ActorKind(StrEnum):
    """What kind of hand is at work."""

    RESIDENT = "resident"
    STAFF = "staff"
    SYSTEM = "system"  # a job; ``asked_by`` names what asked


@dataclass(frozen=True)
class ActorOccupancy:
    """A room that a resident lives in or owns today."""

    occupancy_id: UUID
    community_id: UUID
    room_id: UUID
    role: Role
    starts_on: date


@dataclass(frozen=True)
class Actor:
    """Who acts, with everything that decides what they may see; built once per request from the session."""

    kind: ActorKind
    id: UUID | None
    organization_id: UUID | None = None
    app_id: UUID | None = None
    session_id: UUID | None = None
    roles: Mapping[UUID, frozenset[Role]] = field(default_factory=dict)
    organization_roles: frozenset[Role] = frozenset()
    occupancies: tuple[ActorOccupancy, ...] = ()
    customer_ids: frozenset[UUID] = frozenset()
    asked_by: str = ""
    second_factor_at: datetime | None = None  # when the session last gave a code; None without a second factor
    enrolment_needed: bool = False  # one of the roles needs a second factor that is not set up yet

    @property
    def is_staff(self) -> bool:
        return self.kind is ActorKind.STAFF

    @property
    def is_resident(self) -> bool:
        return self.kind is ActorKind.RESIDENT

    @property
    def room_ids(self) -> frozenset[UUID]:
        return frozenset(occupancy.room_id for occupancy in self.occupancies)

    def community_ids(self, act: Act) -> list[UUID]:
        """The communities in which this staff member's roles have ``act``; what ``visible_to`` filters by."""
        return [community for community, roles in self.roles.items() if roles & TABLE[act]]

    def label(self) -> str:
        """Kind and id as one word, for audit and idempotency scopes."""
        return f"{self.kind}:{self.id or self.asked_by}"


def system_actor(asked_by: str) -> Actor:
    """The actor of a job; ``asked_by`` names the job or the command that asked."""
    return Actor(kind=ActorKind.SYSTEM, id=None, asked_by=asked_by)


def may(actor: Actor, act: Act, *, community_id: UUID | None = None, room_id: UUID | None = None) -> bool:
    """Whether the table has an entry for one of the actor's roles there.

    Staff: their roles in ``community_id``; without a community, their organization-wide roles. Residents: their role
    for ``room_id``. A system actor may do everything: what asked for it was checked when it asked.
    """
    if actor.kind is ActorKind.SYSTEM:
        return True
    if actor.is_staff:
        held = actor.organization_roles if community_id is None else actor.roles.get(community_id, frozenset())
    else:
        held = frozenset(occupancy.role for occupancy in actor.occupancies if occupancy.room_id == room_id)
    return bool(held & TABLE[act])


def require(actor: Actor, act: Act, *, community_id: UUID | None = None, room_id: UUID | None = None) -> None:
    """Refuse with NotPermitted unless ``may``; a resident hears OwnerNeeded, for that is all that residents lack."""
    if not may(actor, act, community_id=community_id, room_id=room_id):
        raise OwnerNeeded() if actor.is_resident else NotPermitted()


def require_at_one(actor: Actor, act: Act, community_ids: Collection[UUID]) -> UUID | None:
    """The first of the communities in which the actor has the act, for what belongs to several; None when it belongs to
    none and the actor has the act anywhere. Refuses with NotPermitted otherwise."""
    if not community_ids:
        require_somewhere(actor, act)
        return None
    for community_id in community_ids:
        if may(actor, act, community_id=community_id):
            return community_id
    raise NotPermitted()


def require_somewhere(actor: Actor, act: Act) -> None:
    """Refuse unless the actor holds the act in at least one community (lists over all that they may see)."""
    if not (actor.organization_roles & TABLE[act] or actor.community_ids(act)):
        raise NotPermitted()
