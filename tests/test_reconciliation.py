"""Reconciliation as finance lives it: every morning WeChat's bill, the journal and the bills say the same."""

import asyncio
import gzip
import json
from datetime import date
from pathlib import Path
from secrets import token_hex
from typing import Any

import asyncpg
import pytest

import payments
from kit import clock
from models.access import Role
from models.payment import Payment, PaymentAttempt
from models.reconciliation import Difference, Reconciliation, Statement
from models.unit_of_work import rows
from payments import reconcile_day
from payments.reconcile_post import shares
from server.reconcile_report import run_reconcile
from tests.conftest import Drain, SandboxControl
from tests.reconcile_days import clearing_fen, play, under_way_fen, unexplained
from tests.surplus_home import balances, surplus_home
from tests.wechat_days import Rows, at, draw, finance_of, give, kept, pay, spoilt
from tests.world import Home, World

DAYS = "/api/v1/staff/reconciliations"
DIFFERENCES = "/api/v1/staff/differences"


def written(folder: Path, content: bytes, name: str = "bill.csv") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def found(differences: list[Difference]) -> dict[str, tuple[str, str, int | None, int | None, int, str]]:
    return {
        one.number: (str(one.kind), str(one.about), one.wechat_fen, one.our_fen, one.difference_fen, str(one.state))
        for one in differences
    }


async def test_a_day_closes_to_the_fen(world: World, sandbox: SandboxControl, drain: Drain, books: Any) -> None:
    """Three bills: one void, its money returned, two paid; all of it drawn to the bank but for what was put in for it.
    Afterwards nothing lies at WeChat, here and there."""
    with at(1, 12):
        surplus = await surplus_home(world, sandbox, drain, bills=3)
        home = surplus.home
        await surplus.send_back()
        await surplus.decide("SUCCESS")
        await surplus.noticed()
        assert await draw(home, sandbox, -1000) == 1000 + 50139 - 301
        await draw(home, sandbox, 50838)
        assert await draw(home, sandbox, -1) == 1
        await draw(home, sandbox, 1)
        await drain()
        assert await balances() == {"wechat_clearing": 50139, "received": -50139}
        assert await payments.sweep_reconciliations() == 0
        bill_on = clock.today()
    with at(2, 10, 4):
        assert await payments.sweep_reconciliations() == 0
    with at(2, 10, 6):
        assert await payments.sweep_reconciliations() == 2
        assert await balances() == {"received": -50139, "commission": 301, "bank": 49838}  # and clearing is zero
        assert await Difference.all().count() == 0
        finance = await finance_of(world, home)
        listed = (await finance.get(DAYS)).json()["items"]
        names = ("kind", "wechat_fen", "our_fen", "fee_fen", "difference_fen", "open_count")
        said = {tuple(one[name] for name in names) for one in listed}
        assert said == {("trade", 50139, 50139, 301, 0, 0), ("fund_flow", 0, 0, 0, 0, 0)}
        assert all(one["bill_on"] == bill_on.isoformat() and one["next_check_at"] is None for one in listed)
        before = await rows("SELECT id FROM entries")
        assert await payments.sweep_reconciliations() == 0
        for one in listed:
            assert (await finance.post(f"{DAYS}/{one['id']}/run")).json()["status"] == "read"
        assert await drain() == ["reconcile_day", "reconcile_day"]
        assert await rows("SELECT id FROM entries") == before  # the same file again changes nothing
        assert await Statement.all().count() == 2


async def town(world: World, sandbox: SandboxControl, drain: Drain) -> tuple[Home, dict[str, str]]:
    """Seven paid orders and one refund, on the bill of the first day."""
    surplus = await surplus_home(world, sandbox, drain, bills=1)
    home = surplus.home
    await surplus.send_back()
    await surplus.decide("SUCCESS")
    await surplus.noticed()
    await drain()
    numbers = {}
    for month, name in enumerate(("plain", "amount", "fee", "gone", "only", "late"), start=1):
        bill = await world.bill(home.company, home.room, home.customer, 10_000 + month, month=date(2025, month, 1))
        numbers[name] = await pay(home, sandbox, bill.id)
    await drain()
    return home, numbers


