"""Seals, catching up after a restore, and cases about what only WeChat knows."""

from tortoise import fields, migrations
from tortoise.fields.db_defaults import SqlDefault
from tortoise.migrations import operations as ops

from kit.clock import now
from kit.ids import new_id
from models.catch_up import CatchUpDayState
from models.discrepancy import DiscrepancyKind

# Receipts have no number of their own that grows with time: their ids are made by the process, and their sequence is
# counted per legal entity, community and year. Seals go by this one.
RECEIPTS_IN_ORDER = "CREATE SEQUENCE receipts_serial_seq AS bigint"

GUARDS = """
ALTER SEQUENCE receipts_serial_seq OWNED BY receipts.serial;
CREATE UNIQUE INDEX receipts_serial ON receipts (serial);

ALTER TABLE seals
    ADD CHECK (version > 0),
    ADD CHECK (first_row > 0 AND first_row <= last_row),
    ADD CHECK (row_count > 0 AND length(outline) = 12 * row_count),
    ADD CHECK (digest ~ '^[0-9a-f]{64}$'),
    ADD CHECK (previous_digest ~ '^[0-9a-f]{64}$');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON seals
    FOR EACH ROW EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON seals FOR EACH STATEMENT EXECUTE FUNCTION linli_refuse_change();

ALTER TABLE catch_ups ADD CHECK (finished_at >= begun_at);
CREATE UNIQUE INDEX catch_ups_one_under_way ON catch_ups (finished_at) NULLS NOT DISTINCT WHERE finished_at IS NULL;
ALTER TABLE catch_up_days
    ADD CHECK (state IN ('waiting', 'read', 'gone')),
    ADD CHECK ((state = 'waiting') = (next_check_at IS NOT NULL)),
    ADD CHECK ((state = 'read') = (line_count IS NOT NULL AND missing_count IS NOT NULL)),
    ADD CHECK (line_count >= missing_count AND missing_count >= 0);
ALTER TABLE catch_up_days ADD CONSTRAINT catch_up_days_catch_up_id_fkey
    FOREIGN KEY (catch_up_id) REFERENCES catch_ups (id);
ALTER TABLE catch_up_days ADD CONSTRAINT catch_up_days_merchant_account_id_fkey
    FOREIGN KEY (merchant_account_id) REFERENCES merchant_accounts (id);
CREATE INDEX catch_up_days_due ON catch_up_days (next_check_at) WHERE next_check_at IS NOT NULL;

ALTER TABLE discrepancies
    ADD CHECK (payment_id IS NOT NULL OR merchant_account_id IS NOT NULL),
    ADD CHECK (payment_id IS NULL OR community_id IS NOT NULL);
ALTER TABLE discrepancies ADD CONSTRAINT discrepancies_merchant_account_id_fkey
    FOREIGN KEY (organization_id, merchant_account_id) REFERENCES merchant_accounts (organization_id, id);
ALTER TABLE discrepancies ADD CONSTRAINT discrepancies_organization_id_fkey
    FOREIGN KEY (organization_id) REFERENCES organizations (id);

GRANT SELECT, INSERT ON seals TO linli_app;
GRANT SELECT, INSERT, UPDATE ON catch_ups, catch_up_days TO linli_app;
GRANT USAGE ON SEQUENCE seals_id_seq, receipts_serial_seq TO linli_app;
"""

