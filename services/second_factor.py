"""两步验证 of staff: set up, confirmed, asked for, lost and taken away.

Codes are those of every authenticator app: TOTP (RFC 6238) with SHA-1, 6 digits, steps of 30 s. A code is accepted one
step early or late, for phones whose clock is off, and never twice (RFC 6238, 5.2).
"""

import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import pyotp

from kit import clock
from kit.crypto import Undecipherable, token_hash
from kit.errors import InvalidInput, NotPermitted, Refusal
from kit.ids import new_code, parse_id
from kit.text import normalise
from models import audit
from models.access import Act, Actor, ActorKind, require, require_somewhere
from models.base import get_visible
from models.organization import Organization
from models.second_factor import CHALLENGE_CONTEXT, SECRET_CONTEXT, RecoveryCode, SecondFactor
from models.secret import decrypt, encrypt
from models.session import Session
from models.staff import Staff
from models.unit_of_work import unit_of_work
from services import lock_out
from services.password import password_fits
from services.role import require_over

STEP_S = 30
DRIFT_STEPS = 1
RECOVERY_CODES = 10
RECOVERY_LENGTH = 10
CHALLENGE_LASTS = timedelta(minutes=5)


class SecondFactorNeeded(Refusal):
    """The password is right; ``challenge`` goes with the code of the phone, or a recovery code, within five minutes."""

    status = 401
    zh = "密码正确，请输入手机验证器上的6位验证码。"
    en = "The password is right; now the 6 digits of your authenticator app are needed."


class SecondFactorWrong(Refusal):
    """Wrong, used before, too old, or tried too often: the same words for all."""

    status = 401
    zh = "验证码不正确或已用过，请等下一个验证码再试。连续输错5次，账号会锁定15分钟。"
    en = "This code is wrong or was used; wait for the next one. Five wrong ones lock the account for 15 minutes."


class ChallengeExpired(Refusal):
    """The password was given more than five minutes ago, or was changed meanwhile."""

    status = 401
    zh = "登录已超时，请重新输入用户名和密码。"
    en = "This sign-in has expired; begin again with user name and password."


class CodeWrong(InvalidInput):
    """The code does not fit the second factor that it is to confirm or to change."""

    zh = "验证码不正确或已用过，请等下一个验证码再试。"
    en = "This code is wrong or was used; wait for the next one."


class PasswordWrong(InvalidInput):
    """The password was given wrongly, or too often."""

    zh = "密码不正确。连续输错5次，账号会锁定15分钟。"
    en = "The password is wrong. Five wrong ones in a row lock the account for 15 minutes."


class SecondFactorActive(Refusal):
    """There is one already; it is switched off first, with a code of its own."""

    zh = "两步验证已经开启。更换手机请先用验证码关闭，再重新设置。"
    en = "Two-step verification is on already; switch it off with a code first."


class SecondFactorNotActive(Refusal):
    """There is none that could be used, confirmed or switched off."""

    zh = "还没有开启两步验证。"
    en = "Two-step verification is not set up."


class NotYourOwnSecondFactor(Refusal):
    """One's own is switched off with a code, not by one's rights."""

    zh = "不能重置自己的两步验证，请用验证码或恢复码关闭。"
    en = "Your own second factor is switched off with a code, not reset."


@dataclass(frozen=True)
class SecondFactorView:
    """How it stands. ``required``: the company asks it of one of the roles."""

    active: bool
    confirmed_at: datetime | None
    recovery_codes_left: int
    required: bool


def step_of(unix_s: int) -> int:
    """The time step of an instant."""
    return unix_s // STEP_S


def matching_step(secret: str, code: str, unix_s: int, last_step: int | None) -> int | None:
    """The step whose code this is, among the present one and its neighbours that come after ``last_step``; else None.
    ``secret`` is base32."""
    codes = pyotp.HOTP(secret)
    now = step_of(unix_s)
    for step in range(now - DRIFT_STEPS, now + DRIFT_STEPS + 1):
        if step > (last_step or 0) and hmac.compare_digest(codes.at(step).encode(), code.encode()):
            return step
    return None


# --- signing in -----------------------------------------------------------------------------------------------------


def make_challenge(staff: Staff) -> str:
    """What somebody who knows the password carries to the second step: sealed, so that nothing is kept of it."""
    told = {
        "staff_id": str(staff.id),
        "password": token_hash(staff.password_hash),
        "until": (clock.now() + CHALLENGE_LASTS).isoformat(),
    }
    return encrypt(json.dumps(told), CHALLENGE_CONTEXT)


