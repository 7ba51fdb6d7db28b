"""Faults on demand: every kind in one table, and the store of those that are set.

A fault waits until something it fits comes by, acts, and counts itself down. Those set for one order come first.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from sandbox.error import ControlError
from sandbox.store import Store

OPERATIONS = (
    *("prepay", "query", "close", "refund", "refund_query", "refund_abnormal"),
    *("tradebill", "fundflowbill", "billdownload", "certificates"),
)
APIS = ("jscode2session", "token", "stable_token", "phone", "message", "text_check", "wxacode", "shipping")
OUTCOMES = ("SUCCESS", "ABNORMAL", "CLOSED", "PROCESSING")
MAX_TIMES = 1_000_000
DAY_S = 86_400


@dataclass(frozen=True)
class Number:
    """A whole-number parameter; without a default it must be given, unless it is optional."""

    least: int
    most: int
    default: int | None = None
    optional: bool = False


@dataclass(frozen=True)
class Word:
    """A text parameter: one of ``choices``, or whatever fits ``pattern``."""

    choices: tuple[str, ...] = ()
    pattern: str = r"[!-~]{1,64}"
    default: str | None = None
    optional: bool = False


@dataclass(frozen=True)
class Kind:
    """What a kind of fault does, in a line for each language, and what it takes."""

    meaning: str
    screen: str
    params: dict[str, Number | Word] = field(default_factory=dict)


_ANY_OPERATION = Word(choices=OPERATIONS, optional=True)
_OPERATION = Word(choices=OPERATIONS)
_FEN = Number(1, 2**53)
# A callback is of a payment or of a refund; without it both are meant.
_OF = {"of": Word(choices=("transaction", "refund"), optional=True)}

KINDS: dict[str, Kind] = {
    # of callbacks
    "duplicate": Kind(
        "every delivery of the callback is made `count` times at once",
        "回调重复送达",
        {"count": Number(2, 100, 2), **_OF},
    ),
    "lost": Kind("the callback is recorded and never sent", "回调丢失", {**_OF}),
    "late": Kind(
        "the first delivery waits `delay_s` seconds of the retry clock",
        "回调迟到",
        {"delay_s": Number(1, 30 * DAY_S), **_OF},
    ),
    "wrong_amount": Kind(
        "the callback says `amount_fen`; the order, the refund and the query stay true",
        "回调金额不符",
        {"amount_fen": _FEN, **_OF},
    ),
    "wrong_amount_order": Kind(
        "the payment is recorded with `amount_fen`: callback and query both say so",
        "入账金额不符",
        {"amount_fen": _FEN},
    ),
    "wrong_mchid": Kind(
        "the callback names another merchant", "回调商户号不符", {"mchid": Word(default="1999999999"), **_OF}
    ),
    "wrong_appid": Kind(
        "the callback names another app", "回调 AppID 不符", {"appid": Word(default="wx0000000000000000")}
    ),
    "wrong_currency": Kind(
        "the callback names another currency", "回调币种不符", {"currency": Word(pattern="[A-Z]{3}", default="USD")}
    ),
    "signtest": Kind(
        "the first delivery carries a false signature WECHATPAY/SIGNTEST/…, the schedule then a true one",
        "签名探测",
        {**_OF},
    ),
    "stale": Kind(
        "the first delivery carries a true signature over a timestamp `age_s` old",
        "回调时间戳过期",
        {"age_s": Number(1, 30 * DAY_S, 301), **_OF},
    ),
    "reorder": Kind(
        "this and the next callbacks wait until there are `count`, then are delivered last first, one after the other",
        "回调乱序",
        {"count": Number(2, 100, 2), **_OF},
    ),
    "certificate_signed": Kind(
        "the callback is signed with the platform certificate instead of the public key",
        "回调改用平台证书签名",
        {**_OF},
    ),
    "unknown_serial": Kind(
        "the first delivery is signed with a key that nobody was told of", "回调使用未知序列号", {**_OF}
    ),
    "before_answer": Kind(
        "payment and callback, or the refund's decision and notice, happen before the answer is returned",
        "先回调后应答",
        {"operation": Word(choices=("prepay", "refund"), default="prepay")},
    ),
    # of refunds
    "refund_outcome": Kind(
        "the refund ends so, `delay_s` seconds later on the retry clock; PROCESSING: it is never decided",
        "退款结果",
        {"outcome": Word(choices=OUTCOMES, default="SUCCESS"), "delay_s": Number(0, 30 * DAY_S, optional=True)},
    ),
    # of bills
    "bill_missing_row": Kind("a row of the next bill is missing: the order's, or the first", "账单缺行"),
    "bill_extra_row": Kind(
        "the next bill has a row of `amount_fen` that nobody paid", "账单多行", {"amount_fen": Number(1, 2**53, 100)}
    ),
    "bill_wrong_amount": Kind(
        "a row of the next bill says `amount_fen`: the order's, or the first", "账单金额不符", {"amount_fen": _FEN}
    ),
    "bill_wrong_hash": Kind("the hash told of the next bill is not the file's", "账单摘要不符"),
    # of the mini-program server API
    "api_error": Kind(
        "the call is answered with `errcode` and nothing else happens",
        "小程序接口报错",
        {"api": Word(choices=APIS, optional=True), "errcode": Number(-1, 99_999_999, 40001)},
    ),
    # of API calls
    "answer_lost": Kind(
        "the request is accepted, then answered 500 or 429, cut off, or not answered at all",
        "应答丢失",
        {"operation": _OPERATION, "how": Word(choices=("500", "429", "cut", "timeout"), default="500")},
    ),
    "error": Kind(
        "the request is refused with `status` and `code` before it is accepted",
        "接口报错",
        {
            "operation": _OPERATION,
            "status": Number(400, 599, 500),
            "code": Word(pattern="[A-Z_]{1,64}", default="SYSTEM_ERROR"),
        },
    ),
    "bad_signature": Kind(
        "the accepted answer carries a signature that does not verify", "应答签名错误", {"operation": _ANY_OPERATION}
    ),
    "stale_answer": Kind(
        "the accepted answer carries a true signature over a timestamp `age_s` old",
        "应答时间戳过期",
        {"operation": _ANY_OPERATION, "age_s": Number(1, 30 * DAY_S, 301)},
    ),
    "html": Kind(
        "the request is accepted, then answered with a page of HTML and `status`, not signed",
        "应答为 HTML",
        {"operation": _ANY_OPERATION, "status": Number(200, 599, 502)},
    ),
    "truncated": Kind("the accepted answer ends in the middle of its body", "应答截断", {"operation": _ANY_OPERATION}),
    "slow": Kind(
        "the accepted answer waits `delay_ms`",
        "应答缓慢",
        {"operation": _ANY_OPERATION, "delay_ms": Number(1, 600_000)},
    ),
}


def known() -> dict[str, Any]:
    """The table as the control route shows it."""
    return {name: {"meaning": kind.meaning, "params": _shown(kind)} for name, kind in KINDS.items()}


def _shown(kind: Kind) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, param in kind.params.items():
        if isinstance(param, Number):
            shown[name] = {"from": param.least, "to": param.most, "default": param.default, "optional": param.optional}
        elif param.choices:
            shown[name] = {"one_of": list(param.choices), "default": param.default, "optional": param.optional}
        else:
            shown[name] = {"pattern": param.pattern, "default": param.default}
    return shown


class Faults:
    """The faults that are set."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, document: dict[str, Any]) -> dict[str, Any]:
        """Set a fault; refuses an unknown kind or parameter with 422 and the table."""
        rest = dict(document)
        name = rest.pop("kind", None)
        kind = KINDS.get(name) if isinstance(name, str) else None
        if kind is None:
            raise ControlError(422, "fault_kind_unknown", "没有这种故障。", known=known())
        out_trade_no, times = rest.pop("out_trade_no", None), rest.pop("times", None)
        if out_trade_no is not None and not isinstance(out_trade_no, str):
            raise _unfit(name, "out_trade_no")
        if times is not None and (type(times) is not int or not 1 <= times <= MAX_TIMES):
            raise _unfit(name, "times")
        params = {key: _value(name, key, param, rest) for key, param in kind.params.items()}
        if rest:
            raise _unfit(name, sorted(rest)[0])
        params = {key: value for key, value in params.items() if value is not None}
        seq = self._store.insert(
            "fault",
            kind=name,
            out_trade_no=out_trade_no,
            operation=params.get("operation") or params.get("of") or params.get("api"),
            times_left=times,
            params=json.dumps(params),
        )
        return self._view(self._store.row("SELECT * FROM fault WHERE seq = ?", seq) or {})

    def all(self) -> list[dict[str, Any]]:
        """Every fault that is set, oldest first."""
        return [self._view(row) for row in self._store.rows("SELECT * FROM fault ORDER BY seq")]

    def delete(self, seq: int | None = None) -> int:
        """Take back one fault, or all of them; answers how many there were."""
        if seq is None:
            return self._store.execute("DELETE FROM fault")
        return self._store.execute("DELETE FROM fault WHERE seq = ?", seq)

    def take(self, kind: str, out_trade_no: str | None, operation: str | None = None) -> dict[str, Any] | None:
        """The parameters of a fault that acts here and now, counted down; None when there is none."""
        row = self._store.row(
            "SELECT * FROM fault WHERE kind = ? AND (out_trade_no IS NULL OR out_trade_no = ?)"
            " AND (operation IS NULL OR operation = ?) ORDER BY out_trade_no IS NULL, seq LIMIT 1",
            *(kind, out_trade_no, operation),
        )
        if row is None:
            return None
        if row["times_left"] == 1:
            self.delete(row["seq"])
        elif row["times_left"] is not None:
            self._store.execute("UPDATE fault SET times_left = times_left - 1 WHERE seq = ?", row["seq"])
        params: dict[str, Any] = json.loads(row["params"])
        return {**params, "out_trade_no": row["out_trade_no"]}

    @staticmethod
    def _view(row: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": row["seq"],
            "kind": row["kind"],
            "out_trade_no": row["out_trade_no"],
            "times_left": row["times_left"],
            "params": json.loads(row["params"]),
        }


def _value(kind: str, name: str, param: Number | Word, rest: dict[str, Any]) -> int | str | None:
    given = rest.pop(name, None)
    if isinstance(param, Number):
        number = param.default if given is None else given
        if number is None and param.optional:
            return None
        if type(number) is not int or not param.least <= number <= param.most:
            raise _unfit(kind, name)
        return number
    word = param.default if given is None else given
    if word is None and param.optional:
        return None
    fits = isinstance(word, str) and (
        word in param.choices if param.choices else re.fullmatch(param.pattern, word) is not None
    )
    if not fits:
        raise _unfit(kind, name)
    return str(word)


def _unfit(kind: str, name: str) -> ControlError:
    known_params = {"out_trade_no": "optional", "times": "optional", **_shown(KINDS[kind])}
    return ControlError(422, "fault_param_unfit", f"故障参数有误：{name}", field=name, known={kind: known_params})
