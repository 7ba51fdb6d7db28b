"""Bills from a file: all of it or nothing, every error named by line and column, nothing twice."""

import io
from datetime import date
from decimal import Decimal
from typing import Any

import openpyxl
import pytest

import payments
from kit.errors import BodyTooLarge, NotFound, NotPermitted
from models.access import Role
from models.audit import Audit
from models.bill import Bill, BillLine, BillState
from models.unit_of_work import unit_of_work
from payments import bill_batch
from services import bill_register
from services.bill_import import BillImportHasErrors, commit_import, plan_import
from services.bill_sheet import read_sheet
from services.session import authenticate
from tests.bill_town import GOOD, HEADINGS, SYSTEM, counts, csv_of, told, town, world_room, xlsx_of
from tests.world import World, unknown_id

# One wrong row each: (what is wrong, the row, errors as line, column, code). The row is line 3, after a good one.
WRONG_ROWS = [
    ("no room", ",物业费,2026-11,,,,1,2026-12-10,,,", [("房号", "value_missing")]),
    ("unknown room", "9栋9单元999,物业费,2026-11,,,,1,2026-12-10,,,", [("房号", "room_unknown")]),
    ("a formula as room", "=1+1,物业费,2026-11,,,,1,2026-12-10,,,", [("房号", "room_unknown")]),
    ("room without owner", "3栋1单元1203,物业费,2026-11,,,,1,2026-12-10,,,", [("房号", "owner_missing")]),
    ("owner not yet there", "3栋1单元1201,物业费,2019-11,,,,1,2026-12-10,,,", [("房号", "owner_missing")]),
    ("two owners", "3栋1单元1202,物业费,2026-11,,,,1,2026-12-10,,,", [("户名", "owner_ambiguous")]),
    ("not the owner", "3栋1单元1202,物业费,2026-11,,,,1,2026-12-10,,丙,", [("户名", "owner_unknown")]),
    ("no fee item", "3栋1单元1204,,2026-11,,,,1,2026-12-10,,,", [("收费项目", "value_missing")]),
    ("unknown fee item", "3栋1单元1204,电梯费,2026-11,,,,1,2026-12-10,,,", [("收费项目", "fee_item_unknown")]),
    ("one item's name is another's code", "3栋1单元1204,双,2026-11,,,,1,2026-12-10,,,",
     [("收费项目", "fee_item_ambiguous")]),
    ("disused fee item", "3栋1单元1204,清洁费,2026-11,,,,1,2026-12-10,,,", [("收费项目", "fee_item_inactive")]),
    ("no period", "3栋1单元1204,物业费,,,,,1,2026-12-10,,,", [("费用期间", "value_missing")]),
    ("13th month", "3栋1单元1204,物业费,2026-13,,,,1,2026-12-10,,,", [("费用期间", "period_not_understood")]),
    ("2026.1 may be 2026.10", "3栋1单元1204,物业费,2026.1,,,,1,2026-12-10,,,", [("费用期间", "period_not_understood")]),
    ("ends before it begins", "3栋1单元1204,物业费,2026-11-30~2026-11-01,,,,1,2026-12-10,,,",
     [("费用期间", "period_backwards")]),
    ("a year too far", "3栋1单元1204,物业费,2126-11,,,,1,2026-12-10,,,", [("费用期间", "date_out_of_range")]),
    ("no due date", "3栋1单元1204,物业费,2026-11,,,,1,,,,", [("应缴日期", "value_missing")]),
    ("30 February", "3栋1单元1204,物业费,2026-11,,,,1,2026-02-30,,,", [("应缴日期", "date_not_understood")]),
    ("a serial number as date", "3栋1单元1204,物业费,2026-11,,,,1,46366,,,", [("应缴日期", "date_not_understood")]),
    ("no amount", "3栋1单元1204,物业费,2026-11,,,,,2026-12-10,,,", [("金额(元)", "amount_missing")]),
    ("no amount, no price", "3栋1单元1204,物业费,2026-11,5,,,,2026-12-10,,,", [("金额(元)", "amount_missing")]),
    ("zero", "3栋1单元1204,物业费,2026-11,,,,0,2026-12-10,,,", [("金额(元)", "amount_zero")]),
    ("negative", "3栋1单元1204,物业费,2026-11,,,,-1,2026-12-10,,,", [("金额(元)", "number_negative")]),
    ("half a fen", "3栋1单元1204,物业费,2026-11,,,,1.005,2026-12-10,,,", [("金额(元)", "number_too_precise")]),
    ("not a number", "3栋1单元1204,物业费,2026-11,,,,一元,2026-12-10,,,", [("金额(元)", "number_not_understood")]),
    ("an exponent", "3栋1单元1204,物业费,2026-11,,,,1e3,2026-12-10,,,", [("金额(元)", "number_not_understood")]),
    ("a decimal comma", '3栋1单元1204,物业费,2026-11,,,,"69,62",2026-12-10,,,',
     [("金额(元)", "number_not_understood")]),
    ("more than a bill carries", "3栋1单元1204,物业费,2026-11,,,,100000000000,2026-12-10,,,",
     [("金额(元)", "number_too_large")]),
    ("more than a bill carries, computed", "3栋1单元1204,物业费,2026-11,9999999999,,99999999,,2026-12-10,,,",
     [("金额(元)", "amount_too_large")]),
    ("binary floats would say 69.61", "3栋1单元1204,物业费,2026-11,66.30,,1.05,69.61,2026-12-10,,,",
     [("金额(元)", "amount_differs")]),
    ("computed, not rounded", "3栋1单元1204,物业费,2026-11,66.30,,1.05,69.615,2026-12-10,,,",
     [("金额(元)", "amount_differs")]),
    ("negative quantity", "3栋1单元1204,物业费,2026-11,-1,,1,,2026-12-10,,,", [("数量", "number_negative")]),
    ("five decimals", "3栋1单元1204,物业费,2026-11,1.00001,,1,,2026-12-10,,,", [("数量", "number_too_precise")]),
    ("price too precise", "3栋1单元1204,物业费,2026-11,1,,1.0000001,,2026-12-10,,,",
     [("单价(元)", "number_too_precise")]),
    ("price too large", "3栋1单元1204,物业费,2026-11,1,,100000000,,2026-12-10,,,", [("单价(元)", "number_too_large")]),
    ("unit too long", f"3栋1单元1204,物业费,2026-11,,{'米' * 17},,1,2026-12-10,,,", [("单位", "text_too_long")]),
    ("a control character", "3栋1单元1204,物业费,2026-11,,,,1,2026-12-10,a\x01b,,", [("说明", "text_unprintable")]),
    ("everything at once", ",,2026-13,-1,,x,abc,2026-02-30,,,",
     [("房号", "value_missing"), ("收费项目", "value_missing"), ("费用期间", "period_not_understood"),
      ("数量", "number_negative"), ("单价(元)", "number_not_understood"), ("金额(元)", "number_not_understood"),
      ("应缴日期", "date_not_understood")]),
    ("a date, a room and an item in one reading", "9栋9单元999,电梯费,2026-11,,,,1,2026-02-31,,,",
     [("应缴日期", "date_not_understood"), ("房号", "room_unknown"), ("收费项目", "fee_item_unknown")]),
    ("another due date in one bill", "3栋1单元1201,物业费,2026-11,,,,1,2026-12-11,,,", [("应缴日期", "lines_differ")]),
    ("another title in one bill", "3栋1单元1201,物业费,2026-11,,,,1,2026-12-10,,,别名", [("账单名称", "lines_differ")]),
]  # fmt: skip


