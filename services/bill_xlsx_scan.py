"""What a spreadsheet reader does not tell, read from the raw sheets first. Pure.

The reader makes a dense grid: two cells, one in the last corner of the sheet, would take gigabytes. And it hands out
an empty cell for a formula that failed. So each sheet is first walked through once: how far it reaches, which cells
are errors, which formulas were never computed.
"""

import io
import posixpath
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat  # no entity of a document is ever expanded: see _parse

MAX_UNPACKED_BYTES = 192 * 1024 * 1024
MAX_SHEETS = 50


class Unreadable(ValueError):
    """Not a workbook that we understand."""


class TooMuch(ValueError):
    """Unpacked it is larger than any file of bills; ``rows`` says that it is because of a sheet's reach."""

    def __init__(self, *, rows: bool) -> None:
        super().__init__("too much")
        self.rows = rows


@dataclass
class SheetScan:
    """A sheet: ``faulty`` is row number → column index → the error's text (empty: a formula without a value)."""

    name: str
    last_row: int = 0
    last_column: int = 0
    faulty: dict[int, dict[int, str]] = field(default_factory=dict)

    @property
    def has_cells(self) -> bool:
        return self.last_row > 0


def scan(content: bytes, max_cells: int) -> list[SheetScan]:
    """The visible sheets in order. Raises Unreadable or zipfile's errors, TooMuch for more than ``max_cells``."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_UNPACKED_BYTES:
            raise TooMuch(rows=False)
        for name in ("xl/sharedStrings.xml", "xl/styles.xml"):
            _read(archive, name, optional=True)  # their checksums hold before the reader unpacks them
        return [_scan_sheet(name, _read(archive, path), max_cells) for name, path in _sheets(archive)]


def _read(archive: zipfile.ZipFile, name: str, *, optional: bool = False) -> bytes:
    try:
        return archive.read(name)
    except KeyError as error:
        if optional:
            return b""
        raise Unreadable(name) from error


def _sheets(archive: zipfile.ZipFile) -> list[tuple[str, str]]:
    """Name and path of each visible sheet."""
    targets: dict[str, str] = {}
    found: list[tuple[str, str]] = []

    def relation(name: str, attributes: Mapping[str, str]) -> None:
        if name == "Relationship":
            targets[attributes.get("Id", "")] = posixpath.normpath(
                posixpath.join("/xl", attributes.get("Target", ""))
            ).lstrip("/")

    def sheet(name: str, attributes: Mapping[str, str]) -> None:
        path = targets.get(attributes.get("id", ""), "")
        if name == "sheet" and attributes.get("state", "visible") == "visible" and "/worksheets/" in path:
            found.append((attributes.get("name", ""), path))

    _parse(_read(archive, "xl/_rels/workbook.xml.rels"), relation)
    _parse(_read(archive, "xl/workbook.xml"), sheet)
    if len(found) > MAX_SHEETS:
        raise TooMuch(rows=False)
    return found


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _parse(xml: bytes, started: Callable[[str, Mapping[str, str]], None]) -> None:
    def start(name: str, attributes: Mapping[str, str]) -> None:
        started(_local(name), {_local(key): value for key, value in attributes.items()})

    _run(xml, start)


def _run(
    xml: bytes,
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] | None = None,
    text: Callable[[str], None] | None = None,
) -> None:
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text

    def refuse(*_: object) -> None:
        raise Unreadable("a sheet declares no entities")

    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(xml, True)
    except expat.ExpatError as error:
        raise Unreadable("not well-formed") from error


class _Walker:
    """Follows the cells of one sheet."""

    def __init__(self, scan: SheetScan, max_cells: int) -> None:
        self.scan, self.max_cells = scan, max_cells
        self.row = self.column = 0
        self.kind = ""
        self.formula = self.inside_value = False
        self.value = ""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        name = _local(name)
        if name == "c":
            self.row, self.column = _place(attributes.get("r", ""), self.row, self.column + 1)
            self.kind, self.formula, self.value = attributes.get("t", ""), False, ""
        elif name == "v" or name == "is":
            self.inside_value = True
            self._reach()
        elif name == "f":
            self.formula = True
            self._reach()
        elif name == "row":
            number = attributes.get("r", "")
            self.row = int(number) if number.isascii() and number.isdigit() and len(number) < 9 else self.row + 1
            self.column = 0

    def _reach(self) -> None:
        scan = self.scan
        if self.row > scan.last_row or self.column > scan.last_column:
            scan.last_row, scan.last_column = max(scan.last_row, self.row), max(scan.last_column, self.column)
            if scan.last_row * scan.last_column > self.max_cells:
                raise TooMuch(rows=True)

    def text(self, data: str) -> None:
        if self.inside_value:
            self.value += data

    def end(self, name: str) -> None:
        name = _local(name)
        if name == "v" or name == "is":
            self.inside_value = False
        elif name == "c" and (self.kind == "e" or (self.formula and not self.value and self.kind != "str")):
            text = self.value[:20] if self.kind == "e" else ""
            self.scan.faulty.setdefault(self.row, {})[self.column - 1] = text


def _place(reference: str, row: int, column: int) -> tuple[int, int]:
    """``"C12"`` → (12, 3); a cell without a reference stands right of the one before."""
    letters = reference.rstrip("0123456789")
    digits = reference[len(letters) :]
    if not letters or not digits or len(letters) > 3 or len(digits) > 7 or not letters.isascii():
        return row, column
    place = 0
    for letter in letters.upper():
        place = place * 26 + ord(letter) - 64
    return int(digits), place


def _scan_sheet(name: str, xml: bytes, max_cells: int) -> SheetScan:
    found = SheetScan(name)
    walker = _Walker(found, max_cells)
    _run(xml, walker.start, walker.end, walker.text)
    return found
