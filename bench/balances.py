"""The balances of a community with a million entries, beside the bare SQL sums of its accounts."""

import statistics
import time
from collections.abc import Mapping

from bench.town import Town
from kit import clock
from models.access import Actor, ActorKind, Role
from models.unit_of_work import rows
from services.finance import summarise
from services.finance_ledger import BALANCES, TRIAL
from services.finance_report import Selection, make_report

ENTRIES = 1_000_000
ROUNDS = 5

# The least that answers the question: both sides of every entry, summed per account.
_BARE = """
SELECT account_id, sum(debit) AS debit, sum(credit) AS credit FROM (
    SELECT debit_account_id AS account_id, sum(amount_fen) AS debit, 0 AS credit FROM entries
    WHERE community_id = $1 GROUP BY 1
    UNION ALL
    SELECT credit_account_id, 0, sum(amount_fen) FROM entries WHERE community_id = $1 GROUP BY 1
) m GROUP BY 1
"""


async def run(town: Town, entries: int = ENTRIES) -> Mapping[str, float]:
    """Balances per holder, the trial balance of a month, and the summary, in turns with the bare sums."""
    await town.add(entries, settled=True, bills_each=1)
    await town.owner.execute("VACUUM ANALYZE entries")
    organization, community = town.ids[0], town.ids[1]
    roles = frozenset({Role.FINANCE})
    actor = Actor(ActorKind.STAFF, None, organization, roles={community: roles}, organization_roles=roles)  # type: ignore[arg-type, dict-item]
    today = clock.today()
    month = Selection(today.replace(day=1), today)
    spent: dict[str, list[float]] = {"bare": [], "balances": [], "trial balance": [], "summary": []}
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        bare = await rows(_BARE, community)
        spent["bare"].append(time.perf_counter() - started)
        started = time.perf_counter()
        found = await make_report(actor, BALANCES, "holder", Selection(), None, 100)
        spent["balances"].append(time.perf_counter() - started)
        assert found.totals["debit_fen"] == sum(one["debit"] for one in bare)
        started = time.perf_counter()
        trial = await make_report(actor, TRIAL, "account", month, None, 100)
        spent["trial balance"].append(time.perf_counter() - started)
        assert trial.totals["closing_fen"] == 0
        started = time.perf_counter()
        await summarise(actor, community, None, None, today)  # type: ignore[arg-type]
        spent["summary"].append(time.perf_counter() - started)
    median = {name: statistics.median(each[1:]) for name, each in spent.items()}  # the first round warms up
    return {
        "entries": entries,
        "bare sums, ms": median["bare"] * 1_000,
        **{f"{name}, ms": median[name] * 1_000 for name in list(spent)[1:]},
        **{f"{name} / bare": median[name] / median["bare"] for name in list(spent)[1:]},
    }