async def test_every_wrong_row_names_line_and_column_and_nothing_is_imported(world: World) -> None:
    home = await town(world)
    before = await counts()
    for case, wrong, errors in WRONG_ROWS:
        content = csv_of(GOOD, wrong)
        plan = await plan_import(SYSTEM, home.community.id, "a.csv", content)
        assert told(list(plan.errors)) == [(3, column, code) for column, code in errors], case
        with pytest.raises(BillImportHasErrors) as refused:
            await commit_import(SYSTEM, home.community.id, "a.csv", content)
        assert refused.value.facts["error_count"] == len(errors), case
        assert [(one["line"], one["column"]) for one in refused.value.facts["errors"]] == [
            (3, column) for column, _ in errors
        ], case
    assert await counts() == before


async def test_the_same_in_every_dress(world: World) -> None:
    """csv with any separator and encoding, xlsx with numbers and dates: the same bills."""
    home = await town(world)
    text = csv_of(GOOD, '"３栋 １单元 １２０４室", 水费 ,2026年11月,10,m³,5,"¥50.00",2026/12/10,"两\n行",,').decode()
    dresses = {
        "plain": text.encode(),
        "BOM": text.encode("utf-8-sig"),
        "GB18030": text.encode("gb18030"),
        "UTF-16": text.encode("utf-16"),
        "CRLF": text.replace("\n", "\r\n").replace("两\r\n行", "两\n行").encode(),
        "semicolons": text.replace(",", ";").encode(),
        "tabs": text.replace(",", "\t").encode(),
        "sep": ("sep=;\n" + text.replace(",", ";")).encode(),
        "title above": ("晴川花园2026年11月账单,,,\n\n" + text).encode(),
        "xlsx": xlsx_of(
            ["3栋1单元1201", "物业费", date(2026, 11, 1), 89.53, "m²", 2.8, 250.68, date(2026, 12, 10),
             "89.53 m² × 2.80 元/m²·月"],
            ["3-1-1204", "水费", "2026-11-01~2026-11-30", 10, "m³", 5, 50, "2026-12-10", "两 行"],
            sheets=("说明",),
        ),
    }  # fmt: skip
    for dress, content in dresses.items():
        plan = await plan_import(SYSTEM, home.community.id, dress, content)
        assert (told(list(plan.errors)), told(list(plan.warnings))) == ([], []), dress
        first, second = plan.bills
        assert (first.room.name, first.title, first.amount_fen) == ("3栋1单元1201", "2026年11月物业费", 25068), dress
        assert (first.rows[0].formula, first.rows[0].unit) == ("89.53 m² × 2.80 元/m²·月", "m²"), dress
        assert (second.room.name, second.title, second.amount_fen) == ("3栋1单元1204", "2026年11月水费", 5000), dress
        assert (second.rows[0].formula, second.due_on) == ("两 行", date(2026, 12, 10)), dress


