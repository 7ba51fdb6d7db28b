"""Message push: what WeChat sends to an app's configured address, encrypted in the safe mode.

Source: developers.weixin.qq.com, 消息推送 and 消息加解密说明. Answered within five seconds by ``success`` or nothing,
or tried again, three times in all.
"""

import base64
import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

import httpx
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from sandbox.config import origin_of
from sandbox.context import Context
from sandbox.error import ControlError

TRIES = 3
_TOKEN = re.compile(r"[0-9A-Za-z]{3,32}")
_AES_KEY = re.compile(r"[0-9A-Za-z]{43}")


@dataclass(frozen=True)
class Address:
    """Where an app's pushes go, and the secrets it shares with WeChat."""

    url: str
    token: str
    aes_key: str
    form: str


def check(setting: Any) -> dict[str, str]:
    """A ``message_push`` setting that can be used, or 422."""
    given: dict[str, Any] = setting if isinstance(setting, dict) else {}
    form = given.get("format", "json")
    texts = {name: given.get(name) for name in ("url", "token", "encoding_aes_key")}
    fits = (
        set(given) <= {"url", "token", "encoding_aes_key", "format"}
        and all(isinstance(each, str) for each in texts.values())
        and form in ("json", "xml")
        and _TOKEN.fullmatch(str(texts["token"]))
        and _AES_KEY.fullmatch(str(texts["encoding_aes_key"]))
        and "?" not in str(texts["url"])
    )
    if not fits:
        raise ControlError(422, "invalid_input", "消息推送配置有误。", fields=["message_push"])
    return {**{name: str(each) for name, each in texts.items()}, "format": form}


def _address(context: Context, appid: str) -> Address:
    row = context.store.row("SELECT message_push FROM app WHERE appid = ?", appid)
    if row is None:
        raise ControlError(404, "app_unknown", "没有登记这个应用。")
    if row["message_push"] is None:
        raise ControlError(409, "message_push_not_set", "这个应用没有配置消息推送。")
    kept = json.loads(row["message_push"])
    if origin_of(kept["url"]) != origin_of(context.config.api_base):
        raise ControlError(409, "message_push_refused", "推送地址不在 --api 之下，不会被调用。", url=kept["url"])
    return Address(kept["url"], kept["token"], kept["encoding_aes_key"], kept["format"])


def signature(*parts: str) -> str:
    """SHA-1 over the parts in order of their text, as WeChat signs a push."""
    return hashlib.sha1("".join(sorted(parts)).encode(), usedforsecurity=False).hexdigest()


def encrypt(address: Address, appid: str, plaintext: bytes) -> str:
    """``Encrypt`` of the safe mode: sixteen random bytes, length, message and appid, padded to 32 bytes."""
    key = base64.b64decode(address.aes_key + "=")
    padder = PKCS7(256).padder()
    whole = secrets.token_bytes(16) + len(plaintext).to_bytes(4, "big") + plaintext + appid.encode()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
    padded = padder.update(whole) + padder.finalize()
    return base64.b64encode(encryptor.update(padded) + encryptor.finalize()).decode()


async def verify(context: Context, appid: str) -> dict[str, Any]:
    """What happens when the address is saved at WeChat's site: it must give ``echostr`` back."""
    address, echo = _address(context, appid), str(secrets.randbelow(10**19))
    stamp = _stamp(context, address)
    status, text = await _send(context, "GET", address.url, {**stamp, "echostr": echo}, b"")
    return {"verified": status == 200 and text == echo, "status": status, "answer": text}


async def push(context: Context, appid: str, openid: str, message: dict[str, Any], plain: bool) -> dict[str, Any]:
    """Send an event or a message of a person, until it is taken; answers the statuses. ``plain``: not encrypted."""
    address = _address(context, appid)
    whole = {"ToUserName": "gh_sandbox", "FromUserName": openid, "CreateTime": context.clock.unix_s(), **message}
    statuses: list[int | None] = []
    text = ""
    for _ in range(TRIES):
        stamp = _stamp(context, address)
        query = {**stamp, "openid": openid}
        body = _written(address.form, whole)
        if not plain:
            sealed = encrypt(address, appid, body)
            said = signature(address.token, stamp["timestamp"], stamp["nonce"], sealed)
            query |= {"encrypt_type": "aes", "msg_signature": said}
            body = _written(address.form, {"ToUserName": whole["ToUserName"], "Encrypt": sealed})
        status, text = await _send(context, "POST", address.url, query, body, f"text/{address.form}")
        statuses.append(status)
        # An encrypted answer is taken for an answer to the person, so it counts.
        if status == 200 and (text in ("", "success") or "Encrypt" in text):
            break
    return {"statuses": statuses, "answer": text}


def _stamp(context: Context, address: Address) -> dict[str, str]:
    timestamp, nonce = str(context.clock.unix_s()), str(secrets.randbelow(10**10))
    return {"signature": signature(address.token, timestamp, nonce), "timestamp": timestamp, "nonce": nonce}


def _written(form: str, members: dict[str, Any]) -> bytes:
    if form == "json":
        return json.dumps(members, ensure_ascii=False).encode()
    return f"<xml>{_elements(members)}</xml>".encode()


def _elements(members: dict[str, Any]) -> str:
    written = {name: _elements(each) if isinstance(each, dict) else escape(str(each)) for name, each in members.items()}
    return "".join(f"<{name}>{each}</{name}>" for name, each in written.items())


async def _send(
    context: Context, method: str, url: str, query: dict[str, str], body: bytes, media_type: str = "text/plain"
) -> tuple[int | None, str]:
    try:
        answer = await context.courier.client.request(
            method, url, params=query, content=body, headers={"Content-Type": media_type}
        )
    except httpx.HTTPError:
        return None, ""
    return answer.status_code, answer.text[:2000]
