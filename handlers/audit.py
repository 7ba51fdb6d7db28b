"""Audit, read."""

from datetime import datetime
from typing import Any

from handlers.route import Call, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotFound, NotPermitted
from services import audit as service


class AuditOut(Out):
    """One act. ``actor`` is ``staff:<id>``, ``resident:<id>`` or ``system:<what asked>``."""

    happened_at: datetime
    actor: str
    staff_name: str | None
    act: str
    target_kind: str
    target_id: Id
    community_id: Id | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str


class AuditQuery(PageQuery):
    community_id: str | None = None
    target_id: str | None = None


def _out(view: service.AuditView) -> AuditOut:
    audit = view.audit
    return AuditOut(
        happened_at=audit.happened_at,
        actor=audit.actor,
        staff_name=view.staff_name,
        act=audit.act,
        target_kind=audit.target_kind,
        target_id=str(audit.target_id),
        community_id=str(audit.community_id) if audit.community_id else None,
        before=audit.before,
        after=audit.after,
        request_id=audit.request_id,
    )


@route("GET", "/api/v1/staff/audits", who=Who.STAFF, tag="审计 audits", summary="操作记录", query=AuditQuery,
       response=PageOut[AuditOut], refusals=(NotPermitted, NotFound))  # fmt: skip
async def list_audits(call: Call) -> PageOut[AuditOut]:
    """Who did what to which row, before and after; newest first."""
    query = call.query
    page = await service.list_audits(call.actor, query.community_id, query.target_id, query.cursor, query.limit)
    return PageOut[AuditOut](items=[_out(view) for view in page.items], next_cursor=page.next_cursor)
