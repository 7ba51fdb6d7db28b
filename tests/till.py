"""A till: money in hand and money that is held, paid through the door of the island."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import payments
from kit import clock
from kit.ids import new_id
from models.access import Actor, ActorKind, Role
from models.bill import Bill, BillKind
from models.payment import Channel, Payment
from models.unit_of_work import unit_of_work
from tests.world import Home, Person, World


@dataclass
class Till:
    """A home, and who of its company takes money for it; ``shift`` is whose cash it becomes."""

    world: World
    home: Home
    clerk: Person
    actor: Actor
    shift: UUID

    async def take(self, channel: Channel, *portions: tuple[Any, int], **more: Any) -> Payment:
        """Pay (bill, fen) at once."""
        holders = {Channel.CASH: self.shift, Channel.POS: None, Channel.BANK_TRANSFER: None}
        holder_id = more.pop("holder_id", holders.get(channel, self.home.customer.id))
        tender = payments.Tender(channel, holder_id, more.pop("occurred_at", clock.now()), **more)
        chosen = [payments.Portion(UUID(str(getattr(bill, "id", bill))), fen) for bill, fen in portions]
        return await unit_of_work(payments.pay_at_once_tx)(self.actor, chosen, tender)

    async def top_up(self, amount_fen: int, kind: BillKind = BillKind.PREPAID, **more: Any) -> Bill:
        """A bill of the kind, paid in full with a card."""
        home = self.home
        bill = await self.world.bill(home.company, home.room, home.customer, amount_fen, kind=kind, **more)
        await self.take(Channel.POS, (bill, amount_fen))
        return bill


async def till(world: World, *, bills: int = 1, **settings: Any) -> Till:
    """A home with its open bills, and a cashier."""
    home = await world.home(bills=bills, **settings)
    clerk = await world.staff(home.company, Role.CASHIER, home.community)
    actor = Actor(kind=ActorKind.STAFF, id=clerk.staff.id, organization_id=home.company.id)
    return Till(world, home, clerk, actor, new_id())
