"""One cell of a sheet of bills: what it may say, and how it is read. Pure; money is fen, the rest Decimal."""

import re
import unicodedata
from calendar import monthrange
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal
from typing import Any

from kit.text import normalise
from services.bill_file import Cell, CellError

_NUMBER = re.compile(r"[+-]?(\d{1,20}|\d{1,3}(,\d{3}){1,6})(\.\d{1,20})?")
_DAY = r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?"
_MONTH = r"(\d{4})[-/年](\d{1,2})月?"
_DATE = re.compile(_DAY + r"( 0?0:00(:00)?)?")
_COMPACT_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})")
_COMPACT_MONTH = re.compile(r"(\d{4})(\d{2})")
_ONE_MONTH = re.compile(_MONTH)
_DAYS = re.compile(_DAY + r" ?(?:~|-|–|—|至|到) ?" + _DAY)
_MONTHS = re.compile(_MONTH + r" ?(?:~|–|—|至|到) ?" + _MONTH)
_YEARS = range(2000, 2100)
_EXACT = Context(prec=60)  # more digits than _NUMBER lets through


class Unfit(ValueError):
    """A cell that cannot be read: the remark's code and facts."""

    def __init__(self, code: str, /, **facts: Any) -> None:
        super().__init__(code)
        self.code, self.facts = code, facts


@dataclass(frozen=True)
class Period:
    """The days that a fee is for. ``word`` is its one spelling: ``2026-11``, or ``2026-11-01~2026-12-15``."""

    first: date
    last: date

    @property
    def is_month(self) -> bool:
        return self.first.day == 1 and self.last == month_end(self.first)

    @property
    def word(self) -> str:
        return f"{self.first:%Y-%m}" if self.is_month else f"{self.first.isoformat()}~{self.last.isoformat()}"

    @property
    def title(self) -> str:
        """``2026年11月``, ``2026年11月至12月``, or the two days."""
        if self.is_month:
            return f"{self.first.year}年{self.first.month}月"
        if self.first.day == 1 and self.last == month_end(self.last):
            year = "" if self.first.year == self.last.year else f"{self.last.year}年"
            return f"{self.first.year}年{self.first.month}月至{year}{self.last.month}月"
        return f"{self.first.isoformat()}至{self.last.isoformat()}"


def month_end(day: date) -> date:
    """The last day of the month."""
    return day.replace(day=monthrange(day.year, day.month)[1])


def read_name(cell: Cell, limit: int) -> str:
    """A name to look up, full-width forms folded. Unfit when too long or not printable."""
    return _bounded(normalise(read_words(cell, limit * 2)), limit)


def read_words(cell: Cell, limit: int) -> str:
    """Text as it was written (m² stays m²), white space single; a number or date as a person would write it."""
    _refuse_error(cell)
    return _bounded(" ".join(_plain(cell).split()), limit)


def _bounded(text: str, limit: int) -> str:
    if len(text) > limit:
        raise Unfit("text_too_long", limit=limit)
    # Only controls and halves of characters: rare names use characters that Python's tables do not know yet.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise Unfit("text_unprintable")
    return text


def read_number(cell: Cell, digits: int, places: int, *, unit: str = "") -> Decimal:
    """An exact number, not negative, with at most ``digits`` digits of which ``places`` are decimals."""
    number = read_any_number(cell, unit)
    if number < 0:
        raise Unfit("number_negative", value=_number_text(number))
    if -int(number.normalize(_EXACT).as_tuple().exponent) > places:
        raise Unfit("number_too_precise", places=places, value=_number_text(number))
    if number >= Decimal(10) ** (digits - places):
        raise Unfit("number_too_large", value=_number_text(number))
    return number


def read_any_number(cell: Cell, unit: str = "") -> Decimal:
    """A number as the cell says it; ¥, a trailing ``unit`` and thousands separators are allowed."""
    _refuse_error(cell)
    if isinstance(cell, Decimal):
        number = cell
    else:
        text = normalise(_plain(cell)).replace("¥", "").removesuffix(unit).replace("−", "-").strip()
        if not _NUMBER.fullmatch(text):
            raise Unfit("number_not_understood", value=_short(cell))
        number = Decimal(text.replace(",", ""))
    if abs(number) >= Decimal(10) ** 20:
        raise Unfit("number_too_large", value=_short(cell))
    return number


def read_fen(cell: Cell) -> int:
    """An amount in yuan as fen: not negative, at most two decimals."""
    return int(read_number(cell, 13, 2, unit="元") * 100)


def read_date(cell: Cell) -> date:
    """A date cell, or text like 2026-12-10, 2026/12/10, 2026年12月10日, 20261210."""
    _refuse_error(cell)
    if isinstance(cell, date):
        return _in_range(cell)
    text = normalise(_plain(cell))
    found = _DATE.fullmatch(text) or _COMPACT_DATE.fullmatch(text)
    if not found:
        raise Unfit("date_not_understood", value=_short(cell))
    return _day(cell, *found.groups()[:3], code="date_not_understood")


def read_period(cell: Cell) -> Period:
    """A month or two days. A date cell is taken for its month when it is a first day: a spreadsheet program turns a
    typed 2026-11 into 1 November. A number such as 2026.1 is refused: it may have been 2026.10."""
    _refuse_error(cell)
    if isinstance(cell, date):
        if cell.day != 1:
            raise Unfit("period_not_understood", value=_short(cell))
        return _checked(cell, _in_range(cell), month_end(cell))
    text = normalise(_plain(cell))
    code = "period_not_understood"
    if found := _ONE_MONTH.fullmatch(text) or _COMPACT_MONTH.fullmatch(text):
        first = _day(cell, found[1], found[2], "1", code=code)
        return _checked(cell, first, month_end(first))
    if found := _MONTHS.fullmatch(text):
        first = _day(cell, found[1], found[2], "1", code=code)
        return _checked(cell, first, month_end(_day(cell, found[3], found[4], "1", code=code)))
    if found := _DAYS.fullmatch(text):
        first = _day(cell, found[1], found[2], found[3], code=code)
        return _checked(cell, first, _day(cell, found[4], found[5], found[6], code=code))
    raise Unfit(code, value=_short(cell))


def _checked(cell: Cell, first: date, last: date) -> Period:
    if last < first:
        raise Unfit("period_backwards", value=_short(cell))
    return Period(first, last)


def _day(cell: Cell, year: str, month: str, day: str, *, code: str) -> date:
    try:
        return _in_range(date(int(year), int(month), int(day)))
    except ValueError as error:
        if isinstance(error, Unfit):
            raise
        raise Unfit(code, value=_short(cell)) from error


def _in_range(day: date) -> date:
    if day.year not in _YEARS:
        raise Unfit("date_out_of_range", value=day.isoformat())
    return day


def _refuse_error(cell: Cell) -> None:
    if isinstance(cell, CellError):
        raise Unfit("cell_is_error", value=cell.value) if cell.value else Unfit("formula_without_value")


def _plain(cell: Cell) -> str:
    if isinstance(cell, Decimal):
        return _number_text(cell)
    return cell.isoformat() if isinstance(cell, date) else str(cell or "")


def _number_text(number: Decimal) -> str:
    return format(number.normalize(_EXACT), "f") if number else "0"


def _short(cell: Cell) -> str:
    text = normalise(_plain(cell))
    return text if len(text) <= 40 else text[:39] + "…"
