"""The database as the last guard: every foreign key, check, unique rule, trigger and grant.

Tortoise does not emit ``Meta.constraints`` when it first creates a table, and knows no composite foreign keys, so all
of them stand here in one place; ``tests/test_database.py`` tries to break each by raw SQL.
"""

from tortoise import migrations
from tortoise.migrations import operations as ops

# (table, columns, target). A community-scoped row may only point at rows of its own community; a row that points at
# something of the organization (customer, legal entity …) carries the organization too.
_ORGANIZATION, _COMMUNITY = "organization_id", "community_id"

_WITHIN_ORGANIZATION = [
    ("communities", "merchant_account_id", "merchant_accounts"),
    ("merchant_accounts", "legal_entity_id", "legal_entities"),
    ("wechat_identities", "app_id", "wechat_apps"),
    ("wechat_identities", "resident_id", "residents"),
    ("customers", "registered_by_staff_id", "staff"),
    ("staff_roles", "staff_id", "staff"),
    ("staff_roles", "community_id", "communities"),
    ("sessions", "resident_id", "residents"),
    ("sessions", "staff_id", "staff"),
    ("sessions", "app_id", "wechat_apps"),
    ("occupancies", "community_id", "communities"),
    ("occupancies", "customer_id", "customers"),
    ("occupancies", "resident_id", "residents"),
    ("occupancies", "invited_by_resident_id", "residents"),
    ("occupancy_requests", "community_id", "communities"),
    ("occupancy_requests", "resident_id", "residents"),
    ("occupancy_requests", "decided_by_staff_id", "staff"),
    ("fee_items", "community_id", "communities"),
    ("fee_items", "legal_entity_id", "legal_entities"),
    ("fee_items", "merchant_account_id", "merchant_accounts"),
    ("bill_imports", "community_id", "communities"),
    ("bills", "community_id", "communities"),
    ("bills", "customer_id", "customers"),
    ("bills", "legal_entity_id", "legal_entities"),
    ("bills", "merchant_account_id", "merchant_accounts"),
    ("payments", "community_id", "communities"),
    ("payments", "customer_id", "customers"),
    ("payments", "legal_entity_id", "legal_entities"),
    ("payments", "merchant_account_id", "merchant_accounts"),
    ("payments", "payer_resident_id", "residents"),
    ("payments", "payer_staff_id", "staff"),
    ("accounts", "community_id", "communities"),
    ("accounts", "legal_entity_id", "legal_entities"),
    ("receipts", "community_id", "communities"),
    ("receipts", "legal_entity_id", "legal_entities"),
    ("receipts", "customer_id", "customers"),
    ("receipts", "payer_resident_id", "residents"),
    ("messages", "community_id", "communities"),
    ("messages", "resident_id", "residents"),
    ("discrepancies", "community_id", "communities"),
    ("discrepancies", "resolved_by_staff_id", "staff"),
]
_WITHIN_COMMUNITY = [
    ("units", "building_id", "buildings"),
    ("rooms", "building_id", "buildings"),
    ("rooms", "unit_id", "units"),
    ("occupancies", "room_id", "rooms"),
    ("occupancy_requests", "room_id", "rooms"),
    ("occupancy_requests", "occupancy_id", "occupancies"),
    ("bills", "room_id", "rooms"),
    ("bills", "bill_import_id", "bill_imports"),
    ("bill_lines", "bill_id", "bills"),
    ("bill_lines", "fee_item_id", "fee_items"),
    ("payment_attempts", "payment_id", "payments"),
    ("allocations", "payment_id", "payments"),
    ("allocations", "bill_id", "bills"),
    ("allocations", "bill_line_id", "bill_lines"),
    ("receipts", "payment_id", "payments"),
    ("discrepancies", "payment_id", "payments"),
]
_PLAIN = [
    ("legal_entities", "organization_id", "organizations"),
    ("wechat_apps", "organization_id", "organizations"),
    ("wechat_tokens", "app_id", "wechat_apps"),
    ("communities", "organization_id", "organizations"),
    ("customers", "organization_id", "organizations"),
    ("residents", "organization_id", "organizations"),
    ("staff", "organization_id", "organizations"),
    ("merchant_accounts", "organization_id", "organizations"),
    ("sessions", "organization_id", "organizations"),
    ("buildings", "community_id", "communities"),
    ("wechat_pay_keys", "merchant_account_id", "merchant_accounts"),
    ("payment_attempts", "merchant_account_id", "merchant_accounts"),
    ("notifications", "merchant_account_id", "merchant_accounts"),
    ("receipt_counters", "community_id", "communities"),
    ("receipt_counters", "legal_entity_id", "legal_entities"),
]
# Spelled out because they tie more than a wall and an id.
_WIDE = [
    # What a payment pays is of its own debtor and legal entity.
    ("payment_bills", "community_id, payment_id, customer_id, legal_entity_id",
     "payments", "community_id, id, customer_id, legal_entity_id"),
    ("payment_bills", "community_id, bill_id, customer_id, legal_entity_id",
     "bills", "community_id, id, customer_id, legal_entity_id"),
    # Money goes only to bills that the payment chose, and to lines of those bills.
    ("allocations", "payment_id, bill_id", "payment_bills", "payment_id, bill_id"),
    ("allocations", "bill_id, bill_line_id", "bill_lines", "bill_id, id"),
    # Both sides of an entry are accounts of its own community and legal entity.
    ("entries", "community_id, legal_entity_id, debit_account_id", "accounts", "community_id, legal_entity_id, id"),
    ("entries", "community_id, legal_entity_id, credit_account_id", "accounts", "community_id, legal_entity_id, id"),
    # An attempt speaks to the merchant account of its payment; a payment's, and a bill's, is its legal entity's own.
    ("payment_attempts", "payment_id, merchant_account_id", "payments", "id, merchant_account_id"),
    ("payments", "merchant_account_id, legal_entity_id", "merchant_accounts", "id, legal_entity_id"),
    ("bills", "merchant_account_id, legal_entity_id", "merchant_accounts", "id, legal_entity_id"),
    # A room stands in the building of its unit.
    ("rooms", "building_id, unit_id", "units", "building_id, id"),
]  # fmt: skip


