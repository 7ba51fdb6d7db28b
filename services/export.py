"""个人信息副本: a resident asks for a copy of everything held about them (PIPL art. 45); a job makes it."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from kit import clock
from kit.errors import Refusal
from kit.paging import Page
from models import audit
from models.access import Actor
from models.base import get_visible
from models.export import CONTENT_CONTEXT, EXPORT_MACHINE, Export, ExportState
from models.job import enqueue_tx
from models.secret import decrypt, encrypt
from models.unit_of_work import unit_of_work
from services.export_content import PARTS, collect
from services.listing import newest_first
from services.resident_account import lock_account_tx
from services.unique import unique

KEPT_DAYS = 7
_LEASE_S = 120
_MAX_ATTEMPTS = 5

log = structlog.get_logger()


class ExportUnderWay(Refusal):
    """One at a time."""

    zh = "您的个人信息副本正在生成，请稍候。"
    en = "A copy of your data is being made already."


class ExportNotReady(Refusal):
    zh = "个人信息副本还在生成，请稍候再下载。"
    en = "The copy is still being made; fetch it in a moment."


class ExportGone(Refusal):
    """Too old, replaced by a newer one, or it could not be made."""

    status = 410
    zh = "这份副本已经失效，请重新申请。"
    en = "This copy is no longer there; ask for a new one."


@unit_of_work
async def request_export(actor: Actor) -> Export:
    """Have a copy made. Refuses ExportUnderWay while one is being made."""
    resident = await lock_account_tx(actor.id)
    with unique(exports_one_queued=ExportUnderWay):
        export = await Export.create(
            organization_id=resident.organization_id,
            resident_id=resident.id,
            parts=len(PARTS),
            next_check_at=clock.now() + timedelta(seconds=_LEASE_S),  # the job comes first, the sweep where it did not
        )
    await _record_tx(actor, "export.request", export)
    await enqueue_tx("make_export", {"export_id": str(export.id)})
    return export


async def get_export(actor: Actor, export_id: UUID) -> Export:
    """One of the resident's own copies; NotFound otherwise."""
    return await get_visible(Export.visible_to(actor), export_id)


async def list_exports(actor: Actor, cursor: str | None, limit: int) -> Page[Export]:
    """The resident's own copies, newest first."""
    return await newest_first(Export.visible_to(actor), cursor, limit)


@unit_of_work
async def fetch_export(actor: Actor, export_id: UUID) -> bytes:
    """The bytes of a copy that is ready; that it was fetched is on record. Refuses NotFound, ExportNotReady,
    ExportGone."""
    export = await get_visible(Export.visible_to(actor), export_id)
    if export.state is ExportState.QUEUED:
        raise ExportNotReady()
    if export.content_cipher is None or export.expires_at is None or export.expires_at <= clock.now():
        raise ExportGone()
    await _record_tx(actor, "export.fetch", export)
    return decrypt(export.content_cipher, CONTENT_CONTEXT).encode()


async def make_export(export_id: UUID) -> ExportState | None:
    """Make a queued copy; its state afterwards, None when there was nothing to do. A run that ended in the middle is
    taken up again by the sweep; after five it has failed."""
    export = await _take(export_id)
    if export is None:
        return None
    content = await collect(export.resident_id, export.organization_id, lambda done: _note(export_id, done))
    return await _keep(export_id, content)


@unit_of_work
async def _take(export_id: UUID) -> Export | None:
    """Lease a queued copy, unless somebody is at it."""
    export = await Export.select_for_update().get_or_none(id=export_id)
    if export is None or export.state is not ExportState.QUEUED or export.next_check_at is None:
        return None
    if export.attempts and export.next_check_at > clock.now():
        return None
    if export.attempts >= _MAX_ATTEMPTS:
        EXPORT_MACHINE.enter(export, ExportState.FAILED, next_check_at=None)
        await export.save(update_fields=["state", "next_check_at"])
        log.error("export_failed", export_id=str(export_id))
        return None
    export.attempts += 1
    export.next_check_at = clock.now() + timedelta(seconds=_LEASE_S)
    await export.save(update_fields=["attempts", "next_check_at"])
    return export


@unit_of_work
async def _note(export_id: UUID, done: int) -> None:
    await Export.filter(id=export_id, state=ExportState.QUEUED).update(parts_done=done)


@unit_of_work
async def _keep(export_id: UUID, content: str) -> ExportState:
    export = await Export.select_for_update().get(id=export_id)
    if export.state is not ExportState.QUEUED:  # made twice, or the account was closed meanwhile
        return export.state
    # One copy is enough to lie about: the one before goes.
    older = Export.filter(resident_id=export.resident_id, state=ExportState.READY)
    await _expire_tx(await older.order_by("id").select_for_update())
    now = clock.now()
    expires_at = now + timedelta(days=KEPT_DAYS)
    assigned = EXPORT_MACHINE.enter(
        export, ExportState.READY, parts_done=export.parts, content_cipher=encrypt(content, CONTENT_CONTEXT),
        size_bytes=len(content.encode()), ready_at=now, expires_at=expires_at, next_check_at=expires_at,
    )  # fmt: skip
    await export.save(update_fields=list(assigned))
    return export.state


async def _expire_tx(exports: Sequence[Export]) -> None:
    for export in exports:
        assigned = EXPORT_MACHINE.enter(export, ExportState.EXPIRED, content_cipher=None, next_check_at=None)
        await export.save(update_fields=list(assigned))


async def sweep_exports(limit: int = 20) -> int:
    """Let copies go whose days are over, and make those that a process left in the middle; how many were taken up."""
    gone = await _expire(limit)
    due = await Export.filter(state=ExportState.QUEUED, next_check_at__lte=clock.now()).order_by("id").limit(limit)
    for export in due:
        try:
            await make_export(export.id)
        except Exception:  # one copy's trouble must not keep the others waiting; its lease runs out
            log.exception("export_not_made", export_id=str(export.id))
    return gone + len(due)


@unit_of_work
async def _expire(limit: int) -> int:
    due = Export.filter(state=ExportState.READY, next_check_at__lte=clock.now()).order_by("next_check_at", "id")
    found = await due.limit(limit).select_for_update(skip_locked=True)
    await _expire_tx(found)
    return len(found)


async def _record_tx(actor: Actor, act: str, export: Export) -> None:
    await audit.record_tx(actor, act, "export", export.id, organization_id=export.organization_id)