# As in 0002_guards, and a month of the audit does not go without a word: what is let go of stands in the audit itself,
# in the same transaction, where a later seal covers it. Without that word its seals report missing rows.
DROP_PARTITIONS = """
CREATE OR REPLACE FUNCTION linli_drop_partitions() RETURNS int
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    old record;
    held bigint;
    dropped int := 0;
BEGIN
    FOR old IN
        SELECT c.relname, p.relname AS parent FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        JOIN pg_class p ON p.oid = i.inhparent
        WHERE p.relname IN ('audits', 'notifications') AND c.relname ~ '^(audits|notifications)_[0-9]{4}_[0-9]{2}$'
          AND to_date(right(c.relname, 7), 'YYYY_MM')
              < date_trunc('month', now()) - CASE p.relname WHEN 'audits' THEN interval '10 years'
                                                            ELSE interval '2 years' END
    LOOP
        IF old.parent = 'audits' THEN
            EXECUTE format('SELECT count(*) FROM %I', old.relname) INTO held;
            INSERT INTO audits (actor, act, target_kind, target_id, after, request_id, happened_at)
            VALUES ('system:drop_partitions', 'audit.let_go', 'partition', md5(old.relname)::uuid,
                    jsonb_build_object('month', replace(right(old.relname, 7), '_', '-'), 'rows', held), '', now());
        END IF;
        EXECUTE format('DROP TABLE %I', old.relname);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("linli", "0007_privacy")]

    initial = False

    operations = [
        ops.RunSQL(RECEIPTS_IN_ORDER),
        ops.CreateModel(
            name="CatchUp",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("backed_up_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("begun_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("finished_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "catch_ups",
                "app": "linli",
                "pk_attr": "id",
                "table_description": "One return to an earlier state of the books; under way until WeChat was asked about every day since.",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="CatchUpDay",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("catch_up_id", fields.UUIDField()),
                ("merchant_account_id", fields.UUIDField()),
                ("bill_on", fields.DateField()),
                (
                    "state",
                    fields.CharEnumField(
                        default=CatchUpDayState.WAITING,
                        description="WAITING: waiting\nREAD: read\nGONE: gone",
                        enum_type=CatchUpDayState,
                        max_length=32,
                    ),
                ),
                ("next_check_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("line_count", fields.IntField(null=True)),
                ("missing_count", fields.IntField(null=True)),
            ],
            options={
                "table": "catch_up_days",
                "app": "linli",
                "unique_together": (("catch_up_id", "merchant_account_id", "bill_on"),),
                "pk_attr": "id",
                "table_description": "A day of one merchant account whose trade bill is compared. Unique: (catch-up, merchant account, day).",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="Seal",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("scope", fields.CharField(max_length=32)),
                ("version", fields.SmallIntField()),
                ("first_row", fields.BigIntField()),
                ("last_row", fields.BigIntField()),
                ("row_count", fields.IntField()),
                ("digest", fields.CharField(max_length=64)),
                ("previous_digest", fields.CharField(max_length=64)),
                ("outline", fields.BinaryField()),
                ("sealed_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "seals",
                "app": "linli",
                "unique_together": (("scope", "first_row"), ("scope", "previous_digest")),
                "pk_attr": "id",
                "table_description": "A range of row ids and the digest of every row in it, tied to the seal before. Append-only.",
            },
            bases=["Model"],
        ),
        ops.AlterField(
            model_name="Discrepancy",
            name="community_id",
            field=fields.UUIDField(null=True),
        ),
        ops.AlterField(
            model_name="Discrepancy",
            name="kind",
            field=fields.CharEnumField(
                description="DOUBTFUL_NOTICE: doubtful_notice\nSUSPENSE: suspense\nSURPLUS: surplus\nREFUND_STUCK: refund_stuck\nDOUBTFUL_REFUND: doubtful_refund\nFOREIGN_REFUND: foreign_refund\nONLY_AT_WECHAT: only_at_wechat",
                enum_type=DiscrepancyKind,
                max_length=32,
            ),
        ),
        ops.AlterField(
            model_name="Discrepancy",
            name="payment_id",
            field=fields.UUIDField(null=True),
        ),
        ops.AddField(
            model_name="Discrepancy",
            name="merchant_account_id",
            field=fields.UUIDField(null=True),
        ),
        ops.AddField(
            model_name="Receipt",
            name="serial",
            field=fields.BigIntField(db_default=SqlDefault("nextval('receipts_serial_seq')")),
        ),
        ops.RunSQL(GUARDS),
        ops.RunSQL(DROP_PARTITIONS),
    ]
