"""The main job told as it happens: a company opens a community, a resident moves in and pays, finance sees it.

Everything goes over HTTP, as the mini-program and the office would do it; only the very first account is made by the
command line's function, as on a real installation.
"""

from typing import Any

import httpx

from models.access import system_actor
from services.organization import open_organization
from services.staff import NewStaff
from tests.conftest import Drain, SandboxControl
from tests.world import TEMPLATES, Person, World

PASSWORD = "correct-horse-battery"
OWNER_PHONE, FAMILY_PHONE = "13912345678", "13987654321"


async def made(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def signed_in_staff(api: httpx.AsyncClient, username: str, password: str = PASSWORD) -> Person:
    answer = await api.post("/api/v1/auth/staff", json={"username": username, "password": password})
    assert answer.status_code == 200, answer.text
    return Person(api, answer.json()["token"], staff=answer.json()["staff"])


async def signed_in_resident(api: httpx.AsyncClient, sandbox: SandboxControl, openid: str) -> Person:
    code = await sandbox.login_code(openid)
    answer = await api.post("/api/v1/auth/wechat", json={"code": code})
    assert answer.status_code == 200, answer.text
    return Person(api, answer.json()["token"], resident=answer.json()["resident"], openid=openid)


async def open_the_company(world: World) -> tuple[Person, str]:
    """Legal entity, mini-program and merchant account; the secrets go in and never come out again."""
    wechat = world.wechat[0]
    await open_organization(system_actor("test"), "晴川物业", NewStaff("manager", "经理", PASSWORD))
    manager = await signed_in_staff(world.api, "manager")
    entity = await made(await manager.post("/api/v1/staff/legal-entities", {"name": "晴川物业服务有限公司"}))
    await made(
        await manager.post(
            "/api/v1/staff/wechat-apps",
            {"appid": wechat.appid, "name": "晴川邻里", "secret": wechat.app_secret, "templates": TEMPLATES},
        )
    )
    account = await made(
        await manager.post(
            "/api/v1/staff/merchant-accounts",
            {
                "legal_entity_id": entity["id"],
                "name": "物业费",
                "mchid": wechat.mchid,
                "serial_no": wechat.serial_no,
                "private_key": wechat.private_key,
                "apiv3_key": wechat.apiv3_key,
                "wechat_pay_keys": [
                    {
                        "serial": wechat.platform["public_key_id"],
                        "kind": "public_key",
                        "pem": wechat.platform["public_key"],
                    }
                ],
            },
        )
    )
    shown = (await manager.get("/api/v1/staff/merchant-accounts")).text + str(account)
    assert "PRIVATE KEY" not in shown and wechat.apiv3_key not in shown
    assert wechat.app_secret not in (await manager.get("/api/v1/staff/wechat-apps")).text
    return manager, account["id"]


async def open_the_community(manager: Person, account_id: str) -> dict[str, Any]:
    """A community with one flat, its owner on the register, a fee item, and somebody in finance."""
    entity = (await manager.get("/api/v1/staff/legal-entities")).json()["items"][0]
    community = await made(
        await manager.post(
            "/api/v1/staff/communities", {"name": "晴川花园", "code": "QCHY", "merchant_account_id": account_id}
        )
    )
    base = f"/api/v1/staff/communities/{community['id']}"
    building = await made(await manager.post(f"{base}/buildings", {"name": "3栋"}))
    unit = await made(await manager.post(f"/api/v1/staff/buildings/{building['id']}/units", {"name": "1单元"}))
    room = await made(
        await manager.post(
            f"{base}/rooms",
            {"building_id": building["id"], "unit_id": unit["id"], "number": "1201", "area_m2": "89.53"},
        )
    )
    assert room["name"] == "3栋1单元1201"
    customer = await made(await manager.post("/api/v1/staff/customers", {"name": "周海燕", "phone": OWNER_PHONE}))
    assert OWNER_PHONE not in str(customer)
    await made(
        await manager.post(
            f"/api/v1/staff/rooms/{room['id']}/occupancies",
            {"customer_id": customer["id"], "kind": "owner", "starts_on": "2020-03-01"},
        )
    )
    item = await made(
        await manager.post(f"{base}/fee-items", {"code": "WYF", "name": "物业费", "legal_entity_id": entity["id"]})
    )
    await made(
        await manager.post(
            "/api/v1/staff/members",
            {
                "username": "finance",
                "name": "财务",
                "password": PASSWORD,
                "roles": [{"community_id": community["id"], "role": "finance"}],
            },
        )
    )
    return {"community": community, "room": room, "customer": customer, "item": item}


async def issue_bills(finance: Person, place: dict[str, Any]) -> None:
    for month in (10, 11):
        await made(
            await finance.post(
                "/api/v1/staff/bills",
                {
                    "community_id": place["community"]["id"],
                    "room_id": place["room"]["id"],
                    "customer_id": place["customer"]["id"],
                    "purpose": f"WYF:2026-{month}",
                    "title": f"2026年{month}月物业费",
                    "accrued_on": f"2026-{month}-30",
                    "due_on": f"2026-{month}-30",
                    "lines": [
                        {
                            "fee_item_id": place["item"]["id"],
                            "title": "物业费",
                            "amount_fen": 25068,
                            "quantity": "89.53",
                            "unit": "m²",
                            "unit_price": "2.80",
                            "formula": "89.53 m² × 2.80 元/m²·月",
                        }
                    ],
                },
            )
        )


async def test_from_the_opening_of_a_community_to_a_receipt(
    world: World, sandbox: SandboxControl, drain: Drain, books
) -> None:
    manager, account_id = await open_the_company(world)
    place = await open_the_community(manager, account_id)
    finance = await signed_in_staff(world.api, "finance")
    await issue_bills(finance, place)

    # The owner opens the mini-program, shares the phone, and is bound to the flat whose register holds it.
    owner = await signed_in_resident(world.api, sandbox, "openid-of-the-owner")
    assert (await owner.get("/api/v1/rooms")).json()["items"] == []
    code = await sandbox.phone_code(owner.openid, OWNER_PHONE)
    bound = (await owner.post("/api/v1/auth/phone", {"code": code})).json()["bound"]
    assert [(one["room"], one["community"], one["kind"]) for one in bound] == [("3栋1单元1201", "晴川花园", "owner")]

    # Sees what is owed and how it came about, ticks both, and pays.
    bills = (await owner.get("/api/v1/bills?status=open")).json()["items"]
    assert [(bill["title"], bill["amount_fen"]) for bill in bills] == [
        ("2026年10月物业费", 25068),
        ("2026年11月物业费", 25068),
    ]
    assert bills[0]["lines"][0]["formula"] == "89.53 m² × 2.80 元/m²·月"
    document = {"bill_ids": [bill["id"] for bill in bills], "channel": "wechat_jsapi"}
    payment = await made(await owner.post("/api/v1/payments", document))
    paid = (await sandbox.pay(payment)).json()
    callback = await sandbox.called_back(paid["out_trade_no"])
    assert [attempt["status"] for attempt in callback["attempts"]] == [204]
    assert await drain() == ["payment_settled", "send_message"]

    # The bills are paid, the receipt is numbered, the message is on the phone.
    assert (await owner.get("/api/v1/bills?status=open")).json()["items"] == []
    seen = (await owner.get(f"/api/v1/payments/{payment['id']}")).json()
    assert (seen["status"], seen["amount_fen"], seen["surplus_fen"]) == ("paid", 50136, 0)
    receipt = (await owner.get(f"/api/v1/receipts/{seen['receipt_id']}")).json()
    assert receipt["number"].startswith("QCHY-") and receipt["number"].endswith("-2026-000001")
    assert (receipt["customer"], receipt["amount_in_capitals"]) == ("周海燕", "伍佰零壹元叁角陆分")
    told = (await sandbox.client.get("/sandbox/messages", params={"openid": owner.openid})).json()["messages"]
    assert [message["data"]["amount2"] for message in told] == ["501.36元"]

    # Finance sees it, and it adds up.
    base = f"/api/v1/staff/communities/{place['community']['id']}"
    (entry,) = (await finance.get(f"{base}/entries?payment_id={payment['id']}")).json()["items"]
    assert (entry["debit"], entry["credit"], entry["amount_fen"]) == ("wechat_clearing", "received", 50136)
    assert entry["transaction_id"] == paid["transaction_id"]
    summary = (await finance.get(f"{base}/summary")).json()
    assert (summary["billed_fen"], summary["paid_fen"], summary["owed_fen"]) == (50136, 50136, 0)
    await books()


async def test_the_household_fills_up_and_everybody_is_told(
    world: World, sandbox: SandboxControl, drain: Drain
) -> None:
    manager, account_id = await open_the_company(world)
    await open_the_community(manager, account_id)
    owner = await signed_in_resident(world.api, sandbox, "openid-of-the-owner")
    (home,) = (
        await owner.post("/api/v1/auth/phone", {"code": await sandbox.phone_code(owner.openid, OWNER_PHONE)})
    ).json()["bound"]

    await made(
        await owner.post(
            f"/api/v1/rooms/{home['room_id']}/members", {"name": "周小燕", "phone": FAMILY_PHONE, "kind": "family"}
        )
    )
    family = await signed_in_resident(world.api, sandbox, "openid-of-the-daughter")
    bound = (
        await family.post("/api/v1/auth/phone", {"code": await sandbox.phone_code(family.openid, FAMILY_PHONE)})
    ).json()["bound"]
    await drain()

    assert [(one["room"], one["kind"]) for one in bound] == [("3栋1单元1201", "family")]
    told = (await sandbox.client.get("/sandbox/messages", params={"openid": owner.openid})).json()["messages"]
    assert [message["template_id"] for message in told] == [TEMPLATES["household_joined"]]
    members = (await owner.get(f"/api/v1/rooms/{home['room_id']}/members")).json()["items"]
    (member,) = [one for one in members if one["kind"] == "family"]
    assert FAMILY_PHONE not in str(members)
    removed = await owner.delete(f"/api/v1/rooms/{home['room_id']}/members/{member['id']}")
    assert removed.status_code == 204
    assert (await family.get("/api/v1/rooms")).json()["items"] == []
