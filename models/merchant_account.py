"""商户号: where money arrives, whose it is, and the keys to speak with WeChat Pay about it."""

from enum import StrEnum

from tortoise import fields
from tortoise.queryset import QuerySet

from models.access import TABLE, Act, Actor
from models.base import Row

PRIVATE_KEY_CONTEXT = "merchant_accounts.private_key"
APIV3_KEY_CONTEXT = "merchant_accounts.apiv3_key"


class MerchantMode(StrEnum):
    """Who calls WeChat Pay."""

    DIRECT = "direct"  # 直连商户: mchid is the merchant itself
    PARTNER = "partner"  # 服务商: mchid is the service provider (sp_mchid), sub_mchid the merchant


class MerchantAccount(Row):
    """A WeChat Pay merchant. Private key and APIv3 key are write-only: encrypted here, never read back by a route."""

    organization_id = fields.UUIDField(db_index=True)
    legal_entity_id = fields.UUIDField()
    name = fields.CharField(max_length=100)
    mode = fields.CharEnumField(MerchantMode, max_length=32, default=MerchantMode.DIRECT)
    mchid = fields.CharField(max_length=32)  # the calling one: in partner mode the sp_mchid
    sub_mchid = fields.CharField(max_length=32, null=True)
    sp_appid = fields.CharField(max_length=32, null=True)
    serial_no = fields.CharField(max_length=64)
    certificate_expires_at = fields.DatetimeField(null=True)  # None: nobody gave us the certificate, only its serial
    private_key_cipher = fields.TextField()
    apiv3_key_cipher = fields.TextField()
    active = fields.BooleanField(default=True)
    keys_check_at = fields.DatetimeField(null=True)  # when WeChat is next asked for its certificates; null: never
    keys_ask_after = fields.DatetimeField(null=True)  # not before this, whoever wants to know

    class Meta:
        table = "merchant_accounts"

    @classmethod
    def visible_to(cls, actor: Actor) -> QuerySet["MerchantAccount"]:
        """Staff who manage the organization."""
        if actor.is_staff and actor.organization_roles & TABLE[Act.ORGANIZATION_MANAGE]:
            return cls.filter(organization_id=actor.organization_id)
        return cls.filter(id=None)


class WechatPayKeyKind(StrEnum):
    """Both kinds sign for months while a merchant changes over; both must be loadable at once."""

    PUBLIC_KEY = "public_key"  # 微信支付公钥, serial PUB_KEY_ID_…
    CERTIFICATE = "certificate"  # 平台证书, serial of 40 hex digits


class WechatPayKey(Row):
    """A key by which WeChat signs to this merchant: serial → public key."""

    merchant_account_id = fields.UUIDField()
    serial = fields.CharField(max_length=64)
    kind = fields.CharEnumField(WechatPayKeyKind, max_length=32)
    public_key_pem = fields.TextField()
    effective_at = fields.DatetimeField(null=True)  # a public key has no dates
    expires_at = fields.DatetimeField(null=True)  # not believed any more from then on

    class Meta:
        table = "wechat_pay_keys"
        unique_together = (("merchant_account_id", "serial"),)
