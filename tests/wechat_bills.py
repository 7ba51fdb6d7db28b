"""WeChat's bills for tests: what the sandbox's orders come to, written, hashed, packed and signed as WeChat does it."""

import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import httpx

from kit import clock
from kit.crypto import load_private_key, rsa_sign
from kit.ids import new_code
from kit.money import format_yuan
from kit.wechat_signature import response_message
from tests.world import AtWechat

HEADER = (
    "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,"
    "代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,"
    "申请退款金额,费率备注"
)
SUMMARY = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额"


@dataclass(frozen=True)
class Line:
    """One line to be written."""

    at: datetime
    mchid: str
    transaction_id: str
    out_trade_no: str
    amount_fen: int
    refund_id: str | None = None

    def text(self) -> str:
        """As WeChat writes it; a refund has its amount in other columns."""
        fen = format_yuan(self.amount_fen)
        refund = self.refund_id is not None
        values = [
            f"{self.at.astimezone(clock.BEIJING):%Y-%m-%d %H:%M:%S}", "wx1", self.mchid, "0", "", self.transaction_id,
            self.out_trade_no, "o1", "JSAPI", "REFUND" if refund else "SUCCESS", "OTHERS", "CNY",
            "0.00" if refund else fen, "0.00", self.refund_id or "0", "R1" if refund else "0",
            fen if refund else "0.00", "0.00", "ORIGINAL" if refund else "", "SUCCESS" if refund else "", "物业费", "",
            "0.00000", "0.60%", "0.00" if refund else fen, fen if refund else "0.00", "",
        ]  # fmt: skip
        return ",".join(f"`{value}" for value in values)


def written(lines: Sequence[Line], eol: str = "\r\n") -> bytes:
    """The file, with its byte order mark and its summary."""
    paid = sum(line.amount_fen for line in lines if line.refund_id is None)
    back = sum(line.amount_fen for line in lines if line.refund_id is not None)
    summary = [str(len(lines)), format_yuan(paid), format_yuan(back), "0.00", "0.00", format_yuan(paid),
               format_yuan(back)]  # fmt: skip
    whole = [HEADER, *(line.text() for line in lines), SUMMARY, ",".join(f"`{value}" for value in summary)]
    return ("\ufeff" + eol.join(whole) + eol).encode()


@dataclass
class BillDesk(httpx.AsyncBaseTransport):
    """Stands between us and the sandbox and answers for the bills; all else goes through."""

    wechat: AtWechat
    lines: Callable[[date], Sequence[Line]]
    code: str | None = None  # a refusal to give instead
    spoil: bool = False  # give a file that is not the one of the hash
    asked: list[str] = field(default_factory=list)
    inner: httpx.AsyncHTTPTransport = field(default_factory=httpx.AsyncHTTPTransport)
    files: dict[str, bytes] = field(default_factory=dict)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path, query = request.url.path, {k: v[0] for k, v in parse_qs(request.url.query.decode()).items()}
        if not path.startswith("/v3/bill"):
            return await self.inner.handle_async_request(request)
        assert request.headers["Authorization"].startswith("WECHATPAY2-SHA256-RSA2048 ")
        if path == "/v3/billdownload/file":
            return httpx.Response(200, content=self.files[query["token"]])
        self.asked.append(query["bill_date"])
        lines = self.lines(date.fromisoformat(query["bill_date"]))
        code = self.code or (None if lines else "NO_STATEMENT_EXIST")
        if code:
            return httpx.Response(400, json={"code": code, "message": "账单"})
        content, token = written(lines), new_code(8)
        self.files[token] = gzip.compress(content + (b"x" if self.spoil else b""))
        host = f"{request.url.scheme}://{request.url.netloc.decode()}"
        return self._signed({
            "hash_type": "SHA1", "hash_value": hashlib.sha1(content, usedforsecurity=False).hexdigest(),
            "download_url": f"{host}/v3/billdownload/file?token={token}",
        })  # fmt: skip

    def _signed(self, document: dict[str, Any]) -> httpx.Response:
        body, timestamp, nonce = json.dumps(document).encode(), str(clock.unix_s()), new_code(16)
        key = load_private_key(self.wechat.platform_private_key)
        headers = {
            "Wechatpay-Timestamp": timestamp, "Wechatpay-Nonce": nonce,
            "Wechatpay-Serial": self.wechat.platform["public_key_id"],
            "Wechatpay-Signature": rsa_sign(key, response_message(timestamp, nonce, body)),
        }  # fmt: skip
        return httpx.Response(200, content=body, headers=headers)

    async def aclose(self) -> None:
        await self.inner.aclose()


def of_orders(orders: Sequence[dict[str, Any]]) -> Callable[[date], Sequence[Line]]:
    """The lines of a day, of the orders that the sandbox holds as paid."""
    lines = [
        Line(datetime.fromisoformat(one["success_time"]), one["mchid"], one["transaction_id"], one["out_trade_no"],
             one["total_fen"])
        for one in orders if one["trade_state"] == "SUCCESS"
    ]  # fmt: skip
    return lambda day: [line for line in lines if clock.business_date(line.at) == day]


def tomorrow_at(hour: int, minute: int = 0) -> datetime:
    """A moment of tomorrow, Beijing."""
    now = clock.now().astimezone(clock.BEIJING) + timedelta(days=1)
    return now.replace(hour=hour, minute=minute, second=0, microsecond=0)