async def test_what_is_imported_is_what_was_shown(world: World, books: Any) -> None:
    home = await town(world)
    content = csv_of(
        GOOD,
        "3栋1单元1201,水费,2026-11,15,m³,5.00,75.00,2026-12-10,,,",
        "3栋1单元1201,水费,2026-11,7,m³,7.00,,2026-12-10,,,",
        "3栋1单元1202,物业费,2026-11-01~2026-11-15,,,,33.15,2026-12-10,=HYPERLINK(1),乙1202,半个月物业费",
        "",
        "3栋1单元1204,物业费,2026-11,0,m²,2.80,,2026-12-10,,,",
        "合计,,,,,,407.83,,,,",
        headings=HEADINGS,
    )
    plan = await plan_import(SYSTEM, home.community.id, "账单.csv", content)
    assert plan.can_be_imported and (plan.bill_count, plan.row_count, plan.zero_count) == (3, 5, 1)
    assert plan.amount_fen == 25068 + 7500 + 4900 + 3315
    assert told(list(plan.warnings)) == [(7, None, "zero_amount"), (8, None, "total_row")]
    assert {(one.name, one.bill_count, one.amount_fen) for one in plan.sums} == {
        ("物业费", 2, 28383),
        ("水费", 1, 12400),
    }
    assert await Bill.all().count() == 0

    done = await commit_import(SYSTEM, home.community.id, "C:\\我的\\账单.csv", content)
    assert (done.file_name, done.bill_count, done.amount_fen, done.already_imported) == ("账单.csv", 3, 40783, False)
    bills = {bill.title: bill for bill in await Bill.all()}
    assert set(bills) == {"2026年11月物业费", "2026年11月水费", "半个月物业费"}
    for bill in bills.values():
        assert (bill.state, bill.kind, bill.subject_kind) == (BillState.OPEN, "charge", "room")
        assert bill.bill_import_id == done.id and bill.issued_at and bill.subject_id == bill.room_id
        assert bill.merchant_account_id == home.company.merchant.id
        assert bill.legal_entity_id == home.company.legal_entity.id
    water, half = bills["2026年11月水费"], bills["半个月物业费"]
    assert (water.customer_id, water.accrued_on, water.due_on) == (
        home.customer.id,
        date(2026, 11, 30),
        date(2026, 12, 10),
    )
    assert half.purpose.endswith(":2026-11-01~2026-11-15") and half.accrued_on == date(2026, 11, 15)
    lines = await BillLine.filter(bill_id=water.id).order_by("position")
    assert [(line.position, line.amount_fen, line.quantity, line.unit_price) for line in lines] == [
        (1, 7500, Decimal(15), Decimal(5)),
        (2, 4900, Decimal(7), Decimal(7)),
    ]
    assert (await BillLine.get(bill_id=half.id)).formula == "=HYPERLINK(1)"
    written = await Audit.get(act="bill.import")
    assert written.target_id == done.id and written.after["bill_count"] == 3
    await books()


