"""From a grid of cells to the rows of a sheet of bills, with everything that is wrong in it. Pure.

Columns are known by their heading, in any order; what the rows mean (which room, whose bill) is decided elsewhere.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, TypeVar

from kit.money import format_yuan, round_to_fen
from kit.text import normalise
from services.bill_cell import (
    Period,
    Unfit,
    read_any_number,
    read_date,
    read_fen,
    read_name,
    read_number,
    read_period,
    read_words,
)
from services.bill_file import MAX_ROWS, Cell, Grid, read_grid
from services.bill_remark import Remark

Value = TypeVar("Value")


@dataclass(frozen=True)
class Column:
    """A column that we know: its heading as we write it, and how else people write it."""

    heading: str
    aliases: tuple[str, ...]
    needed: bool = False
    in_yuan: bool = False


COLUMNS: Mapping[str, Column] = {
    "room": Column("房号", ("房屋", "房间", "房间号", "房屋名称", "室号"), needed=True),
    "fee_item": Column("收费项目", ("费用项目", "项目", "收费项目编码", "费项"), needed=True),
    "period": Column("费用期间", ("期间", "账期", "费用月份", "计费期间", "所属期间"), needed=True),
    "quantity": Column("数量", ("用量", "面积", "计费数量")),
    "unit": Column("单位", ("计量单位",)),
    "unit_price": Column("单价(元)", ("单价",), in_yuan=True),
    "amount": Column("金额(元)", ("金额", "应收金额", "应缴金额"), needed=True, in_yuan=True),
    "due_on": Column("应缴日期", ("到期日", "到期日期", "缴费截止日", "缴费截止日期", "截止日期"), needed=True),
    "formula": Column("说明", ("计算公式", "备注", "说明/计算公式")),
    "debtor": Column("户名", ("业主", "业主姓名", "客户名称", "缴费人")),
    "title": Column("账单名称", ("账单标题",)),
}
_BY_NAME = {
    name: field_name
    for field_name, column in COLUMNS.items()
    for name in (column.heading.partition("(")[0], *column.aliases)
}
_TITLE_ROWS = 10  # the headings are looked for in this many rows: many sheets begin with a title
_TOTALS = frozenset({"合计", "总计", "小计"})
EXAMPLE = "示例"


@dataclass(frozen=True)
class SheetRow:
    """A row that reads well. ``amount_fen`` 0: it comes to nothing. Texts are normalised; None where empty."""

    line: int
    room: str
    fee_item: str
    period: Period
    due_on: date
    amount_fen: int
    quantity: Decimal | None = None
    unit: str = ""
    unit_price: Decimal | None = None
    formula: str = ""
    debtor: str | None = None
    title: str | None = None


@dataclass(frozen=True)
class UnfitRow:
    """A row with a cell that cannot be read. Its room and fee item are looked up all the same, so that one reading of
    the file tells everything that is wrong with it; None where that very cell cannot be read."""

    line: int
    room: str | None
    fee_item: str | None


@dataclass
class Sheet:
    """A file, read. ``row_count`` counts rows with data, good and wrong; ``headings`` is column → as the file says."""

    rows: list[SheetRow] = field(default_factory=list)
    unfit: list[UnfitRow] = field(default_factory=list)
    errors: list[Remark] = field(default_factory=list)
    warnings: list[Remark] = field(default_factory=list)
    headings: dict[str, str] = field(default_factory=dict)
    row_count: int = 0


def read_sheet(content: bytes) -> Sheet:
    """Every row of a file of bills that can be read, and every error in those that cannot. Never raises."""
    grid = read_grid(content)
    sheet = Sheet(errors=list(grid.errors), warnings=list(grid.warnings))
    if sheet.errors:
        return sheet
    if not grid.rows:
        sheet.errors.append(Remark(None, None, "no_rows"))
        return sheet
    start, columns = _find_headings(grid, sheet)
    if sheet.errors:
        return sheet
    for line, cells in grid.rows[start + 1 :]:
        _read_row(sheet, line, {name: cells[at] for name, at in columns.items() if at < len(cells)})
    if sheet.row_count > MAX_ROWS:
        return Sheet(errors=[Remark(None, None, "too_many_rows", {"limit": MAX_ROWS})])
    if not sheet.row_count:
        sheet.errors.append(Remark(None, None, "no_rows"))
    return sheet


def _heading(cell: Cell) -> tuple[str, str]:
    """A heading's name and what it says in brackets: ``"*金额（元）"`` → ("金额", "元")."""
    text = re.sub(r"[\s*:：]", "", normalise(cell if isinstance(cell, str) else ""))
    found = re.fullmatch(r"(.*?)[(\[](.*)[)\]]", text)
    return (found[1], found[2]) if found else (text, "")


def _find_headings(grid: Grid, sheet: Sheet) -> tuple[int, dict[str, int]]:
    """Where the headings stand, and field → position. Mistakes in them are noted in the sheet."""
    known = [sum(_heading(cell)[0] in _BY_NAME for cell in cells) for _, cells in grid.rows[:_TITLE_ROWS]]
    start = known.index(max(known))
    line, cells = grid.rows[start]
    columns: dict[str, int] = {}
    for position, cell in enumerate(cells):
        bare, unit = _heading(cell)
        written = normalise(cell) if isinstance(cell, str) else ""
        name = _BY_NAME.get(bare)
        if name is None:
            if cell is not None and written:
                sheet.warnings.append(Remark(line, written, "column_unknown", {"name": written[:40]}))
        elif name in columns:
            facts = {"name": COLUMNS[name].heading, "first": columns[name] + 1, "second": position + 1}
            sheet.errors.append(Remark(line, written, "column_repeated", facts))
        elif COLUMNS[name].in_yuan and unit and not unit.startswith(("元", "¥", "人民币")):
            facts = {"header": written, "name": COLUMNS[name].heading.partition("(")[0]}
            sheet.errors.append(Remark(line, written, "column_unit", facts))
            columns[name] = position
        else:
            columns[name] = position
            sheet.headings[name] = written
    computed = {"quantity", "unit_price"} <= columns.keys()
    for name, column in COLUMNS.items():
        if column.needed and name not in columns and not (name == "amount" and computed):
            sheet.errors.append(Remark(line, column.heading, "column_missing", {"name": column.heading}))
    return start, columns


