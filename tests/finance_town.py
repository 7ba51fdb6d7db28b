"""A company with two legal entities, two buildings and two communities, in which money moved every way."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from kit import clock
from models.access import Role
from models.bill import BillKind
from models.community import Community
from models.organization import LegalEntity
from models.room import Room
from tests.conftest import Drain, SandboxControl
from tests.surplus_home import Surplus, paid_for_nothing
from tests.world import Company, Home, Person, World

FINANCE = "/api/v1/staff/finance"


@dataclass
class Town:
    """See ``finance_town``."""

    home: Home
    second: Community
    shop: Room
    other_entity: LegalEntity
    finance: Person
    here_only: Person
    surplus: Surplus

    @property
    def company(self) -> Company:
        return self.home.company


async def paid(home: Home, sandbox: SandboxControl, drain: Drain, *bills: Any) -> dict[str, Any]:
    """The owner pays the bills by WeChat."""
    opened = await home.open(bill_ids=[str(one.id) for one in bills])
    assert opened.status_code == 201, opened.text
    told = (await sandbox.pay(opened.json())).json()
    await sandbox.called_back(told["out_trade_no"])
    await drain()
    return dict(opened.json())


async def finance_town(world: World, sandbox: SandboxControl, drain: Drain) -> Town:
    """Bills of many months, three items, two legal entities and three kinds; some paid before their time, some late;
    one paid in vain and kept for another, one paid in vain and given back; another community that owes."""
    home = await world.home(bills=3)
    company, owner = home.company, home.customer
    finance = await world.staff(company, Role.FINANCE)
    here_only = await world.staff(company, Role.FINANCE, home.community)
    entity = await LegalEntity.create(organization_id=company.id, name="停车管理有限公司")
    at_second = world.wechat[1]
    till = await world.merchant(company.id, entity.id, at_second)
    parking = await world.fee_item(
        company, home.community, "停车费", legal_entity_id=entity.id, merchant_account_id=till.id
    )
    water = await world.fee_item(company, home.community, "水费")
    shop = await world.room(home.community, "10栋1单元101")
    await world.occupancy(shop, owner, resident=home.owner.resident)
    early = await world.bill(company, home.room, owner, 9_001, month=date(2037, 2, 1), item=water)
    late = await world.bill(company, shop, owner, 30_003, month=date(2025, 3, 1), lines_fen=[10_001, 20_002])
    stall = await world.bill(company, home.room, owner, 15_000, month=date(2026, 8, 1), item=parking)
    deposit = await world.bill(company, home.room, owner, 50_000, month=date(2026, 10, 1), kind=BillKind.DEPOSIT)
    await world.bill(company, home.room, owner, 70_000, month=date(2026, 7, 1), kind=BillKind.PREPAID)
    await world.bill(company, shop, owner, 30_300, month=date(2026, 5, 1), item=parking)
    await world.bill(company, shop, owner, 999, month=date(2026, 4, 1), draft=True)
    await paid(home, sandbox, drain, home.bills[0], early)
    await paid(home, sandbox, drain, stall)
    await paid(home, sandbox, drain, deposit)
    vain = await world.bill(company, home.room, owner, 12_345, month=date(2025, 1, 1))
    kept = await paid_for_nothing(home, finance, sandbox, drain, [str(vain.id)])
    assert (await kept.keep(late.id)).status_code == 201
    await drain()
    surplus = await kept.another(world, drain, date(2025, 2, 1))
    assert (await surplus.send_back()).status_code == 201
    await surplus.noticed()
    await drain()
    second = await world.community(company, "月亮湾")
    flat = await world.room(second, "1栋1单元101")
    await world.bill(company, flat, owner, 44_444, month=date(2026, 9, 1))
    await world.bill(company, flat, owner, 11_111, month=date(2026, 10, 1))
    return Town(home, second, shop, entity, finance, here_only, surplus)


async def every_page(person: Person, path: str, limit: int = 3) -> AsyncIterator[dict[str, Any]]:
    """The pages of a list, to the last."""
    cursor = None
    while True:
        start = f"{path}{'&' if '?' in path else '?'}limit={limit}"
        answer = await person.get(f"{start}&cursor={cursor}" if cursor else start)
        assert answer.status_code == 200, answer.text
        yield answer.json()
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return


def this_month() -> str:
    """``2026-11``, in Beijing."""
    return f"{clock.today():%Y-%m}"
