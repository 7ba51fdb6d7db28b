"""Access tokens with the rules of stable_token, and those of the older /cgi-bin/token beside them.

Source: developers.weixin.qq.com, getStableAccessToken: the same token until five minutes before its end, then a new
one while the old lives on; ``force_refresh`` at most 20 times a day, 30 seconds apart, and the old one dies at once.
"""

import secrets

from sandbox.context import Context
from sandbox.error import ApiError

LIFE_S = 7200
RENEW_S = 300
FORCE_GAP_S = 30
FORCES_A_DAY = 20
PLAIN_A_DAY = 2000
DAY_S = 86_400


def issue(context: Context, appid: str, force_refresh: bool) -> tuple[str, int]:
    """The token to use and how many seconds it has left."""
    now_s = context.clock.life_s()
    if force_refresh:
        _check_force(context, appid, now_s)
        context.store.execute("UPDATE access_token SET revoked = 1 WHERE appid = ? AND NOT plain", appid)
    else:
        current = context.store.row(
            "SELECT token, expires_s FROM access_token WHERE appid = ? AND NOT plain AND NOT revoked AND expires_s > ?"
            " ORDER BY expires_s DESC LIMIT 1",
            *(appid, now_s + RENEW_S),
        )
        if current is not None:
            return current["token"], current["expires_s"] - now_s
    return _keep(context, appid, now_s, forced=force_refresh), LIFE_S


def issue_plain(context: Context, appid: str) -> tuple[str, int]:
    """A token as /cgi-bin/token gives it: always a new one; the one before lives five more minutes."""
    now_s = context.clock.life_s()
    day = context.store.row(
        "SELECT count(*) AS number FROM access_token WHERE appid = ? AND plain AND issued_s > ?", appid, now_s - DAY_S
    )
    if day is not None and day["number"] >= PLAIN_A_DAY:
        raise ApiError(45009, "reach max api daily quota limit")
    context.store.execute(
        "UPDATE access_token SET expires_s = min(expires_s, ?) WHERE appid = ? AND plain", now_s + RENEW_S, appid
    )
    return _keep(context, appid, now_s, plain=True), LIFE_S


def _keep(context: Context, appid: str, now_s: int, *, forced: bool = False, plain: bool = False) -> str:
    token = f"{secrets.randbelow(90) + 10}_{secrets.token_urlsafe(100)}"
    context.store.insert(
        "access_token",
        token=token,
        appid=appid,
        issued_s=now_s,
        expires_s=now_s + LIFE_S,
        forced=int(forced),
        plain=int(plain),
    )
    return token


def _check_force(context: Context, appid: str, now_s: int) -> None:
    recent = context.store.rows(
        "SELECT issued_s FROM access_token WHERE appid = ? AND forced AND issued_s > ? ORDER BY issued_s DESC",
        *(appid, now_s - DAY_S),
    )
    if recent and now_s - recent[0]["issued_s"] < FORCE_GAP_S:
        raise ApiError(45011, "api minute-quota reach limit, must slower, retry next minute")
    if len(recent) >= FORCES_A_DAY:
        raise ApiError(45009, "reach max api daily quota limit")


def check(context: Context, token: str | None) -> str:
    """The app whose token this is; 41001, 40001 or 42001 otherwise."""
    if not token:
        raise ApiError(41001, "access_token missing")
    row = context.store.row("SELECT appid, expires_s, revoked FROM access_token WHERE token = ?", token)
    if row is None or row["revoked"]:
        raise ApiError(40001, "invalid credential, access_token is invalid or not latest")
    if context.clock.life_s() >= row["expires_s"]:
        raise ApiError(42001, "access_token expired")
    return str(row["appid"])
