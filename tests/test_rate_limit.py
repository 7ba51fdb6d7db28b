"""Limits: a burst passes, the flood hears 429, and what was refused did nothing."""

import re
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from handlers.route import Route, Who, all_routes
from kit import clock
from models.access import Role
from models.audit import Audit
from models.payment import Payment, PaymentAttempt
from models.rate_limit import RateLimit
from models.redis import RedisAway
from models.session import Session
from models.staff import Staff
from services import rate_limit
from services.password import hash_password
from services.rate_limit import LIMITS, OPEN_PAYMENT, Limit, Per, TooManyRequests
from services.rate_limit_store import PostgresStore, RedisFirst
from tests.conftest import Database, SandboxControl
from tests.rate_limit_contract import CONTRACT
from tests.world import World


@pytest.mark.parametrize("rule", CONTRACT, ids=lambda rule: rule.__name__)
async def test_postgres_counts(database: Database, rule) -> None:
    await rule(PostgresStore())


def test_the_page_tells_every_limit() -> None:
    told = re.findall(r"^\| (\w+) \| (\w+) \| (\d+) \| (\d+) s \|$", Path("docs/limits.md").read_text(), re.MULTILINE)

    assert told == [(one.name, str(one.per), str(one.times), str(one.within_s)) for one in LIMITS]
    assert len({one.name for one in LIMITS}) == len(LIMITS) >= 13


class Still:
    """A clock for limits that only the test moves: a slow machine refills nothing."""

    def __init__(self) -> None:
        self.now_ms = 1_795_000_000_000

    def __call__(self, _instant: datetime) -> int:
        return self.now_ms


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> Still:
    clock_of_limits = Still()
    monkeypatch.setattr(rate_limit, "in_ms", clock_of_limits)
    return clock_of_limits


def limited() -> dict[str, set[str]]:
    return {f"{one.method} {one.path}": {limit.name for limit in one.limits} for one in all_routes() if one.limits}


def test_the_doors_that_are_cheap_to_abuse_are_limited_and_the_callbacks_are_not() -> None:
    assert limited() == {
        "POST /api/v1/auth/wechat": {"wechat_sign_in"},
        "POST /api/v1/auth/phone": {"phone_code"},
        "POST /api/v1/auth/staff": {"staff_sign_in_by_address", "staff_sign_in_by_account"},
        "POST /api/v1/auth/staff/second-factor": {"second_factor_sign_in"},
        "POST /api/v1/staff/me/password": {"password_change"},
        "POST /api/v1/staff/me/second-factor": {"second_factor_change"},
        "POST /api/v1/staff/me/second-factor/confirm": {"second_factor_change"},
        "POST /api/v1/staff/me/second-factor/recovery-codes": {"second_factor_change"},
        "POST /api/v1/staff/me/second-factor/disable": {"second_factor_change"},
        "POST /api/v1/payments": {"open_payment"},
        "POST /api/v1/prepaid-top-ups": {"open_payment"},
        "POST /api/v1/rooms/{room_id}/members": {"invite_member"},
        "POST /api/v1/occupancy-requests": {"occupancy_request"},
        "POST /api/v1/staff/customers/search": {"search_customer"},
        "POST /api/v1/exports": {"export"},
        "GET /api/v1/receipts/{receipt_id}/pdf": {"read_receipt_file"},
        "GET /api/v1/staff/receipts/{receipt_id}/pdf": {"read_receipt_file"},
        "GET /api/v1/staff/receipts/{receipt_id}/prints/{print_id}/pdf": {"read_receipt_file"},
        "POST /api/v1/staff/communities/{community_id}/bill-imports": {"read_bill_file"},
        "POST /api/v1/staff/communities/{community_id}/bill-imports/plan": {"read_bill_file"},
        "POST /api/v1/staff/merchant-accounts/{merchant_account_id}/statements": {"read_bill_file"},
        "POST /api/v1/staff/reconciliations/{reconciliation_id}/run": {"read_bill_file"},
    }
    assert not any(one.limits for one in all_routes() if one.path.startswith("/callbacks/"))
    for one in all_routes():
        for limit in one.limits:
            assert fits(one, limit), (one.path, limit.name)


