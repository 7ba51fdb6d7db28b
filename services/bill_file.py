"""From the bytes of a file to a grid of cells: xlsx or csv, whatever it is called. Pure: no database, no clock.

A spreadsheet keeps numbers as binary floats. They become ``Decimal`` here, through the shortest text that names the
float, and no arithmetic is ever done on the float itself.
"""

import csv
import io
import math
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Context, Decimal

import python_calamine

from services.bill_remark import Remark
from services.bill_xlsx_scan import SheetScan, TooMuch, Unreadable, scan

MAX_BYTES = 8 * 1024 * 1024
MAX_ROWS = 50_000
MAX_COLUMNS = 100
_HEADROOM_ROWS = 100  # headings, titles and totals around the data
_MAX_CELLS = 2_000_000  # of the rectangle that holds all: 50,000 rows of 40 columns
_EXPLANATION_SHEETS = frozenset({"说明", "填写说明"})
# Spreadsheet programs show and keep 15 digits; what lies beyond is noise of binary arithmetic (0.1 + 0.2).
_AS_SHOWN = Context(prec=15)


@dataclass(frozen=True)
class CellError:
    """A cell without a value: a formula that failed (``#VALUE!``) or was never computed (empty)."""

    value: str


Cell = str | Decimal | date | CellError | None


@dataclass(frozen=True)
class Grid:
    """Rows that hold anything, each with the row number that a spreadsheet program shows; or why there are none."""

    rows: Sequence[tuple[int, Sequence[Cell]]] = ()
    errors: Sequence[Remark] = ()
    warnings: Sequence[Remark] = field(default_factory=tuple)


def read_grid(content: bytes) -> Grid:
    """The cells of a file. Never raises: an unreadable file is an error in the grid."""
    if content.startswith(b"PK"):
        return _read_xlsx(content)
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        return _failed("file_old_or_locked")
    return _read_csv(content)


def decimal_of(number: float) -> Decimal:
    """The decimal number that a person sees for a float: 69.615 for the float nearest to it, 0.3 for 0.1 + 0.2."""
    shown = _AS_SHOWN.create_decimal(repr(number)).normalize()
    return shown.quantize(Decimal(1)) if shown == shown.to_integral_value() and abs(shown) < 10**15 else shown


def _failed(code: str, line: int | None = None, **facts: object) -> Grid:
    return Grid(errors=(Remark(line, None, code, facts),))


def _kept(rows: Iterable[tuple[int, Sequence[Cell]]]) -> Grid:
    """The rows that hold anything, within the bounds."""
    found: list[tuple[int, Sequence[Cell]]] = []
    for line, cells in rows:
        if all(cell is None for cell in cells):
            continue
        if len(cells) > MAX_COLUMNS and any(cell is not None for cell in cells[MAX_COLUMNS:]):
            return _failed("too_many_columns", limit=MAX_COLUMNS)
        if len(found) >= MAX_ROWS + _HEADROOM_ROWS:
            return _failed("too_many_rows", limit=MAX_ROWS)
        found.append((line, cells))
    return Grid(rows=found)


def _read_csv(content: bytes) -> Grid:
    text = _decode(content)
    if text is None:
        return _failed("encoding_unknown")
    if "\0" in text:
        return _failed("file_unreadable")
    first, _, rest = text.partition("\n")
    skipped = 0
    if first.strip().lower().startswith("sep="):  # what Excel writes to itself about the separator
        text, skipped = rest, 1
        delimiter = first.strip()[4:5] or ","
    else:
        delimiter = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, Sequence[Cell]]] = []
    try:
        for line, record in enumerate(reader, start=1 + skipped):
            rows.append((line, [value if value.strip() else None for value in record]))
            if line > 40 * MAX_ROWS:
                return _failed("too_many_rows", limit=MAX_ROWS)
    except csv.Error:
        return _failed("csv_broken", line=len(rows) + 1 + skipped)
    return _kept(rows)


def _decode(content: bytes) -> str | None:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    else:
        # Chinese text in GB18030 is practically never valid UTF-8, so the stricter one is tried first.
        encodings = ["utf-8-sig", "gb18030"]
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return None


def _delimiter(text: str) -> str:
    """The separator that occurs most in the first line that has one, outside quotation marks."""
    for line in text.splitlines()[:20]:
        bare = "".join(line.split('"')[::2])
        counts = {mark: bare.count(mark) for mark in (",", "\t", ";")}
        if any(counts.values()):
            return max(counts, key=lambda mark: counts[mark])
    return ","


def _read_xlsx(content: bytes) -> Grid:
    try:
        scans = scan(content, max_cells=_MAX_CELLS)
    except TooMuch as error:
        return _failed("too_many_rows" if error.rows else "file_unreadable", limit=MAX_ROWS)
    except (Unreadable, zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, ValueError):
        return _failed("file_unreadable")
    wanted = [sheet for sheet in scans if sheet.has_cells and sheet.name.strip() not in _EXPLANATION_SHEETS]
    if not wanted:
        return _failed("no_rows")
    try:
        with python_calamine.load_workbook(io.BytesIO(content)) as workbook:
            values = workbook.get_sheet_by_name(wanted[0].name).to_python(skip_empty_area=False)
    except (python_calamine.CalamineError, OSError, ValueError):
        return _failed("file_unreadable")
    grid = _kept((line, _cells(wanted[0], line, row)) for line, row in enumerate(values, start=1))
    if len(wanted) == 1 or grid.errors:
        return grid
    ignored = "、".join(sheet.name for sheet in wanted[1:])
    notice = Remark(None, None, "other_sheets", {"used": wanted[0].name, "ignored": ignored})
    return Grid(grid.rows, grid.errors, (notice,))


def _cells(sheet: SheetScan, line: int, row: Sequence[object]) -> list[Cell]:
    cells = [_cell(value) for value in row]
    for column, value in sheet.faulty.get(line, {}).items():
        # The reader hands out an empty cell for a failed formula: here it stays visible.
        cells += [None] * (column + 1 - len(cells))
        cells[column] = CellError(value)
    return cells


def _cell(value: object) -> Cell:
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float | int) and math.isfinite(value):
        return decimal_of(value)
    if isinstance(value, datetime):
        return value.date() if value.time() == time() else value.isoformat(sep=" ")
    if isinstance(value, date):
        return value
    return str(value)  # times and durations: no column takes them, and the text says what stands there
