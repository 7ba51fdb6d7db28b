"""A home that paid for a bill which was voided meanwhile: its money found no bill, and finance has a case."""

import asyncio
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import httpx

import payments
from kit import clock
from models.access import Role
from models.ledger import Account, Entry
from models.refund import Refund, RefundAttempt
from tests.conftest import Drain, SandboxControl
from tests.world import Home, Person, World


@dataclass
class Surplus:
    """See ``surplus_home``."""

    home: Home
    finance: Person
    sandbox: SandboxControl
    payment_id: str
    case_id: str
    out_trade_no: str
    amount_fen: int

    async def send_back(self, person: Person | None = None, **options: Any) -> httpx.Response:
        """Decide that it is returned."""
        path = f"/api/v1/staff/discrepancies/{self.case_id}/return"
        return await (person or self.finance).post(path, {"reason": "账单已作废"}, **options)

    async def keep(self, *bill_ids: Any, person: Person | None = None, **options: Any) -> httpx.Response:
        """Decide that it stays, for these bills."""
        path = f"/api/v1/staff/discrepancies/{self.case_id}/keep"
        return await (person or self.finance).post(path, {"bill_ids": [str(one) for one in bill_ids]}, **options)

    async def at_wechat(self) -> list[dict[str, Any]]:
        """The refunds of the order as WeChat has them, newest first."""
        answer = await self.sandbox.client.get("/sandbox/refunds", params={"out_trade_no": self.out_trade_no})
        return list(answer.json()["refunds"])

    async def decide(self, status: str) -> dict[str, Any]:
        """WeChat decides the newest refund."""
        refund_id = (await self.at_wechat())[0]["refund_id"]
        answer = await self.sandbox.post(f"/sandbox/refunds/{refund_id}/decide", {"status": status})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def noticed(self, event_type: str = "REFUND.SUCCESS", attempts: int = 1) -> dict[str, Any]:
        """The newest notice of the kind, once it was delivered so often."""
        async with asyncio.timeout(10):
            while True:
                for one in await self.sandbox.callbacks(self.out_trade_no):
                    done = [each for each in one["attempts"] if each.get("status") is not None]
                    if one["event_type"] == event_type and len(done) >= attempts:
                        return one
                await asyncio.sleep(0.01)

    async def another(self, world: World, drain: Drain, month: date) -> "Surplus":
        """The same household pays for one more bill that is voided meanwhile."""
        bill = await world.bill(self.home.company, self.home.room, self.home.customer, month=month)
        return await paid_for_nothing(self.home, self.finance, self.sandbox, drain, [str(bill.id)])

    async def shown(self) -> dict[str, Any]:
        """The payment as its payer sees it."""
        return dict((await self.home.owner.get(f"/api/v1/payments/{self.payment_id}")).json())


async def surplus_home(world: World, sandbox: SandboxControl, drain: Drain, *, bills: int = 1) -> Surplus:
    """The first of the home's bills is voided while its payment is under way; the money comes all the same."""
    home = await world.home(bills=bills)
    finance = await world.staff(home.company, Role.FINANCE, home.community)
    return await paid_for_nothing(home, finance, sandbox, drain, home.bill_ids)


async def paid_for_nothing(
    home: Home, finance: Person, sandbox: SandboxControl, drain: Drain, bill_ids: list[str]
) -> Surplus:
    """The first of the bills is voided while the payment of them all is under way."""
    opened = (await home.open(bill_ids=bill_ids)).json()
    await finance.post(f"/api/v1/staff/bills/{bill_ids[0]}/void", {"reason": "算错了"})
    paid = (await sandbox.pay(opened)).json()
    await sandbox.called_back(paid["out_trade_no"])
    await drain()
    case = (await finance.get("/api/v1/staff/discrepancies?status=open")).json()["items"][0]
    assert (case["kind"], case["payment_id"]) == ("surplus", opened["id"])
    return Surplus(home, finance, sandbox, opened["id"], case["id"], paid["out_trade_no"], case["amount_fen"])


async def sweep_after(seconds: int) -> int:
    """Let so much time pass and sweep the refunds; how many attempts were looked at."""
    with clock.travel_to(clock.now() + timedelta(seconds=seconds)):
        return await payments.sweep_refunds()


async def balances() -> dict[str, int]:
    """Every account that is not empty: debits less credits."""
    kinds = {account.id: str(account.kind) for account in await Account.all()}
    found: dict[str, int] = {}
    for entry in await Entry.all():
        for account_id, fen in (
            (entry.debit_account_id, entry.amount_fen),
            (entry.credit_account_id, -entry.amount_fen),
        ):
            found[kinds[account_id]] = found.get(kinds[account_id], 0) + fen
    return {kind: fen for kind, fen in found.items() if fen}


async def states() -> tuple[str, str]:
    """The one refund and its newest attempt."""
    attempt = await RefundAttempt.all().order_by("-created_at").first()
    assert attempt is not None
    return str((await Refund.get()).state), str(attempt.state)