async def test_planted_differences_of_each_kind_are_found_and_no_other(
    world: World, sandbox: SandboxControl, drain: Drain, books: Any
) -> None:
    with at(1, 12):
        home, number = await town(world, sandbox, drain)
        first = clock.today()
    with at(1, 23, 59, 58):
        bill = await world.bill(home.company, home.room, home.customer, 20_000, month=date(2025, 8, 1))
        night = await pay(home, sandbox, bill.id)
    with at(2, 10, 30):
        await payments.sweep_reconciliations()
        assert await Difference.all().count() == 0
        good = await kept("trade", first)

        def lie(bill_rows: Rows) -> Rows:
            made = [dict(row) for row in bill_rows if row["商户订单号"] not in (number["gone"], night)]
            for row in made:
                if row["商户订单号"] == number["amount"]:
                    row["订单金额"] = row["应结订单金额"] = "100.03"
                    row["手续费"] = "0.60000"
                if row["商户订单号"] == number["fee"]:
                    row["手续费"] = "0.61000"
                if row["交易状态"] == "REFUND":
                    row["退款状态"] = "FAIL"
            stranger = dict(made[0], 商户订单号="shop-1", 微信订单号="4200000000001", 订单金额="8.88",
                            应结订单金额="8.88", 手续费="0.05000")  # fmt: skip
            refund = next(row for row in made if row["交易状态"] == "REFUND")
            strange = dict(refund, 商户退款单号="by-hand-1", 微信退款单号="5030000000001", 申请退款金额="1.00",
                           退款金额="1.00", 手续费="-0.01000", 退款状态="SUCCESS")  # fmt: skip
            return [*made, stranger, strange]

        refund_no = (await rows("SELECT out_refund_no FROM refund_attempts"))[0]["out_refund_no"]
        read = await give(home, spoilt(good, lie))
        assert (read.bill_on, read.open_count) == (first, 7)
        assert found(await Difference.all()) == {
            number["amount"]: ("amount", "payment", 10003, 10002, 1, "open"),
            number["fee"]: ("fee", "payment", 10003, 10003, 0, "open"),
            number["gone"]: ("only_with_us", "payment", None, 10004, -10004, "open"),
            night: ("cut_off", "payment", None, 20000, -20000, "open"),
            refund_no: ("status", "refund", -25068, -25068, 0, "open"),
            "shop-1": ("only_at_wechat", "payment", 888, None, 888, "open"),
            "by-hand-1": ("only_at_wechat", "refund", -100, None, -100, "open"),
        }
        assert await payments.violations() == []  # what the day's totals differ by is what these add up to

        second = clock.today()
    with at(3, 10, 30):
        # The night's payment stands on the next day's bill: no difference any more. Whatever else was wrong is fetched
        # again and mends, but what only the second day lacks is missing there.
        await give(home, spoilt(good, lie))
        night_row = (await rows("SELECT transaction_id FROM payment_attempts WHERE out_trade_no = $1", night))[0]

        def of_the_night(bill_rows: Rows) -> Rows:
            (one,) = (row for row in bill_rows if row["商户订单号"] == night)
            assert one["微信订单号"] == night_row["transaction_id"]
            return [one]

        later = await give(home, spoilt(good, of_the_night), second)
        assert (later.bill_on, later.open_count) == (second, 0)
        about_it = {one.reconciliation_id: one for one in await Difference.filter(number=night)}
        assert {(str(one.kind), str(one.state), one.difference_fen) for one in about_it.values()} == {
            ("cut_off", "explained", -20000), ("cut_off", "explained", 20000)}  # fmt: skip
        assert await payments.violations() == []

        trade = await Reconciliation.get(kind="trade", bill_on=first)
        finance = await finance_of(world, home)
        assert (await finance.post(f"{DAYS}/{trade.id}/run")).status_code == 200
        await drain()
        again = (await finance.get(f"{DAYS}/{trade.id}")).json()  # WeChat's own file counts again
        assert (again["open_count"], again["difference_fen"]) == (0, 0)
        statements = (await finance.get(f"{DAYS}/{trade.id}")).json()["statements"]
        assert [(one["status"], one["source"]) for one in statements] == [
            ("superseded", "by_hand"), ("current", "fetched")]  # fmt: skip


