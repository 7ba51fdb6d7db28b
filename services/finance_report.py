"""How every report of finance is made: atoms, grouped; and a link under each figure to the very atoms it sums.

A family's ``atoms`` are the smallest things that count: a bill line, an allocation, one side of an entry. A report
groups them, and the list under a figure is those same atoms by the same text, chosen by the line's own dimensions. So
the two cannot disagree, however many rules stand in the text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from urllib.parse import urlencode

from kit.money import basis_points
from kit.paging import Page, decode_cursor, page_of
from models.access import Act, Actor, require_somewhere
from models.unit_of_work import rows
from services.listing import wanted_id

NONE = "none"
"""How a link says that a dimension has no value: a bill without a room has no building."""

PATH = "/api/v1/staff/finance"


@dataclass(frozen=True)
class Dimension:
    """What rows are grouped by. ``label`` and ``sort`` are SQL over ``g`` (the row) and what ``join`` adds."""

    name: str
    is_id: bool = True
    join: str = ""
    label: str = "NULL::text"
    sort: str = ""

    @property
    def key(self) -> str:
        """Text that sorts the rows and differs where they differ."""
        own = f"COALESCE(g.{self.name}::text, '')"
        return f"{self.sort} || '|' || {own}" if self.sort else own


def _named(name: str, table: str, *, column: str = "name", sort: str = "") -> Dimension:
    return Dimension(
        name,
        join=f"LEFT JOIN {table} ON {table}.id = g.{name}",
        label=f"{table}.{column}",
        sort=f"COALESCE({sort}, '')" if sort else "",
    )


DIMENSIONS = {
    one.name: one
    for one in (
        _named("legal_entity_id", "legal_entities", sort="legal_entities.name"),
        _named("community_id", "communities", sort="communities.name"),
        _named("building_id", "buildings", sort="buildings.natural_key"),
        _named("room_id", "rooms", sort="rooms.natural_key"),
        _named("customer_id", "customers"),
        _named("fee_item_id", "fee_items", sort="fee_items.code"),
        _named("staff_id", "staff", sort="staff.name"),
        Dimension("account_id"),
        Dimension(
            "holder_id",
            join="LEFT JOIN customers holder ON holder.id = g.holder_id"
            " LEFT JOIN merchant_accounts till ON till.id = g.holder_id",
            label="COALESCE(holder.name, till.name)",
        ),
        Dimension("account_kind", is_id=False),
        Dimension("channel", is_id=False),
        Dimension("month", is_id=False),
        Dimension("day", is_id=False),
    )
}


@dataclass(frozen=True)
class Family:
    """One report: how it may be grouped, and what it sums (all in fen).

    ``rates`` are quotients in basis points, rounded down. ``atoms`` takes $1 communities, $2 the first and $3 the last
    day; the legal entity is a dimension of every line, for the money of two is never one figure's. ``rollup``, where
    there are millions of atoms, is them summed for the finest dimensions, which takes half the time.
    """

    name: str
    title: str
    atoms: str
    groups: Mapping[str, tuple[str, ...]]
    figures: tuple[str, ...]
    rates: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    rollup: str = ""

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Everything that a row may be grouped by, once each."""
        return tuple(dict.fromkeys(name for names in self.groups.values() for name in names))


@dataclass(frozen=True)
class Selection:
    """What a report is about. ``chosen``: dimension → value as it stands in the address; ``none`` for no value."""

    first: date | None = None
    last: date | None = None
    chosen: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Member:
    """One dimension of a row: its value, and how people call it."""

    name: str
    value: str | None
    label: str | None


@dataclass(frozen=True)
class ReportRow:
    """One line: ``details`` says for each figure which address lists what it sums."""

    group: Sequence[Member]
    figures: Mapping[str, int | None]
    details: Mapping[str, str]


@dataclass(frozen=True)
class ReportPage:
    """A page of lines, and the totals of the whole selection, which are those of all its pages."""

    page: Page[ReportRow]
    row_count: int
    totals: Mapping[str, int | None]


@dataclass(frozen=True)
class DetailPage:
    """A page of what a figure sums; ``total_fen`` is the figure."""

    page: Page[dict[str, Any]]
    row_count: int
    total_fen: int


async def make_report(
    actor: Actor, family: Family, by: str, selection: Selection, cursor: str | None, limit: int
) -> ReportPage:
    """A page of the family's report, grouped as ``by`` says, over the communities whose journal the actor may read.

    Refuses NotPermitted who may read none. An id that is not the actor's to see chooses nothing, like an unknown one.
    """
    sql, values = grouped(actor, family, by, selection)
    after = decode_cursor(cursor, (_text,))[0] if cursor else None
    totals = ", ".join(f"COALESCE(sum({name}), 0)::bigint AS total_{name}" for name in family.figures)
    at = len(values)
    found = await rows(
        f"WITH labelled AS ({sql}), total AS (SELECT count(*) AS row_count, {totals} FROM labelled),"  # noqa: S608
        f" page AS (SELECT * FROM labelled WHERE ${at + 1}::text IS NULL OR sort_key > ${at + 1}"
        f" ORDER BY sort_key LIMIT ${at + 2})"
        " SELECT page.*, total.* FROM total LEFT JOIN page ON true ORDER BY page.sort_key",
        *values,
        after,
        limit + 1,
    )
    total = with_rates(family, {name: found[0][f"total_{name}"] for name in family.figures})
    page = page_of([one for one in found if one["sort_key"] is not None], limit, lambda one: (one["sort_key"],))
    shown = [row_of(family, by, selection, one) for one in page.items]
    return ReportPage(Page(shown, page.next_cursor), found[0]["row_count"], total)


