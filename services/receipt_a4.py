"""The receipt on A4: a head, a table that goes on over pages with what was carried, a total, a place for the seal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.receipt_paper import NOT_AN_INVOICE, ReceiptDocument, Sheet, period_words, yuan

_WIDTH, _HEIGHT, _MARGIN = 210, 297, 15
_INNER = _WIDTH - 2 * _MARGIN
_SIZE, _LINE, _PAD = 9.5, 4.9, 1.3
_COLUMNS = (("房屋", 40, "L"), ("项目", 61, "L"), ("费用期间", 47, "L"), ("金额（元）", 32, "R"))
_HEAD, _CARRY, _FOOT = 7.5, 7.0, 12
_BOTTOM = _HEIGHT - _MARGIN - _FOOT
_TOTALS = 62  # totals, the place for the seal, and the notes


@dataclass
class _Row:
    """A line of the table, wrapped."""

    cells: Sequence[Sequence[str]]
    height: float
    amount_fen: int


@dataclass
class _Page:
    """What stands on one page. ``carried_fen`` is what the pages before it add up to."""

    carried_fen: int
    rows: list[_Row] = field(default_factory=list)

    @property
    def sum_fen(self) -> int:
        return sum(row.amount_fen for row in self.rows)


def draw_a4(document: ReceiptDocument, sheet: Sheet) -> None:
    """Draw all pages."""
    facts = _facts(document)
    fact_lines = _fact_lines(sheet, facts)
    top = _MARGIN + 26 + sum(fact_lines) * 5.4 + 3
    pages = _paged([_row(sheet, item) for item in document.items], top)
    for position, page in enumerate(pages, start=1):
        sheet.page(_WIDTH, _HEIGHT)
        y = _first_head(document, sheet, facts) if position == 1 else _later_head(document, sheet)
        y = _table(sheet, page, y, first=position == 1, last=position == len(pages))
        if position == len(pages):
            _totals(document, sheet, y)
        _foot(document, sheet, position, len(pages))
        if document.voided_on:
            sheet.stamp(f"作废 {document.voided_on}", 55, 150, 40)


def _paged(rows: Sequence[_Row], first_top: float) -> list[_Page]:
    """The rows over pages: every page leaves room for what it carries on, the last one for the totals."""
    later_top = _MARGIN + 13 + _CARRY
    pages, y = [_Page(0)], first_top + _HEAD
    for row in rows:
        if y + row.height > _BOTTOM - _CARRY and pages[-1].rows:
            pages.append(_Page(pages[-1].carried_fen + pages[-1].sum_fen))
            y = later_top + _HEAD
        pages[-1].rows.append(row)
        y += row.height
    if y + _TOTALS > _BOTTOM:
        pages.append(_Page(pages[-1].carried_fen + pages[-1].sum_fen))
    return pages


def _row(sheet: Sheet, item: Mapping[str, Any]) -> _Row:
    texts = (item.get("room") or "—", item["title"], period_words(item), yuan(item["amount_fen"]))
    cells = [
        sheet.wrapped(text, width - 2 * _PAD, _SIZE) for text, (_, width, _align) in zip(texts, _COLUMNS, strict=True)
    ]
    return _Row(cells, max(len(lines) for lines in cells) * _LINE + 2 * _PAD, item["amount_fen"])


def _facts(document: ReceiptDocument) -> list[tuple[str, str]]:
    content = document.content
    facts = [
        ("收据编号", document.number), ("开具日期", document.issued_on.isoformat()),
        ("交款人", document.customer), ("小区", content["community"]),
        ("收款方式", document.how_paid), ("支付时间", document.paid_at),
        ("交易单号", content.get("transaction_id") or "—"), ("核验码", document.check_code),
    ]  # fmt: skip
    return facts


_LABEL, _LEFT, _RIGHT = 19, 84, 58


def _fact_lines(sheet: Sheet, facts: Sequence[tuple[str, str]]) -> list[int]:
    pairs = zip(facts[::2], facts[1::2], strict=True)
    return [
        max(len(sheet.wrapped(left[1], _LEFT, _SIZE)), len(sheet.wrapped(right[1], _RIGHT, _SIZE)))
        for left, right in pairs
    ]


def _first_head(document: ReceiptDocument, sheet: Sheet, facts: Sequence[tuple[str, str]]) -> float:
    sheet.draw(_MARGIN, _MARGIN, "收　　据", 22, width_mm=_INNER, align="C", strong=True)
    sheet.draw(_MARGIN, _MARGIN, document.copy_words, 9, width_mm=_INNER, align="R", grey=90)
    entity = sheet.wrapped(document.content["legal_entity"], _INNER, 12)[0]
    sheet.draw(_MARGIN, _MARGIN + 13, entity, 12, width_mm=_INNER, align="C")
    y = _MARGIN + 24.0
    for lines, left, right in zip(_fact_lines(sheet, facts), facts[::2], facts[1::2], strict=True):
        for x, width, (label, value) in ((_MARGIN, _LEFT, left), (_MARGIN + _LABEL + _LEFT, _RIGHT, right)):
            sheet.draw(x, y, label, _SIZE, grey=100)
            for number, line in enumerate(sheet.wrapped(value, width, _SIZE)):
                sheet.draw(x + _LABEL, y + number * 5.4, line, _SIZE)
        y += lines * 5.4
    return y + 5


def _later_head(document: ReceiptDocument, sheet: Sheet) -> float:
    sheet.draw(_MARGIN, _MARGIN, f"收据 {document.number}（续）", 10)
    sheet.draw(_MARGIN, _MARGIN, document.copy_words, 9, width_mm=_INNER, align="R", grey=90)
    return _MARGIN + 9


def _cells(sheet: Sheet, y: float, cells: Sequence[Sequence[str]], height: float, *, grey: int = 0) -> None:
    x = float(_MARGIN)
    for lines, (_, width, align) in zip(cells, _COLUMNS, strict=True):
        for number, line in enumerate(lines):
            top = y + _PAD + number * _LINE
            sheet.draw(x + _PAD, top, line, _SIZE, width_mm=width - 2 * _PAD, align=align, grey=grey)
        x += width
    sheet.line(_MARGIN, y + height, _MARGIN + _INNER, y + height, grey=190, width=0.15)


def _table(sheet: Sheet, page: _Page, y: float, *, first: bool, last: bool) -> float:
    sheet.pdf.set_fill_color(240)
    sheet.pdf.rect(_MARGIN, y, _INNER, _HEAD, style="F")
    _cells(sheet, y, [[name] for name, _, _ in _COLUMNS], _HEAD)
    sheet.line(_MARGIN, y, _MARGIN + _INNER, y)
    sheet.line(_MARGIN, y + _HEAD, _MARGIN + _INNER, y + _HEAD)
    y += _HEAD
    if not first:
        y = _carry(sheet, y, "承前页", page.carried_fen)
    for row in page.rows:
        _cells(sheet, y, row.cells, row.height)
        y += row.height
    if not last:
        words = f"本页小计 {yuan(page.sum_fen)}　　过次页"
        y = _carry(sheet, y, words, page.carried_fen + page.sum_fen)
    return y


def _carry(sheet: Sheet, y: float, words: str, fen: int) -> float:
    sheet.draw(_MARGIN + _PAD, y + _PAD, words, _SIZE, grey=90)
    sheet.draw(_MARGIN + _PAD, y + _PAD, yuan(fen), _SIZE, width_mm=_INNER - 2 * _PAD, align="R", grey=90)
    sheet.line(_MARGIN, y + _CARRY, _MARGIN + _INNER, y + _CARRY)
    return y + _CARRY


def _totals(document: ReceiptDocument, sheet: Sheet, y: float) -> None:
    sheet.line(_MARGIN, y, _MARGIN + _INNER, y)
    inner = _INNER - 2 * _PAD
    sheet.draw(_MARGIN + _PAD, y + 2.2, f"合计（共 {len(document.items)} 项）", 11)
    sheet.draw(_MARGIN + _PAD, y + 2, f"¥{yuan(document.total_fen)}", 13, width_mm=inner, align="R", strong=True)
    capitals = f"人民币（大写）　{document.content['amount_in_capitals']}"
    sheet.draw(_MARGIN + _PAD, y + 10.5, capitals, 11)
    if document.refunded_fen:
        refunded = f"其中已退款 ¥{yuan(document.refunded_fen)}"
        sheet.draw(_MARGIN + _PAD, y + 10.5, refunded, 11, width_mm=inner, align="R")
    sheet.line(_MARGIN, y + 18, _MARGIN + _INNER, y + 18)
    y += 22
    facts = [("收款单位", document.content["legal_entity"]), ("税号", document.content.get("tax_number")),
             ("经办人", document.handled_by), ("打印时间", document.printed_words)]  # fmt: skip
    top = y
    for label, value in facts:
        if value:
            sheet.draw(_MARGIN, top, label, _SIZE, grey=100)
            for line in sheet.wrapped(value, 94, _SIZE)[:2]:
                sheet.draw(_MARGIN + _LABEL, top, line, _SIZE)
                top += 5.4
    sheet.draw(_MARGIN + 122, y, "收款单位（盖章）", _SIZE, grey=100)
    sheet.pdf.set_dash_pattern(dash=1.2, gap=1.2)
    sheet.pdf.set_draw_color(170)
    sheet.pdf.rect(_MARGIN + 122, y + 6, 58, 30)
    sheet.pdf.set_dash_pattern()


def _foot(document: ReceiptDocument, sheet: Sheet, position: int, pages: int) -> None:
    y = _HEIGHT - _MARGIN - 8
    if note := sheet.missing_words():
        sheet.draw(_MARGIN, y - 5, note, 7.5, grey=90)
    sheet.line(_MARGIN, y, _MARGIN + _INNER, y, grey=190, width=0.15)
    sheet.draw(_MARGIN, y + 2, NOT_AN_INVOICE, 8, grey=90)
    sheet.draw(_MARGIN, y + 2, f"第 {position} 页 / 共 {pages} 页", 8, width_mm=_INNER, align="R", grey=90)