async def test_a_corrected_file_supersedes_with_history(
    world: World, sandbox: SandboxControl, drain: Drain, books: Any
) -> None:
    with at(1, 12):
        home, _ = await town(world, sandbox, drain)
        await sandbox.fault("bill_missing_row", times=1)
    with at(2, 10, 30):
        await payments.sweep_reconciliations()
        (missing,) = await Difference.filter(about="payment")
        assert (str(missing.kind), str(missing.state)) == ("only_with_us", "open")
    with at(3, 10, 31):
        await payments.sweep_reconciliations()
        assert {str(one.state) for one in await Difference.all()} == {"mended"}
        states = sorted(str(one.state) for one in await Statement.filter(kind="trade"))
        assert states == ["current", "superseded"]
        finance = await finance_of(world, home)
        day = await Reconciliation.get(statement_id__isnull=False, kind="trade")
        detail = (await finance.get(f"{DAYS}/{day.id}")).json()
        assert [one["status"] for one in detail["statements"]] == ["current", "superseded"]
        assert detail["difference_fen"] == 0 and detail["differences"][0]["status"] == "mended"


async def test_three_days_with_faults_end_without_an_unexplained_difference(
    world: World, sandbox: SandboxControl, drain: Drain, books: Any
) -> None:
    """tests/slow/test_reconcile_days.py plays three weeks of it, with every fault."""
    town = await play(world, sandbox, drain, 3)
    assert await unexplained() == []
    assert town.ever_open  # there was something to explain
    assert (await balances())["bank"] == town.drawn_fen
    assert await clearing_fen() == await under_way_fen()


async def test_what_the_bill_says_is_asked_about_and_mends_itself(
    world: World, sandbox: SandboxControl, drain: Drain, books: Any, owner: asyncpg.Connection
) -> None:
    """An order that was closed here and paid there, and a refund by hand at WeChat's site."""
    with at(1, 12):
        home = await world.home(bills=2)
        await sandbox.fault("lost", times=1)
        lost = await pay(home, sandbox, home.bill_ids[0], quietly=True)
        attempt = await PaymentAttempt.get(out_trade_no=lost)
        await owner.execute("UPDATE payment_attempts SET state = 'closed', next_check_at = NULL")
        await owner.execute("UPDATE payments SET state = 'closed', closed_at = now(), close_reason = 'expired'")
        await owner.execute("UPDATE payment_bills SET live = false")
        known = await pay(home, sandbox, home.bill_ids[1])
        by_hand = {"out_trade_no": known, "amount_fen": 5000, "mchid": home.company.wechat.mchid}
        refund = (await sandbox.post("/sandbox/refunds", by_hand)).json()
        await sandbox.post(f"/sandbox/refunds/{refund['refund_id']}/decide", {"status": "SUCCESS"})
        await drain()
        assert (await balances())["wechat_clearing"] == 25069
    with at(2, 10, 30):
        await payments.sweep_reconciliations()
        await drain()
        assert (await Payment.get(id=attempt.payment_id)).state == "paid"
        (mended,) = await Difference.filter(about="payment")
        assert (mended.number, str(mended.kind), str(mended.state)) == (lost, "status", "mended")
        (foreign,) = await Difference.filter(about="refund")
        assert (str(foreign.kind), str(foreign.state), foreign.placed_fen) == ("only_at_wechat", "open", -5000)
        # 25068 and 25069 less 150 and 150 of commission, 5000 went back with 30 of commission
        assert await balances() == {"wechat_clearing": 50137 - 300 - 5000 + 30, "received": -50137, "commission": 270,
                                    "suspense": 5000}  # fmt: skip

        # The rest is finance's: words end the difference, two people an adjustment.
        finance, second = await finance_of(world, home), await finance_of(world, home)
        auditor = await world.staff(home.company, Role.AUDITOR, home.community)
        (shown,) = (await finance.get(f"{DIFFERENCES}?status=open")).json()["items"]
        assert (shown["number"], shown["in_suspense_fen"]) == (foreign.number, -5000)
        assert (await auditor.post(f"{DIFFERENCES}/{shown['id']}/resolve", {"resolution": "x" * 5})).status_code == 403
        place = {"community_id": str(home.community.id)}
        assert (await finance.post(f"{DIFFERENCES}/{shown['id']}/place", place)).json()["code"] == (
            "difference_not_confirmed")  # fmt: skip
        done = await finance.post(f"{DIFFERENCES}/{shown['id']}/resolve", {"resolution": "门店手工退款，已核对"})
        assert (done.json()["status"], done.json()["resolved_by"]) == ("resolved", str(finance.staff.id))
        again = await finance.post(f"{DIFFERENCES}/{shown['id']}/resolve", {"resolution": "再来一次"})
        assert again.json()["code"] == "move_not_allowed"

        wanted = {"community_id": str(home.community.id), "merchant_account_id": str(home.company.merchant.id),
                  "difference_id": shown["id"], "debit_kind": "bank", "credit_kind": "suspense", "amount_fen": 5000,
                  "reason": "业主已退还现金并存入银行"}  # fmt: skip
        for wrong in ({"debit_kind": "received"}, {"debit_kind": "suspense"}):
            refused = await finance.post("/api/v1/staff/adjustments", wanted | wrong)
            assert refused.json()["code"] == "accounts_not_adjustable"
        asked = (await finance.post("/api/v1/staff/adjustments", wanted, key="once")).json()
        assert (await finance.post("/api/v1/staff/adjustments", wanted, key="once")).json()["id"] == asked["id"]
        path = f"/api/v1/staff/adjustments/{asked['id']}"
        assert (await finance.post(f"{path}/sign")).json()["code"] == "second_person_needed"
        assert (await balances())["suspense"] == 5000
        signed = await asyncio.gather(*(second.post(f"{path}/sign") for _ in range(3)))
        assert sorted(one.status_code for one in signed) == [200, 409, 409]
        assert "suspense" not in await balances() and (await balances())["bank"] == 5000
        assert (await finance.get("/api/v1/staff/adjustments?status=posted")).json()["items"][0]["id"] == asked["id"]
        taken_back = (await finance.post("/api/v1/staff/adjustments", wanted)).json()
        withdrawn = await finance.post(f"/api/v1/staff/adjustments/{taken_back['id']}/withdraw")
        assert withdrawn.json()["status"] == "withdrawn"


