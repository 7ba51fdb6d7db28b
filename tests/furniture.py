"""Rows for every table, made by raw SQL as the owner: three communities, two of one organization, one of another."""

import json
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import asyncpg

NOW = datetime(2026, 11, 2, 4, tzinfo=UTC)
TODAY = date(2026, 11, 2)
_SPACE = uuid.UUID("6f0c5a3e-0000-4000-8000-000000000000")
_FILLERS: dict[str, Any] = {
    "int2": 1, "int4": 1, "int8": 1, "timestamptz": NOW, "date": TODAY, "numeric": Decimal(1), "bool": False,
    "jsonb": "{}", "text": "x", "varchar": "x", "bytea": b"x",
}  # fmt: skip

_COLUMNS = """
SELECT a.attname AS name, t.typname AS type, a.attnotnull AND a.attidentity = '' AND NOT a.atthasdef AS wanted
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""


def uid(community: int, name: str) -> uuid.UUID:
    """The id of the row ``name`` of a community; what belongs to the organization has one for each community too."""
    return uuid.uuid5(_SPACE, f"{community}:{name}")


def organization_of(community: int) -> int:
    """Communities 1 and 2 are of the first organization, 3 of the second."""
    return 3 if community == 3 else 1


async def insert(owner: asyncpg.Connection, table: str, **values: Any) -> None:
    """Insert a row; a column that must not be empty and is not named gets a plain value of its type."""
    for column in await owner.fetch(_COLUMNS, table):
        if column["wanted"] and column["name"] not in values:
            values[column["name"]] = uuid.uuid4() if column["type"] == "uuid" else _FILLERS[column["type"]]
    plain = [json.dumps(value) if isinstance(value, dict) else value for value in values.values()]
    marks = ", ".join(f"${number}" for number in range(1, len(plain) + 1))
    await owner.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", *plain)


async def furnish(owner: asyncpg.Connection) -> None:
    """All three communities."""
    async with owner.transaction():
        await insert(owner, "installations", id=1)
        await insert(owner, "alarms", name="clock_wrong", active=True, begun_at=NOW, told_at=NOW)
        await insert(owner, "process_reports", process="host:1:api")
        for community in (1, 2, 3):
            await _register(owner, community)
            await _money(owner, community)


async def _register(owner: asyncpg.Connection, number: int) -> None:
    def own(name: str) -> uuid.UUID:
        return uid(number, name)

    org = {"organization_id": uid(organization_of(number), "organization")}
    here = {"community_id": own("community")}
    if organization_of(number) == number:
        await insert(owner, "organizations", id=org["organization_id"], name=f"organization {number}")
    await insert(owner, "legal_entities", id=own("entity"), **org, name=f"entity {number}")
    await insert(owner, "wechat_apps", id=own("app"), **org, appid=f"wx{number}")
    await insert(owner, "wechat_tokens", app_id=own("app"))
    await insert(owner, "merchant_accounts", id=own("merchant"), **org, legal_entity_id=own("entity"), mode="direct",
                 mchid=f"190000000{number}")  # fmt: skip
    await insert(owner, "wechat_pay_keys", id=own("key"), merchant_account_id=own("merchant"), kind="public_key")
    await insert(owner, "communities", id=own("community"), **org, merchant_account_id=own("merchant"),
                 code=f"C{number}", payment_minutes=30)  # fmt: skip
    await insert(owner, "buildings", id=own("building"), **here, name="3栋")
    await insert(owner, "units", id=own("unit"), **here, building_id=own("building"), name="1单元")
    await insert(owner, "rooms", id=own("room"), **here, building_id=own("building"), unit_id=own("unit"), name="101")
    phone = {"phone_cipher": "x", "phone_index": "x"}
    await insert(owner, "staff", id=own("staff"), **org, username=f"staff{number}")
    await insert(owner, "staff", id=own("second staff"), **org, username=f"second staff{number}")
    await insert(
        owner, "customers", id=own("customer"), **org, kind="person", registered_by_staff_id=own("staff"), **phone
    )
    await insert(owner, "residents", id=own("resident"), **org, **phone)
    await insert(owner, "wechat_identities", id=own("identity"), **org, app_id=own("app"), resident_id=own("resident"))
    await insert(owner, "staff_roles", id=own("role"), **org, **here, staff_id=own("staff"), role="manager")
    await insert(owner, "sessions", id=own("session"), **org, kind="resident", resident_id=own("resident"),
                 app_id=own("app"), token_hash=f"resident {number}")  # fmt: skip
    await insert(owner, "sessions", id=own("staff session"), **org, kind="staff", staff_id=own("staff"),
                 token_hash=f"staff {number}")  # fmt: skip
    await insert(owner, "second_factors", id=own("second factor"), **org, staff_id=own("staff"), confirmed_at=NOW,
                 last_step=1)  # fmt: skip
    await insert(owner, "recovery_codes", id=own("recovery code"), **org, staff_id=own("staff"))
    await insert(owner, "occupancies", id=own("occupancy"), **org, **here, room_id=own("room"), kind="owner",
                 customer_id=own("customer"), resident_id=own("resident"), claimed_at=NOW,
                 invited_by_resident_id=own("resident"))  # fmt: skip
    asked = {**org, **here, "room_id": own("room"), "resident_id": own("resident"), "kind": "owner"}
    await insert(owner, "occupancy_requests", id=own("request"), **asked, state="approved", decided_at=NOW,
                 decided_by_staff_id=own("staff"), occupancy_id=own("occupancy"))  # fmt: skip
    await insert(owner, "occupancy_requests", id=own("pending request"), **asked, state="pending")
    await insert(owner, "policies", id=own("policy"), **org, kind="privacy", number=f"{number}", text="x",
                 published_by_staff_id=own("staff"))  # fmt: skip
    await insert(owner, "consents", id=own("consent"), **org, resident_id=own("resident"), policy_id=own("policy"),
                 step="given", channel="counter", staff_id=own("staff"))  # fmt: skip
    look = {**org, **here, "staff_id": own("staff"), "role": "manager", "field": "phone"}
    await insert(owner, "reveals", id=own("reveal"), **look, customer_id=own("customer"))
    await insert(owner, "reveals", id=own("resident reveal"), **look, resident_id=own("resident"))
    await insert(owner, "reveals", id=own("request reveal"), **look, occupancy_request_id=own("request"))
    await insert(owner, "exports", id=own("export"), **org, resident_id=own("resident"), state="ready", parts=1,
                 content_cipher="x", ready_at=NOW, expires_at=NOW, next_check_at=NOW)  # fmt: skip
    await insert(owner, "exports", id=own("queued export"), **org, resident_id=own("resident"), state="queued", parts=1,
                 next_check_at=NOW)  # fmt: skip
    await insert(owner, "audits", **org, **here, act="test")
    await insert(owner, "seals", scope=f"scope {number}", version=1, first_row=1, last_row=1, digest="0" * 64,
                 previous_digest=str(number) * 64, row_count=1, outline=b"0123456789ab")  # fmt: skip
    await insert(owner, "catch_ups", id=own("catch-up"), backed_up_at=NOW, begun_at=NOW,
                 finished_at=None if number == 1 else NOW)  # fmt: skip
    await insert(owner, "catch_up_days", id=own("catch-up day"), catch_up_id=own("catch-up"), state="read",
                 merchant_account_id=own("merchant"), bill_on=TODAY, line_count=1, missing_count=1)  # fmt: skip
    await insert(owner, "catch_up_days", id=own("waiting day"), catch_up_id=own("catch-up"), state="waiting",
                 merchant_account_id=own("merchant"), bill_on=date(2026, 11, 1), next_check_at=NOW)  # fmt: skip
    await insert(owner, "rate_limits", key=f"limit {number}")
    await insert(owner, "idempotency_keys", id=own("idempotency"), actor=f"staff:{number}")


async def _money(owner: asyncpg.Connection, number: int) -> None:
    def own(name: str) -> uuid.UUID:
        return uid(number, name)

    org = {"organization_id": uid(organization_of(number), "organization")}
    here = {"community_id": own("community")}
    entity, merchant, customer = own("entity"), own("merchant"), own("customer")
    await insert(owner, "fee_items", id=own("item"), **org, **here, legal_entity_id=entity,
                 merchant_account_id=merchant, code="F", name="物业费")  # fmt: skip
    await insert(owner, "bill_imports", id=own("import"), **org, **here)
    await insert(owner, "bills", id=own("bill"), **org, **here, room_id=own("room"), customer_id=customer,
                 legal_entity_id=entity, merchant_account_id=merchant, kind="charge", subject_kind="room",
                 subject_id=own("room"), purpose="F:2026-11", state="paid", amount_fen=100, paid_fen=100,
                 issued_at=NOW, bill_import_id=own("import"))  # fmt: skip
    await insert(owner, "bill_lines", id=own("line"), **here, bill_id=own("bill"), fee_item_id=own("item"),
                 amount_fen=100)  # fmt: skip
    await insert(owner, "payments", id=own("payment"), **org, **here, customer_id=customer, legal_entity_id=entity,
                 merchant_account_id=merchant, channel="wechat_jsapi", payer_resident_id=own("resident"),
                 payer_staff_id=own("staff"), amount_fen=100, surplus_fen=0, state="paid", paid_at=NOW)  # fmt: skip
    await insert(owner, "payments", id=own("kept payment"), **org, **here, customer_id=customer, legal_entity_id=entity,
                 merchant_account_id=merchant, channel="surplus", surplus_of_payment_id=own("payment"),
                 payer_staff_id=own("staff"), amount_fen=100, surplus_fen=0, state="paid", paid_at=NOW)  # fmt: skip
    await insert(owner, "payment_bills", id=own("choice"), **here, payment_id=own("payment"), bill_id=own("bill"),
                 customer_id=customer, legal_entity_id=entity, amount_fen=100, live=True)  # fmt: skip
    attempt = {**here, "payment_id": own("payment"), "merchant_account_id": merchant, "mode": "direct",
               "mchid": f"190000000{number}", "appid": "wx0000000000000001", "amount_fen": 100}  # fmt: skip
    await insert(owner, "payment_attempts", id=own("attempt"), **attempt, out_trade_no="number-1", state="created",
                 next_check_at=NOW)  # fmt: skip
    await insert(owner, "payment_attempts", id=own("paid attempt"), **attempt, out_trade_no="number-2", state="paid",
                 transaction_id="4200000001", received_fen=100, paid_at=NOW)  # fmt: skip
    await insert(owner, "payments", id=own("cash payment"), **org, **here, customer_id=customer, legal_entity_id=entity,
                 channel="cash", payer_staff_id=own("staff"), amount_fen=100, surplus_fen=0, state="paid",
                 paid_at=NOW)  # fmt: skip
    await insert(owner, "payment_attempts", id=own("cash attempt"), **here, payment_id=own("cash payment"),
                 amount_fen=100, mchid="", out_trade_no=f"own-number-{number}", state="paid",
                 transaction_id=f"own-number-{number}", received_fen=100, paid_at=NOW)  # fmt: skip
    refund = {**org, **here, "payment_id": own("payment"), "customer_id": customer, "legal_entity_id": entity,
              "merchant_account_id": merchant, "method": "wechat_original", "amount_fen": 50,
              "asked_by_staff_id": own("staff"), "approved_by_staff_id": own("staff"), "approved_at": NOW}  # fmt: skip
    await insert(owner, "refunds", id=own("refund"), **refund, kind="surplus", state="approved")
    await insert(owner, "refunds", id=own("refunded"), **refund, kind="bill", state="refunded", refunded_at=NOW)
    await insert(owner, "refund_lines", id=own("refunded line"), **here, refund_id=own("refunded"), amount_fen=50,
                 payment_id=own("payment"), bill_id=own("bill"), bill_line_id=own("line"), fate="open")  # fmt: skip
    by_resident = {**refund, "asked_by_staff_id": None, "asked_by_resident_id": own("resident"),
                   "approved_by_staff_id": None, "approved_at": None}  # fmt: skip
    await insert(owner, "refunds", id=own("rejected"), **by_resident, kind="bill", state="rejected",
                 rejected_by_staff_id=own("staff"), rejected_at=NOW, reject_reason="x")  # fmt: skip
    await insert(owner, "refund_lines", id=own("rejected line"), **here, refund_id=own("rejected"), amount_fen=50,
                 payment_id=own("payment"), bill_id=own("bill"), bill_line_id=own("line"), fate="open")  # fmt: skip
    await insert(owner, "bills", id=own("credited bill"), **org, **here, customer_id=customer, legal_entity_id=entity,
                 kind="charge", subject_kind="room", subject_id=own("room"), purpose="F:2026-10", state="credited",
                 amount_fen=100, paid_fen=0, credited_fen=100, issued_at=NOW)  # fmt: skip
    await insert(owner, "bill_lines", id=own("credited line"), **here, bill_id=own("credited bill"),
                 fee_item_id=own("item"), amount_fen=100)  # fmt: skip
    await insert(owner, "payment_bills", id=own("credited choice"), **here, payment_id=own("kept payment"), live=False,
                 bill_id=own("credited bill"), customer_id=customer, legal_entity_id=entity,
                 amount_fen=100)  # fmt: skip
    transferred = {**refund, "method": "bank", "amount_fen": 100, "payment_id": own("kept payment")}
    await insert(owner, "refunds", id=own("transferred"), **transferred, kind="bill",
                 state="refunded", refunded_at=NOW, paid_out_by_staff_id=own("staff"),
                 pay_out_reference="serial 1")  # fmt: skip
    taken = {**here, "refund_id": own("transferred"), "bill_id": own("credited bill"),
             "bill_line_id": own("credited line")}  # fmt: skip
    await insert(owner, "refund_lines", id=own("transferred line"), **taken, payment_id=own("kept payment"),
                 amount_fen=100, fate="credited")  # fmt: skip
    await insert(owner, "credit_notes", **taken, amount_fen=100)
    sent = {**here, "merchant_account_id": merchant, "mode": "direct", "mchid": f"190000000{number}",
            "amount_fen": 50, "total_fen": 100}  # fmt: skip
    await insert(owner, "refund_attempts", id=own("refund attempt"), **sent, refund_id=own("refund"),
                 out_refund_no="number-1", state="created", next_check_at=NOW)  # fmt: skip
    await insert(owner, "refund_attempts", id=own("succeeded attempt"), **sent, refund_id=own("refunded"),
                 out_refund_no="number-2", state="succeeded", wechat_refund_id="5000000001",
                 succeeded_at=NOW)  # fmt: skip
    await insert(owner, "allocations", **here, payment_id=own("payment"), bill_id=own("bill"),
                 bill_line_id=own("line"), amount_fen=100)  # fmt: skip
    await insert(owner, "allocations", **here, payment_id=own("kept payment"), bill_id=own("credited bill"),
                 bill_line_id=own("credited line"), amount_fen=100)  # fmt: skip
    await insert(owner, "allocations", **taken, payment_id=own("kept payment"), amount_fen=-100)
    for kind in ("wechat_clearing", "received"):
        await insert(owner, "accounts", id=own(kind), **org, **here, legal_entity_id=entity, kind=kind)
    await insert(owner, "entries", **here, legal_entity_id=entity, kind="payment", source_id=own("paid attempt"),
                 debit_account_id=own("wechat_clearing"), credit_account_id=own("received"), amount_fen=100,
                 posted_at=NOW, posted_on=TODAY)  # fmt: skip
    await owner.execute("UPDATE communities SET prepaid_fee_item_id = $1 WHERE id = $2", own("item"), own("community"))
    await insert(owner, "prepaid_top_ups", id=own("top-up"), **org, **here, customer_id=customer, bill_id=own("bill"),
                 next_check_at=NOW)  # fmt: skip
    await insert(owner, "prepaid_agreements", id=own("agreement"), **org, **here, account_id=own("received"),
                 fee_item_ids="[]")  # fmt: skip
    await insert(owner, "prepaid_runs", id=own("run"), **org, **here, month=date(2026, 11, 1), state="running",
                 next_check_at=NOW)  # fmt: skip
    await insert(owner, "prepaid_runs", id=own("done run"), **org, **here, started_by_staff_id=own("staff"),
                 state="done", finished_at=NOW)  # fmt: skip
    await insert(owner, "prepaid_run_lines", id=own("run line"), **here, run_id=own("run"), account_id=own("received"),
                 payment_id=own("payment"), outcome="paid", paid_fen=100, bill_count=1)  # fmt: skip
    await insert(owner, "deposits", id=own("deposit"), **org, **here, room_id=own("room"), customer_id=customer,
                 legal_entity_id=entity, bill_id=own("bill"), amount_fen=100, deducted_fen=0, state="return_asked",
                 return_asked_at=NOW, return_asked_by_staff_id=own("staff"), return_reason="x")  # fmt: skip
    await insert(owner, "deposit_deductions", id=own("deduction"), **org, **here, deposit_id=own("deposit"),
                 payment_id=own("payment"), bill_id=own("bill"), amount_fen=1, attachments='["x"]',
                 staff_id=own("staff"))  # fmt: skip
    await insert(owner, "closed_periods", id=own("closed period"), **org, legal_entity_id=entity,
                 month=date(2026, 9, 1), closed_by_staff_id=own("staff"), closed_at=NOW)  # fmt: skip
    await insert(owner, "closed_balances", id=own("closed balance"), **org, **here,
                 closed_period_id=own("closed period"), kind="received")  # fmt: skip
    entry = await owner.fetchval("SELECT id FROM entries WHERE source_id = $1", own("paid attempt"))
    await insert(owner, "reversals", id=own("reversal"), **org, **here, entry_id=entry, state="posted",
                 asked_by_staff_id=own("staff"), decided_by_staff_id=own("second staff"), decided_at=NOW)  # fmt: skip
    await insert(owner, "report_files", id=own("report file"), **org, staff_id=own("staff"), format="csv",
                 state="ready", body=b"x", next_check_at=NOW)  # fmt: skip
    shift = {**org, **here, "staff_id": own("staff")}
    await insert(owner, "staff", id=own("finance"), **org, username=f"finance{number}")
    await insert(owner, "shifts", id=own("open shift"), **shift, state="open")
    await insert(owner, "shifts", id=own("closed shift"), **shift, state="closed", closed_at=NOW)
    await insert(owner, "shifts", id=own("shift"), **shift, state="approved", closed_at=NOW, handed_over_at=NOW,
                 handed_to_shift_id=own("open shift"), approved_at=NOW,
                 approved_by_staff_id=own("finance"))  # fmt: skip
    await insert(owner, "shift_drawers", id=own("drawer"), **org, **here, shift_id=own("shift"), legal_entity_id=entity,
                 expected_fen=1, counted_fen=1)  # fmt: skip
    await insert(owner, "payments", id=own("taken payment"), **org, **here, customer_id=customer,
                 legal_entity_id=entity, channel="pos", reference="000123", payer_staff_id=own("staff"),
                 shift_id=own("shift"), amount_fen=100, surplus_fen=0, state="paid", paid_at=NOW)  # fmt: skip
    await insert(owner, "bank_slips", id=own("slip"), **org, **here, legal_entity_id=entity, kind="deposit",
                 recorded_by_staff_id=own("staff"))  # fmt: skip
    await insert(owner, "receipts", id=own("receipt"), **org, **here, legal_entity_id=entity, customer_id=customer,
                 payer_resident_id=own("resident"), payment_id=own("payment"), year=2026, sequence=1,
                 issued_on=TODAY)  # fmt: skip
    await insert(owner, "receipt_counters", **here, legal_entity_id=entity, year=2026)
    await insert(owner, "receipt_prints", id=own("print"), **org, **here, receipt_id=own("receipt"), format="a4",
                 copy_number=1, staff_id=own("staff"))  # fmt: skip
    await insert(owner, "receipt_files", id=own("file"), **here, receipt_id=own("receipt"), format="a4",
                 print_id=own("print"), state="made", body=b"%PDF", sha256="x", made_at=NOW)  # fmt: skip
    await insert(owner, "shipping_uploads", id=own("upload"), **org, **here, app_id=own("app"),
                 payment_id=own("payment"), state="queued", next_check_at=NOW)  # fmt: skip
    await insert(owner, "message_subscriptions", id=own("subscription"), **org, app_id=own("app"),
                 resident_id=own("resident"), template_id="template")  # fmt: skip
    await insert(owner, "wechat_pushes", id=own("push"), app_id=own("app"), dedupe_key="x")
    await insert(owner, "messages", id=own("message"), **org, **here, resident_id=own("resident"),
                 kind="payment_received", state="queued", next_check_at=NOW)  # fmt: skip
    await insert(owner, "discrepancies", id=own("case"), **org, **here, kind="surplus", payment_id=own("payment"),
                 merchant_account_id=merchant, state="resolved", resolved_at=NOW, resolution="x",
                 resolved_by_staff_id=own("staff"))  # fmt: skip
    await insert(owner, "notifications", id=own("notification"), merchant_account_id=merchant,
                 kind="payment", outcome="applied", noticed_at=NOW)  # fmt: skip
    await _reconciliation(owner, number)


async def _reconciliation(owner: asyncpg.Connection, number: int) -> None:
    def own(name: str) -> uuid.UUID:
        return uid(number, name)

    at = {"organization_id": uid(organization_of(number), "organization"), "merchant_account_id": own("merchant")}
    await insert(owner, "staff", id=own("second person"), organization_id=at["organization_id"],
                 username=f"second{number}")  # fmt: skip
    await insert(owner, "statements", id=own("statement"), **at, kind="trade", bill_on=TODAY, source="by_hand",
                 given_by_staff_id=own("staff"), sha256=f"{number}" * 64, state="current")  # fmt: skip
    await insert(owner, "statement_parts", id=own("part"), statement_id=own("statement"), number=0)
    await insert(owner, "reconciliations", id=own("day"), **at, kind="trade", bill_on=TODAY, state="read",
                 statement_id=own("statement"), read_at=NOW)  # fmt: skip
    await insert(owner, "statement_sums", id=own("sum"), reconciliation_id=own("day"), community_id=own("community"),
                 legal_entity_id=own("entity"))  # fmt: skip
    await insert(owner, "differences", id=own("difference"), **at, reconciliation_id=own("day"), about="refund",
                 community_id=own("community"), kind="fee", state="resolved", attempt_id=own("paid attempt"),
                 refund_attempt_id=own("refund attempt"), resolved_at=NOW, resolved_by_staff_id=own("staff"),
                 resolution="x")  # fmt: skip
    await insert(owner, "movements", id=own("movement"), **at, number=f"{number}", amount_fen=100, posted_fen=100)
    await insert(owner, "adjustments", id=own("adjustment"), **at, community_id=own("community"),
                 legal_entity_id=own("entity"), difference_id=own("difference"), debit_kind="suspense",
                 credit_kind="wechat_clearing", state="posted", asked_by_staff_id=own("staff"),
                 decided_by_staff_id=own("second person"), decided_at=NOW)  # fmt: skip
