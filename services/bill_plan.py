"""From the rows of a sheet to the bills that they mean, or to what is wrong with them. Pure.

The register (rooms, owners, fee items) and the bills that exist already come in as plain data.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from kit.money import MAX_FEN, format_yuan
from kit.text import normalise
from services.bill_remark import Remark
from services.bill_sheet import COLUMNS, Sheet, SheetRow, UnfitRow
from services.room_name import RoomFinder, RoomName

MOST_LINES = 100
_MOST_EXPLAINED = 20  # unknown rooms for which the closest names are looked up


@dataclass(frozen=True)
class Owner:
    """A line of the register: who owned a room from when to when (None: still)."""

    customer_id: UUID
    name: str
    starts_on: date
    ends_on: date | None


@dataclass(frozen=True)
class Item:
    """A fee item."""

    id: UUID
    code: str
    name: str
    active: bool


@dataclass
class Register:
    """What a community knows: its rooms, who owned them when, and its fee items."""

    rooms: RoomFinder
    owners: Mapping[UUID, Sequence[Owner]]
    items: Sequence[Item]


@dataclass
class PlannedBill:
    """A bill that the file asks for, with the rows that become its lines."""

    room: RoomName
    item: Item
    owner: Owner
    rows: list[SheetRow]

    @property
    def key(self) -> tuple[UUID, str]:
        return self.room.id, self.purpose

    @property
    def purpose(self) -> str:
        return f"{self.item.code}:{self.rows[0].period.word}"

    @property
    def title(self) -> str:
        return self.rows[0].title or f"{self.rows[0].period.title}{self.item.name}"

    @property
    def due_on(self) -> date:
        return self.rows[0].due_on

    @property
    def amount_fen(self) -> int:
        return sum(row.amount_fen for row in self.rows)


Line = tuple[int, Decimal | None, str, Decimal | None, str]
"""What makes a line the same: amount, quantity, unit, unit price, formula."""


@dataclass(frozen=True)
class ExistingBill:
    """A live bill for the same room and purpose."""

    customer_id: UUID
    debtor: str
    title: str
    due_on: date
    amount_fen: int
    lines: Sequence[Line]


@dataclass
class Resolution:
    """The bills that the rows mean. Errors and warnings are added to those of the sheet."""

    bills: list[PlannedBill] = field(default_factory=list)
    errors: list[Remark] = field(default_factory=list)
    warnings: list[Remark] = field(default_factory=list)
    zero_count: int = 0


class _Resolver:
    def __init__(self, sheet: Sheet, register: Register) -> None:
        self.sheet, self.register = sheet, register
        self.done = Resolution(errors=list(sheet.errors), warnings=list(sheet.warnings))
        self.items: dict[str, set[Item]] = {}
        for item in register.items:
            for name in (item.code, item.name):
                self.items.setdefault(normalise(name), set()).add(item)
        self.bills: dict[tuple[UUID, UUID, str], PlannedBill] = {}
        self.closest: dict[str, list[str]] = {}

    def error(self, row: SheetRow | UnfitRow, name: str | None, code: str, /, **facts: Any) -> None:
        column = self.sheet.headings.get(name, COLUMNS[name].heading) if name else None
        self.done.errors.append(Remark(row.line, column, code, facts))

    def resolve(self) -> Resolution:
        for unfit in self.sheet.unfit:
            if unfit.room:
                self.room(unfit, unfit.room)
            if unfit.fee_item:
                self.item(unfit, unfit.fee_item)
        for row in self.sheet.rows:
            room, item = self.room(row, row.room), self.item(row, row.fee_item)
            owner = self.owner(row, room) if room else None
            if not (room and item and owner):
                continue
            if row.amount_fen == 0:
                self.done.zero_count += 1
                self.done.warnings.append(Remark(row.line, None, "zero_amount"))
                continue
            self.add(row, room, item, owner)
        self.done.bills = list(self.bills.values())
        for bill in self.done.bills:
            if bill.amount_fen > MAX_FEN:
                self.error(bill.rows[-1], "amount", "amount_too_large")
            if len(bill.rows) > MOST_LINES:
                self.error(bill.rows[MOST_LINES], None, "too_many_lines", limit=MOST_LINES)
        return self.done

    def room(self, row: SheetRow | UnfitRow, name: str) -> RoomName | None:
        found = self.register.rooms.find(name)
        if len(found) == 1:
            return found[0]
        if found:
            candidates = "、".join(room.name for room in found[:5])
            self.error(row, "room", "room_ambiguous", value=name, candidates=candidates)
            return None
        if name not in self.closest and len(self.closest) < _MOST_EXPLAINED:
            self.closest[name] = self.register.rooms.closest(name)
        near = self.closest.get(name, [])
        closest_zh = f"最接近的是：{'、'.join(near)}。" if near else ""
        closest_en = f" The closest: {', '.join(near)}." if near else ""
        self.error(row, "room", "room_unknown", value=name, closest_zh=closest_zh, closest_en=closest_en)
        return None

    def item(self, row: SheetRow | UnfitRow, name: str) -> Item | None:
        found = self.items.get(name, set())
        if len(found) == 1 and all(item.active for item in found):
            return next(iter(found))
        if len(found) > 1:  # the name of one is the code of another
            names = "、".join(sorted(f"{item.name}（{item.code}）" for item in found))
            self.error(row, "fee_item", "fee_item_ambiguous", value=name, candidates=names)
        elif found:
            self.error(row, "fee_item", "fee_item_inactive", value=name)
        else:
            known = "、".join(item.name for item in self.register.items if item.active) or "—"
            self.error(row, "fee_item", "fee_item_unknown", value=name, known=known)
        return None

    def owner(self, row: SheetRow, room: RoomName) -> Owner | None:
        """Who owned the room on the last day of the period; the sheet chooses among several."""
        day = row.period.last
        there = [
            owner
            for owner in self.register.owners.get(room.id, ())
            if owner.starts_on <= day and (owner.ends_on is None or owner.ends_on >= day)
        ]
        facts = {"room": room.name, "day": day.isoformat(), "names": "、".join(owner.name for owner in there)}
        if not there:
            self.error(row, "room", "owner_missing", **facts)
            return None
        named = [owner for owner in there if row.debtor in (None, normalise(owner.name))]
        if not named:
            self.error(row, "debtor", "owner_unknown", value=row.debtor, **facts)
            return None
        if len({owner.customer_id for owner in named}) > 1:
            self.error(row, "debtor", "owner_ambiguous", **facts)
            return None
        return named[0]

    def add(self, row: SheetRow, room: RoomName, item: Item, owner: Owner) -> None:
        bill = self.bills.setdefault((room.id, item.id, row.period.word), PlannedBill(room, item, owner, []))
        if bill.rows:
            first = bill.rows[0]
            told = (
                ("due_on", first.due_on.isoformat(), row.due_on.isoformat()),
                ("debtor", bill.owner.name, owner.name),
                ("title", first.title or "", row.title or ""),
            )
            for name, theirs, mine in told:
                if mine != theirs:
                    facts = {"name": COLUMNS[name].heading, "mine": mine or "—", "theirs": theirs or "—"}
                    self.error(row, name, "lines_differ", other=first.line, **facts)
            same = next((other for other in bill.rows[:MOST_LINES] if _words(other) == _words(row)), None)
            if same:
                self.done.warnings.append(Remark(row.line, None, "row_repeated", {"other": same.line}))
        bill.rows.append(row)


def _words(row: SheetRow) -> Line:
    return row.amount_fen, row.quantity, row.unit, row.unit_price, row.formula


def resolve(sheet: Sheet, register: Register) -> Resolution:
    """The bills that the rows of ``sheet`` mean, every error of the sheet and every row that means nothing here."""
    return _Resolver(sheet, register).resolve()


def difference(bill: PlannedBill, existing: ExistingBill) -> tuple[str, str, str] | None:
    """Where a bill that exists differs from what the file asks for: column, what the file says, what it says."""
    lines = [_words(row) for row in bill.rows]
    compared: Sequence[tuple[str, Any, Any, Callable[[Any], str]]] = (
        ("amount", bill.amount_fen, existing.amount_fen, format_yuan),
        (
            "debtor",
            (bill.owner.customer_id, bill.owner.name),
            (existing.customer_id, existing.debtor),
            lambda it: it[1],
        ),
        ("due_on", bill.due_on, existing.due_on, str),
        ("title", bill.title, existing.title, str),
        ("quantity", [line[1] for line in lines], [line[1] for line in existing.lines], _listed),
        ("unit_price", [line[3] for line in lines], [line[3] for line in existing.lines], _listed),
        ("amount", [line[0] for line in lines], [line[0] for line in existing.lines], _amounts),
        ("unit", [line[2] for line in lines], [line[2] for line in existing.lines], _listed),
        ("formula", [line[4] for line in lines], [line[4] for line in existing.lines], _listed),
    )
    for name, mine, theirs, words in compared:
        if mine[0] != theirs[0] if name == "debtor" else mine != theirs:
            return name, words(mine), words(theirs)
    return None


def _listed(values: Sequence[Any]) -> str:
    plain = (format(value.normalize(), "f") if isinstance(value, Decimal) else value for value in values)
    return " + ".join(str(value) if value not in (None, "") else "—" for value in plain)[:60]


def _amounts(values: Sequence[int]) -> str:
    return " + ".join(format_yuan(value) for value in values)[:60]