async def test_the_same_file_twice_adds_nothing(world: World) -> None:
    home = await town(world)
    first = await commit_import(SYSTEM, home.community.id, "a.csv", csv_of(GOOD))
    before = await counts()
    again = await commit_import(SYSTEM, home.community.id, "b.csv", csv_of(GOOD))
    assert (again.id, again.already_imported, again.bill_count) == (first.id, True, 1)
    plan = await plan_import(SYSTEM, home.community.id, "a.csv", csv_of(GOOD))
    assert plan.already_imported and plan.already_imported.id == first.id and plan.bill_count == 0
    assert await counts() == before


async def test_another_file_with_the_same_bills_skips_them_and_refuses_different_ones(world: World) -> None:
    home = await town(world)
    await commit_import(SYSTEM, home.community.id, "a.csv", csv_of(GOOD))
    more = csv_of(GOOD, "3栋1单元1204,物业费,2026-11,,,,9.90,2026-12-10,,,")
    done = await commit_import(SYSTEM, home.community.id, "b.csv", more)
    assert (done.bill_count, done.skipped_count, done.amount_fen) == (1, 1, 990)
    before = await counts()
    for case, changed, column in (
        ("amount", GOOD.replace("89.53,m²,2.80,250.68", ",,,250.69"), "金额(元)"),
        ("due date", GOOD.replace("2026-12-10", "2026-12-11"), "应缴日期"),
        ("title", GOOD + "别名", "账单名称"),
        ("price", GOOD.replace("89.53,m²,2.80", "125.34,m²,2"), "数量"),
        ("words", GOOD.replace("× 2.80", "x 2.80"), "说明"),
    ):
        plan = await plan_import(SYSTEM, home.community.id, "c.csv", csv_of(changed))
        assert told(list(plan.errors)) == [(2, column, "bill_exists_differs")], case
        with pytest.raises(BillImportHasErrors):
            await commit_import(SYSTEM, home.community.id, "c.csv", csv_of(changed))
    assert await counts() == before


async def test_a_voided_bill_makes_room_for_a_corrected_one(world: World) -> None:
    home = await town(world)
    await commit_import(SYSTEM, home.community.id, "a.csv", csv_of(GOOD))

    @unit_of_work
    async def void() -> None:
        await payments.void_bill_tx(SYSTEM, await Bill.select_for_update().get(), "算错了")

    await void()
    corrected = csv_of(GOOD.replace("89.53,m²,2.80,250.68", ",,,250.69"))
    assert (await commit_import(SYSTEM, home.community.id, "b.csv", corrected)).bill_count == 1
    assert await Bill.filter(state=BillState.OPEN).values_list("amount_fen", flat=True) == [25069]


async def test_overlapping_days_and_repeated_rows_are_noticed(world: World) -> None:
    home = await town(world)
    await commit_import(SYSTEM, home.community.id, "a.csv", csv_of(GOOD))
    overlapping = "3栋1单元1201,物业费,2026-11-15~2026-12-14,,,,1,2026-12-31,,,"
    plan = await plan_import(SYSTEM, home.community.id, "b.csv", csv_of(overlapping, overlapping))
    assert told(list(plan.warnings)) == [(2, "费用期间", "period_overlaps"), (3, None, "row_repeated")]
    assert plan.can_be_imported and plan.amount_fen == 200


