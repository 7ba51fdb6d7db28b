"""A service provider's merchant account, end to end: opened, paid, called back, queried, closed and refunded for a
sub-merchant, from the provider's own mini-program and from the sub-merchant's."""

import json

import pytest

import payments
from models.access import Role
from models.discrepancy import Discrepancy
from models.ledger import Entry
from models.merchant_account import MerchantAccount, MerchantMode
from models.notification import Notification
from models.payment import Payment, PaymentAttempt
from models.refund import RefundAttempt
from tests.conftest import Drain, SandboxControl
from tests.surplus_home import Surplus, paid_for_nothing, states, sweep_after
from tests.test_callback_body import Voice
from tests.world import Home, World

SUB = "1900000109"


async def partner_home(world: World, sandbox: SandboxControl, *, own_app: bool) -> Home:
    """A home whose community is paid as a sub-merchant of the first merchant; the payer is in the provider's own
    mini-program, or in that of the sub-merchant."""
    provider = world.wechat[0]
    sub_app = world.wechat[2].appid
    registered = await sandbox.client.put(
        f"/sandbox/merchants/{provider.mchid}",
        json={
            "serial_no": provider.serial_no,
            "public_key": provider.public_key,
            "apiv3_key": provider.apiv3_key,
            "appids": [provider.appid],
            "sub_merchants": {SUB: [sub_app]},
        },
    )
    assert registered.status_code == 200, registered.text
    company = await world.company(0 if own_app else 2)
    account = company.merchant if own_app else await world.merchant(company.id, company.legal_entity.id, provider)
    await MerchantAccount.filter(id=account.id).update(
        mode=MerchantMode.PARTNER, sub_mchid=SUB, sp_appid=provider.appid
    )
    company.merchant, company.wechat = account, provider
    community = await world.community(company)
    room = await world.room(community)
    owner, customer = await world.owner(company, room)
    return Home(company, community, room, owner, customer, [await world.bill(company, room, customer)])


@pytest.mark.parametrize("own_app", [True, False], ids=["provider's app", "sub-merchant's app"])
async def test_from_the_order_to_the_refund(
    world: World, sandbox: SandboxControl, drain: Drain, books, own_app: bool
) -> None:
    home = await partner_home(world, sandbox, own_app=own_app)
    finance = await world.staff(home.company, Role.FINANCE, home.community)

    opened = await home.open()

    assert opened.status_code == 201, opened.text
    attempt = await PaymentAttempt.get()
    sent = json.loads(attempt.request)
    sub_app = None if own_app else world.wechat[2].appid
    assert (sent["sp_mchid"], sent["sub_mchid"], sent["sp_appid"]) == ("1900000001", SUB, world.wechat[0].appid)
    assert sent.get("sub_appid") == sub_app
    assert sent["payer"] == {"sp_openid" if own_app else "sub_openid": home.owner.openid}
    assert await payments.check_attempt(attempt.id) == "open"  # the query, before anybody paid
    await finance.post(f"/api/v1/staff/bills/{home.bill_ids[0]}/void", {"reason": "算错了"})
    paid = (await sandbox.pay(opened.json())).json()
    callback = await sandbox.called_back(paid["out_trade_no"])
    assert [one["status"] for one in callback["attempts"]] == [204]
    assert callback["resource"]["sub_mchid"] == SUB
    await drain()
    assert (await Payment.get()).surplus_fen == 25068

    (case,) = (await finance.get("/api/v1/staff/discrepancies?status=open")).json()["items"]
    surplus = Surplus(home, finance, sandbox, opened.json()["id"], case["id"], paid["out_trade_no"], 25068)
    await sandbox.fault("refund_outcome", outcome="PROCESSING")
    assert (await surplus.send_back()).json()["status"] == "processing"
    assert json.loads((await RefundAttempt.get()).request)["sub_mchid"] == SUB
    await sweep_after(6)  # the query
    assert await states() == ("processing", "accepted")
    await surplus.decide("SUCCESS")
    notice = await surplus.noticed()
    assert [one["status"] for one in notice["attempts"]] == [204]
    assert await states() == ("refunded", "succeeded")
    assert await Discrepancy.filter(state="open").count() == 0
    assert await payments.check_attempt(attempt.id) == "paid"  # its order says REFUND by now


async def test_an_order_is_closed(world: World, sandbox: SandboxControl, drain: Drain, books) -> None:
    home = await partner_home(world, sandbox, own_app=False)
    opened = (await home.open()).json()

    cancelled = await home.owner.post(f"/api/v1/payments/{opened['id']}/cancel")

    assert cancelled.json()["status"] == "closed"
    assert [order["trade_state"] for order in await sandbox.orders()] == ["CLOSED"]


@pytest.mark.parametrize(
    ("name", "value"), [("sub_mchid", "1900000110"), ("sp_mchid", "1900000002"), ("sub_appid", "wx0000000000000000")]
)
async def test_a_callback_for_another_sub_merchant_is_quarantined_and_wechat_asked(
    world: World, sandbox: SandboxControl, drain: Drain, books, name: str, value: str
) -> None:
    home = await partner_home(world, sandbox, own_app=False)
    opened = (await home.open()).json()
    await sandbox.fault("lost")
    paid = (await sandbox.pay(opened)).json()
    (true,) = await sandbox.callbacks(paid["out_trade_no"])
    voice = Voice(world.api, home.company, true=True)

    answer = await voice.send(voice.notice(json.dumps(true["resource"] | {name: value}).encode()))

    assert answer.status_code == 204
    assert (await Notification.get()).outcome == "quarantined"
    case = await Discrepancy.get()
    assert (case.kind, case.facts["mismatches"]) == ("doubtful_notice", ["mchid" if name == "sp_mchid" else name])
    assert await Entry.all().count() == 0
    assert (await drain())[0] == "check_attempt"
    assert (await Payment.get()).state == "paid"
    assert (await Discrepancy.get()).state == "resolved"


async def test_a_refund_notice_for_another_sub_merchant_is_quarantined(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    home = await partner_home(world, sandbox, own_app=True)
    finance = await world.staff(home.company, Role.FINANCE, home.community)
    surplus = await paid_for_nothing(home, finance, sandbox, drain, home.bill_ids)
    await sandbox.fault("lost", of="refund")
    await surplus.send_back()
    await surplus.decide("SUCCESS")
    true = next(one for one in await sandbox.callbacks(surplus.out_trade_no) if one["event_type"] == "REFUND.SUCCESS")
    voice = Voice(world.api, home.company, true=True)
    wrong = json.dumps(true["resource"] | {"sub_mchid": "1900000110"}).encode()

    answer = await voice.send(voice.notice(wrong, event_type="REFUND.SUCCESS"), kind="refund")

    assert answer.status_code == 204
    assert await states() == ("processing", "accepted")
    assert (await Discrepancy.get(kind="doubtful_refund")).facts["mismatches"] == ["sub_mchid"]
    assert "check_refund" in await drain()
    assert await states() == ("refunded", "succeeded")