def fits(one: Route, limit: Limit) -> bool:
    """Whether the route knows whose limit it is."""
    if limit.per is Per.ACCOUNT:
        return one.body is not None and "username" in one.body.model_fields
    return limit.per is Per.ADDRESS or (limit.per is Per.CALLER and one.who is not Who.PUBLIC)


async def test_ten_taps_are_one_payment_and_the_flood_is_asked_to_wait(
    world: World, sandbox: SandboxControl, still: Still, books
) -> None:
    home = await world.home()
    taps = [await home.open() for _ in range(10)]
    assert [tap.status_code for tap in taps] == [201] * 10
    assert len({tap.json()["id"] for tap in taps}) == 1
    for _ in range(OPEN_PAYMENT.times - 10):
        await home.open()
    before = await _money()

    refused = await home.open(headers={"Accept-Language": "zh"}, key="later")

    assert (refused.status_code, refused.headers["content-type"].split(";")[0]) == (429, "application/problem+json")
    assert refused.json()["code"] == "too_many_requests"
    assert refused.headers["retry-after"] == "2"
    assert refused.json()["title"] == "操作太频繁了，请2秒后再试。这次操作没有生效。"
    assert await _money() == before
    # Somebody else of the household is not held up, and a moment later nobody is; the key was not used up either.
    neighbour, _ = await world.owner(home.company, home.room, "家人")
    assert (await home.open(neighbour)).json()["code"] == "payment_in_progress"
    still.now_ms += 2000
    again = await home.open(key="later")
    assert (again.status_code, again.json()["id"]) == (201, taps[0].json()["id"])


async def _money() -> tuple[int, int, int]:
    return await Payment.all().count(), await PaymentAttempt.all().count(), await Audit.all().count()


