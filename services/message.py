"""Messages to residents: queued in the transaction that has something to tell, sent by a job, told once."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

import structlog

from kit import clock
from kit.paging import Page
from models.access import Act, Actor, require_somewhere
from models.job import enqueue_tx
from models.message import MESSAGE_MACHINE, Message, MessageKind, MessageState, MessageSubscription
from models.resident import WechatIdentity
from models.unit_of_work import unit_of_work
from models.wechat_app import WechatApp
from services import miniprogram
from services.listing import newest_first

log = structlog.get_logger()

RETRY_S = (10, 60, 600, 3600, 6 * 3600)
"""After a failure to reach WeChat; after the last one the message has failed."""

_LEASE_S = 30
_AT_ONCE = 8


async def queue_message_tx(
    kind: MessageKind,
    source_id: UUID,
    *,
    organization_id: UUID,
    community_id: UUID,
    resident_id: UUID,
    data: Mapping[str, str],
) -> None:
    """Queue one message, inside the transaction of its cause. A second message of the same kind about the same source
    to the same resident is none: a repeated job tells nobody twice. ``data`` holds no phone and no openid."""
    if await Message.exists(kind=kind, source_id=source_id, resident_id=resident_id):
        return
    # The sweep would find it, but a job starts at once.
    message = await Message.create(
        organization_id=organization_id,
        community_id=community_id,
        resident_id=resident_id,
        kind=kind,
        source_id=source_id,
        data=dict(data),
        next_check_at=clock.now() + timedelta(seconds=RETRY_S[0]),
    )
    await enqueue_tx("send_message", {"message_id": str(message.id)})


async def send_message(message_id: UUID) -> MessageState | None:
    """Send a queued message by each of the resident's mini-programs until one takes it; its state afterwards, None when
    there was nothing to do.

    43101 (no subscription left) is normal and final. WeChat not answering is tried again later.
    """
    message = await _take(message_id)
    if message is None:  # sent, refused, not there, or just being sent by somebody else
        return None
    refusal = "no_identity"
    for identity in await WechatIdentity.filter(resident_id=message.resident_id).order_by("-created_at"):
        app = await WechatApp.get(id=identity.app_id)
        template_id = app.templates.get(message.kind.value)
        if not template_id:
            refusal = "no_template"
            continue
        try:
            msgid = await miniprogram.send_subscribed(app, identity.openid, template_id, message.data)
        except miniprogram.WechatSaysNo as error:
            refusal = str(error.errcode)
            continue
        except miniprogram.WechatAway as error:
            return await _later(message_id, str(error))
        return await _decide(message_id, MessageState.SENT, "", msgid)
    known = {"43101", "no_template", "no_identity"}
    return await _decide(message_id, MessageState.REFUSED if refusal in known else MessageState.FAILED, refusal)


@unit_of_work
async def _take(message_id: UUID) -> Message | None:
    """Lease a queued message for half a minute, unless somebody else has: it is told once."""
    message = await Message.select_for_update().get_or_none(id=message_id)
    soon = clock.now() + timedelta(seconds=RETRY_S[0])
    if message is None or message.next_check_at is None or message.next_check_at > soon:
        return None
    message.next_check_at = clock.now() + timedelta(seconds=_LEASE_S)
    await message.save(update_fields=["next_check_at"])
    return message


@unit_of_work
async def _decide(message_id: UUID, state: MessageState, detail: str, msgid: str | None = None) -> MessageState:
    message = await Message.select_for_update().get(id=message_id)
    if message.state is MessageState.QUEUED:
        sent_at = clock.now() if state is MessageState.SENT else None
        MESSAGE_MACHINE.enter(message, state, detail=detail, next_check_at=None, sent_at=sent_at, msgid=msgid)
        await message.save(update_fields=["state", "detail", "next_check_at", "sent_at", "msgid"])
    return message.state


@unit_of_work
async def _later(message_id: UUID, detail: str) -> MessageState:
    message = await Message.select_for_update().get(id=message_id)
    if message.state is not MessageState.QUEUED:
        return message.state
    message.attempts += 1
    if message.attempts > len(RETRY_S):
        MESSAGE_MACHINE.enter(message, MessageState.FAILED, detail=detail[:200], next_check_at=None)
    else:
        message.next_check_at = clock.now() + timedelta(seconds=RETRY_S[message.attempts - 1])
        message.detail = detail[:200]
    await message.save(update_fields=["state", "attempts", "next_check_at", "detail"])
    return message.state


async def sweep_messages(limit: int = 100) -> int:
    """Send what is due again; how many were taken up."""
    due = await Message.filter(next_check_at__lte=clock.now()).order_by("next_check_at").limit(limit)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def work(message_id: UUID) -> bool:
        async with gate:
            try:
                return await send_message(message_id) is not None
            except Exception:  # one message's trouble must not keep the others waiting; its lease runs out
                log.exception("message_failed", message_id=str(message_id))
                return True

    return sum(await asyncio.gather(*(work(message.id) for message in due)))


async def list_messages(actor: Actor, cursor: str | None, limit: int) -> Page[Message]:
    """Newest first: a resident's own, or those of the communities whose messages the staff member may read."""
    if actor.is_staff:
        require_somewhere(actor, Act.MESSAGE_READ)
    return await newest_first(Message.visible_to(actor), cursor, limit)


async def list_subscriptions(actor: Actor, cursor: str | None, limit: int) -> Page[MessageSubscription]:
    """What the resident last said to each template of the app they are in, newest first."""
    return await newest_first(MessageSubscription.visible_to(actor), cursor, limit)
