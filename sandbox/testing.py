"""Help for tests that speak with the sandbox: a merchant's client, and a tiny API that takes its callbacks.

The client signs and verifies by the official layouts itself, so that a mistake of the sandbox cannot hide in it.
"""

import asyncio
import atexit
import base64
import contextlib
import json
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kit import clock, crypto
from kit.wechat_signature import Authorization, request_message, response_message
from sandbox.app import open_context
from sandbox.config import Config
from sandbox.main import running
from sandbox.person import register_app
from sandbox.platform_key import make_key_pair

MCHID = "1900007291"
APPID = "wx5f0c000000000001"
SECRET = secrets.token_hex(16)
SERIAL_NO = "408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB"
APIV3_KEY = "0123456789abcdefghijklmnopqrstuv"
TEMPLATE = "template-of-a-test"


@dataclass(frozen=True)
class Registered:
    """A state file with one merchant and one app in it, and what the merchant knows."""

    state: Path
    private_key: str
    public_key: str
    platform: dict[str, Any]


@cache
def registered() -> Registered:
    """Made once in a process: making keys takes longer than most tests."""
    folder = tempfile.mkdtemp(prefix="sandbox-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    state = Path(folder) / "state.db"
    public_key, private_key = make_key_pair()

    context = open_context(Config(state))
    platform = context.merchants.register(MCHID, SERIAL_NO, public_key, APIV3_KEY, [APPID])
    register_app(context, APPID, SECRET, "邻里", {TEMPLATE: "缴费成功通知"})
    context.store.close()
    return Registered(state, private_key, public_key, platform)


@dataclass
class Delivery:
    """One request that the receiver got."""

    path: str
    headers: dict[str, str]
    body: bytes

    def resource(self) -> dict[str, Any]:
        """The unsealed resource."""
        sealed = json.loads(self.body)["resource"]
        plaintext = AESGCM(APIV3_KEY.encode()).decrypt(
            sealed["nonce"].encode(), base64.b64decode(sealed["ciphertext"]), sealed["associated_data"].encode()
        )
        told: dict[str, Any] = json.loads(plaintext)
        return told


@dataclass
class Receiver:
    """A tiny API: keeps what it got, answers ``status`` or what ``decide`` says (None: says nothing at all)."""

    base: str = ""
    status: int = 200
    decide: Callable[[Delivery], int | None] | None = None
    reply: Callable[[Delivery], bytes] | None = None
    location: str = "/"
    deliveries: list[Delivery] = field(default_factory=list)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            request_line, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            delivery = Delivery(request_line.split(" ")[1], headers, body)
            self.deliveries.append(delivery)
            self._arrived.set()
            status = self.decide(delivery) if self.decide else self.status
            if status is None:
                await asyncio.sleep(3600)
            accepted = self.reply(delivery) if self.reply else b""
            answer = accepted if status in (200, 204) else b'{"code":"FAIL","message":"not now"}'
            head = f"HTTP/1.1 {status} X\r\nLocation: {self.location}\r\nContent-Length: {len(answer)}\r\n\r\n"
            writer.write(head.encode() + answer)
            await writer.drain()

    async def wait(self, count: int, within_s: int = 5) -> list[Delivery]:
        """The deliveries, once there are ``count`` of them."""
        async with asyncio.timeout(within_s):
            while len(self.deliveries) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.deliveries


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    api = Receiver()
    server = await asyncio.start_server(api.serve, "127.0.0.1", 0)
    api.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield api
    finally:
        server.close()


@cache
def _loaded(pem: str) -> RSAPrivateKey:
    return crypto.load_private_key(pem)


@dataclass
class Desk:
    """A merchant at its desk: the sandbox's address, a client, the API that is called back."""

    base: str
    client: httpx.AsyncClient
    api: Receiver
    merchant: Registered
    state: Path
    # Certificates that came later: serial → PEM.
    certificates: dict[str, str] = field(default_factory=dict)

    async def signed(
        self, method: str, target: str, document: Any = None, *, headers: dict[str, str] | None = None, **parts: str
    ) -> httpx.Response:
        """A signed request; ``parts`` replaces parts of the Authorization, ``headers`` adds or replaces headers."""
        raw = b"" if document is None else json.dumps(document, ensure_ascii=False).encode()
        stamp = {"timestamp": str(clock.unix_s()), "nonce_str": secrets.token_hex(16), **parts}
        message = request_message(method, target, stamp["timestamp"], stamp["nonce_str"], raw)
        authorization = Authorization(
            **{
                "mchid": MCHID,
                "serial_no": SERIAL_NO,
                "signature": crypto.rsa_sign(_loaded(self.merchant.private_key), message),
                **stamp,
            }
        )
        sent = {
            "Accept": "application/json",
            "User-Agent": "a test",
            "Content-Type": "application/json",
            "Authorization": authorization.header(),
            "Wechatpay-Serial": self.merchant.platform["public_key_id"],
            **(headers or {}),
        }
        return await self.client.request(method, target, content=raw, headers=sent)

    async def control(self, method: str, path: str, document: Any = None) -> httpx.Response:
        """A control request."""
        return await self.client.request(method, path, json=document)

    async def register(self, **changes: Any) -> httpx.Response:
        """Register the merchant again, with other settings than the usual ones."""
        document = {
            "serial_no": SERIAL_NO,
            "public_key": self.merchant.public_key,
            "apiv3_key": APIV3_KEY,
            "appids": [APPID],
            **changes,
        }
        return await self.control("PUT", f"/sandbox/merchants/{MCHID}", document)

    def order(self, **changes: Any) -> dict[str, Any]:
        """The parameters of an order; members that are None are left out."""
        document = {
            "appid": APPID,
            "mchid": MCHID,
            "description": "2026年11月物业费",
            "out_trade_no": f"L{secrets.token_hex(10)}",
            "notify_url": f"{self.api.base}/notify",
            "amount": {"total": 38560, "currency": "CNY"},
            "payer": {"openid": "resident-1"},
            **changes,
        }
        return {name: value for name, value in document.items() if value is not None}

    async def place(self, order: dict[str, Any] | None = None, product: str = "jsapi") -> httpx.Response:
        """Place an order."""
        return await self.signed("POST", f"/v3/pay/transactions/{product}", order or self.order())

    async def paid(self, order: dict[str, Any] | None = None) -> dict[str, Any]:
        """Place an order and pay it; answers what the payment answered, prepay_id included."""
        prepay_id = (await self.place(order)).json()["prepay_id"]
        answer = await self.control("POST", "/sandbox/pay", {"prepay_id": prepay_id})
        answer.raise_for_status()
        return {**answer.json(), "prepay_id": prepay_id}

    async def query(self, out_trade_no: str) -> httpx.Response:
        """Query by our number."""
        return await self.signed("GET", f"/v3/pay/transactions/out-trade-no/{out_trade_no}?mchid={MCHID}")

    async def close(self, out_trade_no: str) -> httpx.Response:
        """Close by our number."""
        return await self.signed("POST", f"/v3/pay/transactions/out-trade-no/{out_trade_no}/close", {"mchid": MCHID})

    def refund(self, order: dict[str, Any], refund_fen: int | None = None, **changes: Any) -> dict[str, Any]:
        """The parameters of a refund of an order that ``order`` made; in full unless said otherwise."""
        total = order["amount"]["total"]
        document = {
            "out_trade_no": order["out_trade_no"],
            "out_refund_no": f"R{secrets.token_hex(10)}",
            "notify_url": f"{self.api.base}/notify/refund",
            "amount": {"refund": refund_fen or total, "total": total, "currency": "CNY"},
            **changes,
        }
        return {name: value for name, value in document.items() if value is not None}

    async def refunded(self, refund: dict[str, Any]) -> httpx.Response:
        """Ask for a refund."""
        return await self.signed("POST", "/v3/refund/domestic/refunds", refund)

    async def query_refund(self, out_refund_no: str) -> httpx.Response:
        """Query a refund by our number."""
        return await self.signed("GET", f"/v3/refund/domestic/refunds/{out_refund_no}")

    async def refunds(self, out_trade_no: str) -> list[dict[str, Any]]:
        """An order's refunds as WeChat sees them, newest first."""
        answer = await self.client.get("/sandbox/refunds", params={"out_trade_no": out_trade_no})
        found: list[dict[str, Any]] = answer.json()["refunds"]
        return found

    async def decide(self, refund_id: str, status: str) -> httpx.Response:
        """Decide a refund now."""
        return await self.control("POST", f"/sandbox/refunds/{refund_id}/decide", {"status": status})

    async def refund_by_hand(self, out_trade_no: str, amount_fen: int, **rest: Any) -> dict[str, Any]:
        """Refund at WeChat's site, past the merchant's API."""
        document = {"out_trade_no": out_trade_no, "amount_fen": amount_fen, **rest}
        answer = await self.control("POST", "/sandbox/refunds", document)
        answer.raise_for_status()
        made: dict[str, Any] = answer.json()
        return made

    async def notices(self, out_trade_no: str) -> list[dict[str, Any]]:
        """The notices of an order's refunds, newest first, with every attempt to deliver them."""
        return [each for each in await self.callbacks(out_trade_no) if each["event_type"].startswith("REFUND.")]

    async def callbacks(self, out_trade_no: str) -> list[dict[str, Any]]:
        """The log of an order's callbacks."""
        answer = await self.client.get("/sandbox/callbacks", params={"out_trade_no": out_trade_no})
        found: list[dict[str, Any]] = answer.json()["callbacks"]
        return found

    async def until(self, out_trade_no: str, state: str, attempts: int = 1, within_s: int = 5) -> dict[str, Any]:
        """The order's newest callback, once it is in ``state`` after so many attempts, and none is under way."""
        async with asyncio.timeout(within_s):
            while True:
                found = await self.callbacks(out_trade_no)
                newest: dict[str, Any] = found[0] if found else {"state": ""}
                settled = newest["state"] == state and len(newest["attempts"]) >= attempts
                if settled and (state != "pending" or newest["due_in_s"] > 0):
                    return newest
                await asyncio.sleep(0.005)

    def verifies(self, headers: Any, body: bytes) -> bool:
        """Whether an answer or a callback carries WeChat's true signature, by whichever of its keys."""
        named = {name.lower(): value for name, value in dict(headers).items()}
        platform = self.merchant.platform
        keys = {platform["public_key_id"]: platform["public_key"]}
        keys |= {each["serial_no"]: each["certificate"] for each in platform["certificates"]}
        keys |= self.certificates
        pem = keys.get(named.get("wechatpay-serial", ""))
        if pem is None or named.get("wechatpay-signature-type") != "WECHATPAY2-SHA256-RSA2048":
            return False
        message = response_message(named["wechatpay-timestamp"], named["wechatpay-nonce"], body)
        return crypto.rsa_verifies(crypto.load_public_key(pem), message, named["wechatpay-signature"])


@contextlib.asynccontextmanager
async def desk(
    folder: Path, *, api: Receiver | None = None, speed: int = 1, subscriptions: int = 1000, refund_s: int = 3
) -> AsyncIterator[Desk]:
    """A running sandbox with a merchant, an app and the person ``resident-1``, and an API to call back.

    A second one in the same folder, after the first has ended, goes on from its state.
    """
    merchant = registered()
    state = folder / "state.db"
    if not state.exists():
        shutil.copy(merchant.state, state)
    async with contextlib.AsyncExitStack() as opened:
        called: Receiver = api if api is not None else await opened.enter_async_context(receiver())
        config = Config(
            state, port=0, api_base=called.base, speed=speed, subscriptions=subscriptions, refund_s=refund_s
        )
        base = await opened.enter_async_context(running(config))
        client = await opened.enter_async_context(
            httpx.AsyncClient(base_url=base, trust_env=False, timeout=10, verify=base.startswith("https:"))
        )
        await client.post("/sandbox/login-code", json={"openid": "resident-1"})
        yield Desk(base, client, called, merchant, state)