async def list_details(
    actor: Actor, family: Family, figure: str, selection: Selection, cursor: str | None, limit: int
) -> DetailPage:
    """What one figure sums: every bill, line, allocation or entry with its part of it. Refuses as ``make_report``."""
    where, values = _where(actor, family, selection)
    after = decode_cursor(cursor, (_text, _text)) if cursor else [None, None]
    at = len(values)
    found = await rows(
        "WITH picked AS (SELECT source, source_key, happened_on, text, bill_id, payment_id,"  # noqa: S608 - our own names
        f" {figure} AS amount_fen FROM ({family.atoms}) atoms WHERE {where} AND {figure} <> 0),"
        " total AS (SELECT count(*) AS row_count, COALESCE(sum(amount_fen), 0)::bigint AS total_fen FROM picked),"
        f" page AS (SELECT * FROM picked WHERE ${at + 1}::text IS NULL OR (source, source_key) > (${at + 1}, ${at + 2})"
        f" ORDER BY source, source_key LIMIT ${at + 3})"
        " SELECT page.*, total.* FROM total LEFT JOIN page ON true ORDER BY page.source, page.source_key",
        *values,
        *after,
        limit + 1,
    )
    listed = [one for one in found if one["source"] is not None]
    page = page_of(listed, limit, lambda one: (one["source"], one["source_key"]))
    return DetailPage(page, found[0]["row_count"], found[0]["total_fen"])


def grouped(actor: Actor, family: Family, by: str, selection: Selection) -> tuple[str, list[Any]]:
    """The statement that makes all lines with their labels and a ``sort_key``, and its values."""
    where, values = _where(actor, family, selection)
    names = family.groups[by]
    sums = ", ".join(f"sum({name})::bigint AS {name}" for name in family.figures)
    lines = f"SELECT {', '.join(names)}, {sums} FROM ({family.rollup or family.atoms}) atoms"  # noqa: S608
    lines += f" WHERE {where} GROUP BY {', '.join(names)}"
    dimensions = [DIMENSIONS[name] for name in names]
    labels = ", ".join(f"{one.label} AS {one.name}_label" for one in dimensions)
    key = " || '|' || ".join(one.key for one in dimensions)
    joins = " ".join(one.join for one in dimensions)
    return f"SELECT g.*, {labels}, {key} AS sort_key FROM ({lines}) g {joins}", values  # noqa: S608 - our own names


def row_of(family: Family, by: str, selection: Selection, found: Mapping[str, Any]) -> ReportRow:
    """A line as it is shown, from what ``grouped`` found."""
    names = family.groups[by]
    members = [
        Member(name, None if found[name] is None else str(found[name]), found[f"{name}_label"]) for name in names
    ]
    own = {one.name: one.value or NONE for one in members}
    figures = with_rates(family, {name: found[name] for name in family.figures})
    details = {name: detail_link(family, name, selection, own) for name in family.figures if found[name]}
    return ReportRow(members, figures, details)


def with_rates(family: Family, figures: Mapping[str, int]) -> dict[str, int | None]:
    """The figures and the quotients of some of them."""
    return {**figures, **{name: basis_points(figures[part], figures[of]) for name, (part, of) in family.rates.items()}}


def detail_link(family: Family, figure: str, selection: Selection, own: Mapping[str, str]) -> str:
    """The address that lists what the figure of a line sums; to be followed as it is."""
    dates = {"from_on": selection.first, "to_on": selection.last}
    asked = {name: value.isoformat() for name, value in dates.items() if value is not None}
    return f"{PATH}/{family.name}/details?" + urlencode({"figure": figure, **asked, **selection.chosen, **own})


def _where(actor: Actor, family: Family, selection: Selection) -> tuple[str, list[Any]]:
    """The condition on the atoms and the values it takes, beginning with those that the atoms take."""
    require_somewhere(actor, Act.JOURNAL_READ)
    communities = actor.community_ids(Act.JOURNAL_READ)
    if selection.chosen.get("community_id", NONE) != NONE:  # not one row of the others is looked at
        communities = [one for one in communities if one == wanted_id(selection.chosen["community_id"])]
    values: list[Any] = [communities, selection.first, selection.last]
    parts = ["true"]
    for name, value in selection.chosen.items():
        if name not in family.dimensions:
            raise LookupError(name)
        if value == NONE:
            parts.append(f"{name} IS NULL")
            continue
        values.append(wanted_id(value) if DIMENSIONS[name].is_id else value)
        parts.append(f"{name} = ${len(values)}::{'uuid' if DIMENSIONS[name].is_id else 'text'}")
    return " AND ".join(parts), values


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("not a key of a line")
    return value
