"""What stands in the file of each report: headings, lines some at a time, and the totals last."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from kit.clock import BEIJING
from models.access import Act, Actor, require_somewhere
from models.unit_of_work import batches
from services.finance_arrears import ARREARS
from services.finance_cashier import CASHIER
from services.finance_collection import COLLECTION
from services.finance_income import INCOME
from services.finance_ledger import BALANCES, TRIAL
from services.finance_report import DIMENSIONS, Family, Selection, grouped, with_rates
from services.finance_words import word
from services.listing import wanted_id
from services.report_sheet import Cell, yuan

FAMILIES = {one.name: one for one in (COLLECTION, ARREARS, INCOME, BALANCES, TRIAL, CASHIER)}
JOURNAL = "journal"

_ENTRIES = """
SELECT e.id, e.posted_on, e.occurred_at, l.name AS legal_entity, c.name AS community, e.kind, d.kind AS debit,
    cr.kind AS credit, e.amount_fen, COALESCE(a.out_trade_no, '') AS out_trade_no,
    COALESCE(a.transaction_id, '') AS transaction_id, count(*) OVER () AS row_count
FROM entries e
JOIN accounts d ON d.id = e.debit_account_id JOIN accounts cr ON cr.id = e.credit_account_id
JOIN legal_entities l ON l.id = e.legal_entity_id JOIN communities c ON c.id = e.community_id
LEFT JOIN payment_attempts a ON a.id = e.source_id
WHERE e.community_id = ANY($1::uuid[]) AND ($2::date IS NULL OR e.posted_on >= $2)
    AND ($3::date IS NULL OR e.posted_on <= $3)
    AND ($4::uuid IS NULL OR e.community_id = $4) AND ($5::uuid IS NULL OR e.legal_entity_id = $5)
ORDER BY e.id
"""
_ENTRY_HEADINGS = ("分录号", "记账日期", "发生时间", "收款主体", "小区", "类型", "借方科目", "贷方科目", "金额（元）",
                   "商户单号", "微信支付单号")  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What was asked for; kept as JSON, so that a job finds it."""

    by: str
    selection: Selection

    def document(self) -> dict[str, Any]:
        """As JSON."""
        days = {
            name: value.isoformat()
            for name, value in (("first", self.selection.first), ("last", self.selection.last))
            if value is not None
        }
        return {"by": self.by, "chosen": dict(self.selection.chosen), **days}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> "Request":
        """From JSON."""
        first, last = (date.fromisoformat(document[name]) if name in document else None for name in ("first", "last"))
        return cls(document["by"], Selection(first, last, document["chosen"]))


@dataclass(frozen=True)
class Batch:
    """Some lines, and how many there are in all."""

    lines: Sequence[Sequence[Cell]]
    row_count: int


def title_of(report: str) -> str:
    """What the sheet is called."""
    return "分录" if report == JOURNAL else FAMILIES[report].title


async def lines_of(actor: Actor, report: str, request: Request) -> AsyncGenerator[Batch, None]:
    """The headings alone, then the lines some at a time, all of one moment; the totals are the last line. Refuses
    NotPermitted as the report does."""
    making = _journal(actor, request) if report == JOURNAL else _report(actor, FAMILIES[report], request)
    async with aclosing(making):
        async for batch in making:
            yield batch


async def _report(actor: Actor, family: Family, request: Request) -> AsyncGenerator[Batch, None]:
    names = family.groups[request.by]
    shown = [name for name in names if name != "account_id"]  # an id is no word for people
    sums: dict[str, int] = dict.fromkeys(family.figures, 0)
    headings = [word(name) for name in shown]
    yield Batch([[*headings, *(f"{word(name)}（元）" for name in sums), *(f"{word(n)}（%）" for n in family.rates)]], 0)
    sql, values = grouped(actor, family, request.by, request.selection)
    # Our own text around our own text.
    found = batches(f"SELECT *, count(*) OVER () AS row_count FROM ({sql}) lines ORDER BY sort_key", *values)  # noqa: S608
    async with aclosing(found):
        async for rows in found:
            lines = []
            for row in rows:
                figures = with_rates(family, {name: row[name] for name in sums})
                for name in sums:
                    sums[name] += row[name]
                lines.append([*(_member(row, name) for name in shown), *_amounts(family, figures)])
            yield Batch(lines, rows[0]["row_count"])
    blanks: list[Cell] = [""] * (len(shown) - 1)
    yield Batch([[word("total"), *blanks, *_amounts(family, with_rates(family, sums))]], 0)


def _member(row: Mapping[str, Any], name: str) -> Cell:
    value = row[name]
    if value is None:
        return word("none")
    return row[f"{name}_label"] or (word(str(value)) if not DIMENSIONS[name].is_id else str(value))


def _amounts(family: Family, figures: Mapping[str, int | None]) -> list[Cell]:
    made: list[Cell] = [yuan(figures[name] or 0) for name in family.figures]
    for name in family.rates:
        rate = figures[name]
        made.append(None if rate is None else Decimal(rate).scaleb(-2))
    return made


async def _journal(actor: Actor, request: Request) -> AsyncGenerator[Batch, None]:
    require_somewhere(actor, Act.JOURNAL_READ)
    yield Batch([_ENTRY_HEADINGS], 0)
    selection, total = request.selection, 0
    ids = [
        wanted_id(selection.chosen[name]) if name in selection.chosen else None
        for name in ("community_id", "legal_entity_id")
    ]
    values = [actor.community_ids(Act.JOURNAL_READ), selection.first, selection.last, *ids]
    found = batches(_ENTRIES, *values)
    async with aclosing(found):
        async for rows in found:
            total += sum(row["amount_fen"] for row in rows)
            yield Batch([_entry(row) for row in rows], rows[0]["row_count"])
    yield Batch([[word("total"), *([""] * 7), yuan(total), "", ""]], 0)


def _entry(row: Mapping[str, Any]) -> list[Cell]:
    return [
        row["id"],
        row["posted_on"],
        row["occurred_at"].astimezone(BEIJING).strftime("%Y-%m-%d %H:%M:%S"),
        row["legal_entity"],
        row["community"],
        word(row["kind"]),
        word(row["debit"]),
        word(row["credit"]),
        yuan(row["amount_fen"]),
        row["out_trade_no"],
        row["transaction_id"],
    ]