async def test_an_order_that_only_wechat_knows_goes_to_suspense_once_wechat_confirms_it(
    world: World, sandbox: SandboxControl, drain: Drain, books: Any, owner: asyncpg.Connection
) -> None:
    """The books lost an order (as after a restore); with two communities there, finance says whose."""
    with at(1, 12):
        home = await world.home(bills=1)
        await world.community(home.company, "另一个小区")
        await sandbox.fault("lost")
        number = await pay(home, sandbox, home.bill_ids[0], quietly=True)
        for table in ("payment_attempts", "payment_bills", "payments"):
            await owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER; DELETE FROM {table};"
                                f" ALTER TABLE {table} ENABLE TRIGGER USER")  # fmt: skip
    with at(2, 10, 30):
        await payments.sweep_reconciliations()
        finance = await finance_of(world, home)
        (open_one,) = (await finance.get(f"{DIFFERENCES}?kind=only_at_wechat&status=open")).json()["items"]
        assert (open_one["number"], open_one["community_id"], open_one["in_suspense_fen"]) == (number, None, 0)
        assert await balances() == {}
        stranger = await finance_of(world, await world.home())
        path = f"{DIFFERENCES}/{open_one['id']}/place"
        assert (await stranger.post(path, {"community_id": str(home.community.id)})).status_code == 404
        tried = await asyncio.gather(
            *(finance.post(path, {"community_id": str(home.community.id)}) for _ in range(3)))  # fmt: skip
        assert sorted(one.status_code for one in tried) == [200, 409, 409]
        assert await balances() == {"wechat_clearing": 25068 - 150, "suspense": -25068, "commission": 150}