def _foreign_keys() -> list[str]:
    within_organization = [
        (table, f"{_ORGANIZATION}, {column}", target, f"{_ORGANIZATION}, id")
        for table, column, target in _WITHIN_ORGANIZATION
    ]
    within_community = [
        (table, f"{_COMMUNITY}, {column}", target, f"{_COMMUNITY}, id") for table, column, target in _WITHIN_COMMUNITY
    ]
    plain = [(table, column, target, "id") for table, column, target in _PLAIN]
    keys = within_organization + within_community + plain + _WIDE
    targets = dict.fromkeys((target, columns) for _, _, target, columns in keys if columns != "id")
    already_unique = {("payment_bills", "payment_id, bill_id")}
    unique = [
        f"CREATE UNIQUE INDEX {target}_{columns.replace(', ', '_')}_key ON {target} ({columns})"
        for target, columns in targets
        if (target, columns) not in already_unique
    ]
    references = [
        f"ALTER TABLE {table} ADD CONSTRAINT {_name(table, columns)} FOREIGN KEY ({columns})"
        f" REFERENCES {target} ({target_columns})"
        for table, columns, target, target_columns in keys
    ]
    return unique + references


def _name(table: str, columns: str) -> str:
    return f"{table}_{columns.replace(', ', '_').replace('community_id_', '').replace('organization_id_', '')}_fkey"[
        :63
    ]


# An index can only be the target of a foreign key if it is a plain unique one: these are made first, in this order.

