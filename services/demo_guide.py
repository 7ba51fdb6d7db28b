"""A screenful for the terminal: what is where, whom to sign in as, what to try. Pure."""

from collections.abc import Mapping
from typing import Any

_TRY_ZH = (
    "“两套房”的账单分属两个商户号：物业费和水费一起付，会提示分开支付",
    "“欠费”住在要求先缴旧账的小区：只选最新一张账单，会提示先缴更早的",
    "“丈夫”和“妻子”同时付同一张账单：后来的人会看到“家人正在支付”",
    "“未绑定”授权手机号后自动绑定房屋；“陌生人”需要申请，由管家审核",
    "财务导入账单：LINLI_ENV=dev .venv/bin/linli bills import 账单.xlsx --community 晴川花园（先预览，再加 --commit）",
)
_TRY_EN = (
    "“两套房” owes to two merchant accounts: choose 物业费 and 水费 together and you are asked to pay separately",
    "“欠费” lives where the oldest arrears come first: choose only the newest bill and you are told which to add",
    "“丈夫” and “妻子” pay the same bill at once: the second is told that somebody is paying",
    "“未绑定” is bound to the room on giving the phone; “陌生人” has to ask, and the butler decides",
    "Import bills (shows what would happen; then --commit): "
    "LINLI_ENV=dev .venv/bin/linli bills import FILE.xlsx --community 晴川花园",
)


def demo_guide(demo: Mapping[str, Any]) -> str:
    """The guide to what ``seed`` answered (with ``addresses``, name → URL, where the process added them)."""
    lines = ["Linli 邻里 · 演示数据", ""]
    addresses = demo.get("addresses", {})
    lines += [f"  {name:10} {address}" for name, address in addresses.items()] + ([""] if addresses else [])
    lines += ["公司与小区"]
    for company in demo["companies"]:
        communities = "、".join(community["name"] for community in company["communities"])
        lines.append(f"  {company['name']}  {communities}  （小程序 {company['appid']}）")
    lines += ["", "员工账号（岗位-小区；密码每次生成，全部在 .linli/demo.json）"]
    shown = [one for one in demo["staff"] if one["role"] in ("manager", "finance", "butler", "auditor")]
    first = demo["companies"][0]["name"]
    lines += [
        f"  {one['username']:20} {one['password']}  {one['community'] or one['company']}"
        for one in shown
        if one["company"] == first
    ]
    lines += ["", "住户（用 openid 登录）"]
    for one in demo["residents"]:
        rooms = "、".join(f"{room['community']}{room['room']}" for room in one["rooms"]) or one["note"]
        lines.append(f"  {one['openid']}  {one['phone']}  {one['key']}：{rooms}")
    lines += ["", "试一试"] + [f"  {number}. {line}" for number, line in enumerate(_TRY_ZH, start=1)]
    lines += [
        "",
        "Try (staff sign in with the names above; residents with their openid; all of it in .linli/demo.json)",
    ]
    lines += [f"  {number}. {line}" for number, line in enumerate(_TRY_EN, start=1)]
    lines += [
        "",
        "Ctrl-C 结束，数据保留；make tour 走一遍流程。 Ctrl-C ends it and keeps the data; make tour tells the story.",
    ]
    return "\n".join(lines)
