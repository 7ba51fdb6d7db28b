"""A company opens a community: legal entity, mini-program, merchant account, settings, fee items; and audit of it."""

from typing import Any

import httpx
import pytest

from kit.errors import NotPermitted
from models.access import Actor, ActorKind, Role, system_actor
from models.audit import Audit
from models.community import Community
from models.fee_item import FeeItem
from models.merchant_account import APIV3_KEY_CONTEXT, PRIVATE_KEY_CONTEXT, MerchantAccount, WechatPayKey
from models.organization import LegalEntity, Organization
from models.secret import decrypt
from models.staff import Staff, StaffRole
from models.wechat_app import SECRET_CONTEXT, WechatApp
from services.organization import open_organization
from services.staff import NewStaff
from tests.world import AtWechat, Company, Person, World, unknown_id


async def _made(person: Person, path: str, document: dict[str, Any]) -> dict[str, Any]:
    answer = await person.post(f"/api/v1/staff/{path}", document)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def _merchant(at: AtWechat, entity_id: str, **values: Any) -> dict[str, Any]:
    keys = [{"serial": at.platform["public_key_id"], "kind": "public_key", "pem": at.platform["public_key"]}]
    return {
        "legal_entity_id": entity_id, "name": "物业费商户", "mchid": at.mchid, "serial_no": at.serial_no,
        "private_key": at.private_key, "apiv3_key": at.apiv3_key, "wechat_pay_keys": keys, **values,
    }  # fmt: skip


async def test_an_organization_is_opened_by_a_command_and_its_manager_signs_in(
    world: World, api: httpx.AsyncClient
) -> None:
    first = NewStaff("chen.gang", "陈刚", "correct-horse-7")

    organization, view = await open_organization(system_actor("test"), "邻里物业", first)

    assert [(grant.community_id, grant.role) for grant in view.roles] == [(None, Role.MANAGER)]
    answer = await api.post("/api/v1/auth/staff", json={"username": "chen.gang", "password": "correct-horse-7"})
    manager = Person(api, answer.json()["token"])
    assert (await manager.get("/api/v1/staff/organization")).json() == {
        "id": str(organization.id), "name": "邻里物业", "second_factor_roles": [],
    }  # fmt: skip
    anybody = Actor(kind=ActorKind.STAFF, id=view.staff.id, organization_id=organization.id)
    with pytest.raises(NotPermitted):
        await open_organization(anybody, "别家物业", NewStaff("someone", "某人", "correct-horse-7"))
    assert (await Organization.all().count(), await Staff.all().count()) == (1, 1)