UNIQUE = """
CREATE UNIQUE INDEX bills_one_live ON bills (community_id, subject_kind, subject_id, purpose) WHERE state <> 'void';
CREATE UNIQUE INDEX payment_bills_one_live ON payment_bills (bill_id) WHERE live;
CREATE UNIQUE INDEX payment_attempts_one_undecided ON payment_attempts (payment_id)
    WHERE state IN ('created', 'prepaid');
CREATE UNIQUE INDEX payment_attempts_transaction ON payment_attempts (mchid, transaction_id)
    WHERE transaction_id IS NOT NULL;
CREATE UNIQUE INDEX payment_attempts_order ON payment_attempts (merchant_account_id, out_trade_no);
CREATE INDEX payment_attempts_due ON payment_attempts (next_check_at) WHERE next_check_at IS NOT NULL;
CREATE INDEX messages_due ON messages (next_check_at) WHERE next_check_at IS NOT NULL;
CREATE UNIQUE INDEX accounts_one ON accounts (legal_entity_id, community_id, kind, holder_id) NULLS NOT DISTINCT;
CREATE UNIQUE INDEX merchant_accounts_one ON merchant_accounts (mchid, sub_mchid) NULLS NOT DISTINCT;
CREATE UNIQUE INDEX staff_roles_one ON staff_roles (staff_id, community_id, role) NULLS NOT DISTINCT;
CREATE UNIQUE INDEX occupancies_one_lasting ON occupancies (room_id, customer_id) WHERE ends_on IS NULL;
CREATE UNIQUE INDEX occupancy_requests_one_pending ON occupancy_requests (room_id, resident_id)
    WHERE state = 'pending';
CREATE UNIQUE INDEX communities_code ON communities (organization_id, code);
CREATE UNIQUE INDEX legal_entities_name ON legal_entities (organization_id, name);
CREATE UNIQUE INDEX buildings_name ON buildings (community_id, name);
CREATE UNIQUE INDEX units_name ON units (building_id, name);
CREATE UNIQUE INDEX rooms_name ON rooms (community_id, name);
CREATE INDEX rooms_in_order ON rooms (community_id, natural_key, id);
CREATE INDEX customers_phone ON customers (organization_id, phone_index) WHERE phone_index IS NOT NULL;
"""

CHECKS = """
ALTER TABLE installations ADD CHECK (id = 1);
ALTER TABLE communities ADD CHECK (payment_minutes BETWEEN 2 AND 110);
ALTER TABLE rooms ADD CHECK (area_m2 >= 0);
ALTER TABLE customers ADD CHECK ((phone_cipher IS NULL) = (phone_index IS NULL));
ALTER TABLE residents ADD CHECK ((phone_cipher IS NULL) = (phone_index IS NULL));
ALTER TABLE occupancies
    ADD CHECK (ends_on >= starts_on - 1),  -- the day before: ended at once, on or before its first day
    ADD CHECK ((resident_id IS NULL) = (claimed_at IS NULL));
ALTER TABLE occupancy_requests ADD CHECK (
    (state IN ('pending', 'withdrawn') AND decided_at IS NULL)
    OR (state = 'approved' AND decided_at IS NOT NULL AND occupancy_id IS NOT NULL)
    OR (state = 'rejected' AND decided_at IS NOT NULL AND reason IS NOT NULL));
ALTER TABLE staff_roles ADD CHECK (role NOT IN ('owner', 'family', 'tenant'));
ALTER TABLE sessions ADD CHECK (
    (kind = 'resident' AND resident_id IS NOT NULL AND app_id IS NOT NULL AND staff_id IS NULL)
    OR (kind = 'staff' AND staff_id IS NOT NULL AND resident_id IS NULL));
ALTER TABLE merchant_accounts ADD CHECK (
    (mode = 'direct' AND sub_mchid IS NULL) OR (mode = 'partner' AND sub_mchid IS NOT NULL));
ALTER TABLE bills
    ADD CHECK (amount_fen BETWEEN 1 AND 10000000000000),
    ADD CHECK (paid_fen BETWEEN 0 AND amount_fen),
    ADD CHECK (CASE state
        WHEN 'paid' THEN paid_fen = amount_fen
        WHEN 'part_paid' THEN paid_fen > 0 AND paid_fen < amount_fen
        ELSE paid_fen = 0 END),
    ADD CHECK (state IN ('draft', 'open', 'part_paid', 'paid', 'void')),
    ADD CHECK (state IN ('draft', 'void') OR issued_at IS NOT NULL),
    ADD CHECK ((state = 'void') = (voided_at IS NOT NULL AND void_reason IS NOT NULL));
ALTER TABLE bill_lines
    ADD CHECK (amount_fen > 0),
    ADD CHECK (period_to >= period_from);
ALTER TABLE payments
    ADD CHECK (amount_fen BETWEEN 1 AND 10000000000000),
    ADD CHECK (surplus_fen >= 0 AND (surplus_fen = 0 OR state = 'paid')),
    ADD CHECK (state IN ('open', 'paid', 'closed', 'suspended')),
    ADD CHECK (state <> 'paid' OR paid_at IS NOT NULL),
    ADD CHECK (state <> 'closed' OR (closed_at IS NOT NULL AND close_reason IS NOT NULL)),
    ADD CHECK (payer_resident_id IS NOT NULL OR payer_staff_id IS NOT NULL);
ALTER TABLE payment_bills ADD CHECK (amount_fen > 0);
ALTER TABLE payment_attempts
    ADD CHECK (amount_fen BETWEEN 1 AND 10000000000000),
    ADD CHECK (received_fen > 0),
    ADD CHECK (out_trade_no ~ '^[0-9A-Za-z_-]{6,32}$'),
    ADD CHECK (state IN ('created', 'prepaid', 'paid', 'closed', 'suspended')),
    ADD CHECK (CASE WHEN state IN ('created', 'prepaid') THEN next_check_at IS NOT NULL
                    WHEN state IN ('paid', 'suspended') THEN next_check_at IS NULL ELSE true END),
    ADD CHECK (state <> 'prepaid' OR prepay_id IS NOT NULL),
    ADD CHECK (state <> 'paid' OR (transaction_id IS NOT NULL AND received_fen IS NOT NULL
        AND received_fen = amount_fen AND paid_at IS NOT NULL)),
    ADD CHECK (state <> 'suspended' OR transaction_id IS NOT NULL),
    ADD CHECK ((mode = 'partner') = (sub_mchid IS NOT NULL));
ALTER TABLE entries
    ADD CHECK (amount_fen > 0),
    ADD CHECK (debit_account_id <> credit_account_id),
    ADD CHECK (posted_on = (posted_at AT TIME ZONE 'Asia/Shanghai')::date);
ALTER TABLE allocations ADD CHECK (amount_fen > 0);
ALTER TABLE receipts
    ADD CHECK (amount_fen > 0),
    ADD CHECK (sequence > 0),
    ADD CHECK (year = EXTRACT(YEAR FROM issued_on));
ALTER TABLE messages ADD CHECK ((state = 'queued') = (next_check_at IS NOT NULL));
ALTER TABLE discrepancies
    ADD CHECK (amount_fen > 0),
    ADD CHECK ((state = 'resolved') = (resolved_at IS NOT NULL AND resolution IS NOT NULL));
"""