async def test_a_flood_of_sign_ins_costs_no_hash_and_tells_nothing(
    world: World, api: httpx.AsyncClient, still: Still, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    async def fits(stored: str | None, given: str) -> bool:
        tried.append(given)
        return False

    monkeypatch.setattr("services.staff.password_fits", fits)
    company = await world.company()
    await Staff.create(organization_id=company.id, username="wang.min", password_hash="x", name="王敏")
    answers = {}
    for name in ("wang.min", "nobody.at.all"):
        asked = [await _sign_in(api, name) for _ in range(21)]
        assert [one.status_code for one in asked] == [401] * 20 + [429]
        assert len({one.text for one in asked[:20]}) == 1
        answers[name] = asked[-1]

    assert len(tried) == 40
    one, other = answers.values()
    assert (one.json(), one.headers["retry-after"]) == (other.json(), other.headers["retry-after"])
    # The name is one however it is written; another account is not held up, until the address is at its limit.
    assert (await _sign_in(api, "WANG.MIN")).status_code == 429
    spread = [(await _sign_in(api, f"user.{number}")).status_code for number in range(20)]
    assert spread == [401] * 17 + [429] * 3
    # The account's own limit was not touched by what its address was refused.
    assert await RateLimit.all().count() == 2 + 17 + 1
    assert await Session.all().count() == 0


async def _sign_in(api: httpx.AsyncClient, username: str, **options: object) -> httpx.Response:
    document = {"username": username, "password": "not-this-one"}
    return await api.post("/api/v1/auth/staff", json=document, **options)  # type: ignore[arg-type]


async def test_a_forged_header_neither_frees_nor_frames(
    world: World, api: httpx.AsyncClient, still: Still, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fits(stored: str | None, given: str) -> bool:
        return False

    monkeypatch.setattr("services.staff.password_fits", fits)
    statuses = [
        (await _sign_in(api, f"user.{number}", headers={"X-Forwarded-For": f"203.0.113.{number}"})).status_code
        for number in range(61)
    ]

    assert statuses == [401] * 60 + [429]
    keys = {one.key for one in await RateLimit.all()}
    assert len(keys) == 60 + 1  # the accounts, and one address: the socket's
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in keys)  # no name and no address is kept


async def test_phone_codes_invitations_and_requests_have_their_day(
    world: World, api: httpx.AsyncClient, sandbox: SandboxControl, still: Still, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = await world.home()
    for _ in range(10):
        assert (await home.owner.post("/api/v1/auth/phone", {"code": "wrong"})).status_code == 401
    held = await home.owner.post("/api/v1/auth/phone", {"code": await sandbox.phone_code(home.owner.openid, "1")})

    assert held.status_code == 429
    assert held.json()["title"] == "操作太频繁了，请3小时后再试。这次操作没有生效。"
    assert held.headers["retry-after"] == "8640"
    english = await home.owner.post("/api/v1/auth/phone", {"code": "x"}, headers={"Accept-Language": "en"})
    assert english.json()["title"] == "Too many requests; please try again in 3 h. Nothing was done."

    monkeypatch.setattr(rate_limit, "_store", RefusesAll())
    member = {"name": "家人", "phone": "13900009999", "kind": "family"}
    clerk = await world.staff(home.company, Role.MANAGER)
    for person, path, document in (
        (home.owner, f"/api/v1/rooms/{home.room.id}/members", member),
        (home.owner, "/api/v1/occupancy-requests", {"room_id": str(home.room.id), "kind": "family", "name": "x"}),
        (clerk, "/api/v1/staff/customers/search", {"name": "业主"}),
        (clerk, "/api/v1/staff/me/password", {"old_password": "x", "new_password": "another-one-8"}),
    ):
        answer = await person.post(path, document)
        assert (answer.status_code, answer.headers.get("retry-after")) == (429, "1"), (path, answer.text)
    wechat = await api.post("/api/v1/auth/wechat", json={"code": await sandbox.login_code(home.owner.openid)})
    assert wechat.status_code == 429
    assert (await api.post(f"/callbacks/wechat/pay/{home.company.merchant.id}", content=b"{}")).status_code == 401


class RefusesAll:
    async def take(self, key: str, now_ms: int, step_ms: int, within_ms: int) -> int:
        return 1


class Silent:
    """A Redis that is not there."""

    async def take(self, key: str, now_ms: int, step_ms: int, within_ms: int) -> int:
        raise RedisAway()


async def test_without_redis_answering_postgres_counts(database: Database) -> None:
    store = RedisFirst(Silent(), PostgresStore())
    waits = [await store.take("key", 1_795_000_000_000, 1000, 2000) for _ in range(3)]
    assert waits == [0, 0, 1000]
    assert await RateLimit.all().count() == 1


async def test_what_is_full_again_is_forgotten(database: Database) -> None:
    await rate_limit.take(OPEN_PAYMENT, "somebody")
    assert await rate_limit.prune() == 0
    with clock.travel_to(clock.now() + timedelta(seconds=3)):
        assert await rate_limit.prune() == 1
    assert await RateLimit.all().count() == 0


@pytest.mark.parametrize(
    ("seconds", "zh", "en"),
    [
        (1, "1秒", "1 s"),
        (90, "90秒", "90 s"),
        (91, "2分钟", "2 min"),
        (5400, "90分钟", "90 min"),
        (5401, "2小时", "2 h"),
    ],
)
def test_the_wait_in_words(seconds: int, zh: str, en: str) -> None:
    refusal = TooManyRequests(retry_after_s=seconds)
    assert f"请{zh}后再试" in refusal.sentence("zh") and f"in {en}." in refusal.sentence("en")


async def test_the_lock_of_an_account_is_no_limit(world: World, api: httpx.AsyncClient) -> None:
    """It stands in the account's row: whatever happens to the counts, it stays."""
    company = await world.company()
    hashed = await hash_password("correct-horse-7")
    await Staff.create(organization_id=company.id, username="wang.min", password_hash=hashed, name="王敏")
    for _ in range(5):
        assert (await _sign_in(api, "wang.min")).status_code == 401
    await RateLimit.all().delete()

    right = await api.post("/api/v1/auth/staff", json={"username": "wang.min", "password": "correct-horse-7"})

    assert right.status_code == 401
    assert (await Staff.get(username="wang.min")).locked_until is not None
