"""What an import has to know of a community, in a handful of statements however many rows the file has."""

from collections.abc import Sequence
from itertools import groupby
from uuid import UUID

from models.unit_of_work import rows
from services.bill_plan import ExistingBill, Item, Owner, PlannedBill, Register
from services.room_name import RoomFinder, RoomName

_ROOMS = "SELECT id, name FROM rooms WHERE community_id = $1 ORDER BY natural_key, id"
_OWNERS = """
SELECT o.room_id, o.customer_id, c.name, o.starts_on, o.ends_on
FROM occupancies o JOIN customers c ON c.id = o.customer_id
WHERE o.community_id = $1 AND o.kind = 'owner' ORDER BY o.starts_on, o.id
"""
_ITEMS = "SELECT id, code, name, active FROM fee_items WHERE community_id = $1 ORDER BY code"
_EXISTING = """
SELECT b.id, b.subject_id, b.purpose, b.customer_id, c.name AS debtor, b.title, b.due_on, b.amount_fen
FROM unnest($2::uuid[], $3::text[]) AS k(room, purpose)
JOIN bills b ON b.community_id = $1 AND b.subject_kind = 'room' AND b.subject_id = k.room AND b.purpose = k.purpose
JOIN customers c ON c.id = b.customer_id
WHERE b.state <> 'void'
"""
_LINES = """
SELECT bill_id, amount_fen, quantity, unit, unit_price, formula FROM bill_lines
WHERE bill_id = ANY($1::uuid[]) ORDER BY bill_id, position
"""
_OVERLAPS = """
SELECT DISTINCT ON (k.at) k.at, b.title
FROM unnest($2::int[], $3::uuid[], $4::uuid[], $5::date[], $6::date[], $7::text[])
     AS k(at, room, item, first, last, purpose)
JOIN bills b ON b.room_id = k.room AND b.community_id = $1 AND b.state <> 'void' AND b.purpose <> k.purpose
JOIN bill_lines l ON l.bill_id = b.id AND l.fee_item_id = k.item
WHERE l.period_from <= k.last AND l.period_to >= k.first
ORDER BY k.at, b.id
"""


async def load_register(community_id: UUID) -> Register:
    """Rooms, their owners over time, and fee items."""
    owners: dict[UUID, list[Owner]] = {}
    for found in await rows(_OWNERS, community_id):
        owner = Owner(found["customer_id"], found["name"], found["starts_on"], found["ends_on"])
        owners.setdefault(found["room_id"], []).append(owner)
    rooms = [RoomName(found["id"], found["name"]) for found in await rows(_ROOMS, community_id)]
    items = [
        Item(found["id"], found["code"], found["name"], found["active"]) for found in await rows(_ITEMS, community_id)
    ]
    return Register(RoomFinder(rooms), owners, items)


async def load_existing(community_id: UUID, keys: Sequence[tuple[UUID, str]]) -> dict[tuple[UUID, str], ExistingBill]:
    """The live bills for these (room, purpose), by the same."""
    found = await rows(_EXISTING, community_id, [room for room, _ in keys], [purpose for _, purpose in keys])
    ordered = await rows(_LINES, [bill["id"] for bill in found])
    lines = {
        bill_id: [
            (line["amount_fen"], line["quantity"], line["unit"], line["unit_price"], line["formula"]) for line in some
        ]
        for bill_id, some in groupby(ordered, key=lambda line: line["bill_id"])
    }
    return {
        (bill["subject_id"], bill["purpose"]): ExistingBill(
            bill["customer_id"], bill["debtor"], bill["title"], bill["due_on"], bill["amount_fen"], lines[bill["id"]]
        )
        for bill in found
    }


async def load_overlaps(community_id: UUID, bills: Sequence[PlannedBill]) -> list[tuple[PlannedBill, str]]:
    """Those of ``bills`` whose room has a live bill of the same fee item for overlapping days, with its title."""
    found = await rows(
        _OVERLAPS,
        community_id,
        list(range(len(bills))),
        [bill.room.id for bill in bills],
        [bill.item.id for bill in bills],
        [bill.rows[0].period.first for bill in bills],
        [bill.rows[0].period.last for bill in bills],
        [bill.purpose for bill in bills],
    )
    return [(bills[one["at"]], one["title"]) for one in found]
