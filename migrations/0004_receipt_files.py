"""Receipts on paper, message push, shipping uploads: new tables and columns, and what guards them."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

from kit.clock import now
from kit.ids import new_id
from models.receipt import ReceiptFileState, ReceiptFormat
from models.shipping import ShippingState
from models.wechat_push import WechatPushOutcome

GUARDS = """
CREATE UNIQUE INDEX receipts_community_id_id_key ON receipts (community_id, id);
CREATE UNIQUE INDEX receipt_prints_receipt_id_id_key ON receipt_prints (receipt_id, id);
ALTER TABLE receipt_prints
    ADD CONSTRAINT receipt_prints_receipt_id_fkey
        FOREIGN KEY (community_id, receipt_id) REFERENCES receipts (community_id, id),
    ADD CONSTRAINT receipt_prints_staff_id_fkey
        FOREIGN KEY (organization_id, staff_id) REFERENCES staff (organization_id, id),
    ADD CONSTRAINT receipt_prints_community_id_fkey
        FOREIGN KEY (organization_id, community_id) REFERENCES communities (organization_id, id),
    ADD CHECK (copy_number > 0);
ALTER TABLE receipt_files
    ADD CONSTRAINT receipt_files_receipt_id_fkey
        FOREIGN KEY (community_id, receipt_id) REFERENCES receipts (community_id, id),
    ADD CONSTRAINT receipt_files_print_id_fkey
        FOREIGN KEY (receipt_id, print_id) REFERENCES receipt_prints (receipt_id, id),
    ADD CHECK ((state = 'queued') = (next_check_at IS NOT NULL)),
    ADD CHECK (CASE WHEN state = 'made' THEN body IS NOT NULL AND sha256 IS NOT NULL AND made_at IS NOT NULL
                    ELSE body IS NULL END);
ALTER TABLE message_subscriptions
    ADD CONSTRAINT message_subscriptions_app_id_fkey
        FOREIGN KEY (organization_id, app_id) REFERENCES wechat_apps (organization_id, id),
    ADD CONSTRAINT message_subscriptions_resident_id_fkey
        FOREIGN KEY (organization_id, resident_id) REFERENCES residents (organization_id, id);
ALTER TABLE wechat_pushes
    ADD CONSTRAINT wechat_pushes_app_id_fkey FOREIGN KEY (app_id) REFERENCES wechat_apps (id);
ALTER TABLE wechat_apps ADD CHECK ((push_token_cipher IS NULL) = (push_key_cipher IS NULL));
ALTER TABLE shipping_uploads
    ADD CONSTRAINT shipping_uploads_app_id_fkey
        FOREIGN KEY (organization_id, app_id) REFERENCES wechat_apps (organization_id, id),
    ADD CONSTRAINT shipping_uploads_community_id_fkey
        FOREIGN KEY (organization_id, community_id) REFERENCES communities (organization_id, id),
    ADD CONSTRAINT shipping_uploads_payment_id_fkey
        FOREIGN KEY (community_id, payment_id) REFERENCES payments (community_id, id),
    ADD CHECK ((state = 'queued') = (next_check_at IS NOT NULL)),
    ADD CHECK ((state = 'uploaded') = (uploaded_at IS NOT NULL));

CREATE UNIQUE INDEX receipt_files_one ON receipt_files (receipt_id, format, masked, print_id, template_version)
    NULLS NOT DISTINCT;
CREATE INDEX receipt_files_due ON receipt_files (next_check_at) WHERE next_check_at IS NOT NULL;
CREATE INDEX receipt_files_old ON receipt_files (made_at) WHERE made_at IS NOT NULL;
CREATE INDEX receipts_by_number ON receipts (community_id, number);
CREATE INDEX wechat_pushes_old ON wechat_pushes (created_at);
CREATE INDEX messages_by_msgid ON messages (msgid) WHERE msgid IS NOT NULL;
CREATE INDEX shipping_uploads_due ON shipping_uploads (next_check_at) WHERE next_check_at IS NOT NULL;

-- A print that was counted is never uncounted.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON receipt_prints
    FOR EACH ROW EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON receipt_prints FOR EACH STATEMENT EXECUTE FUNCTION linli_refuse_change();

