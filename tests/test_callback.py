"""What WeChat calls: believed only when signed and when every fact agrees; applied once, however often it comes."""

import asyncio
import json
import secrets
from datetime import timedelta

import httpx
import pytest

from kit import clock, crypto
from kit.wechat_signature import response_message
from models.access import Role
from models.bill import Bill
from models.discrepancy import Discrepancy
from models.ledger import Allocation, Entry
from models.notification import Notification
from models.payment import Payment, PaymentAttempt, PaymentState
from tests.conftest import Drain, SandboxControl
from tests.world import Company, Home, World, unknown_id


async def paid_home(world: World, sandbox: SandboxControl, bills: int = 1) -> tuple[Home, dict, str]:
    """A home whose owner has paid; nothing is known here until WeChat's callback comes."""
    home = await world.home(bills=bills)
    opened = (await home.open()).json()
    paid = await sandbox.pay(opened)
    return home, opened, paid.json()["out_trade_no"]


class Voice:
    """Sends callbacks of a test's own making: with WeChat's true key, or with a key that is not WeChat's."""

    def __init__(self, api: httpx.AsyncClient, company: Company, *, true: bool) -> None:
        self.api = api
        self.company = company
        wechat = company.wechat
        self.key = crypto.load_private_key(wechat.platform_private_key if true else wechat.private_key)

    async def send(self, body: bytes, *, kind: str = "pay", age_s: int = 0, **headers: str) -> httpx.Response:
        timestamp, nonce = str(clock.unix_s() - age_s), secrets.token_hex(16)
        made = {
            "Wechatpay-Timestamp": timestamp,
            "Wechatpay-Nonce": nonce,
            "Wechatpay-Serial": self.company.wechat.platform["public_key_id"],
            "Wechatpay-Signature": crypto.rsa_sign(self.key, response_message(timestamp, nonce, body)),
            "Content-Type": "application/json",
        }
        path = f"/callbacks/wechat/{kind}/{self.company.merchant.id}"
        return await self.api.post(path, content=body, headers={**made, **headers})

    def notice(self, plaintext: bytes, *, key: str | None = None, **envelope: object) -> bytes:
        """An envelope round a resource, sealed with the merchant's APIv3 key unless another is given."""
        sealed = {
            "original_type": "transaction",
            "algorithm": "AEAD_AES_256_GCM",
            "associated_data": "transaction",
            "nonce": "0123456789ab",
            "ciphertext": crypto.aes_gcm_encrypt(
                (key or self.company.wechat.apiv3_key).encode(), b"0123456789ab", plaintext, b"transaction"
            ),
        }
        return json.dumps(
            {
                "id": "EV-2018022511223320873",
                "create_time": "2026-11-23T13:29:35+08:00",
                "resource_type": "encrypt-resource",
                "event_type": "TRANSACTION.SUCCESS",
                "summary": "支付成功",
                "resource": sealed,
                **envelope,
            }
        ).encode()


async def nothing_moved() -> None:
    assert await Entry.all().count() == 0
    assert await Allocation.all().count() == 0
    assert [payment.state for payment in await Payment.all()] in ([], [PaymentState.OPEN])


