"""Who agrees to what: asked before personal data is taken in, asked anew by a new version, taken back at any time."""

import asyncio
from datetime import timedelta

import httpx
import pytest

from kit import clock
from models.access import Role
from models.audit import Audit
from models.consent import Consent
from models.occupancy import OccupancyRequest
from models.policy import Policy
from models.resident import Resident
from tests.conftest import SandboxControl
from tests.world import Home, Person, World, unknown_id

STAFF, CURRENT, CONSENTS = "/api/v1/staff/policies", "/api/v1/policies", "/api/v1/consents"


async def publish(manager: Person, kind: str = "privacy", number: str = "1", **values: object) -> str:
    policy = {
        "kind": kind,
        "number": number,
        "title": "隐私政策",
        "text": "正文",
        "effective_on": "2026-01-01",
        **values,
    }
    answer = await manager.post(STAFF, policy)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def share(person: Person, sandbox: SandboxControl, phone: str) -> httpx.Response:
    return await person.post("/api/v1/auth/phone", {"code": await sandbox.phone_code(person.openid, phone)})


async def ask_for_room(person: Person, home: Home) -> httpx.Response:
    room = await person.post(
        "/api/v1/occupancy-requests", {"room_id": str(home.room.id), "kind": "tenant", "name": "李小红"}
    )
    return room


async def test_a_company_without_policies_asks_for_nothing(world: World, sandbox: SandboxControl) -> None:
    home = await world.home(bills=0)
    person = await world.resident(home.company)

    assert (await person.get(CURRENT)).json() == {"privacy": None, "terms": None}
    assert (await share(person, sandbox, world.phone())).status_code == 200
    refused = await person.post(f"{CONSENTS}/withdraw", {"kind": "privacy"})
    assert (refused.status_code, refused.json()["code"]) == (409, "consent_not_given")
    assert (await Resident.get(id=person.resident.id)).phone_index is not None


async def test_personal_data_waits_for_consent_and_a_new_version_asks_anew(
    world: World, sandbox: SandboxControl
) -> None:
    home = await world.home()
    manager = await world.staff(home.company, Role.MANAGER)
    person = await world.resident(home.company)
    first = await publish(manager)
    await publish(manager, number="3", effective_on=(clock.today() + timedelta(days=9)).isoformat())

    code = await sandbox.phone_code(person.openid, world.phone())
    refused = await person.post("/api/v1/auth/phone", {"code": code})
    assert (refused.status_code, refused.json()["code"]) == (409, "consent_needed")
    assert refused.json()["policies"] == [{"id": first, "kind": "privacy", "number": "1", "title": "隐私政策"}]
    assert refused.json()["title"] == "请先阅读并同意《隐私政策》。"
    assert (await ask_for_room(person, home)).json()["code"] == "consent_needed"
    member = {"name": "王小明", "phone": world.phone(), "kind": "family"}
    members = f"/api/v1/rooms/{home.room.id}/members"
    assert (await home.owner.post(members, member)).json()["code"] == "consent_needed"
    assert (await home.open()).status_code == 201  # who owes may pay, whatever they agree to
    assert (await OccupancyRequest.all().count(), await Consent.all().count()) == (0, 0)

    agreed = (await person.post(CONSENTS, {"policy_id": first})).json()
    assert agreed["privacy"]["consented_at"] is not None and agreed["terms"] is None
    # WeChat's code was not used up by the refusal.
    assert (await person.post("/api/v1/auth/phone", {"code": code})).status_code == 200

    second = await publish(manager, number="2", link="https://example.com/privacy", text=None)
    current = (await person.get(CURRENT)).json()["privacy"]
    assert (current["id"], current["number"], current["consented_at"]) == (second, "2", None)
    refused = await ask_for_room(person, home)
    assert refused.json()["policies"][0]["id"] == second
    outdated = await person.post(CONSENTS, {"policy_id": first})
    assert (outdated.status_code, outdated.json()["code"]) == (409, "policy_not_current")
    assert (await person.post(CONSENTS, {"policy_id": second})).status_code == 200
    assert (await ask_for_room(person, home)).status_code == 201


async def test_consent_taken_back_removes_the_phone_and_leaves_the_bills(world: World, sandbox: SandboxControl) -> None:
    home = await world.home()
    manager = await world.staff(home.company, Role.MANAGER)
    policy = await publish(manager)
    for _ in range(2):  # the second click adds nothing
        await home.owner.post(CONSENTS, {"policy_id": policy})
    await share(home.owner, sandbox, world.phone())
    next_door = await world.room(home.community, "3栋1单元1202")
    asked = {"room_id": str(next_door.id), "kind": "tenant", "name": "业主甲", "phone": world.phone()}
    request = (await home.owner.post("/api/v1/occupancy-requests", asked)).json()["id"]

    said = (await home.owner.get(CURRENT)).json()["privacy"]["if_withdrawn"]
    answers = [await home.owner.post(f"{CONSENTS}/withdraw", {"kind": "privacy"}) for _ in range(2)]

    assert said.startswith("撤回后，我们会删除您授权的手机号") and "仍可正常缴费" in said
    assert [answer.json()["privacy"]["consented_at"] for answer in answers] == [None, None]
    resident = await Resident.get(id=home.owner.resident.id)
    assert (resident.phone_cipher, resident.phone_index, resident.phone_masked) == (None, None, "")
    assert (await home.owner.get("/api/v1/me")).json()["has_phone"] is False
    kept = await OccupancyRequest.get(id=request)
    assert (kept.state, kept.phone_cipher, kept.phone_masked) == ("withdrawn", None, "")
    assert (await share(home.owner, sandbox, world.phone())).json()["code"] == "consent_needed"
    assert (await home.open()).status_code == 201
    steps = (await home.owner.get(CONSENTS)).json()["items"]
    assert [(one["step"], one["channel"], one["policy_id"]) for one in steps] == [
        ("withdrawn", "app", policy), ("given", "app", policy),
    ]  # fmt: skip
    assert await Audit.filter(act__startswith="consent.").count() == 2
    again = (await home.owner.post(CONSENTS, {"policy_id": policy})).json()
    assert again["privacy"]["consented_at"] is not None