TRIGGERS = """
CREATE FUNCTION linli_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON entries
    FOR EACH ROW EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON entries FOR EACH STATEMENT EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON allocations
    FOR EACH ROW EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON allocations FOR EACH STATEMENT EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audits
    FOR EACH ROW EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON audits FOR EACH STATEMENT EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON receipts
    FOR EACH ROW EXECUTE FUNCTION linli_refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON receipts FOR EACH STATEMENT EXECUTE FUNCTION linli_refuse_change();

-- An issued bill is frozen: only its state, what was paid, why it was voided and where it is paid may change.
CREATE FUNCTION linli_bill_is_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'bills are voided, never deleted' USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.state = 'draft' THEN
        RAISE EXCEPTION 'an issued bill is never a draft again' USING ERRCODE = 'restrict_violation';
    END IF;
    IF (to_jsonb(OLD) - '{state,paid_fen,voided_at,void_reason,merchant_account_id}'::text[])
       IS DISTINCT FROM (to_jsonb(NEW) - '{state,paid_fen,voided_at,void_reason,merchant_account_id}'::text[]) THEN
        RAISE EXCEPTION 'an issued bill is frozen' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER frozen BEFORE UPDATE ON bills FOR EACH ROW WHEN (
    OLD.state <> 'draft' AND (
    (OLD.amount_fen, OLD.customer_id, OLD.legal_entity_id, OLD.organization_id, OLD.community_id, OLD.kind,
         OLD.subject_kind, OLD.subject_id, OLD.purpose, OLD.title, OLD.accrued_on, OLD.due_on, OLD.issued_at,
         OLD.created_at)
    IS DISTINCT FROM
        (NEW.amount_fen, NEW.customer_id, NEW.legal_entity_id, NEW.organization_id, NEW.community_id, NEW.kind,
         NEW.subject_kind, NEW.subject_id, NEW.purpose, NEW.title, NEW.accrued_on, NEW.due_on, NEW.issued_at,
         NEW.created_at)
    OR OLD.room_id IS DISTINCT FROM NEW.room_id
    OR OLD.bill_import_id IS DISTINCT FROM NEW.bill_import_id
    OR NEW.state = 'draft')) EXECUTE FUNCTION linli_bill_is_frozen();
CREATE TRIGGER never_deleted BEFORE DELETE ON bills FOR EACH ROW EXECUTE FUNCTION linli_bill_is_frozen();

-- A final state stays: late news may turn a closed payment into a paid one, never a paid one into anything.
CREATE FUNCTION linli_state_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% in state % is final', TG_TABLE_NAME, OLD.state USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER final BEFORE UPDATE ON payments FOR EACH ROW
    WHEN (OLD.state IN ('paid', 'suspended') AND NEW.state <> OLD.state) EXECUTE FUNCTION linli_state_is_final();
CREATE TRIGGER final BEFORE UPDATE ON payment_attempts FOR EACH ROW
    WHEN (OLD.state IN ('paid', 'suspended') AND NEW.state <> OLD.state) EXECUTE FUNCTION linli_state_is_final();
CREATE TRIGGER final BEFORE UPDATE ON bills FOR EACH ROW
    WHEN (OLD.state = 'void' AND NEW.state <> OLD.state) EXECUTE FUNCTION linli_state_is_final();

CREATE FUNCTION linli_line_is_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM bills WHERE id = OLD.bill_id AND state <> 'draft') THEN
        RAISE EXCEPTION 'the lines of an issued bill are frozen' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN COALESCE(NEW, OLD);
END $$;
CREATE TRIGGER frozen BEFORE UPDATE OR DELETE ON bill_lines FOR EACH ROW EXECUTE FUNCTION linli_line_is_frozen();

-- At commit, lines add up to their bill.
CREATE FUNCTION linli_lines_add_up() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    bill bills%ROWTYPE;
    total bigint;
BEGIN
    IF TG_TABLE_NAME = 'bills' THEN bill := NEW;
    ELSE SELECT * INTO bill FROM bills WHERE id = COALESCE(NEW.bill_id, OLD.bill_id);
    END IF;
    SELECT COALESCE(sum(amount_fen), 0) INTO total FROM bill_lines WHERE bill_id = bill.id;
    IF bill.state <> 'draft' AND total <> bill.amount_fen THEN
        RAISE EXCEPTION 'bill % says % fen, its lines say %', bill.id, bill.amount_fen, total
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER lines_add_up AFTER INSERT OR UPDATE OF amount_fen ON bills
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION linli_lines_add_up();
CREATE CONSTRAINT TRIGGER lines_add_up_when_issued AFTER UPDATE ON bills
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.state = 'draft') EXECUTE FUNCTION linli_lines_add_up();
CREATE CONSTRAINT TRIGGER lines_add_up AFTER INSERT OR UPDATE OR DELETE ON bill_lines
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION linli_lines_add_up();

-- At commit, what a bill counts as paid is what was allocated to it.
CREATE FUNCTION linli_paid_is_allocated() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    the_bill uuid;
    counted bigint;
    allocated bigint;
BEGIN
    IF TG_TABLE_NAME = 'bills' THEN the_bill := NEW.id; ELSE the_bill := NEW.bill_id; END IF;
    SELECT paid_fen INTO counted FROM bills WHERE id = the_bill;
    SELECT COALESCE(sum(amount_fen), 0) INTO allocated FROM allocations WHERE bill_id = the_bill;
    IF counted <> allocated THEN
        RAISE EXCEPTION 'bill % counts % fen paid, % are allocated', the_bill, counted, allocated
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER paid_is_allocated AFTER UPDATE ON bills DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.paid_fen <> NEW.paid_fen) EXECUTE FUNCTION linli_paid_is_allocated();
CREATE CONSTRAINT TRIGGER paid_is_allocated_from_birth AFTER INSERT ON bills DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.paid_fen <> 0) EXECUTE FUNCTION linli_paid_is_allocated();
CREATE CONSTRAINT TRIGGER allocated_is_paid AFTER INSERT ON allocations DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION linli_paid_is_allocated();
"""

