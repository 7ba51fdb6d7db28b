"""员工: accounts, passwords, sign-in. What they may do is in services/role.py, their codes in second_factor.py."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kit import clock
from kit.crypto import token_hash
from kit.errors import InvalidInput, Refusal
from kit.paging import Page
from kit.text import normalise
from models import audit
from models.access import Act, Actor, ActorKind, Role, require, require_somewhere
from models.base import get_visible
from models.session import Session
from models.staff import Staff
from models.unit_of_work import unit_of_work
from services import lock_out, second_factor
from services.listing import newest_first
from services.password import hash_password, password_fits
from services.role import (
    Grant,
    StaffView,
    add_grants_tx,
    grants_of,
    keep_a_manager_tx,
    lock_organization_tx,
    manages_all,
    read_grants,
    require_each,
    require_over,
)
from services.second_factor import ChallengeExpired, SecondFactorNeeded, SecondFactorWrong
from services.session import create_session_tx
from services.unique import unique


class WrongUsernameOrPassword(Refusal):
    """Unknown, wrong, locked or disabled: the same words for all, so that accounts cannot be probed."""

    status = 401
    zh = "用户名或密码不正确。连续输错5次，账号会锁定15分钟。"
    en = "Wrong user name or password. Five wrong ones in a row lock an account for 15 minutes."


class OldPasswordWrong(Refusal):
    """The present password was given wrongly, or too often."""

    status = 422
    zh = "原密码不正确。连续输错5次，账号会锁定15分钟。"
    en = "The present password is wrong. Five wrong ones in a row lock the account for 15 minutes."


class UsernameTaken(Refusal):
    zh = "这个用户名已被使用，请换一个。"
    en = "This user name is taken."


class PasswordTooEasy(InvalidInput):
    """The password holds nothing but the user name, one repeated character, or digits in a row."""

    zh = "密码太简单，请不要使用用户名、重复或连续的数字。"
    en = "This password is too easy to guess."


class NotYourself(Refusal):
    """An act on an account by its own holder, who has another way to do it."""

    zh = "不能对自己的账号进行此操作。"
    en = "This cannot be done to your own account."


@dataclass(frozen=True)
class StaffSignedIn:
    """A new session; its token is told this once."""

    token: str
    expires_at: datetime
    view: StaffView


@dataclass(frozen=True)
class NewStaff:
    """An account to make, with the password that its holder signs in with first."""

    username: str
    name: str
    password: str
    roles: Iterable[tuple[str | None, Role]] = ()


async def sign_in(username: str, password: str) -> StaffSignedIn:
    """Begin a session. Refuses WrongUsernameOrPassword, in the same words and time, for an unknown name, a wrong
    password, an account locked after five wrong ones in a row, and a disabled one; SecondFactorNeeded when the password
    is right and a code is wanted too."""
    counted = await lock_out.count_attempt(username.lower())
    fits = await password_fits(counted["password_hash"] if counted else None, password)
    if counted is None or not fits:
        raise WrongUsernameOrPassword()
    signed_in = await _begin_session(counted["id"], counted["password_hash"])
    if isinstance(signed_in, str):
        raise SecondFactorNeeded(challenge=signed_in)
    return signed_in


@unit_of_work
async def _begin_session(staff_id: UUID, password_hash: str) -> StaffSignedIn | str:
    """The session, or the challenge where a code is wanted first."""
    staff = await Staff.select_for_update().get(id=staff_id)
    if staff.disabled_at is not None or staff.password_hash != password_hash:
        raise WrongUsernameOrPassword()  # disabled, or given another password, while this one was being tried
    if await second_factor.is_active(staff.id):
        await lock_out.take_back_tx(staff)
        return second_factor.make_challenge(staff)
    return await _session_tx(staff, second_factor_at=None)


async def sign_in_by_code(challenge: str, code: str) -> StaffSignedIn:
    """The second step of a sign-in: the code of the phone, or a recovery code. Refuses ChallengeExpired, and
    SecondFactorWrong, in the same words, for a wrong code, a used one, and an account that is locked or disabled."""
    staff_id, password = second_factor.read_challenge(challenge)
    counted = await lock_out.count_attempt(staff_id)
    signed_in = await _use_code(staff_id, password, code) if counted else None
    if signed_in is None:
        raise SecondFactorWrong()
    return signed_in


@unit_of_work
async def _use_code(staff_id: UUID, password: str, code: str) -> StaffSignedIn | None:
    staff = await Staff.select_for_update().get(id=staff_id)
    if staff.disabled_at is not None:
        return None
    if token_hash(staff.password_hash) != password or not await second_factor.is_active(staff.id):
        raise ChallengeExpired()  # another password, or no second factor any more, since the first step
    if not await second_factor.use_code_tx(staff.id, code):
        return None
    return await _session_tx(staff, second_factor_at=clock.now())


async def _session_tx(staff: Staff, *, second_factor_at: datetime | None) -> StaffSignedIn:
    await lock_out.forgive_tx(staff)
    token, expires_at = await create_session_tx(
        kind=ActorKind.STAFF,
        organization_id=staff.organization_id,
        staff_id=staff.id,
        second_factor_at=second_factor_at,
    )
    actor = Actor(kind=ActorKind.STAFF, id=staff.id, organization_id=staff.organization_id)
    await _record_tx(actor, "staff.sign_in", staff)
    return StaffSignedIn(token, expires_at, StaffView(staff, (await grants_of([staff.id]))[staff.id]))


async def change_password(actor: Actor, old: str, new: str) -> None:
    """Change one's own password; every other session of the account ends. Refuses OldPasswordWrong (counted as a
    wrong sign-in is), PasswordTooEasy."""
    staff = await get_visible(Staff.filter(id=actor.id), actor.id or "")
    _refuse_easy(staff.username, new)
    counted = await lock_out.count_attempt(staff.id)
    fits = await password_fits(counted["password_hash"] if counted else None, old)
    if counted is None or not fits:
        raise OldPasswordWrong()
    await _save_password(actor, staff.id, await hash_password(new), "staff.change_password")


@unit_of_work
async def _save_password(actor: Actor, staff_id: UUID, password_hash: str, act: str) -> None:
    staff = await Staff.select_for_update().get(id=staff_id)
    if actor.id != staff.id:
        await require_over(actor, staff.id)
    staff.password_hash = password_hash
    await staff.save(update_fields=["password_hash"])
    await lock_out.forgive_tx(staff)
    await _revoke_tx(staff, but=actor.session_id if actor.id == staff.id else None)
    await _record_tx(actor, act, staff)


async def get_me(actor: Actor) -> StaffView:
    """The caller's own account and roles."""
    staff = await get_visible(Staff.filter(organization_id=actor.organization_id), actor.id or "")
    return StaffView(staff, (await grants_of([staff.id]))[staff.id])


