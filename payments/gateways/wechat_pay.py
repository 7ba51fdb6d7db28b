"""WeChat Pay APIv3: signs the final bytes, verifies the raw ones, and tells refused from unknown.

Source of the protocol: pay.weixin.qq.com/doc/v3/merchant/4012365336 (signing), 4012791897 (JSAPI order), 4012791899
(query), 4012791902 (close), 4012081709 (errors). There is no SDK between us and the callback path on purpose; see
``docs/decisions/0002-own-wechat-client.md``.
"""

import io
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import httpx

from kit import clock, crash_point, strict_json
from kit.crypto import Undecipherable, aes_gcm_decrypt, rsa_sign
from kit.errors import Refusal
from kit.ids import new_code
from kit.wechat_signature import (
    Authorization,
    pay_sign_message,
    request_message,
)
from models.merchant_account import MerchantMode
from models.metric import LATELY, CallTimer
from models.reconciliation import StatementKind
from models.unit_of_work import inside_unit_of_work
from payments.gateways.base import (
    GatewayRefused,
    OrderAlreadyPaid,
    OrderAnswer,
    OrderNotThere,
    OrderNumberUsed,
    OutcomeUnknown,
    PaidFact,
    PhoneOrder,
    PlatformCertificate,
    RefundFact,
    TradeBill,
    TradeState,
)
from payments.gateways.merchant_keys import MerchantKeys
from payments.gateways.wechat_bill import fetch_bill_file, fetch_trade_bill
from payments.gateways.wechat_certificate import believed_about, read_certificates
from payments.gateways.wechat_refund import refund_fact

# Production speaks to these and to nothing else; a row or a setting cannot add one.
PRODUCTION_HOSTS = ("https://api.mch.weixin.qq.com", "https://api2.mch.weixin.qq.com")
TRIES = 3
_TIMEOUT = httpx.Timeout(6.0, connect=3.0)

_STATES = {
    "SUCCESS": TradeState.PAID,
    "REFUND": TradeState.PAID,  # after any refund, also a partial one: it was paid
    "NOTPAY": TradeState.UNPAID,
    "USERPAYING": TradeState.UNPAID,
    "ACCEPT": TradeState.UNPAID,
    "PAYERROR": TradeState.UNPAID,
    "CLOSED": TradeState.CLOSED,
    "REVOKED": TradeState.CLOSED,
}
_PAID_CODES = {"ORDERPAID", "ORDER_PAID"}
_CLOSED_CODES = {"ORDER_CLOSED", "ORDERCLOSED"}
_NUMBER_CODES = {"OUT_TRADE_NO_USED", *_CLOSED_CODES}
_SLOW_DOWN_CODES = {"FREQUENCY_LIMITED", "RATELIMIT_EXCEEDED"}
_UNKNOWN_CODES = {"ORDER_NOT_EXIST", "ORDERNOTEXIST", "RESOURCE_NOT_EXISTS"}


