"""The sandbox's bills: the official form, what really happened, whose day it is, and files that cannot be trusted."""

import gzip
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kit import clock
from sandbox import bill, fund
from sandbox.testing import MCHID, Desk, desk

BILLS = json.loads((Path(__file__).parent / "data" / "wechat_vectors.json").read_text(encoding="utf-8"))["bills"]
TODAY = clock.today()


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as opened:
        yield opened


def parsed(content: bytes) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Rows and summary by column name, read as a client reads them."""
    header, *lines, summary_header, summary = content.decode("utf-8-sig").split("\r\n")[:-1]
    read = [line.removeprefix("`").split(",`") for line in (*lines, summary)]
    rows = [dict(zip(header.split(","), values, strict=True)) for values in read[:-1]]
    return rows, dict(zip(summary_header.split(","), read[-1], strict=True))


async def tomorrow(shop: Desk, at: str = "10:30") -> None:
    answer = await shop.control("POST", "/sandbox/clock", {"advance_to": f"tomorrow {at}"})
    assert answer.json()["reached"][11:16] == at


async def asked(shop: Desk, query: str, route: str = "tradebill") -> Any:
    return await shop.signed("GET", f"/v3/bill/{route}?{query}")


async def downloaded(shop: Desk, told: dict[str, str]) -> bytes:
    answer = await shop.signed("GET", told["download_url"].removeprefix(shop.base))
    assert answer.status_code == 200, answer.text
    assert "wechatpay-signature" not in answer.headers
    return gzip.decompress(answer.content) if "tartype=gzip" in told["download_url"] else answer.content


async def fetched(shop: Desk, query: str, route: str = "tradebill") -> tuple[list[dict[str, str]], dict[str, str]]:
    answer = await asked(shop, query, route)
    assert answer.status_code == 200, answer.text
    assert shop.verifies(answer.headers, answer.content)
    content = await downloaded(shop, answer.json())
    assert hashlib.sha1(content, usedforsecurity=False).hexdigest() == answer.json()["hash_value"]
    return parsed(content)


async def fault(shop: Desk, kind: str, **rest: Any) -> None:
    assert (await shop.control("POST", "/sandbox/faults", {"kind": kind, **rest})).status_code == 200


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_the_form_is_the_official_one_to_the_byte() -> None:
    sample = BILLS["tradebill_ALL_sample"]
    header, *lines, summary_header, summary = sample["lines"]
    read = [line.removeprefix("`").split(",`") for line in (*lines, summary)]
    made = bill.csv_file(header.split(","), read[:-1], summary_header.split(","), read[-1])
    assert len(made) == sample["bytes"]
    assert hashlib.sha1(made, usedforsecurity=False).hexdigest() == sample["sha1_of_plain_file"]
    headers = BILLS["headers"]
    assert {kind: ",".join(names) for kind, names in bill.TRADE_HEADERS.items()} == {
        kind: headers[kind] for kind in ("ALL", "SUCCESS", "REFUND")
    }
    assert ",".join(bill.TRADE_SUMMARY) == headers["summary"]
    assert (",".join(bill.FLOW_HEADER), ",".join(bill.FLOW_SUMMARY)) == (
        headers["fundflow"],
        headers["fundflow_summary"],
    )


def test_commission_is_rounded_to_the_fen_and_comes_back_in_proportion() -> None:
    # The official sample: 39 % of 0.03 yuan is written 0.01000, of 0.01 yuan 0.00000.
    assert [fund.commission_fen(fen, 3900) for fen in (3, 1)] == [1, 0]
    assert [fund.commission_fen(fen, 60) for fen in (10000, 83, 84, 1)] == [60, 0, 1, 0]
    trade = {"fee_fen": 60, "total_fen": 10000}
    assert fund.returned_fen(trade, 0, 5000) == 30
    # By any parts, all of it gives all of it back.
    parts = [1, 83, 84, 3333, 6499]
    assert sum(fund.returned_fen(trade, sum(parts[:i]), part) for i, part in enumerate(parts)) == 60


async def test_a_days_bills_are_what_happened(shop: Desk) -> None:
    orders = [
        shop.order(amount={"total": 10000, "currency": "CNY"}, description="物业费,十一月\n3栋", attach="bill-1"),
        shop.order(amount={"total": 500, "currency": "CNY"}),
    ]
    for order in orders:
        await shop.paid(order)
    await shop.place(shop.order())
    refund = shop.refund(orders[0], 5000)
    refund_id = (await shop.refunded(refund)).json()["refund_id"]
    await shop.decide(refund_id, "SUCCESS")
    closed = shop.refund(orders[1], 100)
    await shop.decide((await shop.refunded(closed)).json()["refund_id"], "CLOSED")
    await tomorrow(shop)

    rows, summary = await fetched(shop, f"bill_date={TODAY}&bill_type=ALL&tar_type=GZIP")
    assert [(row["商户订单号"], row["交易状态"], row["退款状态"]) for row in rows] == [
        (orders[0]["out_trade_no"], "SUCCESS", ""),
        (orders[1]["out_trade_no"], "SUCCESS", ""),
        (orders[0]["out_trade_no"], "REFUND", "SUCCESS"),
        (orders[1]["out_trade_no"], "REFUND", "FAIL"),
    ]
    paid, back = rows[0], rows[2]
    assert paid["商品名称"] == "物业费\\ 十一月\\n3栋"
    assert (paid["商户数据包"], paid["特约商户号"], paid["微信退款单号"]) == ("bill-1", "0", "0")
    assert (paid["应结订单金额"], paid["订单金额"], paid["手续费"], paid["费率"]) == (
        *("100.00", "100.00", "0.60000", "0.60%"),
    )
    assert (back["应结订单金额"], back["退款金额"], back["手续费"], back["退款类型"]) == (
        *("0.00", "50.00", "-0.30000", "ORIGINAL"),
    )
    assert (back["微信退款单号"], back["商户退款单号"]) == (refund_id, refund["out_refund_no"])
    assert summary == {
        "总交易单数": "4",
        "应结订单总金额": "105.00",
        "退款总金额": "51.00",
        "充值券退款总金额": "0.00",
        "手续费总金额": "0.32000",
        "订单总金额": "105.00",
        "申请退款总金额": "51.00",
    }
    rows, _ = await fetched(shop, f"bill_date={TODAY}&bill_type=SUCCESS")
    assert [row["订单金额"] for row in rows] == ["100.00", "5.00"]
    rows, _ = await fetched(shop, f"bill_date={TODAY}&bill_type=REFUND")
    assert [(row["退款金额"], bool(row["退款成功时间"])) for row in rows] == [("50.00", True), ("1.00", False)]

    rows, summary = await fetched(shop, f"bill_date={TODAY}&tar_type=GZIP", "fundflowbill")
    assert [(row["业务名称"], row["收支类型"], row["收支金额(元)"], row["账户结余(元)"]) for row in rows] == [
        ("交易", "收入", "100.00", "100.00"),
        ("扣除交易手续费", "支出", "0.60", "99.40"),
        ("交易", "收入", "5.00", "104.40"),
        ("扣除交易手续费", "支出", "0.03", "104.37"),
        ("退款", "支出", "49.70", "54.67"),
        ("退款", "支出", "0.99", "53.68"),
        ("退款关闭退回", "收入", "0.99", "54.67"),
    ]
    assert rows[4]["备注"] == "退款总金额50.00元;含手续费0.30元"
    assert summary == {
        "资金流水总笔数": "7",
        "收入笔数": "3",
        "收入金额": "105.99",
        "支出笔数": "4",
        "支出金额": "51.32",
    }


async def test_money_that_is_not_there_cannot_go_back(shop: Desk) -> None:
    order = shop.order(amount={"total": 10000, "currency": "CNY"})
    await shop.paid(order)
    path = f"/sandbox/merchants/{MCHID}/movements"
    assert (await shop.control("POST", path, {"amount_fen": -9900})).json()["balance_fen"] == 40
    refund = shop.refund(order)
    answer = await shop.refunded(refund)
    assert refusal(answer) == (403, "NOT_ENOUGH")
    # Recharged, the same number goes through, and what is left is what was there before it was paid.
    assert (await shop.control("POST", path, {"amount_fen": 9900})).json()["balance_fen"] == 9940
    assert (await shop.refunded(refund)).status_code == 200
    assert (await shop.control("POST", path, {"amount_fen": 7, "account": "OPERATION"})).json()["balance_fen"] == 0
    for body in ({"amount_fen": 0}, {"amount_fen": 1, "account": "MINE"}, {"amount_fen": "1"}):
        assert (await shop.control("POST", path, body)).status_code == 422
    assert (await shop.control("POST", "/sandbox/merchants/1/movements", {"amount_fen": 1})).status_code == 404
    await tomorrow(shop)
    rows, _ = await fetched(shop, f"bill_date={TODAY}&account_type=OPERATION", "fundflowbill")
    assert [(row["业务名称"], row["收支金额(元)"]) for row in rows] == [("充值", "0.07")]
    answer = await asked(shop, f"bill_date={TODAY}&account_type=FEES", "fundflowbill")
    assert refusal(answer) == (400, "NO_STATEMENT_EXIST")


async def test_a_day_is_the_day_of_payment_in_beijing(shop: Desk) -> None:
    midnight = datetime.combine(TODAY, datetime.min.time(), clock.BEIJING)
    numbers = {}
    for name, paid_at in (("before", midnight - timedelta(seconds=1)), ("after", midnight)):
        order = shop.order()
        numbers[name] = order["out_trade_no"]
        body = {"prepay_id": (await shop.place(order)).json()["prepay_id"], "success_time": paid_at.isoformat()}
        assert (await shop.control("POST", "/sandbox/pay", body)).status_code == 200
        assert (await shop.query(order["out_trade_no"])).json()["success_time"] == paid_at.isoformat()
    await tomorrow(shop)
    for day, name in ((TODAY - timedelta(days=1), "before"), (TODAY, "after")):
        rows, _ = await fetched(shop, f"bill_date={day}")
        assert [row["商户订单号"] for row in rows] == [numbers[name]]
    for text in ("2026-11-23", "soon", (midnight + timedelta(days=2)).isoformat()):
        body = {"prepay_id": (await shop.place()).json()["prepay_id"], "success_time": text}
        assert (await shop.control("POST", "/sandbox/pay", body)).status_code == 422


async def test_when_a_bill_can_be_had(shop: Desk) -> None:
    await shop.paid()
    assert refusal(await asked(shop, f"bill_date={TODAY}")) == (400, "INVALID_REQUEST")
    await tomorrow(shop, "09:59")
    assert refusal(await asked(shop, f"bill_date={TODAY}")) == (400, "STATEMENT_CREATING")
    await shop.control("POST", "/sandbox/clock", {"advance_s": 60})
    assert (await asked(shop, f"bill_date={TODAY}")).status_code == 200
    for query, code in (
        (f"bill_date={TODAY - timedelta(days=1)}", "NO_STATEMENT_EXIST"),
        (f"bill_date={TODAY}&bill_type=REFUND", "NO_STATEMENT_EXIST"),
        (f"bill_date={TODAY - timedelta(days=92)}", "INVALID_REQUEST"),
        (f"bill_date={TODAY + timedelta(days=1)}", "INVALID_REQUEST"),
        ("bill_date=2026-2-30", "PARAM_ERROR"),
        ("bill_date=", "PARAM_ERROR"),
        ("bill_type=ALL", "PARAM_ERROR"),
        (f"bill_date={TODAY}&bill_type=SOME", "PARAM_ERROR"),
        (f"bill_date={TODAY}&tar_type=ZIP", "PARAM_ERROR"),
    ):
        assert refusal(await asked(shop, query)) == (400, code), query
    assert refusal(await asked(shop, f"bill_date={TODAY}&sub_mchid=1900000109")) == (403, "NO_AUTH")
    for body in ({"advance_to": "tomorrow"}, {"advance_to": "2026-13-01T00:00:00+08:00"}, {"advance_to": "2020-01-01"}):
        assert (await shop.control("POST", "/sandbox/clock", body)).status_code == 422


def test_three_months_back() -> None:
    days = [datetime(2026, month, day, tzinfo=clock.BEIJING).date() for month, day in ((11, 23), (5, 31), (1, 15))]
    assert [str(bill._months_back(day)) for day in days] == ["2026-08-23", "2026-02-28", "2025-10-15"]


async def test_a_download_lives_five_minutes_and_is_the_askers(shop: Desk) -> None:
    await shop.paid()
    await tomorrow(shop)
    told = (await asked(shop, f"bill_date={TODAY}")).json()
    target = told["download_url"].removeprefix(shop.base)
    assert (await shop.signed("GET", target, signature="bm8=")).status_code == 401
    other = {"serial_no": "5" * 40, "public_key": shop.merchant.public_key, "apiv3_key": "k" * 32, "appids": []}
    await shop.control("PUT", "/sandbox/merchants/1900000001", other)
    answer = await shop.signed("GET", target, mchid="1900000001", serial_no="5" * 40)
    assert refusal(answer) == (403, "NO_AUTH")
    await shop.control("POST", "/sandbox/clock", {"advance_s": 290})
    assert (await downloaded(shop, told)).startswith("\ufeff交易时间".encode())
    await shop.control("POST", "/sandbox/clock", {"advance_s": 10})
    assert refusal(await shop.signed("GET", target)) == (400, "INVALID_REQUEST")


async def test_bills_that_do_not_agree(shop: Desk) -> None:
    orders = [shop.order() for _ in range(3)]
    for order in orders:
        await shop.paid(order)
    await tomorrow(shop)
    query = f"bill_date={TODAY}"
    numbers = [order["out_trade_no"] for order in orders]
    await fault(shop, "bill_missing_row", out_trade_no=numbers[1], times=1)
    rows, summary = await fetched(shop, query)
    assert [row["商户订单号"] for row in rows] == [numbers[0], numbers[2]]
    # The file agrees with itself: only the merchant's own books tell.
    assert (summary["总交易单数"], summary["订单总金额"]) == ("2", "771.20")
    await fault(shop, "bill_extra_row", amount_fen=700, times=1)
    rows, _ = await fetched(shop, query)
    assert [row["商户订单号"] for row in rows[:3]] == numbers
    assert rows[3]["订单金额"] == rows[3]["应结订单金额"] == "7.00"
    assert rows[3]["商户订单号"] not in numbers
    await fault(shop, "bill_wrong_amount", amount_fen=1, out_trade_no=numbers[2], times=1)
    rows, _ = await fetched(shop, query)
    assert [row["订单金额"] for row in rows] == ["385.60", "385.60", "0.01"]
    await fault(shop, "bill_wrong_amount", amount_fen=1, times=1)
    flows, _ = await fetched(shop, query, "fundflowbill")
    assert [row["收支金额(元)"] for row in flows][:2] == ["0.01", "2.31"]
    await fault(shop, "bill_wrong_hash", times=1)
    told = (await asked(shop, query)).json()
    content = await downloaded(shop, told)
    assert hashlib.sha1(content, usedforsecurity=False).hexdigest() != told["hash_value"]
    await fault(shop, "answer_lost", operation="billdownload", how="500", times=1)
    assert refusal(await shop.signed("GET", told["download_url"].removeprefix(shop.base))) == (500, "SYSTEM_ERROR")
    await fault(shop, "error", operation="tradebill", status=429, code="FREQUENCY_LIMITED", times=1)
    assert refusal(await asked(shop, query)) == (429, "FREQUENCY_LIMITED")
    assert len((await fetched(shop, query))[0]) == 3


async def test_a_refund_that_is_still_on_its_way_stays_so_in_the_bill(shop: Desk) -> None:
    order = shop.order()
    await shop.paid(order)
    await fault(shop, "refund_outcome", outcome="PROCESSING")
    refund_id = (await shop.refunded(shop.refund(order))).json()["refund_id"]
    await tomorrow(shop)
    [row], _ = await fetched(shop, f"bill_date={TODAY}&bill_type=REFUND")
    assert row["退款状态"] == "PROCESSING"
    # Decided two days later: the bill of the day is not written again.
    with clock.travel_to(clock.now() + timedelta(days=2)):
        await shop.decide(refund_id, "SUCCESS")
        [row], _ = await fetched(shop, f"bill_date={TODAY}&bill_type=REFUND")
    assert (row["退款状态"], row["退款成功时间"]) == ("PROCESSING", "")
