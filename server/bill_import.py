"""``linli bills import``: what a file of bills would do, and doing it."""

import asyncio
from pathlib import Path

from kit.errors import Refusal
from kit.ids import parse_id
from kit.money import format_yuan
from models.access import system_actor
from models.community import Community
from services.bill_import import ImportPlan, commit_import, plan_import

_SHOWN = 50


async def run_import(file: Path, community: str, *, commit: bool) -> tuple[str, bool]:
    """What to print, and whether all is well. Without ``commit`` nothing is changed."""
    actor = system_actor("linli bills import")
    parsed = parse_id(community)
    found = await (Community.filter(id=parsed) if parsed else Community.filter(name=community))
    if len(found) != 1:
        names = "、".join(sorted({one.name for one in await Community.all().limit(_SHOWN)}))
        return f"there is no single community {community!r}; there are: {names}", False
    content = await asyncio.to_thread(file.read_bytes)
    try:
        plan = await plan_import(actor, found[0].id, file.name, content)
        lines = described(plan)
        if plan.errors:
            return "\n".join([*lines, "nothing was imported"]), False
        if plan.already_imported or not commit:
            hint = "nothing was imported" if plan.already_imported else "nothing was imported yet; add --commit"
            return "\n".join([*lines, hint]), True
        done = await commit_import(actor, found[0].id, file.name, content)
    except Refusal as refusal:
        return refusal.sentence("en"), False
    lines.append(f"imported {done.bill_count} bills, {format_yuan(done.amount_fen)} yuan")
    return "\n".join(lines), True


def described(plan: ImportPlan) -> list[str]:
    """The plan in lines for a terminal."""
    lines = [f"{plan.file_name}: {plan.row_count} rows"]
    if plan.already_imported:
        lines.append(f"this very file was imported on {plan.already_imported.imported_at:%Y-%m-%d %H:%M} UTC already")
    for remark in (*plan.errors[:_SHOWN], *plan.warnings[:_SHOWN]):
        kind = "error" if remark in plan.errors else "note"
        place = "，".join(part for part in (f"line {remark.line}" if remark.line else "", remark.column or "") if part)
        lines.append(f"  {kind}: {place}: {remark.message()}")
    left_out = max(0, len(plan.errors) - _SHOWN) + max(0, len(plan.warnings) - _SHOWN)
    if left_out:
        lines.append(f"  … and {left_out} more")
    if not plan.errors and not plan.already_imported:
        lines += [f"  {one.name}: {one.bill_count} bills, {format_yuan(one.amount_fen)} yuan" for one in plan.sums]
        lines.append(
            f"would add {plan.bill_count} bills, {format_yuan(plan.amount_fen)} yuan;"
            f" {plan.skipped_count} are there already, {plan.zero_count} rows come to nothing"
        )
    return lines
