"""Every route × role × foreign id, one id at a time among one's own, in path, body, query and cursor: the whole answer
is that of an id that nothing has."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest

import handlers.api  # noqa: F401 - importing declares the routes
from handlers.route import PageQuery, Route, Who, all_routes
from kit.paging import encode_cursor
from models.access import STAFF_ROLES, Role
from tests.conftest import Drain, SandboxControl
from tests.sweep import ABOUT_ONESELF, ask, counted, everything_of, named_ids
from tests.world import Home, Person, World, unknown_id

pytestmark = pytest.mark.usefixtures("unlimited")

ENDS_THE_SESSION = ("/sign-out", "/sessions/{session_id}", "/me/close")


async def callers(world: World, home: Home) -> dict[str, tuple[Person, dict[str, str]]]:
    """Everybody to whom the home is somebody else's: who they are, and ids that are their own."""
    room = await world.room(home.community, "3栋1单元1202")
    neighbour, debtor = await world.owner(home.company, room, "邻居")
    bill = await world.bill(home.company, room, debtor)
    near = {"room_id": room.id, "customer_id": debtor.id, "bill_id": bill.id, "community_id": home.community.id}
    found = {"neighbour": (neighbour, near)}
    sister = await world.community(home.company, "姊妹小区")
    their_room = await world.room(sister)
    their_debtor = await world.customer(home.company, "姊妹小区业主")
    beside = {"community_id": sister.id, "room_id": their_room.id, "customer_id": their_debtor.id,
              "bill_id": (await world.bill(home.company, their_room, their_debtor)).id}  # fmt: skip
    for role in sorted(STAFF_ROLES):
        found[f"{role} of the next community"] = (await world.staff(home.company, role, sister), beside)
    other = await world.company(2)
    far = await world.community(other, "别的小区")
    far_room = await world.room(far)
    resident, far_debtor = await world.owner(other, far_room)
    away = {"community_id": far.id, "room_id": far_room.id, "customer_id": far_debtor.id,
            "bill_id": (await world.bill(other, far_room, far_debtor)).id,
            "merchant_account_id": other.merchant.id, "legal_entity_id": other.legal_entity.id}  # fmt: skip
    found["resident of another company"] = (resident, away)
    for role in (Role.MANAGER, Role.FINANCE):
        found[f"{role} of another company"] = (await world.staff(other, role), away)
    return {name: (person, {key: str(one) for key, one in own.items()}) for name, (person, own) in found.items()}


# What is no secret to each: a community, its buildings and rooms to those who live there; the company's own register
# of customers and settings to its staff (they are of the company, not of one community),
# as a merchant account's days at WeChat are, which may serve several; their differences are of one.
SHARED = {
    "neighbour": {"community_id", "building_id", "unit_id", "room_id", "fee_item_id", "legal_entity_id", "app_id",
                  "merchant_account_id", "wechat_app_id", "policy_id"},
    "of the next community": {"customer_id", "legal_entity_id", "entity_id", "merchant_account_id", "wechat_app_id",
                              "app_id", "staff_id", "policy_id", "reconciliation_id", "statement_id"},
    "of another company": set(),
}  # fmt: skip


def foreign_of(name: str, ids: dict[str, str]) -> dict[str, str]:
    shared = next(held for ending, held in SHARED.items() if name.endswith(ending))
    return {key: one for key, one in ids.items() if key not in shared}


def swaps(one: Route, foreign: dict[str, str]) -> Iterator[str]:
    """The names of ids that the route takes, one at a time."""
    yield from sorted(named_ids(one) & set(foreign))


async def test_one_foreign_id_among_ones_own(
    world: World, sandbox: SandboxControl, drain: Drain, owner: Any, books: Any
) -> None:
    home = await world.home(bills=2)
    await world.staff(home.company, Role.FINANCE, home.community)
    ids = await everything_of(world, home, sandbox, drain, owner)
    everybody = await callers(world, home)
    before = await counted(owner)
    compared = 0
    for name, (person, own) in everybody.items():
        wanted = Who.STAFF if person.staff else Who.RESIDENT
        foreign = foreign_of(name, ids)
        for one in all_routes():
            if one.who not in (wanted, Who.ANY) or one.path.endswith(ENDS_THE_SESSION):
                continue
            # A report as a file: three at once are the most, and the fourth is refused whatever it asks for. What is in
            # them is what the page says (tests/test_report_file.py), and the page is asked here.
            if (one.method, one.path) in ABOUT_ONESELF and one.path.endswith("/files"):
                continue
            for swapped in swaps(one, foreign):
                theirs = await ask(person, one, own | {swapped: foreign[swapped]})
                nobodys = await ask(person, one, own | {swapped: unknown_id()})
                where = (name, one.method, one.path, swapped)
                assert same(theirs, nobodys), (*where, theirs.text, nobodys.text)
                assert not mentions(theirs, one, foreign), (*where, theirs.text)
                compared += 1
    print(f"{compared} pairs of calls")
    assert compared > 500
    assert await counted(owner) == before
    await books()


def same(theirs: httpx.Response, nobodys: httpx.Response) -> bool:
    """The whole answer, but for what names the request itself."""
    if theirs.status_code >= 500 or theirs.status_code != nobodys.status_code:
        return False
    return theirs.status_code < 400 or plain(theirs) == plain(nobodys)


def plain(answer: httpx.Response) -> Any:
    if "json" not in answer.headers.get("content-type", ""):
        return answer.content
    return {key: value for key, value in answer.json().items() if key != "request_id"}


def mentions(answer: httpx.Response, one: Route, foreign: dict[str, str]) -> list[str]:
    return [value for value in foreign.values() if value in answer.text] if one.method == "GET" else []


@pytest.mark.parametrize("whose", ["resident", "staff"])
async def test_a_foreign_cursor_shows_nothing_of_its_owner(
    world: World, sandbox: SandboxControl, drain: Drain, owner: Any, whose: str
) -> None:
    """A cursor of somebody else's list goes on in one's own: the same as with an id just beside that nothing has."""
    home = await world.home(bills=3)
    manager, finance = await world.staff(home.company, Role.MANAGER), await world.staff(home.company, Role.FINANCE)
    await everything_of(world, home, sandbox, drain, owner)
    everybody = await callers(world, home)
    compared = 0
    for one in all_routes():
        lists = one.query is not None and issubclass(one.query, PageQuery) and "{" not in one.path
        if not lists or (one.who is Who.STAFF) != (whose == "staff"):
            continue
        for mine in (home.owner,) if whose == "resident" else (manager, finance):
            page = (await mine.get(f"{one.path}?limit=1")).json()
            cursor = page.get("next_cursor")
            if cursor is None:
                continue
            for name, (person, _) in everybody.items():
                if bool(person.staff) != (whose == "staff") or name.endswith("next community"):
                    continue
                if page["items"][0] in (await person.get(f"{one.path}?limit=100")).json().get("items", ()):
                    continue  # theirs to see as well: a community, say
                theirs = await person.get(f"{one.path}?cursor={cursor}")
                nobodys = await person.get(f"{one.path}?cursor={beside(cursor)}")
                assert theirs.status_code == nobodys.status_code, (name, one.path)
                assert plain(theirs) == plain(nobodys), (name, one.path, theirs.text)
                compared += 1
    assert compared >= 3


def beside(cursor: str) -> str:
    """The cursor with the very next id, which nothing has; a bigint stays: it is a position and no id of the API."""
    *key, last = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    if isinstance(last, str) and re.fullmatch(r"[0-9a-f-]{36}", last):
        last = str(UUID(int=UUID(last).int ^ 1))
    return encode_cursor([*key, last])
