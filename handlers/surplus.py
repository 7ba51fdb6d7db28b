"""Surplus: return it or keep it, once."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

import payments
from handlers.payment import PaymentOut, differ, payment_out
from handlers.refund import RefundOut, refund_out, replay_refund
from handlers.route import Body, Call, Who, route
from kit.errors import NotFound, NotPermitted
from services import payment as payment_service
from services import surplus as service


class ReturnIn(Body):
    """Why; the payer may read it in WeChat."""

    reason: Annotated[str, Field(min_length=2, max_length=80)]


class KeepIn(Body):
    """The bills to pay with it, of the same debtor and legal entity; what is left, or all of it without bills, becomes
    the debtor's prepaid balance."""

    bill_ids: Annotated[list[str], Field(max_length=100), AfterValidator(differ)]


async def _replay_payment(call: Call, payment_id: UUID) -> PaymentOut:
    return payment_out(await payment_service.get_payment(call.actor, payment_id), call.language)


@route("POST", "/api/v1/staff/discrepancies/{discrepancy_id}/return", who=Who.STAFF, tag="财务 finance",
       summary="退回溢收款", body=ReturnIn, status=201, response=RefundOut, replay=replay_refund, makes="refund",
       refusals=(NotPermitted, payments.NoSurplus, payments.SurplusDecided))  # fmt: skip
async def return_surplus(call: Call) -> RefundOut:
    """By the way it came. The answer says that it is under way; ``refunded`` follows WeChat's word."""
    view = await service.return_surplus(call.actor, call.id("discrepancy_id"), call.body.reason)
    return refund_out(view, call.language)


@route("POST", "/api/v1/staff/discrepancies/{discrepancy_id}/keep", who=Who.STAFF, tag="财务 finance",
       summary="留存溢收款", body=KeepIn, status=201, response=PaymentOut, replay=_replay_payment, makes="payment",
       refusals=(NotFound, NotPermitted, payments.NoSurplus, payments.SurplusDecided, payments.BillOfAnother,
                 payments.BillVoided, payments.BillAlreadyPaid, payments.PaymentInProgress))  # fmt: skip
async def keep_surplus(call: Call) -> PaymentOut:
    """The payment that was made from it."""
    view = await service.keep_surplus(call.actor, call.id("discrepancy_id"), call.body.bill_ids)
    return payment_out(view, call.language)
