"""Idempotency-Key: the same request gives the same resource again, whatever was lost on the way.

A row is committed before the work begins, and learns the resource in the transaction that makes it (``makes`` of the
route). Until then it is leased: a repeat that comes while the first is still at it hears 409; one that comes after a
crash takes the lease over and runs the work again. Opening a payment is more than one transaction, so its key learns
the payment at the end, and a repeat after a crash finds the committed attempt and goes on with it.
"""

import hashlib
from datetime import timedelta
from uuid import UUID

from kit import clock
from kit.errors import Refusal
from kit.ids import new_id
from models.access import Actor
from models.idempotency import KEPT_HOURS
from models.unit_of_work import row, rows, unit_of_work

LEASE_S = 30

_CLAIM = """
INSERT INTO idempotency_keys (id, created_at, actor, method, route, key, body_sha256, leased_until)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (actor, method, route, key) DO NOTHING RETURNING id
"""
_LOOK = """
SELECT id, created_at, body_sha256, resource_id, leased_until FROM idempotency_keys
WHERE actor = $1 AND method = $2 AND route = $3 AND key = $4 FOR UPDATE
"""


class IdempotencyKeyMissing(Refusal):
    status = 400
    zh = "请求缺少幂等标识（Idempotency-Key）。"
    en = "This request needs an Idempotency-Key header of 1 to 128 characters."


class IdempotencyKeyReused(Refusal):
    """The key was used with another body."""

    status = 422
    zh = "同一个幂等标识不能用于不同的请求。"
    en = "This Idempotency-Key was used with a different request."


class RequestInProgress(Refusal):
    """The first request with this key is still at work."""

    status = 409
    zh = "上一次提交正在处理，请稍候。"
    en = "The first request with this Idempotency-Key is still being worked on."


@unit_of_work
async def claim(actor: Actor, method: str, route: str, key: str | None, body: bytes) -> tuple[UUID, UUID | None]:
    """Begin a request: the key row's id, and the resource when an earlier request with the key and body made it.

    Refuses with IdempotencyKeyMissing, IdempotencyKeyReused (another body) or RequestInProgress.
    """
    if not key or len(key) > 128 or not key.isprintable():
        raise IdempotencyKeyMissing()
    now = clock.now()
    scope = (actor.label(), method, route, key)
    digest = hashlib.sha256(body).hexdigest()
    lease = now + timedelta(seconds=LEASE_S)
    made = await row(_CLAIM, new_id(), now, *scope, digest, lease)
    if made:
        return made["id"], None
    kept = await row(_LOOK, *scope)
    if kept is None:  # it was released between our insert and our look
        raise RequestInProgress(retry_after_s=1)
    if kept["created_at"] < now - timedelta(hours=KEPT_HOURS):
        await rows(
            "UPDATE idempotency_keys SET created_at = $2, body_sha256 = $3, resource_id = NULL, leased_until = $4"
            " WHERE id = $1",
            kept["id"], now, digest, lease,
        )  # fmt: skip
        return kept["id"], None
    if kept["body_sha256"] != digest:
        raise IdempotencyKeyReused()
    if kept["resource_id"] is not None:
        return kept["id"], kept["resource_id"]
    if kept["leased_until"] > now:
        raise RequestInProgress(retry_after_s=max(1, int((kept["leased_until"] - now).total_seconds())))
    await rows("UPDATE idempotency_keys SET leased_until = $2 WHERE id = $1", kept["id"], lease)
    return kept["id"], None


@unit_of_work
async def remember(key_row: UUID, resource_id: UUID) -> None:
    """The work is done: a repeat gets this resource."""
    await rows("UPDATE idempotency_keys SET resource_id = $2 WHERE id = $1", key_row, resource_id)


@unit_of_work
async def release(key_row: UUID) -> None:
    """The work was refused or failed: nothing is remembered, a repeat starts anew."""
    await rows("DELETE FROM idempotency_keys WHERE id = $1 AND resource_id IS NULL", key_row)


@unit_of_work
async def prune() -> int:
    """Forget keys older than a day; how many there were in this batch of at most 10,000."""
    gone = await rows(
        "DELETE FROM idempotency_keys WHERE id IN"
        " (SELECT id FROM idempotency_keys WHERE created_at < $1 LIMIT 10000) RETURNING id",
        clock.now() - timedelta(hours=KEPT_HOURS),
    )
    return len(gone)
