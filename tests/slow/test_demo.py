"""The demo: what is promised of it, books that are clean at once and after the worker, and a second start."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import payments
from kit.crypto import load_public_key
from models import secret
from models.access import STAFF_ROLES
from models.bill import Bill, BillState
from models.customer import PHONE_CONTEXT, Customer
from models.merchant_account import APIV3_KEY_CONTEXT, PRIVATE_KEY_CONTEXT, MerchantAccount, WechatPayKey
from models.message import Message, MessageState
from models.occupancy import Occupancy, OccupancyRequest
from models.payment import Payment, PaymentState
from models.receipt import Receipt
from models.resident import WechatIdentity
from models.room import Room
from models.unit_of_work import row, rows
from sandbox.app import open_context
from sandbox.config import Config
from sandbox.person import register_app
from services import demo, demo_company
from services.demo_guide import demo_guide
from services.demo_names import Dice
from services.demo_plan import COMPANIES
from services.staff import sign_in


class AtSandbox:
    """The sandbox's own registration, without HTTP between."""

    def __init__(self, state: Path) -> None:
        self.context = open_context(Config(state))
        self.merchants: dict[str, Sequence[str]] = {}
        self.apps: dict[str, Mapping[str, str]] = {}

    async def register_merchant(
        self, mchid: str, serial_no: str, public_key_pem: str, apiv3_key: str, appids: list[str]
    ) -> Mapping[str, Any]:
        self.merchants[mchid] = appids
        return self.context.merchants.register(mchid, serial_no, public_key_pem, apiv3_key, appids)

    async def register_app(self, appid: str, secret: str, name: str, templates: dict[str, str]) -> None:
        self.apps[appid] = templates
        register_app(self.context, appid, secret, name, templates)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same demo with low buildings, where the number of rooms is not what a test is about."""
    low = [
        replace(company, communities=[replace(one, buildings=1, units=1, floors=3) for one in company.communities])
        for company in COMPANIES
    ]
    monkeypatch.setattr(demo_company, "COMPANIES", low)


async def test_the_demo_is_what_was_promised(
    database: Any, tmp_path: Path, drain: Callable[[], Awaitable[list[str]]]
) -> None:
    wechat = AtSandbox(tmp_path / "wechat.db")
    told = await demo.seed(wechat)

    assert await payments.violations() == []
    assert await demo.is_demo() and await demo.is_seeded() and not await demo.is_empty()
    assert len(told["companies"]) == 2 and len({company["appid"] for company in told["companies"]}) == 2
    communities = [community for company in told["companies"] for community in company["communities"]]
    assert len(communities) == 3 and sum(one["oldest_arrears_first"] for one in communities) == 1
    assert [len(one["merchant_account_ids"]) for one in communities] == [2, 1, 1]
    assert len(told["merchant_account_ids"]) == 3 == await MerchantAccount.all().count()

    assert await Room.all().count() >= 300
    kinds = {one["kind"]: one["n"] for one in await rows("SELECT kind, count(*) AS n FROM occupancies GROUP BY kind")}
    assert kinds["owner"] > 300 and kinds["family"] > 80 and kinds["tenant"] > 20
    states = {one["state"]: one["n"] for one in await rows("SELECT state, count(*) AS n FROM bills GROUP BY state")}
    assert states["paid"] > states["open"] > 500 and states["part_paid"] > 10
    overdue = await row(
        "SELECT count(*) AS n FROM bills WHERE state IN ('open', 'part_paid') AND due_on < current_date"
    )
    months = await row("SELECT count(DISTINCT date_trunc('month', accrued_on)) AS n FROM bills")
    assert overdue and overdue["n"] > 300 and months and months["n"] >= 6
    assert await row("SELECT bill_id FROM bill_lines GROUP BY bill_id HAVING count(*) = 2 LIMIT 1")

    paid = await Payment.filter(state=PaymentState.PAID).count()
    assert paid == await Payment.all().count() == await Receipt.all().count() == await Message.all().count() > 300
    assert not await Message.exists(state=MessageState.QUEUED)
    posted = await row("SELECT count(DISTINCT date_trunc('month', posted_on)) AS n FROM entries")
    assert posted and posted["n"] >= 4, "the money came over the months, not all at once"

    # Six minutes later: the worker has run what the settlements asked for.
    assert set(await drain()) == {"payment_settled"}
    assert await payments.violations() == []
    assert await Receipt.all().count() == paid == await Message.all().count()

    await _staff_can_sign_in(told)
    await _residents_are_as_told(told)
    await _no_key_leaves_and_no_key_repeats(told)
    with pytest.raises(demo.NotEmpty):
        await demo.seed(wechat)
    assert demo_guide({**told, "addresses": {"接口": "http://127.0.0.1:8000"}}).count("\n") < 50


async def _staff_can_sign_in(told: dict[str, Any]) -> None:
    assert {one["role"] for one in told["staff"]} == set(STAFF_ROLES)
    assert [one["community"] for one in told["staff"] if one["role"] == "manager"] == [None, None]
    assert len({one["password"] for one in told["staff"]}) == len(told["staff"]) == 23
    finance = next(one for one in told["staff"] if one["role"] == "finance")
    assert (await sign_in(finance["username"], finance["password"])).token


async def _residents_are_as_told(told: dict[str, Any]) -> None:
    by_key = {(one["key"], one["appid"]): one for one in told["residents"]}
    dice = Dice(demo.SEED)
    assert told["residents"][0]["name"] == dice.person(), "the same seed tells the same people"
    assert told["residents"][0]["openid"] == dice.openid("qingchuan:两套房")
    assert (told["residents"][0]["phone"], told["residents"][1]["phone"]) == ("13900000001", "13900000002")
    assert len(by_key) == len(told["residents"]) >= 12
    first, second = (company["appid"] for company in told["companies"])
    assert all(len(one["openid"]) == 28 and one["openid"].startswith("o") for one in told["residents"])
    for one in told["residents"]:
        identity = await WechatIdentity.get_or_none(openid=one["openid"])
        assert (identity is not None) is one["signed_up"], one["key"]
        for room in one["rooms"]:
            claimed = await Occupancy.exists(
                room_id=room["room_id"], resident_id=identity.resident_id if identity else None
            )
            assert claimed is room["claimed"] or not room["claimed"], one["key"]
    assert by_key["两套房", first]["phone"] == by_key["两套房", second]["phone"]
    assert by_key["两套房", first]["openid"] != by_key["两套房", second]["openid"]
    assert len(by_key["两套房", first]["rooms"]) == 2
    stranger = secret.blind_index(by_key["陌生人", first]["phone"], PHONE_CONTEXT)
    waiting = secret.blind_index(by_key["未绑定", first]["phone"], PHONE_CONTEXT)
    assert not await Customer.exists(phone_index=stranger) and await Customer.exists(phone_index=waiting)
    assert await OccupancyRequest.all().count() == 1
    for key, states in (("缴清", {"paid"}), ("部分缴费", {"paid", "part_paid", "open"}), ("欠费", {"open"})):
        room_id = by_key[key, first]["rooms"][0]["room_id"]
        assert {bill.state.value for bill in await Bill.filter(room_id=room_id)} == states, key
    two_rooms = [room["room_id"] for room in by_key["两套房", first]["rooms"]]
    owed = await Bill.filter(room_id__in=two_rooms, state=BillState.OPEN)
    assert len({payments.pay_group(vars(bill)) for bill in owed}) == 2


async def test_a_second_start_registers_again_with_a_sandbox_that_forgot(
    database: Any, tmp_path: Path, small: None
) -> None:
    first = AtSandbox(tmp_path / "one.db")
    await demo.seed(first)
    before = {key.serial for key in await WechatPayKey.all()}
    assert await demo.register_again(first) == 3
    assert {key.serial for key in await WechatPayKey.all()} == before

    second = AtSandbox(tmp_path / "two.db")
    await demo.register_again(second)
    assert second.merchants == first.merchants and second.apps == first.apps and len(second.apps) == 2
    for account in await MerchantAccount.all():
        theirs = second.context.merchants.platform_keys(account.mchid)
        ours = {key.serial: key.public_key_pem for key in await WechatPayKey.filter(merchant_account_id=account.id)}
        assert ours == {theirs["public_key_id"]: theirs["public_key"]} | {
            one["serial_no"]: one["certificate"] for one in theirs["certificates"]
        }
        assert all(load_public_key(pem) for pem in ours.values())


async def _no_key_leaves_and_no_key_repeats(told: dict[str, Any]) -> None:
    private = [secret.decrypt(one.private_key_cipher, PRIVATE_KEY_CONTEXT) for one in await MerchantAccount.all()]
    apiv3 = [secret.decrypt(one.apiv3_key_cipher, APIV3_KEY_CONTEXT) for one in await MerchantAccount.all()]
    assert len(set(private)) == len(set(apiv3)) == 3 and all(len(key) == 32 for key in apiv3)
    assert not any(key in str(told) for key in (*private, *apiv3)) and "PRIVATE" not in str(told)


async def test_an_interrupted_demo_carries_the_mark_and_is_not_complete(
    database: Any, tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "make_payments", interrupted)
    with pytest.raises(KeyboardInterrupt):
        await demo.seed(AtSandbox(tmp_path / "wechat.db"))
    assert await demo.is_demo() and not await demo.is_seeded()
    assert await payments.violations() == []