async def test_a_community_is_opened_from_nothing(world: World, api: httpx.AsyncClient) -> None:
    at = world.wechat[0]
    organization, view = await open_organization(
        system_actor("test"), "邻里物业", NewStaff("chen.gang", "陈刚", "correct-horse-7")
    )
    signed_in = await api.post("/api/v1/auth/staff", json={"username": "chen.gang", "password": "correct-horse-7"})
    manager = Person(api, signed_in.json()["token"])

    tax = {"tax_number": "91110000MA00000000"}
    entity = await _made(manager, "legal-entities", {"name": "邻里物业服务有限公司", **tax})
    templates = {"payment_received": "template-payment_received"}
    app = await _made(
        manager, "wechat-apps",
        {"appid": at.appid, "name": "邻里", "secret": at.app_secret, "templates": templates},
    )  # fmt: skip
    merchant = await _made(manager, "merchant-accounts", _merchant(at, entity["id"]))
    community = await _made(
        manager, "communities", {"name": "阳光花园", "code": "YGHY", "merchant_account_id": merchant["id"]}
    )
    item = await _made(
        manager, f"communities/{community['id']}/fee-items",
        {"code": "WYF", "name": "物业费", "legal_entity_id": entity["id"]},
    )  # fmt: skip

    assert app == {
        "id": app["id"], "appid": at.appid, "name": "邻里", "templates": templates, "takes_pushes": False,
        "uploads_shipping": False, "shipping_refusal": None,
    }  # fmt: skip
    assert merchant == {
        "id": merchant["id"], "legal_entity_id": entity["id"], "name": "物业费商户", "mode": "direct",
        "mchid": at.mchid, "sub_mchid": None, "sp_appid": None, "serial_no": at.serial_no, "active": True,
        "certificate_expires_at": None,
        "wechat_pay_keys": [
            {"id": merchant["wechat_pay_keys"][0]["id"], "serial": at.platform["public_key_id"], "kind": "public_key"}
        ],
    }  # fmt: skip
    assert community == {
        "id": community["id"], "name": "阳光花园", "code": "YGHY", "address": "",
        "merchant_account_id": merchant["id"], "oldest_arrears_first": False, "payment_minutes": 30,
        "prepaid_fee_item_id": None, "prepaid_pay_day": None,
    }  # fmt: skip
    assert (item["merchant_account_id"], item["active"]) == (None, True)
    # Secrets went in and are readable to the program only.
    account = await MerchantAccount.get()
    assert decrypt(account.private_key_cipher, PRIVATE_KEY_CONTEXT) == at.private_key.strip()
    assert decrypt(account.apiv3_key_cipher, APIV3_KEY_CONTEXT) == at.apiv3_key
    assert decrypt((await WechatApp.get()).secret_cipher, SECRET_CONTEXT) == at.app_secret
    audits = str([dict(row) for row in await Audit.all()])
    for hidden in (at.app_secret, at.apiv3_key, at.private_key[100:140], "correct-horse-7"):
        assert hidden not in audits
    # And the resident's sign-in works with what was typed in.
    code = await world.login_code("oOpenedFromNothing000000000001", at.appid)
    assert (await api.post("/api/v1/auth/wechat", json={"code": code})).status_code == 200
    assert (await StaffRole.get()).staff_id == view.staff.id and organization.name == "邻里物业"


async def test_keys_that_cannot_work_are_refused_and_never_echoed(world: World) -> None:
    company = await world.company(0)
    manager = await world.staff(company, Role.MANAGER)
    at = world.wechat[1]
    certificate = at.platform["certificates"][0]
    good = _merchant(at, str(company.legal_entity.id))
    path = "/api/v1/staff/merchant-accounts"

    def key(serial: str, kind: str, pem: str) -> dict[str, Any]:
        return {"wechat_pay_keys": [{"serial": serial, "kind": kind, "pem": pem}]}

    refused = [
        (await manager.post(path, good | {"private_key": at.public_key}), "private_key_not_valid"),
        (await manager.post(path, good | {"private_key": "SECRET-GIBBERISH"}), "private_key_not_valid"),
        (await manager.post(path, good | {"apiv3_key": "SECRET-GIBBERISH"}), "invalid_input"),
        (await manager.post(path, good | key("PUB_KEY_ID_1", "public_key", "x")), "wechat_pay_key_not_valid"),
        (await manager.post(path, good | key("ABCDEF", "certificate", certificate["certificate"])),
         "wechat_pay_key_not_valid"),
        (await manager.post(path, good | {"mode": "partner"}), "merchant_mode_not_consistent"),
        (await manager.post(path, good | {"sub_mchid": "1900000999"}), "merchant_mode_not_consistent"),
    ]  # fmt: skip

    assert [answer.status_code for answer, _ in refused] == [422] * len(refused)
    assert [answer.json()["code"] for answer, _ in refused] == [code for _, code in refused]
    assert not any("GIBBERISH" in answer.text for answer, _ in refused)
    foreign = await manager.post(path, good | {"legal_entity_id": unknown_id()})
    assert foreign.status_code == 404
    taken = await manager.post(path, good | {"mchid": company.wechat.mchid})
    assert (taken.status_code, taken.json()["code"]) == (409, "merchant_account_taken")
    assert await MerchantAccount.all().count() == 1
    made = await manager.post(path, good | key(certificate["serial_no"], "certificate", certificate["certificate"]))
    assert made.status_code == 201, made.text


