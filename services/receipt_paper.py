"""What a receipt on paper is made of: its words, and a sheet to write them on in millimetres.

Noto Sans SC is embedded as a subset, so that every machine draws the same letters. A character that the font has not is
never drawn as another one: it becomes 〓, the printers' old mark for a sort that is missing, and is listed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from functools import cache
from typing import Any

from fontTools.ttLib import TTFont
from fpdf import FPDF
from fpdf.enums import TextMode
from pylopdf_fonts_zh_cn import sans_path

from kit.clock import BEIJING
from kit.money import format_yuan

MISSING = "〓"
FONT = "NotoSansSC"
NOT_AN_INVOICE = "本收据为收款凭证，不作为发票使用；需要发票请联系物业服务中心。"

_CHANNELS = {
    "wechat_jsapi": "微信支付",
    "surplus": "溢收款转入",
    "cash": "现金",
    "pos": "POS 刷卡",
    "bank_transfer": "银行转账",
    "prepaid": "预存款抵扣",
    "deposit": "押金抵扣",
}
# Drawn as nothing by everybody: joiners, variation selectors, marks of direction, byte order marks.
_INVISIBLE = re.compile(
    "[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]"
)
_SPACE = re.compile(r"(?:[^\S\u3000]|[\x00-\x1f\x7f-\x9f])+")
# What is not torn apart at the end of a line: a word, an opening bracket and what follows it, a mark and what it ends.
_TOKEN = re.compile(r"[（《「“]*(?:[!-~]+|.)[，。、；：！？）》」”]*", re.DOTALL)


@dataclass(frozen=True)
class PrintMark:
    """A copy on paper that a member of staff asked for. ``copy_number`` 1 is the first; later ones are 补打."""

    copy_number: int
    printed_by: str
    printed_at: datetime


@dataclass(frozen=True)
class ReceiptDocument:
    """Everything that a receipt on paper says. ``customer`` is the debtor as its reader may see them; ``content`` is
    that of the receipt, its amounts in fen. ``refunded_fen`` went back since; ``voided_on`` makes it 作废."""

    number: str
    issued_on: date
    check_code: str
    customer: str
    content: Mapping[str, Any]
    mark: PrintMark | None = None
    voided_on: date | None = None
    refunded_fen: int = 0

    @property
    def items(self) -> Sequence[Mapping[str, Any]]:
        return list(self.content["items"])

    @property
    def total_fen(self) -> int:
        return int(self.content["amount_fen"])

    @property
    def handled_by(self) -> str:
        return self.mark.printed_by if self.mark else "系统自动开具"

    @property
    def copy_words(self) -> str:
        """``补打（第 2 次打印）`` from the second copy on; ``电子收据`` for what nobody printed."""
        if self.mark is None:
            return "电子收据"
        again = self.mark.copy_number > 1
        return f"补打（第 {self.mark.copy_number} 次打印）" if again else "第 1 次打印"

    @property
    def printed_words(self) -> str:
        """When it was printed, in Beijing; empty for what nobody printed."""
        return f"{self.mark.printed_at.astimezone(BEIJING):%Y-%m-%d %H:%M}" if self.mark else ""

    @property
    def how_paid(self) -> str:
        channel = str(self.content["channel"])
        return _CHANNELS.get(channel, channel)

    @property
    def paid_at(self) -> str:
        return str(self.content.get("paid_at") or "—")[:19].replace("T", " ")

    @property
    def made_at(self) -> datetime:
        """The moment that the file bears: of its content, not of its making, so that its bytes are always the same."""
        return self.mark.printed_at if self.mark else datetime.combine(self.issued_on, time(), UTC)


def period_words(item: Mapping[str, Any]) -> str:
    """``2026-11-01 至 2026-11-30``, or a dash."""
    first, last = item.get("period_from"), item.get("period_to")
    return f"{first} 至 {last}" if first and last else "—"


@cache
def drawable() -> frozenset[int]:
    """The code points that the font has; read once a process."""
    with TTFont(sans_path(), lazy=True) as font:
        return frozenset(font.getBestCmap())


@dataclass
class Sheet:
    """A PDF under way. Every text goes through ``draw``; ``missing`` holds the characters the font had not."""

    made_at: datetime
    title: str
    author: str
    missing: set[str] = field(default_factory=set)
    pdf: FPDF = field(init=False)

    def __post_init__(self) -> None:
        self.pdf = FPDF(unit="mm")
        self.pdf.set_auto_page_break(False)
        self.pdf.alias_nb_pages("")  # a name that holds {nb} is a name
        self.pdf.add_font(FONT, fname=sans_path())
        self.pdf.set_creation_date(self.made_at)
        self.pdf.set_title(self.plain(self.title))
        self.pdf.set_author(self.plain(self.author))
        self.pdf.set_lang("zh-CN")
        self.pdf.set_margin(0)
        self.pdf.c_margin = 0

    def page(self, width_mm: float, height_mm: float) -> None:
        """Begin a page of this size."""
        self.pdf.add_page(format=(width_mm, height_mm))

    def plain(self, text: object) -> str:
        """One line of characters that the font has."""
        kept = []
        for character in _INVISIBLE.sub("", _SPACE.sub(" ", str(text))):
            if ord(character) in drawable():
                kept.append(character)
            else:
                self.missing.add(character)
                kept.append(MISSING)
        return "".join(kept).strip()

    def width(self, text: object, size: float) -> float:
        """How wide the text is, in mm."""
        self.pdf.set_font(FONT, size=size)
        return float(self.pdf.get_string_width(self.plain(text)))

    def wrapped(self, text: object, width_mm: float, size: float) -> list[str]:
        """The text in lines that fit the width; a word of Latin letters or digits is broken only if it must be."""
        self.pdf.set_font(FONT, size=size)
        lines, line, used = [], "", 0.0
        for token in _TOKEN.findall(self.plain(text)):
            wide = self.pdf.get_string_width(token)
            pieces = [token] if wide <= width_mm else list(token)
            for piece in pieces:
                wide = self.pdf.get_string_width(piece)
                if line and used + wide > width_mm:
                    lines.append(line.rstrip())
                    line, used = "", 0.0
                    piece = piece.lstrip()
                line, used = line + piece, used + wide
        return [*lines, line] if line or not lines else lines

    def draw(
        self, x_mm: float, y_mm: float, text: object, size: float, *, width_mm: float = 0, align: str = "L",
        strong: bool = False, grey: int = 0,
    ) -> None:  # fmt: skip
        """Write one line with its top at ``y_mm``; ``strong`` is drawn with a thin outline: the font has one weight."""
        pdf = self.pdf
        pdf.set_font(FONT, size=size)
        pdf.set_text_color(grey)
        pdf.set_xy(x_mm, y_mm)
        if not strong:
            pdf.cell(width_mm or None, size * 0.5, self.plain(text), align=align)
            return
        pdf.set_draw_color(grey)
        with pdf.local_context(text_mode=TextMode.FILL_STROKE, line_width=size * 0.008):
            pdf.cell(width_mm or None, size * 0.5, self.plain(text), align=align)

    def line(
        self, x1_mm: float, y1_mm: float, x2_mm: float, y2_mm: float, *, grey: int = 60, width: float = 0.2
    ) -> None:
        """A straight line."""
        self.pdf.set_draw_color(grey)
        self.pdf.set_line_width(width)
        self.pdf.line(x1_mm, y1_mm, x2_mm, y2_mm)

    def stamp(self, word: str, x_mm: float, y_mm: float, size: float) -> None:
        """A word across the page, framed and turned, in red."""
        pdf = self.pdf
        with pdf.rotation(20, x_mm, y_mm):
            pdf.set_font(FONT, size=size)
            pdf.set_text_color(200, 40, 40)
            pdf.set_draw_color(200, 40, 40)
            pdf.set_line_width(0.8)
            pdf.set_xy(x_mm, y_mm)
            pdf.cell(pdf.get_string_width(word) + size * 0.4, size * 0.5, word, border=1, align="C")

    def missing_words(self) -> str:
        """The note that lists what the font had not, by code point; empty when it had everything."""
        if not self.missing:
            return ""
        codes = "、".join(f"U+{ord(one):04X}" for one in sorted(self.missing)[:12])
        return f"注：{MISSING} 为字库以外的字（{codes}{' 等' if len(self.missing) > 12 else ''}），以登记信息为准。"


def yuan(fen: int) -> str:
    """25068 → ``250.68``, in groups of three: it is read by people."""
    whole, _, cents = format_yuan(fen).partition(".")
    return f"{int(whole):,}.{cents}" if whole != "-0" else f"-0.{cents}"
