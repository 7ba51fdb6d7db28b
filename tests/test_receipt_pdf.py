"""The receipt on paper: every word of it can be read back, on A4 and on the roll, however much or strange it is."""

import io
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from pypdf import PdfReader
from pypdf.generic import NameObject

from kit.money import chinese_capitals
from models.receipt import ReceiptFormat
from services.receipt_pdf import PrintMark, ReceiptDocument, receipt_pdf

A4, ROLL = ReceiptFormat.A4, ReceiptFormat.ROLL_80MM


def item(title: str = "2026年11月物业费", fen: int = 25068, **values: Any) -> dict[str, Any]:
    return {"room": "3栋1单元1201", "title": title, "period_from": "2026-11-01", "period_to": "2026-11-30",
            "amount_fen": fen} | values  # fmt: skip


def document(*items: dict[str, Any], **values: Any) -> ReceiptDocument:
    total = sum(one["amount_fen"] for one in items)
    content = {
        "legal_entity": "晴川物业服务有限公司", "tax_number": "91000000MA00000X0Q", "community": "晴川花园",
        "items": list(items), "amount_fen": total, "amount_in_capitals": chinese_capitals(total),
        "channel": "wechat_jsapi", "transaction_id": "4200036129202611236448465189",
        "paid_at": "2026-11-23T13:12:40+08:00",
    } | values.pop("content", {})  # fmt: skip
    known = {"number": "QCHY-3694-2026-000143", "issued_on": date(2026, 11, 23), "check_code": "7K2M-9QXD",
             "customer": "业主甲"}  # fmt: skip
    return ReceiptDocument(**known | values, content=content)


def pages(body: bytes) -> list[str]:
    """The text of each page, without its white space: where a line ends is for the paper to say."""
    reader = PdfReader(io.BytesIO(body))
    for page in reader.pages:
        for font in page["/Resources"]["/Font"].values():
            # The codes are two bytes each, by a CMap inside the file: viewers read it, pypdf must be told.
            font.get_object()[NameObject("/Encoding")] = NameObject("/Identity-H")
    return ["".join(page.extract_text().split()) for page in reader.pages]


def size_mm(body: bytes) -> tuple[float, float]:
    box = PdfReader(io.BytesIO(body)).pages[0].mediabox
    return round(float(box.width) / 72 * 25.4, 1), round(float(box.height) / 72 * 25.4, 1)


@pytest.mark.parametrize("paper", ReceiptFormat)
def test_everything_that_it_says_can_be_read_back(paper: ReceiptFormat) -> None:
    made = receipt_pdf(document(item(), item("2026年10月水费", 3000, period_from=None)), paper)

    (text,) = pages(made.body)
    for words in (
        "收据", "晴川物业服务有限公司", "91000000MA00000X0Q", "晴川花园", "QCHY-3694-2026-000143", "2026-11-23",
        "业主甲", "微信支付", "4200036129202611236448465189", "2026-11-2313:12:40", "7K2M-9QXD", "3栋1单元1201",
        "2026年11月物业费", "2026-11-01至2026-11-30", "250.68", "2026年10月水费", "30.00", "合计（共2项）", "¥280.68",
        "人民币（大写）贰佰捌拾元陆角捌分", "盖章", "不作为发票", "系统自动开具", "电子收据",
    ):  # fmt: skip
        assert words in text, words
    assert made.missing == () and "作废" not in text and "补打" not in text
    assert len(made.body) < 60_000
    assert size_mm(made.body)[0] == (210.0 if paper is A4 else 80.0)
    assert paper is ROLL or size_mm(made.body)[1] == 297.0


def test_the_font_is_embedded_and_says_what_its_letters_mean() -> None:
    reader = PdfReader(io.BytesIO(receipt_pdf(document(item()), A4).body))
    fonts = [font.get_object() for page in reader.pages for font in page["/Resources"]["/Font"].values()]
    assert fonts
    for font in fonts:
        descriptor = font["/DescendantFonts"][0].get_object()["/FontDescriptor"]
        assert "/FontFile3" in descriptor and "/ToUnicode" in font
    assert [len(page.images) for page in reader.pages] == [0]