class _Reader:
    """Reads the cells of one row and notes what is wrong."""

    def __init__(self, sheet: Sheet, line: int, cells: Mapping[str, Cell]) -> None:
        self.sheet, self.line, self.cells = sheet, line, cells
        self.wrong = False

    def note(self, name: str | None, code: str, facts: Mapping[str, Any]) -> None:
        column = self.sheet.headings.get(name, COLUMNS[name].heading) if name else None
        self.sheet.errors.append(Remark(self.line, column, code, facts))
        self.wrong = True

    def read(self, name: str, parse: Callable[..., Value], *options: Any, needed: bool = False) -> Value | None:
        cell = self.cells.get(name)
        if cell is None or cell == "":
            if needed:
                self.note(name, "value_missing", {})
            return None
        try:
            return parse(cell, *options)
        except Unfit as unfit:
            self.note(name, unfit.code, unfit.facts)
            return None


def _read_row(sheet: Sheet, line: int, cells: Mapping[str, Cell]) -> None:
    if all(cell is None for cell in cells.values()):
        return  # only columns that we do not know
    first = next(normalise(cell) for cell in (*cells.values(), "") if isinstance(cell, str))
    room_cell = cells.get("room")
    if isinstance(room_cell, str) and normalise(room_cell).lstrip("(").startswith(EXAMPLE):
        sheet.warnings.append(Remark(line, None, "example_row"))
        return
    if re.sub(r"\W", "", first) in _TOTALS and not cells.get("fee_item") and not cells.get("due_on"):
        sheet.warnings.append(Remark(line, None, "total_row"))
        return
    sheet.row_count += 1
    reader = _Reader(sheet, line, cells)
    room = reader.read("room", read_name, 150, needed=True)
    fee_item = reader.read("fee_item", read_name, 50, needed=True)
    period = reader.read("period", read_period, needed=True)
    quantity = reader.read("quantity", read_number, 14, 4)
    unit = reader.read("unit", read_words, 16)
    unit_price = reader.read("unit_price", read_price)
    amount_fen = _amount(reader, quantity, unit_price)
    due_on = reader.read("due_on", read_date, needed=True)
    formula = reader.read("formula", read_words, 200)
    debtor = reader.read("debtor", read_name, 100)
    title = reader.read("title", read_words, 100)
    if reader.wrong or not (room and fee_item and period and due_on) or amount_fen is None:
        sheet.unfit.append(UnfitRow(line, room, fee_item))
        return
    sheet.rows.append(
        SheetRow(line, room, fee_item, period, due_on, amount_fen, quantity, unit or "", unit_price, formula or "",
                 debtor, title)
    )  # fmt: skip


def read_price(cell: Cell) -> Decimal:
    """A price in yuan with at most six decimals."""
    return read_number(cell, 14, 6, unit="元")


def _amount(reader: _Reader, quantity: Decimal | None, unit_price: Decimal | None) -> int | None:
    """The row's fen: as written, and if quantity and price are there too, equal to their product, rounded half up."""
    product_fen = round_to_fen(quantity * unit_price) if quantity is not None and unit_price is not None else None
    if product_fen is not None and product_fen >= 10**13:
        reader.note("amount", "amount_too_large", {})
        return None
    # Where both are there and give no product, one of them is wrong, and that was said already.
    computable = reader.cells.get("quantity") is not None and reader.cells.get("unit_price") is not None
    if reader.cells.get("amount") is None:
        if not computable:
            reader.note("amount", "amount_missing", {})
        return product_fen
    before = len(reader.sheet.errors)
    amount_fen = reader.read("amount", read_fen)
    if amount_fen is None:
        _explain(reader, before, quantity, unit_price, product_fen)
    elif product_fen is not None and amount_fen != product_fen:
        _note_difference(reader, format_yuan(amount_fen), quantity, unit_price, product_fen)
    elif amount_fen == 0 and not computable:
        reader.note("amount", "amount_zero", {})
        return None
    return amount_fen


def _explain(
    reader: _Reader, before: int, quantity: Decimal | None, unit_price: Decimal | None, product_fen: int | None
) -> None:
    """An amount that was computed but not rounded: say what it should be, which says more than "two decimals"."""
    if product_fen is not None and reader.sheet.errors[before].code == "number_too_precise":
        del reader.sheet.errors[before:]
        amount = format(read_any_number(reader.cells["amount"], "元"), "f")
        _note_difference(reader, amount, quantity, unit_price, product_fen)


def _note_difference(
    reader: _Reader, amount: str, quantity: Decimal | None, unit_price: Decimal | None, product_fen: int
) -> None:
    facts = {
        "amount": amount,
        "quantity": format(quantity or Decimal(0), "f"),
        "unit_price": format(unit_price or Decimal(0), "f"),
        "product": format_yuan(product_fen),
    }
    reader.note("amount", "amount_differs", facts)


def heading_row() -> Sequence[str]:
    """The headings as the template writes them."""
    return [column.heading for column in COLUMNS.values()]
