"""The mini-program server API: who a login code is, which phone a phone code holds, messages, shipping information.

Source: developers.weixin.qq.com (code2session, stable_token, getuserphonenumber, subscribeMessage.send,
upload_shipping_info). WeChat answers these with HTTP 200 always; ``errcode`` absent or 0 is success.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx

from kit import clock, crash_point, strict_json
from kit.crypto import Undecipherable
from kit.errors import Refusal
from kit.text import normalise_phone
from models import redis
from models.metric import CallTimer
from models.redis import RedisAway
from models.secret import decrypt, encrypt
from models.unit_of_work import inside_unit_of_work, rows, unit_of_work
from models.wechat_app import SECRET_CONTEXT, TOKEN_CONTEXT, WechatApp, WechatToken

_TIMEOUT = httpx.Timeout(5.0, connect=3.0)
_TOKEN_STALE = {40001, 40014, 42001}
_BUSY = {-1, 45009, 45011}
_BAD_CODE = {40029, 40163, 41008}

_KEEP = """
INSERT INTO wechat_tokens (app_id, token_cipher, expires_at) VALUES ($1, $2, $3)
ON CONFLICT (app_id) DO UPDATE SET token_cipher = EXCLUDED.token_cipher, expires_at = EXCLUDED.expires_at
"""


class WechatSaysNo(Exception):
    """A definite errcode."""

    def __init__(self, errcode: int, errmsg: str = "") -> None:
        super().__init__(f"errcode {errcode}")
        self.errcode = errcode


class WechatAway(Exception):
    """No usable answer, or WeChat is busy: try later."""


class LoginCodeInvalid(Refusal):
    """The code of ``wx.login`` or of the phone button is unknown, used or older than five minutes."""

    status = 401
    zh = "登录已过期，请重新打开小程序。"
    en = "The WeChat code is not valid any more; ask for a new one."


class WechatLoginUnavailable(Refusal):
    """WeChat did not answer."""

    status = 503
    zh = "微信暂时没有回应，请稍后再试。"
    en = "WeChat did not answer; try again shortly."
    retry_after_s = 2


@dataclass(frozen=True)
class WechatSession:
    """Who a login code is. The session key stays here: it is not needed, so it is not kept."""

    openid: str
    unionid: str | None


_base_url: str | None = None
_http: httpx.AsyncClient | None = None


def configure(base_url: str) -> None:
    """Where the API is; done once at start of the process."""
    global _base_url
    _base_url = base_url


async def close() -> None:
    """Close the connections; done once at the end of the process."""
    global _http
    if _http is not None:
        await _http.aclose()
        _http = None


async def code_to_session(app: WechatApp, code: str) -> WechatSession:
    """Exchange a login code. Refuses with LoginCodeInvalid or WechatLoginUnavailable."""
    query = {
        "appid": app.appid,
        "secret": decrypt(app.secret_cipher, SECRET_CONTEXT),
        "js_code": code,
        "grant_type": "authorization_code",
    }
    try:
        answer = await _call("GET", "/sns/jscode2session", query=query)
    except WechatSaysNo as error:
        if error.errcode in _BAD_CODE | {40226}:
            raise LoginCodeInvalid() from error
        raise WechatLoginUnavailable() from error
    except WechatAway as error:
        raise WechatLoginUnavailable() from error
    openid = answer.get("openid")
    if not isinstance(openid, str) or not 1 <= len(openid) <= 128:
        raise WechatLoginUnavailable()
    unionid = answer.get("unionid")
    return WechatSession(openid, unionid if isinstance(unionid, str) else None)


async def phone_of_code(app: WechatApp, code: str) -> str:
    """The mainland mobile number that a phone code holds. Refuses as ``code_to_session`` does."""
    try:
        answer = await _with_token(app, "/wxa/business/getuserphonenumber", {"code": code})
    except WechatSaysNo as error:
        if error.errcode in _BAD_CODE:
            raise LoginCodeInvalid() from error
        raise WechatLoginUnavailable() from error
    except WechatAway as error:
        raise WechatLoginUnavailable() from error
    info = answer.get("phone_info")
    phone = normalise_phone(str(info.get("purePhoneNumber", ""))) if isinstance(info, dict) else None
    watermark = info.get("watermark") if isinstance(info, dict) else None
    if phone is None or not isinstance(watermark, dict) or watermark.get("appid") != app.appid:
        raise LoginCodeInvalid()
    return phone


async def send_subscribed(app: WechatApp, openid: str, template_id: str, data: Mapping[str, str]) -> str | None:
    """Send one subscription message; WeChat's number of it, where it gives one.

    Raises WechatSaysNo (43101: no subscription left) or WechatAway.
    """
    document = {
        "touser": openid,
        "template_id": template_id,
        "page": "pages/index/index",
        "data": {name: {"value": value} for name, value in data.items()},
        "lang": "zh_CN",
    }
    answer = await _with_token(app, "/cgi-bin/message/subscribe/send", document)
    msgid = answer.get("msgid")
    return str(msgid)[:64] if msgid else None


async def upload_shipping_info(app: WechatApp, transaction_id: str, openid: str, description: str) -> None:
    """Tell that a paid order was provided, as a whole and without a parcel. Raises WechatSaysNo or WechatAway.

    The order is named by WeChat's own number, which is one and the same for a merchant and its service provider.
    """
    document = {
        "order_key": {"order_number_type": 2, "transaction_id": transaction_id},
        "logistics_type": 3,
        "delivery_mode": 1,
        "shipping_list": [{"item_desc": description}],
        "upload_time": clock.now().astimezone(clock.BEIJING).isoformat(timespec="milliseconds"),
        "payer": {"openid": openid},
    }
    await _with_token(app, "/wxa/sec/order/upload_shipping_info", document)


async def _with_token(app: WechatApp, path: str, document: dict[str, Any]) -> dict[str, Any]:
    """Call with the shared access token; when WeChat says that it is stale, fetch another and repeat once."""
    token = await _token(app)
    try:
        return await _call("POST", path, query={"access_token": token}, document=document)
    except WechatSaysNo as error:
        if error.errcode not in _TOKEN_STALE:
            raise
    token = await _token(app, stale=token)
    return await _call("POST", path, query={"access_token": token}, document=document)


async def _token(app: WechatApp, stale: str | None = None) -> str:
    """The app's access token, as all processes share it while it lasts: from Redis when there is one, else from the
    database. ``stale`` is one that WeChat refused just now: another by then was fetched by somebody else already."""
    shared = await _shared_token(app)
    if shared is not None and shared != stale:
        return shared
    kept = await WechatToken.get_or_none(app_id=app.id)
    if kept and kept.expires_at > clock.now():
        token = decrypt(kept.token_cipher, TOKEN_CONTEXT)
        if token != stale:
            await _share_token(app, kept.token_cipher, kept.expires_at)
            return token
    request = {"grant_type": "client_credential", "appid": app.appid,
               "secret": decrypt(app.secret_cipher, SECRET_CONTEXT)}  # fmt: skip
    answer = await _call("POST", "/cgi-bin/stable_token", document=request)
    fresh, lasts_s = answer.get("access_token"), answer.get("expires_in")
    if not isinstance(fresh, str) or not isinstance(lasts_s, int):
        raise WechatAway("no token in the answer")
    # Normal mode gives the same token until five minutes before its end, so it is asked for again then.
    expires_at = clock.now() + timedelta(seconds=max(lasts_s - 240, 30))
    cipher = encrypt(fresh, TOKEN_CONTEXT)
    await _save_token(app, cipher, expires_at)
    await _share_token(app, cipher, expires_at)
    return fresh


@unit_of_work
async def _save_token(app: WechatApp, cipher: str, expires_at: datetime) -> None:
    await rows(_KEEP, app.id, cipher, expires_at)


async def _shared_token(app: WechatApp) -> str | None:
    """The token that Redis has, if it can still be used and read. Redis keeps it encrypted, as the database does."""
    line = redis.shared()
    if line is None:
        return None
    try:
        kept = await line.ask(lambda client: client.get(_shared_key(app)))
        expires_at, _, cipher = str(kept or "").partition(" ")
        if cipher and datetime.fromisoformat(expires_at) > clock.now():
            return decrypt(cipher, TOKEN_CONTEXT)
    except (RedisAway, Undecipherable, ValueError):
        return None  # the database has it too
    return None


async def _share_token(app: WechatApp, cipher: str, expires_at: datetime) -> None:
    line = redis.shared()
    lasts_s = int((expires_at - clock.now()).total_seconds())
    if line is None or lasts_s <= 0:
        return
    value = f"{expires_at.isoformat()} {cipher}"
    with contextlib.suppress(RedisAway):
        await line.ask(lambda client: client.set(_shared_key(app), value, ex=lasts_s))


def _shared_key(app: WechatApp) -> str:
    return f"linli:token:{app.id}"


async def _call(
    method: str, path: str, *, query: Mapping[str, str] | None = None, document: dict[str, Any] | None = None
) -> dict[str, Any]:
    with CallTimer(path.rpartition("/")[2]) as timer:
        try:
            answer = await _call_once(method, path, query=query, document=document)
        except WechatSaysNo:
            timer.outcome = "refused"
            raise
        timer.outcome = "done"
        return answer


async def _call_once(
    method: str, path: str, *, query: Mapping[str, str] | None, document: dict[str, Any] | None
) -> dict[str, Any]:
    global _http
    if inside_unit_of_work():
        raise RuntimeError("WeChat is never called inside a transaction: it would hold locks for seconds")
    if _base_url is None:
        raise RuntimeError("the mini-program API is not configured")
    if _http is None:
        _http = httpx.AsyncClient()
    place = f"miniprogram.{path.rpartition('/')[2]}"
    crash_point.passing(f"{place}.before_call")
    try:
        # The error's text would hold the URL, and the URL holds secret and token: only its kind is passed on.
        response = await _http.request(
            method, _base_url + path, params=query, json=document, timeout=_TIMEOUT, follow_redirects=False
        )
    except httpx.HTTPError as error:
        raise WechatAway(type(error).__name__) from None
    crash_point.passing(f"{place}.after_call")
    try:
        answer = strict_json.loads(response.content)
    except Refusal:
        raise WechatAway(f"HTTP {response.status_code} without JSON") from None
    if response.status_code != 200 or not isinstance(answer, dict):
        raise WechatAway(f"HTTP {response.status_code}")
    errcode = answer.get("errcode", 0)
    if errcode in _BUSY:
        raise WechatAway(f"errcode {errcode}")
    if errcode:
        raise WechatSaysNo(int(errcode))
    return answer
