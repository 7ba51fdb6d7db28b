"""收费班次: opened with a float, closed by a blind count, handed over, approved by finance.

While a shift is open nobody is told what its drawers should hold: the clerk counts first, and expected, counted and
variance are named afterwards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import payments
from kit import clock
from kit.errors import InvalidInput, NotFound, NotPermitted, Refusal
from kit.ids import parse_id
from kit.paging import Page
from models import audit
from models.access import Act, Actor, require, require_somewhere
from models.base import get_visible
from models.community import Community
from models.fee_item import FeeItem
from models.organization import LegalEntity
from models.shift import SHIFT_MACHINE, Shift, ShiftDrawer, ShiftState
from models.staff import Staff
from models.unit_of_work import unit_of_work
from services.listing import newest_first, wanted_id
from services.unique import unique


class NoOpenShift(Refusal):
    """Money at the counter is taken in a shift, so that somebody answers for it."""

    status = 409
    zh = "请先开班，再收款。"
    en = "Open a shift first; money is taken in a shift only."


class ShiftAlreadyOpen(Refusal):
    status = 409
    zh = "您在这个小区还有未交班的班次。"
    en = "You have an open shift in this community already."


class ShiftIsOpen(Refusal):
    """What was taken is told after the count, so that the count is blind."""

    status = 409
    zh = "班次还在营业，盘点之后才能查看汇总。"
    en = "The shift is still open; its summary is told after the count."


class CountIncomplete(InvalidInput):
    """Each drawer is counted, once, and nothing else."""

    zh = "请逐一填写每个收款主体的实点现金。"
    en = "Count the drawer of each legal entity, once."


class ReceiverTakesOver(NotPermitted):
    """Whoever answers for the cash from now on says so."""

    zh = "交给下一班时，请由接班人在自己的班次里确认接收。"
    en = "The clerk who takes the cash over confirms it, in a shift of their own."


class VarianceUnexplained(InvalidInput):
    """A count that is off is approved with a word about it."""

    zh = "盘点有长短款，请填写审核说明。"
    en = "The count is off: say why it is approved."


class ApprovedByAnother(NotPermitted):
    """Nobody approves their own count."""

    zh = "不能审核自己的班次，请由其他财务人员审核。"
    en = "Nobody approves their own shift."


@dataclass(frozen=True)
class Cash:
    """An amount of one legal entity's cash: a float, or what was counted."""

    legal_entity_id: str
    amount_fen: int


@dataclass(frozen=True)
class DrawerView:
    """A drawer and the name of whose cash it holds."""

    drawer: ShiftDrawer
    legal_entity: str


@dataclass(frozen=True)
class ShiftView:
    """A shift with what is shown beside it."""

    shift: Shift
    clerk: str
    drawers: Sequence[DrawerView]


@unit_of_work
async def open_shift(actor: Actor, community_id: str, floats: Sequence[Cash]) -> ShiftView:
    """Open a shift of the actor's own; its floats come out of the safe. Refuses NotFound (a community that is not the
    actor's, a legal entity that takes no money there), NotPermitted, ShiftAlreadyOpen, CashNotThere."""
    community = await get_visible(Community.visible_to(actor), community_id)
    require(actor, Act.SHIFT_WORK, community_id=community.id)
    wanted = {await _legal_entity_id(community, one.legal_entity_id): one.amount_fen for one in floats}
    if len(wanted) != len(floats):
        raise CountIncomplete(fields=[{"field": "floats", "code": "repeated"}])
    with unique(shifts_one_open=ShiftAlreadyOpen):
        shift = await Shift.create(
            organization_id=community.organization_id, community_id=community.id, staff_id=actor.id
        )
    for legal_entity_id in sorted(wanted):
        await payments.drawer_tx(shift, legal_entity_id, wanted[legal_entity_id])
    await _record_tx(actor, "shift.open", shift, {"float_fen": sum(wanted.values())})
    return (await _views([shift]))[0]


async def _legal_entity_id(community: Community, text: str) -> UUID:
    """A legal entity that something is charged for here."""
    wanted = wanted_id(text)
    if not await FeeItem.exists(community_id=community.id, legal_entity_id=wanted):
        raise NotFound()
    return wanted


async def open_shift_tx(actor: Actor, community_id: UUID) -> Shift:
    """The actor's open shift in the community, held so that it is not closed before this transaction ends; others may
    take money in it meanwhile. Refuses NoOpenShift."""
    shift = await payments.hold_open_shift_tx(actor.id, community_id)
    if shift is None:
        raise NoOpenShift()
    return shift


@unit_of_work
async def close_shift(actor: Actor, shift_id: UUID, counts: Sequence[Cash]) -> ShiftView:
    """Close a shift of the actor's own by what was counted in each of its drawers; the variance is posted, and the
    answer names it. Refuses NotFound, NotPermitted (another clerk's), MoveNotAllowed (closed before), CountIncomplete.
    """
    shift = await _held(actor, shift_id)
    _require_own(actor, shift)
    SHIFT_MACHINE.enter(shift, ShiftState.CLOSED, closed_at=clock.now())
    drawers = {one.legal_entity_id: one for one in await ShiftDrawer.filter(shift_id=shift.id).order_by("id")}
    counted = {parse_id(one.legal_entity_id): one.amount_fen for one in counts}
    if len(counted) != len(counts) or set(counted) != set(drawers):
        raise CountIncomplete(fields=[{"field": "counts", "code": "incomplete"}])
    await shift.save(update_fields=["state", "closed_at"])
    for legal_entity_id, drawer in drawers.items():
        await payments.count_drawer_tx(drawer, counted[legal_entity_id])
    variance_fen = sum(one.variance_fen or 0 for one in drawers.values())
    await _record_tx(actor, "shift.close", shift, {"counted_fen": sum(counted.values()), "variance_fen": variance_fen})
    return (await _views([shift]))[0]


