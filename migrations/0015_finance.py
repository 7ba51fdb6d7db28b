"""Closed months, reversals, and reports as files."""

import functools
from json import dumps, loads

from tortoise import fields, migrations
from tortoise.indexes import Index
from tortoise.migrations import operations as ops

from kit.clock import now
from kit.ids import new_id
from models.ledger import AccountKind, EntryKind
from models.report_file import ReportFileState, ReportFormat
from models.reversal import ReversalState

GUARDS = """
CREATE UNIQUE INDEX closed_periods_organization_id_id_key ON closed_periods (organization_id, id);
ALTER TABLE closed_periods
    ADD CONSTRAINT closed_periods_legal_entity_id_fkey FOREIGN KEY (organization_id, legal_entity_id)
        REFERENCES legal_entities (organization_id, id),
    ADD CONSTRAINT closed_periods_closed_by_staff_id_fkey FOREIGN KEY (organization_id, closed_by_staff_id)
        REFERENCES staff (organization_id, id),
    ADD CONSTRAINT closed_periods_month_check CHECK (EXTRACT(DAY FROM month) = 1),
    ADD CONSTRAINT closed_periods_over_check CHECK (
        month + interval '1 month' <= (closed_at AT TIME ZONE 'Asia/Shanghai')),
    ADD CONSTRAINT closed_periods_sums_check CHECK (entry_count >= 0 AND amount_fen >= 0);
ALTER TABLE closed_balances
    ADD CONSTRAINT closed_balances_closed_period_id_fkey FOREIGN KEY (organization_id, closed_period_id)
        REFERENCES closed_periods (organization_id, id),
    ADD CONSTRAINT closed_balances_community_id_fkey FOREIGN KEY (organization_id, community_id)
        REFERENCES communities (organization_id, id),
    ADD CONSTRAINT closed_balances_sums_check CHECK (debit_fen >= 0 AND credit_fen >= 0);
CREATE UNIQUE INDEX reversals_one_of_an_entry ON reversals (entry_id) WHERE state <> 'declined';
ALTER TABLE reversals
    ADD CONSTRAINT reversals_community_id_fkey FOREIGN KEY (organization_id, community_id)
        REFERENCES communities (organization_id, id),
    ADD CONSTRAINT reversals_entry_id_fkey FOREIGN KEY (entry_id) REFERENCES entries (id),
    ADD CONSTRAINT reversals_asked_by_staff_id_fkey FOREIGN KEY (organization_id, asked_by_staff_id)
        REFERENCES staff (organization_id, id),
    ADD CONSTRAINT reversals_decided_by_staff_id_fkey FOREIGN KEY (organization_id, decided_by_staff_id)
        REFERENCES staff (organization_id, id),
    ADD CONSTRAINT reversals_state_check CHECK (state IN ('asked', 'posted', 'declined')),
    ADD CONSTRAINT reversals_reason_check CHECK (reason <> ''),
    ADD CONSTRAINT reversals_decided_check CHECK (
        (state = 'asked') = (decided_at IS NULL) AND (state = 'asked') = (decided_by_staff_id IS NULL)),
    ADD CONSTRAINT reversals_second_person_check CHECK (decided_by_staff_id <> asked_by_staff_id);
CREATE INDEX report_files_due ON report_files (next_check_at) WHERE next_check_at IS NOT NULL;
ALTER TABLE report_files
    ADD CONSTRAINT report_files_staff_id_fkey FOREIGN KEY (organization_id, staff_id)
        REFERENCES staff (organization_id, id),
    ADD CONSTRAINT report_files_ready_check CHECK ((state = 'ready') = (body IS NOT NULL)),
    ADD CONSTRAINT report_files_due_check CHECK ((state IN ('queued', 'ready')) = (next_check_at IS NOT NULL)),
    ADD CONSTRAINT report_files_problem_check CHECK ((state = 'failed') = (problem IS NOT NULL)),
    ADD CONSTRAINT report_files_rows_check CHECK (rows_done >= 0);
"""

# Who posts holds the month in share, who closes it alone: of the two, one waits until the other's transaction has ended,
# and posters never wait for each other. The lock is of one legal entity and month, so that a month that is being closed
# is in the way of that month's entries only. It is not a row: nothing is written by a payment.
TRIGGERS = """
CREATE FUNCTION linli_month_lock(legal_entity uuid, day date) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT hashtextextended(legal_entity::text || to_char(date_trunc('month', day::timestamp), 'YYYY-MM'), 1715)
$$;
CREATE FUNCTION linli_month_is_open() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(linli_month_lock(NEW.legal_entity_id, NEW.posted_on));
    IF EXISTS (SELECT FROM closed_periods
               WHERE legal_entity_id = NEW.legal_entity_id AND month >= date_trunc('month', NEW.posted_on::timestamp)::date)
    THEN
        RAISE EXCEPTION 'the month of % is closed: "month_is_open"', NEW.posted_on USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER month_is_open BEFORE INSERT ON entries FOR EACH ROW EXECUTE FUNCTION linli_month_is_open();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON closed_periods
    FOR EACH ROW EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON closed_periods FOR EACH STATEMENT EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON closed_balances
    FOR EACH ROW EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON closed_balances FOR EACH STATEMENT EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER final BEFORE UPDATE ON reversals FOR EACH ROW
    WHEN (OLD.state <> 'asked' AND NEW.state <> OLD.state) EXECUTE FUNCTION linli_state_is_final();
"""

