"""A town under siege: the real program in processes of its own, residents who go on paying, and somebody who kills.

Everything that a client was told is noted down as it is told; what the sandbox took is what the sandbox says. Within a
minute of the last start the books must agree with both. Nothing here looks into a process: it is killed from outside,
or by a crash point that it was started with.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import secrets
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from kit import crash_point
from models.database import credentials
from models.occupancy import OccupancyKind
from payments.janitor import LIVE_S
from server.embedded_postgres import EmbeddedPostgres
from tests import siege_program
from tests.conftest import Database, SandboxControl
from tests.test_serve import free_port
from tests.world import Company, Person, World, registered_at_wechat

WAITS = "(waits rightly) "
WITHIN_S = 60.0  # after a start, until everything is as it should be
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.siege_program"])

# Who passes which place. A test demands that every unit of work and every call of the money is in here.
BOTH = ("serve", "worker")
COMMITS: dict[str, tuple[str, ...]] = {
    "payments.charge._commit_intent": ("serve",),
    "payments.charge._commit_prepay": ("serve",),
    "payments.settle.settle_tx": BOTH,
    "payments.callback._keep": ("serve",),
    "payments.callback._mark": ("serve",),
    "payments.sweeping._claim": ("worker",),
    "payments.janitor._look_again": ("worker",),
    "payments.janitor._commit_closed": BOTH,
    "payments.receipt.issue_receipt": ("worker",),
    "payments.unknown_serial._ask": ("serve",),
    "payments.wechat_pay_key._due": ("worker",),
    "payments.wechat_pay_key._claim": ("worker",),
    "payments.wechat_pay_key._keep": ("worker",),
    "payments.wechat_pay_key._not_told": ("worker",),
    "payments.refund._before_sending": ("worker",),
    "payments.refund_news.hear_refund": BOTH,
    "payments.refund_janitor._look_again": ("worker",),
    "services.surplus._return": ("serve",),
    "services.surplus._keep": ("serve",),
    "services.refund._tell_payer": ("worker",),
    "services.bill._issue": ("serve",),
    "services.bill._void": ("serve",),
    "services.customer.create_customer": ("serve",),
    "services.receipt._tell_payer": ("worker",),
    "services.message._take": ("worker",),
    "services.message._decide": ("worker",),
    "services.idempotency.claim": ("serve",),
    "services.idempotency.remember": ("serve",),
    "services.idempotency.release": ("serve",),
}
CALLS: dict[str, tuple[str, ...]] = {
    "wechat_pay.POST.jsapi": ("serve",),
    "wechat_pay.GET.out-trade-no": BOTH,
    "wechat_pay.POST.close": BOTH,
    "wechat_pay.GET.certificates": ("worker",),
    "wechat_pay.POST.refunds": ("worker",),
    "wechat_pay.GET.refunds": ("worker",),
    "miniprogram.send": ("worker",),
}


def points() -> list[tuple[str, str]]:
    """(command, crash point): every place, before and after, in every process that comes by there."""
    commits = [(who, f"{place}.{when}_commit") for place, all_ in COMMITS.items() for who in all_
               for when in ("before", "after")]  # fmt: skip
    calls = [(who, f"{place}.{when}_call") for place, all_ in CALLS.items() for who in all_
             for when in ("before", "after")]  # fmt: skip
    return commits + calls


class Program:
    """One command of ours that is started, dies and is started again."""

    def __init__(self, command: str, environment: dict[str, str], log: Path, changes: Sequence[str] = ()) -> None:
        self.command = command
        self.environment = environment
        self.log = log
        self.changes = changes
        self.armed: str | None = None
        self.started_at = 0.0
        self.process: ForkServerProcess | None = None

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.is_alive()

    def start(self, armed: str | None = None) -> None:
        self.armed, self.started_at = armed, time.monotonic()
        environment = self.environment | ({"LINLI_CRASH_AT": armed} if armed else {})
        arguments = ["--speed", "20"] if self.command == "sandbox" else []
        target, told = siege_program.run, ([self.command, *arguments], environment, self.log, self.changes)
        self.process = _FORKS.Process(target=target, args=told, daemon=True)
        self.process.start()

    @property
    def ended_alone(self) -> bool:
        """Whether it is gone, and neither a crash point nor a signal ended it."""
        code = None if self.process is None else self.process.exitcode
        return code is not None and code not in (crash_point.EXIT_CODE, -signal.SIGKILL)

    def kill(self) -> None:
        if self.process is not None and self.process.is_alive() and self.process.pid:
            os.kill(self.process.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        if self.process is not None:
            self.process.join(20)

    def end(self) -> None:
        if self.process is not None and self.process.is_alive() and self.process.pid:
            os.kill(self.process.pid, signal.SIGTERM)
            self.process.join(15)
        self.kill()

    def last_lines(self, count: int = 15) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(f"    [{self.command}] {line[:400]}" for line in lines[-count:])


@dataclass
class Told:
    """What clients were told and what they asked for; the truth that is compared is asked of the program's database
    and of the sandbox."""

    opened: dict[str, int] = field(default_factory=dict)  # payment → amount in fen
    paid: set[str] = field(default_factory=set)  # payments that somebody was told are paid
    closed: set[str] = field(default_factory=set)  # … closed
    bills: dict[str, str] = field(default_factory=dict)  # purpose → bill
    asked_bills: set[str] = field(default_factory=set)
    voided: set[str] = field(default_factory=set)
    customers: dict[str, str] = field(default_factory=dict)  # name → customer
    asked_customers: set[str] = field(default_factory=set)


class Trouble(AssertionError):
    """Something that may not be."""


@dataclass
class Household:
    """A flat with an owner and a family member, and a phone for each."""

    room_id: str
    customer_id: str
    owner: Person
    family: Person


class Town:
    """Everything at once: programs, people, and what they were told."""

    def __init__(
        self,
        database: Database,
        state: Path,
        stories: "Stories",
        seed: int,
        changes: Sequence[str] = (),
        within_s: float = WITHIN_S,
    ) -> None:
        self.stories = stories
        self.seed = seed
        self.within_s = within_s
        self.random = random.Random(seed)
        self.database = database
        self.told = Told()
        self.deeds: deque[str] = deque(maxlen=60)
        self.kills: list[str] = []
        self.stopping = False
        self.crashed_at = -1e9
        self.open_before: deque[tuple[float, Household, str]] = deque(maxlen=40)
        api_port, sandbox_port = free_port(), free_port()
        self.base, self.wechat_base = f"http://127.0.0.1:{api_port}", f"http://127.0.0.1:{sandbox_port}"
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | {
            "LINLI_ENV": "dev", "LINLI_STATE": str(state), "DATABASE_URL": database.url,
            "LINLI_OWNER_DATABASE_URL": database.owner_url, "LINLI_PORT": str(api_port),
            "LINLI_SANDBOX_PORT": str(sandbox_port), "LINLI_LOG_LEVEL": "warning", "LINLI_POOL_SIZE": "12",
            "LINLI_RATE_LIMITS": "off",  # these residents knock more often than any hand does
            "LINLI_FIELD_KEYS": json.dumps({"test": "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="}),
            "LINLI_INDEX_KEY": "aWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWk=",
        }  # fmt: skip
        self.programs = {
            name: Program(name, environment, state / f"{name}.log", changes if name != "sandbox" else ())
            for name in ("sandbox", "serve", "worker")
        }
        self.state = state
        self.wechat: SandboxControl
        self.api: httpx.AsyncClient
        self.households: list[Household] = []
        self.finance: Person
        self.company: Company
        self.community_id = ""
        self.fee_item_id = ""

    @contextlib.asynccontextmanager
    async def standing(self, households: int) -> AsyncIterator["Town"]:
        """The town built and every program running."""
        known = registered_at_wechat(self.state / "sandbox.db")
        self.programs["sandbox"].start()
        async with (
            httpx.AsyncClient(base_url=self.wechat_base, trust_env=False, timeout=20) as wechat,
            httpx.AsyncClient(base_url=self.base, trust_env=False, timeout=20) as self.api,
        ):
            self.wechat = SandboxControl(self.wechat_base, wechat)
            try:
                await self._answers(wechat, "/healthz")
                await self._build(World(self.api, self.wechat.login_code, known), households)
                self.programs["serve"].start()
                self.programs["worker"].start()
                await self._answers(self.api, "/healthz")
                yield self
            finally:
                for program in reversed(list(self.programs.values())):
                    await asyncio.to_thread(program.end)

    async def _build(self, world: World, households: int) -> None:
        from models.access import Role

        self.company = await world.company()
        community = await world.community(self.company)
        self.community_id = str(community.id)
        self.fee_item_id = str((await world.fee_item(self.company, community)).id)
        self.finance = await world.staff(self.company, Role.FINANCE)
        self.butler = await world.staff(self.company, Role.BUTLER, community)
        for number in range(households):
            room = await world.room(community, f"1栋1单元{101 + number}")
            owner, customer = await world.owner(self.company, room, f"业主{number}")
            family = await world.resident(self.company)
            member = await world.customer(self.company, f"家属{number}")
            await world.occupancy(room, member, OccupancyKind.FAMILY, resident=family.resident)
            self.households.append(Household(str(room.id), str(customer.id), owner, family))

    async def _answers(self, client: httpx.AsyncClient, path: str) -> None:
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(path)).status_code == 200:
                        return
                await asyncio.sleep(0.05)

    # --- residents and staff -------------------------------------------------------------------------------------

    async def insist(self, person: Person, path: str, document: Any = None) -> httpx.Response:
        """Ask with one key until there is an answer that decides, as an app does whose first answer was lost. While it
        is worked on, each kill may cost it another lease; a minute after the last start there must be an answer."""
        key, began, last = secrets.token_hex(8), time.monotonic(), ""
        while time.monotonic() - max(began, self.programs["serve"].started_at, self.crashed_at) < WITHIN_S:
            try:
                answer = await person.post(path, document, key=key, timeout=15)
                last = f"{answer.status_code} {answer.text[:200]}"
                if answer.status_code < 500 and "request_in_progress" not in answer.text:
                    self.deeds.append(f"{time.monotonic():.2f} POST {path} {document} key={key} → {last}")
                    return answer
            except httpx.HTTPError as error:
                last = type(error).__name__
            await asyncio.sleep(0.1 + self.random.random() / 4)
        raise Trouble(f"POST {path} {document}: no answer for a minute; the last one: {last}")

    async def issue(self, household: Household) -> str:
        """A bill, issued by finance; its id."""
        purpose = f"P{secrets.token_hex(6)}"
        self.told.asked_bills.add(purpose)
        amount_fen = self.random.randint(1, 50_000)
        document = {
            "community_id": self.community_id, "room_id": household.room_id, "customer_id": household.customer_id,
            "purpose": purpose, "title": "物业费", "accrued_on": "2026-11-01", "due_on": "2026-11-30",
            "lines": [{"fee_item_id": self.fee_item_id, "title": "物业费", "amount_fen": amount_fen}],
        }  # fmt: skip
        answer = await self.insist(self.finance, "/api/v1/staff/bills", document)
        if answer.status_code != 201:
            raise Trouble(f"a bill was refused: {answer.text}")
        self.told.bills[purpose] = answer.json()["id"]
        return str(answer.json()["id"])

    async def open(self, person: Person, bill_ids: list[str]) -> dict[str, Any] | None:
        """A payment for these bills; None when somebody else is at it."""
        document = {"bill_ids": bill_ids, "channel": "wechat_jsapi"}
        answer = await self.insist(person, "/api/v1/payments", document)
        if answer.status_code != 201:
            if answer.json()["code"] not in ("payment_in_progress", "bill_already_paid", "bill_voided"):
                raise Trouble(f"opening a payment was refused: {answer.text}")
            return None
        opened: dict[str, Any] = answer.json()
        self.told.opened[opened["id"]] = opened["amount_fen"]
        self._heard(opened)
        return opened if opened["wechat"] else None

    def _heard(self, payment: dict[str, Any]) -> None:
        if payment["status"] == "paid":
            self.told.paid.add(payment["id"])
        elif payment["status"] == "closed":
            self.told.closed.add(payment["id"])

    async def pay(self, opened: dict[str, Any], callback: str = "") -> int:
        """At the phone; ``callback`` is what becomes of WeChat's notice."""
        if callback:
            await self.wechat.fault(callback, times=1, **({"delay_s": 30} if callback == "late" else {}))
        status = (await self.wechat.pay(opened)).status_code
        self.deeds.append(f"{time.monotonic():.2f} paid {opened['id']} ({callback or 'callback'}) → {status}")
        return status

    async def live(self, household: Household) -> None:
        """One household's day, over and over, until the siege ends."""
        names, weights = list(self.stories), [weight for weight, _ in self.stories.values()]
        while not self.stopping:
            story = self.random.choices(names, weights)[0]
            await self.stories[story][1](self, household)
            await asyncio.sleep(self.random.random() / 5)

    # --- what must be true ---------------------------------------------------------------------------------------

    async def orders(self) -> dict[str, dict[str, Any]]:
        """All orders that the sandbox has, by our number."""
        found, cursor = {}, None
        while True:
            query = {"limit": 100} | ({"cursor": cursor} if cursor else {})
            page = (await self.wechat.client.get("/sandbox/orders", params=query)).json()
            found |= {order["out_trade_no"]: order for order in page["orders"]}
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    async def problems(self) -> list[str]:
        """Everything that is not as it should be, by the sandbox's word and by what people were told. Money whose
        notice WeChat lost and whose order is looked at in time, and what was begun just now, begins with ``WAITS``."""
        connection = await asyncpg.connect(**credentials(self.database.owner_url))
        try:
            return [*(await self._of_money(connection)), *(await self._of_work(connection)),
                    *(await self._of_answers(connection))]  # fmt: skip
        finally:
            await connection.close()

    async def _of_money(self, connection: asyncpg.Connection) -> list[str]:
        orders = await self.orders()
        posted = {row["out_trade_no"]: row for row in await connection.fetch(_POSTED)}
        found = []
        for number, order in orders.items():
            took = order["total_fen"] if order["trade_state"] in ("SUCCESS", "REFUND") else 0
            ours = posted.get(number)
            if ours is None:
                found.append(f"order {number} at WeChat is not in the books")
            elif (ours["fen"], ours["state"] == "paid") != (took, took > 0):
                waits = WAITS if ours["waits"] and took else ""
                found.append(waits + f"order {number}: WeChat took {took}, posted {dict(ours)}")
        refunds = (await self.wechat.client.get("/sandbox/refunds")).json()["refunds"]
        given = {row["out_refund_no"]: row for row in await connection.fetch(_REFUNDED)}
        for refund in refunds:
            ours, back = given.get(refund["out_refund_no"]), refund["refund_fen"]
            if ours is None or (refund["status"] == "SUCCESS" and (ours["state"], ours["fen"]) != ("succeeded", back)):
                waits = WAITS if ours and ours["waits"] else ""
                found.append(f"{waits}{refund['out_refund_no']}: WeChat gave {back} back, posted {ours and dict(ours)}")
        for number in {refund["out_trade_no"] for refund in refunds}:
            if len([refund for refund in refunds if refund["out_trade_no"] == number]) > 1:
                found.append(f"order {number} was refunded twice")
        found += [f"{number} is {row['state']}, WeChat does not know it" for number, row in posted.items()
                  if number not in orders and row["state"] not in ("created", "closed")]  # fmt: skip
        return found

    async def _of_work(self, connection: asyncpg.Connection) -> list[str]:
        return [f"{WAITS if row.get('fresh') else ''}{what}: {dict(row)}"
                for what, sql in _WORK.items() for row in await connection.fetch(sql)]  # fmt: skip

    async def _of_answers(self, connection: asyncpg.Connection) -> list[str]:
        told, found = self.told, []
        payments = {str(row["id"]): row for row in await connection.fetch("SELECT id, amount_fen, state FROM payments")}
        for payment_id, amount_fen in told.opened.items():
            if payment_id not in payments or payments[payment_id]["amount_fen"] != amount_fen:
                found.append(f"payment {payment_id} over {amount_fen} was acknowledged and is not there")
        found += [f"{one} was said to be paid, and is {payments[one]['state']}" for one in told.paid
                  if payments[one]["state"] != "paid"]  # fmt: skip
        found += [f"{one} was said to be closed, and is open" for one in told.closed
                  if payments[one]["state"] == "open"]  # fmt: skip
        bills: dict[str, list[asyncpg.Record]] = {}
        for row in await connection.fetch("SELECT id, purpose, state FROM bills"):
            bills.setdefault(row["purpose"], []).append(row)
        for purpose in told.asked_bills:
            made = [str(row["id"]) for row in bills.get(purpose, [])]
            if len(made) > 1 or (purpose in told.bills and made != [told.bills[purpose]]):
                found.append(f"bill {purpose}: told {told.bills.get(purpose)}, there are {made}")
        states = {str(row["id"]): row["state"] for rows in bills.values() for row in rows}
        found += [f"bill {one} was voided, and is {states.get(one)}" for one in told.voided
                  if states.get(one) != "void"]  # fmt: skip
        names: dict[str, list[str]] = {}
        for row in await connection.fetch("SELECT id, name FROM customers WHERE name LIKE '新客户%'"):
            names.setdefault(row["name"], []).append(str(row["id"]))
        for name in told.asked_customers:
            if len(names.get(name, [])) > 1 or (name in told.customers and names.get(name) != [told.customers[name]]):
                found.append(f"customer {name}: told {told.customers.get(name)}, there are {names.get(name)}")
        return found

    async def repaired(self) -> float:
        """Wait until nothing is the matter, a minute after the last start at the latest; how long it took. A look that
        is due later than that is waited for too."""
        began = max(program.started_at for program in self.programs.values())
        while True:
            for program in self.programs.values():
                if program.ended_alone:
                    await self._revive(program)
            try:
                found = await self.problems()
            except (OSError, asyncpg.PostgresError) as error:
                found = [f"the database does not answer: {error}"]
            took = time.monotonic() - began
            if not found:
                return took
            late = took > self.within_s and any(not one.startswith(WAITS) for one in found)
            if late or took > self.within_s + LIVE_S + 30:
                raise Trouble(f"{took:.0f} s after the last start:\n" + "\n".join(found[:20]))
            await asyncio.sleep(0.3)

    async def checked(self) -> None:
        """``linli check``, as an operator runs it."""
        log = self.state / "check.log"
        check = Program("check", self.programs["serve"].environment, log)
        log.unlink(missing_ok=True)
        check.start()
        await asyncio.to_thread(check.wait)
        if check.process is None or check.process.exitcode != 0:
            raise Trouble(f"linli check is not content:\n{check.last_lines(40)}")

    def report(self) -> str:
        """What a failing run tells: how to replay it, who was killed, the last deeds and log lines."""
        lines = [f"seed {self.seed}; {len(self.kills)} kills, the last: {self.kills[-8:]}", *list(self.deeds)[-25:]]
        return "\n".join([*lines, *(program.last_lines() for program in self.programs.values())])

    # --- the siege -----------------------------------------------------------------------------------------------

    async def besieged(
        self, plan: "Plan", postgres: EmbeddedPostgres | None = None, *, kills_a_round: int = 25
    ) -> None:
        """Kill by the plan until it is through, while the households live; in between all must be repaired."""
        try:
            while not plan.is_done:
                await self._round(plan, postgres, kills_a_round)
                plan.repaired_s.append(await self.repaired())
                await self.checked()
        except Exception as error:
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]
            raise Trouble(f"{error!r}\n{self.report()}") from error

    async def _round(self, plan: "Plan", postgres: EmbeddedPostgres | None, kills: int) -> None:
        """So many kills of each program, and at the end everything running and everybody answered."""
        self.stopping = False
        async with asyncio.TaskGroup() as people:
            for household in self.households:
                people.create_task(self.live(household))
            async with asyncio.TaskGroup() as killers:
                for name in ("serve", "worker"):
                    killers.create_task(self._kill(name, plan, kills))
                if postgres:
                    killers.create_task(self._crash(plan, postgres))
            self.stopping = True
            for name in ("serve", "worker"):
                self.programs[name].kill()
                self.programs[name].start()
            await self._answers(self.api, "/healthz")

    async def _kill(self, name: str, plan: "Plan", at_most: int) -> None:
        """Kill one program again and again: by the points that it is started with, or from outside."""
        program = self.programs[name]
        for _ in range(at_most):
            armed = plan.next_for(name)
            if armed is None:
                break  # the other program may still be under fire, and needs this one alive
            program.kill()
            program.start(None if armed == BLIND else armed)
            # A blind kill comes at any moment; a point is waited for, and taken for not passed after a while.
            patience_s = 0.4 + 2 * self.random.random() if armed == BLIND else plan.patience_s
            until = time.monotonic() + patience_s
            while program.is_alive and time.monotonic() < until:
                await asyncio.sleep(0.05)
                if program.ended_alone:
                    await self._revive(program)
                    until = time.monotonic() + patience_s
            died = not program.is_alive
            if died or armed == BLIND:
                program.kill()
                self.kills.append(f"{name} {armed}")
                plan.killed(name, armed)
            else:
                plan.not_passed(name, armed)
        if not program.is_alive:
            program.start()

    async def _revive(self, program: Program) -> None:
        """What a supervisor does: start again what gave up. It may, while the database is away, and for no other
        reason."""
        if time.monotonic() - self.crashed_at > 30:
            code = program.process.exitcode if program.process else None
            raise Trouble(f"{program.command} ended by itself, with {code}")
        await asyncio.sleep(0.3)
        program.start(program.armed)

    async def _crash(self, plan: "Plan", postgres: EmbeddedPostgres) -> None:
        """Once a round the database stops at once, as if killed, and comes back by crash recovery."""
        await asyncio.sleep(3 + 5 * self.random.random())
        self.crashed_at = time.monotonic()
        postmaster = int((postgres.home.data / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGQUIT)
        await asyncio.to_thread(postgres.stop)
        restarted = await asyncio.to_thread(EmbeddedPostgres.start, plan.postgres_folder)
        postgres.__dict__.update(restarted.__dict__)
        self.kills.append("postgres")
        plan.crashes += 1


BLIND = "blind"
LEAVES_A_REFUND = "services.surplus._return.after_commit"


Stories = dict[str, tuple[int, Callable[[Town, Household], Awaitable[None]]]]


class Plan:
    """Which kills are still to come. Every point once, then points and blind kills at random."""

    def __init__(
        self,
        seed: int,
        kills: int,
        only: list[tuple[str, str]] | None = None,
        *,
        patience_s: float = 12,
        postgres_folder: Path | None = None,
    ) -> None:
        chance = random.Random(seed)
        every = only if only is not None else points()
        more = [(name, BLIND) if chance.random() < 0.4 else chance.choice(every) for name in
                (chance.choice(BOTH) for _ in range(max(0, kills - len(every))))]  # fmt: skip
        self.left = [*every, *more]
        chance.shuffle(self.left)
        self.kills = kills
        self.done: list[tuple[str, str]] = []
        self.tried: dict[tuple[str, str], int] = {}
        self.patience_s = patience_s
        self.crashes = 0
        self.repaired_s: list[float] = []
        self.postgres_folder = postgres_folder or Path()

    @property
    def is_done(self) -> bool:
        return not self.left

    def next_for(self, name: str) -> str | None:
        """The next kill of this program, taken from the plan."""
        for index, (who, point) in enumerate(self.left):
            if who == name:
                del self.left[index]
                return point
        # Whoever serves sends a refund at once; the worker comes by there only for what a crash left unsent.
        return LEAVES_A_REFUND if self.kills and self.left and name == "serve" else None

    def killed(self, name: str, point: str) -> None:
        self.done.append((name, point))

    def not_passed(self, name: str, point: str) -> None:
        """It comes again at the end, ten times: few return a surplus in twelve seconds. Then the point is not where
        the table says."""
        if point == LEAVES_A_REFUND and (name, point) in self.done:
            return
        self.tried[name, point] = self.tried.get((name, point), 0) + 1
        if self.tried[name, point] > 10:
            raise Trouble(f"{name} never came by {point}")
        self.left.append((name, point))


_POSTED = """
SELECT a.out_trade_no, a.state, COALESCE(sum(e.amount_fen), 0)::bigint AS fen,
    a.next_check_at BETWEEN now() - interval '10 seconds' AND now() + make_interval(secs => 91) AS waits
FROM payment_attempts a JOIN payments p ON p.id = a.payment_id LEFT JOIN entries e ON e.source_id = a.id
WHERE p.merchant_account_id IS NOT NULL GROUP BY a.id
"""
_REFUNDED = """
SELECT a.out_refund_no, a.state, (SELECT COALESCE(sum(e.amount_fen), 0)::bigint FROM entries e
        WHERE e.source_id = a.refund_id AND e.kind = 'refunded') AS fen,
    a.next_check_at BETWEEN now() - interval '10 seconds' AND now() + make_interval(secs => 91) AS waits
FROM refund_attempts a
"""
# What was posted or begun just now, perhaps by a look that came after the minute, has its moment too.
_FRESH = """(SELECT max(e.posted_at) FROM entries e JOIN payment_attempts a ON a.id = e.source_id
    WHERE a.payment_id = p.id) > now() - interval '15 seconds'"""
_WORK = {
    "paid without exactly one receipt": f"""
        SELECT p.id, count(r.id) AS receipts, {_FRESH} AS fresh FROM payments p
        LEFT JOIN receipts r ON r.payment_id = p.id
        WHERE p.state = 'paid' GROUP BY p.id HAVING count(r.id) <> 1""",
    "paid and its payer was not told, or twice": f"""
        SELECT p.id, count(m.id) AS messages, min(m.state) AS state, {_FRESH} AS fresh FROM payments p
        LEFT JOIN messages m ON m.source_id = p.id AND m.kind = 'payment_received'
        WHERE p.state = 'paid' AND p.payer_resident_id IS NOT NULL
        GROUP BY p.id HAVING count(m.id) <> 1 OR min(m.state) <> 'sent'""",
    "undecided and not looked at": """
        SELECT out_trade_no, state, next_check_at FROM payment_attempts
        WHERE state IN ('created', 'prepaid')
          AND (next_check_at IS NULL OR next_check_at < now() - interval '15 seconds')""",
    "a job that failed, hangs or does not begin": """
        SELECT j.id, j.task_name, j.status, (SELECT max(e.at) FROM procrastinate_events e WHERE e.job_id = j.id)
            > now() - interval '15 seconds' AND j.status <> 'failed' AS fresh FROM procrastinate_jobs j
        WHERE j.task_name NOT LIKE '%.clock' AND (j.status IN ('failed', 'doing') OR (j.status = 'todo' AND
              COALESCE(j.scheduled_at, now() - interval '1 hour') < now() - interval '5 seconds'))""",
    "a case that nobody asked for": """
        SELECT id, kind, state FROM discrepancies WHERE kind <> 'surplus' AND state = 'open'""",
}
