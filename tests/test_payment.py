"""Opening a payment: what is refused, what is handed out again, who may take over."""

import asyncio
import secrets
from datetime import date, timedelta

import pytest

from kit import clock
from models.access import Role
from models.bill import Bill
from models.ledger import Allocation, Entry
from models.occupancy import OccupancyKind
from models.organization import LegalEntity
from models.payment import Payment, PaymentAttempt, PaymentState
from tests.conftest import Drain, SandboxControl
from tests.world import World, unknown_id


async def test_an_opened_payment_has_what_the_phone_needs(world: World, sandbox: SandboxControl, books) -> None:
    home = await world.home(bills=2)

    answer = await home.open()

    assert answer.status_code == 201
    payment = answer.json()
    assert payment["status"] == "open"
    assert payment["amount_fen"] == 25068 + 25069
    assert sorted(payment["bill_ids"]) == sorted(home.bill_ids)
    assert set(payment["wechat"]) == {"timeStamp", "nonceStr", "package", "signType", "paySign"}
    assert payment["wechat"]["signType"] == "RSA" and payment["wechat"]["package"].startswith("prepay_id=wx")
    (order,) = await sandbox.orders()
    assert (order["total_fen"], order["openid"], order["trade_state"]) == (50137, home.owner.openid, "NOTPAY")


