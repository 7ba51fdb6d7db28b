"""The check of texts, second version: words that were named decide.

Source: developers.weixin.qq.com, msgSecCheck. The verdict is ``result.suggest``; errcode is 0 whatever it says.
"""

import json
import secrets
from typing import Any

from sandbox.context import Context
from sandbox.error import ApiError

MOST = 2500
WORDS = {"risky": ["违禁"], "review": ["疑似"]}
_LABELS = {"pass": 100, "review": 20006, "risky": 20001}


def words(context: Context) -> dict[str, list[str]]:
    """The words that make a text risky, or one for review."""
    row = context.store.row("SELECT value FROM setting WHERE name = 'text_check.words'")
    found: dict[str, list[str]] = WORDS if row is None else json.loads(row["value"])
    return found


def set_words(context: Context, risky: list[str], review: list[str]) -> dict[str, list[str]]:
    """From now on these words decide."""
    context.store.execute(
        "INSERT OR REPLACE INTO setting (name, value) VALUES ('text_check.words', ?)",
        json.dumps({"risky": risky, "review": review}, ensure_ascii=False),
    )
    return words(context)


def check(context: Context, appid: str, request: dict[str, Any]) -> dict[str, Any]:
    """The verdict on a text, or a refusal."""
    content = request.get("content")
    if content is None or content == "":
        raise ApiError(44002, "empty post data")
    if not isinstance(content, str) or len(content) > MOST or request.get("version") != 2:
        raise ApiError(47001, "data format error")
    if request.get("scene") not in (1, 2, 3, 4):
        raise ApiError(40129, "invalid scene")
    openid = request.get("openid")
    person = context.store.row("SELECT appid FROM person WHERE openid = ?", openid) if isinstance(openid, str) else None
    if person is None:
        raise ApiError(40003, "invalid openid")
    if person["appid"] != appid:
        raise ApiError(43104, "this appid does not match the openid")
    texts = "\n".join(str(request.get(name, "")) for name in ("content", "nickname", "title", "signature"))
    hit = next(
        ((kind, word) for kind in ("risky", "review") for word in words(context)[kind] if word in texts), ("pass", "")
    )
    verdict = {"suggest": hit[0], "label": _LABELS[hit[0]]}
    found = {"strategy": "keyword", "errcode": 0, **verdict, "prob": 90, **({"keyword": hit[1]} if hit[1] else {})}
    return {"errcode": 0, "errmsg": "ok", "result": verdict, "detail": [found], "trace_id": secrets.token_hex(16)}
