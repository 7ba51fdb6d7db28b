"""The API document is valid and complete, and no route tells one person anything about another."""

import json
import re
from typing import Any

import httpx
import pytest
import schemathesis

import handlers.api  # noqa: F401 - importing declares the routes
from handlers.route import Who, all_routes
from kit.errors import all_refusals
from models.access import Role
from server.app import VERSION
from server.openapi import document
from tests.conftest import Drain, SandboxControl
from tests.sweep import ABOUT_ONESELF, ask, counted, everything_of
from tests.world import World, unknown_id

FIXED = [
    ("POST", "/api/v1/auth/wechat"),
    ("POST", "/api/v1/auth/phone"),
    ("GET", "/api/v1/rooms"),
    ("GET", "/api/v1/bills"),
    ("POST", "/api/v1/payments"),
    ("GET", "/api/v1/payments/{payment_id}"),
    ("GET", "/api/v1/receipts/{receipt_id}"),
    ("POST", "/callbacks/wechat/pay/{merchant_account_id}"),
    ("POST", "/callbacks/wechat/refund/{merchant_account_id}"),
    ("POST", "/api/v1/auth/staff"),
]


def described() -> dict[str, Any]:
    return document(all_routes(), VERSION)


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(child) for child in node.values()))
    if isinstance(node, list):
        return set().union(*(references(child) for child in node)) if node else set()
    return set()


def test_every_route_is_in_the_document_once_with_words_for_people() -> None:
    operations = [
        (method.upper(), path, operation)
        for path, methods in described()["paths"].items()
        for method, operation in methods.items()
    ]

    assert {(method, path) for method, path, _ in operations} == {(one.method, one.path) for one in all_routes()}
    assert {(method, path) for method, path, _ in operations} >= set(FIXED)
    assert len({operation["operationId"] for _, _, operation in operations}) == len(operations)
    for method, path, operation in operations:
        assert re.search(r"[\u4e00-\u9fff]", operation["summary"]), (method, path)
        assert operation["tags"], (method, path)
        named = set(re.findall(r"{(\w+)}", path))
        assert {one["name"] for one in operation["parameters"] if one["in"] == "path"} == named


def test_the_document_is_openapi_3_1_without_dangling_references() -> None:
    found = described()

    assert found["openapi"] == "3.1.0"
    json.dumps(found)  # plain JSON all the way down
    schemas = found["components"]["schemas"]
    for reference in references(found):
        assert reference.startswith("#/components/schemas/") and reference.rsplit("/", 1)[1] in schemas, reference


def test_staff_routes_are_for_staff_and_resident_routes_are_not() -> None:
    for one in all_routes():
        staff_path = one.path.startswith("/api/v1/staff/")
        assert (one.who is Who.STAFF) == staff_path, one.path


def test_what_makes_money_or_work_takes_an_idempotency_key() -> None:
    """Every POST that answers 201 makes something; those without a key must make nothing twice by themselves."""
    without = sorted(one.path for one in all_routes() if one.status == 201 and one.replay is None)

    assert without == []


async def test_the_documents_are_served(api: httpx.AsyncClient) -> None:
    served = (await api.get("/openapi.json")).json()
    page = await api.get("/docs")

    assert served == json.loads(json.dumps(described()))
    assert page.status_code == 200
    for one in all_routes():
        assert one.path in page.text
    for code in all_refusals():
        assert f'id="error-{code}"' in page.text
    assert not re.search(r'(?:src|href)="https?://', page.text)  # loads nothing from elsewhere


async def test_unknown_paths_and_methods_answer_in_our_words(api: httpx.AsyncClient) -> None:
    missing = await api.get("/api/v1/nothing", headers={"Accept-Language": "en-GB"})
    method = await api.delete("/api/v1/bills")

    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert missing.json()["title"].startswith("Not found")
    assert (method.status_code, method.json()["code"]) == (405, "no_such_method")
    assert re.search(r"[\u4e00-\u9fff]", method.json()["title"])


async def test_every_route_refuses_who_is_not_signed_in(api: httpx.AsyncClient) -> None:
    for one in all_routes():
        if one.who is Who.PUBLIC:
            continue
        path = re.sub(r"{\w+}", unknown_id(), one.path)
        for headers in ({}, {"Authorization": "Bearer " + "x" * 43}, {"Authorization": "Basic eA=="}):
            answer = await api.request(one.method, path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in"), (one.method, path)


async def test_residents_find_no_staff_routes_and_staff_no_residents(world: World) -> None:
    home = await world.home()
    manager = await world.staff(home.company, Role.MANAGER)
    for one in all_routes():
        if one.who not in (Who.STAFF, Who.RESIDENT):
            continue
        wrong = home.owner if one.who is Who.STAFF else manager
        path = re.sub(r"{\w+}", unknown_id(), one.path)
        answer = await wrong.api.request(one.method, path, headers=wrong.headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (one.method, path)


@pytest.mark.parametrize("who", ["resident", "neighbour", "manager", "finance"])
async def test_somebody_elses_ids_answer_as_unknown_ones(
    world: World, sandbox: SandboxControl, drain: Drain, owner: Any, who: str
) -> None:
    """Over every route: with the ids of another household or company, the very answer of an unknown id."""
    home = await world.home(bills=2)
    await world.staff(home.company, Role.FINANCE, home.community)
    ids = await everything_of(world, home, sandbox, drain, owner)
    if who == "neighbour":  # of the same company and community: another room
        room = await world.room(home.community, "3栋1单元1202")
        person, _ = await world.owner(home.company, room, "邻居")
        # What a neighbour may know of the community is no secret; what is the household's is.
        for public in ("community_id", "building_id", "unit_id", "room_id", "policy_id"):
            ids.pop(public)
    else:
        other = await world.company(2)
        community = await world.community(other, "别的小区")
        room = await world.room(community)
        if who == "resident":
            person, _ = await world.owner(other, room)
        else:
            place = None if who == "manager" else community
            person = await world.staff(other, Role(who), place)
    wanted = Who.STAFF if who in ("manager", "finance") else Who.RESIDENT
    before = await counted(owner)
    nobodys = {name: unknown_id() for name in ids}
    checked = 0
    for one in all_routes():
        if one.who not in (wanted, Who.ANY) or (one.method, one.path) in ABOUT_ONESELF:
            continue
        theirs, unknown = await ask(person, one, ids), await ask(person, one, nobodys)
        assert theirs.status_code == unknown.status_code, (one.method, one.path, theirs.text, unknown.text)
        assert theirs.status_code < 500, (one.method, one.path, theirs.text)
        if theirs.headers.get("content-type", "").startswith("application/problem+json"):
            assert theirs.json() == unknown.json(), (one.method, one.path)
        mentioned = [value for value in ids.values() if value in theirs.text and one.method == "GET"]
        assert mentioned == [], (one.method, one.path, theirs.text)
        checked += 1
    assert checked > 15
    assert await counted(owner) == before


def test_an_independent_reader_finds_the_document_valid() -> None:
    loaded = schemathesis.openapi.from_dict(json.loads(json.dumps(described())))

    loaded.validate()
    assert len([operation.ok() for operation in loaded.get_all_operations()]) == len(all_routes())
