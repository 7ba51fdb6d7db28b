"""What is paid at once, and what is held: prepaid balances and deposits, which are never overdrawn."""

import functools
from json import dumps, loads

from tortoise import fields, migrations
from tortoise.indexes import Index
from tortoise.migrations import operations as ops

from kit.clock import now
from kit.ids import new_id
from models.deposit import DepositState
from models.merchant_account import MerchantMode
from models.payment import Channel
from models.prepaid import PrepaidRunOutcome, PrepaidRunState

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

# Balances and deposits: whose they are, how far they go, and that each thing happens once.
_HELD = """
CREATE UNIQUE INDEX accounts_community_id_id_key ON accounts (community_id, id);
ALTER TABLE communities
    ADD CONSTRAINT communities_prepaid_fee_item_fkey FOREIGN KEY (id, prepaid_fee_item_id)
        REFERENCES fee_items (community_id, id),
    ADD CONSTRAINT communities_prepaid_pay_day_check CHECK (prepaid_pay_day BETWEEN 1 AND 28);

ALTER TABLE prepaid_top_ups
    ADD CONSTRAINT prepaid_top_ups_community_fkey FOREIGN KEY (organization_id, community_id)
        REFERENCES communities (organization_id, id),
    ADD CONSTRAINT prepaid_top_ups_customer_fkey FOREIGN KEY (organization_id, customer_id)
        REFERENCES customers (organization_id, id),
    ADD CONSTRAINT prepaid_top_ups_bill_fkey FOREIGN KEY (community_id, bill_id) REFERENCES bills (community_id, id);
CREATE UNIQUE INDEX prepaid_top_ups_bill ON prepaid_top_ups (bill_id);
CREATE INDEX prepaid_top_ups_due ON prepaid_top_ups (next_check_at) WHERE next_check_at IS NOT NULL;

ALTER TABLE prepaid_agreements
    ADD CONSTRAINT prepaid_agreements_community_fkey FOREIGN KEY (organization_id, community_id)
        REFERENCES communities (organization_id, id),
    ADD CONSTRAINT prepaid_agreements_account_fkey FOREIGN KEY (community_id, account_id)
        REFERENCES accounts (community_id, id),
    ADD CONSTRAINT prepaid_agreements_items_check CHECK (jsonb_typeof(fee_item_ids) = 'array');
CREATE UNIQUE INDEX prepaid_agreements_account ON prepaid_agreements (account_id);

ALTER TABLE prepaid_runs
    ADD CONSTRAINT prepaid_runs_community_fkey FOREIGN KEY (organization_id, community_id)
        REFERENCES communities (organization_id, id),
    ADD CONSTRAINT prepaid_runs_staff_fkey FOREIGN KEY (organization_id, started_by_staff_id)
        REFERENCES staff (organization_id, id),
    ADD CONSTRAINT prepaid_runs_started_check CHECK ((month IS NULL) = (started_by_staff_id IS NOT NULL)),
    ADD CONSTRAINT prepaid_runs_month_check CHECK (EXTRACT(DAY FROM month) = 1),
    ADD CONSTRAINT prepaid_runs_state_check CHECK (state IN ('running', 'done')),
    ADD CONSTRAINT prepaid_runs_finished_check CHECK (
        (state = 'running') = (finished_at IS NULL) AND (state = 'running') = (next_check_at IS NOT NULL));
CREATE UNIQUE INDEX prepaid_runs_community_id_id_key ON prepaid_runs (community_id, id);
CREATE UNIQUE INDEX prepaid_runs_one_running ON prepaid_runs (community_id) WHERE state = 'running';
CREATE UNIQUE INDEX prepaid_runs_one_a_month ON prepaid_runs (community_id, month) WHERE month IS NOT NULL;

ALTER TABLE prepaid_run_lines
    ADD CONSTRAINT prepaid_run_lines_run_fkey FOREIGN KEY (community_id, run_id)
        REFERENCES prepaid_runs (community_id, id),
    ADD CONSTRAINT prepaid_run_lines_account_fkey FOREIGN KEY (community_id, account_id)
        REFERENCES accounts (community_id, id),
    ADD CONSTRAINT prepaid_run_lines_payment_fkey FOREIGN KEY (community_id, payment_id)
        REFERENCES payments (community_id, id),
    ADD CONSTRAINT prepaid_run_lines_outcome_check CHECK (outcome IN ('paid', 'part_paid', 'nothing_owed', 'failed')),
    ADD CONSTRAINT prepaid_run_lines_paid_check CHECK (
        paid_fen >= 0 AND still_owed_fen >= 0 AND (payment_id IS NOT NULL) = (paid_fen > 0)
        AND (payment_id IS NOT NULL) = (bill_count > 0));

ALTER TABLE deposits
    ADD CONSTRAINT deposits_community_fkey FOREIGN KEY (organization_id, community_id)
        REFERENCES communities (organization_id, id),
    ADD CONSTRAINT deposits_room_fkey FOREIGN KEY (community_id, room_id) REFERENCES rooms (community_id, id),
    ADD CONSTRAINT deposits_bill_fkey FOREIGN KEY (community_id, bill_id, customer_id, legal_entity_id)
        REFERENCES bills (community_id, id, customer_id, legal_entity_id),
    ADD CONSTRAINT deposits_staff_fkey FOREIGN KEY (organization_id, return_asked_by_staff_id)
        REFERENCES staff (organization_id, id),
    ADD CONSTRAINT deposits_amount_check CHECK (amount_fen > 0),
    ADD CONSTRAINT deposits_deducted_check CHECK (CASE state
        WHEN 'held' THEN deducted_fen = 0
        WHEN 'part_deducted' THEN deducted_fen > 0 AND deducted_fen < amount_fen
        WHEN 'spent' THEN deducted_fen = amount_fen
        WHEN 'return_asked' THEN deducted_fen >= 0 AND deducted_fen < amount_fen
        ELSE false END),
    ADD CONSTRAINT deposits_return_check CHECK ((state = 'return_asked') =
        (num_nonnulls(return_asked_at, return_asked_by_staff_id, return_reason) = 3)
        AND num_nonnulls(return_asked_at, return_asked_by_staff_id, return_reason) IN (0, 3));
CREATE UNIQUE INDEX deposits_bill ON deposits (bill_id);
CREATE UNIQUE INDEX deposits_community_id_id_key ON deposits (community_id, id);

ALTER TABLE deposit_deductions
    ADD CONSTRAINT deposit_deductions_deposit_fkey FOREIGN KEY (community_id, deposit_id)
        REFERENCES deposits (community_id, id),
    ADD CONSTRAINT deposit_deductions_community_fkey FOREIGN KEY (organization_id, community_id)
        REFERENCES communities (organization_id, id),
    ADD CONSTRAINT deposit_deductions_payment_fkey FOREIGN KEY (community_id, payment_id)
        REFERENCES payments (community_id, id),
    ADD CONSTRAINT deposit_deductions_paid_fkey FOREIGN KEY (payment_id, bill_id)
        REFERENCES payment_bills (payment_id, bill_id),
    ADD CONSTRAINT deposit_deductions_staff_fkey FOREIGN KEY (organization_id, staff_id)
        REFERENCES staff (organization_id, id),
    ADD CONSTRAINT deposit_deductions_amount_check CHECK (amount_fen > 0),
    -- Nothing is taken from what somebody left with us without a reason and something to show for it.
    ADD CONSTRAINT deposit_deductions_evidence_check CHECK (
        reason <> '' AND jsonb_typeof(attachments) = 'array' AND attachments <> '[]');
CREATE UNIQUE INDEX deposit_deductions_payment ON deposit_deductions (payment_id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON deposit_deductions
    FOR EACH ROW EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON deposit_deductions
    FOR EACH STATEMENT EXECUTE FUNCTION linli_refuse_change();

GRANT SELECT, INSERT, UPDATE ON prepaid_top_ups, prepaid_agreements, prepaid_runs, prepaid_run_lines, deposits
    TO linli_app;
GRANT SELECT, INSERT ON deposit_deductions TO linli_app;
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
        ops.CreateModel(
            name="Deposit",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("community_id", fields.UUIDField()),
                ("room_id", fields.UUIDField(null=True)),
                ("customer_id", fields.UUIDField()),
                ("legal_entity_id", fields.UUIDField()),
                ("bill_id", fields.UUIDField()),
                ("title", fields.CharField(max_length=100)),
                ("amount_fen", fields.BigIntField()),
                ("deducted_fen", fields.BigIntField(default=0)),
                (
                    "state",
                    fields.CharEnumField(
                        default=DepositState.HELD,
                        description="HELD: held\nPART_DEDUCTED: part_deducted\nSPENT: spent\nRETURN_ASKED: return_asked",
                        enum_type=DepositState,
                        max_length=32,
                    ),
                ),
                ("return_asked_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("return_asked_by_staff_id", fields.UUIDField(null=True)),
                ("return_reason", fields.CharField(null=True, max_length=200)),
            ],
            options={
                "table": "deposits",
                "app": "linli",
                "indexes": [Index(fields=["community_id", "id"]), Index(fields=["customer_id"])],
                "pk_attr": "id",
                "table_description": "The deposit of one paid bill of kind deposit. What is left of it is ``amount_fen`` − ``deducted_fen``.",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="DepositDeduction",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("community_id", fields.UUIDField()),
                ("deposit_id", fields.UUIDField(db_index=True)),
                ("payment_id", fields.UUIDField()),
                ("bill_id", fields.UUIDField()),
                ("amount_fen", fields.BigIntField()),
                ("reason", fields.CharField(max_length=200)),
                (
                    "attachments",
                    fields.JSONField(encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads),
                ),
                ("staff_id", fields.UUIDField()),
            ],
            options={
                "table": "deposit_deductions",
                "app": "linli",
                "pk_attr": "id",
                "table_description": "What was deducted once, for which bill, and on what evidence; append-only. ``attachments`` name the photos and",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="PrepaidAgreement",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("community_id", fields.UUIDField()),
                ("account_id", fields.UUIDField()),
                (
                    "fee_item_ids",
                    fields.JSONField(encoder=functools.partial(dumps, separators=(",", ":")), decoder=loads),
                ),
                ("pays_monthly", fields.BooleanField(default=True)),
            ],
            options={
                "table": "prepaid_agreements",
                "app": "linli",
                "pk_attr": "id",
                "table_description": "What was agreed about one prepaid account; without a row it pays every charge, and every month.",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="PrepaidRun",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("community_id", fields.UUIDField()),
                ("month", fields.DateField(null=True)),
                ("started_by_staff_id", fields.UUIDField(null=True)),
                (
                    "state",
                    fields.CharEnumField(
                        default=PrepaidRunState.RUNNING,
                        description="RUNNING: running\nDONE: done",
                        enum_type=PrepaidRunState,
                        max_length=32,
                    ),
                ),
                ("account_count", fields.IntField(default=0)),
                ("next_check_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("finished_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "prepaid_runs",
                "app": "linli",
                "indexes": [Index(fields=["community_id", "id"])],
                "pk_attr": "id",
                "table_description": "One passage over the balances of a community. ``month`` is the first day of the month whose run by the clock it",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="PrepaidRunLine",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("community_id", fields.UUIDField()),
                ("run_id", fields.UUIDField()),
                ("account_id", fields.UUIDField()),
                ("payment_id", fields.UUIDField(null=True)),
                (
                    "outcome",
                    fields.CharEnumField(
                        description="PAID: paid\nPART_PAID: part_paid\nNOTHING_OWED: nothing_owed\nFAILED: failed",
                        enum_type=PrepaidRunOutcome,
                        max_length=32,
                    ),
                ),
                ("paid_fen", fields.BigIntField(default=0)),
                ("bill_count", fields.IntField(default=0)),
                ("still_owed_fen", fields.BigIntField(default=0)),
            ],
            options={
                "table": "prepaid_run_lines",
                "app": "linli",
                "unique_together": (("run_id", "account_id"),),
                "pk_attr": "id",
                "table_description": "What one run did with one account; at most one line, written in the transaction of its payment.",
            },
            bases=["Row"],
        ),
        ops.CreateModel(
            name="PrepaidTopUp",
            fields=[
                ("id", fields.UUIDField(primary_key=True, default=new_id, unique=True, db_index=True)),
                ("created_at", fields.DatetimeField(default=now, auto_now=False, auto_now_add=False)),
                ("organization_id", fields.UUIDField()),
                ("community_id", fields.UUIDField()),
                ("customer_id", fields.UUIDField()),
                ("bill_id", fields.UUIDField()),
                ("next_check_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "prepaid_top_ups",
                "app": "linli",
                "pk_attr": "id",
                "table_description": "A bill of kind prepaid that somebody asked for. Nobody owes it: unpaid for a while, it is voided.",
            },
            bases=["Row"],
        ),
        ops.AddField(
            model_name="Community",
            name="prepaid_fee_item_id",
            field=fields.UUIDField(null=True),
        ),
        ops.AddField(
            model_name="Community",
            name="prepaid_pay_day",
            field=fields.SmallIntField(null=True),
        ),
        ops.RunSQL(_GUARDS),
        ops.RunSQL(_HELD),
    ]
