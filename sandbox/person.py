"""Apps, the people who use them, and the one-time codes of ``wx.login`` and ``getPhoneNumber``."""

import base64
import json
import secrets
from typing import Any

from kit.text import normalise_phone
from sandbox.context import APPID, OPENID, Context
from sandbox.error import ApiError, ControlError

CODE_LIFE_S = 300


def register_app(
    context: Context,
    appid: str,
    secret: str,
    name: str,
    templates: dict[str, str] | None = None,
    *,
    trade_managed: bool | None = None,
    message_push: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Put a mini-program in, or change it; what is None stays as it is.

    ``trade_managed``: it must upload shipping information. ``message_push``: url, token, encoding_aes_key, format.
    """
    if not APPID.fullmatch(appid) or not secret or not name:
        raise ControlError(422, "invalid_input", "登记内容有误。", fields=["appid", "secret", "name"])
    with context.store.transaction():
        context.store.execute(
            "INSERT INTO app (appid, secret, name, trade_managed, message_push)"
            " VALUES (?1, ?2, ?3, coalesce(?4, 0), ?5) ON CONFLICT (appid) DO UPDATE SET secret = ?2, name = ?3,"
            " trade_managed = coalesce(?4, trade_managed), message_push = coalesce(?5, message_push)",
            *(appid, secret, name, trade_managed, json.dumps(message_push) if message_push else None),
        )
        if templates is not None:
            context.store.execute("DELETE FROM template WHERE appid = ?", appid)
            for template_id, title in templates.items():
                context.store.insert("template", appid=appid, template_id=template_id, title=title)
    kept = context.store.rows("SELECT template_id, title FROM template WHERE appid = ? ORDER BY template_id", appid)
    return {"appid": appid, "name": name, "templates": {row["template_id"]: row["title"] for row in kept}}


def _find_or_create(context: Context, openid: str, appid: str | None) -> str:
    """The app of this openid; an unknown one is created in ``appid`` or in the first app registered."""
    if not OPENID.fullmatch(openid):
        raise ControlError(422, "invalid_input", "openid 由字母、数字、下划线和短横组成。", fields=["openid"])
    known = context.store.row("SELECT appid FROM person WHERE openid = ?", openid)
    if known is not None:
        if appid is not None and appid != known["appid"]:
            raise ControlError(409, "openid_of_another_app", "这个 openid 属于另一个应用。", app=known["appid"])
        return str(known["appid"])
    chosen = context.store.row("SELECT appid FROM app WHERE ?1 IS NULL OR appid = ?1 ORDER BY seq LIMIT 1", appid)
    if chosen is None:
        raise ControlError(404, "app_unknown", "没有登记这个应用。")
    context.store.insert("person", openid=openid, appid=chosen["appid"])
    return str(chosen["appid"])


def make_login_code(context: Context, openid: str, appid: str | None, unionid: str | None = None) -> str:
    """What ``wx.login`` hands to the mini-program of this person; ``unionid`` is theirs from now on, when given."""
    _find_or_create(context, openid, appid)
    if unionid is not None:
        context.store.execute("UPDATE person SET unionid = ? WHERE openid = ?", unionid, openid)
    return _make_code(context, "login", openid, None)


def make_phone_code(context: Context, openid: str, phone: str) -> str:
    """What the phone-number button hands out; ``phone`` is a mainland mobile number."""
    number = normalise_phone(phone)
    if number is None:
        raise ControlError(422, "invalid_input", "手机号有误。", fields=["phone"])
    _find_or_create(context, openid, None)
    return _make_code(context, "phone", openid, number)


def _make_code(context: Context, kind: str, openid: str, phone: str | None) -> str:
    code = secrets.token_hex(16)
    expires_s = context.clock.life_s() + CODE_LIFE_S
    context.store.insert("code", code=code, kind=kind, openid=openid, phone=phone, expires_s=expires_s)
    return code


def check_app(context: Context, appid: str | None, secret: str | None) -> str:
    """The appid, when it and its secret are given and right."""
    if not appid:
        raise ApiError(41002, "appid missing")
    if not secret:
        raise ApiError(41004, "appsecret missing")
    app = context.store.row("SELECT secret FROM app WHERE appid = ?", appid)
    if app is None:
        raise ApiError(40013, "invalid appid")
    if not secrets.compare_digest(app["secret"].encode(), secret.encode()):
        raise ApiError(40125, "invalid appsecret")
    return appid


def exchange_login_code(context: Context, appid: str, code: str) -> dict[str, str]:
    """openid and session_key for a code of this app, once."""
    row = _valid_code(context, "login", appid, code)
    if row["used"]:
        raise ApiError(40163, "code been used")
    context.store.execute("UPDATE code SET used = 1 WHERE code = ?", code)
    told = {"openid": row["openid"], "session_key": base64.b64encode(secrets.token_bytes(16)).decode()}
    return told if row["unionid"] is None else {**told, "unionid": row["unionid"]}


def exchange_phone_code(context: Context, appid: str, code: str, openid: str | None) -> dict[str, Any]:
    """phone_info for a code of this app, once; an openid that is given must be the code's."""
    row = _valid_code(context, "phone", appid, code)
    if row["used"] or (openid is not None and openid != row["openid"]):
        raise ApiError(40029, "invalid code")
    context.store.execute("UPDATE code SET used = 1 WHERE code = ?", code)
    return {
        "phoneNumber": row["phone"],
        "purePhoneNumber": row["phone"],
        "countryCode": "86",
        "watermark": {"timestamp": context.clock.unix_s(), "appid": appid},
    }


def _valid_code(context: Context, kind: str, appid: str, code: str) -> dict[str, Any]:
    row = context.store.row(
        "SELECT code.*, unionid FROM code JOIN person USING (openid) WHERE code = ? AND kind = ? AND appid = ?",
        *(code, kind, appid),
    )
    if row is None or context.clock.life_s() >= row["expires_s"]:
        raise ApiError(40029, "invalid code")
    return row


def listing(context: Context) -> list[dict[str, Any]]:
    """Everybody, by openid."""
    return context.store.rows("SELECT openid, appid FROM person ORDER BY openid LIMIT 200")
