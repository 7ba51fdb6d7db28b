"""A bill's bytes, read piece by piece: what it is, its rows for COPY, and what it says of itself at its end. Pure.

Source: pay.weixin.qq.com/doc/v3/merchant/4013071226 (交易账单), 4013071233 (资金账单). UTF-8 with a byte order mark or
without, CRLF or LF; values begin with a backtick, headers do not, so a line says what it is; commas inside of values
are escaped by WeChat. Columns are found by name: WeChat has added some before. Nothing here holds more than a piece.
"""

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import BinaryIO

from models.reconciliation import StatementKind
from payments.gateways.base import BillUnreadable

MAX_PLAIN_BYTES = 1024 * 1024 * 1024
MAX_PACKED_BYTES = 160 * 1024 * 1024
PIECE = 256 * 1024
_MAGIC = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_MERCHANTS = 50  # different callers named in one file; more are no bill of a merchant

# (column of the staging table, heading): what of a line is used.
TRADE = (
    ("at", "交易时间"), ("transaction_id", "微信订单号"), ("out_trade_no", "商户订单号"), ("state", "交易状态"),
    ("total", "订单金额"), ("refund_id", "微信退款单号"), ("out_refund_no", "商户退款单号"), ("refund", "申请退款金额"),
    ("refund_state", "退款状态"), ("fee", "手续费"), ("rate", "费率"),
)  # fmt: skip
FLOW = (
    ("at", "记账时间"), ("number", "资金流水单号"), ("name", "业务名称"), ("direction", "收支类型"),
    ("amount", "收支金额(元)"), ("balance", "账户结余(元)"),
)  # fmt: skip
_COLUMNS = {StatementKind.TRADE: TRADE, StatementKind.FUND_FLOW: FLOW}
_WHOSE = ("商户号", "特约商户号", "货币种类")
_SUMMARY = {StatementKind.TRADE: "总交易单数", StatementKind.FUND_FLOW: "资金流水总笔数"}


def plain_pieces(file: BinaryIO) -> Iterator[bytes]:
    """The plain bytes of a file that is packed or not, from where it stands. BillUnreadable: cut off or too large."""
    first = file.read(PIECE)
    if first[:2] != _MAGIC:
        total = 0
        while first:
            total += len(first)
            if total > MAX_PLAIN_BYTES:
                raise BillUnreadable("文件太大 / too large")
            yield first
            first = file.read(PIECE)
        return
    unpacker, total, packed = zlib.decompressobj(wbits=31), 0, first
    while packed and not unpacker.eof:
        try:
            plain = unpacker.decompress(packed, PIECE)
        except zlib.error as error:
            raise BillUnreadable("不是 GZIP 文件 / not a gzip file") from error
        total += len(plain)
        if total > MAX_PLAIN_BYTES:
            raise BillUnreadable("文件太大 / too large")
        if plain:
            yield plain
        packed = unpacker.unconsumed_tail or file.read(PIECE)
    if not unpacker.eof:
        raise BillUnreadable("文件不完整 / cut off")


@dataclass(frozen=True)
class Digest:
    """What stands for a plain file."""

    sha1: str
    sha256: str
    plain_bytes: int


def digest_of(file: BinaryIO) -> Digest:
    """The digests of the plain bytes; ``file`` stands at its beginning before and is read to its end."""
    sha1, sha256, size = hashlib.sha1(usedforsecurity=False), hashlib.sha256(), 0
    for piece in plain_pieces(file):
        sha1.update(piece)
        sha256.update(piece)
        size += len(piece)
    return Digest(sha1.hexdigest(), sha256.hexdigest(), size)


