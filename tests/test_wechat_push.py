"""消息推送: verified, decrypted, kept once, applied; nothing else is believed and nothing of it is kept."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import xmltodict
from wechatpy.crypto import WeChatCrypto
from wechatpy.utils import WeChatSigner, check_signature

from kit import clock
from models.access import Role
from models.audit import Audit
from models.message import Message, MessageSubscription
from models.secret import encrypt
from models.wechat_app import PUSH_KEY_CONTEXT, PUSH_TOKEN_CONTEXT, WechatApp
from models.wechat_push import WechatPush
from services import wechat_push as service
from tests.conftest import Drain, SandboxControl
from tests.test_message import queue
from tests.world import TEMPLATES, Home, World, unknown_id

VECTORS = json.loads((Path(__file__).parent / "data/wechat_vectors.json").read_text())["message_push"]
TOKEN, KEY = "pushtoken1", base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()[:43]
TEMPLATE = TEMPLATES["payment_received"]


class Pusher:
    """WeChat's side of the push: encrypts and signs as the platform does."""

    def __init__(self, api: httpx.AsyncClient, app: WechatApp, token: str = TOKEN, appid: str | None = None) -> None:
        self.api = api
        self.path = f"/callbacks/wechat/push/{app.id}"
        self.crypto = WeChatCrypto(token, KEY, appid or app.appid)

    def sign(self, *parts: str) -> str:
        signer = WeChatSigner()
        signer.add_data(self.crypto.token, *parts)
        return str(signer.signature)

    async def send(self, message: str, *, xml: bool = False, **query: str) -> httpx.Response:
        timestamp, nonce = query.pop("timestamp", str(clock.unix_s())), "415670741"
        sealed = xmltodict.parse(self.crypto.encrypt_message(message, nonce, timestamp))["xml"]
        body = json.dumps({"ToUserName": "gh_1", "Encrypt": sealed["Encrypt"]})
        if xml:
            body = f"<xml><ToUserName>gh_1</ToUserName><Encrypt><![CDATA[{sealed['Encrypt']}]]></Encrypt></xml>"
        params = {
            "signature": self.sign(timestamp, nonce), "timestamp": timestamp, "nonce": nonce, "openid": "o1",
            "encrypt_type": "aes", "msg_signature": sealed["MsgSignature"],
        } | query  # fmt: skip
        return await self.api.post(self.path, params=params, content=body.encode())


@pytest.fixture
async def home(world: World) -> Home:
    return await with_push(await world.home())


async def with_push(home: Home) -> Home:
    app = home.company.app
    app.push_token_cipher, app.push_key_cipher = encrypt(TOKEN, PUSH_TOKEN_CONTEXT), encrypt(KEY, PUSH_KEY_CONTEXT)
    await app.save()
    return home


def event(home: Home, name: str, listed: Any, at: datetime | None = None, **values: Any) -> dict[str, Any]:
    """As WeChat writes it: in JSON the list stands directly under the message."""
    seconds = int((at or clock.now()).timestamp())
    return {"ToUserName": "gh_1", "FromUserName": home.owner.openid, "CreateTime": seconds, "MsgType": "event",
            "Event": name, "List": listed} | values  # fmt: skip


def said(word: str, template_id: str = TEMPLATE) -> dict[str, str]:
    return {"TemplateId": template_id, "SubscribeStatusString": word, "PopupScene": "0"}


async def subscriptions(home: Home) -> dict[str, bool]:
    answer = await home.owner.get("/api/v1/message-subscriptions")
    return {one["template_id"]: one["accepted"] for one in answer.json()["items"]}


# --- the official vectors -------------------------------------------------------------------------------------------


async def test_the_official_vectors(world: World, owner: asyncpg.Connection) -> None:
    home = await world.home()
    app, vectors = home.company.app, VECTORS
    app.appid = vectors["appid"]
    app.push_token_cipher = encrypt(vectors["token"], PUSH_TOKEN_CONTEXT)
    app.push_key_cipher = encrypt(vectors["encoding_aes_key"], PUSH_KEY_CONTEXT)
    await app.save()
    path = f"/callbacks/wechat/push/{app.id}"

    first, second = vectors["url_verify"]
    check_signature(vectors["token"], second["signature"], second["timestamp"], second["nonce"])
    with clock.travel_to(datetime.fromtimestamp(int(first["timestamp"]), UTC)):
        echoed = await world.api.get(path, params=first)
        assert (echoed.status_code, echoed.text) == (200, first["echostr"])
        assert echoed.headers["content-type"].startswith("text/plain")
        assert (await world.api.get(path, params=first | {"echostr": "<b>", "nonce": "1"})).status_code == 401
    sent = vectors["encrypted"]
    with clock.travel_to(datetime.fromtimestamp(int(sent["timestamp"]), UTC)):
        query = {name: sent[name] for name in ("timestamp", "nonce", "encrypt_type", "signature", "msg_signature")}
        answer = await world.api.post(path, params=query, json=sent["body"])
    assert (answer.status_code, answer.text) == (200, "success")
    kept = await WechatPush.get()
    assert (kept.event, kept.outcome, kept.deliveries) == ("debug_demo", "kept", 1)
    assert "hello" not in kept.body_cipher


