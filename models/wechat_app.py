"""小程序: each organization brings its own; an openid means nothing without its app."""

from tortoise import fields
from tortoise.models import Model

from models.base import Row, json_field

SECRET_CONTEXT = "wechat_apps.secret"
TOKEN_CONTEXT = "wechat_tokens.token"
PUSH_TOKEN_CONTEXT = "wechat_apps.push_token"
PUSH_KEY_CONTEXT = "wechat_apps.push_key"


class WechatApp(Row):
    """A mini-program. ``templates`` maps our message kinds to the subscription template ids granted to the app.

    Push token and key (EncodingAESKey) are those of 消息推送, write-only like the secret. ``shipping_since_at`` is set
    while 发货信息 is uploaded, for payments from that moment on; ``shipping_refusal`` is the errcode that ended it.
    """

    organization_id = fields.UUIDField(db_index=True)
    appid = fields.CharField(max_length=32, unique=True)
    name = fields.CharField(max_length=100)
    secret_cipher = fields.TextField()
    templates = json_field(default=dict)
    push_token_cipher = fields.TextField(null=True)
    push_key_cipher = fields.TextField(null=True)
    shipping_since_at = fields.DatetimeField(null=True)
    shipping_refusal = fields.CharField(max_length=32, null=True)

    class Meta:
        table = "wechat_apps"


class WechatToken(Model):
    """The app's present access token, shared by all processes; one row an app, encrypted."""

    app_id = fields.UUIDField(primary_key=True)
    token_cipher = fields.TextField()
    expires_at = fields.DatetimeField()

    class Meta:
        table = "wechat_tokens"
