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


def problem(refusal: Refusal, language: str, request_id: str) -> tuple[bytes, int, dict[str, str]]:
    """Body, status and headers of the answer. Facts of the refusal travel as extra members."""
    document: dict[str, Any] = {
        "type": f"/docs#error-{refusal.code}",
        "title": refusal.sentence(language),
        "status": refusal.status,
        "code": refusal.code,
        **({"request_id": request_id} if refusal.status >= 500 else {}),
        **refusal.facts,
    }
    headers = {"Content-Type": "application/problem+json; charset=utf-8"}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(refusal.retry_after_s)
    return json.dumps(document, ensure_ascii=False, default=str).encode(), refusal.status, headers