async def test_keys_are_added_and_changed(world: World) -> None:
    company = await world.company(0)
    manager = await world.staff(company, Role.MANAGER)
    at, other = world.wechat[0], world.wechat[1]
    path = f"/api/v1/staff/merchant-accounts/{company.merchant.id}"
    key = {"serial": other.platform["public_key_id"] + "9", "kind": "public_key", "pem": other.platform["public_key"]}

    first, again = [await manager.post(f"{path}/wechat-pay-keys", key, key="k") for _ in range(2)]
    assert (first.status_code, again.json()) == (201, first.json())
    taken = await manager.post(f"{path}/wechat-pay-keys", key)
    assert (taken.status_code, taken.json()["code"]) == (409, "wechat_pay_key_taken")
    alone = await manager.patch(path, {"private_key": other.private_key})
    assert (alone.status_code, alone.json()["code"]) == (422, "private_key_not_valid")
    kept = await MerchantAccount.get()
    assert decrypt(kept.private_key_cipher, PRIVATE_KEY_CONTEXT) == at.private_key
    changed = await manager.patch(
        path, {"private_key": other.private_key, "serial_no": other.serial_no, "apiv3_key": "a" * 32, "active": False}
    )
    assert (changed.json()["serial_no"], changed.json()["active"]) == (other.serial_no, False)
    kept = await MerchantAccount.get()
    assert decrypt(kept.private_key_cipher, PRIVATE_KEY_CONTEXT) == other.private_key.strip()
    assert decrypt(kept.apiv3_key_cipher, APIV3_KEY_CONTEXT) == "a" * 32
    audit = await Audit.get(act="merchant_account.update")
    assert audit.after == {
        "active": False, "serial_no": other.serial_no, "private_key": "changed", "apiv3_key": "changed",
        "certificate_expires_at": None,
    }  # fmt: skip


async def test_money_never_goes_to_another_legal_entitys_account(world: World) -> None:
    company = await world.company(0)
    manager = await world.staff(company, Role.MANAGER)
    community = await world.community(company)
    second = await LegalEntity.create(organization_id=company.id, name="停车管理有限公司")
    account = await world.merchant(company.id, second.id, world.wechat[1])
    items = f"/api/v1/staff/communities/{community.id}/fee-items"
    parking = {"code": "TCF", "name": "停车费", "legal_entity_id": str(second.id)}

    at_the_communitys = await manager.post(items, parking)
    assert (at_the_communitys.status_code, at_the_communitys.json()["code"]) == (
        422, "merchant_account_of_another_entity",
    )  # fmt: skip
    made = await manager.post(items, parking | {"merchant_account_id": str(account.id)})
    assert made.status_code == 201, made.text
    back = await manager.patch(f"/api/v1/staff/fee-items/{made.json()['id']}", {"merchant_account_id": None})
    assert back.json()["code"] == "merchant_account_of_another_entity"
    await world.fee_item(company, community)
    moved = await manager.patch(f"/api/v1/staff/communities/{community.id}", {"merchant_account_id": str(account.id)})
    assert (moved.status_code, moved.json()["code"]) == (422, "merchant_account_of_another_entity")
    assert (await Community.get()).merchant_account_id == company.merchant.id
    assert (await FeeItem.get(code="TCF")).merchant_account_id == account.id
    off = await manager.patch(f"/api/v1/staff/fee-items/{made.json()['id']}", {"active": False, "name": "车位费"})
    assert (off.json()["active"], off.json()["name"]) == (False, "车位费")


