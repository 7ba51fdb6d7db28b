"""``linli bills import``: what a file of bills would do, and doing it. Printed for finance, so in Chinese."""

import asyncio
from pathlib import Path

from kit import clock
from kit.errors import Refusal
from kit.ids import parse_id
from kit.money import format_yuan
from models.access import system_actor
from models.community import Community
from services.bill_import import ImportPlan, commit_import, plan_import
from services.bill_remark import Remark

_SHOWN = 50


async def run_import(file: Path, community: str, *, commit: bool) -> tuple[str, bool]:
    """What to print, and whether all is well. Without ``commit`` nothing is changed."""
    actor = system_actor("linli bills import")
    parsed = parse_id(community)
    found = await (Community.filter(id=parsed) if parsed else Community.filter(name=community))
    if len(found) != 1:
        names = "、".join(sorted({one.name for one in await Community.all().limit(_SHOWN)}))
        return f"没有唯一的小区叫“{community}”，现有小区：{names}", False
    content = await asyncio.to_thread(file.read_bytes)
    try:
        plan = await plan_import(actor, found[0].id, file.name, content)
        lines = described(plan)
        if plan.errors:
            return "\n".join([*lines, "没有导入任何账单，请改正后重试。"]), False
        if plan.already_imported or not commit:
            hint = "没有新增账单。" if plan.already_imported else "以上只是预览，尚未导入；加上 --commit 才会导入。"
            return "\n".join([*lines, hint]), True
        done = await commit_import(actor, found[0].id, file.name, content)
    except Refusal as refusal:
        return refusal.sentence("zh"), False
    lines.append(f"已导入 {done.bill_count} 张账单，合计 {format_yuan(done.amount_fen)} 元。")
    return "\n".join(lines), True


def described(plan: ImportPlan) -> list[str]:
    """The plan in lines for a terminal."""
    lines = [f"{plan.file_name}：{plan.row_count} 行"]
    if plan.already_imported:
        at = plan.already_imported.imported_at.astimezone(clock.BEIJING)
        lines.append(f"这个文件在 {at:%Y-%m-%d %H:%M} 已经导入过。")
    lines += [f"  错误 {_said(remark)}" for remark in plan.errors[:_SHOWN]]
    lines += [f"  提示 {_said(remark)}" for remark in plan.warnings[:_SHOWN]]
    left_out = max(0, len(plan.errors) - _SHOWN) + max(0, len(plan.warnings) - _SHOWN)
    if left_out:
        lines.append(f"  ……还有 {left_out} 处")
    if not plan.errors and not plan.already_imported:
        lines += [f"  {one.name}：{one.bill_count} 张，{format_yuan(one.amount_fen)} 元" for one in plan.sums]
        lines.append(
            f"将新增 {plan.bill_count} 张账单，合计 {format_yuan(plan.amount_fen)} 元；"
            f"{plan.skipped_count} 张已经有了，{plan.zero_count} 行金额为零不出账。"
        )
    return lines


def _said(remark: Remark) -> str:
    place = " ".join(part for part in (f"第{remark.line}行" if remark.line else "", remark.column or "") if part)
    return f"{place}：{remark.message('zh')}" if place else remark.message("zh")
