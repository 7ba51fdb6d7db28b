"""WeChat Pay's trade bill (交易账单): asked for, fetched, compared with its hash and its own summary, and read.

Source: pay.weixin.qq.com/doc/v3/merchant/4013071226 (ask) and 4013071238 (download). The file is UTF-8 with a byte
order mark; lines end in CRLF or LF; every value outside of the two header lines begins with a backtick; amounts are
yuan. Commas inside of values are escaped by WeChat, so a line splits at its commas. Columns are found by name: the
three kinds of bill have other columns in other places, and WeChat has added some before.
"""

import asyncio
import hashlib
import re
import zlib
from collections.abc import Mapping
from datetime import date, datetime
from typing import BinaryIO, Protocol

from kit import clock
from kit.money import parse_yuan
from models.reconciliation import StatementKind
from payments.gateways.base import (
    BillNotReady,
    BillUnreadable,
    GatewayRefused,
    OutcomeUnknown,
    TradeBill,
    TradeLine,
)
from payments.statement_file import MAX_PACKED_BYTES, digest_of

MAX_BILL_BYTES = 256 * 1024 * 1024  # of the unpacked file: about a million lines
_BOM = "\ufeff"
_NEEDED = ("交易时间", "商户号", "微信订单号", "商户订单号", "交易状态", "订单金额")
_NOTHING_THAT_DAY = {"NO_STATEMENT_EXIST"}
_NOT_YET = {"STATEMENT_CREATING"}
_PAID_STATES = {"SUCCESS"}
_REFUND_STATES = {"REFUND", "REVOKED"}
_NONE = ("", "0")  # how the bill writes that there is no number


class BillLine(Protocol):
    """What of a merchant's line to WeChat is needed to fetch bills."""

    async def get(self, target: str) -> Mapping[str, object]:
        """A signed GET with a verified answer."""
        ...

    async def download(self, url: str, max_bytes: int) -> bytes:
        """A signed GET of a file, whose answer is not signed."""
        ...

    async def download_into(self, url: str, max_bytes: int, into: BinaryIO) -> None:
        """The same, written piece by piece."""
        ...


async def fetch_trade_bill(line: BillLine, bill_on: date, sub_mchid: str | None) -> TradeBill:
    """The whole bill of a Beijing day; empty when WeChat says that nothing happened that day.

    Raises BillNotReady while WeChat writes it, BillUnreadable for a file that does not hold, and any GatewayError.
    """
    found = await _ask(line, f"/v3/bill/tradebill?bill_date={bill_on.isoformat()}&bill_type=ALL", sub_mchid)
    if found is None:
        return TradeBill()
    url, value = found
    content = _unpacked(await line.download(url, MAX_BILL_BYTES))
    # The hash of the protocol, over the unpacked file: the download itself is not signed, this answer was.
    if hashlib.sha1(content, usedforsecurity=False).hexdigest() != value.lower():
        raise BillUnreadable("the file does not have the hash that WeChat gave for it")
    return parse_trade_bill(content)


async def fetch_bill_file(
    line: BillLine, kind: StatementKind, bill_on: date, sub_mchid: str | None, into: BinaryIO
) -> bool:
    """Write the bill of a Beijing day into a file, compared with its hash; False when WeChat says that there is none.

    Raises as ``fetch_trade_bill``. A fund-flow bill (doc/v3/merchant/4013071233) is of the calling merchant itself.
    """
    day = f"bill_date={bill_on.isoformat()}"
    if kind is StatementKind.TRADE:
        found = await _ask(line, f"/v3/bill/tradebill?{day}&bill_type=ALL", sub_mchid)
    else:
        found = await _ask(line, f"/v3/bill/fundflowbill?{day}&account_type=BASIC", None)
    if found is None:
        return False
    await line.download_into(found[0], MAX_PACKED_BYTES, into)
    into.seek(0)
    if (await asyncio.to_thread(digest_of, into)).sha1 != found[1].lower():
        raise BillUnreadable("the file does not have the hash that WeChat gave for it")
    into.seek(0)
    return True