async def test_the_same_callback_a_hundred_times_in_parallel_settles_once(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    _home, _opened, out_trade_no = await paid_home(world, sandbox, bills=3)
    callback = await sandbox.called_back(out_trade_no)

    answer = await sandbox.post(f"/sandbox/callbacks/{callback['id']}/resend", {"times": 100, "parallel": True})

    assert answer.json()["statuses"] == [204] * 100
    assert await Entry.all().count() == 1
    assert [entry.amount_fen for entry in await Entry.all()] == [25068 + 25069 + 25070]
    assert await Allocation.all().count() == 3
    (kept,) = await Notification.all()
    assert (kept.outcome, kept.deliveries) == ("applied", 101)
    assert await drain() == ["payment_settled", "send_message"]


async def test_a_hundred_first_deliveries_in_parallel_settle_once(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    """None of them is a repeat of one that has been worked: they all race for the same order."""
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("duplicate", count=100)

    paid = (await sandbox.pay(opened)).json()
    await sandbox.called_back(paid["out_trade_no"], attempts=100)

    assert await Entry.all().count() == 1
    assert await drain() == ["payment_settled", "send_message"]
    assert (await Bill.get(id=home.bill_ids[0])).paid_fen == 25068


async def test_the_callback_comes_before_the_prepay_answer(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    home = await world.home()
    await sandbox.fault("before_answer")

    opened = await home.open()

    assert opened.status_code == 201
    async with asyncio.timeout(5):
        while (await home.owner.get(f"/api/v1/payments/{opened.json()['id']}")).json()["status"] != "paid":
            await asyncio.sleep(0.05)
    assert await Entry.all().count() == 1


async def test_a_probe_is_refused_and_the_true_one_applied(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("signtest", times=1)
    paid = (await sandbox.pay(opened)).json()
    first = await sandbox.called_back(paid["out_trade_no"])
    assert [attempt["status"] for attempt in first["attempts"]] == [401]
    await nothing_moved()
    assert await Notification.all().count() == 0  # nothing of an unverified body is kept

    await sandbox.post("/sandbox/clock", {"speed": 1000})
    second = await sandbox.called_back(paid["out_trade_no"], attempts=2)

    assert [attempt["status"] for attempt in second["attempts"]] == [401, 204]
    assert (await Payment.get(id=opened["id"])).state is PaymentState.PAID


async def test_a_late_callback_is_applied(world: World, sandbox: SandboxControl, drain: Drain, books) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("late", delay_s=600)
    paid = (await sandbox.pay(opened)).json()
    await nothing_moved()

    await sandbox.post("/sandbox/clock", {"speed": 10_000})
    await sandbox.called_back(paid["out_trade_no"])

    assert (await Payment.get(id=opened["id"])).state is PaymentState.PAID


@pytest.mark.parametrize(
    ("fault", "params", "mismatch"),
    [
        ("wrong_amount", {"amount_fen": 1}, "amount"),
        ("wrong_mchid", {}, "mchid"),
        ("wrong_appid", {}, "appid"),
        ("wrong_currency", {}, "currency"),
    ],
)
async def test_a_signed_callback_with_wrong_facts_is_never_applied(
    world: World, sandbox: SandboxControl, drain: Drain, books, fault: str, params: dict, mismatch: str
) -> None:
    """It is quarantined (204: no use in repeating it), WeChat is asked, and WeChat's own answer is applied."""
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault(fault, **params)

    paid = (await sandbox.pay(opened)).json()
    callback = await sandbox.called_back(paid["out_trade_no"])

    assert callback["attempts"][0]["status"] == 204
    await nothing_moved()
    (kept,) = await Notification.all()
    assert (kept.outcome, kept.detail) == ("quarantined", mismatch)
    (case,) = await Discrepancy.all()
    assert (case.kind, case.state, case.facts["mismatches"]) == ("doubtful_notice", "open", [mismatch])

    assert await drain() == ["check_attempt", "payment_settled", "send_message"]
    payment = await Payment.get(id=opened["id"])
    assert (payment.state, payment.surplus_fen) == ("paid", 0)
    assert [entry.amount_fen for entry in await Entry.all()] == [25068]
    (case,) = await Discrepancy.all()
    assert (case.state, case.resolution) == ("resolved", "query_confirmed_payment")


async def test_money_that_came_in_another_amount_goes_to_suspense(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    home = await world.home()
    finance = await world.staff(home.company, Role.FINANCE, home.community)
    opened = (await home.open()).json()
    await sandbox.fault("wrong_amount_order", amount_fen=99)

    paid = (await sandbox.pay(opened)).json()
    await sandbox.called_back(paid["out_trade_no"])
    await nothing_moved()
    assert await drain() == ["check_attempt"]

    assert (await Payment.get(id=opened["id"])).state is PaymentState.SUSPENDED
    bill = await Bill.get(id=home.bill_ids[0])
    assert (bill.state, bill.paid_fen) == ("open", 0)
    summary = (await finance.get(f"/api/v1/staff/communities/{home.community.id}/summary")).json()
    assert {one["account"]: one["credit_fen"] - one["debit_fen"] for one in summary["balances"]} == {
        "wechat_clearing": -99,
        "suspense": 99,
    }
    assert summary["debit_fen"] == summary["credit_fen"] == 99
    cases = (await finance.get("/api/v1/staff/discrepancies")).json()["items"]
    assert [(one["kind"], one["status"], one["amount_fen"]) for one in cases] == [
        ("suspense", "open", 99),
        ("doubtful_notice", "resolved", 99),
    ]
    assert (await home.open()).status_code == 201  # the bill can be paid again


async def test_an_unknown_order_is_told_again_and_applied_once_it_is_known(
    world: World, sandbox: SandboxControl, drain: Drain, owner, books
) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    true_number = (await PaymentAttempt.get()).out_trade_no
    await owner.execute("UPDATE payment_attempts SET out_trade_no = 'Lsomewhere-else'")
    paid = (await sandbox.pay(opened)).json()
    first = await sandbox.called_back(paid["out_trade_no"])
    assert first["attempts"][0]["status"] == 503
    await nothing_moved()
    assert (await Notification.get()).outcome == "unknown_order"

    await owner.execute("UPDATE payment_attempts SET out_trade_no = $1", true_number)
    await sandbox.post("/sandbox/clock", {"speed": 1000})
    await sandbox.called_back(paid["out_trade_no"], attempts=2)

    assert (await Notification.get()).outcome == "applied"
    assert (await Payment.get(id=opened["id"])).state is PaymentState.PAID


async def test_a_forged_signature_changes_nothing(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    await home.open()
    forger = Voice(world.api, home.company, true=False)
    body = json.dumps({"id": "EV-1", "event_type": "TRANSACTION.SUCCESS"}).encode()

    answers = [
        await forger.send(body),
        await forger.send(body, **{"Wechatpay-Serial": "PUB_KEY_ID_unknown"}),
        await forger.send(body, **{"Wechatpay-Serial": "not hex at all"}),
        await forger.send(body, **{"Wechatpay-Signature": ""}),
        await forger.send(body, **{"Wechatpay-Signature": "WECHATPAY/SIGNTEST/" + "A" * 325}),
        await forger.send(body, **{"Wechatpay-Timestamp": "yesterday"}),
        await forger.send(b""),
        await forger.send(b"<xml><return_code>SUCCESS</return_code></xml>", **{"Content-Type": "text/xml"}),
    ]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (401, "notification_unverified")
    ] * len(answers)
    assert await Notification.all().count() == 0
    await nothing_moved()


async def test_a_true_callback_is_stale_after_five_minutes(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    await home.open()
    wechat = Voice(world.api, home.company, true=True)
    body = wechat.notice(b"{}")

    ages = {age_s: (await wechat.send(body, age_s=age_s)).status_code for age_s in (-301, -290, 290, 301)}

    assert ages == {-301: 401, -290: 400, 290: 400, 301: 401}  # 400: believed, and then not understood
    await nothing_moved()


async def fact_of_the_open_order(home: Home) -> dict:
    attempt = await PaymentAttempt.get()
    return {
        "mchid": attempt.mchid,
        "appid": attempt.appid,
        "out_trade_no": attempt.out_trade_no,
        "transaction_id": "4200000000000000000000000001",
        "trade_type": "JSAPI",
        "trade_state": "SUCCESS",
        "bank_type": "OTHERS",
        "success_time": "2026-11-23T13:29:35+08:00",
        "payer": {"openid": home.owner.openid},
        "amount": {"total": 25068, "payer_total": 20068, "currency": "CNY", "payer_currency": "CNY"},
    }


async def test_fields_that_we_do_not_know_are_ignored_and_coupons_do_not_matter(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    wechat = Voice(world.api, home.company, true=True)
    fact = await fact_of_the_open_order(home) | {"promotion_detail": [{"coupon_id": "1"}], "new_field": 1.5}

    answer = await wechat.send(wechat.notice(json.dumps(fact).encode(), another="field"))

    assert (answer.status_code, answer.content) == (204, b"")
    assert (await Payment.get(id=opened["id"])).state is PaymentState.PAID


@pytest.mark.parametrize(
    ("_case", "change"),
    [
        ("no amount", {"amount": None}),
        ("an amount as text", {"amount": {"total": "25068", "currency": "CNY"}}),
        ("an amount with a fraction", {"amount": {"total": 25068.0, "currency": "CNY"}}),
        ("an amount that is true", {"amount": {"total": True, "currency": "CNY"}}),
        ("a negative amount", {"amount": {"total": -25068, "currency": "CNY"}}),
        ("no order", {"out_trade_no": None}),
        ("no transaction", {"transaction_id": ""}),
        ("a naive time", {"success_time": "2026-11-23T13:29:35"}),
        ("no time", {"success_time": None}),
    ],
)
async def test_a_signed_notice_that_makes_no_sense_changes_nothing(
    world: World, sandbox: SandboxControl, _case: str, change: dict
) -> None:
    home = await world.home()
    await home.open()
    wechat = Voice(world.api, home.company, true=True)

    answer = await wechat.send(wechat.notice(json.dumps(await fact_of_the_open_order(home) | change).encode()))

    assert (answer.status_code, answer.json()["code"]) == (400, "notification_malformed")
    assert (await Notification.get()).outcome == "received"  # kept, and worked again if WeChat repeats it
    await nothing_moved()


async def test_signed_bodies_that_are_not_strict_json_are_refused(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    await home.open()
    wechat = Voice(world.api, home.company, true=True)
    fact = json.dumps(await fact_of_the_open_order(home))

    answers = [
        await wechat.send(b"not json"),
        await wechat.send(b"[]"),
        await wechat.send(b"{}"),
        await wechat.send(wechat.notice(b"{}").replace(b'"id"', b'"id":"EV-1","id"')),
        await wechat.send(wechat.notice(fact.replace("25068", "NaN").encode())),
        await wechat.send(wechat.notice(fact.replace('"mchid"', '"mchid":"1","mchid"').encode())),
        await wechat.send(wechat.notice(fact.encode(), create_time="yesterday")),
        await wechat.send(wechat.notice(fact.encode(), id="")),
        await wechat.send(wechat.notice(fact.encode(), resource="none")),
    ]

    assert [answer.json()["code"] for answer in answers] == ["notification_malformed"] * len(answers)
    assert {answer.status_code for answer in answers} == {400}
    assert await Notification.all().count() == 0
    await nothing_moved()


async def test_a_resource_sealed_with_another_key_is_nobodys_word(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    wechat = Voice(world.api, home.company, true=True)

    answer = await wechat.send(wechat.notice(b"{}", key="x" * 32))

    assert (answer.status_code, answer.json()["code"]) == (401, "notification_unverified")
    assert await Notification.all().count() == 0


async def test_a_refund_notice_that_nobody_here_asked_for_is_kept_and_told_again(
    world: World, sandbox: SandboxControl
) -> None:
    home = await world.home()
    wechat = Voice(world.api, home.company, true=True)
    body = wechat.notice(b'{"out_refund_no":"R1"}', event_type="REFUND.SUCCESS")

    answers = [await wechat.send(body, kind="refund") for _ in range(3)]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(503, "unknown_order")] * 3
    assert answers[0].headers["Retry-After"] == "15"
    kept = await Notification.get()
    assert (kept.kind, kept.outcome, kept.deliveries) == ("refund", "unknown_order", 3)
    await nothing_moved()


async def test_a_second_transaction_for_one_order_is_not_applied(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    home, opened, out_trade_no = await paid_home(world, sandbox)
    await sandbox.called_back(out_trade_no)
    await drain()
    wechat = Voice(world.api, home.company, true=True)
    fact = await fact_of_the_open_order(home)

    answer = await wechat.send(wechat.notice(json.dumps(fact).encode()))

    assert answer.status_code == 204
    kept = await Notification.filter(notification_id="EV-2018022511223320873").get()
    assert (kept.outcome, kept.detail) == ("quarantined", "transaction_id")
    assert await Entry.all().count() == 1
    await drain()
    (case,) = await Discrepancy.all()
    assert (case.kind, case.state) == ("doubtful_notice", "resolved")
    assert opened["status"] == "open"


async def test_a_large_body_is_refused_before_anything_else(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()

    answer = await Voice(world.api, home.company, true=False).send(b"x" * (64 * 1024 + 1))

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_an_unknown_merchant_account_is_not_found(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    for merchant in (unknown_id(), "no-id"):
        answer = await world.api.post(f"/callbacks/wechat/pay/{merchant}", content=b"{}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert home.company.merchant.active


async def test_a_callback_signed_by_the_certificate_is_believed_too(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    """While a merchant changes over, both kinds of key sign."""
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("certificate_signed")

    paid = (await sandbox.pay(opened)).json()
    callback = await sandbox.called_back(paid["out_trade_no"])

    assert [attempt["status"] for attempt in callback["attempts"]] == [204]
    assert (await Payment.get(id=opened["id"])).state is PaymentState.PAID


async def test_an_unknown_serial_is_refused(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("unknown_serial")

    paid = (await sandbox.pay(opened)).json()
    callback = await sandbox.called_back(paid["out_trade_no"])

    assert callback["attempts"][0]["status"] == 401
    await nothing_moved()
    assert opened["status"] == "open"


async def test_a_success_after_we_closed_is_still_applied(
    world: World, sandbox: SandboxControl, drain: Drain, owner, books
) -> None:
    """WeChat's word that money came wins over our belief that it did not."""
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("late", delay_s=600)
    paid = (await sandbox.pay(opened)).json()
    await owner.execute(
        "UPDATE payment_attempts SET state = 'closed', next_check_at = NULL;"
        "UPDATE payments SET state = 'closed', closed_at = now(), close_reason = 'expired';"
        "UPDATE payment_bills SET live = false"
    )

    await sandbox.post("/sandbox/clock", {"speed": 10_000})
    await sandbox.called_back(paid["out_trade_no"])

    payment = await Payment.get(id=opened["id"])
    assert (payment.state, payment.close_reason, payment.surplus_fen) == ("paid", None, 0)


async def test_time_of_the_channel_and_of_posting_are_both_kept(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    home, opened, out_trade_no = await paid_home(world, sandbox)
    await sandbox.called_back(out_trade_no)

    entry = await Entry.get()
    payment = await Payment.get(id=opened["id"])
    assert entry.occurred_at == payment.paid_at
    assert entry.posted_on == clock.business_date(entry.posted_at)
    assert timedelta() <= entry.posted_at - entry.occurred_at < timedelta(seconds=30)
    assert home.bills[0].id is not None