# Raw events and audit grow without end and are dropped by month; money tables are never partitioned.
PARTITIONED = """
DROP TABLE audits;
CREATE TABLE audits (
    id bigint GENERATED ALWAYS AS IDENTITY,
    organization_id uuid, community_id uuid, actor varchar(100) NOT NULL, act varchar(64) NOT NULL,
    target_kind varchar(64) NOT NULL, target_id uuid NOT NULL, before jsonb, after jsonb,
    request_id varchar(64) NOT NULL, happened_at timestamptz NOT NULL,
    PRIMARY KEY (id, happened_at)
) PARTITION BY RANGE (happened_at);
CREATE INDEX audits_by_community ON audits (community_id, id);
CREATE INDEX audits_by_target ON audits (target_id);
CREATE TABLE audits_default PARTITION OF audits DEFAULT;

DROP TABLE notifications;
CREATE TABLE notifications (
    id uuid NOT NULL, merchant_account_id uuid NOT NULL, notification_id varchar(64) NOT NULL,
    noticed_at timestamptz NOT NULL, kind varchar(32) NOT NULL, event_type varchar(64) NOT NULL,
    envelope text NOT NULL, outcome varchar(32) NOT NULL, detail varchar(200) NOT NULL, deliveries int NOT NULL,
    first_received_at timestamptz NOT NULL, last_received_at timestamptz NOT NULL,
    PRIMARY KEY (id, noticed_at),
    UNIQUE (merchant_account_id, notification_id, noticed_at)
) PARTITION BY RANGE (noticed_at);
CREATE TABLE notifications_default PARTITION OF notifications DEFAULT;
"""

