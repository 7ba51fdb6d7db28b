"""What people do while the town is under siege: a name, how often, and the deed. Something new that people do is one
more line of ``STORIES``."""

import asyncio
import contextlib
import secrets
import time

import asyncpg
import httpx

from models.database import credentials
from tests.siege import Household, Stories, Town, Trouble


async def _pays(town: Town, household: Household) -> None:
    """The usual: a bill, a payment, and whatever becomes of WeChat's notice."""
    bill = await town.issue(household)
    opened = await town.open(household.owner, [bill])
    if opened:
        await town.pay(
            opened, town.random.choice(["", "", "lost", "duplicate", "late", "signtest", "certificate_signed"])
        )
    if opened and town.random.random() < 0.5:
        seen = await town.insist(household.owner, f"/api/v1/payments/{opened['id']}/confirm")
        town._heard(seen.json())


async def _pays_while_wechat_stumbles(town: Town, household: Household) -> None:
    """Answers to our calls are lost, late or wrongly signed."""
    bill = await town.issue(household)
    operation = town.random.choice(["prepay", "query", "close"])
    how = town.random.choice([{"kind": "answer_lost", "how": "500"}, {"kind": "answer_lost", "how": "cut"},
                              {"kind": "bad_signature"}, {"kind": "error", "status": 503}])  # fmt: skip
    await town.wechat.fault(how.pop("kind"), operation=operation, times=1, **how)
    opened = await town.open(household.owner, [bill])
    if opened:
        await town.pay(opened, "lost")


async def _leaves_it(town: Town, household: Household) -> None:
    """Opens and does not pay; a minute later the family may."""
    bill = await town.issue(household)
    if await town.open(household.owner, [bill]):
        town.open_before.append((time.monotonic(), household, bill))


async def _takes_over(town: Town, household: Household) -> None:
    """The family pays what was left open a minute ago or longer."""
    if not town.open_before or time.monotonic() - town.open_before[0][0] < 61:
        return await _leaves_it(town, household)
    _, theirs, bill = town.open_before.popleft()
    opened = await town.open(theirs.family, [bill])
    if opened:
        await town.pay(opened, town.random.choice(["", "lost"]))


async def _gives_up(town: Town, household: Household) -> None:
    """Cancels; now and then after having paid, and nobody was told of it yet."""
    bill = await town.issue(household)
    opened = await town.open(household.owner, [bill])
    if opened is None:
        return
    if town.random.random() < 0.5:
        await town.pay(opened, "lost")
    answer = await town.insist(household.owner, f"/api/v1/payments/{opened['id']}/cancel")
    if answer.status_code == 200:
        town._heard(answer.json())
    elif answer.json()["code"] != "payment_not_open":
        raise Trouble(f"giving up was refused: {answer.text}")


async def _chooses_anew(town: Town, household: Household) -> None:
    """Opens one bill, then both: the first order is closed, and both are paid by the second."""
    first, second = await town.issue(household), await town.issue(household)
    await town.open(household.owner, [first])
    opened = await town.open(household.owner, [first, second])
    if opened:
        await town.pay(opened, town.random.choice(["", "lost", "duplicate"]))


async def _is_voided(town: Town, household: Household) -> None:
    """Finance voids the bill while it is being paid."""
    bill = await town.issue(household)
    opened = await town.open(household.owner, [bill])
    paying = asyncio.create_task(town.pay(opened, "lost")) if opened and town.random.random() < 0.7 else None
    answer = await town.insist(town.finance, f"/api/v1/staff/bills/{bill}/void", {"reason": "算错了"})
    if paying:
        await paying
    if answer.status_code == 200:
        town.told.voided.add(bill)


async def _decides(town: Town, household: Household) -> None:
    """Finance decides what becomes of a surplus: back to the payer, or kept for the debtor."""
    cases = []
    with contextlib.suppress(httpx.HTTPError):
        page = await town.finance.get("/api/v1/staff/discrepancies?status=open&limit=50")
        found = page.json()["items"] if page.status_code == 200 else []
        cases = [one for one in found if one["kind"] == "surplus"]
    if not cases:
        return await _is_voided(town, household)
    case, back = town.random.choice(cases), town.random.random() < 0.7
    document = {"reason": "账单已作废，退回"} if back else {"bill_ids": []}
    path = f"/api/v1/staff/discrepancies/{case['id']}/{'return' if back else 'keep'}"
    answer = await town.insist(town.finance, path, document)
    if answer.status_code != 201 and answer.json()["code"] not in ("surplus_decided", "no_surplus"):
        raise Trouble(f"a decision was refused: {answer.text}")


async def _registers(town: Town, household: Household) -> None:
    """The butler puts a new customer on the register, with one key however often it must be said."""
    name = f"新客户{secrets.token_hex(5)}"
    town.told.asked_customers.add(name)
    answer = await town.insist(town.butler, "/api/v1/staff/customers", {"name": name, "kind": "person"})
    if answer.status_code != 201:
        raise Trouble(f"a customer was refused: {answer.text}")
    town.told.customers[name] = answer.json()["id"]


async def _is_refused(town: Town, household: Household) -> None:
    """Asks for what cannot be had: the key is given free again."""
    answer = await town.insist(town.finance, "/api/v1/staff/bills", {"community_id": town.community_id})
    await town.insist(
        household.owner, "/api/v1/payments", {"bill_ids": [secrets.token_hex(8)], "channel": "wechat_jsapi"}
    )
    if answer.status_code < 400:
        raise Trouble(f"half a bill was taken: {answer.text}")


async def _forges(town: Town, household: Household) -> None:
    """A notice by an unknown certificate; the minute since the last question is over, or WeChat has nothing to say."""
    if town.random.random() < 0.3:
        await town.wechat.fault("error", operation="certificates", status=503, times=1)
    with contextlib.suppress(OSError, asyncpg.PostgresError):
        connection = await asyncpg.connect(**credentials(town.database.owner_url))
        try:
            await connection.execute("UPDATE merchant_accounts SET keys_ask_after = NULL, keys_check_at = now()")
            await connection.execute(_TICK, "sweep_wechat_pay_keys")  # as its clock does every ten minutes
        finally:
            await connection.close()
    headers = {"Wechatpay-Timestamp": str(int(time.time())), "Wechatpay-Nonce": "n" * 32,
               "Wechatpay-Serial": secrets.token_hex(20), "Wechatpay-Signature": "A" * 344}  # fmt: skip
    with contextlib.suppress(httpx.HTTPError):
        answer = await town.api.post(
            f"/callbacks/wechat/pay/{town.company.merchant.id}", content=b"{}", headers=headers
        )
        if answer.status_code not in (401, 503):
            raise Trouble(f"a forged notice was answered {answer.status_code}")


_TICK = """
SELECT procrastinate_defer_jobs_v1(ARRAY[
    ROW('linli'::varchar, $1::varchar, 0, NULL, NULL, '{}'::jsonb, NULL)::procrastinate_job_to_defer_v1])
"""

STORIES: Stories = {
    "pays": (8, _pays),
    "pays while WeChat stumbles": (3, _pays_while_wechat_stumbles),
    "leaves it": (1, _leaves_it),
    "takes over": (2, _takes_over),
    "gives up": (3, _gives_up),
    "chooses anew": (2, _chooses_anew),
    "is voided": (2, _is_voided),
    "decides": (4, _decides),
    "registers": (2, _registers),
    "is refused": (1, _is_refused),
    "forges": (2, _forges),
}
