"""WeChat's bills are read by name, to the fen, and not at all when they do not agree with themselves."""

import gzip
import hashlib
import json
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from kit import clock
from payments.gateways import wechat_bill
from payments.gateways.base import BillNotReady, BillUnreadable, GatewayRefused, OutcomeUnknown
from payments.gateways.wechat_bill import fetch_trade_bill, parse_trade_bill
from tests.wechat_bills import HEADER, SUMMARY, Line, written

BILLS = json.loads((Path(__file__).parent / "data/wechat_vectors.json").read_text())["bills"]
AT = datetime(2026, 11, 2, 23, 59, 59, tzinfo=clock.BEIJING)
PAID = Line(AT, "1900000001", "4200000001", "L1", 25068)
BACK = Line(AT, "1900000001", "4200000001", "L1", 5000, refund_id="5030000001")


def official(eol: str = "\r\n", bom: bool = True) -> bytes:
    text = eol.join(BILLS["tradebill_ALL_sample"]["lines"]) + eol
    return (("\ufeff" if bom else "") + text).encode()


def test_the_official_sample_is_read() -> None:
    """Its summary agrees with 45 lines, some written 45.0 and 0.0."""
    assert (
        hashlib.sha1(official(), usedforsecurity=False).hexdigest()
        == BILLS["tradebill_ALL_sample"]["sha1_of_plain_file"]
    )
    bill = parse_trade_bill(official())
    assert (len(bill.lines), bill.paid_fen, bill.refunded_fen) == (45, 47, 14)
    refund = bill.lines[0]
    assert (refund.refund_id, refund.out_refund_no) == ("50000709672019011908420787722",
                                                        "REF4200000263201902167700963919")  # fmt: skip
    assert (refund.amount_fen, refund.refund_state, refund.sub_mchid) == (1, "SUCCESS", None)
    first = next(line for line in bill.lines if line.refund_id is None)
    assert (first.transaction_id, first.out_trade_no, first.amount_fen) == (
        "4200000263201902167700134902", "autotest_20190219015232_89201", 3)  # fmt: skip
    assert first.occurred_at.isoformat() == "2019-02-19T01:52:32+08:00"


@pytest.mark.parametrize(("eol", "bom"), [("\n", True), ("\r\n", False), ("\n", False)])
def test_line_ends_and_the_mark_do_not_matter(eol: str, bom: bool) -> None:
    assert parse_trade_bill(official(eol, bom)) == parse_trade_bill(official())


@pytest.mark.parametrize("kind", ["SUCCESS", "REFUND"])
def test_the_other_kinds_have_other_columns(kind: str) -> None:
    lines = BILLS[f"tradebill_{kind}_sample"]
    assert lines[0] == BILLS["headers"][kind]
    data = [line for line in lines[1:] if line.startswith("`") and line.count(",") == lines[0].count(",")]
    fen = [1 for _ in data]
    summary = f"`{len(fen)},`0,`0,`0,`0,`{'0.01' if kind == 'SUCCESS' else '0.00'},"
    summary += f"`{'0.00' if kind == 'SUCCESS' else '0.01'}"
    bill = parse_trade_bill("\n".join([lines[0], *data, SUMMARY, summary]).encode())
    assert [(line.amount_fen, line.refund_id is None) for line in bill.lines] == [(1, kind == "SUCCESS")]


def test_columns_are_found_by_name() -> None:
    """A column more, in front, changes nothing."""
    lines = written([PAID]).decode().split("\r\n")
    lines[0], lines[1] = "新的列," + lines[0].removeprefix("\ufeff"), "`x," + lines[1]
    assert parse_trade_bill("\n".join(lines).encode()) == parse_trade_bill(written([PAID]))
    assert HEADER == BILLS["headers"]["ALL"] and SUMMARY == BILLS["headers"]["summary"]