async def test_fee_items_are_named_once_and_found_by_whoever_may(world: World) -> None:
    company = await world.company()
    community = await world.community(company)
    finance = await world.staff(company, Role.FINANCE, community)
    guard = await world.staff(company, Role.GUARD, community)
    items = f"/api/v1/staff/communities/{community.id}/fee-items"
    document = {"code": "WYF", "name": "物业费", "legal_entity_id": str(company.legal_entity.id)}

    first, again = [await finance.post(items, document, key="one") for _ in range(2)]

    assert (first.status_code, again.json()) == (201, first.json())
    assert (await finance.post(items, document | {"name": "水费"})).json()["code"] == "fee_item_code_taken"
    assert (await finance.post(items, document | {"code": "SF"})).json()["code"] == "fee_item_name_taken"
    assert (await finance.get(items)).json()["items"] == [first.json()]
    assert (await guard.get(items)).status_code == 403
    assert (await guard.post(items, document | {"code": "X", "name": "X"})).status_code == 403
    assert await FeeItem.all().count() == 1


async def test_settings_are_changed_by_the_communitys_manager_but_not_where_its_money_goes(world: World) -> None:
    company = await world.company()
    community = await world.community(company)
    local = await world.staff(company, Role.MANAGER, community)
    butler = await world.staff(company, Role.BUTLER, community)
    manager = await world.staff(company, Role.MANAGER)
    path = f"/api/v1/staff/communities/{community.id}"

    changed = await local.patch(path, {"oldest_arrears_first": True, "payment_minutes": 15, "address": "南湖路1号"})
    assert changed.status_code == 200, changed.text
    assert [changed.json()[name] for name in ("oldest_arrears_first", "payment_minutes", "address", "name")] == [
        True, 15, "南湖路1号", "阳光花园",
    ]  # fmt: skip
    assert (await local.patch(path, {"merchant_account_id": None})).status_code == 403
    assert (await butler.patch(path, {"payment_minutes": 20})).status_code == 403
    assert (await local.patch(path, {"payment_minutes": 1})).status_code == 422
    assert (await manager.patch(path, {"merchant_account_id": unknown_id()})).status_code == 404
    kept = await Community.get()
    assert (kept.payment_minutes, kept.merchant_account_id) == (15, company.merchant.id)
    assert (await manager.patch(path, {"merchant_account_id": None})).json()["merchant_account_id"] is None
    audits = await Audit.filter(act="community.update").order_by("id")
    assert [audit.after["payment_minutes"] for audit in audits] == [15, 15]
    assert audits[0].before["payment_minutes"] == 30


async def test_only_organization_wide_managers_open_things(world: World) -> None:
    company = await world.company(0)
    community = await world.community(company)
    local = await world.staff(company, Role.MANAGER, community)
    counts = [await model.all().count() for model in (LegalEntity, WechatApp, MerchantAccount, Community, WechatPayKey)]
    at = world.wechat[1]
    merchant = f"merchant-accounts/{company.merchant.id}"
    key = {"serial": "PUB_KEY_ID_9", "kind": "public_key", "pem": at.platform["public_key"]}

    answers = [
        await local.post("/api/v1/staff/legal-entities", {"name": "新公司"}),
        await local.post("/api/v1/staff/wechat-apps", {"appid": "wx1234567890abcdef", "name": "新", "secret": "s"}),
        await local.post("/api/v1/staff/merchant-accounts", _merchant(at, str(company.legal_entity.id))),
        await local.post("/api/v1/staff/communities", {"name": "新小区", "code": "NEW"}),
        await local.post(f"/api/v1/staff/{merchant}/wechat-pay-keys", key),
        await local.patch(f"/api/v1/staff/{merchant}", {"active": False}),
        await local.patch(f"/api/v1/staff/wechat-apps/{company.app.id}", {"secret": "stolen"}),
        await local.get("/api/v1/staff/merchant-accounts"),
        await local.get("/api/v1/staff/wechat-apps"),
    ]

    assert [answer.status_code for answer in answers] == [403] * len(answers)
    assert counts == [
        await model.all().count() for model in (LegalEntity, WechatApp, MerchantAccount, Community, WechatPayKey)
    ]
    assert (await MerchantAccount.get()).active


