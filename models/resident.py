"""住户: who signs in, and the WeChat identities by which they do."""

from tortoise import fields

from models.base import Row


class Resident(Row):
    """A person who signs in to one organization's mini-programs. The phone is WeChat's word, encrypted."""

    organization_id = fields.UUIDField(db_index=True)
    name = fields.CharField(max_length=100, default="")
    phone_cipher = fields.TextField(null=True)
    phone_index = fields.CharField(max_length=64, null=True, db_index=True)
    phone_masked = fields.CharField(max_length=16, default="")
    phone_verified_at = fields.DatetimeField(null=True)

    class Meta:
        table = "residents"


class WechatIdentity(Row):
    """(app, openid) → resident."""

    organization_id = fields.UUIDField()
    app_id = fields.UUIDField()
    openid = fields.CharField(max_length=128)
    unionid = fields.CharField(max_length=128, null=True)
    resident_id = fields.UUIDField(db_index=True)

    class Meta:
        table = "wechat_identities"
        unique_together = (("app_id", "openid"),)
