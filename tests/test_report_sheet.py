"""The cells of a file: no text is executed, numbers stay numbers, and whatever people write comes out again."""

import csv
import io
import zipfile
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook

from models.report_file import ReportFormat
from services.report_sheet import Cell, new_sheet, safe_text, yuan

DANGEROUS = "=+-@\t\r＝＋－＠"
_TEXT = ("s", "inlineStr")
HEADINGS = ["户名", "电话", "金额（元）", "日期", "笔数"]


def made(form: ReportFormat, *lines: list[Cell]) -> bytes:
    sheet = new_sheet(form, "报表")
    sheet.add([HEADINGS])
    sheet.add(lines)
    body = sheet.finish()
    sheet.close()
    return body


def read_csv(body: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline="")))


hostile = st.one_of(
    st.text(max_size=40),
    st.builds(
        str.__add__, st.sampled_from([*DANGEROUS, "\n=", " =", "　＝", "\ufeff=", "\u200b@", "\x00="]), st.text()
    ),
    st.from_regex(r"[0-9]{1,20}([-/.][0-9]{1,6}){0,2}", fullmatch=True),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(hostile, min_size=1, max_size=6))
@example(["=cmd|' /C calc'!A0", "+86 13800001234", "-1+1", "@SUM(1)", "\t=1", "\r=1", "＝1+1", "　=1"])
@example(["110101199003071234", "013800001234", "3-1-1201", "1E5", "2026-11", "12:30", "100%", "1,000", "３－１"])
@example(['a,"b"\r\nc', "x" * 40_000, "\ud83d\ude00", "\x0b\x1f", "\uffff=1", "_x000D_"])
def test_no_text_is_executed_or_taken_for_a_number(texts: list[str]) -> None:
    lines: list[list[Cell]] = [[text, "13800001234", yuan(25068), date(2026, 11, 3), 7] for text in texts]
    for row in read_csv(made(ReportFormat.CSV, *lines))[1:]:
        _harmless(row[0])
        assert not row[0] or not row[0].isascii() or not _is_number(row[0]), row[0]
        assert row[1:] == ["'13800001234", "250.68", "2026-11-03", "7"]
    body = made(ReportFormat.XLSX, *lines)
    sheet = load_workbook(io.BytesIO(body)).worksheets[0]
    rows = list(sheet.iter_rows(min_row=2))
    assert len(rows) == len(texts)
    for cells in rows:
        assert cells[0].data_type in _TEXT or cells[0].value is None
        _harmless(cells[0].value or "")
        assert cells[1].data_type in _TEXT and cells[1].value == "13800001234"
        assert (cells[2].data_type, cells[2].value, cells[2].number_format) == ("n", 250.68, "0.00")
        assert (cells[3].value.date(), cells[4].value) == (date(2026, 11, 3), 7)
    with zipfile.ZipFile(io.BytesIO(body)) as parts:
        assert b"<f>" not in b"".join(parts.read(name) for name in parts.namelist())


def _harmless(cell: str) -> None:
    stripped = cell.lstrip(" \u00a0\u3000\u200b\u200c\u200d\u2060\ufeff")
    assert not stripped or stripped[0] not in DANGEROUS + "\n", repr(cell)


def _is_number(cell: str) -> bool:
    try:
        Decimal(cell.replace(",", ""))
    except ArithmeticError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "in_csv", "in_xlsx"),
    [
        ("王建国", "王建国", "王建国"), ("", "", ""), ("=1+1", "'=1+1", "'=1+1"), ("＋86", "'＋86", "'＋86"),
        ("  =1", "'  =1", "'  =1"), ("\n=1", "'\n=1", "'\n=1"), ("\x07=1", "'=1", "'=1"),
        ("13800001234", "'13800001234", "13800001234"), ("3-1-1201", "'3-1-1201", "3-1-1201"),
        ("2026-11", "'2026-11", "2026-11"), ("007", "'007", "007"), ("1E5", "'1E5", "1E5"),
        ("3栋1单元1201", "3栋1单元1201", "3栋1单元1201"), ("'=1", "'=1", "'=1"), ("A=1", "A=1", "A=1"),
    ],
)  # fmt: skip
def test_a_text(text: str, in_csv: str, in_xlsx: str) -> None:
    assert (safe_text(text, typed=False), safe_text(text, typed=True)) == (in_csv, in_xlsx)


@given(st.integers(-(10**15), 10**15))
def test_an_amount_is_exact_yuan(fen: int) -> None:
    assert yuan(fen) * 100 == fen and yuan(fen).as_tuple().exponent == -2
    assert read_csv(made(ReportFormat.CSV, ["", "", yuan(fen)]))[1][
        2
    ] == f"{'-' if fen < 0 else ''}{abs(fen) // 100}." + (f"{abs(fen) % 100:02d}")


def test_a_negative_amount_is_a_number_and_no_formula() -> None:
    assert read_csv(made(ReportFormat.CSV, ["a", "b", yuan(-7)]))[1][2] == "-0.07"
    sheet = load_workbook(io.BytesIO(made(ReportFormat.XLSX, ["a", "b", yuan(-7), None, None]))).worksheets[0]
    assert (sheet["C2"].value, sheet["C2"].data_type, sheet["D2"].value) == (-0.07, "n", None)


def test_csv_says_that_it_is_utf8_and_an_empty_report_has_its_headings() -> None:
    body = made(ReportFormat.CSV)
    assert body.startswith(b"\xef\xbb\xbf") and body.count(b"\xef\xbb\xbf") == 1 and body.endswith(b"\r\n")
    assert read_csv(body) == [HEADINGS]
    sheet = load_workbook(io.BytesIO(made(ReportFormat.XLSX))).worksheets[0]
    assert [cell.value for cell in sheet[1]] == HEADINGS and sheet["A1"].font.bold and sheet.max_row == 1
