"""消息推送: what WeChat calls about a mini-program."""

from pydantic import ConfigDict, Field

from handlers.route import Call, Query, Reply, Who, route
from kit.errors import BodyTooLarge, NotFound
from services import wechat_push as service

TAG = "微信回调 callbacks"


class PushQuery(Query):
    """As WeChat sends it; what it may add one day is not ours to refuse."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    signature: str = Field("", max_length=64)
    timestamp: str = Field("", max_length=16)
    nonce: str = Field("", max_length=64)
    echostr: str = Field("", max_length=256)
    encrypt_type: str = Field("", max_length=16)
    msg_signature: str = Field("", max_length=64)

    def signed(self) -> service.PushSignature:
        """What the service needs of it."""
        return service.PushSignature(self.timestamp, self.nonce, self.signature, self.msg_signature, self.encrypt_type)


@route("GET", "/callbacks/wechat/push/{app_id}", who=Who.PUBLIC, tag=TAG, summary="消息推送：验证地址", query=PushQuery,
       content_type="text/plain", answer_within_s=4, urgent=True,
       refusals=(NotFound, service.PushUnverified))  # fmt: skip
async def verify_address(call: Call) -> Reply:
    """Answers the echo when the signature is made with our token."""
    echo = await service.verify_push_address(call.id("app_id"), call.query.signed(), call.query.echostr)
    headers = {"X-Content-Type-Options": "nosniff"}
    return Reply(echo.encode(), content_type="text/plain; charset=utf-8", headers=headers)


@route("POST", "/callbacks/wechat/push/{app_id}", who=Who.PUBLIC, tag=TAG, summary="消息推送", query=PushQuery,
       raw_type="application/json", content_type="text/plain", max_bytes=service.MAX_BYTES,
       answer_within_s=4, urgent=True,  # WeChat waits five seconds
       refusals=(NotFound, BodyTooLarge, service.PushUnverified, service.PushMalformed))  # fmt: skip
async def push(call: Call) -> Reply:
    """Safe mode, JSON or XML. ``success`` rests WeChat; repeats are counted and change nothing."""
    await service.receive_push(call.id("app_id"), call.query.signed(), call.raw)
    return Reply(b"success", content_type="text/plain; charset=utf-8")
