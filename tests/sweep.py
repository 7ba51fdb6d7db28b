"""Calling every route with chosen ids: what the sweeps and the fuzzing of the API share."""

import json
import re
import secrets
from datetime import date
from typing import Any

import httpx
from pydantic import BaseModel

from handlers.route import Route
from kit import clock
from models.access import Role
from models.bill import BillKind
from models.reconciliation import (
    Adjustment,
    DayState,
    Difference,
    DifferenceAbout,
    DifferenceKind,
    Reconciliation,
    Statement,
    StatementKind,
    StatementSource,
)
from tests.conftest import Drain, SandboxControl
from tests.counter import counter_of
from tests.surplus_home import paid_for_nothing
from tests.world import Home, Person, World, unknown_id


# What a body needs so that the ids in it are what is judged. Only shapes; every id stands for "somebody else's".
def body_for(model: type[BaseModel], ids: dict[str, str]) -> dict[str, Any]:
    """A body that fits the model, with ``ids`` wherever a field is named for one."""
    made: dict[str, Any] = {}
    for name, one in model.model_fields.items():
        if not one.is_required() and not name.endswith("_id"):
            continue
        made[name] = _value(name, one.annotation, ids, model.model_json_schema()["properties"][name], model)
    return made


def _value(name: str, annotation: Any, ids: dict[str, str], schema: dict[str, Any], model: type[BaseModel]) -> Any:
    definitions = model.model_json_schema().get("$defs", {})
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in schema:
        schema = next(one for one in schema["anyOf"] if one.get("type") != "null")
        return _value(name, annotation, ids, schema, model)
    if name.endswith("_ids"):
        return [ids.get(name.removesuffix("s"), unknown_id())]
    if name.endswith("_id"):
        return ids.get(name, unknown_id())
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    if kind == "integer":
        return max(int(schema.get("minimum", 1)), int(schema.get("exclusiveMinimum", 0)) + 1)
    if kind == "boolean":
        return True
    if kind == "number":
        return 1
    if kind == "array":
        inner = schema["items"]
        return [
            _value(name.removesuffix("s"), None, ids, inner, model) for _ in range(max(1, schema.get("minItems", 0)))
        ]
    if kind == "object":
        return {
            inner: _value(inner, None, ids, one, model)
            for inner, one in schema.get("properties", {}).items()
            if inner in schema.get("required", ()) or inner.endswith("_id")
        }
    if schema.get("format") == "date":
        return "2026-11-01"
    text = "13900009999" if "phone" in name else f"x{secrets.token_hex(6)}"
    return (text * 20)[: max(schema.get("minLength", 0), 10)]


# They take no id, and change who asks: the second of two requests is answered otherwise for that reason alone.
ABOUT_ONESELF = {("POST", f"/api/v1/{path}") for path in ("auth/sign-out", "me/close", "exports")} | {
    ("POST", f"/api/v1/staff/finance/{report}/files")
    for report in ("collection", "arrears", "income", "balances", "trial-balance", "cashiers", "journal")
}


async def ask(person: Person, one: Route, ids: dict[str, str]) -> httpx.Response:
    path = re.sub(r"{(\w+)}", lambda found: ids.get(found[1], unknown_id()), one.path)
    headers = person.headers | {"Idempotency-Key": secrets.token_hex(8)}
    if one.body is not None:
        return await person.api.request(one.method, path, json=body_for(one.body, ids), headers=headers)
    if one.raw_type is not None:
        return await person.api.request(
            one.method, path, content=b"x", headers=headers | {"Content-Type": one.raw_type}
        )
    params = {name: ids[name] for name in (one.query.model_fields if one.query else ()) if name in ids}
    return await person.api.request(one.method, path, headers=headers, params=params)