def read_challenge(challenge: str) -> tuple[UUID, str]:
    """Whose it is, and the fingerprint of the password hash that it was made with. Refuses ChallengeExpired."""
    try:
        told = json.loads(decrypt(challenge, CHALLENGE_CONTEXT))
    except Undecipherable:
        raise ChallengeExpired() from None
    staff_id = parse_id(told["staff_id"])
    if staff_id is None or datetime.fromisoformat(told["until"]) < clock.now():
        raise ChallengeExpired()
    return staff_id, str(told["password"])


async def is_active(staff_id: UUID) -> bool:
    """Whether a code has to be given. It stays so for as long as the account's row is locked."""
    return await SecondFactor.filter(staff_id=staff_id, confirmed_at__isnull=False).exists()


async def use_code_tx(staff_id: UUID, code: str) -> bool:
    """Whether the code of the phone, or a recovery code, is right; it is used up then. The caller has locked the
    account, so that two requests do not use one code."""
    factor = await SecondFactor.get_or_none(staff_id=staff_id, confirmed_at__isnull=False)
    if factor is None:
        return False
    written, secret = _as_written(code), decrypt(factor.secret_cipher, SECRET_CONTEXT)
    if len(written) == RECOVERY_LENGTH:
        kept = RecoveryCode.filter(staff_id=staff_id, code_index=_recovery_index(secret, written))
        return bool(await kept.filter(used_at__isnull=True).update(used_at=clock.now()))
    step = matching_step(secret, written, clock.unix_s(), factor.last_step)
    if step is None:
        return False
    await SecondFactor.filter(id=factor.id).update(last_step=step)
    return True


# --- one's own ------------------------------------------------------------------------------------------------------


async def get_second_factor(actor: Actor) -> SecondFactorView:
    """How the caller's own stands."""
    factor = await SecondFactor.get_or_none(staff_id=actor.id, confirmed_at__isnull=False)
    left = await RecoveryCode.filter(staff_id=actor.id, used_at__isnull=True).count() if factor else 0
    organization = await Organization.get(id=actor.organization_id)
    held = actor.organization_roles.union(*actor.roles.values())
    required = bool(held & frozenset(organization.second_factor_roles))
    return SecondFactorView(factor is not None, factor.confirmed_at if factor else None, left, required)


async def enrol(actor: Actor, password: str) -> str:
    """A fresh secret for the caller as an ``otpauth://`` address, told this once; nothing is asked for before it is
    confirmed, and one that was not confirmed is replaced. The password keeps a session that was left open from being
    taken over. Refuses PasswordWrong (counted as a wrong sign-in is), SecondFactorActive."""
    staff = await get_visible(Staff.filter(organization_id=actor.organization_id), actor.id or "")
    if await is_active(staff.id):
        raise SecondFactorActive()
    counted = await lock_out.count_attempt(staff.id)
    fits = await password_fits(counted["password_hash"] if counted else None, password)
    if counted is None or not fits:
        raise PasswordWrong(fields=[{"field": "password", "code": "wrong"}])
    organization = await Organization.get(id=staff.organization_id)
    secret = pyotp.random_base32()
    await _keep_secret(actor, secret)
    return pyotp.TOTP(secret).provisioning_uri(name=staff.username, issuer_name=organization.name)


@unit_of_work
async def _keep_secret(actor: Actor, secret: str) -> None:
    staff = await Staff.select_for_update().get(id=actor.id)
    await lock_out.forgive_tx(staff)
    if await is_active(staff.id):
        raise SecondFactorActive()
    await SecondFactor.filter(staff_id=staff.id).delete()
    await SecondFactor.create(
        organization_id=staff.organization_id, staff_id=staff.id, secret_cipher=encrypt(secret, SECRET_CONTEXT)
    )
    await _record_tx(actor, "staff.second_factor.enrol", staff)


@unit_of_work
async def confirm(actor: Actor, code: str) -> list[str]:
    """The phone has the secret: from now on a sign-in needs its code. Answers ten recovery codes, told this once; every
    other session of the account ends. Refuses SecondFactorNotActive (nothing to confirm), SecondFactorActive,
    CodeWrong."""
    staff = await Staff.select_for_update().get(id=actor.id)
    factor = await SecondFactor.get_or_none(staff_id=staff.id)
    if factor is None:
        raise SecondFactorNotActive()
    if factor.confirmed_at is not None:
        raise SecondFactorActive()
    step = matching_step(decrypt(factor.secret_cipher, SECRET_CONTEXT), _as_written(code), clock.unix_s(), None)
    if step is None:
        raise CodeWrong(fields=[{"field": "code", "code": "wrong"}])
    now = clock.now()
    await SecondFactor.filter(id=factor.id).update(confirmed_at=now, last_step=step)
    live = Session.filter(staff_id=staff.id, revoked_at__isnull=True)
    await live.exclude(id=actor.session_id).update(revoked_at=now)
    await Session.filter(id=actor.session_id).update(second_factor_at=now)
    await _record_tx(actor, "staff.second_factor.confirm", staff)
    return await _make_recovery_codes_tx(staff)


