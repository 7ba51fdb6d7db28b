"""消息推送: what WeChat tells of a mini-program without being asked. Safe mode (安全模式) only.

Source: developers.weixin.qq.com, 消息推送 and 订阅消息. The order of the steps is the safety: size → window → signature
over the ciphertext → decrypt, with our appid at its end → strict reading → kept once and applied, in one transaction.
Before the signature nothing is read but the ciphertext, and nothing of an unverified body is kept.
"""

import hashlib
import hmac
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from xml.parsers.expat import ExpatError

import structlog
import xmltodict
from wechatpy.crypto import WeChatCrypto
from wechatpy.exceptions import InvalidAppIdException
from wechatpy.utils import WeChatSigner

from kit import clock, strict_json
from kit.errors import BodyTooLarge, NotFound, Refusal
from kit.ids import new_id
from models.message import Message, MessageState
from models.resident import WechatIdentity
from models.secret import decrypt, encrypt
from models.unit_of_work import row, rows, unit_of_work
from models.wechat_app import PUSH_KEY_CONTEXT, PUSH_TOKEN_CONTEXT, WechatApp
from models.wechat_push import BODY_CONTEXT, WechatPushOutcome

log = structlog.get_logger()

MAX_BYTES = 64 * 1024
WINDOW_S = 300
KEPT_DAYS = 90
_MAX_ENTRIES = 100

_ENCRYPTED = re.compile(rb"<Encrypt>\s*(?:<!\[CDATA\[)?([A-Za-z0-9+/=]+)(?:\]\]>)?\s*</Encrypt>")
# In XML what an event is about stands in an element of its own; in JSON mostly directly under the message.
_WRAPPERS = {
    "subscribe_msg_popup_event": "SubscribeMsgPopupEvent",
    "subscribe_msg_change_event": "SubscribeMsgChangeEvent",
    "subscribe_msg_sent_event": "SubscribeMsgSentEvent",
}

_KEEP = """
INSERT INTO wechat_pushes (id, created_at, app_id, dedupe_key, event, outcome, body_cipher, deliveries)
VALUES ($1, $2, $3, $4, $5, 'kept', $6, 1)
ON CONFLICT (app_id, dedupe_key) DO UPDATE SET deliveries = wechat_pushes.deliveries + 1
RETURNING id, deliveries
"""
_MARK = "UPDATE wechat_pushes SET outcome = $2 WHERE id = $1"
# Late news of an older word changes nothing.
_SAID = """
INSERT INTO message_subscriptions (id, created_at, organization_id, app_id, resident_id, template_id, accepted, said_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (app_id, resident_id, template_id)
DO UPDATE SET accepted = EXCLUDED.accepted, said_at = EXCLUDED.said_at
    WHERE message_subscriptions.said_at <= EXCLUDED.said_at
"""
_FORGET = """
DELETE FROM wechat_pushes WHERE id IN (
    SELECT id FROM wechat_pushes WHERE created_at < $1 ORDER BY created_at LIMIT 1000)
RETURNING id
"""


class PushUnverified(Refusal):
    """Signature, window or appid do not hold, or it is not in safe mode."""

    status = 401
    zh = "签名不正确。"
    en = "Signature, time window or appid do not hold; only safe mode is taken."


class PushMalformed(Refusal):
    """WeChat's own, but not understood."""

    status = 400
    zh = "内容无法识别。"
    en = "Signed by WeChat, but not understood."


@dataclass(frozen=True)
class PushSignature:
    """What stands in the query of every call of WeChat's."""

    timestamp: str
    nonce: str
    signature: str = ""
    msg_signature: str = ""
    encrypt_type: str = ""


async def verify_push_address(app_id: UUID, signed: PushSignature, echo: str) -> str:
    """WeChat asks whether the address is ours: the echo, when it knows our token. NotFound, PushUnverified."""
    _, crypto = await _app_of(app_id)
    _refuse_old(signed)
    if not _signed(signed.signature, crypto.token, signed.timestamp, signed.nonce):
        raise PushUnverified()
    return echo


