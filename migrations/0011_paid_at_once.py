"""What is paid at once: no merchant account, numbers of our own, and balances that are never overdrawn."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

from models.merchant_account import MerchantMode
from models.payment import Channel

# An older process goes on as it did: it knows WeChat and kept surpluses only, and these may keep their merchant account.
_GUARDS = """
ALTER TABLE payments
    ADD CONSTRAINT payments_merchant_by_channel CHECK (CASE
        WHEN channel IN ('cash', 'pos', 'bank_transfer', 'prepaid', 'deposit') THEN merchant_account_id IS NULL
        WHEN channel = 'surplus' THEN true
        ELSE merchant_account_id IS NOT NULL END),
    ADD CONSTRAINT payments_reference_by_channel CHECK (reference = '' OR channel IN ('pos', 'bank_transfer')),
    -- A prepaid balance pays by itself every month, where its owner wished it.
    DROP CONSTRAINT payments_check3,
    ADD CONSTRAINT payments_has_payer CHECK (
        payer_resident_id IS NOT NULL OR payer_staff_id IS NOT NULL OR channel = 'prepaid');
ALTER TABLE payment_attempts
    ADD CONSTRAINT payment_attempts_merchant_whole CHECK (
        num_nonnulls(merchant_account_id, mode, appid) IN (0, 3) AND (mchid = '') = (merchant_account_id IS NULL)),
    -- Nobody can be asked about what has no merchant, so it never waits, and is never closed or suspended.
    ADD CONSTRAINT payment_attempts_at_once CHECK (merchant_account_id IS NOT NULL OR state IN ('created', 'paid'));

-- What a customer may pay with never falls below nothing. The lock comes first, in a statement of its own: the sum after
-- it sees what everybody who held it before has committed.
CREATE FUNCTION linli_held_is_not_overdrawn() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    held numeric;
BEGIN
    PERFORM FROM accounts WHERE id = NEW.debit_account_id AND kind IN ('prepaid', 'deposit')
        FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT COALESCE((SELECT sum(amount_fen) FROM entries WHERE credit_account_id = NEW.debit_account_id), 0)
         - COALESCE((SELECT sum(amount_fen) FROM entries WHERE debit_account_id = NEW.debit_account_id), 0) INTO held;
    IF held < 0 THEN
        RAISE EXCEPTION 'account % is overdrawn by % fen', NEW.debit_account_id, -held USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER held_is_not_overdrawn AFTER INSERT ON entries
    FOR EACH ROW EXECUTE FUNCTION linli_held_is_not_overdrawn();
"""


class Migration(migrations.Migration):
    dependencies = [("linli", "0010_wechat_pay_key_dates")]

    initial = False

    operations = [
        ops.AlterField(
            model_name="Payment",
            name="channel",
            field=fields.CharEnumField(
                description="WECHAT_JSAPI: wechat_jsapi\nSURPLUS: surplus\nCASH: cash\nPOS: pos\nBANK_TRANSFER: bank_transfer\nPREPAID: prepaid\nDEPOSIT: deposit",
                enum_type=Channel,
                max_length=32,
            ),
        ),
        ops.AlterField(model_name="Payment", name="merchant_account_id", field=fields.UUIDField(null=True)),
        ops.AddField(
            model_name="Payment",
            name="reference",
            field=fields.CharField(default="", db_default="", max_length=64),
        ),
        ops.AlterField(model_name="PaymentAttempt", name="appid", field=fields.CharField(null=True, max_length=32)),
        ops.AlterField(model_name="PaymentAttempt", name="merchant_account_id", field=fields.UUIDField(null=True)),
        ops.AlterField(
            model_name="PaymentAttempt",
            name="mode",
            field=fields.CharEnumField(
                null=True, description="DIRECT: direct\nPARTNER: partner", enum_type=MerchantMode, max_length=32
            ),
        ),
        ops.RunSQL(_GUARDS),
    ]