class WechatPay:
    """The Gateway of one merchant account."""

    def __init__(
        self,
        keys: MerchantKeys,
        http: httpx.AsyncClient,
        base_url: str,
        tries: int = TRIES,
        unknown_serial: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._keys = keys
        self._tries = tries
        self._unknown_serial = unknown_serial
        self._http = http
        self._base_url = base_url
        self._partner = keys.mode is MerchantMode.PARTNER
        self._prefix = "/v3/pay/partner/transactions" if self._partner else "/v3/pay/transactions"

    async def open_order(self, request: str) -> str:
        answer = await self._call("prepay", "POST", f"{self._prefix}/jsapi", request.encode())
        prepay_id = answer.get("prepay_id")
        if not isinstance(prepay_id, str) or not prepay_id:
            raise OutcomeUnknown("NO_PREPAY_ID")
        return prepay_id

    async def ask(self, out_trade_no: str) -> OrderAnswer:
        query = (
            f"sp_mchid={self._keys.mchid}&sub_mchid={self._keys.sub_mchid}"
            if self._partner
            else f"mchid={self._keys.mchid}"
        )
        try:
            target = f"{self._prefix}/out-trade-no/{quote(out_trade_no)}?{query}"
            answer = await self._call("query", "GET", target, b"")
        except OrderNotThere:
            return OrderAnswer(TradeState.UNKNOWN_ORDER)
        state = _STATES.get(str(answer.get("trade_state")))
        if state is None:
            raise OutcomeUnknown("TRADE_STATE", str(answer.get("trade_state"))[:32])
        if state is not TradeState.PAID:
            return OrderAnswer(state)
        try:
            return OrderAnswer(state, paid_fact(answer))
        except ValueError as error:
            raise OutcomeUnknown("ANSWER_INCOMPLETE", str(error)) from error

    async def close_order(self, out_trade_no: str) -> None:
        body = (
            {"sp_mchid": self._keys.mchid, "sub_mchid": self._keys.sub_mchid}
            if self._partner
            else {"mchid": self._keys.mchid}
        )
        try:
            target = f"{self._prefix}/out-trade-no/{quote(out_trade_no)}/close"
            await self._call("close", "POST", target, _dump(body).encode())
        except GatewayRefused as error:
            if error.code not in _CLOSED_CODES:  # an old spelling of "fine": it was closed before
                raise

    async def refund(self, request: str) -> RefundFact:
        return self._refund_fact(await self._call("refund", "POST", "/v3/refund/domestic/refunds", request.encode()))

    async def ask_refund(self, out_refund_no: str) -> RefundFact | None:
        query = f"?sub_mchid={self._keys.sub_mchid}" if self._partner else ""
        try:
            target = f"/v3/refund/domestic/refunds/{quote(out_refund_no)}{query}"
            answer = await self._call("query_refund", "GET", target, b"")
        except OrderNotThere:
            return None
        return self._refund_fact(answer)

    def _refund_fact(self, answer: Mapping[str, Any]) -> RefundFact:
        try:
            return refund_fact(answer)
        except ValueError as error:
            raise OutcomeUnknown("ANSWER_INCOMPLETE", str(error)) from error

    async def certificates(self) -> list[PlatformCertificate]:
        _require_outside()
        response = await self._send("GET", "/v3/certificates", b"")
        found = read_certificates(self._keys.apiv3_key, response.content, clock.now())
        believed = replace(self._keys, wechat_keys=believed_about(self._keys.wechat_keys, found))
        if not believed.verifies(response.headers, response.content, clock.unix_s()):
            raise OutcomeUnknown("BAD_SIGNATURE")
        return found

    def sign_for_phone(self, appid: str, prepay_id: str) -> PhoneOrder:
        timestamp, nonce, package = str(clock.unix_s()), new_code(32), f"prepay_id={prepay_id}"
        signature = rsa_sign(self._keys.private_key, pay_sign_message(appid, timestamp, nonce, package))
        return PhoneOrder(appid, timestamp, nonce, package, "RSA", signature)

    async def trade_bill(self, bill_on: date) -> TradeBill:
        return await fetch_trade_bill(self, bill_on, self._keys.sub_mchid)

    async def get(self, target: str) -> dict[str, Any]:
        """A signed GET; the verified answer."""
        return await self._call("bill", "GET", target, b"")

    async def bill_file(self, kind: StatementKind, bill_on: date, into: BinaryIO) -> bool:
        return await fetch_bill_file(self, kind, bill_on, self._keys.sub_mchid, into)

    async def download(self, url: str, max_bytes: int) -> bytes:
        """The file that an answer pointed to, from WeChat's own address only. Not signed: compare its hash."""
        content = io.BytesIO()
        await self.download_into(url, max_bytes, content)
        return content.getvalue()

    async def download_into(self, url: str, max_bytes: int, into: BinaryIO) -> None:
        """``download``, written piece by piece into a file."""
        parts = urlsplit(url)
        if f"{parts.scheme}://{parts.netloc}" not in (self._base_url, *PRODUCTION_HOSTS):
            raise OutcomeUnknown("DOWNLOAD_ADDRESS")
        target, size = f"{parts.path}?{parts.query}", 0
        _require_outside()
        try:
            async with self._http.stream(
                "GET", self._base_url + target, headers=self._headers("GET", target, b""), timeout=_TIMEOUT
            ) as response:
                if response.status_code >= 300:
                    await response.aread()
                    raise _refusal(response)
                async for piece in response.aiter_bytes():
                    size += len(piece)
                    if size > max_bytes:
                        raise OutcomeUnknown("DOWNLOAD_TOO_LARGE")
                    into.write(piece)
        except httpx.HTTPError as error:
            raise OutcomeUnknown("NO_ANSWER", type(error).__name__) from error

    async def _call(self, operation: str, method: str, target: str, body: bytes) -> dict[str, Any]:
        """One signed call, repeated identically a bounded number of times while its outcome stays unknown."""
        _require_outside()
        for attempt in range(1, self._tries + 1):
            with CallTimer(operation) as timer:
                try:
                    answer = await self._call_once(method, target, body)
                    timer.outcome = "done"
                    return answer
                except GatewayRefused:
                    timer.outcome = "refused"
                    raise
                except OutcomeUnknown as error:
                    if attempt == self._tries or error.code in _SLOW_DOWN_CODES:
                        raise
        raise AssertionError("unreachable")

    async def _send(self, method: str, target: str, body: bytes) -> httpx.Response:
        """One signed request; its answer of status 2xx, not verified yet."""
        place = crash_point.place_of_call("wechat_pay", method, target)
        crash_point.passing(f"{place}.before_call")
        try:
            response = await self._http.request(
                method,
                self._base_url + target,
                content=body or None,
                headers=self._headers(method, target, body),
                timeout=_TIMEOUT,
                follow_redirects=False,
            )
        except httpx.HTTPError as error:
            raise OutcomeUnknown("NO_ANSWER", type(error).__name__) from error
        crash_point.passing(f"{place}.after_call")
        _note_clock(response)
        if response.status_code >= 300:
            raise _refusal(response)
        return response

    async def _call_once(self, method: str, target: str, body: bytes) -> dict[str, Any]:
        response = await self._send(method, target, body)
        # Only 2xx answers are signed. One that does not verify is nobody's word: treat it as no answer at all.
        if not self._keys.verifies(response.headers, response.content, clock.unix_s()):
            if self._unknown_serial is not None and self._keys.lacks(response.headers):
                await self._unknown_serial(response.headers["wechatpay-serial"])
            raise OutcomeUnknown("BAD_SIGNATURE")
        if not response.content:
            return {}
        try:
            answer = strict_json.loads(response.content)
        except Refusal as error:
            raise OutcomeUnknown("NOT_JSON") from error
        if not isinstance(answer, dict):
            raise OutcomeUnknown("NOT_JSON")
        return answer

    def _headers(self, method: str, target: str, body: bytes) -> dict[str, str]:
        timestamp, nonce = str(clock.unix_s()), new_code(32)
        signature = rsa_sign(self._keys.private_key, request_message(method, target, timestamp, nonce, body))
        authorization = Authorization(self._keys.mchid, self._keys.serial_no, nonce, timestamp, signature)
        headers = {
            "Authorization": authorization.header(),
            "Accept": "application/json",
            "User-Agent": "linli/0.1",
        }
        if body:
            headers["Content-Type"] = "application/json"
        if self._keys.public_key_id:
            headers["Wechatpay-Serial"] = self._keys.public_key_id
        return headers


def paid_fact(resource: Mapping[str, Any]) -> PaidFact:
    """The fact in a decrypted payment notice or a query's answer. ValueError names the first field that does not fit.

    The amount is ``amount.total`` (what was ordered), not ``payer_total``, which coupons reduce.
    """
    amount = resource.get("amount")
    if not isinstance(amount, dict):
        raise ValueError("amount")
    total = amount.get("total")
    if not isinstance(total, int) or isinstance(total, bool) or total <= 0:
        raise ValueError("amount.total")
    payer = resource.get("payer")
    names = ("openid", "sub_openid", "sp_openid")
    openid = next((payer[name] for name in names if payer.get(name)), None) if isinstance(payer, dict) else None
    try:
        occurred_at = datetime.fromisoformat(_text(resource, "success_time"))
    except ValueError:
        raise ValueError("success_time") from None
    if occurred_at.tzinfo is None:
        raise ValueError("success_time")
    partner = "sp_mchid" in resource
    return PaidFact(
        mchid=_text(resource, "sp_mchid" if partner else "mchid"),
        sub_mchid=_text(resource, "sub_mchid") if partner else None,
        appid=_text(resource, "sp_appid" if partner else "appid"),
        out_trade_no=_text(resource, "out_trade_no"),
        transaction_id=_text(resource, "transaction_id"),
        amount_fen=total,
        currency=str(amount.get("currency", "CNY")),
        occurred_at=occurred_at,
        openid=openid if isinstance(openid, str) else None,
        sub_appid=_text(resource, "sub_appid") if partner and resource.get("sub_appid") else None,
    )


def decrypt_resource(keys: MerchantKeys, resource: Mapping[str, Any]) -> dict[str, Any]:
    """The plaintext of a notice's ``resource``. Raises Undecipherable, or a Refusal when it is not strict JSON."""
    plaintext = aes_gcm_decrypt(
        keys.apiv3_key,
        _text(resource, "nonce").encode(),
        _text(resource, "ciphertext"),
        str(resource.get("associated_data") or "").encode(),
    )
    opened = strict_json.loads(plaintext)
    if not isinstance(opened, dict):
        raise Undecipherable("not an object")
    return opened


def jsapi_request(keys: MerchantKeys, *, appid: str, sub_appid: str | None, openid: str, **order: Any) -> str:
    """The exact JSON body of a mini-program order. ``order``: description, out_trade_no, amount_fen, expires_at,
    notify_url. Kept with the attempt, so that a repeat after a lost answer is the same to the byte."""
    common = {
        "description": order["description"],
        "out_trade_no": order["out_trade_no"],
        "time_expire": order["expires_at"].astimezone(clock.BEIJING).isoformat(timespec="seconds"),
        "notify_url": order["notify_url"],
        "amount": {"total": order["amount_fen"], "currency": "CNY"},
    }
    if keys.mode is MerchantMode.PARTNER:
        payer = {"sub_openid": openid} if sub_appid else {"sp_openid": openid}
        merchant = {"sp_appid": appid, "sp_mchid": keys.mchid, "sub_mchid": keys.sub_mchid}
        return _dump(merchant | ({"sub_appid": sub_appid} if sub_appid else {}) | common | {"payer": payer})
    return _dump({"appid": appid, "mchid": keys.mchid} | common | {"payer": {"openid": openid}})


def _require_outside() -> None:
    if inside_unit_of_work():
        raise RuntimeError("WeChat is never called inside a transaction: it would hold locks for seconds")


def _note_clock(response: httpx.Response) -> None:
    """WeChat's time, from an answer of any kind: a clock of ours that is wrong makes every answer unbelievable, so
    whether it verifies must not matter here. Only an alarm hangs on it."""
    told = response.headers.get("wechatpay-timestamp", "")
    if told.isascii() and told.isdigit() and len(told) == 10:
        LATELY.note_clock(clock.unix_s() - int(told))
        return
    try:
        told_at = parsedate_to_datetime(response.headers.get("date", ""))
    except ValueError:
        return
    LATELY.note_clock((clock.now() - told_at.replace(tzinfo=told_at.tzinfo or UTC)).total_seconds())


def _refusal(response: httpx.Response) -> GatewayRefused | OutcomeUnknown:
    """Errors are not signed, so none of them may decide that money moved; branch on status and code only."""
    try:
        answer = strict_json.loads(response.content)
    except Refusal:
        answer = {}
    code = str(answer.get("code", "")) if isinstance(answer, dict) else ""
    if response.status_code >= 500 or response.status_code == 429 or response.status_code < 400 or not code:
        return OutcomeUnknown(code or f"HTTP_{response.status_code}")
    kinds = {OrderAlreadyPaid: _PAID_CODES, OrderNumberUsed: _NUMBER_CODES, OrderNotThere: _UNKNOWN_CODES}
    kind = next((kind for kind, codes in kinds.items() if code in codes), GatewayRefused)
    return kind(code, str(answer.get("message", ""))[:200])


def _text(resource: Mapping[str, Any], name: str) -> str:
    value = resource.get(name)
    if not isinstance(value, str) or not value or len(value) > 8192:
        raise ValueError(name)
    return value


def _dump(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
