"""The reports of finance: every figure is the sum of what its link lists, and the totals those of all pages."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from handlers import finance_report as routes
from kit import clock
from kit.money import basis_points
from models.access import Role
from models.unit_of_work import rows
from services import finance_report
from services.finance_arrears import ARREARS
from services.finance_cashier import CASHIER
from services.finance_collection import COLLECTION
from services.finance_income import INCOME
from services.finance_ledger import BALANCES, TRIAL
from services.finance_words import word
from tests.conftest import Drain, SandboxControl
from tests.finance_town import FINANCE, Town, every_page, finance_town, this_month
from tests.world import Person, World, unknown_id

FAMILIES = (COLLECTION, ARREARS, INCOME, BALANCES, TRIAL, CASHIER)


async def report(person: Person, name: str, **asked: Any) -> tuple[list[dict[str, Any]], dict[str, int | None]]:
    """All lines of a report and its totals; every page tells the same totals."""
    path = f"{FINANCE}/{name}?" + "&".join(f"{key}={value}" for key, value in asked.items())
    lines, totals = [], []
    async for page in every_page(person, path):
        lines += page["items"]
        totals.append(page["totals"])
        count = page["row_count"]
    assert all(one == totals[0] for one in totals) and count == len(lines)
    return lines, totals[0]


def named(line: dict[str, Any], name: str) -> Any:
    return next(one["label"] for one in line["group"] if one["name"] == name)


async def listed(person: Person, link: str) -> tuple[int, list[dict[str, Any]]]:
    """What a link lists: the total it tells, and everything on its pages."""
    found: list[dict[str, Any]] = []
    async for page in every_page(person, link, 100):
        found += page["items"]
        total = page["total_fen"]
        count = page["row_count"]
    assert count == len(found) == len({(one["source"], one["key"], one["amount_fen"]) for one in found})
    return total, found


async def follow_every_link(person: Person) -> Counter[str]:
    """Every figure of every line of every report in every grouping: its link's list adds up to it."""
    followed: Counter[str] = Counter()
    for family in FAMILIES:
        overall: dict[str, Any] = {}
        for by in family.groups:
            asked = {"by": by, **({"from_month": this_month()} if family is TRIAL else {})}
            lines, totals = await report(person, family.name, **asked)
            for figure in family.figures:
                assert sum(line["figures"][figure] for line in lines) == totals[figure], (family.name, by, figure)
            assert overall.setdefault("totals", totals) == totals  # however it is grouped
            for line in lines:
                assert {name for name, fen in line["figures"].items() if fen and name in family.figures} == set(
                    line["details"]
                )
                for figure, link in line["details"].items():
                    total, found = await listed(person, link)
                    assert total == sum(one["amount_fen"] for one in found) == line["figures"][figure], link
                    followed[family.name] += 1
    return followed


async def test_the_money_of_a_town(world: World, sandbox: SandboxControl, drain: Drain, books: Any) -> None:
    """One town, every report: what its bills, allocations and entries say, to the fen."""
    town = await finance_town(world, sandbox, drain)
    followed = await follow_every_link(town.finance)
    assert set(followed) == {one.name for one in FAMILIES} and sum(followed.values()) > 90
    await _collection(town)
    await _arrears(town)
    await _income_is_the_journal(town)
    await _balances(town)
    await _walls(world, town)
    await _stories(town)


async def _collection(town: Town) -> None:
    lines, totals = await report(town.finance, "collection", by="fee_item_month")
    by_hand = {(named(one, "fee_item_id"), one["group"][3]["value"]): one["figures"] for one in lines}
    water = by_hand["水费", "2037-02"]
    assert (water["billed_fen"], water["received_fen"], water["advance_fen"], water["rate_bp"]) == (
        9_001, 9_001, 9_001, 10_000)  # fmt: skip
    late = by_hand["物业费", "2025-03"]  # of 300.03, a kept surplus of 123.45 came: 41.145… %
    assert (late["billed_fen"], late["received_fen"], late["advance_fen"]) == (30_003, 12_345, 0)
    assert (late["owed_fen"], late["rate_bp"]) == (17_658, 4_114)
    assert totals["billed_fen"] == totals["received_fen"] + totals["owed_fen"]
    assert totals["rate_bp"] == basis_points(totals["received_fen"], totals["billed_fen"])
    assert not [key for key in by_hand if key[1] == "2026-04"]  # a draft is nobody's debt
    one_month, _ = await report(town.finance, "collection", from_month="2026-08", to_month="2026-08")
    assert [(named(one, "legal_entity_id"), one["figures"]["billed_fen"]) for one in one_month] == [
        ("停车管理有限公司", 15_000)
    ]
    empty, nothing = await report(town.finance, "collection", from_month="2098-01")
    assert (empty, nothing["billed_fen"], nothing["rate_bp"]) == ([], 0, None)


