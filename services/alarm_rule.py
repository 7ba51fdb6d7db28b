"""The alarms: what each means, how bad it is, and when it is on. No database and no clock; docs/production.md says for
each what to do, and a test compares the two."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from services.reading import BOOKS, Readings

CERTIFICATE_SOON_DAYS, CERTIFICATE_NOW_DAYS = 30, 7
SKEW_WARNING_S, SKEW_CRITICAL_S = 30, 120
SILENT_S = 30 * 60
SILENT_PAYMENTS = 3  # so many were paid meanwhile: one alone may just have lost its callback
READY_S = 5 * 60
DOING_S = 10 * 60
OVERDUE_S = 10 * 60  # as L14 of docs/ledger.md
UNCHECKED_S = 36 * 3600  # the nightly check failed, and so did its repeats
WECHAT_CALLS = 5  # fewer calls say nothing of WeChat
Facts = Mapping[str, Any]


class Severity(StrEnum):
    """How soon somebody should come."""

    WARNING = "warning"  # today
    CRITICAL = "critical"  # now: money, or everything that money needs, is concerned


@dataclass(frozen=True)
class Alarm:
    """An alarm; the sentences name the facts that ``on`` gives while it is on, None while it is not."""

    name: str
    severity: Severity
    zh: str
    en: str
    on: Callable[[Readings], Facts | None]

    def sentence(self, facts: Facts, language: str) -> str:
        """What is the matter, in ``zh`` or ``en``."""
        return (self.en if language == "en" else self.zh).format_map(facts)


def _certificate(limit: int) -> Callable[[Readings], Facts | None]:
    def on(now: Readings) -> Facts | None:
        ends = {"merchant": now.merchant_certificate_days, "platform": now.platform_certificate_days}
        soon = {kind: days for kind, days in ends.items() if days is not None and days <= limit}
        return {"days": min(soon.values()), "kinds": ", ".join(soon)} if soon else None

    return on


def _skew(limit: int) -> Callable[[Readings], Facts | None]:
    def on(now: Readings) -> Facts | None:
        off = {"wechat": round(now.wechat_skew_s), "database": round(now.database_skew_s)}
        far = {against: skew for against, skew in off.items() if abs(skew) > limit}
        return {"seconds": max(far.values(), key=abs), "against": ", ".join(far)} if far else None

    return on


def _silent(now: Readings) -> Facts | None:
    silent_s = now.last_callback_s if now.last_callback_s is not None else SILENT_S
    if silent_s < SILENT_S or now.posted_lately < SILENT_PAYMENTS:
        return None
    return {"minutes": silent_s // 60, "payments": now.posted_lately}


def _older(number: str, age_s: str, limit_s: int) -> Callable[[Readings], Facts | None]:
    def on(now: Readings) -> Facts | None:
        age: int = getattr(now, age_s)
        return {"number": getattr(now, number), "minutes": age // 60} if age > limit_s else None

    return on


def _failed(now: Readings) -> Facts | None:
    return {"number": now.jobs_failed} if now.jobs_failed else None


def _cases(now: Readings) -> Facts | None:
    left = {kind: now.cases_left.get(kind, 0) for kind in ("suspense", "doubtful_notice")}
    return {"suspense": left["suspense"], "doubtful": left["doubtful_notice"]} if any(left.values()) else None


def _bills(now: Readings) -> Facts | None:
    return {"number": now.bills_missing, "since": now.bills_missing_since} if now.bills_missing else None


def _unchecked(now: Readings) -> Facts | None:
    age_s = now.books_checked_s
    return {"hours": age_s // 3600} if age_s is not None and age_s > UNCHECKED_S else None


def _wechat(now: Readings) -> Facts | None:
    if now.wechat_calls < WECHAT_CALLS or now.wechat_calls_unknown * 2 < now.wechat_calls:
        return None
    return {"unknown": now.wechat_calls_unknown, "calls": now.wechat_calls}


def _by_the_check(_now: Readings) -> Facts | None:
    raise AssertionError("only a check of the books raises this one")


ALARMS = (
    Alarm(
        "certificate_ends_soon",
        Severity.WARNING,
        "证书将在{days}天后到期（{kinds}）",
        "A certificate ends in {days} days ({kinds})",
        _certificate(CERTIFICATE_SOON_DAYS),
    ),
    Alarm(
        "certificate_ends_now",
        Severity.CRITICAL,
        "证书{days}天后到期，到期后无法收款（{kinds}）",
        "A certificate ends in {days} days, and then nothing can be paid ({kinds})",
        _certificate(CERTIFICATE_NOW_DAYS),
    ),
    Alarm(
        "clock_drifts",
        Severity.WARNING,
        "服务器时钟偏差{seconds}秒（对照{against}）",
        "A clock is {seconds} s off (against {against})",
        _skew(SKEW_WARNING_S),
    ),
    Alarm(
        "clock_wrong",
        Severity.CRITICAL,
        "服务器时钟偏差{seconds}秒，超过五分钟将无法收款（对照{against}）",
        "A clock is {seconds} s off; at five minutes WeChat refuses every call (against {against})",
        _skew(SKEW_CRITICAL_S),
    ),
    Alarm(
        "callbacks_silent",
        Severity.CRITICAL,
        "{minutes}分钟没有收到微信回调，期间却有{payments}笔到账",
        "No callback came for {minutes} minutes, though {payments} payments were settled meanwhile",
        _silent,
    ),
    Alarm(
        "jobs_wait",
        Severity.CRITICAL,
        "有{number}个任务在等待，最久{minutes}分钟",
        "{number} jobs wait, the oldest for {minutes} minutes",
        _older("jobs_ready", "jobs_ready_oldest_s", READY_S),
    ),
    Alarm(
        "jobs_hang",
        Severity.WARNING,
        "有任务已执行{minutes}分钟仍未结束",
        "A job has been at work for {minutes} minutes",
        _older("jobs_doing", "jobs_doing_oldest_s", DOING_S),
    ),
    Alarm("jobs_failed", Severity.WARNING, "有{number}个任务已放弃重试", "{number} jobs were given up", _failed),
    Alarm(
        "janitor_overdue",
        Severity.CRITICAL,
        "有{number}笔支付等待查询，最久{minutes}分钟",
        "{number} payments wait to be asked about, the oldest for {minutes} minutes",
        _older("janitor_due", "janitor_overdue_s", OVERDUE_S),
    ),
    Alarm(
        "cases_open",
        Severity.WARNING,
        "待处理差错：挂账{suspense}笔，存疑{doubtful}笔",
        "Cases wait for finance: {suspense} in suspense, {doubtful} doubtful",
        _cases,
    ),
    Alarm(
        "bills_missing",
        Severity.WARNING,
        "有{number}份微信账单到中午还没有对账，最早是{since}的",
        "{number} of WeChat's bills were not reconciled by noon, the oldest of {since}",
        _bills,
    ),
    Alarm(
        BOOKS,
        Severity.CRITICAL,
        "账务核对发现{number}处不符（{truths}）",
        "The books are broken in {number} places ({truths})",
        _by_the_check,
    ),
    Alarm(
        "books_unchecked",
        Severity.WARNING,
        "已有{hours}小时没有完成账务核对",
        "The books have not been checked for {hours} hours",
        _unchecked,
    ),
    Alarm(
        "wechat_unavailable",
        Severity.CRITICAL,
        "微信没有正常应答：最近五分钟{calls}次调用中{unknown}次",
        "WeChat does not answer: {unknown} of {calls} calls in five minutes",
        _wechat,
    ),
)
BY_NAME = {alarm.name: alarm for alarm in ALARMS}
