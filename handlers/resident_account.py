"""Closing one's own account."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from handlers.auth import TAG
from handlers.route import Body, Call, Out, Who, route
from services import resident_account as service


class CloseIn(Body):
    """``confirmation`` is typed by the resident, so that no slip of the finger closes an account."""

    reason: str = Field(min_length=1, max_length=200)
    confirmation: Literal["注销账号"]


class ClosedOut(Out):
    """``name``: the pseudonym under which payments and receipts stay, as the law requires."""

    closed_at: datetime
    name: str


@route("POST", "/api/v1/me/close", who=Who.RESIDENT, tag=TAG, summary="注销账号", body=CloseIn, response=ClosedOut,
       refusals=(service.PaymentUnderWay, service.MoneyUnderWay))  # fmt: skip
async def close_account(call: Call) -> ClosedOut:
    """For good: every session ends, and the same WeChat user begins anew with the next sign-in."""
    resident = await service.close_account(call.actor, call.body.reason)
    assert resident.closed_at is not None
    return ClosedOut(closed_at=resident.closed_at, name=resident.name)