def packed_pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The file as gzip in pieces of ``size``: as it came when it came packed, packed here otherwise."""
    if file.read(2) == _MAGIC:
        file.seek(0)
        while piece := file.read(size):
            yield piece
        return
    file.seek(0)
    packer, kept = zlib.compressobj(6, wbits=31), b""
    for piece in plain_pieces(file):
        kept += packer.compress(piece)
        while len(kept) >= size:
            yield kept[:size]
            kept = kept[size:]
    kept += packer.flush()
    for start in range(0, len(kept), size):
        yield kept[start : start + size]


class BillReader:
    """Reads a bill once: ``rows`` gives what COPY takes; afterwards ``summary`` and ``whose`` are known.

    Raises BillUnreadable for a file that is no bill, ends early, or has a line of another width.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._pieces = plain_pieces(file)
        self._left = b""
        self._ended = False
        self._tail: list[bytes] = []
        self.row_count = 0
        self.whose: set[tuple[str, ...]] = set()
        self.header = self._values(self._first_line())
        self.kind = self._kind()
        columns = _COLUMNS[self.kind]
        missing = [heading for _, heading in columns if heading not in self.header]
        if missing:
            raise BillUnreadable(f"缺少列 / columns are missing: {' '.join(missing)}")
        if self.kind is StatementKind.TRADE and "退款申请时间" in self.header:
            raise BillUnreadable("只有退款，请下载全部交易的账单 / the bill of all trades (ALL) is needed")
        self.columns = [name for name, _ in columns]
        self._pick = itemgetter(*(self.header.index(heading) for _, heading in columns))
        named = [self.header.index(heading) for heading in _WHOSE if heading in self.header]
        self._whose = itemgetter(*named) if len(named) > 1 else None

    def _first_line(self) -> bytes:
        lines = self._lines()
        if len(lines) < 1:
            raise BillUnreadable("没有表头 / no header")
        self._waiting = lines[1:]
        return lines[0].removeprefix(_BOM)

    def _kind(self) -> StatementKind:
        if "记账时间" in self.header:
            return StatementKind.FUND_FLOW
        if "交易时间" not in self.header:
            raise BillUnreadable("不是交易账单或资金账单 / neither a trade bill nor a fund-flow bill")
        if "微信退款单号" not in self.header:
            raise BillUnreadable("只有支付，请下载全部交易的账单 / the bill of all trades (ALL) is needed")
        return StatementKind.TRADE

    def rows(self) -> Iterator[bytes]:
        """Lines for COPY in text format, a piece at a time, the columns in the order of ``columns``."""
        lines, width = self._waiting, len(self.header)
        while lines or not self._ended:
            written: list[bytes] = []
            for line in lines:
                if line[:1] == b"`" and not self._tail:
                    values = line.split(b",")
                    if len(values) != width:
                        number = self.row_count + len(written) + 2
                        raise BillUnreadable(
                            f"第 {number} 行有 {len(values)} 个值，应为 {width} 个 / a line of another width"
                        )
                    if self._whose is not None:
                        self.whose.add(self._whose(values))
                    written.append(b"\t".join(self._pick(values)))
                elif line:
                    self._tail.append(line)
            self.row_count += len(written)
            if len(self.whose) > _MERCHANTS or len(self._tail) > 2:
                raise BillUnreadable("有不属于账单的行 / a line that belongs into no bill")
            if written:
                yield b"\n".join(written).replace(b"`", b"").replace(b"\\", b"\\\\") + b"\n"
            lines = self._lines()

    @property
    def summary(self) -> dict[str, str]:
        """What the last two lines say; BillUnreadable when they are not there, so that no file is believed cut off."""
        if len(self._tail) != 2:
            raise BillUnreadable("末尾没有汇总行，文件可能不完整 / no summary at the end")
        names, values = (self._values(line) for line in self._tail)
        if _SUMMARY[self.kind] not in names or len(names) != len(values):
            raise BillUnreadable("末尾没有汇总行，文件可能不完整 / no summary at the end")
        return dict(zip(names, values, strict=True))

    def callers(self) -> set[tuple[str, ...]]:
        """(商户号, 特约商户号, 货币种类) of the lines, as far as the bill has the columns."""
        return {tuple(value.decode(errors="replace").lstrip("`") for value in one) for one in self.whose}  # type: ignore[attr-defined]

    def _lines(self) -> list[bytes]:
        """The whole lines of the next piece; at the end what is left."""
        while not self._ended:
            piece = next(self._pieces, None)
            if piece is None:
                self._ended = True
                last, self._left = self._left, b""
                return [last] if last else []
            text = (self._left + piece).replace(b"\r\n", b"\n")
            whole, found, rest = text.rpartition(b"\n")
            self._left = rest
            if found:
                return whole.split(b"\n")
        return []

    def _values(self, line: bytes) -> list[str]:
        try:
            return [value.strip().removeprefix("`") for value in line.decode("utf-8").split(",")]
        except UnicodeDecodeError:
            raise BillUnreadable("不是 UTF-8 编码 / not UTF-8") from None