SPOILT = {
    "not UTF-8": b"\xff\xfe",
    "no header": b"",
    "columns are missing: 交易时间": written([PAID]).replace("交易时间".encode(), b"x"),
    "columns are missing: 总交易单数": written([PAID]).replace("总交易单数".encode(), b"x"),
    "line 2 has 26 values": written([PAID]).replace(b"`CNY,", b""),
    "line 2: trade state 'MAYBE'": written([PAID]).replace(b"`SUCCESS", b"`MAYBE"),
    "line 2: not an amount": written([PAID]).replace(b"`250.68,`0.00,`\r\n", b"`250.685,`0.00,`\r\n"),
    "line 2: no refund number": written([BACK]).replace(b"`5030000001", b"`0"),
    "line 2: no order number": written([PAID]).replace(b"`L1", b"`"),
    "line 2: time data": written([PAID]).replace(b"2026-11-02", b"02.11.2026"),
    "总交易单数 says 2, the lines give 1": b"\r\n".join(
        line for number, line in enumerate(written([PAID, BACK]).split(b"\r\n")) if number != 2),
    "订单总金额 says 25069": written([PAID]).replace(b"`250.68,`0.00\r\n", b"`250.69,`0.00\r\n"),
    "申请退款总金额 says 5001": written([BACK]).replace(b"`50.00\r\n", b"`50.01\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("words", SPOILT)
def test_a_bill_that_does_not_hold_is_not_used(words: str) -> None:
    with pytest.raises(BillUnreadable, match=words):
        parse_trade_bill(SPOILT[words])


class Wechat:
    """Answers as told."""

    def __init__(self, content: bytes = b"", error: GatewayRefused | None = None, **answer: Any) -> None:
        self.content, self.error, self.asked = content, error, list[str]()
        digest = hashlib.sha1(written([PAID]), usedforsecurity=False).hexdigest()
        self.answer = {
            "hash_type": "SHA1",
            "hash_value": digest.upper(),
            "download_url": "https://x/f?token=1",
        } | answer

    async def get(self, target: str) -> Mapping[str, object]:
        self.asked.append(target)
        if self.error:
            raise self.error
        return self.answer

    async def download(self, url: str, max_bytes: int) -> bytes:
        self.asked.append(url)
        return self.content


async def test_a_bill_is_fetched_unpacked_and_compared_with_its_hash() -> None:
    for content in (gzip.compress(written([PAID])), written([PAID])):
        wechat = Wechat(content)
        assert (await fetch_trade_bill(wechat, date(2026, 11, 2), None)).paid_fen == 25068
        assert wechat.asked == [
            "/v3/bill/tradebill?bill_date=2026-11-02&bill_type=ALL&tar_type=GZIP", "https://x/f?token=1"]  # fmt: skip
    wechat = Wechat(written([PAID]))
    await fetch_trade_bill(wechat, date(2026, 11, 2), "1900000009")
    assert wechat.asked[0].endswith("&sub_mchid=1900000009")


async def test_what_wechat_says_instead_of_a_bill() -> None:
    day = date(2026, 11, 2)
    assert (await fetch_trade_bill(Wechat(error=GatewayRefused("NO_STATEMENT_EXIST")), day, None)).lines == ()
    with pytest.raises(BillNotReady):
        await fetch_trade_bill(Wechat(error=GatewayRefused("STATEMENT_CREATING")), day, None)
    with pytest.raises(GatewayRefused, match="PARAM_ERROR"):
        await fetch_trade_bill(Wechat(error=GatewayRefused("PARAM_ERROR")), day, None)
    for missing in ({"download_url": None}, {"hash_value": 1}, {"hash_type": "MD5"}):
        with pytest.raises(OutcomeUnknown):
            await fetch_trade_bill(Wechat(**missing), day, None)


async def test_a_file_that_is_not_the_one_of_the_hash_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    day, packed = date(2026, 11, 2), gzip.compress(written([PAID]))
    for content, words in (
        (written([BACK]), "hash"), (packed[:-9], "cut off"), (packed[:12] + b"xxxx" + packed[16:], "gzip|cut off|hash"),
    ):  # fmt: skip
        with pytest.raises(BillUnreadable, match=words):
            await fetch_trade_bill(Wechat(content), day, None)
    monkeypatch.setattr(wechat_bill, "MAX_BILL_BYTES", 100)
    with pytest.raises(BillUnreadable, match="too large"):
        await fetch_trade_bill(Wechat(packed), day, None)
