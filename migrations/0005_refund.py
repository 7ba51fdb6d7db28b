"""Refunds, their attempts, and what a payment knows of them."""

from tortoise import fields, migrations
from tortoise.indexes import Index
from tortoise.migrations import operations as ops

from kit.clock import now
from kit.ids import new_id
from models.discrepancy import DiscrepancyKind
from models.ledger import EntryKind
from models.merchant_account import MerchantMode
from models.message import MessageKind
from models.payment import Channel, SurplusFate
from models.refund import RefundAttemptState, RefundKind, RefundMethod, RefundState

# Old code inserts payments without the new columns. The application's role owns nothing, and gets what it must.
_GUARDS = """
ALTER TABLE payments ALTER COLUMN reserved_fen SET DEFAULT 0, ALTER COLUMN refunded_fen SET DEFAULT 0;
-- What goes back, is on its way back, or paid other bills is never more than what came.
ALTER TABLE payments
    ADD CONSTRAINT payments_returned_within_received CHECK (
        reserved_fen >= 0 AND refunded_fen >= 0 AND reserved_fen + refunded_fen
        + CASE WHEN surplus_fate = 'kept' THEN surplus_fen ELSE 0 END <= amount_fen),
    ADD CONSTRAINT payments_returned_was_paid CHECK (reserved_fen + refunded_fen = 0 OR state = 'paid'),
    ADD CONSTRAINT payments_fate_of_surplus CHECK (
        surplus_fate IS NULL OR (surplus_fen > 0 AND surplus_fate IN ('returned', 'kept'))),
    ADD CONSTRAINT payments_surplus_channel CHECK ((channel = 'surplus') = (surplus_of_payment_id IS NOT NULL));
CREATE UNIQUE INDEX payments_one_from_surplus ON payments (surplus_of_payment_id)
    WHERE surplus_of_payment_id IS NOT NULL;
CREATE UNIQUE INDEX payments_refunded_key
    ON payments (community_id, id, customer_id, legal_entity_id, merchant_account_id);
ALTER TABLE payments ADD CONSTRAINT payments_surplus_of_fkey
    FOREIGN KEY (community_id, surplus_of_payment_id, customer_id, legal_entity_id)
    REFERENCES payments (community_id, id, customer_id, legal_entity_id);

ALTER TABLE refunds
    ADD CONSTRAINT refunds_organization_fkey FOREIGN KEY (organization_id, community_id)
        REFERENCES communities (organization_id, id),
    -- A refund is of its payment's own debtor, legal entity and merchant account.
    ADD CONSTRAINT refunds_payment_fkey
        FOREIGN KEY (community_id, payment_id, customer_id, legal_entity_id, merchant_account_id)
        REFERENCES payments (community_id, id, customer_id, legal_entity_id, merchant_account_id),
    ADD CONSTRAINT refunds_asked_by_fkey FOREIGN KEY (organization_id, asked_by_staff_id)
        REFERENCES staff (organization_id, id),
    ADD CONSTRAINT refunds_approved_by_fkey FOREIGN KEY (organization_id, approved_by_staff_id)
        REFERENCES staff (organization_id, id),
    ADD CHECK (amount_fen > 0),
    ADD CHECK (state IN ('approved', 'processing', 'failed', 'refunded', 'cancelled')),
    ADD CHECK (state <> 'failed' OR problem IS NOT NULL),
    ADD CHECK ((state = 'refunded') = (refunded_at IS NOT NULL)),
    ADD CHECK ((state = 'cancelled') = (cancelled_at IS NOT NULL AND cancel_reason IS NOT NULL));
CREATE UNIQUE INDEX refunds_one_of_surplus ON refunds (payment_id) WHERE kind = 'surplus' AND state <> 'cancelled';
CREATE UNIQUE INDEX refunds_community_id_id_key ON refunds (community_id, id);
CREATE UNIQUE INDEX refunds_id_merchant_account_id_key ON refunds (id, merchant_account_id);
CREATE TRIGGER final BEFORE UPDATE ON refunds FOR EACH ROW
    WHEN (OLD.state IN ('refunded', 'cancelled') AND NEW.state <> OLD.state) EXECUTE FUNCTION linli_state_is_final();

ALTER TABLE refund_attempts
    ADD CONSTRAINT refund_attempts_refund_fkey FOREIGN KEY (community_id, refund_id)
        REFERENCES refunds (community_id, id),
    ADD CONSTRAINT refund_attempts_merchant_account_fkey FOREIGN KEY (refund_id, merchant_account_id)
        REFERENCES refunds (id, merchant_account_id),
    ADD CHECK (amount_fen > 0 AND amount_fen <= total_fen),
    ADD CHECK (out_refund_no ~ '^[0-9A-Za-z_-]{6,64}$'),
    ADD CHECK (state IN ('created', 'accepted', 'succeeded', 'abnormal', 'closed')),
    ADD CHECK (CASE WHEN state IN ('created', 'accepted', 'abnormal') THEN next_check_at IS NOT NULL
                    WHEN state = 'succeeded' THEN next_check_at IS NULL ELSE true END),
    ADD CHECK (state IN ('created', 'closed') OR wechat_refund_id IS NOT NULL),
    ADD CHECK ((state = 'succeeded') = (succeeded_at IS NOT NULL)),
    ADD CHECK ((mode = 'partner') = (sub_mchid IS NOT NULL));
CREATE UNIQUE INDEX refund_attempts_one_live ON refund_attempts (refund_id) WHERE state <> 'closed';
CREATE UNIQUE INDEX refund_attempts_number ON refund_attempts (merchant_account_id, out_refund_no);
CREATE INDEX refund_attempts_due ON refund_attempts (next_check_at) WHERE next_check_at IS NOT NULL;
CREATE TRIGGER final BEFORE UPDATE ON refund_attempts FOR EACH ROW
    WHEN (OLD.state IN ('succeeded', 'closed') AND NEW.state <> OLD.state) EXECUTE FUNCTION linli_state_is_final();

GRANT SELECT, INSERT, UPDATE ON refunds, refund_attempts TO linli_app;
"""


