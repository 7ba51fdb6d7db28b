"""What WeChat calls. The answer's status is the whole answer: 204 rests it, anything else brings it back."""

from handlers.route import Call, Reply, Who, route
from kit.errors import BodyTooLarge, NotFound
from models.notification import NotificationKind
from payments import MAX_NOTIFICATION_BYTES, NotificationMalformed, NotificationUnverified, UnknownOrder, receive

_REFUSALS = (NotFound, BodyTooLarge, NotificationUnverified, NotificationMalformed, UnknownOrder)
_OPTIONS = {"who": Who.PUBLIC, "tag": "微信回调 callbacks", "status": 204, "raw_type": "application/json",
            "max_bytes": MAX_NOTIFICATION_BYTES, "refusals": _REFUSALS,
            # WeChat waits five seconds for its answer.
            "answer_within_s": 4, "urgent": True}  # fmt: skip


@route("POST", "/callbacks/wechat/pay/{merchant_account_id}", summary="支付结果通知", **_OPTIONS)
async def payment_notice(call: Call) -> Reply:
    """Signed by WeChat; believed only when signature, window and every fact agree."""
    await receive(NotificationKind.PAYMENT, call.id("merchant_account_id"), call.headers, call.raw)
    return Reply(status=204)


@route("POST", "/callbacks/wechat/refund/{merchant_account_id}", summary="退款结果通知", **_OPTIONS)
async def refund_notice(call: Call) -> Reply:
    """Signed by WeChat; believed only when every fact agrees. A refund made by hand at WeChat's site becomes a case."""
    await receive(NotificationKind.REFUND, call.id("merchant_account_id"), call.headers, call.raw)
    return Reply(status=204)
