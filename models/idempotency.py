"""Idempotency-Key: the same request gives the same resource again, for 24 hours."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID

from tortoise import fields

from models.base import Row
from models.unit_of_work import rows

KEPT_HOURS = 24


class IdempotencyKey(Row):
    """Unique: (actor, method, route, key). ``resource_id`` is null until the work is done; ``leased_until`` says how
    long a first request may still be at it — after that a repeat takes over and resumes what was committed."""

    actor = fields.CharField(max_length=100)
    method = fields.CharField(max_length=8)
    route = fields.CharField(max_length=200)
    key = fields.CharField(max_length=128)
    body_sha256 = fields.CharField(max_length=64)
    resource_id = fields.UUIDField(null=True)
    leased_until = fields.DatetimeField()

    class Meta:
        table = "idempotency_keys"
        unique_together = (("actor", "method", "route", "key"),)
        indexes = (("created_at",),)


_NOTE = "UPDATE idempotency_keys SET resource_id = $2 WHERE id = $1 AND resource_id IS NULL"


@dataclass
class Claim:
    """The key that a request works for, and the noun that it is to make; ``noted`` once the key knows the resource."""

    key_row: UUID
    noun: str
    noted: bool = False


_claim: ContextVar[Claim | None] = ContextVar("idempotency_claim", default=None)


@contextmanager
def working_for(claim: Claim) -> Iterator[None]:
    """Inside, what is made of the claim's noun is what its key stands for."""
    token = _claim.set(claim)
    try:
        yield
    finally:
        _claim.reset(token)


async def note_tx(noun: str, resource_id: UUID) -> None:
    """The running request made this: its key learns so in the transaction that makes it. The first one counts; nothing
    happens for another noun, and outside of a request that has a key."""
    claim = _claim.get()
    if claim is None or claim.noun != noun:
        return
    # No look at `noted` here: a transaction that was rolled back for a deadlock runs again, and notes again.
    await rows(_NOTE, claim.key_row, resource_id)
    claim.noted = True
