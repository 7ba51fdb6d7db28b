"""Consent, copies of what is held, reveals, and accounts that are closed."""

from tortoise import fields, migrations
from tortoise.indexes import Index
from tortoise.migrations import operations as ops

from kit.clock import now
from kit.ids import new_id
from models.access import Role
from models.consent import ConsentChannel, ConsentStep
from models.export import ExportState
from models.policy import PolicyKind
from models.reveal import RevealedField

KEYS = """
CREATE UNIQUE INDEX policies_organization_id_id_key ON policies (organization_id, id);
CREATE UNIQUE INDEX occupancy_requests_organization_id_id_key ON occupancy_requests (organization_id, id);
CREATE UNIQUE INDEX policies_number ON policies (organization_id, kind, number);
CREATE UNIQUE INDEX exports_one_queued ON exports (resident_id) WHERE state = 'queued';
CREATE INDEX exports_due ON exports (next_check_at) WHERE next_check_at IS NOT NULL;
ALTER TABLE policies
    ADD CONSTRAINT policies_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations (id),
    ADD CONSTRAINT policies_published_by_staff_id_fkey FOREIGN KEY (organization_id, published_by_staff_id)
        REFERENCES staff (organization_id, id);
ALTER TABLE consents
    ADD CONSTRAINT consents_resident_id_fkey FOREIGN KEY (organization_id, resident_id)
        REFERENCES residents (organization_id, id),
    ADD CONSTRAINT consents_policy_id_fkey FOREIGN KEY (organization_id, policy_id)
        REFERENCES policies (organization_id, id),
    ADD CONSTRAINT consents_staff_id_fkey FOREIGN KEY (organization_id, staff_id)
        REFERENCES staff (organization_id, id);
ALTER TABLE reveals
    ADD CONSTRAINT reveals_community_id_fkey FOREIGN KEY (organization_id, community_id)
        REFERENCES communities (organization_id, id),
    ADD CONSTRAINT reveals_staff_id_fkey FOREIGN KEY (organization_id, staff_id)
        REFERENCES staff (organization_id, id),
    ADD CONSTRAINT reveals_customer_id_fkey FOREIGN KEY (organization_id, customer_id)
        REFERENCES customers (organization_id, id),
    ADD CONSTRAINT reveals_resident_id_fkey FOREIGN KEY (organization_id, resident_id)
        REFERENCES residents (organization_id, id),
    ADD CONSTRAINT reveals_occupancy_request_id_fkey FOREIGN KEY (organization_id, occupancy_request_id)
        REFERENCES occupancy_requests (organization_id, id);
ALTER TABLE exports
    ADD CONSTRAINT exports_resident_id_fkey FOREIGN KEY (organization_id, resident_id)
        REFERENCES residents (organization_id, id);
"""

CHECKS = """
ALTER TABLE policies ADD CONSTRAINT policies_words_check CHECK (text IS NOT NULL OR link IS NOT NULL);
ALTER TABLE consents ADD CONSTRAINT consents_channel_check CHECK ((channel = 'counter') = (staff_id IS NOT NULL));
ALTER TABLE reveals
    ADD CONSTRAINT reveals_target_check CHECK (num_nonnulls(customer_id, resident_id, occupancy_request_id) = 1),
    ADD CONSTRAINT reveals_reason_check CHECK (reason <> '');
ALTER TABLE exports
    ADD CONSTRAINT exports_ready_check CHECK ((state = 'ready') = (content_cipher IS NOT NULL)),
    ADD CONSTRAINT exports_times_check CHECK (state <> 'ready' OR (ready_at IS NOT NULL AND expires_at IS NOT NULL)),
    ADD CONSTRAINT exports_due_check CHECK ((state IN ('queued', 'ready')) = (next_check_at IS NOT NULL)),
    ADD CONSTRAINT exports_parts_check CHECK (parts_done BETWEEN 0 AND parts);
ALTER TABLE residents ADD CONSTRAINT residents_closed_check CHECK (closed_at IS NULL OR phone_index IS NULL);
ALTER TABLE customers ADD CONSTRAINT customers_forgotten_check
    CHECK (forgotten_at IS NULL OR (phone_index IS NULL AND id_number_cipher IS NULL));
"""

TRIGGERS = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON policies
    FOR EACH ROW EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON policies FOR EACH STATEMENT EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON consents
    FOR EACH ROW EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON consents FOR EACH STATEMENT EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON reveals
    FOR EACH ROW EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON reveals FOR EACH STATEMENT EXECUTE FUNCTION linli_refuse_change();