async def everything_of(world: World, home: Home, sandbox: SandboxControl, drain: Drain, owner: Any) -> dict[str, str]:
    """The ids of one of everything that a neighbour's household and company have."""
    opened = (await home.open(bill_ids=[home.bill_ids[0]])).json()
    paid = (await sandbox.pay(opened)).json()
    await sandbox.called_back(paid["out_trade_no"])
    await drain()
    manager = await world.staff(home.company, Role.MANAGER)
    policy = {"kind": "terms", "number": "1", "title": "服务协议", "text": "正文", "effective_on": "2026-01-01"}
    published = (await manager.post("/api/v1/staff/policies", policy)).json()
    assert (await home.owner.post("/api/v1/consents", {"policy_id": published["id"]})).status_code == 200
    assert (await home.owner.post("/api/v1/exports")).status_code == 201
    ids = {"payment_id": opened["id"], "bill_id": home.bill_ids[1]}
    tables = {
        "receipt_id": "receipts",
        "message_id": "messages",
        "room_id": "rooms",
        "building_id": "buildings",
        "unit_id": "units",
        "customer_id": "customers",
        "occupancy_id": "occupancies",
        "community_id": "communities",
        "fee_item_id": "fee_items",
        "merchant_account_id": "merchant_accounts",
        "legal_entity_id": "legal_entities",
        "wechat_app_id": "wechat_apps",
        "app_id": "wechat_apps",
        "session_id": "sessions",
        "staff_id": "staff",
        "resident_id": "residents",
        "policy_id": "policies",
        "export_id": "exports",
        "entity_id": "legal_entities",
    }
    for name, table in tables.items():
        found = await owner.fetchval(f"SELECT id::text FROM {table} ORDER BY id LIMIT 1")
        assert found is not None, table
        ids[name] = found
    bill = await world.bill(home.company, home.room, home.customer, month=date(2025, 1, 1))
    finance = await world.staff(home.company, Role.FINANCE, home.community)
    surplus = await paid_for_nothing(home, finance, sandbox, drain, [str(bill.id)])
    await sandbox.fault("refund_outcome", outcome="PROCESSING", times=1)  # nothing moves by itself under the sweep
    refund = (await surplus.send_back()).json()
    deposit = await world.bill(
        home.company, home.room, home.customer, 500, month=date(2025, 2, 1), kind=BillKind.DEPOSIT
    )
    top_up = await world.bill(
        home.company, home.room, home.customer, 500, month=date(2025, 2, 1), kind=BillKind.PREPAID
    )
    both = (await home.open(bill_ids=[str(deposit.id), str(top_up.id)])).json()
    held = (await sandbox.pay(both)).json()
    await sandbox.called_back(held["out_trade_no"])
    await drain()
    run = (await finance.post(f"/api/v1/staff/communities/{home.community.id}/prepaid-runs")).json()
    await drain()
    more = {
        "deposit_id": await owner.fetchval("SELECT id::text FROM deposits"),
        "prepaid_account_id": await owner.fetchval("SELECT id::text FROM accounts WHERE kind = 'prepaid'"),
        "prepaid_run_id": run["id"],
    }
    more["shift_id"] = (await (await counter_of(world, home)).open_shift()).json()["id"]
    assert all(more.values()), more
    line = await owner.fetchval("SELECT id::text FROM bill_lines WHERE bill_id = $1", ids["bill_id"])
    ids |= await _reconciled(home, finance)
    return ids | more | {"bill_line_id": line, "discrepancy_id": surplus.case_id, "refund_id": refund["id"]}


async def _reconciled(home: Home, finance: Person) -> dict[str, str]:
    """A day of WeChat's bills with a file, a difference, and an adjustment that waits for its second signature."""
    at: dict[str, Any] = {"organization_id": home.company.id, "merchant_account_id": home.company.merchant.id}
    statement = await Statement.create(
        **at, source=StatementSource.FETCHED, sha256="0" * 64, plain_bytes=1, packed_bytes=1
    )
    day = await Reconciliation.create(
        **at, kind=StatementKind.TRADE, bill_on=date(2026, 1, 1), state=DayState.QUIET, our_fen=100
    )
    difference = await Difference.create(
        **at, reconciliation_id=day.id, community_id=home.community.id, about=DifferenceAbout.PAYMENT, number="number",
        kind=DifferenceKind.ONLY_WITH_US, occurred_at=clock.now(), our_fen=100, difference_fen=-100,
    )  # fmt: skip
    adjustment = await Adjustment.create(
        **at, community_id=home.community.id, legal_entity_id=home.company.legal_entity.id, debit_kind="suspense",
        credit_kind="bank", amount_fen=1, reason="x", asked_by_staff_id=finance.staff.id,
    )  # fmt: skip
    made = {"statement": statement, "reconciliation": day, "difference": difference, "adjustment": adjustment}
    return {f"{name}_id": str(row.id) for name, row in made.items()}


def named_ids(one: Route) -> set[str]:
    """The names of the ids that a route takes, in path, query and body; ``bill_ids`` counts as ``bill_id``."""
    found = set(re.findall(r"{(\w+)}", one.path))
    for model in (one.query, one.body):
        if model is not None:
            found |= set(re.findall(r'"(\w+_ids?)":', json.dumps(model.model_json_schema())))
    return {name.removesuffix("s") for name in found if name.endswith(("_id", "_ids"))}


async def counted(owner: Any) -> dict[str, int]:
    """What of the money there is; a sweep must not have moved any."""
    return {
        table: await owner.fetchval(f"SELECT count(*) FROM {table}")
        for table in ("bills", "payments", "entries", "allocations", "receipts", "refunds", "discrepancies")
    }
