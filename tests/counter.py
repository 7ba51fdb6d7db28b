"""The counter of a home's community: a clerk, finance, and petty cash in the safe."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from kit import clock
from models.access import Role
from models.unit_of_work import rows
from tests.surplus_home import balances
from tests.world import Home, Person, World


@dataclass
class Counter:
    """See ``counter_of``."""

    home: Home
    clerk: Person
    finance: Person

    @property
    def entity_id(self) -> str:
        return str(self.home.company.legal_entity.id)

    def _cash(self, given: int | Mapping[str, int]) -> list[dict[str, Any]]:
        amounts = given if isinstance(given, Mapping) else {self.entity_id: given} if given else {}
        return [{"legal_entity_id": entity, "amount_fen": fen} for entity, fen in amounts.items()]

    async def open_shift(
        self, floats: int | Mapping[str, int] = 0, person: Person | None = None, **options: Any
    ) -> httpx.Response:
        document = {"community_id": str(self.home.community.id), "floats": self._cash(floats)}
        return await (person or self.clerk).post("/api/v1/staff/shifts", document, **options)

    async def close(
        self, shift_id: str, counts: int | Mapping[str, int], person: Person | None = None, **options: Any
    ) -> httpx.Response:
        document = {"counts": self._cash(counts)}
        return await (person or self.clerk).post(f"/api/v1/staff/shifts/{shift_id}/close", document, **options)

    async def slip(
        self, kind: str, amount_fen: int, number: str = "", person: Person | None = None, **given: Any
    ) -> httpx.Response:
        """A slip of the bank, recorded by finance unless somebody is named."""
        options = {"key": given.pop("key")} if "key" in given else {}
        document = {
            "community_id": str(self.home.community.id), "legal_entity_id": self.entity_id, "kind": kind,
            "number": number or secrets.token_hex(4), "bank": "建设银行", "amount_fen": amount_fen,
            "banked_at": clock.now().isoformat(), **given,
        }  # fmt: skip
        return await (person or self.finance).post("/api/v1/staff/bank-slips", document, **options)

    async def cash(self) -> dict[str, int]:
        """What the journal says is in the safe, and in all drawers."""
        found = await rows(_CASH)
        return {"safe": 0, "drawers": 0} | {one["place"]: one["fen"] for one in found}

    async def balances(self) -> dict[str, int]:
        """Every account that is not empty: debits less credits."""
        return await balances()


_CASH = """
SELECT CASE WHEN a.holder_id IS NULL THEN 'safe' ELSE 'drawers' END AS place,
       sum(CASE WHEN a.id = e.debit_account_id THEN e.amount_fen ELSE -e.amount_fen END)::bigint AS fen
FROM entries e JOIN accounts a ON a.id IN (e.debit_account_id, e.credit_account_id)
WHERE a.kind = 'cash_on_hand' GROUP BY 1
"""


async def counter_of(world: World, home: Home | None = None, *, petty_fen: int = 50000, bills: int = 1) -> Counter:
    """A clerk and finance of a home's community; finance drew petty cash into the safe."""
    home = home or await world.home(bills=bills)
    if not home.bills:
        await world.fee_item(home.company, home.community)
    clerk = await world.staff(home.company, Role.CASHIER, home.community)
    finance = await world.staff(home.company, Role.FINANCE, home.community)
    counter = Counter(home, clerk, finance)
    if petty_fen:
        assert (await counter.slip("withdrawal", petty_fen)).status_code == 201
    return counter
