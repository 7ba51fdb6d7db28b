"""A mini-program code: a JPEG whose pattern depends on app, page and scene. No phone can scan it.

Source of the parameters: developers.weixin.qq.com, getUnlimitedQRCode. The picture is a baseline JPEG of one colour
component in which every 8×8 block is black or white, so that the few code words of its standard tables suffice.
"""

import hashlib
import re
from typing import Any

from sandbox.error import ApiError

_SCENE = re.compile(r"[0-9A-Za-z!#$&'()*+,/:;=?@\-._~]{1,32}")
LEAST_WIDTH, MOST_WIDTH, USUAL_WIDTH = 280, 1280, 430
_MODULES = 25
# DC code words by size of the difference, and the end of a block (ITU-T T.81, tables K.3 and K.5).
_DC_CODES = ("00", "010", "011", "100", "101", "110", "1110", "11110", "111110", "1111110", "11111110", "111111110")
_END = "00"
_BLACK, _WHITE = -128, 127


def draw(appid: str, request: dict[str, Any]) -> bytes:
    """The image for a request of getwxacodeunlimit; refuses what WeChat refuses."""
    scene, page, width = request.get("scene"), request.get("page", ""), request.get("width", USUAL_WIDTH)
    if not isinstance(scene, str) or not _SCENE.fullmatch(scene):
        raise ApiError(40169, "invalid length for scene, or the data is not json string")
    if not isinstance(page, str) or page.startswith("/") or "?" in page:
        raise ApiError(41030, "invalid page")
    if type(width) is not int or not LEAST_WIDTH <= width <= MOST_WIDTH:
        raise ApiError(40097, "invalid args")
    if request.get("env_version", "release") not in ("release", "trial", "develop"):
        raise ApiError(40097, "invalid args")
    return _jpeg(_pattern(f"{appid}\n{page}\n{scene}"), width)


def _pattern(text: str) -> list[list[bool]]:
    """Black modules in a white margin, by hash of the text."""
    inside = range(1, _MODULES - 1)

    def row_of(number: int) -> list[bool]:
        bits = int.from_bytes(hashlib.sha256(f"{text}\n{number}".encode()).digest()[:4], "big")
        return [number in inside and column in inside and bits >> column & 1 == 1 for column in range(_MODULES)]

    return [row_of(number) for number in range(_MODULES)]


def _jpeg(pattern: list[list[bool]], width: int) -> bytes:
    blocks = -(-width // 8)
    bits, before = [], 0
    for y in range(blocks):
        for x in range(blocks):
            level = _BLACK if pattern[y * _MODULES // blocks][x * _MODULES // blocks] else _WHITE
            difference, before = level - before, level
            size = abs(difference).bit_length()
            coded = difference if difference > 0 else difference + (1 << size) - 1
            bits.append(_DC_CODES[size] + (f"{coded:0{size}b}" if size else "") + _END)
    stream = "".join(bits)
    stream += "1" * (-len(stream) % 8)
    data = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\x00")
    side = width.to_bytes(2, "big")
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xE0, b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"),
            _segment(0xDB, b"\x00" + bytes([8] * 64)),
            _segment(0xC0, b"\x08" + side + side + b"\x01\x01\x11\x00"),
            _segment(0xC4, b"\x00" + bytes([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]) + bytes(range(12))),
            # One AC code word is all there is: the end of the block.
            _segment(0xC4, b"\x10" + bytes([0, 1] + [0] * 14) + b"\x00"),
            _segment(0xDA, b"\x01\x01\x00\x00\x3f\x00"),
            data,
            b"\xff\xd9",
        )
    )


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content