async def test_who_never_agreed_may_say_no_too_and_terms_touch_no_phone(world: World, sandbox: SandboxControl) -> None:
    company = await world.company()
    person = await world.resident(company, world.phone())
    manager = await world.staff(company, Role.MANAGER)
    await publish(manager)
    await publish(manager, "terms", title="服务协议")

    terms = await person.post(f"{CONSENTS}/withdraw", {"kind": "terms"})
    assert terms.status_code == 200 and (await person.get("/api/v1/me")).json()["has_phone"]
    assert (await person.post(f"{CONSENTS}/withdraw", {"kind": "privacy"})).status_code == 200
    assert not (await person.get("/api/v1/me")).json()["has_phone"]
    english = await person.post("/api/v1/auth/phone", {"code": "x"}, headers={"Accept-Language": "en"})
    assert english.json()["title"] == "Please read and agree to 《隐私政策》、《服务协议》 first."


async def test_many_clicks_at_once_are_one_consent(world: World) -> None:
    company = await world.company()
    policy = await publish(await world.staff(company, Role.MANAGER))
    person = await world.resident(company)

    answers = await asyncio.gather(*(person.post(CONSENTS, {"policy_id": policy}) for _ in range(5)))

    assert [answer.status_code for answer in answers] == [200] * 5
    assert await Consent.all().count() == 1


async def test_the_counter_notes_what_was_signed_on_paper(world: World) -> None:
    home = await world.home(bills=0)
    elsewhere = await world.community(home.company, "月亮湾")
    policy = await publish(await world.staff(home.company, Role.MANAGER))
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    path = f"/api/v1/staff/residents/{home.owner.resident.id}/consents"

    noted = [await butler.post(path, {"policy_id": policy}) for _ in range(2)]

    assert [one.status_code for one in noted] == [200, 200] and noted[0].json() == noted[1].json()
    assert (noted[0].json()["channel"], (await Consent.get()).staff_id) == ("counter", butler.staff.id)
    assert (await home.owner.get(CURRENT)).json()["privacy"]["consented_at"] is not None
    for role, community, expected in (
        (Role.FINANCE, home.community, 403), (Role.AUDITOR, home.community, 403), (Role.GUARD, home.community, 404),
        (Role.BUTLER, elsewhere, 404),
    ):  # fmt: skip
        somebody = await world.staff(home.company, role, community)
        assert (await somebody.post(path, {"policy_id": policy})).status_code == expected, role
    assert (await butler.post(path, {"policy_id": unknown_id()})).status_code == 404
    assert await Consent.all().count() == 1


async def test_only_managers_of_the_company_publish_and_a_version_stays_as_it_is(world: World) -> None:
    home = await world.home(bills=0)
    manager = await world.staff(home.company, Role.MANAGER)
    policy = {"kind": "privacy", "number": "1", "title": "隐私政策", "text": "正文", "effective_on": "2026-01-01"}
    for role, community in ((Role.MANAGER, home.community), (Role.AUDITOR, None), (Role.BUTLER, home.community)):
        somebody = await world.staff(home.company, role, community)
        assert (await somebody.post(STAFF, policy)).status_code == 403, role
        assert (await somebody.get(STAFF)).status_code == 200

    made = await manager.post(STAFF, policy, key="one")
    assert (await manager.post(STAFF, policy, key="one")).json() == made.json()
    assert (await manager.get(f"{STAFF}/{made.json()['id']}")).json() == made.json()
    taken = await manager.post(STAFF, policy | {"text": "another"})
    assert (taken.status_code, taken.json()["code"]) == (409, "policy_number_taken")
    for bad, code in (({"text": None}, "policy_wordless"), ({"link": "javascript:alert(1)"}, "invalid_input")):
        assert (await manager.post(STAFF, policy | {"number": "2"} | bad)).json()["code"] == code
    assert (await Policy.get()).text == "正文"
    stranger = await world.staff(await world.company(), Role.MANAGER)
    assert (await stranger.get(STAFF)).json()["items"] == []


@pytest.mark.parametrize("last", ["given", "withdrawn"])
async def test_withdrawing_and_sharing_a_phone_at_once_never_leave_a_phone_without_consent(
    world: World, sandbox: SandboxControl, last: str
) -> None:
    company = await world.company()
    policy = await publish(await world.staff(company, Role.MANAGER))
    person = await world.resident(company)
    await person.post(CONSENTS, {"policy_id": policy})
    codes = [await sandbox.phone_code(person.openid, world.phone()) for _ in range(3)]
    work = [person.post("/api/v1/auth/phone", {"code": code}) for code in codes]
    work.insert(1 if last == "given" else 3, person.post(f"{CONSENTS}/withdraw", {"kind": "privacy"}))

    answers = await asyncio.gather(*work)

    assert all(answer.status_code in (200, 409) for answer in answers)
    assert (await person.get("/api/v1/me")).json()["has_phone"] is False
