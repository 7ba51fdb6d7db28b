"""What a copy of a resident's data holds, part by part; docs/privacy.md describes the document.

Every part begins where the resident's own screens begin (``visible_to``), so the copy tells of other members of a
household what they may see anyway, and no more.
"""

import json
from collections.abc import Awaitable, Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from tortoise.queryset import QuerySet

from kit import clock
from models.access import Actor
from models.bill import Bill, BillLine
from models.community import Community
from models.consent import Consent
from models.customer import PHONE_CONTEXT, Customer
from models.deposit import Deposit, DepositDeduction
from models.ledger import Account
from models.message import Message
from models.occupancy import Occupancy, OccupancyRequest
from models.organization import Organization
from models.payment import Payment
from models.policy import Policy
from models.receipt import Receipt
from models.refund import Refund
from models.resident import Resident, WechatIdentity
from models.reveal import Reveal
from models.room import Room
from models.secret import decrypt
from models.session import Session
from models.wechat_app import WechatApp
from services.customer import id_number_masked
from services.prepaid import shown_balances
from services.receipt import customer_name_for, standings
from services.refund import shown_to_payers
from services.session import resident_actor

FORMAT = "linli.export.v1"
_BATCH = 500

Part = Callable[[Actor], Awaitable[Any]]


async def collect(resident_id: UUID, organization_id: UUID, progress: Callable[[int], Awaitable[None]]) -> str:
    """The document as JSON text; ``progress`` hears after each part how many are done."""
    actor = await resident_actor(resident_id, organization_id)
    organization = await Organization.get(id=organization_id)
    document: dict[str, Any] = {
        "format": FORMAT,
        "made_at": clock.now(),
        "organization": organization.name,
        "note": "证件号码和登记在册的电话以掩码显示；需要完整内容，请凭有效证件到物业前台办理。",
    }
    for done, (name, part) in enumerate(PARTS.items(), start=1):
        document[name] = await part(actor)
        await progress(done)
    return json.dumps(document, ensure_ascii=False, indent=1, default=_plain)


def _plain(value: object) -> str:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a copy")


