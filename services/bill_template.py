"""An empty sheet of bills to fill in, with two examples and an explanation."""

import io
from uuid import UUID

from openpyxl import Workbook
from openpyxl.styles import Font, PatternFill
from openpyxl.utils import get_column_letter

from models.access import Act, Actor, require
from models.base import get_visible
from models.community import Community
from models.fee_item import FeeItem
from services.bill_sheet import COLUMNS, EXAMPLE, heading_row

_EXAMPLES = (
    {"room": f"{EXAMPLE}3栋1单元1201", "fee_item": "物业费", "period": "2026-11", "quantity": "89.53", "unit": "m²",
     "unit_price": "2.80", "amount": "250.68", "due_on": "2026-12-10", "formula": "89.53 m² × 2.80 元/m²·月"},
    {"room": f"{EXAMPLE}3-1-1201", "fee_item": "水费", "period": "2026-11-01~2026-11-30", "amount": "36.00",
     "due_on": "2026-12-10", "formula": "抄表 1263 → 1272，9 m³ × 4.00 元/m³"},
)  # fmt: skip
_NOTES = (
    "标 * 的列必填；列的顺序可以改变，不需要的列可以删除。",
    "房号写全称（3栋1单元1201）或简写（3-1-1201）。",
    "费用期间写 2026-11，或 2026-11-01~2026-11-30。",
    "数量和单价都填写时，金额可以不填；填写则必须等于两者之积（四舍五入到分）。",
    "同一房屋、同一收费项目、同一期间的几行合为一张账单。",
    "房屋在期间最后一天有多位业主时，在“户名”列写明向谁收费。",
    f"以“{EXAMPLE}”开头的行不会导入。",
)


async def bills_template(actor: Actor, community_id: UUID) -> bytes:
    """An .xlsx file with the headings, two examples (which are never imported) and an explanation that lists the
    community's fee items. All cells are text, so that 2026-11 stays what was typed. Refuses as an import does."""
    community = await get_visible(Community.visible_to(actor), community_id)
    require(actor, Act.BILL_ISSUE, community_id=community.id)
    items = await FeeItem.filter(community_id=community.id, active=True).order_by("code")
    return build_template([f"{item.name}（{item.code}）" for item in items])


def build_template(fee_items: list[str]) -> bytes:
    """The file itself."""
    book = Workbook()
    book.remove(book.worksheets[0])
    sheet = book.create_sheet("账单")
    fields = list(COLUMNS)
    for at, (name, heading) in enumerate(zip(fields, heading_row(), strict=True), start=1):
        cell = sheet.cell(1, at, ("*" if COLUMNS[name].needed else "") + heading)
        cell.font = Font(bold=True)
        cell.fill = PatternFill("solid", fgColor="E8EEF7")
        sheet.column_dimensions[get_column_letter(at)].width = 24 if name in ("room", "period", "formula") else 14
        sheet.column_dimensions[get_column_letter(at)].number_format = "@"
    for line, example in enumerate(_EXAMPLES, start=2):
        for at, name in enumerate(fields, start=1):
            sheet.cell(line, at, example.get(name)).number_format = "@"
    sheet.freeze_panes = "A2"
    notes = book.create_sheet("说明")
    notes.column_dimensions["A"].width = 90
    for note in (*_NOTES, "本小区的收费项目：" + ("、".join(fee_items) or "还没有")):
        notes.append([note])
    done = io.BytesIO()
    book.save(done)
    return done.getvalue()
