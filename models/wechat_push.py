"""消息推送: what WeChat pushed about a mini-program, verified, kept once."""

from enum import StrEnum

from tortoise import fields

from models.base import Row

BODY_CONTEXT = "wechat_pushes.body"


class WechatPushOutcome(StrEnum):
    """What came of it."""

    APPLIED = "applied"  # something here changed, or could have
    KEPT = "kept"  # an event that nobody here works on: kept and counted


class WechatPush(Row):
    """One push. Unique: (app, dedupe_key), so that WeChat's repeats only count.

    The key is a hash of MsgId, or of FromUserName, CreateTime and event; the body is encrypted, for it holds openids.
    """

    app_id = fields.UUIDField()
    dedupe_key = fields.CharField(max_length=64)
    event = fields.CharField(max_length=64)
    outcome = fields.CharEnumField(WechatPushOutcome, max_length=32)
    body_cipher = fields.TextField()
    deliveries = fields.IntField(default=1)

    class Meta:
        table = "wechat_pushes"
        unique_together = (("app_id", "dedupe_key"),)
