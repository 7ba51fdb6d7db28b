"""The rules of refunds as tables: which moves there are, what follows a refusal, when WeChat is asked, what it said."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.refund import REFUND_ATTEMPT_MACHINE, REFUND_MACHINE, RefundAttemptState, RefundState
from payments.gateways.base import GatewayRefused, OrderNotThere, OutcomeUnknown, RefundStatus
from payments.gateways.wechat_refund import NextStep, next_step, refund_fact, refund_request
from payments.refund_news import next_look

REFUND = """
           asked rejected approved processing failed refunded cancelled
asked      .     x        x        .          .      .        .
rejected   .     .        .        .          .      .        .
approved   .     .        .        x          x      x        x
processing .     .        .        .          x      x        .
failed     .     .        x        x          .      x        x
refunded   .     .        .        .          .      .        .
cancelled  .     .        .        .          .      .        .
"""
ATTEMPT = """
           created accepted succeeded abnormal closed
created    .       x        x         x        x
accepted   .       .        x         x        x
succeeded  .       .        .         .        .
abnormal   .       .        x         .        x
closed     .       .        .         .        .
"""


@pytest.mark.parametrize(
    ("machine", "state", "table"),
    [(REFUND_MACHINE, RefundState, REFUND), (REFUND_ATTEMPT_MACHINE, RefundAttemptState, ATTEMPT)],
)
def test_the_moves(machine: Any, state: Any, table: str) -> None:
    head, *lines = table.strip().splitlines()
    marks = [line.split() for line in lines]
    written = {(line[0], after): mark for line in marks for after, mark in zip(head.split(), line[1:], strict=True)}
    assert {(str(a), str(b)): "x" if machine.allows(a, b) else "." for a in state for b in state} == written


def test_nothing_is_refunded_without_its_time_and_its_number() -> None:
    class Row:
        state = RefundAttemptState.ACCEPTED
        wechat_refund_id = "50"
        succeeded_at = None

    with pytest.raises(ValueError, match="needs succeeded_at"):
        REFUND_ATTEMPT_MACHINE.enter(Row(), RefundAttemptState.SUCCEEDED)


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (OutcomeUnknown("NO_ANSWER"), NextStep.ASK),
        (OutcomeUnknown("HTTP_502"), NextStep.ASK),
        (OutcomeUnknown("SYSTEM_ERROR"), NextStep.ASK),
        (OutcomeUnknown("FREQUENCY_LIMITED"), NextStep.ASK),  # it may be under way: never another number
        (OutcomeUnknown("BAD_SIGNATURE"), NextStep.ASK),
        (GatewayRefused("NOT_ENOUGH"), NextStep.LATER),
        (GatewayRefused("NOTENOUGH"), NextStep.LATER),
        (GatewayRefused("SIGN_ERROR"), NextStep.LATER),
        (GatewayRefused("USER_ACCOUNT_ABNORMAL"), NextStep.STUCK),
        (GatewayRefused("INVALID_REQUEST"), NextStep.STUCK),
        (GatewayRefused("REFUND_FEE_MISMATCH"), NextStep.STUCK),
        (GatewayRefused("TRADE_OVERDUE"), NextStep.STUCK),
        (OutcomeUnknown("TRADE_OVERDUE"), NextStep.STUCK),  # its status is not documented
        (OrderNotThere("RESOURCE_NOT_EXISTS"), NextStep.STUCK),  # the order, not the refund
    ],
)
def test_what_follows_from_a_refusal(error: Any, step: NextStep) -> None:
    assert next_step(error) is step


def test_when_wechat_is_asked() -> None:
    begun = datetime(2026, 11, 23, tzinfo=UTC)
    now, looks = begun, []
    while now < begun + timedelta(days=2):
        now = next_look(begun, now)
        looks.append(int((now - begun).total_seconds()))
    assert looks[:9] == [5, 30, 60, 180, 300, 600, 1800, 5400, 9000]
    assert {later - sooner for sooner, later in itertools.pairwise(looks[6:]) if later <= 86400} == {3600}
    assert looks[-1] - looks[-2] == 6 * 3600
    assert next_look(begun, begun, waiting=True) == begun + timedelta(hours=6)


NOTICE = {
    "mchid": "1900000001",
    "out_trade_no": "L20261123ABC",
    "transaction_id": "4200000001",
    "out_refund_no": "R20261123ABC",
    "refund_id": "5000000001",
    "refund_status": "SUCCESS",
    "success_time": "2026-11-23T14:00:00+08:00",
    "user_received_account": "支付用户零钱",
    "amount": {"total": 999, "refund": 300, "payer_total": 999, "payer_refund": 300},
}


def test_a_notice_and_an_answer_say_the_same_in_their_own_words() -> None:
    told = refund_fact(NOTICE)
    assert (told.status, told.mchid, told.sub_mchid, told.amount_fen, told.total_fen) == (
        RefundStatus.SUCCESS, "1900000001", None, 300, 999,
    )  # fmt: skip
    assert told.currency is None and told.succeeded_at == datetime(2026, 11, 23, 6, tzinfo=UTC)
    answer = {name: value for name, value in NOTICE.items() if name not in ("mchid", "refund_status", "success_time")}
    asked = refund_fact(answer | {"status": "PROCESSING", "amount": {"total": 999, "refund": 300, "currency": "CNY"}})
    assert (asked.status, asked.mchid, asked.currency, asked.succeeded_at) == (
        RefundStatus.PROCESSING, None, "CNY", None,
    )  # fmt: skip
    partner = refund_fact(NOTICE | {"sp_mchid": "1", "sub_mchid": "2"})
    assert (partner.mchid, partner.sub_mchid) == ("1", "2")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"refund_status": "DONE"}, "status"),
        ({"refund_status": None}, "status"),
        ({"success_time": None}, "success_time"),
        ({"success_time": "2026-11-23T14:00:00"}, "success_time"),
        ({"success_time": "yesterday"}, "success_time"),
        ({"amount": None}, "amount"),
        ({"amount": {"refund": 300}}, "amount.total"),
        ({"amount": {"total": 999, "refund": 0}}, "amount.refund"),
        ({"amount": {"total": 999, "refund": "300"}}, "amount.refund"),
        ({"amount": {"total": 999, "refund": True}}, "amount.refund"),
        ({"out_refund_no": ""}, "out_refund_no"),
        ({"out_refund_no": "x" * 65}, "out_refund_no"),
        ({"refund_id": 50}, "refund_id"),
        ({"transaction_id": None}, "transaction_id"),
        ({"mchid": 1}, "mchid"),
    ],
)
def test_what_is_no_fact(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}$"):
        refund_fact(NOTICE | change)


def test_the_body_names_a_sub_merchant_only_for_a_service_provider() -> None:
    order = {"transaction_id": "42", "out_refund_no": "R1", "reason": "多付", "notify_url": "https://x/y",
             "amount_fen": 1, "total_fen": 2}  # fmt: skip
    direct = refund_request(sub_mchid=None, **order)
    assert direct == (
        '{"transaction_id":"42","out_refund_no":"R1","reason":"多付","notify_url":"https://x/y",'
        '"amount":{"refund":1,"total":2,"currency":"CNY"}}'
    )
    assert refund_request(sub_mchid="9", **order) == '{"sub_mchid":"9",' + direct[1:]
