"""Refunds of what was paid on bills: asked for, approved, taken back from the lines; bills opened again or credited."""

from tortoise import fields, migrations
from tortoise.migrations import operations as ops

from kit.clock import now
from kit.ids import new_id
from models.bill import BillState
from models.deposit import DepositState
from models.refund import BillFate, RefundKind, RefundMethod, RefundState

_GUARDS = """
-- What was paid on a line and what went back of it; old code writes what was paid, as before.
CREATE UNIQUE INDEX refunds_payment_id_id_key ON refunds (payment_id, id);
ALTER TABLE allocations
    DROP CONSTRAINT allocations_amount_fen_check,
    ADD CONSTRAINT allocations_sign CHECK (CASE WHEN refund_id IS NULL THEN amount_fen > 0 ELSE amount_fen < 0 END),
    ADD CONSTRAINT allocations_refund_fkey FOREIGN KEY (payment_id, refund_id) REFERENCES refunds (payment_id, id);

CREATE FUNCTION linli_given_back_was_paid() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT sum(amount_fen) FROM allocations
        WHERE payment_id = NEW.payment_id AND bill_line_id = NEW.bill_line_id) < 0 THEN
        RAISE EXCEPTION 'more goes back of line % than payment % paid on it', NEW.bill_line_id, NEW.payment_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER given_back_was_paid AFTER INSERT ON allocations DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.refund_id IS NOT NULL) EXECUTE FUNCTION linli_given_back_was_paid();

-- A credited bill was paid, and need not be paid any more: it makes room for a right one, and stays what it is.
ALTER TABLE bills
    DROP CONSTRAINT bills_check,
    DROP CONSTRAINT bills_check1,
    DROP CONSTRAINT bills_state_check,
    ADD CONSTRAINT bills_settled_within_amount CHECK (
        paid_fen >= 0 AND credited_fen >= 0 AND paid_fen + credited_fen <= amount_fen),
    ADD CONSTRAINT bills_state_of_settled CHECK (CASE state
        WHEN 'paid' THEN paid_fen > 0 AND paid_fen + credited_fen = amount_fen
        WHEN 'part_paid' THEN paid_fen > 0 AND paid_fen + credited_fen < amount_fen
        WHEN 'open' THEN paid_fen = 0 AND credited_fen < amount_fen
        WHEN 'credited' THEN paid_fen = 0 AND credited_fen = amount_fen
        WHEN 'void' THEN paid_fen = 0
        ELSE paid_fen = 0 AND credited_fen = 0 END),
    ADD CONSTRAINT bills_state_check CHECK (state IN ('draft', 'open', 'part_paid', 'paid', 'void', 'credited'));
DROP TRIGGER final ON bills;
CREATE TRIGGER final BEFORE UPDATE ON bills FOR EACH ROW
    WHEN (OLD.state IN ('void', 'credited') AND NEW.state <> OLD.state) EXECUTE FUNCTION linli_state_is_final();
CREATE OR REPLACE FUNCTION linli_bill_is_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    free text[] := '{state,paid_fen,credited_fen,voided_at,void_reason,merchant_account_id}';
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'bills are voided, never deleted' USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.state = 'draft' THEN
        RAISE EXCEPTION 'an issued bill is never a draft again' USING ERRCODE = 'restrict_violation';
    END IF;
    IF (to_jsonb(OLD) - free) IS DISTINCT FROM (to_jsonb(NEW) - free) THEN
        RAISE EXCEPTION 'an issued bill is frozen' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

ALTER TABLE credit_notes
    ADD CONSTRAINT credit_notes_refund_fkey FOREIGN KEY (community_id, refund_id) REFERENCES refunds (community_id, id),
    ADD CONSTRAINT credit_notes_bill_fkey FOREIGN KEY (community_id, bill_id) REFERENCES bills (community_id, id),
    ADD CONSTRAINT credit_notes_line_fkey FOREIGN KEY (bill_id, bill_line_id) REFERENCES bill_lines (bill_id, id),
    ADD CHECK (amount_fen > 0);
-- At commit, what a bill counts as credited is what its notes say.
CREATE FUNCTION linli_credited_is_noted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    the_bill uuid;
    counted bigint;
    noted bigint;
BEGIN
    IF TG_TABLE_NAME = 'bills' THEN the_bill := NEW.id; ELSE the_bill := NEW.bill_id; END IF;
    SELECT credited_fen INTO counted FROM bills WHERE id = the_bill;
    SELECT COALESCE(sum(amount_fen), 0) INTO noted FROM credit_notes WHERE bill_id = the_bill;
    IF counted <> noted THEN
        RAISE EXCEPTION 'bill % counts % fen credited, its notes say %', the_bill, counted, noted
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER credited_is_noted AFTER UPDATE ON bills DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.credited_fen <> NEW.credited_fen) EXECUTE FUNCTION linli_credited_is_noted();
CREATE CONSTRAINT TRIGGER credited_is_noted_from_birth AFTER INSERT ON bills DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.credited_fen <> 0) EXECUTE FUNCTION linli_credited_is_noted();
CREATE CONSTRAINT TRIGGER noted_is_credited AFTER INSERT ON credit_notes DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION linli_credited_is_noted();

ALTER TABLE refunds
    DROP CONSTRAINT refunds_state_check,
    ADD CONSTRAINT refunds_state_check CHECK (
        state IN ('asked', 'rejected', 'approved', 'processing', 'failed', 'refunded', 'cancelled')),
    ADD CONSTRAINT refunds_kind_check CHECK (kind IN ('surplus', 'bill', 'prepaid', 'deposit')),
    ADD CONSTRAINT refunds_method_check CHECK (method IN ('wechat_original', 'bank', 'cash')),
    ADD CONSTRAINT refunds_asked_by_one CHECK (num_nonnulls(asked_by_staff_id, asked_by_resident_id) = 1),
    ADD CONSTRAINT refunds_approved_by_somebody CHECK (
        num_nonnulls(approved_by_staff_id, approved_at) = CASE WHEN state IN ('asked', 'rejected') THEN 0 ELSE 2 END),
    ADD CONSTRAINT refunds_rejected_by_somebody CHECK (
        num_nonnulls(rejected_by_staff_id, rejected_at, reject_reason) = CASE state WHEN 'rejected' THEN 3 ELSE 0 END),
    ADD CONSTRAINT refunds_paid_out_by_somebody CHECK (
        (state = 'refunded' AND method <> 'wechat_original') = (paid_out_by_staff_id IS NOT NULL)),
    ADD CONSTRAINT refunds_bank_has_its_serial CHECK (CASE WHEN state = 'refunded' AND method = 'bank'
        THEN pay_out_reference IS NOT NULL ELSE pay_out_reference IS NULL END),
    ADD CONSTRAINT refunds_wechat_has_its_account CHECK (
        method <> 'wechat_original' OR merchant_account_id IS NOT NULL),
    -- The wider key above lets a row without merchant account through; this one does not.
    ADD CONSTRAINT refunds_debtor_fkey FOREIGN KEY (community_id, payment_id, customer_id, legal_entity_id)
        REFERENCES payments (community_id, id, customer_id, legal_entity_id),
    ADD CONSTRAINT refunds_asked_by_resident_fkey FOREIGN KEY (organization_id, asked_by_resident_id)
        REFERENCES residents (organization_id, id),
    ADD CONSTRAINT refunds_rejected_by_fkey FOREIGN KEY (organization_id, rejected_by_staff_id)
        REFERENCES staff (organization_id, id),
    ADD CONSTRAINT refunds_paid_out_by_fkey FOREIGN KEY (organization_id, paid_out_by_staff_id)
        REFERENCES staff (organization_id, id);
CREATE UNIQUE INDEX refunds_bank_serial ON refunds (legal_entity_id, pay_out_reference)
    WHERE pay_out_reference IS NOT NULL;
DROP TRIGGER final ON refunds;
CREATE TRIGGER final BEFORE UPDATE ON refunds FOR EACH ROW
    WHEN (OLD.state IN ('refunded', 'cancelled', 'rejected') AND NEW.state <> OLD.state)
    EXECUTE FUNCTION linli_state_is_final();
-- A number that was given at WeChat's own site may hold what WeChat allows.
ALTER TABLE refund_attempts
    DROP CONSTRAINT refund_attempts_out_refund_no_check,
    ADD CONSTRAINT refund_attempts_out_refund_no_check CHECK (out_refund_no ~ '^[0-9A-Za-z_|*@-]{1,64}$');

ALTER TABLE refund_lines
    ADD CONSTRAINT refund_lines_community_fkey FOREIGN KEY (community_id, refund_id)
        REFERENCES refunds (community_id, id),
    ADD CONSTRAINT refund_lines_refund_fkey FOREIGN KEY (payment_id, refund_id) REFERENCES refunds (payment_id, id),
    ADD CONSTRAINT refund_lines_bill_fkey FOREIGN KEY (payment_id, bill_id)
        REFERENCES payment_bills (payment_id, bill_id),
    ADD CONSTRAINT refund_lines_line_fkey FOREIGN KEY (bill_id, bill_line_id) REFERENCES bill_lines (bill_id, id),
    ADD CHECK (amount_fen > 0),
    ADD CHECK (fate IN ('open', 'credited'));
-- At commit, the lines of a refund add up to it, and of no line more is back or on its way than the payment paid on it.
-- Whoever approves changes the payment's row, so that the second of two commits after the first, and sees it.
CREATE FUNCTION linli_refund_lines_hold() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    refund refunds%ROWTYPE;
    total bigint;
BEGIN
    IF TG_TABLE_NAME = 'refunds' THEN SELECT * INTO refund FROM refunds WHERE id = NEW.id;
    ELSE SELECT * INTO refund FROM refunds WHERE id = NEW.refund_id;
    END IF;
    SELECT COALESCE(sum(amount_fen), 0) INTO total FROM refund_lines WHERE refund_id = refund.id;
    IF total <> (CASE refund.kind WHEN 'surplus' THEN 0 ELSE refund.amount_fen END) THEN
        RAISE EXCEPTION 'refund % says % fen, its lines say %', refund.id, refund.amount_fen, total
            USING ERRCODE = 'check_violation';
    END IF;
    IF EXISTS (SELECT FROM refund_lines mine WHERE mine.refund_id = refund.id
               AND (SELECT sum(l.amount_fen) FROM refund_lines l JOIN refunds r ON r.id = l.refund_id
                    WHERE l.payment_id = mine.payment_id AND l.bill_line_id = mine.bill_line_id
                      AND r.state IN ('approved', 'processing', 'failed', 'refunded'))
                 > (SELECT COALESCE(sum(a.amount_fen), 0) FROM allocations a
                    WHERE a.payment_id = mine.payment_id AND a.bill_line_id = mine.bill_line_id
                      AND a.refund_id IS NULL)) THEN
        RAISE EXCEPTION 'refund % takes more from a line than was paid on it', refund.id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER lines_hold AFTER INSERT OR UPDATE ON refunds DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION linli_refund_lines_hold();
CREATE CONSTRAINT TRIGGER lines_hold AFTER INSERT ON refund_lines DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION linli_refund_lines_hold();

ALTER TABLE deposits
    DROP CONSTRAINT deposits_deducted_check,
    DROP CONSTRAINT deposits_return_check,
    ADD CONSTRAINT deposits_deducted_check CHECK (CASE state
        WHEN 'held' THEN deducted_fen = 0
        WHEN 'part_deducted' THEN deducted_fen > 0 AND deducted_fen < amount_fen
        WHEN 'spent' THEN deducted_fen = amount_fen
        WHEN 'return_asked' THEN deducted_fen >= 0 AND deducted_fen < amount_fen
        WHEN 'returned' THEN deducted_fen >= 0 AND deducted_fen < amount_fen
        ELSE false END),
    ADD CONSTRAINT deposits_return_check CHECK ((state IN ('return_asked', 'returned')) =
        (num_nonnulls(return_asked_at, return_asked_by_staff_id, return_reason) = 3)
        AND num_nonnulls(return_asked_at, return_asked_by_staff_id, return_reason) IN (0, 3));
CREATE TRIGGER final BEFORE UPDATE ON deposits FOR EACH ROW
    WHEN (OLD.state = 'returned' AND NEW.state <> OLD.state) EXECUTE FUNCTION linli_state_is_final();

ALTER TABLE legal_entities ADD CHECK (refund_alone_fen >= 0);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON credit_notes FOR EACH ROW EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON credit_notes FOR EACH STATEMENT EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON refund_lines FOR EACH ROW EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON refund_lines FOR EACH STATEMENT EXECUTE FUNCTION linli_refuse_change();
GRANT SELECT, INSERT ON credit_notes, refund_lines TO linli_app;
GRANT USAGE ON SEQUENCE credit_notes_id_seq TO linli_app;
"""


