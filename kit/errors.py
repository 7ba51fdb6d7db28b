"""Refusals: every "no" the program can answer is a fact with a stable code.

One class per refusal, named as the fact (``BillAlreadyPaid``), its code derived from the name (``bill_already_paid``).
A refusal carries an HTTP status, a sentence in plain Chinese and one in English, and optional facts that fill the
sentences and travel in the answer. The process renders it once, as ``application/problem+json``.
A refusal always means that nothing was changed.
"""

import re
from typing import Any, ClassVar

_ALL: dict[str, type["Refusal"]] = {}


def code_of(name: str) -> str:
    """``BillAlreadyPaid`` → ``bill_already_paid``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class Refusal(Exception):
    """Base of all refusals. Subclasses set ``status``, ``zh`` and ``en``; the sentences may name ``{facts}``."""

    status: ClassVar[int] = 409
    zh: ClassVar[str] = ""
    en: ClassVar[str] = ""
    code: ClassVar[str] = "refused"
    retry_after_s: int | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.code = code_of(cls.__name__)
        if cls.code in _ALL and _ALL[cls.code].__module__ != cls.__module__:
            raise TypeError(f"two refusals share the code {cls.code}")
        if not (cls.zh and cls.en):
            raise TypeError(f"{cls.__name__} must say itself in Chinese and in English")
        _ALL[cls.code] = cls

    def __init__(self, *, retry_after_s: int | None = None, **facts: Any) -> None:
        if taken := {"type", "title", "status", "code"} & facts.keys():
            raise TypeError(f"a fact cannot be called {', '.join(taken)}: the answer has members of that name")
        self.facts = facts
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s
        super().__init__(self.code)

    def sentence(self, language: str) -> str:
        """The sentence for people, in ``zh`` or ``en``, with the facts filled in."""
        return (self.en if language == "en" else self.zh).format_map(_Facts(self.facts))


class _Facts(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "—"


def all_refusals() -> dict[str, type[Refusal]]:
    """Every refusal class that has been imported, by code: the error catalogue of the API document."""
    return dict(sorted(_ALL.items()))


class NotFound(Refusal):
    """Unknown, or not yours: the same words for both, so that ids cannot be probed."""

    status = 404
    zh = "没有找到。可能已被删除，或者您没有查看权限。"
    en = "Not found: it may not exist, or it is not yours to see."


class NotSignedIn(Refusal):
    """No session, or one that expired or was revoked."""

    status = 401
    zh = "请先登录。"
    en = "Please sign in."


class NotPermitted(Refusal):
    """Signed in, but the role table has no entry for this act."""

    status = 403
    zh = "您的岗位没有这项权限，请联系管理员。"
    en = "Your role does not allow this."


class OwnerNeeded(NotPermitted):
    """A resident of the room, but not its owner."""

    zh = "这项操作只有业主本人可以办理，请让业主操作。"
    en = "Only the owner of the room can do this."


class InvalidInput(Refusal):
    """The request's fields do not fit; ``fields`` lists ``{field, code, message}``."""

    status = 422
    zh = "填写的内容有误，请检查后重试。"
    en = "Some fields are not valid."


class MalformedJson(Refusal):
    """The body is not the JSON that the route takes: syntax, duplicate keys, NaN, or not an object."""

    status = 400
    zh = "请求内容格式不正确。"
    en = "The body is not valid JSON."


class JsonTooDeep(Refusal):
    """Nested deeper than any of our documents is."""

    status = 400
    zh = "请求内容层级过深。"
    en = "The JSON is nested too deeply."


class BodyTooLarge(Refusal):
    """More bytes than the route takes."""

    status = 413
    zh = "提交的内容太大了。"
    en = "The body is too large."


class UnsupportedMediaType(Refusal):
    """A body without the content type that the route takes."""

    status = 415
    zh = "请求的内容类型不受支持。"
    en = "The content type is not supported."


class InvalidCursor(Refusal):
    """A paging cursor that we did not hand out."""

    status = 400
    zh = "翻页标记无效，请从第一页重新开始。"
    en = "The paging cursor is not valid; start again from the first page."


class MoveNotAllowed(Refusal):
    """The state machine has no such move: the row is in another state by now."""

    status = 409
    zh = "当前状态不能进行此操作，请刷新后再试。"
    en = "This is not possible in the present state."