# --- what residents say, what became of messages --------------------------------------------------------------------


@pytest.mark.parametrize("xml", [False, True])
async def test_what_a_resident_accepts_and_refuses_is_known(world: World, home: Home, xml: bool) -> None:
    pusher, other = Pusher(world.api, home.company.app), "template-other"

    def written(told: dict[str, Any], wrapper: str) -> str:
        if not xml:
            return json.dumps(told, ensure_ascii=False)
        listed = told.pop("List")
        return xmltodict.unparse({"xml": told | {wrapper: {"List": listed}}})

    popup = event(home, "subscribe_msg_popup_event", [said("accept"), said("reject", other)])
    answer = await pusher.send(written(popup, "SubscribeMsgPopupEvent"), xml=xml)
    assert (answer.status_code, answer.text) == (200, "success")
    assert await subscriptions(home) == {TEMPLATE: True, other: False}

    # One that stands alone is no list; and it is the later word.
    change = event(home, "subscribe_msg_change_event", said("reject"))
    await pusher.send(written(change, "SubscribeMsgChangeEvent"), xml=xml)
    assert await subscriptions(home) == {TEMPLATE: False, other: False}

    # Late news of an older word changes nothing.
    late = event(home, "subscribe_msg_popup_event", said("accept"), at=clock.now() - timedelta(minutes=2))
    await pusher.send(written(late, "SubscribeMsgPopupEvent"), xml=xml)
    assert await subscriptions(home) == {TEMPLATE: False, other: False}
    assert await WechatPush.filter(outcome="applied").count() == 3


async def test_what_became_of_a_message_is_known(
    world: World, home: Home, sandbox: SandboxControl, drain: Drain
) -> None:
    pusher = Pusher(world.api, home.company.app)
    await queue(home, unknown_id())
    await queue(home, unknown_id())
    await drain()
    first, second = await Message.all().order_by("id")
    await Message.filter(id=first.id).update(msgid="1700827132819554304")

    sent = {"TemplateId": TEMPLATE, "MsgID": "1700827132819554304", "ErrorCode": "0", "ErrorStatus": "success"}
    await pusher.send(json.dumps(event(home, "subscribe_msg_sent_event", sent)))
    blocked = {"TemplateId": TEMPLATE, "MsgID": 1864323726461255680, "ErrorCode": 43101, "ErrorStatus": "user refuse"}
    await pusher.send(json.dumps(event(home, "subscribe_msg_sent_event", [blocked])))

    assert [(one.state, one.outcome) for one in await Message.all().order_by("id")] == [
        ("sent", "success"),
        ("sent", "user refuse"),
    ]
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    listed = (await butler.get("/api/v1/staff/messages")).json()["items"]
    assert sorted(one["outcome"] for one in listed) == ["success", "user refuse"]
    assert second.outcome is None


async def test_a_repeat_is_counted_and_changes_nothing(world: World, home: Home) -> None:
    pusher = Pusher(world.api, home.company.app)
    told = json.dumps(event(home, "subscribe_msg_popup_event", said("accept")))
    answers = await asyncio.gather(*(pusher.send(told) for _ in range(5)))

    assert [one.text for one in answers] == ["success"] * 5
    (kept,) = await WechatPush.all()
    assert (kept.deliveries, kept.outcome) == (5, "applied")
    assert await MessageSubscription.all().count() == 1


UNUSED = (
    {"MsgType": "event", "Event": "wxa_media_check", "trace_id": "t1", "result": {"suggest": "pass"}},
    {"MsgType": "event", "Event": "an_event_of_tomorrow", "List": [[[]]]},
    {"MsgType": "text", "MsgId": 6054768590064713728, "Content": "你好"},
    {"MsgType": "event", "Event": "subscribe_msg_popup_event", "FromUserName": "a stranger", "List": "no list"},
    {},
)


async def test_what_nobody_works_on_is_kept_and_answered(world: World, home: Home) -> None:
    pusher = Pusher(world.api, home.company.app)
    for told in UNUSED:
        answer = await pusher.send(json.dumps(told))
        assert (answer.status_code, answer.text) == (200, "success"), told

    assert [one.outcome for one in await WechatPush.all()] == ["kept"] * len(UNUSED)
    assert {one.event for one in await WechatPush.all()} > {"wxa_media_check", "an_event_of_tomorrow", "text"}
    assert await MessageSubscription.all().count() == 0


async def test_old_pushes_are_forgotten(world: World, home: Home) -> None:
    await Pusher(world.api, home.company.app).send("{}")
    assert await service.forget_pushes() == 0
    with clock.travel_to(clock.now() + timedelta(days=service.KEPT_DAYS + 1)):
        assert await service.forget_pushes() == 1


# --- what is not believed -------------------------------------------------------------------------------------------