class Migration(migrations.Migration):
    dependencies = [("linli", "0012_shift_index")]

    initial = False

    operations = [
        ops.CreateModel(
            name="CreditNote",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("community_id", fields.UUIDField()),
                ("refund_id", fields.UUIDField()),
                ("bill_id", fields.UUIDField(db_index=True)),
                ("bill_line_id", fields.UUIDField(db_index=True)),
                ("amount_fen", fields.BigIntField()),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "credit_notes",
                "app": "linli",
                "unique_together": (("refund_id", "bill_line_id"),),
                "pk_attr": "id",
                "table_description": "冲销: of a bill line whose money went back, what need not be paid any more, by which refund. Append-only.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="RefundLine",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("community_id", fields.UUIDField()),
                ("refund_id", fields.UUIDField()),
                ("payment_id", fields.UUIDField()),
                ("bill_id", fields.UUIDField()),
                ("bill_line_id", fields.UUIDField(db_index=True)),
                ("amount_fen", fields.BigIntField()),
                (
                    "fate",
                    fields.CharEnumField(
                        description="OPEN: open\nCREDITED: credited", enum_type=BillFate, max_length=32
                    ),
                ),
            ],
            options={
                "table": "refund_lines",
                "app": "linli",
                "unique_together": (("refund_id", "bill_line_id"),),
                "pk_attr": "id",
                "table_description": "Of which bill line a refund takes how much, and what becomes of the bill. Append-only. Unique: (refund, line).",
            },
            bases=["Row"],
        ),
        ops.AddField(
            model_name="Allocation",
            name="refund_id",
            field=fields.UUIDField(null=True),
        ),
        ops.AlterField(
            model_name="Bill",
            name="state",
            field=fields.CharEnumField(
                default=BillState.OPEN,
                description="DRAFT: draft\nOPEN: open\nPART_PAID: part_paid\nPAID: paid\nVOID: void\nCREDITED: credited",
                enum_type=BillState,
                max_length=32,
            ),
        ),
        ops.AddField(
            model_name="Bill",
            name="credited_fen",
            field=fields.BigIntField(default=0, db_default=0),
        ),
        ops.AddField(
            model_name="LegalEntity",
            name="refund_alone_fen",
            field=fields.BigIntField(default=50000, db_default=50000),
        ),
        ops.AlterField(
            model_name="Refund",
            name="approved_at",
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.AlterField(
            model_name="Refund",
            name="approved_by_staff_id",
            field=fields.UUIDField(null=True),
        ),
        ops.AlterField(
            model_name="Refund",
            name="asked_by_staff_id",
            field=fields.UUIDField(null=True),
        ),
        ops.AlterField(
            model_name="Refund",
            name="kind",
            field=fields.CharEnumField(
                description="SURPLUS: surplus\nBILL: bill\nPREPAID: prepaid\nDEPOSIT: deposit",
                enum_type=RefundKind,
                max_length=32,
            ),
        ),
        ops.AlterField(
            model_name="Refund",
            name="merchant_account_id",
            field=fields.UUIDField(null=True),
        ),
        ops.AlterField(
            model_name="Refund",
            name="method",
            field=fields.CharEnumField(
                default=RefundMethod.WECHAT_ORIGINAL,
                description="WECHAT_ORIGINAL: wechat_original\nBANK: bank\nCASH: cash",
                enum_type=RefundMethod,
                max_length=32,
            ),
        ),
        ops.AlterField(
            model_name="Refund",
            name="state",
            field=fields.CharEnumField(
                default=RefundState.APPROVED,
                description="ASKED: asked\nREJECTED: rejected\nAPPROVED: approved\nPROCESSING: processing\nFAILED: failed\nREFUNDED: refunded\nCANCELLED: cancelled",
                enum_type=RefundState,
                max_length=32,
            ),
        ),
        ops.AddField(
            model_name="Refund",
            name="asked_by_resident_id",
            field=fields.UUIDField(null=True),
        ),
        ops.AddField(
            model_name="Refund",
            name="paid_out_by_staff_id",
            field=fields.UUIDField(null=True),
        ),
        ops.AddField(
            model_name="Refund",
            name="pay_out_reference",
            field=fields.CharField(null=True, max_length=64),
        ),
        ops.AddField(
            model_name="Refund",
            name="reject_reason",
            field=fields.CharField(null=True, max_length=200),
        ),
        ops.AddField(
            model_name="Refund",
            name="rejected_at",
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.AddField(
            model_name="Refund",
            name="rejected_by_staff_id",
            field=fields.UUIDField(null=True),
        ),
        ops.AlterField(
            model_name="Deposit",
            name="state",
            field=fields.CharEnumField(
                default=DepositState.HELD,
                description="HELD: held\nPART_DEDUCTED: part_deducted\nSPENT: spent\nRETURN_ASKED: return_asked\nRETURNED: returned",
                enum_type=DepositState,
                max_length=32,
            ),
        ),
        ops.RunSQL(_GUARDS),
    ]
