"""Callbacks of a test's own making: forged, stale, malformed, or in WeChat's voice saying what it never would."""

import json
import secrets

import httpx
import pytest

from kit import clock, crypto
from kit.wechat_signature import response_message
from models.discrepancy import Discrepancy
from models.ledger import Entry
from models.notification import Notification
from models.payment import Payment, PaymentAttempt, PaymentState
from tests.conftest import Drain, SandboxControl
from tests.test_callback import nothing_moved, paid_home
from tests.world import Company, Home, World, unknown_id


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


REFUND = {
    "mchid": "1900000001",
    "out_trade_no": "L20261123NOBODYS",
    "transaction_id": "4200000001",
    "out_refund_no": "R1",
    "refund_id": "5000000001",
    "refund_status": "SUCCESS",
    "success_time": "2026-11-23T14:00:00+08:00",
    "amount": {"total": 999, "refund": 300, "payer_total": 999, "payer_refund": 300},
}


async def test_a_refund_notice_of_an_order_that_is_not_here_is_kept_and_told_again(
    world: World, sandbox: SandboxControl
) -> None:
    home = await world.home()
    wechat = Voice(world.api, home.company, true=True)
    body = wechat.notice(json.dumps(REFUND).encode(), event_type="REFUND.SUCCESS")

    answers = [await wechat.send(body, kind="refund") for _ in range(3)]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(503, "unknown_order")] * 3
    assert answers[0].headers["Retry-After"] == "15"
    kept = await Notification.get()
    assert (kept.kind, kept.outcome, kept.deliveries) == ("refund", "unknown_order", 3)
    await nothing_moved()


async def test_what_is_no_refund_notice_of_ours(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    wechat = Voice(world.api, home.company, true=True)
    event = {"event_type": "REFUND.SUCCESS"}
    nothing = wechat.notice(b"{}", id="EV-1", **event)
    untimely = wechat.notice(json.dumps(REFUND | {"success_time": None}).encode(), id="EV-2", **event)
    misled = wechat.notice(json.dumps(REFUND).encode(), id="EV-3", **event)

    answers = [
        await wechat.send(nothing, kind="refund"),
        await wechat.send(untimely, kind="refund"),
        await wechat.send(misled, kind="pay"),
        await wechat.send(wechat.notice(b"{}", id="EV-4", event_type="TRANSACTION.SUCCESS"), kind="refund"),
        await wechat.send(b"<xml><return_code>SUCCESS</return_code></xml>", kind="refund"),  # as APIv2 told of refunds
        await Voice(world.api, home.company, true=False).send(misled, kind="refund"),
    ]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (400, "notification_malformed"),
        (400, "notification_malformed"),
        (503, "unknown_order"),
        (503, "unknown_order"),
        (400, "notification_malformed"),
        (401, "notification_unverified"),
    ]
    assert await Discrepancy.all().count() == 0
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
