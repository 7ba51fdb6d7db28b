"""Reconciliation: WeChat's bills as they came, each day's totals, differences, movements to the bank, adjustments."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

from kit.clock import now
from kit.ids import new_id
from models.ledger import EntryKind
from models.reconciliation import (
    AdjustmentState,
    DayState,
    DifferenceAbout,
    DifferenceKind,
    DifferenceState,
    StatementKind,
    StatementSource,
    StatementState,
)

# What was read stays as it came: a file's bytes are only added, its row keeps what it says of them.
_GUARDS = """
CREATE UNIQUE INDEX reconciliations_merchant_account_id_id_key ON reconciliations (merchant_account_id, id);
CREATE UNIQUE INDEX statements_merchant_account_id_id_key ON statements (merchant_account_id, id);
CREATE UNIQUE INDEX differences_merchant_account_id_id_key ON differences (merchant_account_id, id);
CREATE UNIQUE INDEX statements_one_current ON statements (merchant_account_id, kind, bill_on) WHERE state = 'current';
CREATE INDEX reconciliations_due ON reconciliations (next_check_at) WHERE next_check_at IS NOT NULL;
CREATE INDEX differences_open ON differences (merchant_account_id) WHERE state = 'open';
CREATE INDEX differences_of_attempt ON differences (attempt_id) WHERE attempt_id IS NOT NULL;

ALTER TABLE reconciliations
    ADD CONSTRAINT reconciliations_merchant_account_fkey FOREIGN KEY (organization_id, merchant_account_id)
        REFERENCES merchant_accounts (organization_id, id),
    ADD CONSTRAINT reconciliations_statement_fkey FOREIGN KEY (merchant_account_id, statement_id)
        REFERENCES statements (merchant_account_id, id),
    ADD CHECK (state IN ('waiting', 'read', 'quiet', 'gone')),
    ADD CHECK ((state = 'read') = (statement_id IS NOT NULL AND read_at IS NOT NULL)),
    ADD CHECK (state <> 'waiting' OR next_check_at IS NOT NULL);
ALTER TABLE statements
    ADD CONSTRAINT statements_merchant_account_fkey FOREIGN KEY (organization_id, merchant_account_id)
        REFERENCES merchant_accounts (organization_id, id),
    ADD CONSTRAINT statements_given_by_fkey FOREIGN KEY (organization_id, given_by_staff_id)
        REFERENCES staff (organization_id, id),
    ADD CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    ADD CHECK (plain_bytes > 0 AND packed_bytes > 0),
    ADD CHECK (state IN ('kept', 'current', 'superseded', 'refused')),
    ADD CHECK (state NOT IN ('current', 'superseded') OR (kind IS NOT NULL AND bill_on IS NOT NULL)),
    ADD CHECK ((state = 'superseded') = (superseded_at IS NOT NULL)),
    ADD CHECK (state <> 'refused' OR problem IS NOT NULL);
CREATE FUNCTION linli_statement_is_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE'
       OR (OLD.sha256, OLD.merchant_account_id, OLD.plain_bytes, OLD.packed_bytes, OLD.source, OLD.created_at)
          IS DISTINCT FROM (NEW.sha256, NEW.merchant_account_id, NEW.plain_bytes, NEW.packed_bytes, NEW.source,
                            NEW.created_at)
       OR (OLD.state IN ('current', 'superseded') AND (OLD.kind, OLD.bill_on) IS DISTINCT FROM (NEW.kind, NEW.bill_on)) THEN
        RAISE EXCEPTION 'a statement stays as it came' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER frozen BEFORE UPDATE OR DELETE ON statements
    FOR EACH ROW EXECUTE FUNCTION linli_statement_is_frozen();

ALTER TABLE statement_parts
    ADD CONSTRAINT statement_parts_statement_fkey FOREIGN KEY (statement_id) REFERENCES statements (id),
    ADD CHECK (number >= 0 AND length(body) BETWEEN 1 AND 1048576),
    ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON statement_parts
    FOR EACH ROW EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON statement_parts
    FOR EACH STATEMENT EXECUTE FUNCTION linli_refuse_change();

