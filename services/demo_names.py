"""Made-up names, phones and openids for demo rows: drawn from a seeded generator, so every demo looks the same. Pure.

Nobody is meant by any of them. Secrets never come from here.
"""

import hashlib
import random
import string

_SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕"
_GIVEN = (
    "建国 秀英 志强 桂芳 晓明 丽华 海燕 文博 雨桐 子涵 浩然 欣怡 国庆 玉兰 建华 淑珍 俊杰 雪梅 永强 春梅 家豪 思远 "
    "静怡 立新 美玲 德胜 红霞 宇航 佳琪 明辉 凤英 振华 小燕 学文 慧敏 嘉懿 卫东 爱民 晨曦 乐天"
).split()
_BASE62 = string.digits + string.ascii_letters


class Dice:
    """A generator of demo facts; the same seed gives the same row of them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311 - decides names and areas, no secret
        self._phones = 0

    def surname(self) -> str:
        """A surname."""
        return self.random.choice(_SURNAMES)

    def person(self, surname: str | None = None) -> str:
        """A name; a family shares its ``surname``."""
        return (surname or self.surname()) + self.random.choice(_GIVEN)

    def phone(self) -> str:
        """A number of a range that looks unassigned, used once: 139 0000 0001, 139 0000 0002, …"""
        self._phones += 1
        return f"1390000{self._phones:04d}"

    def chance(self, percent: int) -> bool:
        """True in ``percent`` of a hundred cases."""
        return self.random.randrange(100) < percent

    def openid(self, word: str) -> str:
        """28 characters that begin with ``o``, the same for the same word and seed."""
        return "o" + self.letters(f"openid:{word}", 27)

    def letters(self, word: str, length: int) -> str:
        """Letters and digits that follow from the word and the seed."""
        number = int.from_bytes(hashlib.sha512(f"{self.seed}:{word}".encode()).digest())
        made = ""
        while len(made) < length:
            number, digit = divmod(number, 62)
            made += _BASE62[digit]
        return made