async def test_the_debtor_is_who_owned_the_room_on_the_last_day(world: World) -> None:
    home = await town(world)
    room = await world_room(world, home, "1205")
    seller, buyer = await world.customer(home.company, "卖方"), await world.customer(home.company, "买方")
    await world.occupancy(room, seller, ends_on=date(2026, 11, 15))
    await world.occupancy(room, buyer, starts_on=date(2026, 11, 16))
    rows = [
        f"3-1-1205,物业费,{period},,,,1,2026-12-10,,," for period in ("2026-10", "2026-11-01~2026-11-15", "2026-11")
    ]
    plan = await plan_import(SYSTEM, home.community.id, "a.csv", csv_of(*rows))
    assert [bill.owner.name for bill in plan.bills] == ["卖方", "卖方", "买方"]


async def test_rows_are_bounded_and_bytes_too(world: World) -> None:
    home = await town(world)
    row_text = "3-1-1204,物业费,2026-11,,,,1,2026-12-10,,,"
    assert told(read_sheet(csv_of(*[row_text] * 50_001)).errors) == [(None, None, "too_many_rows")]
    assert read_sheet(csv_of(*[row_text] * 50_000)).row_count == 50_000
    for work in (plan_import, commit_import):
        with pytest.raises(BodyTooLarge):
            await work(SYSTEM, home.community.id, "a.csv", b" " * (8 * 1024 * 1024 + 1))
    plan = await plan_import(SYSTEM, home.community.id, "a.csv", csv_of(*[row_text] * 101))
    assert told(list(plan.errors)) == [(102, None, "too_many_lines")]


