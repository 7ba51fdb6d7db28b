"""Limits on what is cheap to ask for and costly to answer, or what can be guessed by asking often.

The table below is all of them; a route names its own in its declaration. They are counted where every process counts
(services/rate_limit_store.py) and may be lost with it. What must not be lost, the lock after wrong passwords, stands in
the account's own row (services/lock_out.py).
"""

from dataclasses import dataclass
from enum import StrEnum

import structlog

from kit import clock
from kit.errors import Refusal
from models import redis
from models.secret import blind_index
from services import rate_limit_store
from services.rate_limit_store import PostgresStore, RedisFirst, RedisStore, Store, in_ms

log = structlog.get_logger()

_KEY_CONTEXT = "rate_limits.key"


class Per(StrEnum):
    """Who shares one limit."""

    ADDRESS = "address"  # an IPv4 address, or the /64 that a household or an office gets of IPv6
    ACCOUNT = "account"  # the user name as it was typed, whether there is such an account or not
    CALLER = "caller"  # whoever is signed in
    THING = "thing"  # a row that is asked about


@dataclass(frozen=True)
class Limit:
    """At most ``times`` at once, refilled evenly within ``within_s`` seconds."""

    name: str
    per: Per
    times: int
    within_s: int

    def __post_init__(self) -> None:
        if self.within_s * 1000 % self.times:
            raise ValueError(f"{self.name}: {self.within_s} s cannot be shared out evenly among {self.times}")

    @property
    def step_ms(self) -> int:
        """How long one of them takes to come back."""
        return self.within_s * 1000 // self.times


_MINUTE, _HOUR, _DAY = 60, 3600, 86400

# An address may be a mobile carrier's, with a whole district behind it: limits by address are wide. A person who taps
# in doubt is not punished: limits by caller are far above what a hand does.
STAFF_SIGN_IN_BY_ADDRESS = Limit("staff_sign_in_by_address", Per.ADDRESS, 60, 5 * _MINUTE)
STAFF_SIGN_IN_BY_ACCOUNT = Limit("staff_sign_in_by_account", Per.ACCOUNT, 20, 15 * _MINUTE)
SECOND_FACTOR_SIGN_IN = Limit("second_factor_sign_in", Per.ADDRESS, 60, 5 * _MINUTE)
SECOND_FACTOR_CHANGE = Limit("second_factor_change", Per.CALLER, 10, 5 * _MINUTE)
PASSWORD_CHANGE = Limit("password_change", Per.CALLER, 10, 15 * _MINUTE)
WECHAT_SIGN_IN = Limit("wechat_sign_in", Per.ADDRESS, 300, _MINUTE)
PHONE_CODE = Limit("phone_code", Per.CALLER, 10, _DAY)
OPEN_PAYMENT = Limit("open_payment", Per.CALLER, 30, _MINUTE)
ASK_WECHAT = Limit("ask_wechat", Per.THING, 1, 2)
INVITE_MEMBER = Limit("invite_member", Per.CALLER, 20, _DAY)
OCCUPANCY_REQUEST = Limit("occupancy_request", Per.CALLER, 20, _DAY)
SEARCH_CUSTOMER = Limit("search_customer", Per.CALLER, 120, _MINUTE)
EXPORT = Limit("export", Per.CALLER, 5, _DAY)
READ_RECEIPT_FILE = Limit("read_receipt_file", Per.CALLER, 120, _MINUTE)
READ_BILL_FILE = Limit("read_bill_file", Per.CALLER, 60, _HOUR)

LIMITS = tuple(value for value in list(globals().values()) if isinstance(value, Limit))


class TooManyRequests(Refusal):
    """A limit is used up. Nothing was done; ``retry_after_s`` says when one more is let through."""

    status = 429
    zh = "操作太频繁了，请{wait}后再试。这次操作没有生效。"
    en = "Too many requests; please try again in {wait}. Nothing was done."

    def sentence(self, language: str) -> str:
        """The sentence with the wait in words."""
        words = {"wait": _in_words(self.retry_after_s or 1, language)}
        return (self.en if language == "en" else self.zh).format_map(words | self.facts)


_WORDS = {"zh": ("{}秒", "{}分钟", "{}小时"), "en": ("{} s", "{} min", "{} h")}


def _in_words(seconds: int, language: str) -> str:
    second, minute, hour = _WORDS["en" if language == "en" else "zh"]
    if seconds <= 90:
        return second.format(seconds)
    if seconds <= 90 * _MINUTE:
        return minute.format(-(-seconds // _MINUTE))
    return hour.format(-(-seconds // _HOUR))


_store: Store | None = PostgresStore()


def configure(*, counted: bool = True) -> None:
    """Count where this process has been told that Redis is, else in PostgreSQL; ``counted`` false lets everything
    through (a laptop under load tests). Done once at start, after models.redis."""
    global _store
    found = redis.shared()
    _store = (RedisFirst(RedisStore(found), PostgresStore()) if found else PostgresStore()) if counted else None


async def take(limit: Limit, subject: str) -> None:
    """Count one for ``subject`` (an address, a name, an id: kept as a keyed fingerprint only). Refuses TooManyRequests,
    and then nothing was counted either."""
    waits_ms = await _waits_ms(limit, subject)
    if waits_ms:
        log.warning("rate_limited", limit=limit.name)
        raise TooManyRequests(retry_after_s=-(-waits_ms // 1000))


async def may_take(limit: Limit, subject: str) -> bool:
    """Count one for ``subject``, or say that the limit is used up; for what is left out then instead of refused."""
    return not await _waits_ms(limit, subject)


async def _waits_ms(limit: Limit, subject: str) -> int:
    if _store is None:
        return 0
    key = blind_index(f"{limit.name}\0{subject}", _KEY_CONTEXT)
    return await _store.take(key, in_ms(clock.now()), limit.step_ms, limit.within_s * 1000)


async def prune() -> int:
    """Forget what PostgreSQL counted for callers who have all of their limit again; how many, at most 10,000."""
    return await rate_limit_store.prune(clock.now())
