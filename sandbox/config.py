"""What the sandbox is told when it starts."""

from dataclasses import dataclass
from pathlib import Path

import httpx

LOOPBACK = "127.0.0.1"
MAX_SPEED = 100_000
MAX_REFUND_S = 30 * 86_400


@dataclass(frozen=True)
class Config:
    """``state``: the sqlite file (made if missing). ``port`` 0 takes a free one. ``api_base``: the only origin that is
    ever called back. ``speed``: how many seconds of the retry schedule pass in one real second.
    ``subscriptions``: how many messages of each template a person allows who was never given a number.
    ``refund_s``: after how many seconds of the retry schedule a refund is decided.
    """

    state: Path
    port: int = 8100
    api_base: str = "http://127.0.0.1:8000"
    host: str = LOOPBACK
    speed: int = 1
    subscriptions: int = 1000
    refund_s: int = 3

    def __post_init__(self) -> None:
        if self.host != LOOPBACK:
            raise ValueError("the sandbox listens on 127.0.0.1 only")
        if not 0 <= self.port <= 65_535:
            raise ValueError("port is not a TCP port")
        if not 1 <= self.speed <= MAX_SPEED:
            raise ValueError(f"speed is a whole number from 1 to {MAX_SPEED}")
        if self.subscriptions < 0:
            raise ValueError("subscriptions is not negative")
        if not 0 <= self.refund_s <= MAX_REFUND_S:
            raise ValueError(f"refund_s is a whole number from 0 to {MAX_REFUND_S}")
        if origin_of(self.api_base) is None or httpx.URL(self.api_base).raw_path != b"/":
            raise ValueError("api_base is an origin such as http://127.0.0.1:8000")


def origin_of(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an http(s) address, or None when it is no such thing or carries a user name.

    Read by the library that makes the calls, so that what is checked is what is called.
    """
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        return None
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    if port is None or not parts.host or parts.userinfo:
        return None
    return parts.scheme, parts.host, port