async def test_another_companys_things_are_not_there(world: World) -> None:
    ours, theirs = await world.company(), await world.company()
    manager = await world.staff(ours, Role.MANAGER)
    await world.community(ours)
    community = await world.community(theirs)
    item = await world.fee_item(theirs, community)
    unknown = unknown_id()

    for kind, found in _things(theirs, community, item):
        foreign = await manager.get(f"/api/v1/staff/{kind}/{found}")
        assert (foreign.status_code, foreign.json()) == (
            404, (await manager.get(f"/api/v1/staff/{kind}/{unknown}")).json(),
        ), kind  # fmt: skip
    assert (await manager.patch(f"/api/v1/staff/communities/{community.id}", {"name": "改名"})).status_code == 404
    assert (await manager.patch(f"/api/v1/staff/wechat-apps/{theirs.app.id}", {"secret": "x"})).status_code == 404
    assert (await manager.patch(f"/api/v1/staff/fee-items/{item.id}", {"active": False})).status_code == 404
    assert (await manager.post("/api/v1/staff/communities", {
        "name": "新小区", "code": "NEW", "merchant_account_id": str(theirs.merchant.id),
    })).status_code == 404  # fmt: skip
    for kind in ("legal-entities", "wechat-apps", "merchant-accounts", "communities"):
        assert len((await manager.get(f"/api/v1/staff/{kind}")).json()["items"]) == 1, kind
    taken = await manager.post("/api/v1/staff/wechat-apps", {"appid": theirs.app.appid, "name": "抢注", "secret": "s"})
    assert (taken.status_code, taken.json()["code"]) == (409, "appid_taken")


def _things(company: Company, community: Community, item: FeeItem) -> list[tuple[str, Any]]:
    return [
        ("legal-entities", company.legal_entity.id),
        ("wechat-apps", company.app.id),
        ("merchant-accounts", company.merchant.id),
        ("communities", community.id),
        ("fee-items", item.id),
    ]


async def test_audit_is_read_by_managers_and_auditors_of_the_place(world: World) -> None:
    company = await world.company()
    here, there = await world.community(company), await world.community(company, "月亮湾")
    manager = await world.staff(company, Role.MANAGER)
    auditor = await world.staff(company, Role.AUDITOR, here)
    butler = await world.staff(company, Role.BUTLER, here)
    for community in (here, there):
        await manager.patch(f"/api/v1/staff/communities/{community.id}", {"payment_minutes": 20})
    await manager.post("/api/v1/staff/legal-entities", {"name": "新公司"})

    everything = (await manager.get("/api/v1/staff/audits")).json()["items"]
    assert [row["act"] for row in everything] == ["legal_entity.create", "community.update", "community.update"]
    assert everything[0]["actor"] == f"staff:{manager.staff.id}" and everything[0]["staff_name"] == "员工manager"
    assert "id" not in everything[0]
    local = (await auditor.get("/api/v1/staff/audits")).json()["items"]
    assert [(row["target_id"], row["before"]["payment_minutes"]) for row in local] == [(str(here.id), 30)]
    one = (await manager.get("/api/v1/staff/audits", params={"target_id": str(there.id)})).json()["items"]
    assert [row["community_id"] for row in one] == [str(there.id)]
    first = (await manager.get("/api/v1/staff/audits", params={"limit": 2})).json()
    rest = (await manager.get("/api/v1/staff/audits", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert first["items"] + rest["items"] == everything
    assert (await auditor.get("/api/v1/staff/audits", params={"community_id": str(there.id)})).status_code == 404
    assert (await butler.get("/api/v1/staff/audits")).status_code == 403
    bad = await manager.get("/api/v1/staff/audits", params={"cursor": "WzFlMzBd"})  # [1e30]
    assert (bad.status_code, bad.json()["code"]) == (400, "invalid_cursor")
