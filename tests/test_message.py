"""Messages: told once, refusals are normal, WeChat away is tried again."""

import asyncio
from datetime import timedelta

import pytest

from kit import clock
from models.message import Message, MessageKind, MessageState
from models.unit_of_work import unit_of_work
from services import miniprogram
from services.message import queue_message_tx, send_message, sweep_messages
from tests.conftest import Drain, SandboxControl
from tests.world import TEMPLATES, Home, World, unknown_id


@unit_of_work
async def queue(home: Home, source_id: str) -> None:
    await queue_message_tx(
        MessageKind.PAYMENT_RECEIVED,
        source_id,  # type: ignore[arg-type]
        organization_id=home.company.id,
        community_id=home.community.id,
        resident_id=home.owner.resident.id,
        data={"thing1": "缴费成功", "amount2": "250.68元", "character_string3": "XHY-2026-000001"},
    )


async def inbox(sandbox: SandboxControl, home: Home) -> list[dict]:
    answer = await sandbox.client.get("/sandbox/messages", params={"openid": home.owner.openid})
    return list(answer.json()["messages"])


async def test_a_message_reaches_the_phone_once(world: World, sandbox: SandboxControl, drain: Drain) -> None:
    home = await world.home()
    source = unknown_id()
    await queue(home, source)
    await queue(home, source)  # a repeated job queues nothing

    assert await drain() == ["send_message"]

    (received,) = await inbox(sandbox, home)
    assert received["template_id"] == TEMPLATES["payment_received"]
    assert received["data"] == {"thing1": "缴费成功", "amount2": "250.68元", "character_string3": "XHY-2026-000001"}
    message = await Message.get()
    assert (message.state, message.next_check_at) == (MessageState.SENT, None)


async def test_job_and_sweep_at_once_tell_it_once(
    world: World, sandbox: SandboxControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = await world.home()
    await queue(home, unknown_id())
    sent = []

    async def slow(*_arguments: object) -> None:
        sent.append(1)
        await asyncio.sleep(0.3)

    monkeypatch.setattr(miniprogram, "send_subscribed", slow)
    job = asyncio.create_task(send_message((await Message.get()).id))
    await asyncio.sleep(0.1)
    with clock.travel_to(clock.now() + timedelta(seconds=12)):
        assert await sweep_messages() == 0
    await job

    assert sent == [1] and (await Message.get()).state is MessageState.SENT


async def test_no_subscription_left_is_normal(world: World, sandbox: SandboxControl, drain: Drain) -> None:
    home = await world.home()
    template = TEMPLATES["payment_received"]
    await sandbox.post("/sandbox/subscriptions", {"openid": home.owner.openid, "template_id": template, "times": 0})
    await queue(home, unknown_id())
    await drain()

    message = await Message.get()
    assert (message.state, message.detail) == (MessageState.REFUSED, "43101")
    assert await inbox(sandbox, home) == []


async def test_an_app_without_the_template_sends_nothing(world: World, sandbox: SandboxControl, drain: Drain) -> None:
    home = await world.home()
    home.company.app.templates = {}
    await home.company.app.save()
    await queue(home, unknown_id())
    await drain()

    assert (await Message.get()).detail == "no_template"


async def test_wechat_away_is_tried_again_by_the_sweep(world: World, sandbox: SandboxControl, drain: Drain) -> None:
    home = await world.home()
    await queue(home, unknown_id())
    miniprogram.configure("http://127.0.0.1:9")
    await drain()
    message = await Message.get()
    assert (message.state, message.attempts) == (MessageState.QUEUED, 1)
    assert await sweep_messages() == 0  # not yet

    miniprogram.configure(sandbox.base)
    with clock.travel_to(clock.now() + timedelta(seconds=15)):
        assert await sweep_messages() == 1

    assert (await Message.get()).state is MessageState.SENT
    assert len(await inbox(sandbox, home)) == 1


async def test_wechat_away_for_a_day_is_a_failure(world: World, sandbox: SandboxControl, drain: Drain) -> None:
    home = await world.home()
    await queue(home, unknown_id())
    miniprogram.configure("http://127.0.0.1:9")
    await drain()
    for hours in (1, 2, 3, 12, 24, 48):
        with clock.travel_to(clock.now() + timedelta(hours=hours)):
            await sweep_messages()

    message = await Message.get()
    assert (message.state, message.next_check_at, message.attempts) == (MessageState.FAILED, None, 6)


async def test_a_token_that_wechat_dropped_is_fetched_again(
    world: World, sandbox: SandboxControl, drain: Drain
) -> None:
    home = await world.home()
    await queue(home, unknown_id())
    await drain()
    # Somebody else forces a new token: ours is dead from one moment to the next.
    await sandbox.post(
        "/cgi-bin/stable_token",
        {
            "grant_type": "client_credential",
            "appid": home.company.app.appid,
            "secret": home.company.wechat.app_secret,
            "force_refresh": True,
        },
    )
    await queue(home, unknown_id())
    await drain()

    assert [message.state for message in await Message.all()] == [MessageState.SENT] * 2
    assert len(await inbox(sandbox, home)) == 2
