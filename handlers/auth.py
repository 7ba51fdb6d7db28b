"""Sign-in and sessions: residents by WeChat, staff by password."""

import re
from datetime import datetime
from typing import Annotated

from pydantic import Field

from handlers.route import Body, Call, Id, Out, PageOut, PageQuery, Who, route
from handlers.staff import Password, StaffRoleOut, staff_roles_out
from kit.errors import NotFound
from models.occupancy import OccupancyKind
from models.resident import Resident
from services import rate_limit
from services import resident as resident_service
from services import session as session_service
from services import staff as staff_service
from services.consent import ConsentNeeded
from services.miniprogram import LoginCodeInvalid, WechatLoginUnavailable
from services.second_factor import SecondFactorNeeded

TAG = "登录 sign-in"
_REFERER = re.compile(r"https://servicewechat\.com/(wx[0-9a-zA-Z]{8,30})/")

WechatCode = Annotated[str, Field(min_length=1, max_length=200)]


class WechatSignIn(Body):
    """``code`` is what ``wx.login`` gave. ``app`` is the appid; left out, it is read from the Referer that a
    mini-program sends, else it is the app registered first."""

    code: WechatCode
    app: str | None = Field(None, min_length=1, max_length=32)


class PhoneShare(Body):
    """``code`` is what the phone-number button gave (not the one of ``wx.login``)."""

    code: WechatCode


class StaffSignIn(Body):
    username: str = Field(min_length=1, max_length=64)
    password: str = Field(min_length=1, max_length=128)


class ResidentOut(Out):
    id: Id
    name: str
    phone_masked: str
    has_phone: bool


class ResidentSessionOut(Out):
    """The token is told this once; send it as ``Authorization: Bearer …``."""

    token: str
    expires_at: datetime
    resident: ResidentOut


class BoundRoomOut(Out):
    room_id: Id
    room: str
    community: str
    kind: OccupancyKind


class PhoneSharedOut(Out):
    """``bound``: the rooms that this phone has opened just now; empty when it is on no register."""

    resident: ResidentOut
    bound: list[BoundRoomOut]


class StaffBriefOut(Out):
    id: Id
    name: str
    roles: list[StaffRoleOut]


class StaffSessionOut(Out):
    """The token is told this once; send it as ``Authorization: Bearer …``."""

    token: str
    expires_at: datetime
    staff: StaffBriefOut


class SessionOut(Out):
    """A signed-in device; ``current`` is the one that asks."""

    id: Id
    created_at: datetime
    expires_at: datetime
    current: bool


def _resident_out(resident: Resident) -> ResidentOut:
    return ResidentOut(
        id=str(resident.id),
        name=resident.name,
        phone_masked=resident.phone_masked,
        has_phone=resident.phone_index is not None,
    )


def staff_session_out(signed_in: staff_service.StaffSignedIn) -> StaffSessionOut:
    """A new session as it is told."""
    staff = signed_in.view.staff
    return StaffSessionOut(
        token=signed_in.token,
        expires_at=signed_in.expires_at,
        staff=StaffBriefOut(id=str(staff.id), name=staff.name, roles=staff_roles_out(signed_in.view.roles)),
    )


@route("POST", "/api/v1/auth/wechat", who=Who.PUBLIC, tag=TAG, summary="住户微信登录", body=WechatSignIn,
       response=ResidentSessionOut, limits=(rate_limit.WECHAT_SIGN_IN,),
       refusals=(resident_service.UnknownApp, LoginCodeInvalid, WechatLoginUnavailable))  # fmt: skip
async def sign_in_by_wechat(call: Call) -> ResidentSessionOut:
    """The first sign-in of a WeChat user makes a resident."""
    referer = _REFERER.match(call.headers.get("referer", ""))
    signed_in = await resident_service.sign_in(call.body.code, call.body.app or (referer[1] if referer else None))
    return ResidentSessionOut(
        token=signed_in.token, expires_at=signed_in.expires_at, resident=_resident_out(signed_in.resident)
    )