async def test_a_file_is_given_by_hand(
    world: World, sandbox: SandboxControl, drain: Drain, books: Any, tmp_path: Path
) -> None:
    with at(1, 12):
        home = await world.home(bills=1)
        await pay(home, sandbox, home.bill_ids[0])
        bill_on = clock.today()
    with at(2, 10, 30):
        await payments.sweep_reconciliations()
        good = await kept("trade", bill_on)
        finance = await finance_of(world, home)
        path = f"/api/v1/staff/merchant-accounts/{home.company.merchant.id}/statements"
        headers = {"Content-Type": "application/octet-stream"}

        async def gave(content: bytes, **options: Any) -> Any:
            answer = await finance.api.post(path, content=content, headers=finance.headers | headers | {
                "Idempotency-Key": token_hex(8)})  # fmt: skip
            if answer.status_code != 201:
                return answer.json()["code"]
            await drain()
            return (await finance.get(f"/api/v1/staff/statements/{answer.json()['id']}")).json()

        assert (await gave(gzip.compress(good)))["status"] == "current"  # the same file, packed or not
        for content, words in (
            (b"x", "neither a trade bill"), (good[:-40], "summary"), (good.replace(b"`CNY", b"`USD"), "USD"),
            (good.replace(home.company.wechat.mchid.encode(), b"1900000099"), "1900000099"),
            (b"`250.69".join(good.rsplit(b"`250.68", 1)), "订单总金额是 250.69"),
            (good.replace(b"250.68", b"250.6x"), "column total"),
            (good.replace("交易时间".encode(), "时间".encode()), "neither"), (good + b"`1\r\n", "belongs into no bill"),
            (good.replace(bill_on.isoformat().encode(), b"2020-01-01"), None),
        ):  # fmt: skip
            told = await gave(content)
            if words is None:
                assert told["bill_on"] == "2020-01-01"  # another day's bill is that day's
            else:
                assert told["status"] == "refused" and words in told["problem"], (words, told)
        assert await gave(gzip.compress(good)[:-9]) == await gave(b"") == "statement_unreadable"
        assert (await Reconciliation.get(kind="trade", bill_on=bill_on)).our_fen == 25068
        assert await Difference.filter(state="open").count() == 1  # 2020's, which no book has

        text, code = await run_reconcile(written(tmp_path, good), home.company.wechat.mchid, None, as_json=False)
        assert code == 0 and "没有未解释的差异" in text and "250.68" in text
        lie = spoilt(good, lambda _: [dict(_[0], 商户订单号="shop-1", 微信订单号="420000001")])
        text, code = await run_reconcile(written(tmp_path, lie), str(home.company.merchant.id), None, as_json=True)
        document = json.loads(text)
        assert (code, document["wechat_fen"], document["our_fen"], document["open_count"]) == (1, 25068, 25068, 2)
        assert {(one["kind"], one["difference_fen"]) for one in document["differences"]} == {
            ("only_at_wechat", 25068), ("only_with_us", -25068)}  # fmt: skip
        for content, merchant in ((b"x", home.company.wechat.mchid), (good, "1999999999")):
            text, code = await run_reconcile(written(tmp_path, content), merchant, None, as_json=True)
            assert code == 2 and json.loads(text)["problem"]
        text, code = await run_reconcile(written(tmp_path, good), home.company.wechat.mchid, None, as_json=False)
        assert code == 0 and "以前读过" in text and "已自动消除" in text


async def test_what_was_broken_off_goes_on_and_nothing_is_posted_twice(
    world: World, sandbox: SandboxControl, drain: Drain, books: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off after each commit of a morning, once; the day is looked at again half an hour later."""
    with at(1, 12):
        home = await world.home(bills=1)
        await pay(home, sandbox, home.bill_ids[0])
        await draw(home, sandbox, 10_000)
        await drain()
    for minute, (module, name) in enumerate(
        ((reconcile_day, "compare"), (reconcile_day, "read_statement"), (reconcile_day, "_look_later"))
    ):
        original = getattr(module, name)

        async def broken(*values: Any, _original: Any = original) -> Any:
            if _original.__name__ != "compare":
                await _original(*values)  # it was committed
            raise RuntimeError("killed")

        with at(2, 10 + minute, 10), monkeypatch.context() as patch:
            patch.setattr(module, name, broken)
            assert await payments.sweep_reconciliations() == 2
    with at(2, 14, 10):
        assert await payments.sweep_reconciliations() == 0  # the last one had come to its end
        assert await balances() == {"wechat_clearing": 25068 - 150 - 10_000, "received": -25068, "commission": 150,
                                    "bank": 10_000}  # fmt: skip
        assert await Statement.all().count() == 2 and await Difference.all().count() == 0


@pytest.mark.parametrize(
    ("amount", "balances_fen", "taken"),
    [
        (100, [70, 50], [70, 30]), (100, [120, 50], [100]), (200, [70, 50, -5], [70, 50]), (-30, [70, 50], [-30]),
        (-30, [70, -20], [-20, -10]), (-30, [-5, -20], [-20, -10]), (5, [], []), (-5, [], []), (5, [0, -3], []),
    ],
)  # fmt: skip
def test_a_sum_is_taken_from_the_fullest_and_fills_what_is_short(
    amount: int, balances_fen: list[int], taken: list[int]
) -> None:
    assert [fen for _, fen in shares(amount, [{"fen": fen} for fen in balances_fen])] == taken