GRANTS = """
GRANT SELECT, INSERT ON closed_periods, closed_balances TO linli_app;
GRANT SELECT, INSERT, UPDATE ON reversals, report_files TO linli_app;
"""


class Migration(migrations.Migration):
    dependencies = [("linli", "0014_reconciliation")]

    initial = False

    operations = [
        ops.CreateModel(
            name="ClosedBalance",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("community_id", fields.UUIDField()),
                ("closed_period_id", fields.UUIDField()),
                (
                    "kind",
                    fields.CharEnumField(
                        description="WECHAT_CLEARING: wechat_clearing\nBANK: bank\nCASH_ON_HAND: cash_on_hand\nPOS_CLEARING: pos_clearing\nRECEIVED: received\nPREPAID: prepaid\nDEPOSIT: deposit\nSURPLUS: surplus\nSUSPENSE: suspense\nCOMMISSION: commission\nREFUND_PENDING: refund_pending\nCASH_VARIANCE: cash_variance",
                        enum_type=AccountKind,
                        max_length=32,
                    ),
                ),
                ("debit_fen", fields.BigIntField()),
                ("credit_fen", fields.BigIntField()),
            ],
            options={
                "table": "closed_balances",
                "app": "linli",
                "unique_together": (("closed_period_id", "community_id", "kind"),),
                "pk_attr": "id",
                "table_description": "What accounts of one kind in one community moved in the month. Append-only.",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="ClosedPeriod",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("legal_entity_id", fields.UUIDField()),
                ("month", fields.DateField()),
                ("entry_count", fields.IntField()),
                ("amount_fen", fields.BigIntField()),
                ("closed_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("closed_by_staff_id", fields.UUIDField()),
            ],
            options={
                "table": "closed_periods",
                "app": "linli",
                "unique_together": (("legal_entity_id", "month"),),
                "pk_attr": "id",
                "table_description": "One closed month; never opened again. Append-only. Unique: (legal entity, month). A trigger on entries refuses",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="ReportFile",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("staff_id", fields.UUIDField()),
                ("report", fields.CharField(max_length=32)),
                (
                    "format",
                    fields.CharEnumField(description="XLSX: xlsx\nCSV: csv", enum_type=ReportFormat, max_length=32),
                ),
                ("request", fields.JSONField(encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads)),
                (
                    "state",
                    fields.CharEnumField(
                        default=ReportFileState.QUEUED,
                        description="QUEUED: queued\nREADY: ready\nEXPIRED: expired\nFAILED: failed",
                        enum_type=ReportFileState,
                        max_length=32,
                    ),
                ),
                ("row_count", fields.IntField(null=True)),
                ("rows_done", fields.IntField(default=0)),
                ("attempts", fields.SmallIntField(default=0)),
                ("body", fields.BinaryField(null=True)),
                ("size_bytes", fields.IntField(null=True)),
                ("problem", fields.CharField(null=True, max_length=64)),
                ("ready_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("next_check_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "report_files",
                "app": "linli",
                "indexes": [Index(fields=["staff_id", "id"])],
                "pk_attr": "id",
                "table_description": "One file. The bytes lie here and not in a folder, so that whichever process is asked has them, and so that they",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="Reversal",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("community_id", fields.UUIDField()),
                ("entry_id", fields.BigIntField()),
                ("reason", fields.CharField(max_length=200)),
                (
                    "state",
                    fields.CharEnumField(
                        default=ReversalState.ASKED,
                        description="ASKED: asked\nPOSTED: posted\nDECLINED: declined",
                        enum_type=ReversalState,
                        max_length=32,
                    ),
                ),
                ("asked_by_staff_id", fields.UUIDField()),
                ("decided_by_staff_id", fields.UUIDField(null=True)),
                ("decided_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "reversals",
                "app": "linli",
                "indexes": [Index(fields=["community_id", "created_at", "id"])],
                "pk_attr": "id",
                "table_description": "One wish to reverse one entry. Unique while not declined: an entry is reversed once. Who asks does not decide, by",
            },
            bases=["Row"],
        ),
        ops.AlterField(
            model_name="Entry",
            name="kind",
            field=fields.CharEnumField(
                description="PAYMENT: payment\nSURPLUS: surplus\nSUSPENSE: suspense\nREFUND_APPROVED: refund_approved\nREFUNDED: refunded\nREFUND_CANCELLED: refund_cancelled\nCOMMISSION: commission\nCOMMISSION_REFUND: commission_refund\nSETTLED_TO_BANK: settled_to_bank\nWECHAT_UNIDENTIFIED: wechat_unidentified\nFOREIGN_REFUND: foreign_refund\nADJUSTMENT: adjustment\nREVERSAL: reversal\nSHIFT_FLOAT: shift_float\nCASH_VARIANCE: cash_variance\nSHIFT_HANDOVER: shift_handover\nCASH_BANKED: cash_banked\nCASH_DRAWN: cash_drawn",
                enum_type=EntryKind,
                max_length=32,
            ),
        ),
        ops.RunSQL(GUARDS),
        ops.RunSQL(TRIGGERS),
        ops.RunSQL(GRANTS),
    ]