async def _arrears(town: Town) -> None:
    _, totals = await report(town.finance, "arrears", by="room")
    owed = await rows(
        "SELECT sum(amount_fen - paid_fen)::bigint AS fen FROM bills WHERE state IN ('open', 'part_paid')"
        " AND kind <> 'prepaid'"
    )
    assert totals["owed_fen"] == owed[0]["fen"]
    assert totals["owed_fen"] == sum(fen for name, fen in totals.items() if name != "owed_fen")
    lines, _ = await report(town.finance, "arrears", by="building", community_id=str(town.home.community.id))
    assert [named(one, "building_id") for one in lines] == ["10栋", "3栋", "10栋"]  # per legal entity, as people count
    assert lines[0]["figures"]["owed_fen"] == 30_300 and lines[0]["figures"]["not_due_fen"] == 0


async def _income_is_the_journal(town: Town) -> None:
    """What came for charges is what the journal credited to received."""
    asked = {"from_on": f"{this_month()}-01", "to_on": (clock.today() + timedelta(days=1)).isoformat()}
    lines, income = await report(town.finance, "income", **asked)
    balances, _ = await report(town.finance, "balances", account_kind="received", by="account")
    assert income["income_fen"] == sum(one["figures"]["balance_fen"] for one in balances)
    assert {named(one, "channel") for one in lines} == {"微信小程序支付", "溢收款"}
    _, before = await report(town.finance, "income", to_on="2020-01-01")
    assert before == {"received_fen": 0, "refunded_fen": 0, "income_fen": 0}
    clerk, taken = await report(town.finance, "cashiers", by="staff_channel")
    assert [(named(one, "staff_id"), named(one, "channel")) for one in clerk] == [("员工finance", "溢收款")]
    assert taken["amount_fen"] == 12_345


async def _balances(town: Town) -> None:
    lines, totals = await report(town.finance, "balances")
    held = {(one["group"][2]["value"], named(one, "holder_id")): one["figures"]["balance_fen"] for one in lines}
    assert held["deposit", "业主甲"] == 50_000 and held["surplus", "业主甲"] == 0
    assert totals["debit_fen"] == totals["credit_fen"]
    trial, sums = await report(town.finance, "trial-balance", from_month=this_month())
    assert (sums["opening_fen"], sums["closing_fen"]) == (0, 0) and sums["debit_fen"] == sums["credit_fen"] > 0
    for one in trial:
        figures = one["figures"]
        assert figures["closing_fen"] == figures["opening_fen"] + figures["debit_fen"] - figures["credit_fen"]
    following, later = await report(town.finance, "trial-balance", from_month="2030-01", to_month="2030-12")
    assert later["debit_fen"] == 0
    assert [one["figures"]["opening_fen"] for one in following] == [one["figures"]["closing_fen"] for one in trial]


async def _walls(world: World, town: Town) -> None:
    """Finance of one community sees that; another company's and an unknown id choose nothing; others are refused."""
    lines, _ = await report(town.here_only, "arrears")
    assert {named(one, "community_id") for one in lines} == {"阳光花园"}
    all_of_it, _ = await report(town.finance, "arrears")
    assert {named(one, "community_id") for one in all_of_it} == {"阳光花园", "月亮湾"}
    theirs, _ = await report(town.here_only, "arrears", community_id=str(town.second.id))
    unknown, _ = await report(town.here_only, "arrears", community_id=unknown_id())
    assert theirs == unknown == []
    stranger = await world.staff(await world.company(2), Role.FINANCE)
    for family in FAMILIES:
        asked = {"from_month": this_month()} if family is TRIAL else {}
        lines, totals = await report(stranger, family.name, **asked)
        assert lines == [] and not any(totals.values())
    link = next(iter(all_of_it[0]["details"].values()))
    assert (await listed(stranger, link)) == (0, [])
    cashier = await world.staff(town.company, Role.CASHIER)
    for path in (f"{FINANCE}/income", link):
        answer = await cashier.get(path)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted")
    auditor = await world.staff(town.company, Role.AUDITOR)
    assert (await auditor.get(link)).status_code == 200


