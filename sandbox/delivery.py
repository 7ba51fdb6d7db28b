"""Delivering callbacks: sealed, signed afresh each time, tried again on WeChat's schedule until answered 200 or 204.

Source of the schedule and the five seconds: pay.weixin.qq.com/doc/v3/merchant/4012075420.
"""

import asyncio
import contextlib
import json
import secrets
from typing import Any

import httpx
from sanic.log import logger

from kit import crypto
from sandbox import old_notice, platform_key
from sandbox.clock import Clock, beijing
from sandbox.config import Config
from sandbox.merchant import KeyMode, Merchant, Merchants
from sandbox.platform_key import SigningKey, probe_signature, signature_headers
from sandbox.store import Store

MINUTE, HOUR = 60, 3600
RETRY_S = (
    *(15, 15, 30, 3 * MINUTE, 10 * MINUTE, 20 * MINUTE, 30 * MINUTE, 30 * MINUTE, 30 * MINUTE, 60 * MINUTE),
    *(3 * HOUR, 3 * HOUR, 3 * HOUR, 6 * HOUR, 6 * HOUR),
)
TIMEOUT_S = 5
AT_ONCE = 200
ANSWER_BYTES = 2000
ANSWER_CHARACTERS = 200
ACCEPTED = (200, 204)