async def renew_recovery_codes(actor: Actor, code: str) -> list[str]:
    """Ten new recovery codes, told this once; the old ones are void. Refuses as ``disable`` does."""
    return await _with_code(actor, code, renew=True)


async def disable(actor: Actor, code: str) -> None:
    """Afterwards a sign-in takes the password alone (or, where the company asks for a second factor, leads to setting
    up another). Refuses SecondFactorNotActive, CodeWrong (counted as a wrong sign-in is)."""
    await _with_code(actor, code, renew=False)


async def _with_code(actor: Actor, code: str, *, renew: bool) -> list[str]:
    if actor.id is None or not await is_active(actor.id):
        raise SecondFactorNotActive()
    counted = await lock_out.count_attempt(actor.id)
    made = await _change(actor, code, renew=renew) if counted else None
    if made is None:
        raise CodeWrong(fields=[{"field": "code", "code": "wrong"}])
    return made


@unit_of_work
async def _change(actor: Actor, code: str, *, renew: bool) -> list[str] | None:
    staff = await Staff.select_for_update().get(id=actor.id)
    if not await use_code_tx(staff.id, code):
        return None
    await lock_out.forgive_tx(staff)
    if renew:
        await Session.filter(id=actor.session_id).update(second_factor_at=clock.now())
        await _record_tx(actor, "staff.second_factor.renew_recovery_codes", staff)
        return await _make_recovery_codes_tx(staff)
    await _remove_tx(staff)
    await Session.filter(staff_id=staff.id).update(second_factor_at=None)
    await _record_tx(actor, "staff.second_factor.disable", staff)
    return []


# --- somebody else's ------------------------------------------------------------------------------------------------


@unit_of_work
async def reset_second_factor(actor: Actor, staff_id: UUID) -> None:
    """Take the second factor of somebody who lost phone and recovery codes; their sessions end, and a sign-in takes the
    password alone again. Refuses NotFound, NotPermitted, NotYourOwnSecondFactor, SecondFactorNotActive."""
    require_somewhere(actor, Act.STAFF_MANAGE)
    staff = await get_visible(Staff.visible_to(actor).select_for_update(), staff_id)
    await require_over(actor, staff.id)
    if staff.id == actor.id:
        raise NotYourOwnSecondFactor()
    await _reset_tx(actor, staff)


@unit_of_work
async def reset_second_factor_of(actor: Actor, username: str) -> None:
    """The same by user name, for the command line: a company's only manager has nobody else to ask. Refuses
    NotPermitted to whoever signs in, SecondFactorNotActive (unknown names too)."""
    require(actor, Act.STAFF_MANAGE)
    if actor.kind is not ActorKind.SYSTEM:
        raise NotPermitted()
    staff = await Staff.select_for_update().get_or_none(username=username.lower())
    if staff is None:
        raise SecondFactorNotActive()
    await _reset_tx(actor, staff)


async def _reset_tx(actor: Actor, staff: Staff) -> None:
    if not await is_active(staff.id):
        raise SecondFactorNotActive()
    await _remove_tx(staff)
    await Session.filter(staff_id=staff.id, revoked_at__isnull=True).update(revoked_at=clock.now())
    await _record_tx(actor, "staff.second_factor.reset", staff)


async def _remove_tx(staff: Staff) -> None:
    await RecoveryCode.filter(staff_id=staff.id).delete()
    await SecondFactor.filter(staff_id=staff.id).delete()


async def _make_recovery_codes_tx(staff: Staff) -> list[str]:
    factor = await SecondFactor.get(staff_id=staff.id)
    secret = decrypt(factor.secret_cipher, SECRET_CONTEXT)
    await RecoveryCode.filter(staff_id=staff.id).delete()
    made = [new_code(RECOVERY_LENGTH) for _ in range(RECOVERY_CODES)]
    for code in made:
        await RecoveryCode.create(
            organization_id=staff.organization_id, staff_id=staff.id, code_index=_recovery_index(secret, code)
        )
    return [f"{code[:5]}-{code[5:]}" for code in made]


def _as_written(code: str) -> str:
    """As people type it: full-width digits, spaces, dashes and small letters are theirs to choose."""
    return normalise(code).replace(" ", "").replace("-", "").upper()


def _recovery_index(secret: str, code: str) -> str:
    return hmac.new(secret.encode(), code.encode(), hashlib.sha256).hexdigest()


async def _record_tx(actor: Actor, act: str, staff: Staff) -> None:
    await audit.record_tx(actor, act, "staff", staff.id, organization_id=staff.organization_id)