class Migration(migrations.Migration):
    dependencies = [("linli", "0004_receipt_files")]

    initial = False

    operations = [
        ops.CreateModel(
            name="Refund",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("community_id", fields.UUIDField()),
                ("payment_id", fields.UUIDField(db_index=True)),
                ("customer_id", fields.UUIDField()),
                ("legal_entity_id", fields.UUIDField()),
                ("merchant_account_id", fields.UUIDField()),
                ("kind", fields.CharEnumField(description="SURPLUS: surplus", enum_type=RefundKind, max_length=32)),
                (
                    "method",
                    fields.CharEnumField(
                        default=RefundMethod.WECHAT_ORIGINAL,
                        description="WECHAT_ORIGINAL: wechat_original",
                        enum_type=RefundMethod,
                        max_length=32,
                    ),
                ),
                ("amount_fen", fields.BigIntField()),
                ("reason", fields.CharField(max_length=80)),
                (
                    "state",
                    fields.CharEnumField(
                        default=RefundState.APPROVED,
                        description="APPROVED: approved\nPROCESSING: processing\nFAILED: failed\nREFUNDED: refunded\nCANCELLED: cancelled",
                        enum_type=RefundState,
                        max_length=32,
                    ),
                ),
                ("problem", fields.CharField(null=True, max_length=64)),
                ("asked_by_staff_id", fields.UUIDField()),
                ("approved_by_staff_id", fields.UUIDField()),
                ("approved_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("refunded_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("cancelled_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("cancel_reason", fields.CharField(null=True, max_length=200)),
            ],
            options={
                "table": "refunds",
                "app": "linli",
                "indexes": [Index(fields=["community_id", "created_at", "id"])],
                "pk_attr": "id",
                "table_description": "Money of one payment that goes back to its payer. While it is under way its amount is reserved on the payment:",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="RefundAttempt",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("community_id", fields.UUIDField()),
                ("refund_id", fields.UUIDField(db_index=True)),
                ("merchant_account_id", fields.UUIDField()),
                (
                    "mode",
                    fields.CharEnumField(
                        description="DIRECT: direct\nPARTNER: partner", enum_type=MerchantMode, max_length=32
                    ),
                ),
                ("mchid", fields.CharField(max_length=32)),
                ("sub_mchid", fields.CharField(null=True, max_length=32)),
                ("out_trade_no", fields.CharField(max_length=32)),
                ("transaction_id", fields.CharField(max_length=32)),
                ("out_refund_no", fields.CharField(max_length=64)),
                ("amount_fen", fields.BigIntField()),
                ("total_fen", fields.BigIntField()),
                ("request", fields.TextField(unique=False)),
                (
                    "state",
                    fields.CharEnumField(
                        default=RefundAttemptState.CREATED,
                        description="CREATED: created\nACCEPTED: accepted\nSUCCEEDED: succeeded\nABNORMAL: abnormal\nCLOSED: closed",
                        enum_type=RefundAttemptState,
                        max_length=32,
                    ),
                ),
                ("wechat_refund_id", fields.CharField(null=True, max_length=64)),
                ("sent_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("next_check_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("check_count", fields.IntField(default=0)),
                ("succeeded_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "refund_attempts",
                "app": "linli",
                "unique_together": (("mchid", "out_refund_no"),),
                "pk_attr": "id",
                "table_description": "One refund number, committed before WeChat hears of it. ``request`` is the exact body that is sent, so that a",
            },
            bases=["Row"],
        ),
        ops.AlterField(
            model_name="Discrepancy",
            name="kind",
            field=fields.CharEnumField(
                description="DOUBTFUL_NOTICE: doubtful_notice\nSUSPENSE: suspense\nSURPLUS: surplus\nREFUND_STUCK: refund_stuck\nDOUBTFUL_REFUND: doubtful_refund\nFOREIGN_REFUND: foreign_refund",
                enum_type=DiscrepancyKind,
                max_length=32,
            ),
        ),
        ops.AlterField(
            model_name="Entry",
            name="kind",
            field=fields.CharEnumField(
                description="PAYMENT: payment\nSURPLUS: surplus\nSUSPENSE: suspense\nREFUND_APPROVED: refund_approved\nREFUNDED: refunded\nREFUND_CANCELLED: refund_cancelled",
                enum_type=EntryKind,
                max_length=32,
            ),
        ),
        ops.AlterField(
            model_name="Message",
            name="kind",
            field=fields.CharEnumField(
                description="PAYMENT_RECEIVED: payment_received\nREFUNDED: refunded\nSURPLUS_KEPT: surplus_kept\nHOUSEHOLD_JOINED: household_joined\nREQUEST_DECIDED: request_decided",
                enum_type=MessageKind,
                max_length=32,
            ),
        ),
        ops.AlterField(
            model_name="Payment",
            name="channel",
            field=fields.CharEnumField(
                description="WECHAT_JSAPI: wechat_jsapi\nSURPLUS: surplus", enum_type=Channel, max_length=32
            ),
        ),
        ops.AddField(
            model_name="Payment",
            name="refunded_fen",
            field=fields.BigIntField(default=0, db_default=0),
        ),
        ops.AddField(
            model_name="Payment",
            name="reserved_fen",
            field=fields.BigIntField(default=0, db_default=0),
        ),
        ops.AddField(
            model_name="Payment",
            name="surplus_fate",
            field=fields.CharEnumField(
                null=True, description="RETURNED: returned\nKEPT: kept", enum_type=SurplusFate, max_length=32
            ),
        ),
        ops.AddField(
            model_name="Payment",
            name="surplus_of_payment_id",
            field=fields.UUIDField(null=True),
        ),
        ops.RunSQL(_GUARDS),
    ]