@route("POST", "/api/v1/auth/phone", who=Who.RESIDENT, tag=TAG, summary="授权手机号并绑定房屋", body=PhoneShare,
       response=PhoneSharedOut, limits=(rate_limit.PHONE_CODE,),
       refusals=(ConsentNeeded, LoginCodeInvalid, WechatLoginUnavailable))  # fmt: skip
async def share_phone(call: Call) -> PhoneSharedOut:
    """Binds the resident to the rooms on whose register this phone waits and that nobody has claimed."""
    resident, bound = await resident_service.share_phone(call.actor, call.body.code)
    return PhoneSharedOut(
        resident=_resident_out(resident),
        bound=[
            BoundRoomOut(room_id=str(one.room.id), room=one.room.name, community=one.community, kind=one.occupancy.kind)
            for one in bound
        ],
    )


@route("POST", "/api/v1/auth/staff", who=Who.PUBLIC, tag=TAG, summary="员工登录", body=StaffSignIn,
       response=StaffSessionOut,
       limits=(rate_limit.STAFF_SIGN_IN_BY_ADDRESS, rate_limit.STAFF_SIGN_IN_BY_ACCOUNT),
       refusals=(staff_service.WrongUsernameOrPassword, SecondFactorNeeded))  # fmt: skip
async def sign_in_by_password(call: Call) -> StaffSessionOut:
    """Five wrong passwords in a row lock an account for 15 minutes; the answer stays the same. Where a second factor is
    set up, the right password is answered second_factor_needed with a challenge for the second step."""
    return staff_session_out(await staff_service.sign_in(call.body.username, call.body.password))


@route("POST", "/api/v1/auth/sign-out", who=Who.ANY, tag=TAG, summary="退出登录", status=204,
       enrolling=True)  # fmt: skip
async def sign_out(call: Call) -> None:
    """Ends the session that asks."""
    await session_service.sign_out(call.actor)


@route("GET", "/api/v1/auth/sessions", who=Who.ANY, tag=TAG, summary="已登录的设备", query=PageQuery,
       response=PageOut[SessionOut])  # fmt: skip
async def list_sessions(call: Call) -> PageOut[SessionOut]:
    """The caller's own live sessions, newest first."""
    page = await session_service.list_sessions(call.actor, call.query.cursor, call.query.limit)
    return PageOut[SessionOut](
        items=[
            SessionOut(
                id=str(session.id),
                created_at=session.created_at,
                expires_at=session.expires_at,
                current=session.id == call.actor.session_id,
            )
            for session in page.items
        ],
        next_cursor=page.next_cursor,
    )


@route("DELETE", "/api/v1/auth/sessions/{session_id}", who=Who.ANY, tag=TAG, summary="移除一台设备", status=204,
       refusals=(NotFound,))  # fmt: skip
async def revoke_session(call: Call) -> None:
    """A lost phone, say: its session ends at once."""
    await session_service.revoke_session(call.actor, call.id("session_id"))


class PasswordChange(Body):
    old_password: str = Field(min_length=1, max_length=128)
    new_password: Password


@route("POST", "/api/v1/staff/me/password", who=Who.STAFF, tag=TAG, summary="修改自己的密码", body=PasswordChange,
       status=204, limits=(rate_limit.PASSWORD_CHANGE,),
       refusals=(staff_service.OldPasswordWrong, staff_service.PasswordTooEasy))  # fmt: skip
async def change_password(call: Call) -> None:
    """Every other session of the account ends."""
    await staff_service.change_password(call.actor, call.body.old_password, call.body.new_password)


@route("GET", "/api/v1/me", who=Who.RESIDENT, tag=TAG, summary="我的信息", response=ResidentOut)
async def get_me(call: Call) -> ResidentOut:
    return _resident_out(await resident_service.get_me(call.actor))


@route("GET", "/api/v1/staff/me", who=Who.STAFF, tag=TAG, summary="我的账号", response=StaffBriefOut,
       enrolling=True)  # fmt: skip
async def get_staff_me(call: Call) -> StaffBriefOut:
    view = await staff_service.get_me(call.actor)
    return StaffBriefOut(id=str(view.staff.id), name=view.staff.name, roles=staff_roles_out(view.roles))
