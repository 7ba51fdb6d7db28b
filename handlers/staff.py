"""Accounts of staff and their roles."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotFound, NotPermitted
from models.access import STAFF_ROLES, Role
from services import role as role_service
from services import staff as service
from services.role import Grant, LastManager

TAG = "员工 staff"


def _of_staff(role: Role) -> Role:
    if role not in STAFF_ROLES:
        raise ValueError("not a role of staff")
    return role


StaffRole = Annotated[Role, AfterValidator(_of_staff)]
Password = Annotated[str, Field(min_length=8, max_length=128, description="至少8位")]
Username = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{2,63}$")]


class StaffRoleIn(Body):
    """A role in one community; without ``community_id`` in all of the organization."""

    community_id: str | None = None
    role: StaffRole


class StaffRoleOut(Out):
    community_id: Id | None
    role: Role


class StaffOut(Out):
    """A member of staff. ``locked_until`` is set while wrong passwords keep the account locked."""

    id: Id
    username: str
    name: str
    disabled: bool
    locked_until: datetime | None
    roles: list[StaffRoleOut]


class NewStaffIn(Body):
    username: Username
    name: str = Field(min_length=1, max_length=100)
    password: Password
    roles: list[StaffRoleIn] = Field(default_factory=list, max_length=100)


class RolesIn(Body):
    """All roles that the member of staff is to have."""

    roles: list[StaffRoleIn] = Field(max_length=100)


class PasswordIn(Body):
    password: Password


def staff_roles_out(grants: Iterable[Grant]) -> list[StaffRoleOut]:
    """Roles as they are shown."""
    return [
        StaffRoleOut(community_id=str(grant.community_id) if grant.community_id else None, role=grant.role)
        for grant in grants
    ]


def _out(view: service.StaffView) -> StaffOut:
    staff = view.staff
    return StaffOut(
        id=str(staff.id),
        username=staff.username,
        name=staff.name,
        disabled=staff.disabled_at is not None,
        locked_until=staff.locked_until,
        roles=staff_roles_out(view.roles),
    )


def _pairs(roles: Iterable[StaffRoleIn]) -> list[tuple[str | None, Role]]:
    return [(role.community_id, role.role) for role in roles]


async def _replay(call: Call, staff_id: UUID) -> StaffOut:
    return _out(await service.get_staff(call.actor, staff_id))


@route("GET", "/api/v1/staff/members", who=Who.STAFF, tag=TAG, summary="员工列表", query=PageQuery,
       response=PageOut[StaffOut], refusals=(NotPermitted,))  # fmt: skip
async def list_staff(call: Call) -> PageOut[StaffOut]:
    page = await service.list_staff(call.actor, call.query.cursor, call.query.limit)
    return PageOut[StaffOut](items=[_out(view) for view in page.items], next_cursor=page.next_cursor)


@route("POST", "/api/v1/staff/members", who=Who.STAFF, tag=TAG, summary="新增员工", body=NewStaffIn, status=201,
       response=StaffOut, replay=_replay, makes="staff",
       refusals=(NotPermitted, NotFound, service.UsernameTaken, service.PasswordTooEasy))  # fmt: skip
async def create_staff(call: Call) -> StaffOut:
    """A manager of communities gives at least one role, and only there."""
    body = call.body
    new = service.NewStaff(body.username, body.name, body.password, _pairs(body.roles))
    return _out(await service.create_staff(call.actor, new))


@route("GET", "/api/v1/staff/members/{staff_id}", who=Who.STAFF, tag=TAG, summary="员工详情", response=StaffOut,
       refusals=(NotPermitted, NotFound))  # fmt: skip
async def get_staff(call: Call) -> StaffOut:
    return _out(await service.get_staff(call.actor, call.id("staff_id")))


@route("PUT", "/api/v1/staff/members/{staff_id}/roles", who=Who.STAFF, tag=TAG, summary="设置岗位", body=RolesIn,
       response=StaffOut, refusals=(NotPermitted, NotFound, LastManager))  # fmt: skip
async def set_roles(call: Call) -> StaffOut:
    """Roles elsewhere than where one manages staff must be sent back as they are."""
    return _out(await role_service.set_roles(call.actor, call.id("staff_id"), _pairs(call.body.roles)))


@route("POST", "/api/v1/staff/members/{staff_id}/disable", who=Who.STAFF, tag=TAG, summary="停用账号",
       response=StaffOut, refusals=(NotPermitted, NotFound, service.NotYourself, LastManager))  # fmt: skip
async def disable_staff(call: Call) -> StaffOut:
    """Its sessions end at once."""
    return _out(await service.disable_staff(call.actor, call.id("staff_id")))


@route("POST", "/api/v1/staff/members/{staff_id}/enable", who=Who.STAFF, tag=TAG, summary="启用账号",
       response=StaffOut, refusals=(NotPermitted, NotFound))  # fmt: skip
async def enable_staff(call: Call) -> StaffOut:
    return _out(await service.enable_staff(call.actor, call.id("staff_id")))


@route("POST", "/api/v1/staff/members/{staff_id}/unlock", who=Who.STAFF, tag=TAG, summary="解除锁定",
       response=StaffOut, refusals=(NotPermitted, NotFound))  # fmt: skip
async def unlock_staff(call: Call) -> StaffOut:
    return _out(await service.unlock_staff(call.actor, call.id("staff_id")))


@route("POST", "/api/v1/staff/members/{staff_id}/password", who=Who.STAFF, tag=TAG, summary="重置密码",
       body=PasswordIn, status=204,
       refusals=(NotPermitted, NotFound, service.NotYourself, service.PasswordTooEasy))  # fmt: skip
async def reset_password(call: Call) -> None:
    """Its sessions end at once."""
    await service.reset_password(call.actor, call.id("staff_id"), call.body.password)
