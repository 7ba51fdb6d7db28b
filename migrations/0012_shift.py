"""Cashier shifts and slips of the bank."""

from tortoise import fields, migrations
from tortoise.indexes import Index
from tortoise.migrations import operations as ops

from kit.clock import now
from kit.ids import new_id
from models.bank_slip import BankSlipKind
from models.ledger import AccountKind, EntryKind
from models.shift import ShiftState

GUARDS = """
ALTER TABLE shifts
    ADD CONSTRAINT shifts_community_id_fkey FOREIGN KEY (organization_id, community_id)
        REFERENCES communities (organization_id, id),
    ADD CONSTRAINT shifts_staff_id_fkey FOREIGN KEY (organization_id, staff_id) REFERENCES staff (organization_id, id),
    ADD CONSTRAINT shifts_approved_by_staff_id_fkey FOREIGN KEY (organization_id, approved_by_staff_id)
        REFERENCES staff (organization_id, id),
    ADD CONSTRAINT shifts_state_check CHECK (state IN ('open', 'closed', 'handed_over', 'approved')),
    ADD CONSTRAINT shifts_closed_check CHECK ((state = 'open') = (closed_at IS NULL)),
    ADD CONSTRAINT shifts_handed_over_check CHECK (
        (state IN ('handed_over', 'approved')) = (handed_over_at IS NOT NULL)
        AND (handed_to_shift_id IS NULL OR (handed_over_at IS NOT NULL AND handed_to_shift_id <> id))),
    -- Nobody approves their own count.
    ADD CONSTRAINT shifts_approved_check CHECK (
        (state = 'approved') = (approved_at IS NOT NULL AND approved_by_staff_id IS NOT NULL)
        AND num_nonnulls(approved_at, approved_by_staff_id) <> 1 AND approved_by_staff_id <> staff_id);
CREATE UNIQUE INDEX shifts_one_open ON shifts (staff_id, community_id) WHERE state = 'open';
CREATE UNIQUE INDEX shifts_community_id_id_key ON shifts (community_id, id);
ALTER TABLE shifts ADD CONSTRAINT shifts_handed_to_shift_id_fkey FOREIGN KEY (community_id, handed_to_shift_id)
    REFERENCES shifts (community_id, id);
CREATE TRIGGER final BEFORE UPDATE ON shifts FOR EACH ROW
    WHEN (OLD.state = 'approved' AND NEW.state <> OLD.state) EXECUTE FUNCTION linli_state_is_final();

ALTER TABLE shift_drawers
    ADD CONSTRAINT shift_drawers_community_id_fkey FOREIGN KEY (organization_id, community_id)
        REFERENCES communities (organization_id, id),
    ADD CONSTRAINT shift_drawers_shift_id_fkey FOREIGN KEY (community_id, shift_id) REFERENCES shifts (community_id, id),
    ADD CONSTRAINT shift_drawers_legal_entity_id_fkey FOREIGN KEY (organization_id, legal_entity_id)
        REFERENCES legal_entities (organization_id, id),
    ADD CONSTRAINT shift_drawers_amounts_check CHECK (float_fen >= 0 AND expected_fen >= 0 AND counted_fen >= 0),
    ADD CONSTRAINT shift_drawers_counted_check CHECK ((expected_fen IS NULL) = (counted_fen IS NULL));

ALTER TABLE bank_slips
    ADD CONSTRAINT bank_slips_community_id_fkey FOREIGN KEY (organization_id, community_id)
        REFERENCES communities (organization_id, id),
    ADD CONSTRAINT bank_slips_legal_entity_id_fkey FOREIGN KEY (organization_id, legal_entity_id)
        REFERENCES legal_entities (organization_id, id),
    ADD CONSTRAINT bank_slips_recorded_by_staff_id_fkey FOREIGN KEY (organization_id, recorded_by_staff_id)
        REFERENCES staff (organization_id, id),
    ADD CONSTRAINT bank_slips_kind_check CHECK (kind IN ('deposit', 'withdrawal')),
    ADD CONSTRAINT bank_slips_words_check CHECK (number <> '' AND bank <> ''),
    ADD CONSTRAINT bank_slips_amount_fen_check CHECK (amount_fen > 0 AND amount_fen <= 10000000000000);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON bank_slips
    FOR EACH ROW EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON bank_slips FOR EACH STATEMENT EXECUTE FUNCTION linli_refuse_change();

ALTER TABLE payments ADD CONSTRAINT payments_tendered_check
    CHECK (tendered_fen IS NULL OR (channel = 'cash' AND shift_id IS NOT NULL AND tendered_fen >= amount_fen));
ALTER TABLE payments ADD CONSTRAINT payments_shift_id_fkey FOREIGN KEY (community_id, shift_id)
    REFERENCES shifts (community_id, id);
"""

