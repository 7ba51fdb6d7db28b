"""The text layouts that WeChat Pay APIv3 signs. Pure; both ends of the wire use it.

Source: pay.weixin.qq.com/doc/v3/merchant/4012365336 (requests), 4013053420 (answers and notices), 4012365341 (paySign).
"""

import re
from dataclasses import dataclass

SCHEME = "WECHATPAY2-SHA256-RSA2048"
WINDOW_S = 300  # a timestamp this far from now, or farther, is refused
_HEX = re.compile("[0-9A-Fa-f]{1,64}")
_PAIR = re.compile(r'\s*([a-z_]+)="([^"]*)"\s*(?:,|$)')


def request_message(method: str, target: str, timestamp: str, nonce: str, body: bytes) -> bytes:
    """Five lines, each ended by a line feed. ``target`` is path and query as on the wire; ``body`` the final bytes."""
    return f"{method}\n{target}\n{timestamp}\n{nonce}\n".encode() + body + b"\n"


def response_message(timestamp: str, nonce: str, body: bytes) -> bytes:
    """Three lines, each ended by a line feed; for a 204 the third is only the line feed."""
    return f"{timestamp}\n{nonce}\n".encode() + body + b"\n"


def pay_sign_message(appid: str, timestamp: str, nonce: str, package: str) -> bytes:
    """What ``wx.requestPayment`` has signed; ``package`` is ``prepay_id=wx…`` with its prefix."""
    return f"{appid}\n{timestamp}\n{nonce}\n{package}\n".encode()


@dataclass(frozen=True)
class Authorization:
    """The five parts of an Authorization header."""

    mchid: str
    serial_no: str
    nonce_str: str
    timestamp: str
    signature: str

    def header(self) -> str:
        """The header's value as the official SDKs write it."""
        return (
            f'{SCHEME} mchid="{self.mchid}",nonce_str="{self.nonce_str}",signature="{self.signature}",'
            f'timestamp="{self.timestamp}",serial_no="{self.serial_no}"'
        )


def parse_authorization(header: str) -> Authorization | None:
    """The parts of a header whose pairs may come in any order, or None when it is not one of this scheme."""
    scheme, _, rest = header.partition(" ")
    if scheme != SCHEME:
        return None
    parts = dict(_PAIR.findall(rest))
    if _PAIR.sub("", rest).strip() or set(parts) != {"mchid", "serial_no", "nonce_str", "timestamp", "signature"}:
        return None
    return Authorization(**parts)


def is_fresh(timestamp: str, now_s: int) -> bool:
    """Whether a header's timestamp (unix seconds as text) lies within the window. Never raises."""
    return (
        timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12 and abs(now_s - int(timestamp)) < WINDOW_S
    )


def serial_number(serial: str) -> int | None:
    """The number that a serial of hexadecimal digits writes, or None for any other text: ``int(text, 16)`` alone takes
    signs, blanks, underscores and a prefix, and raises for the rest."""
    return int(serial, 16) if _HEX.fullmatch(serial) else None
