"""The table role × act, written a second time on purpose: whoever changes a permission changes it in two places."""

from datetime import date
from uuid import UUID

import pytest

from kit.errors import NotPermitted
from kit.ids import new_id
from models.access import (
    RESIDENT_ROLES,
    STAFF_ROLES,
    TABLE,
    Act,
    Actor,
    ActorKind,
    ActorOccupancy,
    Role,
    may,
    require,
    require_somewhere,
    system_actor,
)

COLUMNS = (
    Role.MANAGER, Role.BUTLER, Role.DISPATCHER, Role.REPAIRER, Role.CASHIER, Role.FINANCE, Role.GUARD, Role.AUDITOR,
    Role.OWNER, Role.FAMILY, Role.TENANT,
)  # fmt: skip
# One letter a column, in their order; a dot is a refusal.
EXPECTED = """
organization.manage       M....... ...
staff.manage              M....... ...
staff.read                M......A ...
community.read            MBDRCFGA ...
register.read             MBD.CF.A ...
register.manage           MB...... ...
occupancy_request.read    MB.....A ...
occupancy_request.decide  MB...... ...
customer.forget           M....... ...
person.reveal             MB...F.. ...
reveal.read               M......A ...
consent.record            MB...... ...
household.invite          ........ O..
fee_item.read             MB..CF.A ...
fee_item.manage           M....F.. ...
bill.read                 MB..CF.A OFT
bill.issue                M....F.. ...
bill.void                 M....F.. ...
bill.pay                  ........ OFT
payment.read              M...CF.A ...
payment.check             ....CF.. ...
refund.read               M...CF.A ...
refund.approve            .....F.. ...
refund.ask                ....CF.. ...
refund.pay_out            ....CF.. ...
surplus.decide            .....F.. ...
receipt.read              M...CF.A ...
receipt.print             M...CF.. ...
journal.read              .....F.A ...
discrepancy.read          .....F.A ...
discrepancy.resolve       .....F.. ...
message.read              MB.....A ...
audit.read                M......A ...
prepaid.read              M...CF.A ...
prepaid.top_up            M...CF.. ...
prepaid.pay               ....CF.. ...
prepaid.manage            .....F.. ...
deposit.read              M...CF.A ...
deposit.issue             M...CF.. ...
deposit.deduct            .....F.. ...
deposit.return            ....CF.. ...
reconciliation.read       M....F.A ...
reconciliation.run        .....F.. ...
adjustment.ask            .....F.. ...
adjustment.sign           M....F.. ...
finance.close             .....F.. ...
entry.reverse             .....F.. ...
shift.read                M...CF.A ...
shift.work                ....C... ...
shift.approve             .....F.. ...
cash.bank                 ....CF.. ...
cash.draw                 .....F.. ...
"""


def _printed() -> str:
    letters = "MBDRCFGAOFT"
    lines = []
    for act in Act:
        marks = "".join(letter if role in TABLE[act] else "." for role, letter in zip(COLUMNS, letters, strict=True))
        lines.append(f"{act.value:<25} {marks[:8]} {marks[8:]}")
    return "\n" + "\n".join(lines) + "\n"


def test_the_table_is_what_is_written_here() -> None:
    print(_printed())
    assert set(COLUMNS) == set(Role)
    assert _printed() == EXPECTED


def test_every_act_is_somebodys_and_no_act_of_staff_alone_is_a_residents() -> None:
    assert set(TABLE) == set(Act)
    assert all(TABLE.values())
    assert {act for act in Act if TABLE[act] & RESIDENT_ROLES} == {Act.HOUSEHOLD_INVITE, Act.BILL_READ, Act.BILL_PAY}
    assert STAFF_ROLES | RESIDENT_ROLES == set(Role) and not STAFF_ROLES & RESIDENT_ROLES


HERE, THERE, ROOM, NEXT_DOOR = (new_id() for _ in range(4))


def _staff(
    roles: dict[UUID, frozenset[Role]] | None = None, organization_roles: frozenset[Role] = frozenset()
) -> Actor:
    return Actor(kind=ActorKind.STAFF, id=new_id(), roles=roles or {}, organization_roles=organization_roles)


def _resident(role: Role) -> Actor:
    held = ActorOccupancy(new_id(), HERE, ROOM, role, date(2020, 1, 1))
    return Actor(kind=ActorKind.RESIDENT, id=new_id(), occupancies=(held,))


def test_a_role_of_one_community_holds_there_only() -> None:
    manager = _staff({HERE: frozenset({Role.MANAGER})})

    assert may(manager, Act.STAFF_MANAGE, community_id=HERE)
    assert not may(manager, Act.STAFF_MANAGE, community_id=THERE)
    assert not may(manager, Act.STAFF_MANAGE)  # nothing of the whole organization
    assert not may(manager, Act.JOURNAL_READ, community_id=HERE)
    with pytest.raises(NotPermitted):
        require(manager, Act.STAFF_MANAGE, community_id=THERE)


def test_a_role_of_the_organization_holds_where_the_session_spread_it() -> None:
    everywhere = frozenset({Role.MANAGER})
    manager = _staff({HERE: everywhere, THERE: everywhere}, everywhere)

    assert may(manager, Act.ORGANIZATION_MANAGE)
    assert may(manager, Act.ORGANIZATION_MANAGE, community_id=THERE)
    assert not may(manager, Act.ORGANIZATION_MANAGE, community_id=new_id())  # another company's
    assert sorted(manager.community_ids(Act.REGISTER_READ)) == sorted([HERE, THERE])


def test_roles_add_up_and_none_means_refused() -> None:
    both = _staff({HERE: frozenset({Role.GUARD, Role.CASHIER})})

    assert may(both, Act.PAYMENT_READ, community_id=HERE)
    assert not may(_staff({HERE: frozenset({Role.GUARD})}), Act.PAYMENT_READ, community_id=HERE)
    for act in Act:
        assert not may(_staff(), act) and not may(_staff(), act, community_id=HERE)
        with pytest.raises(NotPermitted):
            require_somewhere(_staff(), act)


@pytest.mark.parametrize("role", sorted(RESIDENT_ROLES))
def test_a_resident_may_in_their_own_room_only(role: Role) -> None:
    resident = _resident(role)

    assert may(resident, Act.BILL_PAY, room_id=ROOM)
    assert not may(resident, Act.BILL_PAY, room_id=NEXT_DOOR)
    assert not may(resident, Act.BILL_PAY)
    assert may(resident, Act.HOUSEHOLD_INVITE, room_id=ROOM) is (role is Role.OWNER)
    assert not any(may(resident, act, community_id=HERE) for act in Act)


def test_a_job_may_do_what_was_allowed_when_it_was_asked() -> None:
    job = system_actor("nightly")

    assert all(may(job, act, community_id=HERE) for act in Act)
    assert job.label() == "system:nightly"
