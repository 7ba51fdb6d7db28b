"""Sessions: who is calling."""

import json
from datetime import datetime, timedelta
from uuid import UUID

from tortoise.queryset import QuerySet

from kit import clock
from kit.crypto import token_hash
from kit.errors import NotFound, NotSignedIn, Refusal
from kit.ids import new_token
from kit.paging import Page
from models.access import Actor, ActorKind, ActorOccupancy, Role
from models.session import Session
from models.unit_of_work import row, rows, unit_of_work
from services.listing import newest_first

RESIDENT_DAYS = 30
STAFF_HOURS = 12
KEPT_DAYS = 30  # after its end, so that whoever asks what happened finds it

_FIND = """
SELECT s.id, s.kind, s.organization_id, s.resident_id, s.staff_id, s.app_id, s.second_factor_at,
       f.confirmed_at, o.second_factor_roles
FROM sessions s LEFT JOIN staff t ON t.id = s.staff_id LEFT JOIN residents r ON r.id = s.resident_id
LEFT JOIN second_factors f ON f.staff_id = t.id LEFT JOIN organizations o ON o.id = t.organization_id
WHERE s.token_hash = $1 AND s.revoked_at IS NULL AND s.expires_at > $2 AND t.disabled_at IS NULL AND r.closed_at IS NULL
"""
# Ended occupancies still tell which customers the resident is: what somebody owes stays visible after moving out. One
# that ended before it began never counted. A claim that was wrong is released (services/occupancy.py).
_OCCUPANCIES = """
SELECT id, community_id, room_id, customer_id, kind, starts_on,
       starts_on <= $2 AND (ends_on IS NULL OR ends_on >= $2) AS current
FROM occupancies WHERE resident_id = $1 AND (ends_on IS NULL OR ends_on >= starts_on) ORDER BY starts_on, id
"""
_ROLES = """
SELECT c.id AS community_id, r.role, r.community_id IS NULL AS everywhere
FROM staff_roles r
LEFT JOIN communities c ON c.organization_id = r.organization_id AND (r.community_id IS NULL OR c.id = r.community_id)
WHERE r.staff_id = $1
"""


class SecondFactorRequired(Refusal):
    """The company asks for a second factor of one of the caller's roles, and it is not set up yet."""

    status = 403
    zh = "公司要求您的岗位开启两步验证，请先设置，再继续操作。"
    en = "Your role needs two-step verification; set it up first."


async def create_session_tx(
    *,
    kind: ActorKind,
    organization_id: UUID,
    resident_id: UUID | None = None,
    staff_id: UUID | None = None,
    app_id: UUID | None = None,
    second_factor_at: datetime | None = None,
) -> tuple[str, datetime]:
    """A new session; its token (told this once) and when it ends."""
    token = new_token()
    lasts = timedelta(days=RESIDENT_DAYS) if kind is ActorKind.RESIDENT else timedelta(hours=STAFF_HOURS)
    expires_at = clock.now() + lasts
    await Session.create(
        organization_id=organization_id,
        kind=kind,
        resident_id=resident_id,
        staff_id=staff_id,
        app_id=app_id,
        token_hash=token_hash(token),
        expires_at=expires_at,
        second_factor_at=second_factor_at,
    )
    return token, expires_at


async def authenticate(token: str) -> Actor:
    """The actor of a live session with everything that decides what they may see; NotSignedIn otherwise."""
    found = await row(_FIND, token_hash(token), clock.now()) if 20 <= len(token) <= 200 else None
    if found is None:
        raise NotSignedIn()
    return await (_resident(found) if found["kind"] == ActorKind.RESIDENT else _staff(found))


async def resident_actor(resident_id: UUID, organization_id: UUID) -> Actor:
    """The resident as they are today, for a job that works in their name and without a session."""
    return await _resident({"id": None, "app_id": None, "resident_id": resident_id, "organization_id": organization_id})


async def staff_actor(staff_id: UUID, organization_id: UUID) -> Actor:
    """The member of staff as they are today, for a job that works in their name and without a session."""
    nobody = {"id": None, "second_factor_at": None, "second_factor_roles": "[]", "confirmed_at": None}
    return await _staff({**nobody, "staff_id": staff_id, "organization_id": organization_id})


async def _resident(found: dict[str, object]) -> Actor:
    held = await rows(_OCCUPANCIES, found["resident_id"], clock.today())
    return Actor(
        kind=ActorKind.RESIDENT,
        id=found["resident_id"],  # type: ignore[arg-type]
        organization_id=found["organization_id"],  # type: ignore[arg-type]
        app_id=found["app_id"],  # type: ignore[arg-type]
        session_id=found["id"],  # type: ignore[arg-type]
        occupancies=tuple(
            ActorOccupancy(one["id"], one["community_id"], one["room_id"], Role(one["kind"]), one["starts_on"])
            for one in held
            if one["current"]
        ),
        customer_ids=frozenset(one["customer_id"] for one in held),
    )


async def _staff(found: dict[str, object]) -> Actor:
    held = await rows(_ROLES, found["staff_id"])
    roles: dict[UUID, frozenset[Role]] = {}
    for one in held:
        if one["community_id"] is not None:
            roles[one["community_id"]] = roles.get(one["community_id"], frozenset()) | {Role(one["role"])}
    needing = json.loads(str(found["second_factor_roles"])) if found["confirmed_at"] is None else ()
    return Actor(
        kind=ActorKind.STAFF,
        id=found["staff_id"],  # type: ignore[arg-type]
        organization_id=found["organization_id"],  # type: ignore[arg-type]
        session_id=found["id"],  # type: ignore[arg-type]
        roles=roles,
        organization_roles=frozenset(Role(one["role"]) for one in held if one["everywhere"]),
        second_factor_at=found["second_factor_at"],  # type: ignore[arg-type]
        enrolment_needed=any(one["role"] in needing for one in held),
    )


@unit_of_work
async def sign_out(actor: Actor) -> None:
    """Revoke the session that the request came with."""
    await Session.filter(id=actor.session_id, revoked_at__isnull=True).update(revoked_at=clock.now())


async def list_sessions(actor: Actor, cursor: str | None, limit: int) -> Page[Session]:
    """The caller's own live sessions, newest first."""
    live = _own(actor).filter(revoked_at__isnull=True, expires_at__gt=clock.now())
    return await newest_first(live, cursor, limit)


@unit_of_work
async def revoke_session(actor: Actor, session_id: UUID) -> None:
    """Revoke one of the caller's own sessions (a lost phone); NotFound for anybody else's."""
    changed = await _own(actor).filter(id=session_id, revoked_at__isnull=True).update(revoked_at=clock.now())
    if not changed:
        raise NotFound()


@unit_of_work
async def prune_sessions() -> int:
    """Forget sessions that ended a month ago or earlier, at most 10,000 at once; how many."""
    gone = await rows(
        "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at < $1 LIMIT 10000) RETURNING id",
        clock.now() - timedelta(days=KEPT_DAYS),
    )
    return len(gone)


def _own(actor: Actor) -> QuerySet[Session]:
    return Session.filter(staff_id=actor.id) if actor.is_staff else Session.filter(resident_id=actor.id)