async def test_nothing_unverified_is_believed_or_kept(world: World, home: Home) -> None:
    app = home.company.app
    pusher, told = Pusher(world.api, app), json.dumps(event(home, "subscribe_msg_popup_event", said("accept")))
    now = clock.unix_s()
    timestamp, nonce = str(now), "1"
    plain = {"signature": pusher.sign(timestamp, nonce), "timestamp": timestamp, "nonce": nonce}
    answers = {
        "another token": await Pusher(world.api, app, token="another").send(told),
        "another appid": await Pusher(world.api, app, appid="wx0000000000000099").send(told),
        "wrong signature": await pusher.send(told, msg_signature="0" * 40),
        "no signature": await pusher.send(told, msg_signature=""),
        "strange signature": await pusher.send(told, msg_signature="签名"),
        "too old": await pusher.send(told, timestamp=str(now - 301)),
        "from tomorrow": await pusher.send(told, timestamp=str(now + 400)),
        "no time": await pusher.send(told, timestamp="soon"),
        "plain mode": await world.api.post(pusher.path, params=plain, content=told),
        "plain mode, named": await pusher.send(told, encrypt_type="raw"),
        "no envelope": await world.api.post(pusher.path, params=plain | {"encrypt_type": "aes"}, content=b""),
        "not JSON": await world.api.post(pusher.path, params=plain | {"encrypt_type": "aes"}, content=b'{"Encrypt":'),
        "no text": await world.api.post(pusher.path, params=plain | {"encrypt_type": "aes"}, json={"Encrypt": [1]}),
        "entities": await world.api.post(
            pusher.path, params=plain | {"encrypt_type": "aes"},
            content=b'<!DOCTYPE x [<!ENTITY a "b">]><xml><Encrypt>&a;</Encrypt></xml>',
        ),
        "address": await world.api.get(pusher.path, params={"echostr": "1"}),
    }  # fmt: skip

    assert {(one.status_code, one.json()["code"]) for one in answers.values()} == {(401, "push_unverified")}
    assert await WechatPush.all().count() == await MessageSubscription.all().count() == 0


NOT_UNDERSTOOD = (
    "", "null", "[1]", '{"a":1,"a":2}', "<xml>", "<a/>", "<xml>x</xml>", '{"a":"\\u0000"}', "{" * 300,
    '<!DOCTYPE x [<!ENTITY a "b"><!ENTITY c "&a;&a;">]><xml><Event>&c;</Event></xml>',
)  # fmt: skip


async def test_what_is_signed_but_not_understood_is_refused(world: World, home: Home) -> None:
    pusher = Pusher(world.api, home.company.app)
    for text in NOT_UNDERSTOOD:
        answer = await pusher.send(text)
        assert (answer.status_code, answer.json()["code"]) == (400, "push_malformed"), text

    timestamp = str(clock.unix_s())
    for sealed in ("AAAA", "x", base64.b64encode(b"\xff" * 64).decode(), "="):
        query = {"timestamp": timestamp, "nonce": "1", "encrypt_type": "aes",
                 "msg_signature": pusher.sign(timestamp, "1", sealed)}  # fmt: skip
        answer = await world.api.post(pusher.path, params=query, json={"Encrypt": sealed})
        assert answer.status_code in (400, 401), sealed
    assert await WechatPush.all().count() == 0


async def test_an_app_without_keys_is_not_there(world: World) -> None:
    home = await world.home()
    without = await Pusher(world.api, home.company.app).send("{}")
    unknown = await world.api.post(f"/callbacks/wechat/push/{unknown_id()}", content=b"{}")
    assert (without.status_code, unknown.status_code) == (404, 404) and without.json() == unknown.json()


async def test_more_than_64_kib_is_too_much(world: World, home: Home) -> None:
    answer = await Pusher(world.api, home.company.app).send("x" * 70_000)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_the_keys_go_in_and_never_come_out(world: World, owner: asyncpg.Connection) -> None:
    home = await world.home()
    manager = await world.staff(home.company, Role.MANAGER)
    path = f"/api/v1/staff/wechat-apps/{home.company.app.id}"
    assert (await manager.get(path)).json()["takes_pushes"] is False

    changed = await manager.patch(path, {"push": {"token": TOKEN, "encoding_aes_key": KEY}})

    assert changed.status_code == 200 and changed.json()["takes_pushes"] is True
    assert (await Pusher(world.api, home.company.app).send("{}")).text == "success"
    for key in ("!" * 43, KEY[:42]):
        refused = await manager.patch(path, {"push": {"token": TOKEN, "encoding_aes_key": key}})
        assert refused.status_code == 422
    stored = dict(await owner.fetchrow("SELECT * FROM wechat_apps WHERE id = $1", home.company.app.id))
    audits = [str(one.after) for one in await Audit.filter(act="wechat_app.update")]
    for secret in (TOKEN, KEY):
        assert secret not in changed.text + str(stored) + "".join(audits)
    assert len(audits) == 1 and "push_token" in audits[0]