class Courier:
    """One task that waits for the next due callback, and the tasks that carry them."""

    def __init__(self, config: Config, store: Store, clock: Clock, merchants: Merchants) -> None:
        self._config, self._store, self._clock, self._merchants = config, store, clock, merchants
        self._wake, self._tried = asyncio.Event(), asyncio.Event()
        self._in_flight: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop_task: asyncio.Task[None] | None = None
        # No proxy, no redirect: a callback goes to the address it was promised to and nowhere else.
        self.client = httpx.AsyncClient(
            # Loading the certificate authorities takes longer than the rest of the start.
            verify=config.api_base.startswith("https:"),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(TIMEOUT_S, pool=None),
            limits=httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=0),
        )
        self._slots = asyncio.Semaphore(AT_ONCE)

    def start(self) -> None:
        """Begin to deliver; what was pending when the last process ended is taken up."""
        self._loop_task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End; what is under way counts as not delivered and is sent again after the next start."""
        tasks = [*self._tasks, *([self._loop_task] if self._loop_task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.client.aclose()

    def wake(self) -> None:
        """Something became due, or the clock was moved."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            pending = self._store.rows("SELECT seq, due_ms FROM callback WHERE state = 'pending' ORDER BY due_ms")
            waiting_ms = None
            for row in pending:
                if row["seq"] in self._in_flight:
                    continue
                wait_ms = self._clock.real_ms_until(row["due_ms"])
                if wait_ms > 0:
                    waiting_ms = wait_ms
                    break
                self._in_flight.add(row["seq"])
                task = asyncio.create_task(self._carry(row["seq"]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if waiting_ms is None else waiting_ms / 1000):
                    await self._wake.wait()

    async def _carry(self, seq: int) -> None:
        try:
            await self._round(seq)
        except Exception:
            # Given up rather than tried again at once for ever.
            logger.exception("a callback could not be made")
            self._store.execute("UPDATE callback SET state = 'exhausted', due_ms = NULL WHERE seq = ?", seq)
        finally:
            self._in_flight.discard(seq)
            self._tried.set()
            self._tried = asyncio.Event()
            self.wake()

    async def deliver_due(self, seq: int) -> None:
        """Make the first delivery now and wait for its end; nothing when it is not due or on its way already."""
        row = self._store.row("SELECT due_ms FROM callback WHERE seq = ? AND state = 'pending'", seq)
        if row is None or seq in self._in_flight or self._clock.real_ms_until(row["due_ms"]) > 0:
            return
        self._in_flight.add(seq)
        await self._carry(seq)

    async def _round(self, seq: int) -> None:
        row = self._store.row("SELECT * FROM callback WHERE seq = ? AND state = 'pending'", seq)
        if row is None:
            return
        treatment = json.loads(row["treatment"])
        first = row["rounds"] == 0
        if first:
            await self._first_round_of(treatment.get("after"))
        signature = treatment.get("first_signature", "true") if first else "true"
        reason = "first" if first else "retry"
        copies = range(treatment.get("copies", 1))
        statuses = await asyncio.gather(*(self.send(row, reason, signature) for _ in copies))
        # WeChat takes no answer to a false signature for a receipt, whatever it says.
        if signature == "true" and any(status in ACCEPTED for status in statuses):
            self._delivered(seq)
            return
        rounds = row["rounds"] + 1
        state, due_ms = "exhausted", None
        if rounds <= len(RETRY_S):
            state, due_ms = "pending", self._clock.tick_ms() + RETRY_S[rounds - 1] * 1000
        self._store.execute(
            "UPDATE callback SET state = ?, rounds = ?, due_ms = ? WHERE seq = ? AND state = 'pending'",
            *(state, rounds, due_ms, seq),
        )

    async def _first_round_of(self, seq: int | None) -> None:
        """Wait until another callback has been tried once."""
        while seq is not None and self._store.row(
            "SELECT 1 FROM callback WHERE seq = ? AND state = 'pending' AND rounds = 0", seq
        ):
            await self._tried.wait()

    def _delivered(self, seq: int) -> None:
        self._store.execute(
            "UPDATE callback SET state = 'delivered', rounds = rounds + 1, due_ms = NULL WHERE seq = ?", seq
        )

    async def resend(self, row: dict[str, Any], times: int, parallel: bool) -> list[int | None]:
        """Send a callback again by hand; answers the statuses in order, None where none came."""
        if parallel:
            statuses = list(await asyncio.gather(*(self.send(row, "resend", "true") for _ in range(times))))
        else:
            statuses = [await self.send(row, "resend", "true") for _ in range(times)]
        if any(status in ACCEPTED for status in statuses):
            self._delivered(row["seq"])
        return statuses

    async def send(self, row: dict[str, Any], reason: str, signature: str) -> int | None:
        """One request. ``signature``: true, probe (false on purpose) or unknown (by a key nobody was told of)."""
        async with self._slots:
            merchant = self._merchants.get(row["mchid"])
            if merchant is None:
                raise LookupError("a callback of a merchant that was never registered")
            body, headers = self._message(row, merchant, signature, reason)
            status, error, answer = await self._post(row["notify_url"], headers, body)
        self._store.insert(
            "callback_attempt",
            callback_seq=row["seq"],
            at=beijing(self._clock.now()),
            reason=reason,
            signature=signature,
            status=status,
            error=error,
            answer=answer,
        )
        return status

    def _message(
        self, row: dict[str, Any], merchant: Merchant, signature: str, reason: str
    ) -> tuple[bytes, dict[str, str]]:
        headers = {"User-Agent": "Mozilla/4.0", "Request-ID": secrets.token_hex(16).upper() + "-0"}
        if row["format"] == "xml":
            return old_notice.document(json.loads(row["resource"]), merchant), {**headers, "Content-Type": "text/xml"}
        body = envelope(row, merchant)
        # Stale once: WeChat signs afresh each time that it tries again.
        age_s = json.loads(row["treatment"]).get("age_s", 0) if reason == "first" else 0
        headers |= signature_headers(self._key(row, merchant, signature), self._clock.unix_s() - age_s, body)
        if signature == "probe":
            headers["Wechatpay-Signature"] = probe_signature()
        return body, {**headers, "Content-Type": "application/json"}

    def _key(self, row: dict[str, Any], merchant: Merchant, signature: str) -> SigningKey:
        if signature == "unknown":
            return SigningKey(f"PUB_KEY_ID_{secrets.randbelow(10**34):034d}", platform_key.make_key_pair()[1])
        treated = json.loads(row["treatment"]).get("key") == "certificate" and merchant.key_mode is KeyMode.BOTH
        if treated or merchant.signs_by_certificate(row["seq"]):
            return platform_key.certificate_key(self._store)
        return merchant.platform_key

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> tuple[int | None, str | None, str]:
        answer = b""
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                self.client.stream("POST", url, content=body, headers=headers) as response,
            ):
                async for chunk in response.aiter_bytes():
                    answer += chunk
                    if len(answer) >= ANSWER_BYTES:
                        break
        except (TimeoutError, httpx.TimeoutException):
            return None, "timeout", ""
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return None, f"unreachable: {type(error).__name__}", ""
        return response.status_code, None, answer[:ANSWER_BYTES].decode(errors="replace")[:ANSWER_CHARACTERS]


def envelope(row: dict[str, Any], merchant: Merchant) -> bytes:
    """The body of a callback: its resource sealed with the merchant's APIv3 key."""
    nonce = secrets.token_hex(6)
    associated_data = row["original_type"]
    sealed = crypto.aes_gcm_encrypt(
        merchant.apiv3_key, nonce.encode(), row["resource"].encode(), associated_data.encode()
    )
    document = {
        "id": row["id"],
        "create_time": row["create_time"],
        "resource_type": "encrypt-resource",
        "event_type": row["event_type"],
        "summary": row["summary"],
        "resource": {
            "original_type": row["original_type"],
            "algorithm": "AEAD_AES_256_GCM",
            "ciphertext": sealed,
            "associated_data": associated_data,
            "nonce": nonce,
        },
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
