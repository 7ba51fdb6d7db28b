"""Refunds of surplus through WeChat: sent once, decided only by WeChat's notice or its answer, posted once."""

import asyncio
import json
from datetime import timedelta

import pytest

import payments
from kit import clock
from models.access import Role
from models.discrepancy import Discrepancy
from models.ledger import Entry
from models.message import Message
from models.notification import Notification
from models.payment import Payment, PaymentAttempt, SurplusFate
from models.refund import Refund, RefundAttempt
from payments import refund as refund_module
from payments import surplus as surplus_module
from payments.gateways.base import RefundStatus
from payments.gateways.wechat_pay import WechatPay
from payments.merchant import gateway_of, settings
from tests.conftest import Drain, SandboxControl
from tests.surplus_home import Surplus, balances, states, surplus_home, sweep_after
from tests.world import World, unknown_id


@pytest.fixture
async def surplus(world: World, sandbox: SandboxControl, drain: Drain) -> Surplus:
    """A surplus of 250.68, about which nothing is decided. A refund is decided by hand."""
    found = await surplus_home(world, sandbox, drain)
    await sandbox.fault("refund_outcome", outcome="PROCESSING")
    return found


async def case_of(kind: str) -> tuple[str, str | None]:
    case = await Discrepancy.get(kind=kind)
    return str(case.state), case.resolution