ALTER TABLE statement_sums
    ADD CONSTRAINT statement_sums_day_fkey FOREIGN KEY (reconciliation_id) REFERENCES reconciliations (id),
    ADD CONSTRAINT statement_sums_community_fkey FOREIGN KEY (community_id) REFERENCES communities (id),
    ADD CONSTRAINT statement_sums_legal_entity_fkey FOREIGN KEY (legal_entity_id) REFERENCES legal_entities (id),
    ADD CHECK (line_count > 0 AND paid_fen >= 0 AND refunded_fen >= 0);

ALTER TABLE differences
    ADD CONSTRAINT differences_merchant_account_fkey FOREIGN KEY (organization_id, merchant_account_id)
        REFERENCES merchant_accounts (organization_id, id),
    ADD CONSTRAINT differences_day_fkey FOREIGN KEY (merchant_account_id, reconciliation_id)
        REFERENCES reconciliations (merchant_account_id, id),
    ADD CONSTRAINT differences_community_fkey FOREIGN KEY (organization_id, community_id)
        REFERENCES communities (organization_id, id),
    ADD CONSTRAINT differences_attempt_fkey FOREIGN KEY (attempt_id) REFERENCES payment_attempts (id),
    ADD CONSTRAINT differences_refund_attempt_fkey FOREIGN KEY (refund_attempt_id) REFERENCES refund_attempts (id),
    ADD CONSTRAINT differences_resolved_by_fkey FOREIGN KEY (organization_id, resolved_by_staff_id)
        REFERENCES staff (organization_id, id),
    ADD CHECK (kind IN ('only_at_wechat', 'only_with_us', 'amount', 'status', 'fee', 'cut_off')),
    ADD CHECK (state IN ('open', 'explained', 'mended', 'resolved')),
    ADD CHECK ((state = 'resolved') =
               (resolved_at IS NOT NULL AND resolved_by_staff_id IS NOT NULL AND resolution IS NOT NULL));

ALTER TABLE movements
    ADD CONSTRAINT movements_merchant_account_fkey FOREIGN KEY (organization_id, merchant_account_id)
        REFERENCES merchant_accounts (organization_id, id),
    ADD CHECK (amount_fen <> 0),
    ADD CHECK (abs(posted_fen) <= abs(amount_fen) AND posted_fen::numeric * amount_fen >= 0);

ALTER TABLE adjustments
    ADD CONSTRAINT adjustments_community_fkey FOREIGN KEY (organization_id, community_id)
        REFERENCES communities (organization_id, id),
    ADD CONSTRAINT adjustments_legal_entity_fkey FOREIGN KEY (organization_id, legal_entity_id)
        REFERENCES legal_entities (organization_id, id),
    ADD CONSTRAINT adjustments_merchant_account_fkey FOREIGN KEY (organization_id, merchant_account_id)
        REFERENCES merchant_accounts (organization_id, id),
    ADD CONSTRAINT adjustments_difference_fkey FOREIGN KEY (merchant_account_id, difference_id)
        REFERENCES differences (merchant_account_id, id),
    ADD CONSTRAINT adjustments_asked_by_fkey FOREIGN KEY (organization_id, asked_by_staff_id)
        REFERENCES staff (organization_id, id),
    ADD CONSTRAINT adjustments_decided_by_fkey FOREIGN KEY (organization_id, decided_by_staff_id)
        REFERENCES staff (organization_id, id),
    ADD CHECK (amount_fen > 0),
    ADD CHECK (debit_kind <> credit_kind),
    -- The second signature is a second person's.
    ADD CONSTRAINT adjustments_two_people CHECK (state <> 'posted' OR decided_by_staff_id <> asked_by_staff_id),
    ADD CHECK ((state = 'asked') = (decided_at IS NULL) AND (decided_at IS NULL) = (decided_by_staff_id IS NULL)),
    ADD CHECK (state IN ('asked', 'posted', 'withdrawn'));
CREATE TRIGGER final BEFORE UPDATE ON adjustments FOR EACH ROW
    WHEN (OLD.state IN ('posted', 'withdrawn') AND NEW.state <> OLD.state) EXECUTE FUNCTION linli_state_is_final();