async def list_staff(actor: Actor, cursor: str | None, limit: int) -> Page[StaffView]:
    """Newest first: colleagues in the actor's communities, or all for organization-wide staff."""
    require_somewhere(actor, Act.STAFF_READ)
    page = await newest_first(Staff.visible_to(actor), cursor, limit)
    held = await grants_of([staff.id for staff in page.items])
    return Page([StaffView(staff, held[staff.id]) for staff in page.items], page.next_cursor)


async def get_staff(actor: Actor, staff_id: UUID) -> StaffView:
    """One member of staff that the actor may see; NotFound otherwise."""
    require_somewhere(actor, Act.STAFF_READ)
    staff = await get_visible(Staff.visible_to(actor), staff_id)
    return StaffView(staff, (await grants_of([staff.id]))[staff.id])


async def create_staff(actor: Actor, new: NewStaff) -> StaffView:
    """Make an account with its first roles. A manager of communities must give at least one role, and only there.
    Refuses NotPermitted, NotFound (community), UsernameTaken, PasswordTooEasy."""
    require_somewhere(actor, Act.STAFF_MANAGE)
    grants = await read_grants(actor, new.roles)
    if not grants:
        require(actor, Act.STAFF_MANAGE)
    require_each(actor, grants)
    _refuse_easy(new.username, new.password)
    return await _create(actor, new, await hash_password(new.password), grants)


@unit_of_work
async def _create(actor: Actor, new: NewStaff, password_hash: str, grants: set[Grant]) -> StaffView:
    return await create_staff_tx(actor, actor.organization_id, new, password_hash, grants)


