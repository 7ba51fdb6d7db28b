"""A resident's copy of their own data: ask, look how far it is, fetch."""

from datetime import datetime
from uuid import UUID

from handlers.route import Call, Id, Out, PageOut, PageQuery, Reply, Who, route
from kit.errors import NotFound
from models.export import Export, ExportState
from services import export as service
from services import rate_limit

TAG = "个人信息副本 exports"


class ExportOut(Out):
    """``parts_done`` of ``parts`` are made; ``ready``: fetch the file before ``expires_at``."""

    id: Id
    status: ExportState
    parts: int
    parts_done: int
    size_bytes: int | None
    created_at: datetime
    ready_at: datetime | None
    expires_at: datetime | None


def _out(export: Export) -> ExportOut:
    return ExportOut(
        id=str(export.id),
        status=export.state,
        parts=export.parts,
        parts_done=export.parts_done,
        size_bytes=export.size_bytes,
        created_at=export.created_at,
        ready_at=export.ready_at,
        expires_at=export.expires_at,
    )


async def _replay(call: Call, export_id: UUID) -> ExportOut:
    return _out(await service.get_export(call.actor, export_id))


@route("POST", "/api/v1/exports", who=Who.RESIDENT, tag=TAG, summary="申请个人信息副本", status=201,
       response=ExportOut, replay=_replay, makes="export", limits=(rate_limit.EXPORT,),
       refusals=(service.ExportUnderWay,))  # fmt: skip
async def request_export(call: Call) -> ExportOut:
    """One at a time; the one before goes when the new one is ready."""
    return _out(await service.request_export(call.actor))


@route("GET", "/api/v1/exports", who=Who.RESIDENT, tag=TAG, summary="我的个人信息副本", query=PageQuery,
       response=PageOut[ExportOut])  # fmt: skip
async def list_exports(call: Call) -> PageOut[ExportOut]:
    """Newest first."""
    page = await service.list_exports(call.actor, call.query.cursor, call.query.limit)
    return PageOut[ExportOut](items=[_out(one) for one in page.items], next_cursor=page.next_cursor)


@route("GET", "/api/v1/exports/{export_id}", who=Who.RESIDENT, tag=TAG, summary="副本的进度", response=ExportOut,
       refusals=(NotFound,))  # fmt: skip
async def get_export(call: Call) -> ExportOut:
    return _out(await service.get_export(call.actor, call.id("export_id")))


@route("GET", "/api/v1/exports/{export_id}/file", who=Who.RESIDENT, tag=TAG, summary="下载副本",
       refusals=(NotFound, service.ExportNotReady, service.ExportGone))  # fmt: skip
async def fetch_export(call: Call) -> Reply:
    """JSON, as docs/privacy.md describes it."""
    export_id = call.id("export_id")
    return Reply(
        await service.fetch_export(call.actor, export_id),
        content_type="application/json",
        headers={
            "Content-Disposition": f'attachment; filename="linli-{export_id.hex[-6:]}.json"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        },
    )