def test_a_thousand_items_go_over_pages_with_what_was_carried() -> None:
    items = [item(f"项目{number:04d}号", 10_000 + number) for number in range(1000)]
    texts = pages(receipt_pdf(document(*items), A4).body)

    whole = "".join(texts)
    assert [f"项目{number:04d}号" in whole for number in range(1000)] == [True] * 1000
    carried = 0
    for position, text in enumerate(texts, start=1):
        assert "房屋项目费用期间金额（元）" in text and f"第{position}页/共{len(texts)}页" in text
        here = sum(10_000 + number for number in range(1000) if f"项目{number:04d}号" in text)
        if position > 1:
            assert f"承前页{yuan(carried)}" in text
        carried += here
        if position < len(texts):
            assert f"本页小计{yuan(here)}" in text and f"过次页{yuan(carried)}" in text
    assert carried == sum(one["amount_fen"] for one in items) and f"¥{yuan(carried)}" in texts[-1]
    assert len(texts) > 25


def yuan(fen: int) -> str:
    return f"{fen // 100:,}.{fen % 100:02d}"


def test_a_roll_is_as_long_as_what_it_says_and_never_longer_than_a_viewer_takes() -> None:
    short, longer = (size_mm(receipt_pdf(document(*[item()] * count), ROLL).body)[1] for count in (1, 11))
    assert 100 < short < longer and 100 < longer - short < 200
    many = receipt_pdf(document(*[item(f"项目{number:04d}号", 1) for number in range(300)]), ROLL).body
    texts, whole = pages(many), "".join(pages(many))
    assert all(f"项目{number:04d}号" in whole for number in range(300)) and "合计（共300项）" in texts[-1]
    assert len(texts) == 2 and size_mm(many)[1] <= 3010


NAME, TITLE, WORD = "欧阳买买提江·" * 8, "二零二六年度地下车库人防车位管理服务费及公共照明能耗分摊（" * 3, "W" * 150
HARD = document(
    item(TITLE), item(WORD), item("🚗车位\u200d费\ufe0f"), item("{nb} **粗** __线__ <b>x</b>\n\x00\t第二行"),
    customer=f"{NAME}𠮷田㙓", mark=PrintMark(2, "收费员乙", datetime(2026, 11, 23, 6, tzinfo=UTC)),
    voided_on=date(2026, 11, 24),
)  # fmt: skip


@pytest.mark.parametrize("paper", ReceiptFormat)
def test_what_is_long_or_strange(paper: ReceiptFormat) -> None:
    made = receipt_pdf(HARD, paper)
    (text,) = pages(made.body)

    # What is long goes on in further lines, and stays whole.
    names = text.replace("小区晴川花园", "").replace("250.68", "")  # what stands beside its first line
    assert NAME in names and TITLE in names and WORD in names
    # What the font has not is marked and listed, and never another letter.
    assert made.missing == ("\U0001f697", "\U00020bb7")
    assert "〓田㙓" in text and "〓车位费" in text and "U+1F697、U+20BB7" in text
    # What means something to a layout is only its signs.
    assert "{nb}**粗**__线__<b>x</b>第二行" in text
    # A second print says that it is one, by whom and when; a voided receipt says so across the page.
    assert "补打（第2次打印）" in text and "收费员乙" in text and "2026-11-2314:00" in text
    assert "作废2026-11-24" in text
    # The same receipt is the same file, to the byte.
    assert receipt_pdf(HARD, paper) == made


def test_a_first_print_is_no_duplicate() -> None:
    assert HARD.mark is not None
    assert (replace(HARD, mark=replace(HARD.mark, copy_number=1)).copy_words, HARD.copy_words) == (
        "第 1 次打印",
        "补打（第 2 次打印）",
    )