async def test_a_thousand_rows_take_a_handful_of_statements(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound that keeps 50,000 rows possible: statements do not grow with the rows."""
    home = await town(world)
    ran: list[str] = []
    for module in (bill_batch, bill_register):
        original = module.rows

        async def counted(sql: str, *values: Any, _original: Any = original) -> Any:
            ran.append(sql)
            return await _original(sql, *values)

        monkeypatch.setattr(module, "rows", counted)
    periods = [f"{2020 + number // 12}-{number % 12 + 1:02d}" for number in range(12, 600)]
    lines = [
        f"3-1-{room},物业费,{period},1,,1.23,1.23,2026-12-10,,," for room in ("1201", "1204") for period in periods
    ]
    done = await commit_import(SYSTEM, home.community.id, "a.csv", csv_of(*lines))
    assert (done.bill_count, done.amount_fen) == (1176, 1176 * 123)
    assert len(ran) == 8


async def test_a_spreadsheets_own_traps(world: World) -> None:
    """Errors and formulas that were never computed stay visible; floats become what a person sees."""
    home = await town(world)
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(HEADINGS.split(","))
    good = ["3栋1单元1204", "物业费", "2026-11", 66.30, "m²", 1.05, 69.62, date(2026, 12, 10)]
    for cells in (good, [*good[:6], "#VALUE!", good[7]], [*good[:6], "=D2*F2", good[7]], [*good[:6], True, good[7]]):
        sheet.append(cells)
    sheet.append([*good[:6], 66.30 * 1.05, good[7]])
    done = io.BytesIO()
    book.save(done)
    plan = await plan_import(SYSTEM, home.community.id, "a.xlsx", done.getvalue())
    assert told(list(plan.errors)) == [
        (3, "金额(元)", "cell_is_error"),
        (4, "金额(元)", "formula_without_value"),
        (5, "金额(元)", "number_not_understood"),
        (6, "金额(元)", "amount_differs"),
    ]
    assert plan.errors[3].message() == "金额是 69.615 元，但 66.3 × 1.05 四舍五入是 69.62 元。"
    assert plan.errors[0].message("en") == "The cell holds a formula error (#VALUE!)."


async def test_an_ambiguous_room_is_refused_and_the_closest_are_named(world: World) -> None:
    home = await town(world)
    room = await world_room(world, home, "01204")
    await world.occupancy(room, await world.customer(home.company, "丁"))
    plan = await plan_import(
        SYSTEM, home.community.id, "a.csv",
        csv_of("3-1-1204,物业费,2026-11,,,,1,2026-12-10,,,", "3-2-1204,物业费,2026-11,,,,1,2026-12-10,,,"),
    )  # fmt: skip
    assert told(list(plan.errors)) == [(2, "房号", "room_ambiguous"), (3, "房号", "room_unknown")]
    assert "3栋1单元1204" in plan.errors[1].message() and "3栋1单元1204" in plan.errors[1].message("en")


BASE = "/api/v1/staff/communities/{}/bill-imports"


RAW = {"Content-Type": "application/octet-stream"}


async def test_over_http(world: World) -> None:
    home = await town(world)
    finance = await world.staff(home.company, Role.FINANCE, home.community)
    path = BASE.format(home.community.id)
    headers = finance.headers | RAW

    shown = await world.api.post(f"{path}/plan?file_name=a.csv", content=csv_of(GOOD), headers=headers)
    assert shown.status_code == 200, shown.text
    plan = shown.json()
    assert (plan["can_be_imported"], plan["bill_count"], plan["amount_fen"]) == (True, 1, 25068)
    assert plan["sample"][0]["room"] == "3栋1单元1201" and plan["sample"][0]["lines"][0]["unit_price"] == "2.80"

    keyed = headers | {"Idempotency-Key": "k1"}
    made = await world.api.post(f"{path}?file_name=a.csv", content=csv_of(GOOD), headers=keyed)
    assert made.status_code == 201, made.text
    again = await world.api.post(f"{path}?file_name=a.csv", content=csv_of(GOOD), headers=keyed)
    assert again.status_code == 201 and again.json()["id"] == made.json()["id"]
    other = await world.api.post(
        f"{path}?file_name=a.csv", content=csv_of(GOOD), headers=keyed | {"Idempotency-Key": "k2"}
    )
    assert (other.json()["id"], other.json()["already_imported"]) == (made.json()["id"], True)

    listed = (await finance.get(path)).json()
    assert [one["id"] for one in listed["items"]] == [made.json()["id"]] and listed["next_cursor"] is None
    one = await finance.get(f"{path}/{made.json()['id']}")
    assert (one.json()["bill_count"], one.json()["amount_fen"]) == (1, 25068)

    wrong = await world.api.post(
        f"{path}?file_name=b.csv",
        content=csv_of("x"),
        headers=keyed | {"Idempotency-Key": "k3", "Accept-Language": "en"},
    )
    assert (wrong.status_code, wrong.json()["code"]) == (422, "bill_import_has_errors")
    assert wrong.json()["errors"][0]["line"] == 2
    template = await finance.get(f"/api/v1/staff/communities/{home.community.id}/bill-import-template")
    assert template.status_code == 200 and template.content.startswith(b"PK")


async def test_only_who_may_issue_bills_there(world: World) -> None:
    home = await town(world)
    path = BASE.format(home.community.id)
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    stranger = await world.staff(await world.company(), Role.MANAGER)
    before = await counts()
    for person, status in ((butler, 403), (stranger, 404), (home.owner, 404)):
        for end in ("/plan?file_name=a", "?file_name=a"):
            headers = person.headers | RAW | {"Idempotency-Key": f"{status}{end}"}
            answer = await world.api.post(path + end, content=csv_of(GOOD), headers=headers)
            assert answer.status_code == status, answer.text
    template = f"/api/v1/staff/communities/{home.community.id}/bill-import-template"
    assert [(await one.get(template)).status_code for one in (butler, stranger)] == [403, 404]
    assert (await butler.get(path)).status_code == 200 and (await stranger.get(path)).status_code == 404
    assert (await butler.get(f"{path}/{unknown_id()}")).status_code == 404
    resident = await authenticate(home.owner.token)
    with pytest.raises((NotFound, NotPermitted)):
        await plan_import(resident, home.community.id, "a.csv", csv_of(GOOD))
    assert await counts() == before
