"""A resident's account: what is removed when consent is withdrawn, and what closing leaves (PIPL art. 47).

What a law keeps stays: payments, receipts, entries and audit, under the pseudonym 住户 and the last letters of the id.
The company's register of customers is the company's own, and stays too (services/customer_forget.py).
"""

from typing import Any
from uuid import UUID

from kit import clock
from kit.errors import NotSignedIn, Refusal
from kit.text import mask_in_text, normalise
from models import audit
from models.access import Actor
from models.customer import Customer
from models.discrepancy import DiscrepancyState
from models.export import EXPORT_MACHINE, Export, ExportState
from models.message import MESSAGE_MACHINE, Message, MessageState
from models.occupancy import REQUEST_MACHINE, Occupancy, OccupancyKind, OccupancyRequest, RequestState
from models.resident import Resident, WechatIdentity
from models.session import Session
from models.unit_of_work import row, rows, unit_of_work
from services.customer_forget import blank_customer_tx, open_matters, pseudonym
from services.occupancy import end_tx, is_lasting, release_tx

_NO_PHONE: dict[str, Any] = {"phone_cipher": None, "phone_index": None, "phone_masked": ""}

_UNDER_WAY = """
SELECT p.id::text FROM payments p WHERE p.payer_resident_id = $1 AND (p.state = 'open' OR EXISTS (
    SELECT FROM payment_attempts a WHERE a.payment_id = p.id AND a.state IN ('created', 'prepaid')))
ORDER BY p.id
"""
_CASES = """
SELECT (SELECT count(*) FROM discrepancies d JOIN payments p ON p.id = d.payment_id
        WHERE p.payer_resident_id = $1 AND d.state = $2) AS cases,
       (SELECT count(*) FROM payments WHERE payer_resident_id = $1 AND reserved_fen > 0)
       + (SELECT count(*) FROM refunds WHERE asked_by_resident_id = $1 AND state = 'asked') AS refunds
"""


class PaymentUnderWay(Refusal):
    """A payment of theirs may still bring money; ``payment_ids`` are the ones to finish or give up."""

    zh = "您有正在进行的支付，请先完成或取消支付，再注销账号。"
    en = "A payment of yours is under way; finish or cancel it before you close the account."


class MoneyUnderWay(Refusal):
    """Finance has ``cases`` to decide about money that they paid, or ``refunds`` of it are under way."""

    zh = "您支付的款项还有{cases}件待物业财务处理、{refunds}笔正在退款，完成后才能注销账号。"
    en = (
        "Money that you paid is not settled yet ({cases} cases with finance, {refunds} refunds under way); the account "
        "can be closed afterwards."
    )


async def lock_account_tx(resident_id: UUID | None) -> Resident:
    """The resident's row, locked; NotSignedIn when the account was closed since the request began."""
    resident = await Resident.select_for_update().get(id=resident_id)
    if resident.closed_at is not None:
        raise NotSignedIn()
    return resident


async def remove_phone_tx(actor: Actor, resident: Resident) -> None:
    """Afterwards neither the (locked) resident nor any request of theirs holds a phone, and no request is pending."""
    await _empty_requests_tx(actor, resident, dict(_NO_PHONE))
    resident.update_from_dict(_NO_PHONE | {"phone_verified_at": None})
    await resident.save(update_fields=[*_NO_PHONE, "phone_verified_at"])
    await audit.record_tx(
        actor, "resident.remove_phone", "resident", resident.id, organization_id=resident.organization_id
    )


async def _empty_requests_tx(actor: Actor, resident: Resident, emptied: dict[str, Any]) -> None:
    for request in await OccupancyRequest.filter(resident_id=resident.id).order_by("id").select_for_update():
        values = dict(emptied)
        if request.state is RequestState.PENDING:
            values |= REQUEST_MACHINE.enter(request, RequestState.WITHDRAWN)
            await audit.record_tx(
                actor, "occupancy_request.withdraw", "occupancy_request", request.id,
                organization_id=request.organization_id, community_id=request.community_id,
                before={"state": RequestState.PENDING.value}, after={"state": RequestState.WITHDRAWN.value},
            )  # fmt: skip
        request.update_from_dict(values)
        await request.save(update_fields=list(values))


