"""Phone numbers: read, hidden at rest, searched by fingerprint."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kit.errors import InvalidInput
from kit.text import mask_phone, normalise_phone
from models.customer import PHONE_CONTEXT
from models.secret import blind_index, blind_indexes, encrypt


class PhoneNotValid(InvalidInput):
    """Not a mainland mobile number."""

    zh = "手机号不正确，请填写11位大陆手机号。"
    en = "This is not a mainland China mobile number (11 digits)."


@dataclass(frozen=True)
class HiddenPhone:
    """A phone number as it is stored: encrypted, its blind index, and what may be shown. ``searched`` is what to find
    it by: rows that a change of the index key has not reached yet have another index."""

    phone_cipher: str
    phone_index: str
    phone_masked: str
    searched: Sequence[str]

    def columns(self) -> dict[str, Any]:
        """The three columns that every table with a phone has."""
        return {
            "phone_cipher": self.phone_cipher,
            "phone_index": self.phone_index,
            "phone_masked": self.phone_masked,
        }


def phone_indexes(text: str) -> list[str]:
    """The blind indexes to search a number by. Refuses PhoneNotValid."""
    return blind_indexes(_read(text), PHONE_CONTEXT)


def hide_phone(text: str) -> HiddenPhone:
    """The number as it is stored. Refuses PhoneNotValid."""
    phone = _read(text)
    return HiddenPhone(
        encrypt(phone, PHONE_CONTEXT),
        blind_index(phone, PHONE_CONTEXT),
        mask_phone(phone),
        blind_indexes(phone, PHONE_CONTEXT),
    )


def _read(text: str) -> str:
    phone = normalise_phone(text)
    if phone is None:
        raise PhoneNotValid(fields=[{"field": "phone", "code": "phone"}])
    return phone