# The application owns nothing, so making next month's partition is a favour that the owner does for it.
PARTITION_UPKEEP = """
CREATE FUNCTION linli_make_partitions(months_ahead int) RETURNS int
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    parent text;
    month timestamptz;
    made int := 0;
BEGIN
    FOREACH parent IN ARRAY ARRAY['audits', 'notifications'] LOOP
        FOR ahead IN 0..least(months_ahead, 24) LOOP
            month := date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + make_interval(months => ahead);
            IF to_regclass(parent || '_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM')) IS NULL THEN
                BEGIN
                    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                        parent || '_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM'), parent,
                        month, month + interval '1 month');
                    made := made + 1;
                EXCEPTION WHEN check_violation THEN
                    -- Rows of that month lie in the default partition already; they are as safe there.
                    RAISE WARNING 'the default partition of % holds rows of %', parent, month;
                END;
            END IF;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;
SELECT linli_make_partitions(3);

-- What WeChat sent is kept for two years, who did what for ten; the numbers stand here, where the application cannot
-- change them. The default partitions stay: they hold what no month had a place for.
CREATE FUNCTION linli_drop_partitions() RETURNS int
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    old record;
    dropped int := 0;
BEGIN
    FOR old IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
        WHERE p.relname IN ('audits', 'notifications') AND c.relname ~ '^(audits|notifications)_[0-9]{4}_[0-9]{2}$'
          AND to_date(right(c.relname, 7), 'YYYY_MM')
              < date_trunc('month', now()) - CASE p.relname WHEN 'audits' THEN interval '10 years'
                                                            ELSE interval '2 years' END
    LOOP
        EXECUTE format('DROP TABLE %I', old.relname);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;
"""

GRANTS = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'linli_app') THEN CREATE ROLE linli_app NOLOGIN; END IF;
    EXECUTE format('GRANT linli_app TO %I', current_user);
END $$;
GRANT USAGE ON SCHEMA public TO linli_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO linli_app;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO linli_app;
REVOKE UPDATE ON entries, allocations, audits, receipts FROM linli_app;
REVOKE INSERT, UPDATE ON tortoise_migrations FROM linli_app;
GRANT DELETE ON idempotency_keys, sessions, staff_roles TO linli_app;
-- A partition is reached through its table only: a right of its own would go round what was revoked there.
DO $$ DECLARE part regclass; BEGIN
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent IN ('audits'::regclass, 'notifications'::regclass)
    LOOP EXECUTE format('REVOKE ALL ON %s FROM linli_app', part); END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION linli_make_partitions(int), linli_drop_partitions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION linli_make_partitions(int), linli_drop_partitions() TO linli_app;
"""


class Migration(migrations.Migration):
    dependencies = [("linli", "0001_initial")]

    operations = [
        ops.RunSQL(PARTITIONED),
        ops.RunSQL(UNIQUE),
        ops.RunSQL(_foreign_keys()),
        ops.RunSQL(CHECKS),
        ops.RunSQL(TRIGGERS),
        ops.RunSQL(PARTITION_UPKEEP),
        ops.RunSQL(GRANTS),
    ]
