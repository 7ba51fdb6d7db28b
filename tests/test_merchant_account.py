"""Merchant accounts: where money goes, what is switched off, who orders for whom."""

import json
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from models.access import Role
from models.merchant_account import MerchantMode
from models.payment import Payment, PaymentState
from payments.gateways.merchant_keys import MerchantKeys
from payments.gateways.wechat_pay import jsapi_request
from tests.conftest import Drain, SandboxControl
from tests.test_alarm import certificate
from tests.world import World


async def test_bills_of_two_merchants_need_two_payments(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    other = await world.merchant(home.company.id, home.company.legal_entity.id, world.wechat[1])
    water = await world.fee_item(home.company, home.community, "水费", merchant_account_id=other.id)
    bill = await world.bill(home.company, home.room, home.customer, 3600, item=water)

    answer = await home.open(bill_ids=[*home.bill_ids, str(bill.id)])

    assert (answer.status_code, answer.json()["code"]) == (409, "bills_need_separate_payments")
    assert answer.json()["groups"] == sorted([[home.bill_ids[0]], [str(bill.id)]])
    assert await Payment.all().count() == 0
    listed = (await home.owner.get("/api/v1/bills?status=open")).json()["items"]
    assert len({one["pay_group"] for one in listed}) == 2


async def test_nothing_new_is_collected_on_an_account_that_is_switched_off(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    """What was opened before is still settled."""
    home = await world.home(bills=2)
    manager = await world.staff(home.company, Role.MANAGER)
    opened = (await home.open(bill_ids=home.bill_ids[:1])).json()
    account = f"/api/v1/staff/merchant-accounts/{home.company.merchant.id}"
    assert (await manager.patch(account, {"active": False})).status_code == 200

    refused = await home.open(bill_ids=home.bill_ids[1:])

    assert (refused.status_code, refused.json()["code"]) == (409, "bill_not_payable_online")
    assert {bill["pay_group"] for bill in (await home.owner.get("/api/v1/bills")).json()["items"]} == {None}
    paid = (await sandbox.pay(opened)).json()
    await sandbox.called_back(paid["out_trade_no"])
    assert (await Payment.get(id=opened["id"])).state is PaymentState.PAID


def test_a_service_provider_orders_for_the_mini_program_of_the_payer() -> None:
    keys = MerchantKeys(
        mode=MerchantMode.PARTNER,
        mchid="1900000100",
        sub_mchid="1900000109",
        sp_appid="wx8888888888888888",
        serial_no="A" * 40,
        private_key=None,  # type: ignore[arg-type]
        apiv3_key=b"k" * 32,
        wechat_keys={},
    )
    common = {
        "description": "阳光花园 物业费",
        "out_trade_no": "L20261123ABCDEF",
        "amount_fen": 25068,
        "expires_at": datetime(2026, 11, 23, 4, 0, tzinfo=UTC),
        "notify_url": "https://linli.example/callbacks/wechat/pay/1",
    }

    theirs = json.loads(jsapi_request(keys, appid=keys.sp_appid, sub_appid="wx1111111111111111", openid="o1", **common))
    own = json.loads(jsapi_request(keys, appid=keys.sp_appid, sub_appid=None, openid="o1", **common))

    assert theirs["sp_mchid"] == "1900000100" and theirs["sub_mchid"] == "1900000109"
    assert (theirs["sp_appid"], theirs["sub_appid"], theirs["payer"]) == (
        "wx8888888888888888",
        "wx1111111111111111",
        {"sub_openid": "o1"},
    )
    assert theirs["time_expire"] == "2026-11-23T12:00:00+08:00"
    assert "sub_appid" not in own and own["payer"] == {"sp_openid": "o1"}


async def test_a_certificate_tells_when_it_ends_and_fits_its_serial_and_key(
    world: World, sandbox: SandboxControl
) -> None:
    home = await world.home()
    manager = await world.staff(home.company, Role.MANAGER)
    account = f"/api/v1/staff/merchant-accounts/{home.company.merchant.id}"
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    first = (await manager.patch(account, {"serial_no": "06", "private_key": pem})).json()
    assert first["serial_no"] == "06" and first["certificate_expires_at"] is None

    fits = certificate(6, key, days=100)
    ends = datetime.now(UTC) + timedelta(days=100)
    told = (await manager.patch(account, {"certificate": fits})).json()  # of the serial that is there, alone
    assert abs((datetime.fromisoformat(told["certificate_expires_at"]) - ends).total_seconds()) < 7200

    other = rsa.generate_private_key(65537, 2048)
    for refused in (
        {"certificate": certificate(7, key, days=100)},
        {"certificate": "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"},
        {"serial_no": "07", "private_key": pem, "certificate": certificate(7, other, days=100)},
    ):
        answer = await manager.patch(account, refused)
        assert (answer.status_code, answer.json()["code"]) == (422, "certificate_not_valid"), answer.text
        assert (await manager.get(account)).json() == told  # nothing was changed

    # A new key: its certificate tells its end, and without it nobody knows.
    new = {"serial_no": "07", "private_key": pem}
    assert (await manager.patch(account, new)).json()["certificate_expires_at"] is None
    changed = (await manager.patch(account, new | {"certificate": certificate(7, key, days=50)})).json()
    assert changed["serial_no"] == "07" and changed["certificate_expires_at"] < told["certificate_expires_at"]