async def receive_push(app_id: UUID, signed: PushSignature, body: bytes) -> WechatPushOutcome:
    """Work one delivery; ``body`` is raw. A repeat is only counted. What nobody works on is kept and counted.

    NotFound (no such app, or it has no push token), BodyTooLarge, PushUnverified, PushMalformed.
    """
    if len(body) > MAX_BYTES:
        raise BodyTooLarge()
    app, crypto = await _app_of(app_id)
    _refuse_old(signed)
    text = _open(crypto, signed, body)
    told = _read(text)
    outcome = await _work(app, told, text)
    log.info("push_worked", push_event=_event(told), outcome=str(outcome))
    return outcome


async def _app_of(app_id: UUID) -> tuple[WechatApp, WeChatCrypto]:
    app = await WechatApp.get_or_none(id=app_id)
    if app is None or app.push_token_cipher is None or app.push_key_cipher is None:
        raise NotFound()
    token, key = decrypt(app.push_token_cipher, PUSH_TOKEN_CONTEXT), decrypt(app.push_key_cipher, PUSH_KEY_CONTEXT)
    return app, WeChatCrypto(token, key, app.appid)


def _refuse_old(signed: PushSignature) -> None:
    if not re.fullmatch(r"[0-9]{1,12}", signed.timestamp) or abs(int(signed.timestamp) - clock.unix_s()) > WINDOW_S:
        raise PushUnverified()


def _signed(signature: str, *parts: str) -> bool:
    signer = WeChatSigner()
    signer.add_data(*parts)
    return hmac.compare_digest(signer.signature.encode(), signature.encode())


def _open(crypto: WeChatCrypto, signed: PushSignature, body: bytes) -> str:
    """The decrypted message. JSON is only cut open for its ciphertext, XML not even parsed, before the signature."""
    if signed.encrypt_type != "aes":
        raise PushUnverified()
    encrypted = _ciphertext(body)
    if not _signed(signed.msg_signature, crypto.token, signed.timestamp, signed.nonce, encrypted):
        raise PushUnverified()
    try:
        opened: str = crypto.decrypt_message(
            {"Encrypt": encrypted}, signed.msg_signature, signed.timestamp, signed.nonce
        )
    except InvalidAppIdException as error:
        raise PushUnverified() from error
    except (ValueError, IndexError, struct.error) as error:
        raise PushMalformed() from error
    return opened


def _ciphertext(body: bytes) -> str:
    if not body.lstrip().startswith(b"{"):
        found = _ENCRYPTED.search(body)
        if found is None:
            raise PushUnverified()
        return found.group(1).decode()
    try:
        envelope = strict_json.loads(body)
    except Refusal as error:
        raise PushUnverified() from error
    encrypted = envelope.get("Encrypt") if isinstance(envelope, dict) else None
    if not isinstance(encrypted, str):
        raise PushUnverified()
    return encrypted


def _read(text: str) -> dict[str, Any]:
    """The message as a dict, whichever of the two formats the app is set to. The parser takes no entities."""
    try:
        if text.lstrip().startswith("{"):
            told = strict_json.loads(text.encode())
        else:
            told = xmltodict.parse(text)["xml"]
    except (Refusal, ExpatError, KeyError, TypeError, ValueError) as error:
        raise PushMalformed() from error
    if not isinstance(told, dict) or "\0" in text:
        raise PushMalformed()
    return told


def _event(told: Mapping[str, Any]) -> str:
    return str(told.get("Event") or told.get("MsgType") or "unknown")[:64]


def _dedupe_key(told: Mapping[str, Any]) -> str:
    """MsgId for messages. An event has none: who, when and which, with all that it says, for two may share a second."""
    known = str(told["MsgId"]) if told.get("MsgId") else json.dumps(told, sort_keys=True, default=str)
    return hashlib.sha256(known.encode()).hexdigest()


