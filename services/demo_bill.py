"""The demo's bills: six months of 物业费, 公摊电费, 水费 and parking, computed as a property company computes them."""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from kit import clock
from kit.money import round_to_fen, split
from models.fee_item import FeeItem
from models.unit_of_work import unit_of_work
from payments import NewBill, NewLine, issue_bills_tx
from services.bill_cell import Period, month_end
from services.demo_company import MadeCommunity
from services.demo_names import Dice
from services.demo_register import Household, months_before

MONTHS = 6
_LADDER = ((Decimal(15), Decimal("5.00")), (None, Decimal("7.00")))  # m³ a month up to which a price holds
_PARKING = Decimal("150.00")


async def issue_demo_bills(dice: Dice, made: MadeCommunity, households: Sequence[Household], today: date) -> int:
    """Issue six months of bills, each month's at its own time; how many.

    Fees in advance (物业费, parking) are issued on the 1st of their month, metered ones on the 3rd of the next; all
    are due on the 10th after that.
    """
    count = 0
    for back in range(MONTHS, -1, -1):
        first = months_before(today, back)
        period = Period(first, month_end(first))
        if back < MONTHS:
            advance = _advance(made, households, period)
            count += await _issue_on(made, advance, _at(first, today))
        if back > 0:
            metered = _shared_power(dice, made, households, period) + _water(dice, made, households, period)
            count += await _issue_on(made, metered, _at(period.last + timedelta(days=3), today))
    return count


def _at(day: date, today: date) -> datetime:
    """Nine in the morning of the day, or, when that is still to come, an hour ago."""
    wanted = datetime.combine(day, time(9), clock.BEIJING)
    return wanted if day < today else min(wanted, clock.now() - timedelta(hours=1))


async def _issue_on(made: MadeCommunity, bills: Sequence[NewBill], instant: datetime) -> int:
    with clock.travel_to(instant):
        await _issue(made, bills)
    return len(bills)


@unit_of_work
async def _issue(made: MadeCommunity, bills: Sequence[NewBill]) -> None:
    await issue_bills_tx(made.community.id, bills)


def _bill(
    made: MadeCommunity, household: Household, item: FeeItem, period: Period, lines: Sequence[NewLine]
) -> NewBill:
    due_on = months_before(period.first, -1).replace(day=10)
    return NewBill(
        community_id=made.community.id,
        customer_id=household.owner_on(period.last),
        subject_kind="room",
        subject_id=household.room.id,
        purpose=f"{item.code}:{period.word}",
        title=f"{period.title}{item.name}",
        accrued_on=period.last,
        due_on=due_on,
        lines=lines,
        room_id=household.room.id,
    )


def _line(
    item: FeeItem, period: Period, quantity: Decimal, unit: str, price: Decimal, formula: str, title: str = ""
) -> NewLine:
    return NewLine(
        fee_item_id=item.id,
        title=title or item.name,
        amount_fen=round_to_fen(quantity * price),
        period_from=period.first,
        period_to=period.last,
        quantity=quantity,
        unit=unit,
        unit_price=price,
        formula=formula,
    )


def _advance(made: MadeCommunity, households: Sequence[Household], period: Period) -> list[NewBill]:
    """物业费 by area, and the monthly fee of those who have a parking place."""
    bills = []
    service, parking = made.items["WYF"], made.items["CWF"]
    for household in households:
        area, price = household.room.area_m2, made.plan.price
        line = _line(service, period, area, "m²", price, f"{area} m² × {price} 元/m²·月")
        bills.append(_bill(made, household, service, period, [line]))
        if household.parking:
            line = _line(parking, period, Decimal(1), "个", _PARKING, f"1 个车位 × {_PARKING} 元/月")
            bills.append(_bill(made, household, parking, period, [line]))
    return bills


def _shared_power(dice: Dice, made: MadeCommunity, households: Sequence[Household], period: Period) -> list[NewBill]:
    """公摊电费: what lifts and lights used, shared by area; the shares add up to the whole."""
    item = made.items["GTDF"]
    total_fen = dice.random.randint(95_000, 145_000)
    areas = [household.room.area_m2 for household in households]
    whole = sum(areas, Decimal(0))
    bills = []
    for household, share_fen in zip(households, split(total_fen, areas), strict=True):
        words = f"公共用电 {Decimal(total_fen).scaleb(-2)} 元 × {household.room.area_m2} / {whole} m²"
        line = NewLine(item.id, item.name, share_fen, period.first, period.last, formula=words)
        bills.append(_bill(made, household, item, period, [line]))
    return bills


def _water(dice: Dice, made: MadeCommunity, households: Sequence[Household], period: Period) -> list[NewBill]:
    """水费 by meter, in two steps of price; a room where no water ran has no bill."""
    item = made.items["SF"]
    bills = []
    for household in households:
        usage = Decimal(
            dice.random.choices((0, dice.random.randint(3, 14), dice.random.randint(16, 26)), (4, 76, 20))[0]
        )
        lines, left = [], usage
        for step, (width, price) in enumerate(_LADDER, start=1):
            part = left if width is None else min(left, width)
            left -= part
            if part:
                title = item.name if usage <= (_LADDER[0][0] or 0) else f"{item.name}第{'一二'[step - 1]}阶梯"
                lines.append(_line(item, period, part, "m³", price, f"{part} m³ × {price} 元/m³", title))
        if lines:
            bills.append(_bill(made, household, item, period, lines))
    return bills
