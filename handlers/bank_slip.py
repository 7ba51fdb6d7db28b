"""Slips of the bank over cash: paid in from the safe, or drawn into it."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

import payments
from handlers.route import Body, Call, Fen, Id, Out, PageOut, PageQuery, PositiveFen, Who, route
from kit.errors import NotFound, NotPermitted
from models.bank_slip import BankSlip, BankSlipKind
from services import bank_slip as service

TAG = "柜台 counter"


class NewBankSlipIn(Body):
    """As the bank gave it; ``banked_at`` with its zone."""

    community_id: str
    legal_entity_id: str
    kind: BankSlipKind
    number: Annotated[str, Field(min_length=1, max_length=64)]
    bank: Annotated[str, Field(min_length=1, max_length=100)]
    amount_fen: PositiveFen
    banked_at: AwareDatetime


class BankSlipOut(Out):
    id: Id
    community_id: Id
    legal_entity_id: Id
    kind: BankSlipKind
    number: str
    bank: str
    amount_fen: Fen
    banked_at: datetime
    recorded_at: datetime
    recorded_by_staff_id: Id


class BankSlipQuery(PageQuery):
    community_id: str | None = None


def _out(slip: BankSlip) -> BankSlipOut:
    return BankSlipOut(
        id=str(slip.id),
        community_id=str(slip.community_id),
        legal_entity_id=str(slip.legal_entity_id),
        kind=slip.kind,
        number=slip.number,
        bank=slip.bank,
        amount_fen=slip.amount_fen,
        banked_at=slip.banked_at,
        recorded_at=slip.created_at,
        recorded_by_staff_id=str(slip.recorded_by_staff_id),
    )


async def _replay(call: Call, slip_id: UUID) -> BankSlipOut:
    return _out(await service.get_bank_slip(call.actor, slip_id))


@route("POST", "/api/v1/staff/bank-slips", who=Who.STAFF, tag=TAG, summary="登记缴款单或备用金领取单",
       body=NewBankSlipIn, status=201, response=BankSlipOut, replay=_replay, makes="bank_slip",
       refusals=(NotFound, NotPermitted, service.BankSlipKnown, service.BankedInFuture,
                 payments.CashNotThere))  # fmt: skip
async def record_bank_slip(call: Call) -> BankSlipOut:
    """A deposit takes from the safe no more than is there; only finance draws cash."""
    given = dict(call.body)
    community_id = given.pop("community_id")
    return _out(await service.record_bank_slip(call.actor, community_id, service.NewBankSlip(**given)))


@route("GET", "/api/v1/staff/bank-slips", who=Who.STAFF, tag=TAG, summary="缴款单列表", query=BankSlipQuery,
       response=PageOut[BankSlipOut], refusals=(NotPermitted,))  # fmt: skip
async def list_bank_slips(call: Call) -> PageOut[BankSlipOut]:
    """Newest first."""
    page = await service.list_bank_slips(call.actor, call.query.community_id, call.query.cursor, call.query.limit)
    return PageOut[BankSlipOut](items=[_out(one) for one in page.items], next_cursor=page.next_cursor)