-- Who closes an account has no payment under way. The lock waits for a closing that is just being committed, and then
-- reads what it left; the foreign key would be content with the row that is still there.
CREATE FUNCTION linli_payer_is_there() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM residents WHERE id = NEW.payer_resident_id AND closed_at IS NULL FOR KEY SHARE;
    IF FOUND OR NOT EXISTS (SELECT FROM residents WHERE id = NEW.payer_resident_id) THEN RETURN NEW; END IF;
    RAISE EXCEPTION 'the payer of this payment has closed their account: "payer_is_there"'
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER payer_is_there BEFORE INSERT ON payments
    FOR EACH ROW WHEN (NEW.payer_resident_id IS NOT NULL) EXECUTE FUNCTION linli_payer_is_there();
"""

GRANTS = """
GRANT SELECT, INSERT ON policies, consents, reveals TO linli_app;
GRANT SELECT, INSERT, UPDATE ON exports TO linli_app;
-- A closed account gives its openid back, so that the same person may begin anew.
GRANT DELETE ON wechat_identities TO linli_app;
"""


class Migration(migrations.Migration):
    dependencies = [("linli", "0006_operation")]

    operations = [
        ops.CreateModel(
            name="Consent",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("resident_id", fields.UUIDField(db_index=True)),
                ("policy_id", fields.UUIDField()),
                (
                    "step",
                    fields.CharEnumField(
                        description="GIVEN: given\nWITHDRAWN: withdrawn", enum_type=ConsentStep, max_length=32
                    ),
                ),
                (
                    "channel",
                    fields.CharEnumField(
                        description="APP: app\nCOUNTER: counter", enum_type=ConsentChannel, max_length=32
                    ),
                ),
                ("staff_id", fields.UUIDField(null=True)),
            ],
            options={
                "table": "consents",
                "app": "linli",
                "pk_attr": "id",
                "table_description": "One step of one resident about one version of a policy.",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="Export",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("resident_id", fields.UUIDField(db_index=True)),
                (
                    "state",
                    fields.CharEnumField(
                        default=ExportState.QUEUED,
                        description="QUEUED: queued\nREADY: ready\nEXPIRED: expired\nFAILED: failed",
                        enum_type=ExportState,
                        max_length=32,
                    ),
                ),
                ("parts", fields.SmallIntField()),
                ("parts_done", fields.SmallIntField(default=0)),
                ("attempts", fields.SmallIntField(default=0)),
                ("content_cipher", fields.TextField(null=True, unique=False)),
                ("size_bytes", fields.IntField(null=True)),
                ("ready_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("expires_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("next_check_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "exports",
                "app": "linli",
                "pk_attr": "id",
                "table_description": "One copy. At most one of a resident is being made. The bytes lie here, encrypted, and not in a file, so that",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="Policy",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                (
                    "kind",
                    fields.CharEnumField(
                        description="PRIVACY: privacy\nTERMS: terms", enum_type=PolicyKind, max_length=32
                    ),
                ),
                ("number", fields.CharField(max_length=32)),
                ("title", fields.CharField(max_length=100)),
                ("text", fields.TextField(null=True, unique=False)),
                ("link", fields.CharField(null=True, max_length=500)),
                ("effective_on", fields.DateField()),
                ("published_by_staff_id", fields.UUIDField()),
            ],
            options={
                "table": "policies",
                "app": "linli",
                "pk_attr": "id",
                "table_description": "One published version, never changed: what somebody agreed to must stay what it was. The one that counts is, of",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="Reveal",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("community_id", fields.UUIDField(null=True)),
                ("staff_id", fields.UUIDField()),
                (
                    "role",
                    fields.CharEnumField(
                        description="MANAGER: manager\nBUTLER: butler\nDISPATCHER: dispatcher\nREPAIRER: repairer\nCASHIER: cashier\nFINANCE: finance\nGUARD: guard\nAUDITOR: auditor\nOWNER: owner\nFAMILY: family\nTENANT: tenant",
                        enum_type=Role,
                        max_length=32,
                    ),
                ),
                ("customer_id", fields.UUIDField(null=True, db_index=True)),
                ("resident_id", fields.UUIDField(null=True, db_index=True)),
                ("occupancy_request_id", fields.UUIDField(null=True, db_index=True)),
                (
                    "field",
                    fields.CharEnumField(
                        description="PHONE: phone\nID_NUMBER: id_number", enum_type=RevealedField, max_length=32
                    ),
                ),
                ("reason", fields.CharField(max_length=200)),
            ],
            options={
                "table": "reveals",
                "app": "linli",
                "indexes": [Index(fields=["staff_id", "created_at"])],
                "pk_attr": "id",
                "table_description": "One look at one field of one customer, resident or occupancy request. ``community_id`` and ``role`` are by what",
            },
            bases=["Row"],
        ),
        ops.AddField(
            model_name="Customer",
            name="forgotten_at",
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.AddField(
            model_name="Resident",
            name="close_reason",
            field=fields.CharField(null=True, max_length=200),
        ),
        ops.AddField(
            model_name="Resident",
            name="closed_at",
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.RunSQL(KEYS),
        ops.RunSQL(CHECKS),
        ops.RunSQL(TRIGGERS),
        ops.RunSQL(GRANTS),
    ]
