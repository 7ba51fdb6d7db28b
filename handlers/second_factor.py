"""Two-step verification of staff."""

from datetime import datetime

from pydantic import Field

from handlers.auth import StaffSessionOut, staff_session_out
from handlers.route import Body, Call, Out, Who, route
from kit.errors import NotFound, NotPermitted
from services import rate_limit
from services import second_factor as service
from services import staff as staff_service

TAG = "两步验证 second factor"
_MINE = "/api/v1/staff/me/second-factor"
_LIMITED = (rate_limit.SECOND_FACTOR_CHANGE,)


class CodeIn(Body):
    """The 6 digits of the authenticator app, or one of the recovery codes."""

    code: str = Field(min_length=6, max_length=20)


class StaffSignInCode(CodeIn):
    """``challenge`` is what the refusal ``second_factor_needed`` of the first step told."""

    challenge: str = Field(min_length=1, max_length=1000)


class EnrolIn(Body):
    password: str = Field(min_length=1, max_length=128)


class SecondFactorOut(Out):
    """``required``: the company asks it of one of the caller's roles."""

    active: bool
    confirmed_at: datetime | None
    recovery_codes_left: int
    required: bool


class EnrolmentOut(Out):
    """An ``otpauth://`` address, to be shown as a QR code; told this once."""

    uri: str


class RecoveryCodesOut(Out):
    """Each is good once, in place of a code of the phone; told this once."""

    recovery_codes: list[str]


@route("POST", "/api/v1/auth/staff/second-factor", who=Who.PUBLIC, tag="登录 sign-in", summary="员工登录第二步",
       body=StaffSignInCode, response=StaffSessionOut, limits=(rate_limit.SECOND_FACTOR_SIGN_IN,),
       refusals=(service.ChallengeExpired, service.SecondFactorWrong))  # fmt: skip
async def sign_in_by_code(call: Call) -> StaffSessionOut:
    """Within five minutes of the password. Five wrong codes lock the account for 15 minutes; the answer stays the
    same."""
    return staff_session_out(await staff_service.sign_in_by_code(call.body.challenge, call.body.code))


@route("GET", _MINE, who=Who.STAFF, tag=TAG, summary="我的两步验证", response=SecondFactorOut, enrolling=True)
async def get_second_factor(call: Call) -> SecondFactorOut:
    view = await service.get_second_factor(call.actor)
    return SecondFactorOut(
        active=view.active,
        confirmed_at=view.confirmed_at,
        recovery_codes_left=view.recovery_codes_left,
        required=view.required,
    )


@route("POST", _MINE, who=Who.STAFF, tag=TAG, summary="设置两步验证", body=EnrolIn, response=EnrolmentOut,
       limits=_LIMITED, enrolling=True, refusals=(service.SecondFactorActive, service.PasswordWrong))  # fmt: skip
async def enrol(call: Call) -> EnrolmentOut:
    """Nothing changes before it is confirmed. Again gives another secret, and the one before is void."""
    return EnrolmentOut(uri=await service.enrol(call.actor, call.body.password))


@route("POST", _MINE + "/confirm", who=Who.STAFF, tag=TAG, summary="确认两步验证", body=CodeIn,
       response=RecoveryCodesOut, limits=_LIMITED, enrolling=True,
       refusals=(service.SecondFactorNotActive, service.SecondFactorActive, service.CodeWrong))  # fmt: skip
async def confirm(call: Call) -> RecoveryCodesOut:
    """With a code of the phone. Every other session of the account ends."""
    return RecoveryCodesOut(recovery_codes=await service.confirm(call.actor, call.body.code))


@route("POST", _MINE + "/recovery-codes", who=Who.STAFF, tag=TAG, summary="更换恢复码", body=CodeIn,
       response=RecoveryCodesOut, limits=_LIMITED,
       refusals=(service.SecondFactorNotActive, service.CodeWrong))  # fmt: skip
async def renew_recovery_codes(call: Call) -> RecoveryCodesOut:
    """The old ones are void."""
    return RecoveryCodesOut(recovery_codes=await service.renew_recovery_codes(call.actor, call.body.code))


@route("POST", _MINE + "/disable", who=Who.STAFF, tag=TAG, summary="关闭两步验证", body=CodeIn, status=204,
       limits=_LIMITED, refusals=(service.SecondFactorNotActive, service.CodeWrong))  # fmt: skip
async def disable(call: Call) -> None:
    """To change phones: off with a code of the old one, then on again with the new one."""
    await service.disable(call.actor, call.body.code)


@route("POST", "/api/v1/staff/members/{staff_id}/second-factor/reset", who=Who.STAFF, tag=TAG,
       summary="重置员工的两步验证", status=204,
       refusals=(NotPermitted, NotFound, service.NotYourOwnSecondFactor, service.SecondFactorNotActive))  # fmt: skip
async def reset(call: Call) -> None:
    """For somebody who lost phone and recovery codes. Their sessions end at once."""
    await service.reset_second_factor(call.actor, call.id("staff_id"))