async def create_staff_tx(
    actor: Actor, organization_id: UUID | None, new: NewStaff, password_hash: str, grants: set[Grant]
) -> StaffView:
    """Make the account and its roles inside the caller's transaction; the caller has checked that it may."""
    with unique(staff_username_key=UsernameTaken):
        staff = await Staff.create(
            organization_id=organization_id,
            username=new.username.lower(),
            password_hash=password_hash,
            name=normalise(new.name),
        )
    await add_grants_tx(staff, grants)
    roles = (await grants_of([staff.id]))[staff.id]
    await audit.record_tx(
        actor, "staff.create", "staff", staff.id, organization_id=staff.organization_id,
        after={"username": staff.username, "roles": [grant.plain() for grant in roles]},
    )  # fmt: skip
    return StaffView(staff, roles)


@unit_of_work
async def disable_staff(actor: Actor, staff_id: UUID) -> StaffView:
    """Afterwards the account cannot sign in and its sessions are over; again changes nothing. Refuses NotFound,
    NotPermitted, NotYourself, LastManager."""
    await lock_organization_tx(actor.organization_id)
    staff, roles = await _reach_tx(actor, staff_id)
    if staff.id == actor.id:
        raise NotYourself()
    if staff.disabled_at is None:
        staff.disabled_at = clock.now()
        await staff.save(update_fields=["disabled_at"])
        await _revoke_tx(staff)
        if manages_all(roles):
            await keep_a_manager_tx(staff.organization_id)
        await _record_tx(actor, "staff.disable", staff)
    return StaffView(staff, roles)


@unit_of_work
async def enable_staff(actor: Actor, staff_id: UUID) -> StaffView:
    """Afterwards the account may sign in again. Refuses NotFound, NotPermitted."""
    staff, roles = await _reach_tx(actor, staff_id)
    if staff.disabled_at is not None:
        staff.disabled_at = None
        await staff.save(update_fields=["disabled_at"])
        await _record_tx(actor, "staff.enable", staff)
    return StaffView(staff, roles)


@unit_of_work
async def unlock_staff(actor: Actor, staff_id: UUID) -> StaffView:
    """Afterwards the account is not locked and has no wrong passwords counted. Refuses NotFound, NotPermitted."""
    staff, roles = await _reach_tx(actor, staff_id)
    await lock_out.forgive_tx(staff)
    await _record_tx(actor, "staff.unlock", staff)
    return StaffView(staff, roles)


async def reset_password(actor: Actor, staff_id: UUID, password: str) -> None:
    """Give somebody else's account a new password; their sessions end. Refuses NotFound, NotPermitted, NotYourself
    (one's own needs the old one), PasswordTooEasy."""
    require_somewhere(actor, Act.STAFF_MANAGE)
    staff = await get_visible(Staff.visible_to(actor), staff_id)
    await require_over(actor, staff.id)
    if staff.id == actor.id:
        raise NotYourself()
    _refuse_easy(staff.username, password)
    await _save_password(actor, staff.id, await hash_password(password), "staff.reset_password")


async def _reach_tx(actor: Actor, staff_id: UUID) -> tuple[Staff, list[Grant]]:
    require_somewhere(actor, Act.STAFF_MANAGE)
    staff = await get_visible(Staff.visible_to(actor).select_for_update(), staff_id)
    return staff, await require_over(actor, staff.id)


async def _revoke_tx(staff: Staff, but: UUID | None = None) -> None:
    live = Session.filter(staff_id=staff.id, revoked_at__isnull=True)
    await (live.exclude(id=but) if but else live).update(revoked_at=clock.now())


async def _record_tx(actor: Actor, act: str, staff: Staff) -> None:
    await audit.record_tx(actor, act, "staff", staff.id, organization_id=staff.organization_id)


def _refuse_easy(username: str, password: str) -> None:
    digits_in_a_row = "01234567890123456789"
    if (
        username.lower() in password.lower()
        or len(set(password)) < 4
        or password in digits_in_a_row
        or password in digits_in_a_row[::-1]
    ):
        raise PasswordTooEasy(fields=[{"field": "password", "code": "too_easy"}])
