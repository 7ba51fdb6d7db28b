"""The main job as a resident's day: from the first opening of the mini-program to a receipt in the hand."""

from tests.conftest import Drain, SandboxControl
from tests.world import World


async def test_an_owner_pays_two_bills(world: World, sandbox: SandboxControl, drain: Drain, books) -> None:
    home = await world.home(bills=2)

    opened = await home.open()
    assert opened.status_code == 201, opened.text
    payment = opened.json()
    assert payment["status"] == "open" and payment["amount_fen"] == 25068 + 25069
    paid = await sandbox.pay(payment)
    assert paid.status_code == 200, paid.text
    callback = await sandbox.called_back(paid.json()["out_trade_no"])
    assert [attempt["status"] for attempt in callback["attempts"]] == [204]

    assert await drain() == ["payment_settled", "send_message"]
    seen = (await home.owner.get(f"/api/v1/payments/{payment['id']}")).json()
    assert seen["status"] == "paid" and seen["surplus_fen"] == 0
    await books()