GRANT SELECT, INSERT ON statement_parts TO linli_app;
GRANT SELECT, INSERT, UPDATE ON reconciliations, statements, differences, movements, adjustments TO linli_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON statement_sums TO linli_app;
"""


class Migration(migrations.Migration):
    dependencies = [("linli", "0013_refund_indexes")]

    initial = False

    operations = [
        ops.CreateModel(
            name="Adjustment",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("community_id", fields.UUIDField()),
                ("legal_entity_id", fields.UUIDField()),
                ("merchant_account_id", fields.UUIDField()),
                ("difference_id", fields.UUIDField(null=True)),
                ("debit_kind", fields.CharField(max_length=32)),
                ("credit_kind", fields.CharField(max_length=32)),
                ("amount_fen", fields.BigIntField()),
                ("reason", fields.CharField(max_length=200)),
                (
                    "state",
                    fields.CharEnumField(
                        default=AdjustmentState.ASKED,
                        description="ASKED: asked\nPOSTED: posted\nWITHDRAWN: withdrawn",
                        enum_type=AdjustmentState,
                        max_length=32,
                    ),
                ),
                ("asked_by_staff_id", fields.UUIDField()),
                ("decided_by_staff_id", fields.UUIDField(null=True)),
                ("decided_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "adjustments",
                "app": "linli",
                "pk_attr": "id",
                "table_description": "An entry that no event explains, because two people say so: 借 ``debit_kind`` 贷 ``credit_kind``.",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="Difference",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("merchant_account_id", fields.UUIDField()),
                ("reconciliation_id", fields.UUIDField()),
                ("community_id", fields.UUIDField(null=True)),
                (
                    "about",
                    fields.CharEnumField(
                        description="PAYMENT: payment\nREFUND: refund\nFLOW: flow",
                        enum_type=DifferenceAbout,
                        max_length=32,
                    ),
                ),
                ("number", fields.CharField(max_length=64)),
                (
                    "kind",
                    fields.CharEnumField(
                        description="ONLY_AT_WECHAT: only_at_wechat\nONLY_WITH_US: only_with_us\nAMOUNT: amount\nSTATUS: status\nFEE: fee\nCUT_OFF: cut_off",
                        enum_type=DifferenceKind,
                        max_length=32,
                    ),
                ),
                ("attempt_id", fields.UUIDField(null=True)),
                ("refund_attempt_id", fields.UUIDField(null=True)),
                ("out_trade_no", fields.CharField(null=True, max_length=64)),
                ("channel_number", fields.CharField(null=True, max_length=64)),
                ("occurred_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("wechat_fen", fields.BigIntField(null=True)),
                ("our_fen", fields.BigIntField(null=True)),
                ("difference_fen", fields.BigIntField()),
                ("fee_fen", fields.BigIntField(default=0)),
                ("wechat_status", fields.CharField(null=True, max_length=64)),
                ("our_status", fields.CharField(null=True, max_length=64)),
                ("placed_fen", fields.BigIntField(default=0)),
                (
                    "state",
                    fields.CharEnumField(
                        default=DifferenceState.OPEN,
                        description="OPEN: open\nEXPLAINED: explained\nMENDED: mended\nRESOLVED: resolved",
                        enum_type=DifferenceState,
                        max_length=32,
                    ),
                ),
                ("resolved_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("resolved_by_staff_id", fields.UUIDField(null=True)),
                ("resolution", fields.CharField(null=True, max_length=200)),
            ],
            options={
                "table": "differences",
                "app": "linli",
                "unique_together": (("reconciliation_id", "about", "number"),),
                "pk_attr": "id",
                "table_description": "One thing that WeChat's bill of a day and these books say differently. Unique: (day, about, number).",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="Movement",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("merchant_account_id", fields.UUIDField()),
                ("number", fields.CharField(max_length=64)),
                ("name", fields.CharField(max_length=64)),
                ("amount_fen", fields.BigIntField()),
                ("posted_fen", fields.BigIntField(default=0)),
                ("occurred_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "movements",
                "app": "linli",
                "unique_together": (("merchant_account_id", "number"),),
                "pk_attr": "id",
                "table_description": "Money between a merchant's balance at WeChat and its bank account. Unique: (merchant account, number).",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="Reconciliation",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("merchant_account_id", fields.UUIDField()),
                (
                    "kind",
                    fields.CharEnumField(
                        description="TRADE: trade\nFUND_FLOW: fund_flow", enum_type=StatementKind, max_length=32
                    ),
                ),
                ("bill_on", fields.DateField()),
                (
                    "state",
                    fields.CharEnumField(
                        default=DayState.WAITING,
                        description="WAITING: waiting\nREAD: read\nQUIET: quiet\nGONE: gone",
                        enum_type=DayState,
                        max_length=32,
                    ),
                ),
                ("statement_id", fields.UUIDField(null=True)),
                ("next_check_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("problem", fields.CharField(null=True, max_length=200)),
                ("read_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("row_count", fields.IntField(default=0)),
                ("wechat_fen", fields.BigIntField(default=0)),
                ("our_fen", fields.BigIntField(default=0)),
                ("fee_fen", fields.BigIntField(default=0)),
                ("pending_count", fields.IntField(default=0)),
            ],
            options={
                "table": "reconciliations",
                "app": "linli",
                "unique_together": (("merchant_account_id", "kind", "bill_on"),),
                "pk_attr": "id",
                "table_description": "One kind of bill of one Beijing day of a merchant account. Unique: (merchant account, kind, day).",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="Statement",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("merchant_account_id", fields.UUIDField()),
                (
                    "kind",
                    fields.CharEnumField(
                        null=True,
                        description="TRADE: trade\nFUND_FLOW: fund_flow",
                        enum_type=StatementKind,
                        max_length=32,
                    ),
                ),
                ("bill_on", fields.DateField(null=True)),
                (
                    "source",
                    fields.CharEnumField(
                        description="FETCHED: fetched\nBY_HAND: by_hand", enum_type=StatementSource, max_length=32
                    ),
                ),
                ("given_by_staff_id", fields.UUIDField(null=True)),
                ("sha256", fields.CharField(max_length=64)),
                ("plain_bytes", fields.BigIntField()),
                ("packed_bytes", fields.BigIntField()),
                (
                    "state",
                    fields.CharEnumField(
                        default=StatementState.KEPT,
                        description="KEPT: kept\nCURRENT: current\nSUPERSEDED: superseded\nREFUSED: refused",
                        enum_type=StatementState,
                        max_length=32,
                    ),
                ),
                ("problem", fields.CharField(null=True, max_length=200)),
                ("superseded_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "statements",
                "app": "linli",
                "unique_together": (("merchant_account_id", "sha256"),),
                "pk_attr": "id",
                "table_description": "A file as it came: its bytes are in ``statement_parts``. Unique: (merchant account, sha256 of the plain file).",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="StatementPart",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("statement_id", fields.UUIDField()),
                ("number", fields.IntField()),
                ("body", fields.BinaryField()),
            ],
            options={
                "table": "statement_parts",
                "app": "linli",
                "unique_together": (("statement_id", "number"),),
                "pk_attr": "id",
                "table_description": "A piece of a file, gzip over all pieces in order. Append-only. Unique: (statement, number).",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="StatementSum",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("reconciliation_id", fields.UUIDField()),
                ("community_id", fields.UUIDField()),
                ("legal_entity_id", fields.UUIDField()),
                ("line_count", fields.IntField()),
                ("paid_fen", fields.BigIntField()),
                ("refunded_fen", fields.BigIntField()),
                ("fee_fen", fields.BigIntField()),
                ("fee_back_fen", fields.BigIntField()),
            ],
            options={
                "table": "statement_sums",
                "app": "linli",
                "unique_together": (("reconciliation_id", "community_id", "legal_entity_id"),),
                "pk_attr": "id",
                "table_description": "What a trade bill comes to for one community, as far as its lines are known here. Unique: (day, community).",
            },
            bases=["Row"],
        ),
        ops.AlterField(
            model_name="Entry",
            name="kind",
            field=fields.CharEnumField(
                description="PAYMENT: payment\nSURPLUS: surplus\nSUSPENSE: suspense\nREFUND_APPROVED: refund_approved\nREFUNDED: refunded\nREFUND_CANCELLED: refund_cancelled\nCOMMISSION: commission\nCOMMISSION_REFUND: commission_refund\nSETTLED_TO_BANK: settled_to_bank\nWECHAT_UNIDENTIFIED: wechat_unidentified\nFOREIGN_REFUND: foreign_refund\nADJUSTMENT: adjustment",
                enum_type=EntryKind,
                max_length=32,
            ),
        ),
        ops.RunSQL(_GUARDS),
    ]