@unit_of_work
async def close_account(actor: Actor, reason: str) -> Resident:
    """Afterwards the account is closed for good: nobody is signed in by it, WeChat's openid is free to begin a new one,
    no phone, name, note or message text of the resident is left, their claims of rooms are released, and what somebody
    in their household had invited them to has ended. All of it, or nothing; a second click finds it done.

    Refuses PaymentUnderWay while a payment of theirs may still bring money, MoneyUnderWay while finance decides about
    money that they paid or it is on its way back.
    """
    resident = await Resident.select_for_update().get(id=actor.id)
    if resident.closed_at is not None:
        return resident
    await _refuse_money_under_way_tx(resident)
    await _empty_requests_tx(actor, resident, _NO_PHONE | {"name": pseudonym("住户", resident.id), "note": ""})
    released, ended = await _leave_rooms_tx(actor, resident)
    await _empty_messages_tx(resident)
    for export in await Export.filter(resident_id=resident.id).select_for_update():
        if not EXPORT_MACHINE.is_final(export.state):
            EXPORT_MACHINE.enter(export, ExportState.EXPIRED, content_cipher=None, next_check_at=None)
            await export.save(update_fields=["state", "content_cipher", "next_check_at"])
    # Sign-in locks the identity: one that comes later finds none, and one that came first is ended here.
    await WechatIdentity.filter(resident_id=resident.id).delete()
    await Session.filter(resident_id=resident.id, revoked_at__isnull=True).update(revoked_at=clock.now())
    values = _NO_PHONE | {
        "name": pseudonym("住户", resident.id),
        "phone_verified_at": None,
        "closed_at": clock.now(),
        "close_reason": mask_in_text(normalise(reason)),
    }
    resident.update_from_dict(values)
    await resident.save(update_fields=list(values))
    await audit.record_tx(
        actor, "resident.close", "resident", resident.id, organization_id=resident.organization_id,
        after={"released": released, "ended": ended},
    )  # fmt: skip
    return resident


async def _refuse_money_under_way_tx(resident: Resident) -> None:
    # The row's lock keeps new payments of theirs out: their foreign key waits for it (migrations, payer_is_there).
    if under_way := await rows(_UNDER_WAY, resident.id):
        raise PaymentUnderWay(payment_ids=[found["id"] for found in under_way])
    facts = await row(_CASES, resident.id, DiscrepancyState.OPEN.value) or {}
    if any(facts.values()):
        raise MoneyUnderWay(**facts)


async def _leave_rooms_tx(actor: Actor, resident: Resident) -> tuple[int, int]:
    """Release every claim. A line that exists only because a household invited them ends, and its customer, of whom
    nobody else has anything, becomes a pseudonym; a line of the company's own register waits for whoever is next."""
    ended = 0
    lines = await Occupancy.filter(resident_id=resident.id).order_by("id").select_for_update()
    for occupancy in lines:
        await release_tx(actor, occupancy)
        invited = occupancy.invited_by_resident_id is not None and occupancy.kind is not OccupancyKind.OWNER
        if not invited:
            continue
        if is_lasting(occupancy):
            await end_tx(actor, occupancy, None)
            ended += 1
        customer = await Customer.select_for_update().get(id=occupancy.customer_id)
        if customer.forgotten_at is None and not any((await open_matters(customer.id)).values()):
            await blank_customer_tx(actor, customer)
    return len(lines), ended


async def _empty_messages_tx(resident: Resident) -> None:
    for message in await Message.filter(resident_id=resident.id, state=MessageState.QUEUED).select_for_update():
        MESSAGE_MACHINE.enter(message, MessageState.REFUSED, detail="account_closed", next_check_at=None)
        await message.save(update_fields=["state", "detail", "next_check_at"])
    await Message.filter(resident_id=resident.id).update(data={})
