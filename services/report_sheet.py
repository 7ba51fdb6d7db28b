"""Reports as files: lines of cells to XLSX or CSV, a few at a time, with nothing that a spreadsheet would execute.

Numbers stay numbers: an amount is yuan with two decimals, exact. Text stays text: what begins like a formula gets an
apostrophe before it (OWASP, CSV Injection), and in CSV, which has no types, what a spreadsheet would read as a number
or a date too: a phone number, an ID number, a short room name (3-1-1201).
"""

import csv
import io
import re
import tempfile
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import IO, Any, Protocol

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.styles import Font

from models.report_file import ReportFormat

Cell = str | int | Decimal | date | None

_STARTS_A_FORMULA = frozenset("=+-@\t\r\n＝＋－＠﹢﹣﹦﹫−")
_BLANK = " \u00a0\u3000\u200b\u200c\u200d\u2060\ufeff"
_NOT_IN_A_FILE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_READ_AS_A_NUMBER = re.compile(r"[\s\d.,:/%eE年月日+-]*\d[\s\d.,:/%eE年月日+-]*")
_LONGEST = 32_000  # Excel takes 32,767 characters in a cell


def safe_text(text: str, *, typed: bool) -> str:
    """The text as a cell may hold it. ``typed``: the file itself says that it is text, as XLSX does."""
    cleaned = _NOT_IN_A_FILE.sub("", text)[:_LONGEST]
    first = cleaned.lstrip(_BLANK)[:1]
    if first in _STARTS_A_FORMULA and first:
        return f"'{cleaned}"
    if not typed and _READ_AS_A_NUMBER.fullmatch(cleaned):
        return f"'{cleaned}"
    return cleaned


def yuan(fen: int) -> Decimal:
    """25068 → Decimal("250.68"): exact, two places."""
    return Decimal(fen).scaleb(-2)


class Sheet(Protocol):
    """Takes lines, the headings first, and becomes a file."""

    def add(self, lines: Sequence[Sequence[Cell]]) -> None:
        """Write some lines."""

    def finish(self) -> bytes:
        """The whole file."""

    def close(self) -> None:
        """Give back what it holds, also of a file that was not finished."""


class CsvSheet:
    """UTF-8 with a byte order mark, by which spreadsheets know it; lines end in CRLF (RFC 4180)."""

    def __init__(self) -> None:
        self._kept: IO[bytes] = tempfile.TemporaryFile()
        self._text = io.TextIOWrapper(self._kept, encoding="utf-8-sig", newline="")
        self._writer = csv.writer(self._text)

    def add(self, lines: Sequence[Sequence[Cell]]) -> None:
        """Write some lines."""
        self._writer.writerows([[_plain(cell) for cell in line] for line in lines])

    def finish(self) -> bytes:
        """The whole file."""
        self._text.flush()
        self._kept.seek(0)
        return self._kept.read()

    def close(self) -> None:
        """Give back what it holds, also of a file that was not finished."""
        self._text.close()


class XlsxSheet:
    """One sheet, written line by line to a temporary file by openpyxl's write-only mode."""

    def __init__(self, title: str) -> None:
        self._book = Workbook(write_only=True)
        self._sheet: Any = self._book.create_sheet(title)
        self._sheet.freeze_panes = "A2"
        self._bold = Font(bold=True)
        self._money = WriteOnlyCell(self._sheet)
        self._money.number_format = "0.00"
        self._day = WriteOnlyCell(self._sheet)
        self._day.number_format = "yyyy-mm-dd"
        self._first = True

    def add(self, lines: Sequence[Sequence[Cell]]) -> None:
        """Write some lines; the very first are the headings."""
        for line in lines:
            self._sheet.append([self._heading(cell) for cell in line] if self._first else self._cells(line))
            self._first = False

    def finish(self) -> bytes:
        """The whole file."""
        with tempfile.TemporaryFile() as kept:
            self._book.save(kept)
            kept.seek(0)
            return kept.read()

    def close(self) -> None:
        """Give back what it holds, also of a file that was not finished."""
        if not self._sheet.closed:
            self._sheet.append([])  # there is no temporary file before the first line
            self._sheet.close()
            self._sheet._writer.cleanup()

    def _heading(self, cell: Cell) -> Any:
        made = WriteOnlyCell(self._sheet, safe_text(str(cell), typed=True))
        made.font = self._bold
        return made

    def _cells(self, line: Sequence[Cell]) -> Any:
        # A cell is written as soon as it is given, so that one object does for all amounts.
        for cell in line:
            if isinstance(cell, Decimal):
                self._money.value = cell
                yield self._money
            elif isinstance(cell, date):
                self._day.value = cell
                yield self._day
            else:
                yield safe_text(cell, typed=True) if isinstance(cell, str) else cell


def new_sheet(made: ReportFormat, title: str) -> Sheet:
    """An empty file of the format."""
    return XlsxSheet(title) if made is ReportFormat.XLSX else CsvSheet()


def _plain(cell: Cell) -> str | int:
    if cell is None:
        return ""
    if isinstance(cell, date):
        return cell.isoformat()
    if isinstance(cell, Decimal):
        return f"{cell:.2f}"
    return safe_text(cell, typed=False) if isinstance(cell, str) else cell
