"""Reading a file of bills: any bytes are either rows or errors that say where; nothing raises, no float counts."""

import csv
import io
import zipfile
from datetime import date
from decimal import Decimal
from typing import Any

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.ids import new_id
from services.bill_cell import Unfit, read_period
from services.bill_file import CellError, _cell, decimal_of, read_grid
from services.bill_remark import CODES, Remark
from services.bill_sheet import COLUMNS, read_sheet
from services.bill_template import build_template
from services.room_name import RoomFinder, RoomName, room_key
from tests.bill_town import GOOD, HEADINGS, csv_of, told

FILE_ERRORS = [
    ("empty", b"", [(None, None, "no_rows")]),
    ("headings only", csv_of(), [(None, None, "no_rows")]),
    ("an old xls", b"\xd0\xcf\x11\xe0" + b"0" * 600, [(None, None, "file_old_or_locked")]),
    ("not a workbook", b"PK\x03\x04 nothing", [(None, None, "file_unreadable")]),
    ("a picture", b"\x89PNG\r\n\x1a\n\0\0\0", [(None, None, "file_unreadable")]),
    ("no encoding", b"\xff\xff\xff", [(None, None, "encoding_unknown")]),
    ("an open quotation mark", csv_of(GOOD, '3栋1单元1204,"物业费,2026-11'), [(3, None, "csv_broken")]),
    ("no room, no due date", csv_of("物业费,2026-11,1", headings="收费项目,费用期间,金额"),
     [(1, "房号", "column_missing"), (1, "应缴日期", "column_missing")]),
    ("an amount in fen", csv_of("a", headings="房号,收费项目,费用期间,金额(分),应缴日期"),
     [(1, "金额(分)", "column_unit")]),
    ("the same column twice", csv_of("a", headings="房号,房屋,收费项目,费用期间,金额,应缴日期"),
     [(1, "房屋", "column_repeated")]),
    ("too many columns", csv_of("," * 120 + "x"), [(None, None, "too_many_columns")]),
]  # fmt: skip


@pytest.mark.parametrize("case, content, errors", FILE_ERRORS, ids=[case for case, _, _ in FILE_ERRORS])
def test_a_bad_file_is_told_and_never_raises(case: str, content: bytes, errors: list[tuple[Any, ...]]) -> None:
    sheet = read_sheet(content)
    assert told(sheet.errors) == errors
    assert sheet.rows == []


def test_an_xlsx_with_a_cell_in_the_last_corner_is_refused_before_it_eats_the_memory() -> None:
    book = openpyxl.Workbook()
    book.active["A1"] = "房号"
    book.active.cell(1_000_000, 16_000, "x")
    done = io.BytesIO()
    book.save(done)
    assert told(list(read_grid(done.getvalue()).errors)) == [(None, None, "too_many_rows")]


def test_an_xlsx_that_unpacks_to_too_much_or_declares_entities_is_refused() -> None:
    for part, text in (
        ("xl/media/x.bin", b"\0" * (200 * 1024 * 1024)),
        ("xl/workbook.xml", b'<!DOCTYPE a [<!ENTITY b "c">]><workbook>&b;</workbook>'),
    ):
        done = io.BytesIO()
        with zipfile.ZipFile(done, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("xl/_rels/workbook.xml.rels", "<Relationships/>")
            archive.writestr(part, text)
        assert told(list(read_grid(done.getvalue()).errors)) == [(None, None, "file_unreadable")]


def test_floats_become_what_a_person_sees() -> None:
    assert decimal_of(66.30 * 1.05) == Decimal("69.615")
    assert decimal_of(0.1 + 0.2) == Decimal("0.3")
    assert str(decimal_of(1201.0)) == "1201"
    assert decimal_of(1e300) == Decimal("1e300")


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=400), st.text(max_size=400).map(str.encode)))
def test_no_bytes_make_the_reader_raise(content: bytes) -> None:
    assert read_sheet(content).errors


CELLS = st.one_of(
    st.text(max_size=30),
    st.text("0123456789.,-+eE¥元 ％٣²", max_size=45),
    st.text("0123456789-/~年月日至. ", max_size=25),
    st.sampled_from(["3栋1单元1201", "物业费", "2026-11", "0", "=1+1", "示例", "合计", "NaN", "Infinity", "1" * 40]),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.lists(CELLS, min_size=11, max_size=11), min_size=1, max_size=3))
