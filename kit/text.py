"""Text for people: what is masked, what sorts naturally, what a phone number is."""

import re
import unicodedata

_CHINA_MOBILE = re.compile(r"1[3-9][0-9]{9}")  # not \d, which takes the digits of every script
_PHONE_IN_TEXT = re.compile(r"(?<!\d)(1[3-9]\d)\d{4}(\d{4})(?!\d)")
_OPENID_IN_TEXT = re.compile(r"\bo[A-Za-z0-9_-]{25,}\b")


def mask_phone(phone: str) -> str:
    """``13800001234`` → ``138****1234``: enough for its owner to recognise, useless to anybody else."""
    return f"{phone[:3]}****{phone[-4:]}" if len(phone) >= 8 else "****"


def mask_name(name: str) -> str:
    """``王建国`` → ``王**``: the surname only."""
    return name[:1] + "*" * max(len(name) - 1, 1) if name else ""


def mask_in_text(text: str) -> str:
    """Free text with whatever looks like a mobile number or an openid masked, for logs."""
    return _OPENID_IN_TEXT.sub("o***", _PHONE_IN_TEXT.sub(r"\1****\2", text))


def normalise(text: str) -> str:
    """Trimmed, full-width forms folded (NFKC), inner white space single: ``"３栋 １单元"`` → ``"3栋 1单元"``."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).strip()


def normalise_phone(text: str) -> str | None:
    """The 11 digits of a mainland mobile number, or None. Accepts +86, spaces and dashes."""
    digits = re.sub(r"[\s\-()]", "", normalise(text)).removeprefix("+").removeprefix("86")
    return digits if _CHINA_MOBILE.fullmatch(digits) else None


def natural_key(text: str) -> str:
    """A key that sorts as people count: 3栋 before 10栋. Runs of digits are padded to eight."""
    return re.sub(r"\d+", lambda run: run.group().zfill(8), normalise(text))