async def test_what_cannot_be_asked(world: World) -> None:
    finance = await world.staff(await world.company(), Role.FINANCE)
    for path in (
        "collection?by=room", "collection?from_month=2026-13", "collection?from_month=2026-1", "trial-balance",
        "income?from_on=yesterday", "arrears/details?figure=paid_fen&to_on=2026-11-01", "income?unknown=1",
        "collection?limit=0", "income?channel=%00", "collection/details?figure=owed_fen&month=2026-11%00",
    ):  # fmt: skip
        answer = await finance.get(f"{FINANCE}/{path}")
        assert answer.status_code == 422, (path, answer.text)
    for path in (
        "balances?cursor=x",
        "balances/details?figure=balance_fen&cursor=WzFd",
    ):
        answer = await finance.get(f"{FINANCE}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor"), (path, answer.text)


async def told(person: Person, path: str, **headers: str) -> list[dict[str, Any]]:
    person.extra = headers
    found = [one async for page in every_page(person, f"{FINANCE}/{path}/story", 4) for one in page["items"]]
    person.extra = {}
    return found


async def _stories(town: Town) -> None:
    """The payment that was paid in vain and given back, and the room that it was for, in both languages."""
    payment = f"payments/{town.surplus.payment_id}"
    story = await told(town.finance, payment)
    assert [one["event"] for one in story] == [
        "bill_issued", "order_opened", "bill_voided", "paid", "entry", "case_opened", "receipt_issued",
        "refund_asked", "entry", "case_resolved", "refund_arrived", "entry",
    ]  # fmt: skip
    assert [one["amount_fen"] for one in story] == [25_068] * 12
    texts = [one["text"] for one in story]
    assert texts[4] == "记账：借 微信在途，贷 溢收款，250.68 元（溢收款）" and texts[10] == "退款到账 250.68 元"
    english = [one["text"] for one in await told(town.finance, payment, **{"Accept-Language": "en"})]
    assert english[4] == "Posted: debit WeChat clearing, credit Surplus, ¥250.68 (Surplus)"
    room = await told(town.finance, f"rooms/{town.home.room.id}")
    assert room == sorted(room, key=lambda one: one["at"][:19])
    own = await rows(
        "SELECT sum(al.amount_fen)::bigint AS fen FROM allocations al JOIN bills b ON b.id = al.bill_id"
        " WHERE b.room_id = $1", town.home.room.id)  # fmt: skip
    assert sum(one["amount_fen"] for one in room if one["event"] == "allocated") == own[0]["fen"]
    shop = await told(town.finance, f"rooms/{town.shop.id}")
    assert [one["event"] for one in shop][-4:] == [  # paid by a kept surplus, two lines
        "entry", "allocated", "allocated", "receipt_issued"]  # fmt: skip
    for path in (f"rooms/{unknown_id()}", f"payments/{unknown_id()}"):
        assert (await town.finance.get(f"{FINANCE}/{path}/story")).status_code == 404


@pytest.mark.parametrize(
    ("part", "whole", "rate"),
    [(0, 100, 0), (100, 100, 10_000), (99_999, 100_000, 9_999), (1, 3, 3_333), (2, 3, 6_666), (5, 0, None),
     (110, 100, 11_000), (-1, 100_000, -1)],
)  # fmt: skip
def test_a_rate_is_rounded_down(part: int, whole: int, rate: int | None) -> None:
    assert basis_points(part, whole) == rate


def test_every_dimension_and_figure_has_a_word_in_both_languages() -> None:
    for family in FAMILIES:
        for code in (*family.dimensions, *family.figures, *family.rates):
            assert word(code) != code and word(code, "en") != code, code
        assert set(family.dimensions) <= set(finance_report.DIMENSIONS)


def test_the_last_day_of_a_month() -> None:
    assert [str(routes.last_of(one)) for one in ("2026-02", "2028-02", "2026-12", "2026-11")] == [
        "2026-02-28", "2028-02-29", "2026-12-31", "2026-11-30"]  # fmt: skip