def test_no_cells_make_the_reader_raise_and_what_reads_well_can_be_stored(rows: list[list[str]]) -> None:
    written = io.StringIO()
    csv.writer(written).writerows([HEADINGS.split(","), *rows])
    sheet = read_sheet(written.getvalue().encode("utf-8", "replace"))
    for good in sheet.rows:
        assert 0 <= good.amount_fen <= 10**13
        assert good.quantity is None or Decimal(0) <= good.quantity < 10**10
        assert good.unit_price is None or Decimal(0) <= good.unit_price < 10**8
        assert good.period.first <= good.period.last and good.due_on.year < 2100


def test_a_number_of_a_spreadsheet_that_is_none_is_text() -> None:
    assert [_cell(value) for value in (float("nan"), float("inf"), True, 5)] == ["nan", "inf", "TRUE", Decimal(5)]


PERIODS = {
    "2026-11": ("2026-11", "2026年11月"),
    "2026年1月": ("2026-01", "2026年1月"),
    "２０２６－０２": ("2026-02", "2026年2月"),
    "202602": ("2026-02", "2026年2月"),
    "2026-11-01~2026-11-30": ("2026-11", "2026年11月"),
    "2026/11/01 - 2026/12/15": ("2026-11-01~2026-12-15", "2026-11-01至2026-12-15"),
    "2026-10~2026-12": ("2026-10-01~2026-12-31", "2026年10月至12月"),
    "2025年12月至2026年1月": ("2025-12-01~2026-01-31", "2025年12月至2026年1月"),
}


@pytest.mark.parametrize("text", PERIODS)
def test_a_period_has_one_spelling(text: str) -> None:
    period = read_period(text)
    assert (period.word, period.title) == PERIODS[text]


@pytest.mark.parametrize(
    "cell", ["2026-00", "2026", "11-2026", date(2026, 11, 2), Decimal("2026.11"), CellError("#N/A")]
)
def test_what_is_no_period(cell: Any) -> None:
    with pytest.raises(Unfit):
        read_period(cell)


def test_rooms_are_found_as_people_write_them() -> None:
    names = [
        "3栋1单元1201",
        "3栋2单元1201",
        "3栋1单元1202",
        "13栋1单元201",
        "商铺12",
        "A座1201",
        "1栋11单元1",
        "1栋1单元11",
    ]
    finder = RoomFinder(RoomName(new_id(), name) for name in names)
    for text, found in {
        "3栋1单元1201": "3栋1单元1201",
        " ３栋 １单元 １２０１室 ": "3栋1单元1201",
        "03-01-1201": "3栋1单元1201",
        "3号楼1单元1202房": "3栋1单元1202",
        "3幢2单元1201号": "3栋2单元1201",
        "a座1201": "A座1201",
        "商铺12号": "商铺12",
        "1-1-11": "1栋1单元11",
        "1-11-1": "1栋11单元1",
    }.items():
        assert [room.name for room in finder.find(text)] == [found], text
    for text in ("", "3", "3-1201", "1111", "3栋1单元120", "31-1-201"):
        assert finder.find(text) == (), text
    assert finder.closest("3栋1单元1203")[:2] == ["3栋1单元1202", "3栋1单元1201"]
    twins = RoomFinder([RoomName(new_id(), "3栋1单元101"), RoomName(new_id(), "3幢1单元101")])
    assert len(twins.find("3-1-101")) == 2 and len(twins.find("3幢1单元101")) == 1
    assert room_key("3栋1单元0101室") == ("3", "1", "101")


def test_the_template_reads_as_nothing_but_examples() -> None:
    content = build_template(["物业费（WYF）"])
    sheet = read_sheet(content)
    assert told(sheet.errors) == [(None, None, "no_rows")]
    assert told(sheet.warnings) == [(2, None, "example_row"), (3, None, "example_row")]
    book = openpyxl.load_workbook(io.BytesIO(content))
    assert [cell.value.lstrip("*") for cell in book["账单"][1]] == [column.heading for column in COLUMNS.values()]
    assert set(sheet.headings) == set(COLUMNS)


def test_every_code_has_both_languages() -> None:
    class Anything(dict[str, str]):
        def __missing__(self, key: str) -> str:
            return "x"

    for code in CODES:
        remark = Remark(1, None, code, Anything())
        assert remark.message("zh") and remark.message("en") and remark.message("zh") != remark.message("en")
