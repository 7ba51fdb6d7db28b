"""A machine that does to payments whatever may happen to them, beside a plain model that says where every fen must be.

The model knows nothing of tables: it keeps what was owed, what WeChat took and what was told, and spreads money with
ten lines of its own. After every step the numbered invariants must hold and the books must say what the model says.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, ClassVar, TypeVar

import httpx
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import payments
from kit import clock
from models.access import Role
from models.community import Community
from models.discrepancy import Discrepancy, DiscrepancyKind
from models.payment import Payment
from models.refund import Refund, RefundState
from models.unit_of_work import row, rows
from payments.gateways.wechat_pay import WechatPay
from tests.conftest import Drain, SandboxControl
from tests.world import Company, Home, Person, World

T = TypeVar("T")
AMOUNTS = (100, 25068, 7, 300, 1, 99999)
WHICH = st.integers(0, 7)
BILLS = st.sets(st.integers(0, len(AMOUNTS) - 1), min_size=1)


@dataclass
class Stage:
    """What the machine plays on; made once for all of its runs."""

    loop: asyncio.AbstractEventLoop
    world: World
    sandbox: SandboxControl
    drain: Drain
    company: Company
    community: Community
    finance: Person
    clerk: Person


@dataclass
class Owed:
    """A bill in the model."""

    amount: int
    paid: int = 0
    credited: int = 0
    void: bool = False

    @property
    def due(self) -> int:
        return 0 if self.void else self.amount - self.credited - self.paid


@dataclass
class Order:
    """An order at WeChat in the model. ``meant`` says how much of it is for each bill, oldest first."""

    payment_id: str
    number: str
    prepay_id: str
    meant: dict[str, int]
    taken: bool = False  # WeChat has the money
    settled: bool = False
    surplus: int = 0
    fate: str | None = None
    paid: dict[str, int] = field(default_factory=dict)  # which bills it paid
    gone: dict[str, int] = field(default_factory=dict)  # of that, back or on its way back

    @property
    def amount(self) -> int:
        return sum(self.meant.values())


@dataclass
class Wish:
    """An approved refund of what an order paid on a bill."""

    bill_id: str
    amount: int
    credited: bool
    done: bool = False


@dataclass
class Model:
    """Everything that is owed and everything that was ordered."""

    bills: dict[str, Owed] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    wishes: dict[str, Wish] = field(default_factory=dict)
    prepaid: int = 0
    pending: int = 0  # refunds approved and under way

    def settle(self, order: Order) -> None:
        left = order.amount
        for bill_id, meant in order.meant.items():
            part = min(left, meant, self.bills[bill_id].due)
            self.bills[bill_id].paid += part
            order.paid[bill_id] = part
            left -= part
        order.settled, order.surplus = True, left
        MoneyMachine.reached["surplus" if left else "settled"] += 1

    def give_back(self, wish: Wish) -> None:
        self.bills[wish.bill_id].paid -= wish.amount
        self.bills[wish.bill_id].credited += wish.amount if wish.credited else 0
        wish.done = True
        MoneyMachine.reached["credited" if wish.credited else "reopened"] += 1


class MoneyMachine(RuleBasedStateMachine):
    """See the module. ``stage`` is set by whoever runs it."""

    stage: ClassVar[Stage]
    reached: ClassVar[Counter[str]] = Counter()  # over all runs: a machine that never gets somewhere shows nothing

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.moved = timedelta()
        self.faults = 0
        self.told: list[str] = []  # what was answered, printed with the operations of a run that fails

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.stage.loop).result(120)

    # --- the beginning and the end of a run -----------------------------------------------------------------------

    @initialize()
    def move_in(self) -> None:
        self.do(self._move_in())

    async def _move_in(self) -> None:
        world, company, community = self.stage.world, self.stage.company, self.stage.community
        room = await world.room(community, f"3栋1单元{next(_rooms)}")
        owner, customer = await world.owner(company, room)
        family = await world.resident(company)
        await world.occupancy(room, await world.customer(company, "家属"), resident=family.resident)
        bills = [
            await world.bill(company, room, customer, amount, month=date(2026, month, 1))
            for month, amount in enumerate(AMOUNTS, start=1)
        ]
        self.people = (owner, family)
        self.home = Home(company, community, room, owner, customer, bills)
        self.model.bills = {str(bill.id): Owed(bill.amount_fen) for bill in bills}
        await self.stage.sandbox.no_faults()
        await self.stage.sandbox.fault("lost")  # callbacks come when the machine says so
        await self.stage.sandbox.fault("refund_outcome", outcome="PROCESSING")

    def teardown(self) -> None:
        if hasattr(self, "home"):
            self.do(self._all_comes_right())
        clock.shift(-self.moved)

    async def _all_comes_right(self) -> None:
        """However the run ended: once WeChat answers and time has passed, everything is decided without a person."""
        await self.stage.sandbox.no_faults()
        for one in (await self._refunds_at_wechat("PROCESSING")) + (await self._refunds_at_wechat("ABNORMAL")):
            await self.stage.sandbox.post(f"/sandbox/refunds/{one['refund_id']}/decide", {"status": "SUCCESS"})
        for seconds in (2000, 70, 70, 4000):
            self._pass(seconds)
            await payments.sweep()
            await payments.sweep_refunds()
        await self.stage.drain()
        await self._follow()
        for order in self.model.orders.values():
            assert order.settled == order.taken, f"{order.number}: WeChat has the money {order.taken}"
        states = {str(one.state) for one in await Payment.filter(customer_id=self.home.customer.id)}
        assert states <= {"paid", "closed"}, states
        await self._compare()

    # --- what may happen -------------------------------------------------------------------------------------------

    @rule(who=st.integers(0, 1), chosen=BILLS)
    def open_or_take_over(self, who: int, chosen: set[int]) -> None:
        self.do(self._open(self.people[who], sorted(chosen)))

    @rule(who=st.integers(0, 1), chosen=BILLS, told=st.booleans())
    def pay_what_is_owed(self, who: int, chosen: set[int], told: bool) -> None:
        """The ordinary way, of which too little would happen by chance."""
        self._pay_some(who, chosen)
        if told:
            self.deliver_a_callback(which=-1, times=1, parallel=False)

    @rule(who=st.integers(0, 1), chosen=BILLS, times=st.integers(1, 2))
    def void_what_is_being_paid(self, who: int, chosen: set[int], times: int) -> None:
        """WeChat has the money, the bill is voided, then the news come: a surplus."""
        bill_ids = self._pay_some(who, chosen)
        self.void_a_bill(which=self.home.bill_ids.index(bill_ids[0]))
        self.deliver_a_callback(which=-1, times=times, parallel=True)

    def _pay_some(self, who: int, chosen: set[int]) -> list[str]:
        """The bills chosen of those still owed, or of all when none is; opened and paid at WeChat."""
        picked = [one for one in self.home.bill_ids if one in {self._owed(which) for which in chosen}]
        self.do(self._open(self.people[who], [self.home.bill_ids.index(one) for one in picked]))
        self.pay_at_wechat(which=-1)
        return picked

    def _owed(self, which: int) -> str:
        """A bill that is still owed, or any when none is."""
        owed = [one for one in self.home.bill_ids if self.model.bills[one].due] or self.home.bill_ids
        return owed[which % len(owed)]

    async def _open(self, person: Person, chosen: list[int]) -> None:
        bill_ids = [self.home.bill_ids[one] for one in chosen]
        answer = await self.home.open(person, bill_ids)
        self.told.append(f"    → {answer.status_code} {answer.json().get('code', answer.json().get('status'))}")
        await self._follow()  # it may have closed, or settled, what stood in the way
        if answer.status_code == 201 and answer.json()["wechat"]:
            await self._remember(answer.json(), bill_ids)

    async def _remember(self, opened: dict[str, Any], bill_ids: list[str]) -> None:
        attempt = await row("SELECT out_trade_no FROM payment_attempts WHERE payment_id = $1", opened["id"])
        assert attempt is not None
        number = attempt["out_trade_no"]
        prepay_id = opened["wechat"]["package"].removeprefix("prepay_id=")
        if number not in self.model.orders:
            # In the order of months, which is the order in which bills are paid.
            meant = {one: self.model.bills[one].due for one in self.home.bill_ids if one in bill_ids}
            assert opened["amount_fen"] == sum(meant.values())
            self.model.orders[number] = Order(opened["id"], number, prepay_id, meant)
        self.model.orders[number].prepay_id = prepay_id

    @rule(which=WHICH)
    def pay_at_wechat(self, which: int) -> None:
        order = self._any_order(which, lambda one: not one.taken)
        if order is not None:
            answer = self.do(self.stage.sandbox.post("/sandbox/pay", {"prepay_id": order.prepay_id}))
            self.told.append(f"    → {answer.status_code}")
            order.taken = order.taken or answer.status_code == 200

    @rule(which=WHICH, times=st.integers(1, 3), parallel=st.booleans())
    def deliver_a_callback(self, which: int, times: int, parallel: bool) -> None:
        order = self._any_order(which, lambda one: one.taken)
        if order is not None:
            self.do(self._deliver(order, times, parallel))
            assert order.settled

    async def _deliver(self, order: Order, times: int, parallel: bool) -> None:
        notices = [
            one for one in await self.stage.sandbox.callbacks(order.number) if "TRANSACTION" in one["event_type"]
        ]
        answer = await self.stage.sandbox.post(
            f"/sandbox/callbacks/{notices[0]['id']}/resend", {"times": times, "parallel": parallel}
        )
        assert set(answer.json()["statuses"]) == {204}, answer.text
        await self._follow()

    @rule(which=WHICH)
    def ask_wechat(self, which: int) -> None:
        order = self._any_order(which, lambda one: True)
        if order is not None:
            self.do(self._payers_post(order, "confirm"))
            assert order.settled == order.taken or self.faults

    @rule(which=WHICH)
    def give_up(self, which: int) -> None:
        order = self._any_order(which, lambda one: True)
        if order is not None:
            answer = self.do(self._payers_post(order, "cancel"))
            self.told.append(f"    → {answer.status_code}")

    async def _payers_post(self, order: Order, verb: str) -> httpx.Response:
        for person in self.people:
            answer = await person.post(f"/api/v1/payments/{order.payment_id}/{verb}")
            if answer.status_code != 404:
                break
        await self._follow()
        return answer

    @rule(seconds=st.sampled_from([6, 61, 301, 1801]))
    def time_passes_and_the_sweep_runs(self, seconds: int) -> None:
        self._pass(seconds)
        self.do(self._sweep())

    def _pass(self, seconds: int) -> None:
        clock.shift(timedelta(seconds=seconds))
        self.moved += timedelta(seconds=seconds)

    async def _sweep(self) -> None:
        await payments.sweep()
        await payments.sweep_refunds()
        await self._follow()

    @rule()
    def consequences_run(self) -> None:
        self.do(self.stage.drain())
        self.do(self._follow())

    @rule()
    def another_bill_is_made(self) -> None:
        if len(self.home.bills) < 24:  # two years
            self.do(self._bill())

    async def _bill(self) -> None:
        home, n = self.home, len(self.home.bills)
        month = date(2026 + n // 12, 1 + n % 12, 1)
        bill = await self.stage.world.bill(
            home.company, home.room, home.customer, AMOUNTS[n % len(AMOUNTS)], month=month
        )
        home.bills.append(bill)
        self.model.bills[str(bill.id)] = Owed(bill.amount_fen)

    @rule(which=st.integers(0, len(AMOUNTS) - 1))
    def void_a_bill(self, which: int) -> None:
        self.do(self._void(self.home.bill_ids[which]))

    async def _void(self, bill_id: str) -> None:
        answer = await self.stage.finance.post(f"/api/v1/staff/bills/{bill_id}/void", {"reason": "算错了"})
        await self._follow()
        bill = self.model.bills[bill_id]
        allowed = bill.due == bill.amount - bill.credited > 0
        assert (answer.status_code == 200) is allowed, answer.text
        bill.void = bill.void or allowed

    @rule(which=WHICH, keep=st.booleans(), bill=st.integers(0, len(AMOUNTS) - 1))
    def decide_a_surplus(self, which: int, keep: bool, bill: int) -> None:
        order = self._any_order(which, lambda one: one.surplus > 0)
        if order is not None:
            self.do(self._decide(order, self._owed(bill) if keep else None))

    async def _decide(self, order: Order, bill_id: str | None) -> None:
        case = await Discrepancy.get(kind=DiscrepancyKind.SURPLUS, payment_id=order.payment_id)
        path = f"/api/v1/staff/discrepancies/{case.id}"
        if bill_id is None:
            answer = await self.stage.finance.post(f"{path}/return", {"reason": "多付"})
        else:
            answer = await self.stage.finance.post(f"{path}/keep", {"bill_ids": [bill_id]})
        self.told.append(f"    → {answer.status_code} {answer.json().get('code', '')}")
        await self._follow()
        if answer.status_code >= 300:
            return
        assert order.fate is None, "a surplus was decided twice"
        self.reached["kept" if bill_id else "returned"] += 1
        if bill_id is None:
            order.fate = "returned"
            self.model.pending += order.surplus
        else:
            order.fate = "kept"
            part = min(order.surplus, self.model.bills[bill_id].due)
            self.model.bills[bill_id].paid += part
            self.model.prepaid += order.surplus - part

    @rule(which=WHICH, bill=WHICH, whole=st.booleans(), credited=st.booleans(), approved=st.booleans())
    def refund_what_paid_a_bill(self, which: int, bill: int, whole: bool, credited: bool, approved: bool) -> None:
        order = self._any_order(which, lambda one: bool(one.paid))
        if order is not None:
            self.do(self._refund(order, sorted(order.paid)[bill % len(order.paid)], whole, credited, approved))

    async def _refund(self, order: Order, bill_id: str, whole: bool, credited: bool, approved: bool) -> None:
        left = order.paid[bill_id] - order.gone.get(bill_id, 0)
        amount = left if whole and left else left // 2 + 1
        part = {"bill_id": bill_id, "amount_fen": amount}
        wish = {"parts": [part], "bill_becomes": "credited" if credited else "open", "reason": "重复收费"}
        asked = await self.stage.clerk.post(f"/api/v1/staff/payments/{order.payment_id}/refunds", wish)
        self.told.append(f"    → {asked.status_code} {asked.json().get('code', '')}")
        assert asked.status_code == (201 if amount <= left else 409), asked.text
        if asked.status_code != 201:
            return
        path = f"/api/v1/staff/refunds/{asked.json()['id']}"
        if not approved:
            assert (await self.stage.finance.post(f"{path}/reject", {"reason": "没有重复"})).status_code == 200
            return
        order.gone[bill_id] = order.gone.get(bill_id, 0) + amount
        self.model.wishes[asked.json()["id"]] = Wish(bill_id, amount, credited)
        self.model.pending += amount
        twice = [(await self.stage.finance.post(f"{path}/approve")).status_code for _ in range(2)]
        assert twice == [200, 409], twice
        await self._follow()

    @rule()
    def finance_transfers_what_wechat_closed(self) -> None:
        self.do(self._transfer())

    async def _transfer(self) -> None:
        closed = Refund.filter(customer_id=self.home.customer.id, state=RefundState.FAILED, problem="CLOSED")
        for refund in await closed:
            path, serial = f"/api/v1/staff/refunds/{refund.id}", {"reference": str(refund.id)}
            assert (await self.stage.finance.post(f"{path}/method", {"method": "bank"})).status_code == 200
            assert (await self.stage.finance.post(f"{path}/pay-out", serial)).status_code == 200
            self.reached["transferred"] += 1
        await self._follow()

    @rule(status=st.sampled_from(["SUCCESS", "ABNORMAL", "CLOSED"]), noticed=st.booleans())
    def wechat_decides_a_refund(self, status: str, noticed: bool) -> None:
        self.do(self._decide_refund(status, noticed))

    async def _decide_refund(self, status: str, noticed: bool) -> None:
        for one in await self._refunds_at_wechat("PROCESSING"):
            await self.stage.sandbox.post(f"/sandbox/refunds/{one['refund_id']}/decide", {"status": status})
            for notice in await self.stage.sandbox.callbacks(one["out_trade_no"]) if noticed else ():
                if notice["event_type"].startswith("REFUND"):
                    await self.stage.sandbox.post(f"/sandbox/callbacks/{notice['id']}/resend", {"times": 2})
        await self._follow()

    @rule()
    def finance_tries_or_gives_up_a_failed_refund(self) -> None:
        self.do(self._try_again())

    async def _try_again(self) -> None:
        for refund in await Refund.filter(customer_id=self.home.customer.id, state=RefundState.FAILED):
            answer = await self.stage.finance.post(f"/api/v1/staff/refunds/{refund.id}/retry")
            self.told.append(f"    → {answer.status_code} {answer.json().get('code', '')}")
        await self._follow()

    @rule(operation=st.sampled_from(["prepay", "query", "close", "refund"]), how=st.sampled_from(["500", "cut"]))
    def an_answer_gets_lost(self, operation: str, how: str) -> None:
        """WeChat does what it was asked next, and we are never told so."""
        self.faults += 1
        self.do(self.stage.sandbox.fault("answer_lost", operation=operation, how=how, times=3))

    @rule(before=st.booleans(), who=st.integers(0, 1))
    def crash_while_opening(self, before: bool, who: int) -> None:
        """The process ends between committing the intent and noting what WeChat said."""
        self.do(self._crash(before, self.people[who]))

    async def _crash(self, before: bool, person: Person) -> None:
        original = WechatPay.open_order

        async def crashing(gateway: WechatPay, request: str) -> str:
            if not before:
                await original(gateway, request)
            raise Crash

        WechatPay.open_order = crashing  # type: ignore[method-assign]
        try:
            answer = await self.home.open(person)
        finally:
            WechatPay.open_order = original  # type: ignore[method-assign]
        self.told.append(f"    → {answer.status_code}")
        await self._follow()

    # --- what must be true after each ------------------------------------------------------------------------------

    @invariant()
    def the_books_say_what_the_model_says(self) -> None:
        if hasattr(self, "home"):
            for line in self.told:
                note(line)
            self.told.clear()
            self.do(self._compare())

    async def _compare(self) -> None:
        broken = await payments.violations()
        assert broken == [], broken
        for bill in await rows(
            "SELECT id::text, paid_fen, credited_fen, state FROM bills WHERE id = ANY($1)", self.home.bill_ids
        ):
            model = self.model.bills[bill["id"]]
            found = (bill["paid_fen"], bill["credited_fen"], bill["state"] == "void")
            assert found == (model.paid, model.credited, model.void), bill
        surplus = sum(one.surplus for one in self.model.orders.values() if one.fate is None)
        assert await self._balance("surplus") == surplus
        assert await self._balance("prepaid") == self.model.prepaid
        refunds = await Refund.filter(customer_id=self.home.customer.id)
        transferred = sum(one.amount_fen for one in refunds if one.paid_out_by_staff_id)
        done = sum(one.amount_fen for one in refunds if one.state is RefundState.REFUNDED) - transferred
        given_back = sum(one["refund_fen"] for one in await self._refunds_at_wechat("SUCCESS"))
        assert done <= given_back <= self.model.pending - transferred, "more went back than anybody approved"
        self.reached["refunded"] += done > 0

    async def _balance(self, kind: str) -> int:
        found = await row(
            "SELECT COALESCE(sum(CASE WHEN e.credit_account_id = a.id THEN e.amount_fen ELSE -e.amount_fen END), 0)"
            " AS fen FROM accounts a JOIN entries e ON a.id IN (e.credit_account_id, e.debit_account_id)"
            " WHERE a.kind = $1 AND a.holder_id = $2",
            kind,
            self.home.customer.id,
        )
        assert found is not None
        return int(found["fen"])

    async def _follow(self) -> None:
        """Settle in the model what was settled, and give back what went back, in the same order: which comes first is
        not the model's to say, but that WeChat has the money, and that somebody approved, is."""
        for number, refund_id in await self._happened():
            order = self.model.orders.get(number)
            if refund_id:
                wish = self.model.wishes[refund_id]
                if not wish.done:
                    self.model.give_back(wish)
                continue
            assert order is not None and order.taken, f"{number} was settled, and WeChat has no money for it"
            if not order.settled:
                self.model.settle(order)

    async def _happened(self) -> list[tuple[str, str]]:
        found = await rows(
            "SELECT a.out_trade_no AS number, '' AS refund, e.id FROM payment_attempts a"
            " JOIN payments p ON p.id = a.payment_id JOIN entries e ON e.source_id = a.id AND e.leg = 0"
            " WHERE p.customer_id = $1 AND p.channel = 'wechat_jsapi'"
            " UNION ALL SELECT '', r.id::text, e.id FROM refunds r JOIN entries e ON e.source_id = r.id"
            " WHERE r.customer_id = $1 AND r.kind = 'bill' AND e.kind = 'refunded' ORDER BY 3",
            self.home.customer.id,
        )
        return [(one["number"], one["refund"]) for one in found]

    async def _refunds_at_wechat(self, status: str) -> list[dict[str, Any]]:
        mine = set(self.model.orders)
        answer = await self.stage.sandbox.client.get("/sandbox/refunds", params={"status": status})
        return [one for one in answer.json()["refunds"] if one["out_trade_no"] in mine]

    def _any_order(self, which: int, fits: Callable[[Order], bool]) -> Order | None:
        """One of the orders that fit, oldest first. What is drawn never hangs on what the program answered (no
        precondition either): its answers may hang on the clock, and a draw that then differs cannot be replayed."""
        fitting = [one for one in self.model.orders.values() if fits(one)]
        return fitting[which % len(fitting)] if fitting else None


class Crash(RuntimeError):
    """The process ended here."""


_rooms = iter(range(1001, 999_999))


async def stage_for(world: World, sandbox: SandboxControl, drain: Drain) -> Stage:
    """A company and a community to play in."""
    company = await world.company()
    community = await world.community(company)
    finance = await world.staff(company, Role.FINANCE, community)
    clerk = await world.staff(company, Role.CASHIER, community)
    return Stage(asyncio.get_running_loop(), world, sandbox, drain, company, community, finance, clerk)
