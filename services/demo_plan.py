"""What the demo consists of: two companies, three communities, and whom one can be. Pure; all of it made up."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class Habit(StrEnum):
    """How a household of the demo pays."""

    PROMPT = "prompt"  # everything, twice in the half year; only the newest bills are open
    COMPLETE = "complete"  # everything, the newest bills too
    LATE = "late"  # everything at once, lately
    BEHIND = "behind"  # paid in the first months, owes since
    PART = "part"  # like LATE, but the last payment did not suffice for the last bill
    SILENT = "silent"  # never paid: arrears of half a year


@dataclass(frozen=True)
class CommunityPlan:
    """A community. Rooms: buildings × units × floors × two a floor. Prices in yuan."""

    code: str
    name: str
    address: str
    buildings: int
    units: int
    floors: int
    price: Decimal  # 物业费 per m² and month
    oldest_arrears_first: bool = False
    separate_water: bool = False  # 水费 goes to another legal entity and merchant account


@dataclass(frozen=True)
class CompanyPlan:
    """A property company with its mini-program."""

    key: str  # stands in user names
    name: str
    legal_entity: str
    appid: str
    app_name: str
    mchid: str
    communities: Sequence[CommunityPlan]
    water_entity: str = ""
    water_mchid: str = ""


COMPANIES: Sequence[CompanyPlan] = (
    CompanyPlan(
        key="qingchuan",
        name="晴川物业（演示）",
        legal_entity="晴川物业服务有限公司（演示）",
        appid="wx0de0000000000001",
        app_name="晴川邻里",
        mchid="1900090001",
        water_entity="晴川供水服务有限公司（演示）",
        water_mchid="1900090002",
        communities=(
            CommunityPlan("QCHY", "晴川花园", "演示市晴川区花园路 1 号", 3, 2, 9, Decimal("2.80"), separate_water=True),
            CommunityPlan(
                "QCYY", "晴川雅苑", "演示市晴川区雅苑路 8 号", 2, 2, 14, Decimal("3.20"), oldest_arrears_first=True
            ),
        ),
    ),
    CompanyPlan(
        key="yunshan",
        name="云杉物业（演示）",
        legal_entity="云杉物业管理有限公司（演示）",
        appid="wx0de0000000000002",
        app_name="云杉邻里",
        mchid="1900090003",
        communities=(CommunityPlan("YSL", "云杉里", "演示市云杉区云杉里 6 号", 6, 1, 9, Decimal("1.95")),),
    ),
)


@dataclass(frozen=True)
class Home:
    """A persona and a room: how they belong to it, and how the household pays."""

    community: str  # its code
    room: str
    kind: str = "owner"
    habit: Habit = Habit.PROMPT
    claimed: bool = True


@dataclass(frozen=True)
class Persona:
    """Somebody whom one can sign in as. ``key`` names the phone; the same key in both companies is the same person."""

    key: str
    company: str
    note: str
    homes: Sequence[Home] = ()


PERSONAS: Sequence[Persona] = (
    Persona("两套房", "qingchuan", "业主，名下两套房，有几个月没缴", (
        Home("QCHY", "1栋1单元101", habit=Habit.BEHIND), Home("QCHY", "2栋1单元201", habit=Habit.BEHIND))),
    Persona("欠费", "qingchuan", "业主，半年欠费；本小区要求先缴最早的欠费",
            (Home("QCYY", "1栋1单元1201", habit=Habit.SILENT),)),
    Persona("丈夫", "qingchuan", "业主，和妻子同住：两人同时支付同一张账单试试",
            (Home("QCHY", "1栋1单元301", habit=Habit.LATE),)),
    Persona("妻子", "qingchuan", "家属，可以代缴", (Home("QCHY", "1栋1单元301", kind="family", habit=Habit.LATE),)),
    Persona("租客", "qingchuan", "租客，只看得到入住以后的账单",
            (Home("QCHY", "1栋1单元401", kind="tenant", habit=Habit.BEHIND),)),
    Persona("未绑定", "qingchuan", "业主，登记了手机号但还没绑定：授权手机号即可自动绑定",
            (Home("QCHY", "1栋2单元601", habit=Habit.SILENT, claimed=False),)),
    Persona("陌生人", "qingchuan", "手机号不在任何登记里：要选房申请，由楼栋管家审核"),
    Persona("申请人", "qingchuan", "已提交入住申请，等管家审核"),
    Persona("缴清", "qingchuan", "业主，全部缴清，可以看收据", (Home("QCHY", "2栋2单元302", habit=Habit.COMPLETE),)),
    Persona("部分缴费", "qingchuan", "业主，有一张账单只缴了一部分", (Home("QCHY", "2栋1单元502", habit=Habit.PART),)),
    Persona("卖方", "qingchuan", "原业主，房屋已过户：仍看得到自己欠的账单", (
        Home("QCHY", "3栋1单元701", kind="seller", habit=Habit.BEHIND),)),
    Persona("买方", "qingchuan", "新业主，看不到过户以前的欠费", (
        Home("QCHY", "3栋1单元701", kind="buyer", habit=Habit.BEHIND),)),
    Persona("两套房", "yunshan", "同一个人在另一家物业公司：另一个小程序，另一个 openid",
            (Home("YSL", "3栋1单元301", habit=Habit.BEHIND),)),
    Persona("云杉业主", "yunshan", "云杉里的业主", (Home("YSL", "1栋1单元502", habit=Habit.LATE),)),
)  # fmt: skip

AREAS = tuple(Decimal(area) for area in ("66.30", "75.00", "89.53", "101.37", "120.10", "143.88"))