@pytest.mark.row("… returned")
async def test_from_too_much_paid_to_refunded_as_the_resident_sees_it(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    surplus = await surplus_home(world, sandbox, drain, bills=2)
    undecided = await surplus.shown()
    assert (undecided["surplus_fen"], undecided["surplus_fate"], undecided["refunds"]) == (25068, None, [])
    assert undecided["notice"] == "多付的250.68元由物业财务核实，将退回或留存，届时通知您。"

    answer = await surplus.send_back()

    assert answer.status_code == 201
    refund = answer.json()
    assert (refund["status"], refund["status_text"], refund["amount_fen"]) == ("processing", "退款处理中", 25068)
    assert await balances() == {"wechat_clearing": 50137, "received": -25069, "refund_pending": -25068}
    under_way = await surplus.shown()
    assert under_way["notice"] == "多付的250.68元退款处理中。"
    assert [one["status"] for one in under_way["refunds"]] == ["processing"]
    assert await case_of("surplus") == ("resolved", "surplus_returned")
    assert await Message.filter(kind="refunded").count() == 0

    await sandbox.post("/sandbox/clock", {"advance_s": 3})  # WeChat's time to do it
    notice = await surplus.noticed()

    assert [one["status"] for one in notice["attempts"]] == [204]
    assert await drain() == ["refund_settled", "send_message"]
    seen = await surplus.shown()
    assert seen["notice"] == "多付的250.68元已退款。"
    assert [(one["status"], one["status_text"], one["amount_fen"]) for one in seen["refunds"]] == [
        ("refunded", "已退款", 25068)
    ]
    assert (seen["status"], seen["surplus_fate"]) == ("paid", "returned")
    assert await balances() == {"wechat_clearing": 25069, "received": -25069}
    posted = {entry.kind: entry for entry in await Entry.filter(source_id=refund["id"])}
    assert set(posted) == {"refund_approved", "refunded"}
    attempt = await RefundAttempt.get()
    assert attempt.succeeded_at == posted["refunded"].occurred_at == (await Refund.get()).refunded_at
    messages = (await surplus.home.owner.get("/api/v1/messages")).json()["items"]
    assert (messages[0]["kind"], messages[0]["data"]["amount2"]) == ("refunded", "250.68元")
    (listed,) = (await surplus.finance.get("/api/v1/staff/refunds?status=refunded")).json()["items"]
    assert (listed["id"], listed["attempts"][0]["status"]) == (refund["id"], "succeeded")
    journal = await surplus.finance.get(
        f"/api/v1/staff/communities/{surplus.home.community.id}/entries?payment_id={surplus.payment_id}"
    )
    assert [(one["kind"], one["refund_id"]) for one in journal.json()["items"]][:2] == [
        ("refunded", refund["id"]),
        ("refund_approved", refund["id"]),
    ]
    # A payment of which a part went back was paid all the same.
    assert (await payments.check_attempt((await PaymentAttempt.get()).id)) == "paid"


async def test_what_is_sent_is_what_was_committed_to_the_byte(
    surplus: Surplus, sandbox: SandboxControl, books, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    true = WechatPay._call_once

    async def spy(self, method: str, target: str, body: bytes):
        sent.append(body)
        return await true(self, method, target, body)

    monkeypatch.setattr(WechatPay, "_call_once", spy)
    await sandbox.fault("answer_lost", operation="refund", how="500", times=3)
    await surplus.send_back()
    assert await states() == ("approved", "created")

    attempt = await RefundAttempt.get()
    assert sent == [attempt.request.encode()] * 3
    body = json.loads(attempt.request)
    assert body["amount"] == {"refund": 25068, "total": 25068, "currency": "CNY"}
    assert body["notify_url"].endswith(f"/callbacks/wechat/refund/{surplus.home.company.merchant.id}")
    assert (body["out_refund_no"], body["reason"]) == (attempt.out_refund_no, "账单已作废")
    assert len(await surplus.at_wechat()) == 1

    await sweep_after(6)  # WeChat knows it: nothing is sent again
    assert await states() == ("processing", "accepted")
    await surplus.decide("SUCCESS")
    await surplus.noticed()
    assert await states() == ("refunded", "succeeded")
    assert len(await surplus.at_wechat()) == 1


async def test_a_refund_that_never_reached_wechat_is_sent_again_under_its_number(
    surplus: Surplus, sandbox: SandboxControl, books
) -> None:
    await sandbox.fault("error", operation="refund", status=500, code="SYSTEM_ERROR", times=3)
    await surplus.send_back()
    first = await RefundAttempt.get()
    assert await surplus.at_wechat() == []

    await sweep_after(6)

    (there,) = await surplus.at_wechat()
    assert there["out_refund_no"] == first.out_refund_no
    assert await states() == ("processing", "accepted")


async def test_a_crash_after_the_commit_is_repaired_by_the_sweep(
    surplus: Surplus, sandbox: SandboxControl, drain: Drain, books, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as crashed:
        crashed.setattr(payments, "submit_refund", lambda _refund_id: asyncio.sleep(0))
        assert (await surplus.send_back()).json()["status"] == "approved"
    assert await surplus.at_wechat() == []

    assert await sweep_after(6) == 1
    await surplus.decide("SUCCESS")
    await surplus.noticed()

    assert await states() == ("refunded", "succeeded")
    assert await drain() == ["refund_settled", "send_message"]


async def test_a_lost_notice_loses_nothing(surplus: Surplus, sandbox: SandboxControl, drain: Drain, books) -> None:
    await sandbox.fault("lost", of="refund")
    await surplus.send_back()
    await surplus.decide("SUCCESS")
    assert await states() == ("processing", "accepted")

    await sweep_after(6)

    assert await states() == ("refunded", "succeeded")
    assert await drain() == ["refund_settled", "send_message"]
    assert await sweep_after(10 * 86400) == 0  # decided: nobody looks again


async def test_the_notice_comes_before_the_answer(world: World, sandbox: SandboxControl, drain: Drain, books) -> None:
    surplus = await surplus_home(world, sandbox, drain)
    await sandbox.fault("before_answer", operation="refund")

    answer = await surplus.send_back()

    assert answer.json()["status"] == "refunded"
    assert await states() == ("refunded", "succeeded")
    assert await Entry.filter(kind="refunded").count() == 1


async def test_fifty_notices_in_parallel_post_once(
    surplus: Surplus, sandbox: SandboxControl, drain: Drain, books
) -> None:
    await sandbox.fault("duplicate", count=50, of="refund")
    await surplus.send_back()
    await surplus.decide("SUCCESS")
    notice = await surplus.noticed(attempts=50)
    assert {one["status"] for one in notice["attempts"]} == {204}
    again = await sandbox.post(f"/sandbox/callbacks/{notice['id']}/resend", {"times": 5, "parallel": True})
    assert again.json()["statuses"] == [204] * 5

    assert await Entry.filter(kind="refunded").count() == 1
    payment = await Payment.get(id=surplus.payment_id)
    assert (payment.reserved_fen, payment.refunded_fen) == (0, 25068)
    assert await drain() == ["refund_settled", "send_message"]
    (kept,) = await Notification.filter(kind="refund")
    assert (kept.outcome, kept.deliveries) == ("applied", 55)


async def test_an_abnormal_refund_waits_for_a_person_and_may_yet_succeed(
    surplus: Surplus, sandbox: SandboxControl, drain: Drain, books
) -> None:
    await surplus.send_back()
    await surplus.decide("ABNORMAL")
    await surplus.noticed("REFUND.ABNORMAL")
    assert await states() == ("failed", "abnormal")
    assert (await case_of("refund_stuck"))[0] == "open"
    assert [one["status_text"] for one in (await surplus.shown())["refunds"]] == ["退款处理中"]
    refund = (await surplus.finance.get("/api/v1/staff/refunds?status=failed")).json()["items"][0]
    assert (refund["problem"], refund["status_text"]) == ("ABNORMAL", "退款受阻，待财务处理")
    for act, body in (("retry", None), ("cancel", {"reason": "改为留存"})):
        refused = await surplus.finance.post(f"/api/v1/staff/refunds/{refund['id']}/{act}", body)
        assert (refused.status_code, refused.json()["code"]) == (409, "refund_at_wechat")
    words = await surplus.finance.post(
        f"/api/v1/staff/discrepancies/{(await Discrepancy.get(kind='refund_stuck')).id}/resolve",
        {"resolution": "看过了"},
    )
    assert (words.status_code, words.json()["code"]) == (409, "case_needs_decision")

    await surplus.decide("SUCCESS")  # made to succeed at the merchant platform
    await surplus.noticed("REFUND.SUCCESS")

    assert await states() == ("refunded", "succeeded")
    assert await case_of("refund_stuck") == ("resolved", "refunded")
    assert await balances() == {}


async def test_a_closed_refund_is_tried_again_under_a_new_number_only(
    surplus: Surplus, sandbox: SandboxControl, books
) -> None:
    refund_id = (await surplus.send_back()).json()["id"]
    await surplus.decide("CLOSED")
    closed = await surplus.noticed("REFUND.CLOSED")
    assert await states() == ("failed", "closed")
    assert (await Payment.get(id=surplus.payment_id)).reserved_fen == 25068  # still meant to go back

    retried = await surplus.finance.post(f"/api/v1/staff/refunds/{refund_id}/retry", None, key="again")
    second = await surplus.finance.post(f"/api/v1/staff/refunds/{refund_id}/retry", None, key="again")

    assert (retried.status_code, retried.json()["status"]) == (200, "processing")
    assert (second.status_code, len(second.json()["attempts"])) == (200, 2)
    numbers = [one.out_refund_no for one in await RefundAttempt.all()]
    assert len(set(numbers)) == 2
    assert sorted(one["out_refund_no"] for one in await surplus.at_wechat()) == sorted(numbers)
    # The old number's word, told once more, is old news.
    await sandbox.post(f"/sandbox/callbacks/{closed['id']}/resend", {"times": 1})
    assert await states() == ("processing", "accepted")
    await surplus.decide("SUCCESS")
    await surplus.noticed("REFUND.SUCCESS")
    assert await states() == ("refunded", "succeeded")


@pytest.mark.parametrize(
    ("status", "code", "refund_state", "problem", "sent_again"),
    [
        (403, "NOT_ENOUGH", "approved", "NOT_ENOUGH", True),
        (429, "FREQUENCY_LIMITED", "approved", None, True),
        (403, "USER_ACCOUNT_ABNORMAL", "failed", "USER_ACCOUNT_ABNORMAL", False),
        (400, "TRADE_OVERDUE", "failed", "TRADE_OVERDUE", False),
    ],
)
async def test_what_wechat_refuses(
    surplus: Surplus,
    sandbox: SandboxControl,
    books,
    status: int,
    code: str,
    refund_state: str,
    problem: str | None,
    sent_again: bool,
) -> None:
    await sandbox.fault("error", operation="refund", status=status, code=code, times=1)

    answer = await surplus.send_back()

    assert (answer.status_code, answer.json()["status"], answer.json()["problem"]) == (201, refund_state, problem)
    cases = await Discrepancy.filter(kind="refund_stuck", state="open")
    assert len(cases) == (problem is not None)
    for case in cases:
        words = await surplus.finance.post(f"/api/v1/staff/discrepancies/{case.id}/resolve", {"resolution": "看过了"})
        assert (words.status_code, words.json()["code"]) == (409, "case_needs_decision")
    number = (await RefundAttempt.get()).out_refund_no
    await sweep_after(7 * 3600)
    assert [one["out_refund_no"] for one in await surplus.at_wechat()] == [number] * sent_again
    if not sent_again:
        # Nobody sends it again but a person: then under the same number.
        await surplus.finance.post(f"/api/v1/staff/refunds/{answer.json()['id']}/retry", None)
    assert await states() == ("processing", "accepted")
    assert await Discrepancy.filter(kind="refund_stuck", state="open").count() == 0
    assert (await RefundAttempt.get()).out_refund_no == number


async def test_after_a_year_nothing_is_sent(surplus: Surplus, sandbox: SandboxControl, owner, books) -> None:
    await owner.execute("UPDATE payments SET paid_at = paid_at - interval '366 days'")

    answer = await surplus.send_back()

    assert (answer.json()["status"], answer.json()["problem"]) == ("failed", "TRADE_OVERDUE")
    assert await surplus.at_wechat() == []
    # It was never sent, so it can be given up at once, and the surplus kept.
    cancelled = await surplus.finance.post(
        f"/api/v1/staff/refunds/{answer.json()['id']}/cancel", {"reason": "超过一年"}
    )
    assert cancelled.json()["status"] == "cancelled"
    assert (await surplus.keep()).status_code == 201


async def test_a_cancelled_refund_is_reversed_and_the_surplus_decided_anew(
    surplus: Surplus, sandbox: SandboxControl, books
) -> None:
    await sandbox.fault("error", operation="refund", status=403, code="NOT_ENOUGH")
    refund_id = (await surplus.send_back()).json()["id"]
    cancel = f"/api/v1/staff/refunds/{refund_id}/cancel"
    soon = await surplus.finance.post(cancel, {"reason": "改为留存"})
    assert (soon.status_code, soon.json()["code"]) == (409, "refund_just_sent")
    assert int(soon.headers["Retry-After"]) <= 300
    assert await balances() == {"wechat_clearing": 25068, "refund_pending": -25068}

    with clock.travel_to(clock.now() + timedelta(seconds=301)):
        done = await surplus.finance.post(cancel, {"reason": "改为留存"})

    assert (done.status_code, done.json()["status"]) == (200, "cancelled")
    assert await balances() == {"wechat_clearing": 25068, "surplus": -25068}
    assert await case_of("surplus") == ("open", None)
    assert await case_of("refund_stuck") == ("resolved", "refund_cancelled")
    shown = await surplus.shown()
    assert (shown["surplus_fate"], shown["refunds"]) == (None, [])
    again = await surplus.finance.post(cancel, {"reason": "改为留存"})
    assert (again.status_code, again.json()["code"]) == (409, "move_not_allowed")
    await sandbox.no_faults()
    assert (await surplus.send_back()).json()["status"] == "processing"  # a refund of its own, with its own number


async def test_what_wechat_has_is_not_cancelled(surplus: Surplus, sandbox: SandboxControl, books) -> None:
    """Our books say that it was refused; WeChat, asked, has it."""
    await sandbox.fault("answer_lost", operation="refund", how="500", times=3)
    refund_id = (await surplus.send_back()).json()["id"]
    with clock.travel_to(clock.now() + timedelta(seconds=301)):
        await sandbox.fault("error", operation="refund_query", status=503, code="SERVICE_UNAVAILABLE", times=1)
        away = await surplus.finance.post(f"/api/v1/staff/refunds/{refund_id}/cancel", {"reason": "改为留存"})
        assert (away.status_code, away.json()["code"]) == (503, "wechat_unavailable")
        assert await states() == ("approved", "created")
        refused = await surplus.finance.post(f"/api/v1/staff/refunds/{refund_id}/cancel", {"reason": "改为留存"})

    assert (refused.status_code, refused.json()["code"]) == (409, "refund_at_wechat")
    assert await states() == ("processing", "accepted")


async def test_a_send_between_our_question_and_our_cancel_wins(
    surplus: Surplus, sandbox: SandboxControl, books, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sandbox.fault("error", operation="refund", status=403, code="NOT_ENOUGH", times=1)
    refund_id = (await surplus.send_back()).json()["id"]
    true = WechatPay.ask_refund

    async def rival_first(self, out_refund_no: str):
        monkeypatch.setattr(WechatPay, "ask_refund", true)
        answer = await true(self, out_refund_no)
        await sandbox.fault("error", operation="refund", status=500, code="SYSTEM_ERROR", times=3)
        await payments.submit_refund((await Refund.get()).id)
        return answer

    monkeypatch.setattr(WechatPay, "ask_refund", rival_first)
    with clock.travel_to(clock.now() + timedelta(seconds=301)):
        refused = await surplus.finance.post(f"/api/v1/staff/refunds/{refund_id}/cancel", {"reason": "改为留存"})

    assert (refused.status_code, refused.json()["code"]) == (409, "refund_just_sent")
    assert await states() == ("approved", "created")


async def test_a_notice_that_disagrees_is_quarantined_and_wechat_asked(
    surplus: Surplus, sandbox: SandboxControl, drain: Drain, books
) -> None:
    await surplus.send_back()
    await sandbox.fault("wrong_amount", amount_fen=1, of="refund")
    await surplus.decide("SUCCESS")
    notice = await surplus.noticed()
    assert [one["status"] for one in notice["attempts"]] == [204]
    assert (await Notification.get(kind="refund")).outcome == "quarantined"
    case = await Discrepancy.get(kind="doubtful_refund")
    assert case.facts["mismatches"] in (["amount"], ["amount", "total"], ["total"])
    assert await states() == ("processing", "accepted")
    assert await Entry.filter(kind="refunded").count() == 0

    assert (await drain())[0] == "check_refund"

    assert await states() == ("refunded", "succeeded")
    assert await case_of("doubtful_refund") == ("resolved", "query_agrees_with_the_refund")
    assert [entry.amount_fen for entry in await Entry.filter(kind="refunded")] == [25068]


async def test_wechats_own_answer_that_disagrees_moves_nothing_and_calls_finance(
    surplus: Surplus, sandbox: SandboxControl, books, monkeypatch: pytest.MonkeyPatch
) -> None:
    await surplus.send_back()
    true = WechatPay.ask_refund

    async def less(self, out_refund_no: str):
        fact = await true(self, out_refund_no)
        return type(fact)(**{**vars(fact), "amount_fen": 1})

    with monkeypatch.context() as changed:
        changed.setattr(WechatPay, "ask_refund", less)
        await sweep_after(6)
    assert await states() == ("failed", "accepted")
    assert (await Refund.get()).problem == "FACTS_DIFFER"
    assert await Discrepancy.filter(kind__in=["refund_stuck", "doubtful_refund"], state="open").count() == 2

    await sweep_after(7 * 3600)  # it was a mistake of a moment
    assert await states() == ("processing", "accepted")
    assert await Discrepancy.filter(state="open").count() == 0


async def test_a_number_that_was_given_up_and_succeeds_after_all_is_finances(
    surplus: Surplus, sandbox: SandboxControl, owner, books
) -> None:
    await sandbox.fault("lost", of="refund")
    await surplus.send_back()
    await surplus.decide("SUCCESS")
    attempt = await RefundAttempt.get()
    gateway = await gateway_of(attempt.merchant_account_id)
    fact = await gateway.ask_refund(attempt.out_refund_no)
    assert fact is not None and fact.status is RefundStatus.SUCCESS
    closed = type(fact)(**{**vars(fact), "status": RefundStatus.CLOSED, "succeeded_at": None})
    await refund_module.hear_refund(attempt.merchant_account_id, closed, asked=True)
    assert await states() == ("failed", "closed")

    heard = await refund_module.hear_refund(attempt.merchant_account_id, fact, asked=True)

    assert (str(heard.outcome), heard.mismatches) == ("doubtful", ("status",))
    assert await states() == ("failed", "closed")
    assert (await case_of("doubtful_refund"))[0] == "open"


async def test_a_refund_made_by_hand_at_wechats_site_is_a_case(
    surplus: Surplus, sandbox: SandboxControl, books
) -> None:
    url = settings().notify_url("refund", surplus.home.company.merchant.id)
    made = await sandbox.post(
        "/sandbox/refunds", {"out_trade_no": surplus.out_trade_no, "amount_fen": 300, "notify_url": url}
    )
    assert made.status_code == 200, made.text
    await surplus.decide("SUCCESS")
    notice = await surplus.noticed()

    assert [one["status"] for one in notice["attempts"]] == [204]
    case = await Discrepancy.get(kind="foreign_refund")
    assert (case.state, case.amount_fen, str(case.payment_id)) == ("open", 300, surplus.payment_id)
    assert case.facts["came"]["status"] == "SUCCESS"
    assert case.facts["payment"]["amount_fen"] == 25068
    assert await Entry.all().count() == 1  # what it means for the books is for finance to say
    await sandbox.post(f"/sandbox/callbacks/{notice['id']}/resend", {"times": 3})
    assert await Discrepancy.filter(kind="foreign_refund").count() == 1


async def test_while_wechat_is_away_nothing_is_decided(surplus: Surplus, sandbox: SandboxControl, books) -> None:
    await sandbox.fault("lost", of="refund")
    await surplus.send_back()
    await surplus.decide("SUCCESS")
    await sandbox.fault("error", operation="refund_query", status=503, code="SERVICE_UNAVAILABLE")
    for minutes in (1, 40, 200):
        await sweep_after(minutes * 60)
        assert await states() == ("processing", "accepted")
    await sandbox.no_faults()
    await sandbox.fault("bad_signature", operation="refund_query", times=1)
    await sweep_after(30 * 3600)
    assert await states() == ("processing", "accepted")
    await sweep_after(60 * 3600)
    assert await states() == ("refunded", "succeeded")


async def test_two_clerks_at_once_are_one_decision(surplus: Surplus, world: World, books) -> None:
    other = await world.staff(surplus.home.company, Role.FINANCE, surplus.home.community)

    answers = await asyncio.gather(
        *(surplus.send_back(person) for person in (surplus.finance, other)),
        *(surplus.keep(person=person) for person in (surplus.finance, other)),
    )

    assert sorted(one.status_code for one in answers) == [201, 409, 409, 409]
    refused = [one.json()["code"] for one in answers if one.status_code == 409]
    assert refused == ["surplus_decided"] * 3


async def test_two_refunds_at_once_never_exceed_what_came(
    surplus: Surplus, monkeypatch: pytest.MonkeyPatch, owner
) -> None:
    """The lock with the fate under it is the guard. With it off the program approves two refunds of the whole; then the
    database refuses the second, and with that off too the books say so."""

    async def unguarded(case: Discrepancy, fate: SurplusFate) -> Payment:
        payment = await Payment.get(id=case.payment_id)
        await asyncio.sleep(0.1)  # both have read before either writes
        payment.surplus_fate = fate
        await payment.save(update_fields=["surplus_fate"])
        return payment

    monkeypatch.setattr(surplus_module, "_decide_tx", unguarded)
    answers = await asyncio.gather(surplus.send_back(), surplus.send_back())
    assert sorted(one.status_code for one in answers) == [201, 500]
    assert await Refund.all().count() == 1

    await owner.execute("DROP INDEX refunds_one_of_surplus")
    assert (await surplus.send_back()).status_code == 500  # payments_returned_within_received
    await owner.execute("ALTER TABLE payments DROP CONSTRAINT payments_returned_within_received")
    assert (await surplus.send_back()).status_code == 201
    assert {one.number for one in await payments.violations()} >= {"L8", "L18", "L23"}


async def test_a_repeat_with_its_key_gives_the_same_refund(surplus: Surplus, books) -> None:
    first = await surplus.send_back(key="once")
    second = await surplus.send_back(key="once")
    other = await surplus.send_back(key="twice")

    assert first.json()["id"] == second.json()["id"]
    assert (other.status_code, other.json()["code"], other.json()["fate"]) == (409, "surplus_decided", "returned")


async def test_who_may(surplus: Surplus, world: World, books) -> None:
    cashier = await world.staff(surplus.home.company, Role.CASHIER, surplus.home.community)
    auditor = await world.staff(surplus.home.company, Role.AUDITOR, surplus.home.community)
    stranger = await world.staff(await world.company(), Role.FINANCE)
    assert (await surplus.send_back(cashier)).status_code == 404  # does not even see the case
    assert (await surplus.send_back(auditor)).status_code == 403
    assert (await surplus.send_back(stranger)).status_code == 404
    assert await Refund.all().count() == 0
    refund_id = (await surplus.send_back()).json()["id"]
    path = f"/api/v1/staff/refunds/{refund_id}"
    assert (await cashier.get(path)).status_code == 200
    assert (await stranger.get(path)).json() == (await stranger.get(f"/api/v1/staff/refunds/{unknown_id()}")).json()
    assert (await stranger.get("/api/v1/staff/refunds")).json()["items"] == []
    assert (await auditor.post(f"{path}/check", None)).status_code == 403
    assert (await surplus.finance.post(f"{path}/check", None)).json()["status"] == "processing"
