"""A journey whose people are easy to find again, and then a search of everything that was written on the way."""

import re

import pytest

from models.access import Role
from models.audit import Audit
from server.log import configure_logs
from services import customer as customer_service
from tests.conftest import Drain, SandboxControl
from tests.world import World

PHONE, TYPED, NAME, ID_NUMBER = "13912345678", "13898765432", "欧阳独一无二", "11010519491231002X"


async def test_neither_log_nor_audit_tells_who_somebody_is(
    world: World, sandbox: SandboxControl, drain: Drain, capsys: pytest.CaptureFixture[str]
) -> None:
    home = await world.home()
    butler = await world.staff(home.company, Role.BUTLER, home.community)
    manager = await world.staff(home.company, Role.MANAGER)
    capsys.readouterr()
    configure_logs("debug")
    try:
        new = {"name": NAME, "phone": PHONE, "id_number": ID_NUMBER}
        customer = (await butler.post("/api/v1/staff/customers", new)).json()["id"]
        line = {"customer_id": customer, "kind": "owner", "starts_on": "2026-01-01"}
        assert (await butler.post(f"/api/v1/staff/rooms/{home.room.id}/occupancies", line)).status_code == 201
        person = await world.resident(home.company)
        shared = await person.post("/api/v1/auth/phone", {"code": await sandbox.phone_code(person.openid, PHONE)})
        assert len(shared.json()["bound"]) == 1
        next_door = await world.room(home.community, "3栋1单元1202")
        asked = {"room_id": str(next_door.id), "kind": "tenant", "name": NAME, "phone": TYPED, "note": f"电话{TYPED}"}
        request = (await person.post("/api/v1/occupancy-requests", asked)).json()["id"]
        await butler.post(f"/api/v1/staff/occupancy-requests/{request}/reject", {"reason": f"请致电 {TYPED}"})
        member = {"name": f"{NAME}之子", "phone": world.phone(), "kind": "family"}
        assert (await person.post(f"/api/v1/rooms/{home.room.id}/members", member)).status_code == 201
        await butler.post("/api/v1/staff/customers/search", {"phone": PHONE})
        await butler.post("/api/v1/staff/customers/search", {"phone": "1391234567"})
        look = {"field": "id_number", "reason": f"核对 {PHONE} 的证件"}
        assert (await manager.post(f"/api/v1/staff/customers/{customer}/reveal", look)).status_code == 200
        paid = (await sandbox.pay((await home.open(person)).json())).json()
        await sandbox.called_back(paid["out_trade_no"])
        await person.post("/api/v1/exports")
        await drain()
        assert (
            await person.post("/api/v1/me/close", {"reason": f"改用 {TYPED}", "confirmation": "注销账号"})
        ).is_success
        printed = capsys.readouterr()
    finally:
        configure_logs("error")

    assert len(re.findall('"event": "request"', printed.err)) > 10
    written = printed.out + printed.err + "".join(str(dict(one)) for one in await Audit.all())
    secrets = [home.company.wechat.apiv3_key, home.company.wechat.app_secret, "PRIVATE KEY", person.token, butler.token]
    for private in (PHONE, TYPED, NAME, ID_NUMBER, person.openid, *secrets):
        assert private not in written, private
    assert await Audit.all().count() > 10


async def test_an_error_of_ours_tells_nobody_either(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = await world.home(bills=0)
    butler = await world.staff(home.company, Role.BUTLER, home.community)

    async def fails(*_: object) -> None:
        raise RuntimeError(f"cannot insert ({PHONE}, {home.owner.openid})")

    monkeypatch.setattr(customer_service, "search_customers", fails)
    capsys.readouterr()

    answer = await butler.post("/api/v1/staff/customers/search", {"phone": PHONE})

    printed = capsys.readouterr().err
    assert answer.status_code == 500 and answer.json()["request_id"] in printed
    assert "cannot insert (139****5678, o***)" in printed
    for private in (PHONE, home.owner.openid):
        assert private not in printed + answer.text