def _of(row: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


async def _all(query: QuerySet[Any]) -> list[Any]:
    """Every row by id, some at a time: the thousandth is no reason for one huge answer of the database."""
    found: list[Any] = []
    while batch := await (query.filter(id__gt=found[-1].id) if found else query).order_by("id").limit(_BATCH):
        found += batch
    return found


async def _rooms(rows: list[Any]) -> dict[UUID | None, str]:
    return {one.id: one.name for one in await Room.filter(id__in={row.room_id for row in rows if row.room_id})}


async def _communities(rows: list[Any]) -> dict[UUID, str]:
    return {one.id: one.name for one in await Community.filter(id__in={row.community_id for row in rows})}


async def _profile(actor: Actor) -> dict[str, Any]:
    resident = await Resident.get(id=actor.id)
    phone = decrypt(resident.phone_cipher, PHONE_CONTEXT) if resident.phone_cipher else None
    return _of(resident, "id", "name", "created_at", "phone_verified_at") | {"phone": phone}


async def _identities(actor: Actor) -> list[dict[str, Any]]:
    """WeChat's openid is a key, not a fact about a person: its ends are enough to recognise it."""
    apps = {one.id: one for one in await WechatApp.filter(organization_id=actor.organization_id)}
    return [
        {"app": apps[one.app_id].name, "appid": apps[one.app_id].appid,
         "openid_masked": f"{one.openid[:2]}***{one.openid[-2:]}", "since": one.created_at}
        for one in await _all(WechatIdentity.filter(resident_id=actor.id))
    ]  # fmt: skip


async def _occupancies(actor: Actor) -> list[dict[str, Any]]:
    lines = await _all(Occupancy.filter(resident_id=actor.id))
    rooms, communities = await _rooms(lines), await _communities(lines)
    customers = {one.id: one for one in await Customer.filter(id__in={line.customer_id for line in lines})}
    return [
        _of(line, "kind", "starts_on", "ends_on", "claimed_at")
        | {"community": communities[line.community_id], "room": rooms[line.room_id]}
        | {"registered_as": _register(customers[line.customer_id])}
        for line in lines
    ]


def _register(customer: Customer) -> dict[str, Any]:
    """The claim rests on a phone number, which may have had another owner: the numbers stay masked."""
    return _of(customer, "kind", "name", "phone_masked") | {"id_number_masked": id_number_masked(customer)}


async def _requests(actor: Actor) -> list[dict[str, Any]]:
    requests = await _all(OccupancyRequest.visible_to(actor))
    rooms, communities = await _rooms(requests), await _communities(requests)
    return [
        _of(one, "created_at", "kind", "name", "note", "state", "reason", "decided_at")
        | {"community": communities[one.community_id], "room": rooms[one.room_id]}
        | {"phone": decrypt(one.phone_cipher, PHONE_CONTEXT) if one.phone_cipher else None}
        for one in requests
    ]


async def _bills(actor: Actor) -> list[dict[str, Any]]:
    bills = await _all(Bill.visible_to(actor))
    rooms, communities = await _rooms(bills), await _communities(bills)
    lines: dict[UUID, list[dict[str, Any]]] = {}
    for start in range(0, len(bills), _BATCH):
        batch = BillLine.filter(bill_id__in=[bill.id for bill in bills[start : start + _BATCH]])
        for line in await batch.order_by("bill_id", "position"):
            told = _of(line, "title", "period_from", "period_to", "formula", "amount_fen")
            lines.setdefault(line.bill_id, []).append(told)
    return [
        _of(bill, "id", "title", "state", "kind", "amount_fen", "paid_fen", "credited_fen", "accrued_on", "due_on")
        | {"community": communities[bill.community_id], "room": rooms.get(bill.room_id)}
        | {"owed_by_me": bill.customer_id in actor.customer_ids, "lines": lines.get(bill.id, [])}
        for bill in bills
    ]


async def _payments(actor: Actor) -> list[dict[str, Any]]:
    return [
        _of(
            one,
            "id",
            "state",
            "channel",
            "amount_fen",
            "surplus_fen",
            "refunded_fen",
            "created_at",
            "paid_at",
            "close_reason",
        )
        | {"paid_by_me": one.payer_resident_id == actor.id}
        for one in await _all(Payment.visible_to(actor))
    ]


async def _refunds(actor: Actor) -> list[dict[str, Any]]:
    return [
        _of(one, "id", "payment_id", "state", "method", "amount_fen", "reason", "created_at", "refunded_at",
            "reject_reason")
        | {"asked_by_me": one.asked_by_resident_id == actor.id}
        for one in await _all(shown_to_payers(Refund.visible_to(actor)))
    ]  # fmt: skip


async def _prepaid_accounts(actor: Actor) -> list[dict[str, Any]]:
    ids = [account.id for account in await _all(Account.prepaid_of(actor))]
    return [_of(one, "legal_entity", "balance_fen", "pays_monthly") for one in await shown_balances(ids)]


async def _deposits(actor: Actor) -> list[dict[str, Any]]:
    deposits = await _all(Deposit.visible_to(actor))
    deductions: dict[UUID, list[dict[str, Any]]] = {}
    for one in await _all(DepositDeduction.filter(deposit_id__in=[deposit.id for deposit in deposits])):
        told = _of(one, "amount_fen", "reason", "bill_id") | {"at": one.created_at}
        deductions.setdefault(one.deposit_id, []).append(told)
    return [
        _of(one, "title", "state", "amount_fen", "deducted_fen", "created_at", "return_asked_at")
        | {"deductions": deductions.get(one.id, [])}
        for one in deposits
    ]


async def _receipts(actor: Actor) -> list[dict[str, Any]]:
    receipts = await _all(Receipt.visible_to(actor))
    standing = await standings(receipts)
    return [
        _of(one, "number", "payment_id", "issued_on")
        | _of(standing[one.id], "refunded_fen", "voided_on")
        | {"content": one.content | {"customer": customer_name_for(actor, one)}}
        for one in receipts
    ]


async def _messages(actor: Actor) -> list[dict[str, Any]]:
    found = await _all(Message.visible_to(actor))
    return [_of(one, "kind", "data", "state", "created_at", "sent_at") for one in found]


async def _consents(actor: Actor) -> list[dict[str, Any]]:
    steps = await _all(Consent.visible_to(actor))
    policies = {one.id: one for one in await Policy.filter(id__in={step.policy_id for step in steps})}
    return [
        _of(step, "step", "channel") | {"at": step.created_at}
        | {"policy": _of(policies[step.policy_id], "kind", "number", "title")}
        for step in steps
    ]  # fmt: skip


async def _sessions(actor: Actor) -> list[dict[str, Any]]:
    found = await _all(Session.filter(resident_id=actor.id))
    return [_of(one, "created_at", "expires_at", "revoked_at") for one in found]


async def _reveals(actor: Actor) -> list[dict[str, Any]]:
    """Who looked is told by their post: the person's complaint goes to the company, and the company knows the name."""
    requests = await OccupancyRequest.visible_to(actor).values_list("id", flat=True)
    found = await _all(Reveal.filter(resident_id=actor.id))
    found += await _all(Reveal.filter(customer_id__in=actor.customer_ids))
    found += await _all(Reveal.filter(occupancy_request_id__in=list(requests)))
    return [
        _of(one, "field", "role", "reason") | {"at": one.created_at}
        for one in sorted(found, key=lambda one: (one.created_at, one.id))
    ]


PARTS: dict[str, Part] = {
    "profile": _profile,
    "wechat_identities": _identities,
    "occupancies": _occupancies,
    "occupancy_requests": _requests,
    "bills": _bills,
    "payments": _payments,
    "refunds": _refunds,
    "prepaid_accounts": _prepaid_accounts,
    "deposits": _deposits,
    "receipts": _receipts,
    "messages": _messages,
    "consents": _consents,
    "sessions": _sessions,
    "reveals": _reveals,
}
"""In the order of the document; what is shown as progress counts them."""
