"""A community for the tests of the bill import, and files to import into it."""

import io
from decimal import Decimal
from typing import Any

import openpyxl

from kit.text import natural_key
from models.access import system_actor
from models.audit import Audit
from models.bill import Bill, BillImport, BillLine
from models.fee_item import FeeItem
from models.room import Room
from services.bill_remark import Remark
from tests.world import Home, World

HEADINGS = "房号,收费项目,费用期间,数量,单位,单价(元),金额(元),应缴日期,说明,户名,账单名称"


GOOD = "3栋1单元1201,物业费,2026-11,89.53,m²,2.80,250.68,2026-12-10,89.53 m² × 2.80 元/m²·月,,"


SYSTEM = system_actor("test")


def csv_of(*lines: str, headings: str = HEADINGS) -> bytes:
    return "\n".join((headings, *lines, "")).encode()


def xlsx_of(*rows: list[Any], headings: str = HEADINGS, sheets: tuple[str, ...] = ()) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(headings.split(","))
    for cells in rows:
        sheet.append(cells)
    for name in sheets:
        book.create_sheet(name).append(["x"])
    done = io.BytesIO()
    book.save(done)
    return done.getvalue()


def told(remarks: list[Remark]) -> list[tuple[int | None, str | None, str]]:
    return [(remark.line, remark.column, remark.code) for remark in remarks]


async def town(world: World) -> Home:
    """A community with 3栋1单元1201 (one owner), …1202 (two owners), …1203 (none), 物业费 and a disused item."""
    home = await world.home(bills=0)
    await world.fee_item(home.company, home.community, "物业费")
    await world.fee_item(home.company, home.community, "水费")
    await world.fee_item(home.company, home.community, "清洁费", active=False)
    other = await world.fee_item(home.company, home.community, "双")
    await FeeItem.create(
        organization_id=home.company.id,
        community_id=home.community.id,
        code="双",
        name="另一项",
        legal_entity_id=other.legal_entity_id,
    )
    for number in ("1202", "1203", "1204"):
        room = await world_room(world, home, number)
        if number in ("1202", "1204"):
            await world.occupancy(room, await world.customer(home.company, f"甲{number}"))
        if number == "1202":
            await world.occupancy(room, await world.customer(home.company, "乙1202"))
    return home


async def world_room(world: World, home: Home, number: str) -> Room:
    name = f"3栋1单元{number}"
    return await Room.create(
        community_id=home.community.id,
        building_id=home.room.building_id,
        unit_id=home.room.unit_id,
        number=number,
        name=name,
        natural_key=natural_key(name),
        area_m2=Decimal("66.30"),
    )


async def counts() -> tuple[int, int, int, int]:
    return (
        await Bill.all().count(),
        await BillLine.all().count(),
        await BillImport.all().count(),
        await Audit.all().count(),
    )