async def _ask(line: BillLine, target: str, sub_mchid: str | None) -> tuple[str, str] | None:
    """Where the file is and its hash; None when nothing happened that day."""
    try:
        answer = await line.get(f"{target}&tar_type=GZIP" + (f"&sub_mchid={sub_mchid}" if sub_mchid else ""))
    except GatewayRefused as error:
        if error.code in _NOTHING_THAT_DAY:
            return None
        if error.code in _NOT_YET:
            raise BillNotReady(error.code) from error
        raise
    url, kind, value = (answer.get(name) for name in ("download_url", "hash_type", "hash_value"))
    if not isinstance(url, str) or not isinstance(value, str) or kind != "SHA1":
        raise OutcomeUnknown("ANSWER_INCOMPLETE")
    return url, value


def parse_trade_bill(content: bytes) -> TradeBill:
    """Read an unpacked bill of kind ALL, SUCCESS or REFUND; BillUnreadable says where it does not hold."""
    try:
        text = content.decode("utf-8").removeprefix(_BOM)
    except UnicodeDecodeError:
        raise BillUnreadable("not UTF-8") from None
    lines = [line for line in re.split(r"\r?\n", text) if line]
    if len(lines) < 3:
        raise BillUnreadable("no header, no summary")
    header, summary = _values(lines[0]), dict(zip(_values(lines[-2]), _values(lines[-1]), strict=False))
    missing = [name for name in _NEEDED if name not in header]
    if missing or "总交易单数" not in summary:
        raise BillUnreadable(f"columns are missing: {' '.join(missing) or '总交易单数'}")
    found = []
    for number, line in enumerate(lines[1:-2], start=2):
        values = _values(line)
        if len(values) != len(header):
            raise BillUnreadable(f"line {number} has {len(values)} values for {len(header)} columns")
        try:
            found.append(_line(dict(zip(header, values, strict=True))))
        except (ValueError, KeyError) as error:
            raise BillUnreadable(f"line {number}: {error}") from error
    bill = TradeBill(found)
    _require_sum(bill, summary)
    return bill


def _line(values: Mapping[str, str]) -> TradeLine:
    state = values["交易状态"]
    if state not in _PAID_STATES | _REFUND_STATES:
        raise ValueError(f"trade state {state!r}")
    occurred_at = datetime.strptime(values["交易时间"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=clock.BEIJING)
    sub_mchid = values.get("特约商户号", "")
    common = {
        "occurred_at": occurred_at,
        "mchid": values["商户号"],
        "sub_mchid": None if sub_mchid in _NONE else sub_mchid,
        "transaction_id": values["微信订单号"],
        "out_trade_no": values["商户订单号"],
    }
    if not common["transaction_id"] or not common["out_trade_no"]:
        raise ValueError("no order number")
    if state in _PAID_STATES:
        return TradeLine(**common, amount_fen=parse_yuan(values["订单金额"]))  # type: ignore[arg-type]
    refund_id = values["微信退款单号"]
    if refund_id in _NONE:
        raise ValueError("no refund number")
    return TradeLine(
        **common,  # type: ignore[arg-type]
        amount_fen=parse_yuan(values["申请退款金额"]),
        refund_id=refund_id,
        out_refund_no=None if values["商户退款单号"] in _NONE else values["商户退款单号"],
        refund_state=values.get("退款状态"),
    )


def _require_sum(bill: TradeBill, summary: Mapping[str, str]) -> None:
    """The file's last line says how many lines there are and what they come to: a file cut off would be believed."""
    try:
        said = {
            "总交易单数": parse_yuan(summary["总交易单数"]) // 100,  # seen as 45 and as 45.0
            "订单总金额": parse_yuan(summary["订单总金额"]),
            "申请退款总金额": parse_yuan(summary["申请退款总金额"]),
        }
    except (ValueError, KeyError) as error:
        raise BillUnreadable(f"the summary: {error}") from error
    came = {"总交易单数": len(bill.lines), "订单总金额": bill.paid_fen, "申请退款总金额": bill.refunded_fen}
    wrong = [f"{name} says {said[name]}, the lines give {came[name]}" for name in said if said[name] != came[name]]
    if wrong:
        raise BillUnreadable("; ".join(wrong))


def _values(line: str) -> list[str]:
    return [value.removeprefix("`").strip() for value in line.split(",")]


def _unpacked(content: bytes) -> bytes:
    if content[:2] != b"\x1f\x8b":
        return content  # asked for packed, given plain: as good
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(content, MAX_BILL_BYTES)
    except zlib.error as error:
        raise BillUnreadable("not a gzip file") from error
    if not unpacker.eof:
        raise BillUnreadable("cut off, or too large")
    return plain
