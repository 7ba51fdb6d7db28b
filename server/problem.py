"""Refusals rendered once, as ``application/problem+json`` (RFC 9457)."""

import json
from typing import Any

from pydantic import ValidationError

from kit.errors import InvalidInput, Refusal


class UnknownField(InvalidInput):
    """A field or parameter that the route does not take."""

    zh = "请求包含无法识别的字段。"
    en = "The request has a field that this route does not take."


class FieldMissing(InvalidInput):
    """A field that the route needs is missing."""

    zh = "有必填内容没有填写。"
    en = "A required field is missing."


class AmountNotPositive(InvalidInput):
    """An amount or number below what is allowed."""

    zh = "金额或数量必须大于零。"
    en = "The amount or number is too small."


class AmountTooHigh(InvalidInput):
    """An amount or number above what is allowed."""

    zh = "金额或数量超出上限。"
    en = "The amount or number is too large."


class NotAWholeNumber(InvalidInput):
    """A number with a fraction, or text where a whole number belongs. Amounts are whole fen."""

    zh = "金额必须是整数（单位：分）。"
    en = "This must be a whole number (amounts are in fen)."


class RepeatedValue(InvalidInput):
    """The same value twice in a list whose values must differ."""

    zh = "有重复的内容。"
    en = "A value is repeated."


_BY_TYPE: dict[str, type[InvalidInput]] = {
    "extra_forbidden": UnknownField,
    "missing": FieldMissing,
    "greater_than": AmountNotPositive,
    "greater_than_equal": AmountNotPositive,
    "less_than": AmountTooHigh,
    "less_than_equal": AmountTooHigh,
    "int_type": NotAWholeNumber,
    "int_from_float": NotAWholeNumber,
    "int_parsing": NotAWholeNumber,
    "int_parsing_size": AmountTooHigh,
    "repeated": RepeatedValue,
}


def invalid_input(error: ValidationError) -> InvalidInput:
    """What pydantic found, as our own refusal: ``fields`` of {field, code}. The input itself is never echoed."""
    fields = [
        {"field": ".".join(str(part) for part in found["loc"]) or "body", "code": str(found["type"])}
        for found in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    kind = _BY_TYPE.get(fields[0]["code"], InvalidInput) if fields else InvalidInput
    return kind(fields=fields[:50])


# What to tell people of a field, by pydantic's code for it.
_FIELD_WORDS = {
    "missing": ("没有填写", "missing"),
    "extra_forbidden": ("无法识别的内容", "not a field of this request"),
    "string_too_short": ("填写的内容太短", "too short"),
    "string_too_long": ("填写的内容太长", "too long"),
    "too_short": ("至少要选一项", "too few"),
    "too_long": ("一次选得太多", "too many"),
    "literal_error": ("不是可选的内容", "not one of the choices"),
    "enum": ("不是可选的内容", "not one of the choices"),
    "string_pattern_mismatch": ("格式不正确", "not in the right form"),
    "string_type": ("应当是文字", "must be text"),
    "bool_type": ("应当是“是”或“否”", "must be true or false"),
    "repeated": ("有重复的内容", "repeated"),
    "greater_than": ("数值太小", "too small"),
    "greater_than_equal": ("数值太小", "too small"),
    "less_than": ("数值太大", "too large"),
    "less_than_equal": ("数值太大", "too large"),
    "int_type": ("应当是整数", "must be a whole number"),
    "int_parsing": ("应当是整数", "must be a whole number"),
    "int_from_float": ("应当是整数", "must be a whole number"),
    "date_from_datetime_parsing": ("日期不正确", "not a date"),
    "date_parsing": ("日期不正确", "not a date"),
    "date_type": ("日期不正确", "not a date"),
}
_OTHER_WORDS = ("填写的内容有误", "not valid")


def _with_words(facts: dict[str, Any], language: str) -> dict[str, Any]:
    if not isinstance(facts.get("fields"), list):
        return facts
    chosen = 1 if language == "en" else 0
    return facts | {
        "fields": [
            field | {"message": _FIELD_WORDS.get(field.get("code", ""), _OTHER_WORDS)[chosen]}
            for field in facts["fields"]
        ]
    }


def problem(refusal: Refusal, language: str, request_id: str) -> tuple[bytes, int, dict[str, str]]:
    """Body, status and headers of the answer. Facts of the refusal travel as extra members."""
    document: dict[str, Any] = {
        "type": f"/docs#error-{refusal.code}",
        "title": refusal.sentence(language),
        "status": refusal.status,
        "code": refusal.code,
        **({"request_id": request_id} if refusal.status >= 500 else {}),
        **_with_words(refusal.facts, language),
    }
    headers = {"Content-Type": "application/problem+json; charset=utf-8"}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(refusal.retry_after_s)
    return json.dumps(document, ensure_ascii=False, default=str).encode(), refusal.status, headers