# A drawer and the safe hold cash, and cash cannot be less than none. Money that comes in never takes from them, and its
# way is the hot one, so it does not pass here. The lock lets two hands that take from one account go one after the other
# and lets the foreign keys of others through.
CASH = """
CREATE FUNCTION linli_cash_is_there() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    left_fen bigint;
BEGIN
    PERFORM 1 FROM accounts WHERE id = NEW.credit_account_id AND kind = 'cash_on_hand' FOR NO KEY UPDATE;
    IF NOT FOUND THEN RETURN NULL; END IF;
    SELECT COALESCE((SELECT sum(amount_fen) FROM entries WHERE debit_account_id = NEW.credit_account_id), 0)
         - COALESCE((SELECT sum(amount_fen) FROM entries WHERE credit_account_id = NEW.credit_account_id), 0)
        INTO left_fen;
    IF left_fen < 0 THEN
        RAISE EXCEPTION 'there is less cash than is taken out: "cash_is_there"' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER cash_is_there AFTER INSERT ON entries FOR EACH ROW
    WHEN (NEW.kind NOT IN ('payment', 'surplus', 'suspense')) EXECUTE FUNCTION linli_cash_is_there();
"""

GRANTS = """
GRANT SELECT, INSERT, UPDATE ON shifts, shift_drawers TO linli_app;
GRANT SELECT, INSERT ON bank_slips TO linli_app;
"""


class Migration(migrations.Migration):
    dependencies = [("linli", "0011_paid_at_once")]

    initial = False

    operations = [
        ops.CreateModel(
            name="BankSlip",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("community_id", fields.UUIDField()),
                ("legal_entity_id", fields.UUIDField()),
                (
                    "kind",
                    fields.CharEnumField(
                        description="DEPOSIT: deposit\nWITHDRAWAL: withdrawal", enum_type=BankSlipKind, max_length=32
                    ),
                ),
                ("number", fields.CharField(max_length=64)),
                ("bank", fields.CharField(max_length=100)),
                ("amount_fen", fields.BigIntField()),
                ("banked_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("recorded_by_staff_id", fields.UUIDField()),
            ],
            options={
                "table": "bank_slips",
                "app": "linli",
                "unique_together": (("legal_entity_id", "kind", "number"),),
                "indexes": [Index(fields=["community_id", "created_at", "id"])],
                "pk_attr": "id",
                "table_description": "One slip of a bank over cash of one legal entity. Append-only. Unique: (legal entity, kind, number).",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="Shift",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("community_id", fields.UUIDField()),
                ("staff_id", fields.UUIDField()),
                (
                    "state",
                    fields.CharEnumField(
                        default=ShiftState.OPEN,
                        description="OPEN: open\nCLOSED: closed\nHANDED_OVER: handed_over\nAPPROVED: approved",
                        enum_type=ShiftState,
                        max_length=32,
                    ),
                ),
                ("closed_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("handed_over_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("handed_to_shift_id", fields.UUIDField(null=True)),
                ("approved_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("approved_by_staff_id", fields.UUIDField(null=True)),
                ("remark", fields.CharField(default="", max_length=200)),
            ],
            options={
                "table": "shifts",
                "app": "linli",
                "indexes": [Index(fields=["community_id", "created_at", "id"])],
                "pk_attr": "id",
                "table_description": "One clerk at one community's counter. At most one is open for a clerk and community, by a partial index.",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="ShiftDrawer",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("community_id", fields.UUIDField()),
                ("shift_id", fields.UUIDField()),
                ("legal_entity_id", fields.UUIDField()),
                ("float_fen", fields.BigIntField()),
                ("expected_fen", fields.BigIntField(null=True)),
                ("counted_fen", fields.BigIntField(null=True)),
            ],
            options={
                "table": "shift_drawers",
                "app": "linli",
                "unique_together": (("shift_id", "legal_entity_id"),),
                "pk_attr": "id",
                "table_description": "The cash of one legal entity in a shift: cash of different legal entities is kept apart and counted apart.",
            },
            bases=["Row"],
        ),
        ops.AlterField(
            model_name="Account",
            name="kind",
            field=fields.CharEnumField(
                description="WECHAT_CLEARING: wechat_clearing\nBANK: bank\nCASH_ON_HAND: cash_on_hand\nPOS_CLEARING: pos_clearing\nRECEIVED: received\nPREPAID: prepaid\nDEPOSIT: deposit\nSURPLUS: surplus\nSUSPENSE: suspense\nCOMMISSION: commission\nREFUND_PENDING: refund_pending\nCASH_VARIANCE: cash_variance",
                enum_type=AccountKind,
                max_length=32,
            ),
        ),
        ops.AlterField(
            model_name="Entry",
            name="kind",
            field=fields.CharEnumField(
                description="PAYMENT: payment\nSURPLUS: surplus\nSUSPENSE: suspense\nREFUND_APPROVED: refund_approved\nREFUNDED: refunded\nREFUND_CANCELLED: refund_cancelled\nSHIFT_FLOAT: shift_float\nCASH_VARIANCE: cash_variance\nSHIFT_HANDOVER: shift_handover\nCASH_BANKED: cash_banked\nCASH_DRAWN: cash_drawn",
                enum_type=EntryKind,
                max_length=32,
            ),
        ),
        ops.AddField(
            model_name="Payment",
            name="shift_id",
            field=fields.UUIDField(null=True),
        ),
        ops.AddField(
            model_name="Payment",
            name="tendered_fen",
            field=fields.BigIntField(null=True),
        ),
        ops.RunSQL(GUARDS),
        ops.RunSQL(CASH),
        ops.RunSQL(GRANTS),
    ]
