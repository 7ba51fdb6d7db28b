"""What can be said about a file of bills: one code per fact, with its sentence in Chinese and in English. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_SENTENCES: Mapping[str, tuple[str, str]] = {
    # about the file
    "file_unreadable": (
        "文件无法读取，请另存为 .xlsx 或 .csv 后重试。",
        "The file cannot be read: save it as .xlsx or .csv.",
    ),
    "file_old_or_locked": (
        "这是旧版 .xls 或加了密码的文件，请去掉密码并另存为 .xlsx。",
        "An old .xls or a file with a password: save it as .xlsx without a password.",
    ),
    "encoding_unknown": (
        "文件的文字编码无法识别，请另存为 UTF-8 编码的 CSV。",
        "The text encoding is neither UTF-8 nor GB18030.",
    ),
    "csv_broken": ("这一行的引号不成对，后面的内容无法读取。", "A quotation mark on this line is not closed properly."),
    "too_many_rows": ("数据超过 {limit} 行，请拆成几个文件。", "More than {limit} rows: split the file."),
    "too_many_columns": ("超过 {limit} 列，请只保留账单需要的列。", "More than {limit} columns."),
    "no_rows": ("文件里没有账单数据。", "The file holds no bills."),
    "column_missing": ("缺少“{name}”这一列。", "The column “{name}” is missing."),
    "column_repeated": (
        "第 {first} 列和第 {second} 列都是“{name}”，请只保留一列。",
        "Columns {first} and {second} are both “{name}”.",
    ),
    "column_unit": (
        "表头“{header}”的单位不是元。金额和单价请以元为单位，并把表头写成“{name}(元)”。",
        "The heading “{header}” is not in yuan.",
    ),
    # about a cell
    "cell_is_error": ("单元格是公式错误（{value}）。", "The cell holds a formula error ({value})."),
    "formula_without_value": (
        "单元格的公式没有保存计算结果，请用表格软件打开并保存一次。",
        "The formula was never computed: open the file in a spreadsheet program and save it.",
    ),
    "value_missing": ("必填，但这里是空的。", "This must not be empty."),
    "text_too_long": ("最多 {limit} 个字。", "At most {limit} characters."),
    "text_unprintable": ("含有无法显示的字符，请重新输入。", "There are control characters in the text."),
    "number_not_understood": ("“{value}”不是数字。", "“{value}” is not a number."),
    "number_negative": ("不能是负数（{value}）。", "Must not be negative ({value})."),
    "number_too_precise": ("最多 {places} 位小数（现在是 {value}）。", "At most {places} decimals, not {value}."),
    "number_too_large": ("数字太大（{value}）。", "The number {value} is too large."),
    "date_not_understood": (
        "“{value}”不是日期，请写成 2026-12-10。",
        "“{value}” is not a date: write 2026-12-10.",
    ),
    "date_out_of_range": (
        "日期 {value} 不在 2000 年到 2099 年之间。",
        "The date {value} is not between 2000 and 2099.",
    ),
    "period_not_understood": (
        "“{value}”不是费用期间，请写成 2026-11 或 2026-11-01~2026-11-30。",
        "“{value}” is not a period: write 2026-11 or 2026-11-01~2026-11-30.",
    ),
    "period_backwards": ("费用期间“{value}”的起止日期颠倒了。", "The period “{value}” ends before it begins."),
    # about a row
    "room_unknown": ("没有“{value}”这个房屋。{closest_zh}", "There is no room “{value}”.{closest_en}"),
    "room_ambiguous": (
        "“{value}”可能是 {candidates}，请写房屋全称。",
        "“{value}” may be {candidates}: write the full name.",
    ),
    "fee_item_unknown": (
        "没有“{value}”这个收费项目（现有：{known}）。",
        "There is no fee item “{value}” (known: {known}).",
    ),
    "fee_item_ambiguous": (
        "“{value}”可能是 {candidates}，请改用另一个写法。",
        "“{value}” may be {candidates}: write it another way.",
    ),
    "fee_item_inactive": ("收费项目“{value}”已停用。", "The fee item “{value}” is no longer in use."),
    "owner_missing": (
        "{room} 在 {day} 没有登记业主，不知道向谁收费。",
        "{room} has no owner on the register on {day}.",
    ),
    "owner_ambiguous": (
        "{room} 在 {day} 有多位业主（{names}），请在“户名”列写明是哪一位。",
        "{room} has several owners on {day} ({names}): name one in the column 户名.",
    ),
    "owner_unknown": (
        "{room} 在 {day} 的业主是{names}，不是“{value}”。",
        "On {day} the owner of {room} is {names}, not “{value}”.",
    ),
    "amount_missing": (
        "没有金额；不填金额时，数量和单价都要填。",
        "No amount; without one, quantity and unit price are both needed.",
    ),
    "amount_zero": ("金额不能是 0。", "The amount must not be 0."),
    "amount_differs": (
        "金额是 {amount} 元，但 {quantity} × {unit_price} 四舍五入是 {product} 元。",
        "The amount says {amount}, but {quantity} × {unit_price} rounds to {product}.",
    ),
    "amount_too_large": ("金额超出一张账单的上限。", "The amount exceeds what a bill may carry."),
    "lines_differ": (
        "和第 {other} 行是同一张账单，但“{name}”不一样（{mine} / {theirs}）。",
        "This is the same bill as row {other}, but “{name}” differs ({mine} / {theirs}).",
    ),
    "too_many_lines": ("一张账单最多 {limit} 行明细。", "A bill has at most {limit} lines."),
    "bill_exists_differs": (
        "这笔费用已有账单，但“{name}”不一样：已有 {theirs}，文件是 {mine}。要更正请先作废原账单。",
        "There is a bill for this already, but “{name}” differs: it says {theirs}, the file {mine}.",
    ),
    # notices: they keep nothing from being imported
    "column_unknown": ("不认识“{name}”这一列，已忽略。", "The column “{name}” is not known and is ignored."),
    "other_sheets": (
        "只读取工作表“{used}”，忽略了：{ignored}。",
        "Only the sheet “{used}” is read; ignored: {ignored}.",
    ),
    "example_row": ("示例行，已忽略。", "An example row, ignored."),
    "total_row": ("合计行，已忽略。", "A row of totals, ignored."),
    "zero_amount": ("算出来是 0 元，不出账单。", "It comes to 0, so there is no bill."),
    "row_repeated": (
        "和第 {other} 行完全一样，两行都会计入账单，请确认没有重复。",
        "The same as row {other}; both are counted. Make sure that this is meant.",
    ),
    "period_overlaps": (
        "{room} 已有账单“{title}”与这个期间重叠，请确认没有重复收费。",
        "{room} already has the bill “{title}” for an overlapping period.",
    ),
}
CODES = frozenset(_SENTENCES)
"""Every code that a plan can hold."""


@dataclass(frozen=True)
class Remark:
    """One thing to say. ``line`` is the row number that a spreadsheet program shows (None: about the whole file),
    ``column`` the heading as the file writes it (None: about the whole row)."""

    line: int | None
    column: str | None
    code: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def message(self, language: str = "zh") -> str:
        """The sentence for people."""
        return _SENTENCES[self.code][1 if language == "en" else 0].format_map(self.facts)

    def as_dict(self, language: str = "zh") -> dict[str, Any]:
        """``{line, column, code, message}``."""
        return {"line": self.line, "column": self.column, "code": self.code, "message": self.message(language)}
