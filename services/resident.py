"""住户: sign-in by WeChat, and the phone that binds a resident to their rooms."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tortoise.exceptions import IntegrityError

from kit import clock
from kit.errors import Refusal
from models import audit
from models.access import Actor, ActorKind
from models.base import get_visible
from models.resident import Resident, WechatIdentity
from models.unit_of_work import unit_of_work
from models.wechat_app import WechatApp
from services import miniprogram
from services.consent import require_consent
from services.miniprogram import WechatSession
from services.occupancy import BoundRoom, claim_by_phone_tx
from services.phone import HiddenPhone, hide_phone
from services.resident_account import lock_account_tx
from services.session import create_session_tx


class UnknownApp(Refusal):
    """No mini-program of this appid is registered."""

    status = 422
    zh = "这个小程序没有登记，请联系物业公司。"
    en = "This mini-program is not registered here."


@dataclass(frozen=True)
class ResidentSignedIn:
    """A new session; its token is told this once."""

    token: str
    expires_at: datetime
    resident: Resident


async def sign_in(code: str, appid: str | None) -> ResidentSignedIn:
    """Begin a session for whoever WeChat says the code is; a new openid becomes a new resident of the app's
    organization. Refuses UnknownApp, LoginCodeInvalid, WechatLoginUnavailable."""
    app = await _app(appid)
    told = await miniprogram.code_to_session(app, code)
    try:
        return await _begin_session(app, told)
    except IntegrityError:
        # Two first sign-ins at once: the other one made the identity, and ours took its own resident back.
        return await _begin_session(app, told)


async def _app(appid: str | None) -> WechatApp:
    """The app of that appid; unsaid, the one registered first. A wrong guess lets nobody in: a code is good for its own
    app alone, and WeChat refuses it for another."""
    query = WechatApp.filter(appid=appid) if appid is not None else WechatApp.all().order_by("created_at", "id")
    app = await query.first()
    if app is None:
        raise UnknownApp()
    return app


@unit_of_work
async def _begin_session(app: WechatApp, told: WechatSession) -> ResidentSignedIn:
    # Locked, so that an account that is just being closed is either not found here or ends this session too.
    identity = await WechatIdentity.select_for_update().get_or_none(app_id=app.id, openid=told.openid)
    if identity is None:
        resident = await Resident.create(organization_id=app.organization_id)
        await WechatIdentity.create(
            organization_id=app.organization_id,
            app_id=app.id,
            openid=told.openid,
            unionid=told.unionid,
            resident_id=resident.id,
        )
    else:
        resident = await Resident.get(id=identity.resident_id)
    token, expires_at = await create_session_tx(
        kind=ActorKind.RESIDENT, organization_id=app.organization_id, resident_id=resident.id, app_id=app.id
    )
    act = "resident.create" if identity is None else "resident.sign_in"
    await _record_tx(_as_actor(resident, app.id), act, resident)
    return ResidentSignedIn(token, expires_at, resident)


async def share_phone(actor: Actor, code: str) -> tuple[Resident, Sequence[BoundRoom]]:
    """Keep the phone that WeChat's code holds, and bind the resident to every current line of the register that has it
    and that nobody has claimed; what they claimed before stays theirs. The other members of each room are told.
    Refuses ConsentNeeded, LoginCodeInvalid, WechatLoginUnavailable."""
    await require_consent(actor)  # before WeChat is asked: its code can be used once
    app = await get_visible(WechatApp.filter(organization_id=actor.organization_id), actor.app_id or "")
    phone = hide_phone(await miniprogram.phone_of_code(app, code))
    return await _keep_phone(actor, phone)


@unit_of_work
async def _keep_phone(actor: Actor, phone: HiddenPhone) -> tuple[Resident, Sequence[BoundRoom]]:
    resident = await lock_account_tx(actor.id)
    await require_consent(actor)  # again, for it may have been withdrawn meanwhile
    resident.update_from_dict(phone.columns() | {"phone_verified_at": clock.now()})
    await resident.save(update_fields=[*phone.columns(), "phone_verified_at"])
    await _record_tx(actor, "resident.share_phone", resident)
    return resident, await claim_by_phone_tx(actor, resident, phone.searched)


async def get_me(actor: Actor) -> Resident:
    """The resident who calls."""
    return await get_visible(Resident.filter(organization_id=actor.organization_id), actor.id or "")


def _as_actor(resident: Resident, app_id: UUID) -> Actor:
    return Actor(kind=ActorKind.RESIDENT, id=resident.id, organization_id=resident.organization_id, app_id=app_id)


async def _record_tx(actor: Actor, act: str, resident: Resident) -> None:
    await audit.record_tx(actor, act, "resident", resident.id, organization_id=resident.organization_id)
