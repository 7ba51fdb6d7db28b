"""Structured logs: one JSON line an event, with the request's id; no secret, phone or openid in clear."""

import io
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog

from kit.text import mask_in_text
from models.audit import request_id

_SECRET_WORDS = ("token", "secret", "password", "private_key", "apiv3", "authorization", "cipher", "session_key")
_PERSONAL_WORDS = ("phone", "openid", "id_number")


def hide(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Last gate before a line is written: named secrets are dropped, phones and openids in any text masked."""
    for name, value in event.items():
        lowered = name.lower()
        if any(word in lowered for word in _SECRET_WORDS) or lowered in _PERSONAL_WORDS:
            event[name] = "***"
        elif isinstance(value, str):
            event[name] = mask_in_text(value)
        elif isinstance(value, dict | list | tuple):
            event[name] = mask_in_text(str(value))
    return event


def _with_request(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if request_id.get():
        event.setdefault("request_id", request_id.get())
    return event


class _Stderr(io.TextIOBase):
    """Standard error as it is when a line is written, not as it was when logs were configured."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


_STDERR = cast(TextIO, _Stderr())


def configure_logs(level: str) -> None:
    """Send structlog and the standard library's loggers through the same lines to standard error."""
    shared: list[Any] = [
        _with_request,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        hide,
    ]
    number = getattr(logging, level.upper())
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(ensure_ascii=False)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(_STDERR),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(_STDERR)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processor=structlog.processors.JSONRenderer(ensure_ascii=False)
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))
    # httpx writes whole URLs at INFO: they carry codes and tokens.
    for noisy in ("httpx", "httpcore", "asyncio", "tortoise", "sanic.root", "sanic.server", "procrastinate"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