@pytest.mark.row("WeChat refused the order")
async def test_the_attempt_is_committed_before_wechat_hears_of_it(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    await sandbox.fault("error", operation="prepay", status=400, code="PARAM_ERROR")

    answer = await home.open()

    assert (answer.status_code, answer.json()["code"]) == (502, "wechat_refused")
    attempt = await PaymentAttempt.get()
    payment = await Payment.get()
    assert (attempt.state, payment.state, payment.close_reason) == ("closed", "closed", "refused")
    assert await sandbox.orders() == []
    await sandbox.no_faults()
    assert (await home.open()).status_code == 201  # the bill is free again


async def test_a_double_tap_opens_one_payment(world: World, sandbox: SandboxControl, books) -> None:
    home = await world.home()

    answers = await asyncio.gather(*(home.open() for _ in range(8)))

    good = [answer.json() for answer in answers if answer.status_code == 201]
    assert len(good) == 8, [answer.text for answer in answers]
    assert len({payment["id"] for payment in good}) == 1
    assert await Payment.all().count() == 1
    assert len(await sandbox.orders()) == 1


async def test_the_same_key_gives_the_same_payment_freshly_signed(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()

    first, again = [(await home.open(key="tap-1")).json() for _ in range(2)]

    assert again["id"] == first["id"]
    assert again["wechat"]["package"] == first["wechat"]["package"]
    assert again["wechat"]["paySign"] != first["wechat"]["paySign"]  # signatures age


async def test_the_same_key_for_other_bills_is_an_error(world: World, sandbox: SandboxControl) -> None:
    home = await world.home(bills=2)
    await home.open(bill_ids=[home.bill_ids[0]], key="tap-1")

    answer = await home.open(bill_ids=[home.bill_ids[1]], key="tap-1")

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert await Payment.all().count() == 1


async def test_a_key_is_needed(world: World) -> None:
    home = await world.home()

    answer = await home.owner.api.post(
        "/api/v1/payments",
        json={"bill_ids": home.bill_ids, "channel": "wechat_jsapi"},
        headers=home.owner.headers,
    )

    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_missing")
    assert await Payment.all().count() == 0


async def test_after_payment_the_same_key_shows_it_paid(world: World, sandbox: SandboxControl, drain: Drain) -> None:
    home = await world.home()
    opened = (await home.open(key="tap-1")).json()
    paid = (await sandbox.pay(opened)).json()
    await sandbox.called_back(paid["out_trade_no"])

    again = await home.open(key="tap-1")

    assert again.status_code == 201
    assert (again.json()["id"], again.json()["status"], again.json()["wechat"]) == (opened["id"], "paid", None)


@pytest.mark.row("the payer chose other bills")
async def test_choosing_other_bills_replaces_the_earlier_payment(world: World, sandbox: SandboxControl, books) -> None:
    home = await world.home(bills=2)
    one = (await home.open(bill_ids=[home.bill_ids[0]])).json()

    both = await home.open()

    assert both.status_code == 201 and both.json()["amount_fen"] == 50137
    replaced = await Payment.get(id=one["id"])
    assert (replaced.state, replaced.close_reason) == ("closed", "replaced")
    states = {order["total_fen"]: order["trade_state"] for order in await sandbox.orders()}
    assert states == {25068: "CLOSED", 50137: "NOTPAY"}
    refused = await sandbox.pay(one)  # the old order cannot be paid any more
    assert refused.status_code == 409


@pytest.mark.row("another payer took over after a minute")
async def test_two_phones_on_one_bill(world: World, sandbox: SandboxControl, books) -> None:
    """A family member has to wait a minute; then takes over, and the first phone's order is dead at WeChat."""
    home = await world.home()
    family = await world.resident(home.company)
    member = await world.customer(home.company, "家属乙")
    await world.occupancy(home.room, member, OccupancyKind.FAMILY, resident=family.resident)
    first = (await home.open()).json()

    waiting = await home.open(family)

    assert (waiting.status_code, waiting.json()["code"]) == (409, "payment_in_progress")
    assert 1 <= int(waiting.headers["Retry-After"]) <= 60
    assert await Payment.all().count() == 1
    with clock.travel_to(clock.now() + timedelta(seconds=61)):
        taken_over = await home.open(family)
        assert taken_over.status_code == 201, taken_over.text
        assert (await sandbox.pay(first)).status_code == 409
        assert (await sandbox.pay(taken_over.json())).status_code == 200
    earlier = await Payment.get(id=first["id"])
    assert (earlier.state, earlier.close_reason) == ("closed", "taken_over")


@pytest.mark.row("… but the first had paid")
async def test_taking_over_from_somebody_who_has_paid_settles_that_payment(
    world: World, sandbox: SandboxControl, books
) -> None:
    home = await world.home()
    family = await world.resident(home.company)
    await world.occupancy(
        home.room, await world.customer(home.company, "家属乙"), OccupancyKind.FAMILY, resident=family.resident
    )
    first = (await home.open()).json()
    await sandbox.fault("lost")
    await sandbox.pay(first)  # paid, and we are never told

    with clock.travel_to(clock.now() + timedelta(seconds=61)):
        answer = await home.open(family)

    assert (answer.status_code, answer.json()["code"]) == (409, "bill_already_paid")
    assert (await Payment.get(id=first["id"])).state is PaymentState.PAID
    assert await Payment.all().count() == 1


async def test_two_phones_at_the_very_same_moment(world: World, sandbox: SandboxControl, books) -> None:
    home = await world.home()
    family = await world.resident(home.company)
    await world.occupancy(
        home.room, await world.customer(home.company, "家属乙"), OccupancyKind.FAMILY, resident=family.resident
    )

    answers = await asyncio.gather(*(home.open(person) for person in [home.owner, family] * 4))

    good = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    refused = {answer.json()["code"] for answer in answers if answer.status_code != 201}
    assert len(set(good)) == 1 and len(good) == 4 and refused == {"payment_in_progress"}
    assert await Payment.all().count() == 1


async def test_bills_of_two_debtors_need_two_payments(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    tenant = await world.customer(home.company, "租客丙")
    bill = await world.bill(home.company, home.room, tenant, 8800, month=date(2026, 10, 1))

    answer = await home.open(bill_ids=[*home.bill_ids, str(bill.id)])

    assert (answer.status_code, answer.json()["code"]) == (409, "bills_need_separate_payments")
    assert await Payment.all().count() == 0


async def test_where_the_community_wants_it_the_oldest_arrears_come_first(
    world: World, sandbox: SandboxControl
) -> None:
    home = await world.home(bills=3, oldest_arrears_first=True)

    refused = await home.open(bill_ids=home.bill_ids[1:])

    assert (refused.status_code, refused.json()["code"]) == (409, "oldest_arrears_first")
    assert refused.json()["bill_ids"] == [home.bill_ids[0]]
    assert refused.json()["title"] == "请先缴清较早的欠费：还有1笔，最早的是“2026年09月物业费”。"
    assert await Payment.all().count() == 0
    assert (await home.open(bill_ids=home.bill_ids[:2])).status_code == 201


@pytest.mark.parametrize(
    ("_case", "document", "status", "code"),
    [
        ("no bills", {"bill_ids": [], "channel": "wechat_jsapi"}, 422, "invalid_input"),
        ("a bill twice", {"bill_ids": ["B", "B"], "channel": "wechat_jsapi"}, 422, "repeated_value"),
        (
            "an amount of their own",
            {"bill_ids": ["B"], "channel": "wechat_jsapi", "amount_fen": 1},
            422,
            "unknown_field",
        ),
        ("no channel", {"bill_ids": ["B"]}, 422, "field_missing"),
        ("another channel", {"bill_ids": ["B"], "channel": "cash"}, 422, "invalid_input"),
        ("an unknown bill", {"bill_ids": [unknown_id()], "channel": "wechat_jsapi"}, 404, "not_found"),
        ("text that is no id", {"bill_ids": ["' OR 1=1"], "channel": "wechat_jsapi"}, 404, "not_found"),
        ("numbers", {"bill_ids": [1], "channel": "wechat_jsapi"}, 422, "invalid_input"),
        ("too many", {"bill_ids": [str(n) for n in range(101)], "channel": "wechat_jsapi"}, 422, "invalid_input"),
    ],
)
async def test_bad_requests_change_nothing(
    world: World, sandbox: SandboxControl, _case: str, document: dict, status: int, code: str
) -> None:
    home = await world.home()
    document = document | {
        "bill_ids": [home.bill_ids[0] if one == "B" else one for one in document.get("bill_ids", [])]
    }

    answer = await home.owner.post("/api/v1/payments", document)

    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert await Payment.all().count() == 0 and await sandbox.orders() == []


@pytest.mark.parametrize(
    ("_case", "raw", "status", "code"),
    [
        ("nothing", b"", 400, "malformed_json"),
        ("half", b'{"bill_ids": [', 400, "malformed_json"),
        ("a list", b"[]", 400, "malformed_json"),
        ("a duplicate key", b'{"channel":"wechat_jsapi","channel":"x","bill_ids":["a"]}', 400, "malformed_json"),
        ("not a number", b'{"bill_ids":[NaN],"channel":"wechat_jsapi"}', 400, "malformed_json"),
        ("deep", b'{"bill_ids":' + b"[" * 5000 + b"]" * 5000 + b"}", 400, "json_too_deep"),
        ("large", b'{"bill_ids":["' + b"x" * 70_000 + b'"]}', 413, "body_too_large"),
        ("not UTF-8", b'{"bill_ids":["\xff"]}', 400, "malformed_json"),
    ],
)
async def test_malformed_json_changes_nothing(world: World, _case: str, raw: bytes, status: int, code: str) -> None:
    home = await world.home()
    headers = home.owner.headers | {"Content-Type": "application/json", "Idempotency-Key": secrets.token_hex(4)}

    answer = await home.owner.api.post("/api/v1/payments", content=raw, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await Payment.all().count() == 0


async def test_a_form_is_not_json(world: World) -> None:
    home = await world.home()

    answer = await home.owner.api.post("/api/v1/payments", data={"bill_ids": home.bill_ids}, headers=home.owner.headers)

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


async def test_a_strangers_bill_is_as_unknown_as_none(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    stranger = await world.resident(home.company)

    answer = await home.open(stranger)
    unknown = await home.open(stranger, [unknown_id()])

    assert answer.status_code == unknown.status_code == 404
    assert answer.json() == unknown.json()
    assert await Payment.all().count() == 0


async def test_void_paid_and_draft_bills_cannot_be_paid(world: World, sandbox: SandboxControl, drain: Drain) -> None:
    home = await world.home(bills=2)
    finance = await world.staff(home.company, Role.FINANCE, home.community)
    draft = await world.bill(home.company, home.room, home.customer, month=date(2026, 7, 1), draft=True)
    voided = await finance.post(f"/api/v1/staff/bills/{home.bill_ids[0]}/void", {"reason": "算错了"})
    assert voided.status_code == 200, voided.text
    paid = (await sandbox.pay((await home.open(bill_ids=[home.bill_ids[1]])).json())).json()
    await sandbox.called_back(paid["out_trade_no"])

    answers = [(await home.open(bill_ids=[bill_id])).json() for bill_id in [*home.bill_ids, str(draft.id)]]
    codes = [answer["code"] for answer in answers]
    assert answers[1]["title"] == "账单“2026年11月物业费”已经缴清，无需重复支付。"

    assert codes == ["bill_voided", "bill_already_paid", "not_found"]


@pytest.mark.row("the payer gave up")
async def test_cancelling_closes_the_order_at_wechat_first(world: World, sandbox: SandboxControl, books) -> None:
    home = await world.home()
    opened = (await home.open()).json()

    answer = await home.owner.post(f"/api/v1/payments/{opened['id']}/cancel", None)

    assert (answer.status_code, answer.json()["status"], answer.json()["close_reason"]) == (200, "closed", "cancelled")
    assert [order["trade_state"] for order in await sandbox.orders()] == ["CLOSED"]
    again = await home.owner.post(f"/api/v1/payments/{opened['id']}/cancel", None)
    assert (again.status_code, again.json()["code"]) == (409, "payment_not_open")


@pytest.mark.row("… but had paid")
async def test_cancelling_what_is_paid_settles_it(world: World, sandbox: SandboxControl, books) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    await sandbox.fault("lost")
    await sandbox.pay(opened)

    answer = await home.owner.post(f"/api/v1/payments/{opened['id']}/cancel", None)

    assert (answer.status_code, answer.json()["status"]) == (200, "paid")
    assert (await Bill.get(id=home.bill_ids[0])).state == "paid"


async def test_the_phone_says_it_has_paid_and_wechat_is_asked(world: World, sandbox: SandboxControl, books) -> None:
    home = await world.home()
    opened = (await home.open()).json()
    before = await home.owner.post(f"/api/v1/payments/{opened['id']}/confirm", None)
    assert before.json()["status"] == "open"  # the phone's word alone decides nothing
    await sandbox.fault("lost")
    await sandbox.pay(opened)

    with clock.travel_to(clock.now() + timedelta(seconds=3)):
        after = await home.owner.post(f"/api/v1/payments/{opened['id']}/confirm", None)

    assert after.json()["status"] == "paid"
    assert await Entry.all().count() == 1 and await Allocation.all().count() == 1


@pytest.mark.row("a bill was voided or paid otherwise meanwhile")
async def test_voiding_a_bill_under_way_closes_its_payment(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    home = await world.home()
    finance = await world.staff(home.company, Role.FINANCE, home.community)
    opened = (await home.open()).json()

    await finance.post(f"/api/v1/staff/bills/{home.bill_ids[0]}/void", {"reason": "算错了"})
    assert await drain() == ["close_payment"]

    payment = await Payment.get(id=opened["id"])
    assert (payment.state, payment.close_reason) == ("closed", "bill_changed")
    assert [order["trade_state"] for order in await sandbox.orders()] == ["CLOSED"]


@pytest.mark.row("… but the money came first")
async def test_money_for_a_bill_voided_meanwhile_becomes_surplus(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    home = await world.home(bills=2)
    finance = await world.staff(home.company, Role.FINANCE, home.community)
    opened = (await home.open()).json()
    await finance.post(f"/api/v1/staff/bills/{home.bill_ids[0]}/void", {"reason": "算错了"})
    paid = (await sandbox.pay(opened)).json()  # quicker than the job that closes it
    await sandbox.called_back(paid["out_trade_no"])
    await drain()

    payment = await Payment.get(id=opened["id"])
    assert (payment.state, payment.surplus_fen) == ("paid", 25068)
    assert [(bill.state, bill.paid_fen) for bill in await Bill.all().order_by("amount_fen")] == [
        ("void", 0),
        ("paid", 25069),
    ]
    summary = (await finance.get(f"/api/v1/staff/communities/{home.community.id}/summary")).json()
    balances = {one["account"]: one["credit_fen"] - one["debit_fen"] for one in summary["balances"]}
    assert balances == {"wechat_clearing": -50137, "received": 25069, "surplus": 25068}
    (case,) = (await finance.get("/api/v1/staff/discrepancies?status=open")).json()["items"]
    assert (case["kind"], case["amount_fen"]) == ("surplus", 25068)


async def test_arrears_that_cannot_be_paid_online_or_are_anothers_stand_in_nobodys_way(
    world: World, sandbox: SandboxControl
) -> None:
    home = await world.home(oldest_arrears_first=True)
    other = await LegalEntity.create(organization_id=home.company.id, name="装修公司")
    item = await world.fee_item(home.company, home.community, "装修费", legal_entity_id=other.id)
    offline = await world.bill(home.company, home.room, home.customer, 100, month=date(2026, 1, 1), item=item)
    tenant = await world.customer(home.company, "租客丙")
    await world.bill(home.company, home.room, tenant, 200, month=date(2026, 2, 1))
    assert offline.merchant_account_id is None  # the community's account is of another legal entity

    assert (await home.open()).status_code == 201
