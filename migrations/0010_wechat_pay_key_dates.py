"""Certificates of WeChat's platform: when they are valid, and when WeChat is asked for the next ones."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

# Merchants that live by certificates are asked about at the next sweep; one that has a public key alone never had any.
GUARDS = """
ALTER TABLE wechat_pay_keys ADD CHECK (expires_at > effective_at);
UPDATE merchant_accounts SET keys_check_at = now() WHERE EXISTS (
    SELECT FROM wechat_pay_keys k WHERE k.merchant_account_id = merchant_accounts.id AND k.kind = 'certificate');
"""


class Migration(migrations.Migration):
    dependencies = [("linli", "0009_limits")]

    initial = False

    operations = [
        ops.AddField(
            model_name="MerchantAccount",
            name="keys_ask_after",
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.AddField(
            model_name="MerchantAccount",
            name="keys_check_at",
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.AddField(
            model_name="WechatPayKey",
            name="effective_at",
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.AddField(
            model_name="WechatPayKey",
            name="expires_at",
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.RunSQL(GUARDS),
    ]
