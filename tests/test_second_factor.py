"""Two-step verification of staff: set up, asked for, lost, required, taken away."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pyotp
import pytest
import pytest_asyncio
from argon2 import PasswordHasher

from kit import clock
from kit.crypto import Keyring
from models import secret
from models.access import Role
from models.audit import Audit
from models.second_factor import RecoveryCode, SecondFactor
from models.session import Session
from models.staff import Staff, StaffRole
from services import second_factor as service
from services.second_factor import matching_step
from tests.conftest import Database
from tests.world import KEYRING, Company, Person, World, unknown_id

PASSWORD = "correct-horse-7"
MINE = "/api/v1/staff/me/second-factor"
SECOND_STEP = "/api/v1/auth/staff/second-factor"
NOON = datetime(2026, 11, 23, 4, 0, 10, tzinfo=UTC)  # ten seconds into a step, so that 19 s more stay in it

# RFC 6238, appendix B: SHA-1, the secret "12345678901234567890"; eight digits there, of which ours are the last six.
RFC_SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
RFC_VECTORS = [
    (59, "94287082"), (1111111109, "07081804"), (1111111111, "14050471"), (1234567890, "89005924"),
    (2000000000, "69279037"), (20000000000, "65353130"),
]  # fmt: skip


@pytest.mark.parametrize(("unix_s", "code"), RFC_VECTORS)
def test_the_codes_are_those_of_the_rfc(unix_s: int, code: str) -> None:
    assert matching_step(RFC_SECRET, code[-6:], unix_s, None) == unix_s // 30


def test_a_phone_may_be_one_step_off_and_no_code_is_good_twice() -> None:
    step, code = 1111111109 // 30, "081804"
    for after_s, good in ((-31, False), (-30, True), (0, True), (29, True), (59, True), (60, False)):
        found = matching_step(RFC_SECRET, code, step * 30 + after_s, None)
        assert (found == step) is good, after_s
    now_s = step * 30
    assert matching_step(RFC_SECRET, code, now_s, step - 1) == step
    assert matching_step(RFC_SECRET, code, now_s, step) is None  # used
    assert matching_step(RFC_SECRET, code, now_s, step + 1) is None  # a later one was used
    for wrong in ("081805", "81804", "0081804", "", "０81804"):
        assert matching_step(RFC_SECRET, wrong, now_s, None) is None


@dataclass
class Clerk:
    """A member of staff with a password, and perhaps a phone that computes codes."""

    api: httpx.AsyncClient
    staff: Staff
    phone: pyotp.TOTP | None = None

    def code(self, after_s: int = 0) -> str:
        assert self.phone is not None
        return self.phone.at(clock.unix_s() + after_s)

    async def first_step(self, password: str = PASSWORD) -> httpx.Response:
        return await self.api.post("/api/v1/auth/staff", json={"username": self.staff.username, "password": password})

    async def second_step(self, code: str, challenge: str | None = None) -> httpx.Response:
        challenge = challenge or (await self.first_step()).json()["challenge"]
        return await self.api.post(SECOND_STEP, json={"challenge": challenge, "code": code})

    async def sign_in(self) -> Person:
        answer = await self.first_step()
        if answer.status_code == 401:
            answer = await self.second_step(self.code(), answer.json()["challenge"])
        assert answer.status_code == 200, answer.text
        return Person(self.api, answer.json()["token"], staff=self.staff)

    async def enrol(self, person: Person) -> list[str]:
        """Set up the phone; the recovery codes."""
        begun = await person.post(MINE, {"password": PASSWORD})
        assert begun.status_code == 200, begun.text
        self.phone = pyotp.parse_uri(begun.json()["uri"])
        confirmed = await person.post(MINE + "/confirm", {"code": self.code()})
        assert confirmed.status_code == 200, confirmed.text
        return list(confirmed.json()["recovery_codes"])


@pytest_asyncio.fixture(loop_scope="session")
async def noon() -> AsyncIterator[None]:
    """A time at the beginning of a step of 30 s."""
    with clock.travel_to(NOON):
        yield


@pytest.fixture(scope="module")
def hashed() -> str:
    """A hash that costs little to verify: what a hash costs is not the point here."""
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


async def clerk_of(world: World, company: Company, hashed: str, role: Role = Role.FINANCE) -> Clerk:
    staff = await Staff.create(
        organization_id=company.id, username=f"u{secrets.token_hex(4)}", password_hash=hashed, name="王敏"
    )
    await StaffRole.create(organization_id=company.id, staff_id=staff.id, community_id=None, role=role)
    return Clerk(world.api, staff)


def later(seconds: int) -> Any:
    return clock.travel_to(clock.now() + timedelta(seconds=seconds))


async def acts_of(staff: Staff) -> list[str]:
    return [one.act for one in await Audit.filter(target_id=staff.id).order_by("id")]


async def test_a_clerk_sets_it_up_and_signs_in_with_it(
    world: World, api: httpx.AsyncClient, hashed: str, noon: None
) -> None:
    company = await world.company()
    clerk = await clerk_of(world, company, hashed)
    here, elsewhere = await clerk.sign_in(), await clerk.sign_in()

    wrong = await here.post(MINE, {"password": "not-this-one"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "password_wrong")
    begun = await here.post(MINE, {"password": PASSWORD})
    place = urlsplit(begun.json()["uri"])
    assert (place.scheme, place.netloc) == ("otpauth", "totp")
    assert unquote(place.path) == f"/{company.organization.name}:{clerk.staff.username}"
    secret = parse_qs(place.query)["secret"][0]
    assert len(secret) == 32
    clerk.phone = pyotp.TOTP(secret)
    kept = await SecondFactor.get(staff_id=clerk.staff.id)
    assert kept.secret_cipher.startswith("v1.test.") and secret not in kept.secret_cipher
    # Not confirmed yet: nothing is asked for.
    assert (await clerk.first_step()).status_code == 200
    wrong = await here.post(MINE + "/confirm", {"code": "000000"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "code_wrong")
    confirmed = await here.post(MINE + "/confirm", {"code": clerk.code()})
    codes = confirmed.json()["recovery_codes"]
    assert len(set(codes)) == 10 and all(len(code) == 11 and code[5] == "-" for code in codes)
    # The session that did it goes on, every other is over.
    mine = (await here.get(MINE)).json()
    assert (mine["active"], mine["recovery_codes_left"], mine["required"]) == (True, 10, False)
    assert (await elsewhere.get("/api/v1/staff/me")).status_code == 401

    needed = await clerk.first_step()
    assert (needed.status_code, needed.json()["code"]) == (401, "second_factor_needed")
    assert needed.json()["title"] == "密码正确，请输入手机验证器上的6位验证码。"
    assert str(clerk.staff.id) not in needed.text
    challenge = needed.json()["challenge"]
    used = await clerk.second_step(clerk.code(), challenge)  # it confirmed a moment ago
    assert (used.status_code, used.json()["code"]) == (401, "second_factor_wrong")
    with later(30):
        typed = "".join(chr(ord(digit) + 0xFEE0) for digit in clerk.code())  # full-width, as a Chinese keyboard may
        signed_in = await clerk.second_step(f"{typed[:3]} {typed[3:]}", challenge)
        assert signed_in.status_code == 200, signed_in.text
        assert signed_in.json()["staff"]["id"] == str(clerk.staff.id)
        session = await Session.filter(staff_id=clerk.staff.id).order_by("-created_at").first()
        assert session is not None and session.second_factor_at is not None
        again = await clerk.second_step(clerk.code(), challenge)
        assert again.status_code == 401  # the same code, by whoever looked over the shoulder
    assert (await Staff.get(id=clerk.staff.id)).failed_count == 1
    acts = await acts_of(clerk.staff)
    assert acts == [
        "staff.sign_in", "staff.sign_in", "staff.second_factor.enrol", "staff.sign_in",
        "staff.second_factor.confirm", "staff.sign_in",
    ]  # fmt: skip
    audited = str([dict(row) for row in await Audit.all()])
    assert secret not in audited and codes[0] not in audited


async def test_whoever_has_none_signs_in_as_ever_and_nobody_elses_code_fits(
    world: World, api: httpx.AsyncClient, hashed: str, noon: None
) -> None:
    company = await world.company()
    one, other, without = [await clerk_of(world, company, hashed) for _ in range(3)]
    await one.enrol(await one.sign_in())
    await other.enrol(await other.sign_in())

    assert (await without.first_step()).status_code == 200
    with later(60):
        challenge = (await one.first_step()).json()["challenge"]
        assert (await one.second_step(other.code(), challenge)).status_code == 401
        assert (await one.second_step(one.code(), challenge)).status_code == 200
        for forged in ("x", "v1.test.AAAA", challenge[:-4] + "AAAA", challenge.replace("v1.test", "v1.other")):
            answer = await one.second_step(other.code(), forged)
            assert (answer.status_code, answer.json()["code"]) == (401, "challenge_expired")


async def test_a_code_at_two_places_at_once_is_good_at_one(
    world: World, api: httpx.AsyncClient, hashed: str, noon: None
) -> None:
    clerk = await clerk_of(world, await world.company(), hashed)
    recovery = await clerk.enrol(await clerk.sign_in())
    for code, after_s in ((None, 30), (recovery[0], 60)):
        with later(after_s):
            challenge = (await clerk.first_step()).json()["challenge"]
            given = code or clerk.code()
            answers = await asyncio.gather(*(clerk.second_step(given, challenge) for _ in range(4)))
        assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]


async def test_a_challenge_is_short_lived_and_falls_with_the_password(
    world: World, api: httpx.AsyncClient, hashed: str, noon: None
) -> None:
    company = await world.company()
    manager = await world.staff(company, Role.MANAGER)
    clerk = await clerk_of(world, company, hashed)
    await clerk.enrol(await clerk.sign_in())
    challenge = (await clerk.first_step()).json()["challenge"]

    with later(301):
        late = await clerk.second_step(clerk.code(), challenge)
    with later(240):
        reset = await manager.post(f"/api/v1/staff/members/{clerk.staff.id}/password", {"password": "another-one-8"})
        assert reset.status_code == 204
        changed = await clerk.second_step(clerk.code(), challenge)

    assert [one.json()["code"] for one in (late, changed)] == ["challenge_expired"] * 2
    assert late.json()["title"] == "登录已超时，请重新输入用户名和密码。"
    assert await Session.filter(staff_id=clerk.staff.id, revoked_at__isnull=True).count() == 0


async def test_wrong_codes_lock_the_account_and_the_password_does_not_forgive_them(
    world: World, api: httpx.AsyncClient, hashed: str, noon: None
) -> None:
    company = await world.company()
    manager = await world.staff(company, Role.MANAGER)
    clerk = await clerk_of(world, company, hashed)
    await clerk.enrol(await clerk.sign_in())
    with later(60):
        right = clerk.code()
        wrong = f"{(int(right) + 1) % 1_000_000:06d}"
        for number in range(1, 5):
            assert (await clerk.second_step(wrong)).status_code == 401  # with the right password each time
            assert (await Staff.get(id=clerk.staff.id)).failed_count == number
        challenge = (await clerk.first_step()).json()["challenge"]
        last = await clerk.second_step(wrong, challenge)
        locked = [await clerk.second_step(right, challenge), await clerk.first_step()]

        assert [one.status_code for one in (last, *locked)] == [401] * 3
        assert last.text == locked[0].text  # locked sounds as wrong does
        assert locked[1].json()["code"] == "wrong_username_or_password"
        assert (await Staff.get(id=clerk.staff.id)).locked_until is not None
        assert (await manager.post(f"/api/v1/staff/members/{clerk.staff.id}/unlock")).status_code == 200
        assert (await clerk.second_step(right)).status_code == 200
    assert (await Staff.get(id=clerk.staff.id)).failed_count == 0


async def test_of_many_codes_at_once_five_are_tried(
    world: World, api: httpx.AsyncClient, hashed: str, noon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clerk = await clerk_of(world, await world.company(), hashed)
    await clerk.enrol(await clerk.sign_in())
    tried: list[str] = []
    use = service.use_code_tx

    async def counting(staff_id: Any, code: str) -> bool:
        tried.append(code)
        return await use(staff_id, code)

    monkeypatch.setattr(service, "use_code_tx", counting)
    challenge = (await clerk.first_step()).json()["challenge"]

    answers = await asyncio.gather(*(clerk.second_step(f"{number:06d}", challenge) for number in range(12)))

    assert [answer.status_code for answer in answers] == [401] * 12
    assert len(tried) == 5


async def test_a_lost_phone_recovery_codes_and_the_manager(
    world: World, api: httpx.AsyncClient, hashed: str, noon: None
) -> None:
    company = await world.company()
    manager, stranger = await world.staff(company, Role.MANAGER), await world.staff(await world.company(), Role.MANAGER)
    clerk = await clerk_of(world, company, hashed)
    codes = await clerk.enrol(await clerk.sign_in())
    kept = {one.code_index for one in await RecoveryCode.filter(staff_id=clerk.staff.id)}
    assert len(kept) == 10 and not kept & {code.replace("-", "") for code in codes}

    by_paper = await clerk.second_step(codes[3].lower())  # written down by hand
    assert by_paper.status_code == 200
    person = Person(api, by_paper.json()["token"])
    assert (await person.get(MINE)).json()["recovery_codes_left"] == 9
    assert (await clerk.second_step(codes[3])).status_code == 401  # each is good once
    renewed = await person.post(MINE + "/recovery-codes", {"code": codes[4]})
    assert renewed.status_code == 200 and not set(renewed.json()["recovery_codes"]) & set(codes)
    assert (await clerk.second_step(codes[5])).status_code == 401  # the old ones are void

    path = f"/api/v1/staff/members/{clerk.staff.id}/second-factor/reset"
    refused = [
        (await person.post(path), 403),
        (await stranger.post(path), 404),
        (await manager.post(f"/api/v1/staff/members/{unknown_id()}/second-factor/reset"), 404),
        (await manager.post(f"/api/v1/staff/members/{manager.staff.id}/second-factor/reset"), 409),
    ]
    assert [answer.status_code for answer, _ in refused] == [status for _, status in refused]
    assert refused[-1][0].json()["code"] == "not_your_own_second_factor"
    assert (await person.get("/api/v1/staff/me")).status_code == 200
    assert (await manager.post(path)).status_code == 204
    assert (await person.get("/api/v1/staff/me")).status_code == 401
    assert (await clerk.first_step()).status_code == 200
    assert (await manager.post(path)).json()["code"] == "second_factor_not_active"
    assert await RecoveryCode.filter(staff_id=clerk.staff.id).count() == 0
    audits = await Audit.filter(target_id=clerk.staff.id, act="staff.second_factor.reset")
    assert [one.actor for one in audits] == [f"staff:{manager.staff.id}"]


async def test_a_change_of_keys_voids_no_code_on_paper(
    world: World, api: httpx.AsyncClient, hashed: str, noon: None
) -> None:
    clerk = await clerk_of(world, await world.company(), hashed)
    codes = await clerk.enrol(await clerk.sign_in())
    secret.configure(Keyring({**KEYRING.keys, "new": b"n" * 32}, "new", b"j" * 32))  # and the old index key is gone
    try:
        assert (await clerk.second_step(codes[0])).status_code == 200
        assert (await clerk.second_step(codes[0])).status_code == 401
    finally:
        secret.configure(KEYRING)


async def test_switching_it_off_takes_a_code(world: World, api: httpx.AsyncClient, hashed: str, noon: None) -> None:
    clerk = await clerk_of(world, await world.company(), hashed)
    person = await clerk.sign_in()
    for path in ("/disable", "/recovery-codes", "/confirm"):
        answer = await person.post(MINE + path, {"code": "000000"})
        assert (answer.status_code, answer.json()["code"]) == (409, "second_factor_not_active"), path
    await clerk.enrol(person)

    assert (await person.post(MINE, {"password": PASSWORD})).json()["code"] == "second_factor_active"
    assert (await person.post(MINE + "/confirm", {"code": clerk.code()})).json()["code"] == "second_factor_active"
    wrong = await person.post(MINE + "/disable", {"code": "000000"})
    used = await person.post(MINE + "/disable", {"code": clerk.code()})
    assert [(one.status_code, one.json()["code"]) for one in (wrong, used)] == [(422, "code_wrong")] * 2
    assert (await Staff.get(id=clerk.staff.id)).failed_count == 2  # whoever found the session open guesses five times
    assert (await person.get(MINE)).json()["active"] is True
    with later(30):
        assert (await person.post(MINE + "/disable", {"code": clerk.code()})).status_code == 204
    assert (await person.get(MINE)).json() == {
        "active": False, "confirmed_at": None, "recovery_codes_left": 0, "required": False,
    }  # fmt: skip
    assert (await clerk.first_step()).status_code == 200
    assert (await Session.get(id=(await Session.filter(staff_id=clerk.staff.id).first()).id)).second_factor_at is None


async def test_a_company_requires_it_of_its_finance(
    world: World, api: httpx.AsyncClient, hashed: str, noon: None
) -> None:
    company = await world.company()
    manager = await clerk_of(world, company, hashed, Role.MANAGER)
    clerk, cashier = await clerk_of(world, company, hashed), await clerk_of(world, company, hashed, Role.CASHIER)
    boss, person, other = await manager.sign_in(), await clerk.sign_in(), await cashier.sign_in()
    path = "/api/v1/staff/organization/second-factor-roles"

    assert (await person.put(path, {"roles": []})).status_code == 403
    assert (await boss.put(path, {"roles": ["owner"]})).status_code == 422
    own_first = await boss.put(path, {"roles": ["finance", "manager"]})
    assert (own_first.status_code, own_first.json()["code"]) == (409, "set_up_your_own_first")
    assert (await person.get("/api/v1/staff/communities")).status_code == 200
    required = await boss.put(path, {"roles": ["finance"]})
    assert (required.status_code, required.json()["second_factor_roles"]) == (200, ["finance"])

    # At once, in the session that is open: nothing but setting it up, seeing oneself and leaving.
    for method, where in (("GET", "/api/v1/staff/communities"), ("POST", "/api/v1/staff/customers/search"),
                          ("GET", "/api/v1/auth/sessions")):  # fmt: skip
        held = await api.request(method, where, headers=person.headers)
        assert (held.status_code, held.json()["code"]) == (403, "second_factor_required"), where
    assert held.json()["title"] == "公司要求您的岗位开启两步验证，请先设置，再继续操作。"
    assert (await person.get("/api/v1/staff/me")).status_code == 200
    assert (await person.get(MINE)).json()["required"] is True
    assert (await other.get("/api/v1/staff/communities")).status_code == 200
    await clerk.enrol(person)
    assert (await person.get("/api/v1/staff/communities")).status_code == 200
    # Switched off it is wanted again.
    with later(30):
        assert (await person.post(MINE + "/disable", {"code": clerk.code()})).status_code == 204
    assert (await person.get("/api/v1/staff/communities")).status_code == 403
    assert (await person.post("/api/v1/auth/sign-out")).status_code == 204
    acts = [(one.before, one.after) for one in await Audit.filter(act="organization.require_second_factor")]
    assert acts == [({"roles": []}, {"roles": ["finance"]})]


async def test_the_only_manager_asks_the_machine(database: Database, world: World, hashed: str, noon: None) -> None:
    from models.access import system_actor

    company = await world.company()
    manager = await clerk_of(world, company, hashed, Role.MANAGER)
    person = await manager.sign_in()
    await manager.enrol(person)
    hand = system_actor("linli staff reset-second-factor")

    await service.reset_second_factor_of(hand, manager.staff.username.upper())

    assert (await person.get("/api/v1/staff/me")).status_code == 401
    assert (await manager.first_step()).status_code == 200
    for name in (manager.staff.username, "nobody.at.all"):
        with pytest.raises(service.SecondFactorNotActive):
            await service.reset_second_factor_of(hand, name)
    audits = await Audit.filter(target_id=manager.staff.id, act="staff.second_factor.reset")
    assert [one.actor for one in audits] == ["system:linli staff reset-second-factor"]
