"""``linli tour``: the story over HTTP against the running program, every step shown as asked and answered."""

import asyncio
import json
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

import httpx

from kit import clock
from kit.money import format_yuan

_HIDDEN = {"token", "paySign", "password", "code"}
_LONGEST = 330
_BILLS_SHOWN = 6
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{6}([0-9a-f]{6})")


class StepWrong(Exception):
    """A step's answer is not what the story says."""


class Tour:
    """Asks, shows, and remembers what the next step needs."""

    def __init__(self, api: httpx.AsyncClient, wechat: httpx.AsyncClient) -> None:
        self.api = api
        self.wechat = wechat
        self.number = 0

    def step(self, chinese: str, english: str) -> None:
        """Announce a step."""
        self.number += 1
        print(f"\n{self.number:2}. {chinese} — {english}")

    async def ask(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        at_wechat: bool = False,
        token: str = "",
        key: str = "",
        expect: int = 200,
    ) -> Any:
        """One request and its answer, both printed; StepWrong for another status than expected."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= {"Idempotency-Key": key} if key else {}
        client = self.wechat if at_wechat else self.api
        shown = f" {_brief(document)}" if document is not None else ""
        print(f"    → {'sandbox ' if at_wechat else ''}{method} {_short(path)}{shown}")
        answer = await client.request(method, path, json=document, headers=headers)
        body = answer.json() if "json" in answer.headers.get("content-type", "") else None
        print(f"    ← {answer.status_code} {_brief(body)}")
        if answer.status_code != expect:
            raise StepWrong(f"{method} {path} answered {answer.status_code} instead of {expect}")
        return body

    def note(self, text: str) -> None:
        """A remark under a step."""
        print(f"      {text}")

    def must(self, fact: bool, otherwise: str) -> None:
        """StepWrong unless the fact holds."""
        if not fact:
            raise StepWrong(otherwise)


def _brief(document: Any) -> str:
    """JSON on one line, secrets hidden, ids shortened, cut where it gets long."""
    text = _short(json.dumps(_hide(document), ensure_ascii=False))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " …"


def _short(text: str) -> str:
    """An id is known by its last letters: …55560742265b."""
    return _ID.sub(lambda found: f"…{found[1]}", text)


def _hide(document: Any) -> Any:
    if isinstance(document, Mapping):
        return {
            name: "…" if (name in _HIDDEN and isinstance(value, str) and len(value) > 20) or name == "password"
            else _hide(value)
            for name, value in document.items()
        }  # fmt: skip
    if isinstance(document, list):
        return [_hide(one) for one in document]
    return document


async def play(demo: Mapping[str, Any]) -> int:
    """Play the story; 0 when every step went as told, else 1."""
    options: dict[str, Any] = {"timeout": 30, "trust_env": False}
    try:
        async with (
            httpx.AsyncClient(base_url=demo["addresses"]["api"], **options) as api,
            httpx.AsyncClient(base_url=demo["addresses"]["sandbox"], **options) as wechat,
        ):
            await _story(Tour(api, wechat), demo)
    except StepWrong as wrong:
        print(f"\nWRONG: {wrong}")
        return 1
    except httpx.HTTPError as error:
        print(f"\nWRONG: nobody answers at {demo['addresses']['api']} ({type(error).__name__}); start with: make run")
        return 1
    print("\nEvery step went as told. 每一步都对。")
    return 0


async def _story(tour: Tour, demo: Mapping[str, Any]) -> None:
    token, room = await _come_home(tour, demo)
    finance, issued_id = await _issue(tour, demo, room)
    payment, key, bill_ids = await _choose_and_open(tour, token, room, issued_id)
    await _tap_again(tour, token, payment, key, bill_ids)
    receipt_id = await _pay(tour, token, payment)
    await _look_at_receipt(tour, token, receipt_id, payment)
    await _look_as_finance(tour, finance, room, payment)


async def _come_home(tour: Tour, demo: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    resident = next(one for one in demo["residents"] if one["key"] == "未绑定")
    tour.step("打开小程序", "the resident opens the mini-program; wx.login gives a code")
    given = await tour.ask(
        "POST", "/sandbox/login-code", {"openid": resident["openid"], "app": resident["appid"]}, at_wechat=True
    )
    signed_in = await tour.ask("POST", "/api/v1/auth/wechat", {"code": given["code"], "app": resident["appid"]})
    token = signed_in["token"]

    tour.step("授权手机号", "shares the phone; the register holds it, so the room is bound by itself")
    given = await tour.ask(
        "POST", "/sandbox/phone-code", {"openid": resident["openid"], "phone": resident["phone"]}, at_wechat=True
    )
    await tour.ask("POST", "/api/v1/auth/phone", {"code": given["code"]}, token=token)
    rooms = (await tour.ask("GET", "/api/v1/rooms", token=token))["items"]
    tour.must(bool(rooms), "the resident is bound to no room")
    return token, rooms[0]


async def _issue(tour: Tour, demo: Mapping[str, Any], room: Mapping[str, Any]) -> tuple[str, str]:
    tour.step("物业出账", "finance issues one more bill for the room, with the words how it came about")
    clerk = next(one for one in demo["staff"] if one["role"] == "finance" and one["community"] == room["community"])
    signed_in = await tour.ask(
        "POST", "/api/v1/auth/staff", {"username": clerk["username"], "password": clerk["password"]}
    )
    token: str = signed_in["token"]
    items = await tour.ask("GET", f"/api/v1/staff/communities/{room['community_id']}/fee-items", token=token)
    occupancies = await tour.ask("GET", f"/api/v1/staff/rooms/{room['id']}/occupancies", token=token)
    owner = next(one for one in occupancies["items"] if one["kind"] == "owner")
    today = clock.today().isoformat()
    bill = {
        "community_id": room["community_id"],
        "room_id": room["id"],
        "customer_id": owner["customer"]["id"],
        "purpose": f"tour:{secrets.token_hex(6)}",
        "title": "门禁卡补办",
        "accrued_on": today,
        "due_on": today,
        "lines": [
            {
                "fee_item_id": next(item["id"] for item in items["items"] if item["name"] == "物业费"),
                "title": "门禁卡",
                "amount_fen": 3000,
                "quantity": "2",
                "unit": "张",
                "unit_price": "15.00",
                "formula": "2 张 × 15.00 元",
            }
        ],
    }
    made = await tour.ask("POST", "/api/v1/staff/bills", bill, token=token, key=secrets.token_hex(8), expect=201)
    return token, made["id"]


async def _choose_and_open(
    tour: Tour, token: str, room: Mapping[str, Any], issued_id: str
) -> tuple[dict[str, Any], str, list[str]]:
    tour.step("看账单", "sees what is owed and how each amount came about")
    listed = await tour.ask("GET", f"/api/v1/bills?status=open&limit=100&room_id={room['id']}", token=token)
    earlier = len(listed["items"]) - _BILLS_SHOWN
    if earlier > 0:
        tour.note(f"… and {earlier} earlier ones")
    for bill in listed["items"][-_BILLS_SHOWN:]:
        formula = bill["lines"][0]["formula"]
        tour.note(f"{bill['due_on']}  {format_yuan(bill['amount_fen']):>10} 元  {bill['title']}（{formula}）")
    newest = next((bill for bill in listed["items"] if bill["id"] == issued_id), None)
    tour.must(newest is not None and bool(newest["pay_group"]), "the bill just issued cannot be paid")
    chosen = [bill for bill in listed["items"] if newest and bill["pay_group"] == newest["pay_group"]][-3:]
    bill_ids = [bill["id"] for bill in chosen]
    total = sum(bill["amount_fen"] - bill["credited_fen"] - bill["paid_fen"] for bill in chosen)

    tour.step("发起支付", f"ticks {len(chosen)} bills and pays {format_yuan(total)} yuan")
    key = secrets.token_hex(8)
    payment = await tour.ask(
        "POST",
        "/api/v1/payments",
        {"bill_ids": bill_ids, "channel": "wechat_jsapi"},
        token=token,
        key=key,
        expect=201,
    )
    tour.must(payment["amount_fen"] == total, "the payment's amount is not the sum of the bills")
    return payment, key, bill_ids


async def _tap_again(tour: Tour, token: str, payment: Mapping[str, Any], key: str, bill_ids: list[str]) -> None:
    tour.step("手抖点了两次", "a double tap: the same payment again, freshly signed, nothing opened twice")
    again = await tour.ask(
        "POST",
        "/api/v1/payments",
        {"bill_ids": bill_ids, "channel": "wechat_jsapi"},
        token=token,
        key=key,
        expect=201,
    )
    tour.must(again["id"] == payment["id"], "a second payment was opened")


async def _pay(tour: Tour, token: str, payment: Mapping[str, Any]) -> str:
    tour.step("微信支付", "the phone pays; WeChat calls back, and the money is posted")
    prepay_id = payment["wechat"]["package"].removeprefix("prepay_id=")
    paid = await tour.ask("POST", "/sandbox/pay", {"prepay_id": prepay_id}, at_wechat=True)
    seen = await _until_receipt(tour, token, payment["id"])
    tour.must(seen["status"] == "paid", f"the payment is {seen['status']}, not paid")

    tour.step("微信重复通知", "WeChat says it five more times: answered 204, nothing happens twice")
    listed = await tour.wechat.get("/sandbox/callbacks", params={"out_trade_no": paid["out_trade_no"]})
    callback = listed.json()["callbacks"][0]
    answered = await tour.ask(
        "POST", f"/sandbox/callbacks/{callback['id']}/resend", {"times": 5, "parallel": True}, at_wechat=True
    )
    tour.must(answered["statuses"] == [204] * 5, "a repeated callback was not answered 204")
    return str(seen["receipt_id"])


async def _until_receipt(tour: Tour, token: str, payment_id: str) -> dict[str, Any]:
    """Poll like a phone does, quietly, for at most 20 s; the last answer is shown."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        answer = await tour.api.get(f"/api/v1/payments/{payment_id}", headers={"Authorization": f"Bearer {token}"})
        if answer.json().get("receipt_id"):
            break
        await asyncio.sleep(0.2)
    seen: dict[str, Any] = await tour.ask("GET", f"/api/v1/payments/{payment_id}", token=token)
    tour.must(bool(seen["receipt_id"]), "no receipt was issued within 20 seconds: is the worker running?")
    return seen


