"""Money is integer fen. Formulas run in ``Decimal``; rounding happens here and nowhere else.

``ROUND_HALF_EVEN`` is never used: property fees, tariffs and late fees in China are rounded 四舍五入 (half up).
"""

import re
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal, InvalidOperation
from enum import StrEnum

MAX_FEN = 10**13  # a hundred billion yuan: more than any bill, far below bigint


class Rounding(StrEnum):
    """How a computed amount becomes one that can be paid."""

    HALF_UP = "half_up"  # 四舍五入
    UP = "up"  # 进一
    DOWN = "down"  # 抹零


class RoundingUnit(StrEnum):
    """The smallest coin that the amount is rounded to."""

    FEN = "fen"
    JIAO = "jiao"
    YUAN = "yuan"


_MODES = {Rounding.HALF_UP: ROUND_HALF_UP, Rounding.UP: ROUND_CEILING, Rounding.DOWN: ROUND_FLOOR}
_FEN_PER_UNIT = {RoundingUnit.FEN: 1, RoundingUnit.JIAO: 10, RoundingUnit.YUAN: 100}
_YUAN = re.compile(r"-?\d{1,11}(\.\d{1,2})?")


def round_to_fen(yuan: Decimal, rounding: Rounding = Rounding.HALF_UP, unit: RoundingUnit = RoundingUnit.FEN) -> int:
    """Exact yuan → integer fen, rounded once by the named rule. 69.615 → 6962; with JIAO 250.684 → 25070."""
    step = _FEN_PER_UNIT[unit]
    units = (yuan * 100 / step).quantize(Decimal(1), rounding=_MODES[rounding])
    return int(units) * step


def parse_yuan(text: str) -> int:
    """``"1250.5"`` → 125050 fen. Raises ValueError for anything but a plain number with at most two decimals."""
    cleaned = text.strip().replace(",", "").replace("，", "").removeprefix("¥").removeprefix("￥")
    if not _YUAN.fullmatch(cleaned):
        raise ValueError("not an amount in yuan with at most two decimals")
    try:
        return int(Decimal(cleaned) * 100)
    except InvalidOperation as error:  # pragma: no cover - the pattern leaves nothing that Decimal refuses
        raise ValueError("not an amount in yuan") from error


def format_yuan(fen: int) -> str:
    """25068 → ``"250.68"``; no thousands separator, so that a spreadsheet reads it as a number."""
    sign = "-" if fen < 0 else ""
    return f"{sign}{abs(fen) // 100}.{abs(fen) % 100:02d}"


def split(total_fen: int, weights: Sequence[Decimal | int]) -> list[int]:
    """Share ``total_fen`` by weight so that the parts always add up to it.

    Largest remainder: each part is floored, then the fen left over go to the largest remainders, ties to the earlier
    position. Raises ValueError without a positive weight, or with a negative one. Also correct for negative totals.
    """
    exact_weights = [Decimal(weight) for weight in weights]
    whole = sum(exact_weights, Decimal(0))
    if whole <= 0 or any(weight < 0 for weight in exact_weights):
        raise ValueError("weights must be non-negative with a positive sum")
    sign = -1 if total_fen < 0 else 1
    # Integer arithmetic keeps the remainders exact: a Decimal division would round them at 28 digits.
    scale = 10 ** max(max(-int(w.as_tuple().exponent), 0) for w in exact_weights)
    scaled = [int(weight * scale) for weight in exact_weights]
    divisor = sum(scaled)
    parts, remainders = [], []
    for position, weight in enumerate(scaled):
        floor, remainder = divmod(abs(total_fen) * weight, divisor)
        parts.append(floor)
        remainders.append((-remainder, position))
    for _, position in sorted(remainders)[: abs(total_fen) - sum(parts)]:
        parts[position] += 1
    return [sign * part for part in parts]


def basis_points(part_fen: int, whole_fen: int) -> int | None:
    """``part`` of ``whole`` in hundredths of a percent, rounded down (抹零); None when the whole is nothing.

    Down, so that 10000 (100 %) is said only when not one fen is missing.
    """
    return None if whole_fen == 0 else part_fen * 10_000 // whole_fen


_DIGITS = "零壹贰叁肆伍陆柒捌玖"
_PLACES = ("", "拾", "佰", "仟")
_GROUPS = ("", "万", "亿")  # MAX_FEN is a thousand 亿


def _group_in_capitals(group: int) -> str:
    words, zero_pending = "", False
    for place in (3, 2, 1, 0):
        digit = group // 10**place % 10
        if digit == 0:
            zero_pending = bool(words)
            continue
        words += ("零" if zero_pending else "") + _DIGITS[digit] + _PLACES[place]
        zero_pending = False
    return words


def chinese_capitals(fen: int) -> str:
    """人民币大写 as receipts carry it: 25068 → ``贰佰伍拾元陆角捌分``; whole yuan end in 整.

    Source: 《支付结算办法》附一《正确填写票据和结算凭证的基本规定》.
    """
    if not 0 <= fen <= MAX_FEN:
        raise ValueError("amount out of range")
    yuan, cents = divmod(fen, 100)
    words, zero_pending = "", False
    for index in (2, 1, 0):
        group = yuan // 10 ** (4 * index) % 10_000
        if group == 0:
            zero_pending = bool(words)
            continue
        if words and (zero_pending or group < 1000):
            words += "零"
        words += _group_in_capitals(group) + _GROUPS[index]
        zero_pending = False
    words = words + "元" if words else ""
    jiao, last = divmod(cents, 10)
    if cents == 0:
        return (words or "零元") + "整"
    if jiao:
        words += _DIGITS[jiao] + "角"
    elif words:
        words += "零"
    return words + (_DIGITS[last] + "分" if last else "整")
