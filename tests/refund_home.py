"""A home that paid its bills through WeChat, and those who ask for its money back and approve."""

from dataclasses import dataclass
from typing import Any

import httpx

from models.access import Role
from tests.conftest import Drain, SandboxControl
from tests.surplus_home import Surplus
from tests.world import Home, Person, World


@dataclass
class Paid(Surplus):
    """See ``paid_home``. What WeChat does about its refunds is as for a surplus."""

    clerk: Person
    second: Person

    async def ask(self, person: Person | None = None, **wish: Any) -> httpx.Response:
        """Ask for a refund; of everything unless ``parts`` says what."""
        path = f"/api/v1/staff/payments/{self.payment_id}/refunds"
        return await (person or self.clerk).post(path, {"reason": "重复收费"} | wish)

    async def asked(self, person: Person | None = None, **wish: Any) -> str:
        """The id of a refund that is asked for."""
        answer = await self.ask(person, **wish)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def act(
        self, refund_id: str, verb: str, document: Any = None, person: Person | None = None, **options: Any
    ) -> httpx.Response:
        """approve, reject, method, pay-out, retry, cancel."""
        return await (person or self.finance).post(f"/api/v1/staff/refunds/{refund_id}/{verb}", document, **options)

    async def under_way(self, **wish: Any) -> str:
        """The id of a refund that is asked for and approved."""
        refund_id = await self.asked(**wish)
        answer = await self.act(refund_id, "approve")
        assert answer.status_code == 200, answer.text
        return refund_id

    async def decided(self, refund_id: str, status: str = "SUCCESS") -> dict[str, Any]:
        """WeChat decides the newest refund, and is asked about this one; the refund afterwards."""
        await self.decide(status)
        answer = await self.act(refund_id, "check")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def part(self, bill: int = 0, amount_fen: int | None = None) -> dict[str, Any]:
        """A wish about one of the bills."""
        return {"bill_id": self.home.bill_ids[bill], "amount_fen": amount_fen}


async def paid_home(world: World, sandbox: SandboxControl, drain: Drain, *, bills: int = 1) -> Paid:
    """The bills are paid by one payment through WeChat; refunds are decided by hand."""
    home = await world.home(bills=bills)
    return await paid_at(home, world, sandbox, drain)


async def paid_at(home: Home, world: World, sandbox: SandboxControl, drain: Drain) -> Paid:
    """All bills of the home are paid by one payment."""
    opened = (await home.open()).json()
    paid = (await sandbox.pay(opened)).json()
    await sandbox.called_back(paid["out_trade_no"])
    await drain()
    await sandbox.fault("refund_outcome", outcome="PROCESSING")
    finance, second = [await world.staff(home.company, Role.FINANCE, home.community) for _ in range(2)]
    clerk = await world.staff(home.company, Role.CASHIER, home.community)
    return Paid(
        home, finance, sandbox, opened["id"], "", paid["out_trade_no"], opened["amount_fen"], clerk, second
    )  # fmt: skip