async def _look_at_receipt(tour: Tour, token: str, receipt_id: str, payment: Mapping[str, Any]) -> None:
    tour.step("收据", "a numbered receipt, with the amount in Chinese capitals")
    receipt = await tour.ask("GET", f"/api/v1/receipts/{receipt_id}", token=token)
    tour.note(f"{receipt['number']}  ¥{format_yuan(receipt['amount_fen'])}  {receipt['amount_in_capitals']}")
    tour.must(receipt["amount_fen"] == payment["amount_fen"], "the receipt says another amount")
    tour.must(
        sum(item["amount_fen"] for item in receipt["items"]) == receipt["amount_fen"],
        "the receipt's items do not add up",
    )
    messages = await tour.ask("GET", "/api/v1/messages?limit=1", token=token)
    tour.must(messages["items"][0]["kind"] == "payment_received", "no message was queued")


async def _look_as_finance(tour: Tour, token: str, room: Mapping[str, Any], payment: Mapping[str, Any]) -> None:
    tour.step("财务核对", "finance sees the entries of this payment, and books that add up")
    community = f"/api/v1/staff/communities/{room['community_id']}"
    entries = await tour.ask("GET", f"{community}/entries?payment_id={payment['id']}", token=token)
    posted = sum(entry["amount_fen"] for entry in entries["items"])
    tour.must(posted == payment["amount_fen"], "the entries do not add up to the payment")
    summary = await tour.ask("GET", f"{community}/summary", token=token)
    tour.must(summary["debit_fen"] == summary["credit_fen"], "debits and credits differ")
    tour.must(summary["billed_fen"] == summary["paid_fen"] + summary["owed_fen"], "billed is not paid plus owed")
    tour.note(
        f"billed {format_yuan(summary['billed_fen'])} = paid {format_yuan(summary['paid_fen'])}"
        f" + owed {format_yuan(summary['owed_fen'])}"
    )
