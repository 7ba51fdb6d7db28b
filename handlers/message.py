"""Messages to residents."""

from datetime import datetime

from handlers.route import Call, Id, Out, PageOut, PageQuery, Who, route
from kit.errors import NotPermitted
from models.message import Message, MessageKind, MessageState
from services import message as service


class MessageOut(Out):
    id: Id
    kind: MessageKind
    status: MessageState
    data: dict[str, str]
    created_at: datetime
    sent_at: datetime | None


class SubscriptionOut(Out):
    """What a resident last said to a template: whether to ask them again is for the mini-program to decide."""

    template_id: str
    accepted: bool
    said_at: datetime


class StaffMessageOut(MessageOut):
    """``detail`` is WeChat's errcode when it did not take the message; 43101 is normal. ``outcome`` is what WeChat said
    later of one that it took: ``success``, or why it did not arrive; null while it has said nothing."""

    resident_id: Id
    community_id: Id
    detail: str
    outcome: str | None


def _members(message: Message) -> dict[str, object]:
    return {
        "id": str(message.id),
        "kind": message.kind,
        "status": message.state,
        "data": message.data,
        "created_at": message.created_at,
        "sent_at": message.sent_at,
    }


@route("GET", "/api/v1/messages", who=Who.RESIDENT, tag="消息 messages", summary="我的消息", query=PageQuery,
       response=PageOut[MessageOut])  # fmt: skip
async def list_my_messages(call: Call) -> PageOut[MessageOut]:
    page = await service.list_messages(call.actor, call.query.cursor, call.query.limit)
    items = [MessageOut(**_members(message)) for message in page.items]
    return PageOut[MessageOut](items=items, next_cursor=page.next_cursor)


@route("GET", "/api/v1/staff/messages", who=Who.STAFF, tag="消息 messages", summary="消息发送情况", query=PageQuery,
       response=PageOut[StaffMessageOut], refusals=(NotPermitted,))  # fmt: skip
async def list_messages(call: Call) -> PageOut[StaffMessageOut]:
    page = await service.list_messages(call.actor, call.query.cursor, call.query.limit)
    items = [
        StaffMessageOut(
            **_members(message),
            resident_id=str(message.resident_id),
            community_id=str(message.community_id),
            detail=message.detail,
            outcome=message.outcome,
        )
        for message in page.items
    ]
    return PageOut[StaffMessageOut](items=items, next_cursor=page.next_cursor)


@route("GET", "/api/v1/message-subscriptions", who=Who.RESIDENT, tag="消息 messages", summary="我的消息订阅",
       query=PageQuery, response=PageOut[SubscriptionOut])  # fmt: skip
async def list_subscriptions(call: Call) -> PageOut[SubscriptionOut]:
    """As WeChat pushed it; a template that nothing was pushed of is not listed."""
    page = await service.list_subscriptions(call.actor, call.query.cursor, call.query.limit)
    items = [
        SubscriptionOut(template_id=one.template_id, accepted=one.accepted, said_at=one.said_at) for one in page.items
    ]
    return PageOut[SubscriptionOut](items=items, next_cursor=page.next_cursor)
