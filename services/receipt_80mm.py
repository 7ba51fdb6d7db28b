"""The receipt on an 80 mm roll: as long as what it says, no picture, 2 mm left free at each edge."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.receipt_paper import NOT_AN_INVOICE, ReceiptDocument, Sheet, period_words, yuan

_WIDTH, _MARGIN = 80, 2
_INNER = _WIDTH - 2 * _MARGIN
_LONGEST = 3000  # mm; PDF viewers take no page of more than 5,080


@dataclass
class _Block:
    """Something of a known height that is not broken."""

    height: float
    draw: Callable[[float], None]


@dataclass
class _Roll:
    """Blocks one below the other."""

    sheet: Sheet
    blocks: list[_Block] = field(default_factory=list)

    def text(self, text: object, size: float = 8.5, *, align: str = "L", strong: bool = False, grey: int = 0) -> None:
        """A paragraph over the whole width."""
        for line in self.sheet.wrapped(text, _INNER, size):
            self._line(size, [(line, align, strong, grey)])

    def pair(self, left: object, right: object, size: float = 8.5, *, strong: bool = False) -> None:
        """Left and right; a left that is too long goes on below, a right that is too long has a line of its own."""
        wide = self.sheet.width(right, size)
        room = _INNER - wide - 3
        if room < _INNER / 3:
            self.text(left, size)
            for line in self.sheet.wrapped(right, _INNER, size):
                self._line(size, [(line, "R", strong, 0)])
            return
        first, *more = self.sheet.wrapped(left, room, size)
        self._line(size, [(first, "L", False, 0), (right, "R", strong, 0)])
        for line in more:
            self._line(size, [(line, "L", False, 0)])

    def _line(self, size: float, parts: list[tuple[object, str, bool, int]]) -> None:
        def draw(y: float) -> None:
            for text, align, strong, grey in parts:
                self.sheet.draw(_MARGIN, y, text, size, width_mm=_INNER, align=align, strong=strong, grey=grey)

        self.blocks.append(_Block(size * 0.52, draw))

    def rule(self) -> None:
        """A dashed line."""

        def draw(y: float) -> None:
            self.sheet.pdf.set_dash_pattern(dash=1, gap=0.8)
            self.sheet.line(_MARGIN, y + 1.5, _WIDTH - _MARGIN, y + 1.5, grey=0)
            self.sheet.pdf.set_dash_pattern()

        self.blocks.append(_Block(3, draw))

    def space(self, height: float) -> None:
        """Nothing."""
        self.blocks.append(_Block(height, lambda _y: None))


def draw_80mm(document: ReceiptDocument, sheet: Sheet) -> None:
    """Draw the roll; one that would be longer than 3 m goes on in a further piece."""
    roll = _Roll(sheet)
    _head(document, roll)
    for item in document.items:
        _item(roll, item)
    _end(document, roll)
    for piece in _pieces(roll.blocks):
        sheet.page(_WIDTH, sum(block.height for block in piece) + 2 * _MARGIN)
        y = float(_MARGIN)
        for block in piece:
            block.draw(y)
            y += block.height
    if document.voided_on:
        sheet.stamp(f"作废 {document.voided_on}", 8, 95, 22)


def _pieces(blocks: list[_Block]) -> list[list[_Block]]:
    pieces: list[list[_Block]] = [[]]
    height = 0.0
    for block in blocks:
        if height + block.height > _LONGEST:
            pieces.append([])
            height = 0.0
        pieces[-1].append(block)
        height += block.height
    return pieces


def _head(document: ReceiptDocument, roll: _Roll) -> None:
    content = document.content
    roll.text("收　据", 15, align="C", strong=True)
    roll.space(1)
    roll.text(content["legal_entity"], 9.5, align="C")
    roll.text(document.copy_words, 8, align="C")
    roll.rule()
    for label, value in (
        ("编号", document.number), ("开具日期", document.issued_on.isoformat()), ("小区", content["community"]),
        ("交款人", document.customer), ("收款方式", document.how_paid), ("支付时间", document.paid_at),
        ("交易单号", content.get("transaction_id") or "—"), ("核验码", document.check_code),
    ):  # fmt: skip
        roll.pair(label, value)
    roll.rule()


def _item(roll: _Roll, item: Mapping[str, Any]) -> None:
    roll.pair(item["title"], yuan(item["amount_fen"]), 9)
    about = [str(part) for part in (item.get("room"), period_words(item)) if part and part != "—"]
    for words in about:
        roll.text(words, 7.5, grey=70)
    roll.space(1)


def _end(document: ReceiptDocument, roll: _Roll) -> None:
    roll.rule()
    roll.pair(f"合计（共 {len(document.items)} 项）", f"¥{yuan(document.total_fen)}", 11, strong=True)
    roll.text(f"人民币（大写）{document.content['amount_in_capitals']}", 9)
    if document.refunded_fen:
        roll.pair("其中已退款", f"¥{yuan(document.refunded_fen)}", 9)
    roll.rule()
    if tax_number := document.content.get("tax_number"):
        roll.pair("税号", tax_number)
    roll.pair("经办人", document.handled_by)
    if document.printed_words:
        roll.pair("打印时间", document.printed_words)
    roll.space(2)
    roll.text("收款单位（盖章）：", 8.5)
    roll.space(16)
    roll.text(NOT_AN_INVOICE, 7.5, grey=70)
    if note := roll.sheet.missing_words():
        roll.text(note, 7, grey=70)
    roll.space(3)
