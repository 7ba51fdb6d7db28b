"""Audit: who did what to which row, before and after, in the same transaction; append-only, partitioned by month."""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from tortoise import fields
from tortoise.models import Model
from tortoise.queryset import QuerySet

from kit import clock
from models import idempotency
from models.access import TABLE, Act, Actor
from models.base import json_field
from models.unit_of_work import inside_unit_of_work

request_id: ContextVar[str] = ContextVar("request_id", default="")


class Audit(Model):
    """One act."""

    id = fields.BigIntField(primary_key=True)
    organization_id = fields.UUIDField(null=True)
    community_id = fields.UUIDField(null=True)
    actor = fields.CharField(max_length=100)  # staff:<id>, resident:<id>, system:<what asked>
    act = fields.CharField(max_length=64)
    target_kind = fields.CharField(max_length=64)
    target_id = fields.UUIDField()
    before = json_field(null=True)
    after = json_field(null=True)
    request_id = fields.CharField(max_length=64, default="")
    happened_at = fields.DatetimeField(default=clock.now)

    class Meta:
        table = "audits"

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["Audit"]:
        """Managers and auditors: of their communities; those of all the organization also what belongs to none."""
        from tortoise.expressions import Q

        mine = Q(community_id__in=actor.community_ids(Act.AUDIT_READ))
        if actor.organization_roles & TABLE[Act.AUDIT_READ]:
            mine |= Q(community_id__isnull=True)
        return cls.filter(mine, organization_id=actor.organization_id)


async def record_tx(
    actor: Actor,
    act: str,
    target_kind: str,
    target_id: UUID,
    *,
    organization_id: UUID | None,
    community_id: UUID | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Write the audit row of an act, inside its transaction. Never pass a phone, an ID number or a secret."""
    if not inside_unit_of_work():
        raise RuntimeError("audit is written inside the transaction of the act")
    await Audit.create(
        organization_id=organization_id,
        community_id=community_id,
        actor=actor.label(),
        act=act,
        target_kind=target_kind,
        target_id=target_id,
        before=dict(before) if before is not None else None,
        after=dict(after) if after is not None else None,
        request_id=request_id.get(),
    )
    await idempotency.note_tx(target_kind, target_id)