@unit_of_work
async def _work(app: WechatApp, told: Mapping[str, Any], text: str) -> WechatPushOutcome:
    cipher = encrypt(text, BODY_CONTEXT)
    kept = await row(_KEEP, new_id(), clock.now(), app.id, _dedupe_key(told), _event(told), cipher)
    assert kept is not None
    if kept["deliveries"] > 1:
        return WechatPushOutcome.KEPT
    applied = await _apply_tx(app, told)
    if not applied:
        return WechatPushOutcome.KEPT
    await rows(_MARK, kept["id"], WechatPushOutcome.APPLIED.value)
    return WechatPushOutcome.APPLIED


async def _apply_tx(app: WechatApp, told: Mapping[str, Any]) -> bool:
    """Whether anybody here had use for it."""
    event = _event(told)
    if event not in _WRAPPERS:
        return False  # wxa_media_check and whatever WeChat invents: kept
    identity = await WechatIdentity.get_or_none(app_id=app.id, openid=str(told.get("FromUserName", ""))[:128])
    if identity is None:
        return False
    said_at = _said_at(told)
    used = False
    for entry in _entries(told, _WRAPPERS[event]):
        if event == "subscribe_msg_sent_event":
            used = await _sent_tx(app, identity, entry, said_at) or used
        else:
            used = await _said_tx(app, identity, entry, said_at) or used
    return used


def _entries(told: Mapping[str, Any], wrapper: str) -> list[dict[str, Any]]:
    """What the event lists. One entry comes as itself, several as a list, in either format."""
    inner = told.get(wrapper)
    listed = (inner if isinstance(inner, dict) else told).get("List")
    entries = listed if isinstance(listed, list) else [listed]
    return [entry for entry in entries if isinstance(entry, dict)][:_MAX_ENTRIES]


def _said_at(told: Mapping[str, Any]) -> datetime:
    seconds = str(told.get("CreateTime", ""))
    said_at = datetime.fromtimestamp(int(seconds), UTC) if re.fullmatch(r"[0-9]{1,11}", seconds) else clock.now()
    return min(said_at, clock.now())


async def _said_tx(app: WechatApp, identity: WechatIdentity, entry: Mapping[str, Any], said_at: datetime) -> bool:
    template_id, word = str(entry.get("TemplateId", "")), entry.get("SubscribeStatusString")
    if not 0 < len(template_id) <= 64 or word not in ("accept", "reject"):
        return False
    await rows(_SAID, new_id(), clock.now(), app.organization_id, app.id, identity.resident_id, template_id,
               word == "accept", said_at)  # fmt: skip
    return True


async def _sent_tx(app: WechatApp, identity: WechatIdentity, entry: Mapping[str, Any], said_at: datetime) -> bool:
    """What became of a message that WeChat took: by its number, else the newest of its kind without an outcome."""
    theirs = Message.filter(resident_id=identity.resident_id, outcome=None)
    msgid = str(entry.get("MsgID") or entry.get("MsgId") or "")[:64]
    message = await theirs.filter(msgid=msgid).select_for_update().first() if msgid else None
    if message is None:
        kinds = [kind for kind, template_id in app.templates.items() if template_id == entry.get("TemplateId")]
        taken = theirs.filter(kind__in=kinds, state__in=[MessageState.QUEUED, MessageState.SENT], msgid=None)
        message = await taken.order_by("-id").select_for_update().first()
    if message is None:
        return False
    arrived = str(entry.get("ErrorCode")) == "0"
    message.outcome = "success" if arrived else str(entry.get("ErrorStatus") or entry.get("ErrorCode"))[:64]
    message.outcome_at = said_at
    await message.save(update_fields=["outcome", "outcome_at"])
    return True


@unit_of_work
async def forget_pushes() -> int:
    """Let go of old pushes, a batch of them; how many. The window keeps them from coming again."""
    return len(await rows(_FORGET, clock.now() - timedelta(days=KEPT_DAYS)))
