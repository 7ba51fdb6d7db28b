"""Identifiers: UUIDv7 (RFC 9562 §5.7), so that rows made together lie together, and short codes for people."""

import re
import secrets
import time
import uuid

_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: no I, L, O, U
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


NO_ID = uuid.UUID(int=0)
"""No row has it: filtering by it finds nothing, which is what an unreadable id shall find."""


def new_id() -> uuid.UUID:
    """A fresh UUIDv7: 48 bits of milliseconds, 74 random bits."""
    millis = time.time_ns() // 1_000_000
    value = (millis & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76
    value |= secrets.randbits(12) << 64
    value |= 0b10 << 62
    value |= secrets.randbits(62)
    return uuid.UUID(int=value)


def parse_id(text: object) -> uuid.UUID | None:
    """The id that ``text`` spells in its canonical lower-case form, or None. Never raises."""
    if isinstance(text, uuid.UUID):
        return text
    if isinstance(text, str) and _UUID.fullmatch(text):
        return uuid.UUID(text)
    return None


def new_code(length: int) -> str:
    """Random letters and digits that cannot be misread aloud (no I, L, O, U)."""
    return "".join(secrets.choice(_BASE32) for _ in range(length))


def new_token() -> str:
    """An opaque secret for a bearer: 256 random bits, URL-safe."""
    return secrets.token_urlsafe(32)