GRANT SELECT, INSERT ON receipt_prints TO linli_app;
GRANT SELECT, INSERT, UPDATE ON message_subscriptions, shipping_uploads TO linli_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON receipt_files, wechat_pushes TO linli_app;
"""


class Migration(migrations.Migration):
    dependencies = [("linli", "0003_jobs")]

    initial = False

    operations = [
        ops.CreateModel(
            name="MessageSubscription",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("app_id", fields.UUIDField()),
                ("resident_id", fields.UUIDField()),
                ("template_id", fields.CharField(max_length=64)),
                ("accepted", fields.BooleanField()),
                ("said_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "message_subscriptions",
                "app": "linli",
                "unique_together": (("app_id", "resident_id", "template_id"),),
                "pk_attr": "id",
                "table_description": "What a resident last said to a template of an app: 接受 or 拒收. WeChat decides at each sending all the same.",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="ReceiptFile",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("community_id", fields.UUIDField()),
                ("receipt_id", fields.UUIDField()),
                (
                    "format",
                    fields.CharEnumField(description="A4: a4\nROLL_80MM: 80mm", enum_type=ReceiptFormat, max_length=32),
                ),
                ("masked", fields.BooleanField()),
                ("print_id", fields.UUIDField(null=True)),
                ("template_version", fields.SmallIntField()),
                (
                    "state",
                    fields.CharEnumField(
                        default=ReceiptFileState.QUEUED,
                        description="QUEUED: queued\nMADE: made\nFAILED: failed",
                        enum_type=ReceiptFileState,
                        max_length=32,
                    ),
                ),
                ("attempts", fields.IntField(default=0)),
                ("next_check_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("detail", fields.CharField(default="", max_length=200)),
                ("body", fields.BinaryField(null=True)),
                ("sha256", fields.CharField(null=True, max_length=64)),
                ("made_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "receipt_files",
                "app": "linli",
                "pk_attr": "id",
                "table_description": "A receipt as PDF, made once and kept for a while. Unique: (receipt, format, masked, print, template version).",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="ReceiptPrint",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("community_id", fields.UUIDField()),
                ("receipt_id", fields.UUIDField()),
                (
                    "format",
                    fields.CharEnumField(description="A4: a4\nROLL_80MM: 80mm", enum_type=ReceiptFormat, max_length=32),
                ),
                ("copy_number", fields.IntField()),
                ("staff_id", fields.UUIDField()),
                ("printed_by", fields.CharField(max_length=100)),
            ],
            options={
                "table": "receipt_prints",
                "app": "linli",
                "unique_together": (("receipt_id", "copy_number"),),
                "pk_attr": "id",
                "table_description": "A copy on paper, asked for by a member of staff and counted. The second and later ones say 补打.",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="ShippingUpload",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("community_id", fields.UUIDField()),
                ("app_id", fields.UUIDField()),
                ("payment_id", fields.UUIDField(unique=True)),
                (
                    "state",
                    fields.CharEnumField(
                        default=ShippingState.QUEUED,
                        description="QUEUED: queued\nUPLOADED: uploaded\nFAILED: failed",
                        enum_type=ShippingState,
                        max_length=32,
                    ),
                ),
                ("attempts", fields.IntField(default=0)),
                ("next_check_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("detail", fields.CharField(default="", max_length=200)),
                ("uploaded_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "shipping_uploads",
                "app": "linli",
                "pk_attr": "id",
                "table_description": "One a payment, however often its consequences run.",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="WechatPush",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("app_id", fields.UUIDField()),
                ("dedupe_key", fields.CharField(max_length=64)),
                ("event", fields.CharField(max_length=64)),
                (
                    "outcome",
                    fields.CharEnumField(
                        description="APPLIED: applied\nKEPT: kept", enum_type=WechatPushOutcome, max_length=32
                    ),
                ),
                ("body_cipher", fields.TextField(unique=False)),
                ("deliveries", fields.IntField(default=1)),
            ],
            options={
                "table": "wechat_pushes",
                "app": "linli",
                "unique_together": (("app_id", "dedupe_key"),),
                "pk_attr": "id",
                "table_description": "One push. Unique: (app, dedupe_key), so that WeChat's repeats only count.",
            },
            bases=["Row"],
        ),
        ops.AddField(
            model_name="Message",
            name="msgid",
            field=fields.CharField(null=True, max_length=64),
        ),
        ops.AddField(
            model_name="Message",
            name="outcome",
            field=fields.CharField(null=True, max_length=64),
        ),
        ops.AddField(
            model_name="Message",
            name="outcome_at",
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.AddField(
            model_name="WechatApp",
            name="push_key_cipher",
            field=fields.TextField(null=True, unique=False),
        ),
        ops.AddField(
            model_name="WechatApp",
            name="push_token_cipher",
            field=fields.TextField(null=True, unique=False),
        ),
        ops.AddField(
            model_name="WechatApp",
            name="shipping_refusal",
            field=fields.CharField(null=True, max_length=32),
        ),
        ops.AddField(
            model_name="WechatApp",
            name="shipping_since_at",
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.RunSQL(GUARDS),
    ]