@unit_of_work
async def hand_over_shift(actor: Actor, shift_id: UUID, to_shift_id: str | None) -> ShiftView:
    """Hand a counted shift's cash over: its clerk puts it into the safe, or the next clerk takes it into an open shift
    of their own. Refuses NotFound, NotPermitted, ReceiverTakesOver, NoOpenShift (the next one is not open), and
    MoveNotAllowed (not counted, or handed over before)."""
    ids = sorted({shift_id} | ({wanted_id(to_shift_id)} if to_shift_id else set()))
    held = {one.id: one for one in await Shift.visible_to(actor).filter(id__in=ids).order_by("id").select_for_update()}
    shift = held.get(shift_id)
    if shift is None or len(held) != len(ids):
        raise NotFound()
    require(actor, Act.SHIFT_WORK, community_id=shift.community_id)
    to_shift = held[wanted_id(to_shift_id)] if to_shift_id else None
    if to_shift is None:
        _require_own(actor, shift)
    elif to_shift.staff_id != actor.id:
        raise ReceiverTakesOver()
    elif (to_shift.state, to_shift.community_id) != (ShiftState.OPEN, shift.community_id):
        raise NoOpenShift()
    SHIFT_MACHINE.enter(
        shift,
        ShiftState.HANDED_OVER,
        handed_over_at=clock.now(),
        handed_to_shift_id=to_shift.id if to_shift else None,
    )
    await shift.save(update_fields=["state", "handed_over_at", "handed_to_shift_id"])
    drawers = await ShiftDrawer.filter(shift_id=shift.id).order_by("id")
    moved_fen = sum([await payments.hand_over_drawer_tx(one, to_shift) for one in drawers])
    after = {"moved_fen": moved_fen, "to_shift_id": str(to_shift.id) if to_shift else None}
    await _record_tx(actor, "shift.hand_over", shift, after)
    return (await _views([shift]))[0]


@unit_of_work
async def approve_shift(actor: Actor, shift_id: UUID, remark: str) -> ShiftView:
    """Finance has looked at count and variance. Refuses NotFound, NotPermitted, ApprovedByAnother (the clerk's own),
    VarianceUnexplained (a count that is off, without a remark), MoveNotAllowed (not handed over, or approved before).
    """
    shift = await _held(actor, shift_id)
    require(actor, Act.SHIFT_APPROVE, community_id=shift.community_id)
    if shift.staff_id == actor.id:
        raise ApprovedByAnother()
    SHIFT_MACHINE.enter(
        shift, ShiftState.APPROVED, approved_at=clock.now(), approved_by_staff_id=actor.id, remark=remark
    )
    (view,) = await _views([shift])
    if not remark and any(one.drawer.variance_fen for one in view.drawers):
        raise VarianceUnexplained(fields=[{"field": "remark", "code": "missing"}])
    await shift.save(update_fields=["state", "approved_at", "approved_by_staff_id", "remark"])
    await _record_tx(actor, "shift.approve", shift, {"remark": bool(remark)})
    return view


async def get_shift(actor: Actor, shift_id: UUID) -> ShiftView:
    """One shift of the actor's communities; NotFound otherwise."""
    return (await _views([await get_visible(Shift.visible_to(actor), shift_id)]))[0]


async def list_shifts(
    actor: Actor, community_id: str | None, state: ShiftState | None, mine: bool, cursor: str | None, limit: int
) -> Page[ShiftView]:
    """Newest first, of the communities whose shifts the actor may read; ``mine``: the actor's own alone."""
    require_somewhere(actor, Act.SHIFT_READ)
    query = Shift.visible_to(actor)
    if community_id is not None:
        query = query.filter(community_id=wanted_id(community_id))
    if state is not None:
        query = query.filter(state=state)
    if mine:
        query = query.filter(staff_id=actor.id)
    page = await newest_first(query, cursor, limit)
    return Page(await _views(page.items), page.next_cursor)


async def _held(actor: Actor, shift_id: UUID) -> Shift:
    return await get_visible(Shift.visible_to(actor).select_for_update(), shift_id)


def _require_own(actor: Actor, shift: Shift) -> None:
    require(actor, Act.SHIFT_WORK, community_id=shift.community_id)
    if shift.staff_id != actor.id:
        raise NotPermitted()


async def _views(shifts: Sequence[Shift]) -> list[ShiftView]:
    drawers = await ShiftDrawer.filter(shift_id__in=[one.id for one in shifts]).order_by("id")
    entities = dict(await LegalEntity.filter(id__in={one.legal_entity_id for one in drawers}).values_list("id", "name"))
    clerks = dict(await Staff.filter(id__in={one.staff_id for one in shifts}).values_list("id", "name"))
    views = [DrawerView(one, entities[one.legal_entity_id]) for one in drawers]
    return [
        ShiftView(shift, clerks[shift.staff_id], [one for one in views if one.drawer.shift_id == shift.id])
        for shift in shifts
    ]


async def _record_tx(actor: Actor, act: str, shift: Shift, after: Mapping[str, object]) -> None:
    await audit.record_tx(
        actor, act, "shift", shift.id, organization_id=shift.organization_id, community_id=shift.community_id,
        after=after,
    )  # fmt: skip
