"""Reconciliation of a day with a million rows, beside Polars doing nothing but the join of the same file and rows.

Ours reads the packed file, keeps it, checks its summary, compares payments, refunds, amounts, states, fees and the
clock, writes differences, sums and commission durably, in a process of its own. Polars reads the same file and the
same payments, exported by COPY, joins them and counts where they differ; it keeps nothing.
"""

import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.town import Town
from kit import clock
from kit.money import format_yuan
from tests.wechat_bills import HEADER, SUMMARY

ROWS = 1_000_000
PLANTED = 100  # of each kind
_ORDERS = """
SELECT out_trade_no, transaction_id, received_fen FROM payment_attempts
WHERE merchant_account_id = '{merchant}' AND state = 'paid'
"""


async def run(town: Town, wanted: int = ROWS) -> Mapping[str, float]:
    """One reading of each side; every planted difference must be found, and no other."""
    await town.add(wanted, settled=True, bills_each=1)
    with tempfile.TemporaryDirectory(prefix="linli-bench-bill-") as folder:
        bill, ours = Path(folder) / "bill.csv.gz", Path(folder) / "ours.csv"
        planted = await _write_bill(town, bill)
        theirs = await _polars(town, bill, ours)
        found = _in_process("bench.reconcile_one", town.url, str(bill), str(town.company.merchant.id))
    assert found.pop("kinds") == planted, "what was planted was not found exactly"
    seconds = found["seconds"]
    return {
        "rows": found["rows"],
        "planted, all found, none false": sum(planted.values()),
        "ours, s": seconds,
        "  of it keeping the file, s": found["keep_s"],
        "polars, s": theirs["seconds"],
        "ratio": seconds / theirs["seconds"],
        "peak over the start, MiB": found["peak_mib"],
        "polars peak over its start, MiB": theirs["peak_mib"],
        "bill, MiB plain": found["plain_mib"],
    }


async def _write_bill(town: Town, bill: Path) -> dict[str, int]:
    """The day's bill as WeChat would write it, but for what is planted; how many of each kind."""
    at = f"{clock.now().astimezone(clock.BEIJING):%Y-%m-%d %H:%M:%S}"
    count = paid_fen = fees = 0
    with gzip.open(bill, "wb", compresslevel=1) as file:

        def write(number: str, transaction: str, fen: int, fee_fen: int) -> None:
            nonlocal count, paid_fen, fees
            yuan = format_yuan(fen)
            line = (
                f"`{at},`wx1,`{town.merchant.mchid},`0,`,`{transaction},`{number},`o-bench,`JSAPI,`SUCCESS,`OTHERS,`CNY,"
                f"`{yuan},`0.00,`0,`0,`0.00,`0.00,`,`,`物业费,`,`{format_yuan(fee_fen)}000,`0.60%,`{yuan},`0.00,`\r\n"
            )
            file.write(line.encode())
            count, paid_fen, fees = count + 1, paid_fen + fen, fees + fee_fen

        file.write(f"\ufeff{HEADER}\r\n".encode())
        async with town.owner.transaction():
            position = 0
            async for one in town.owner.cursor(_ORDERS.format(merchant=town.company.merchant.id), prefetch=10_000):
                number, transaction, fen = one
                kind, position = position % 1000 if position < PLANTED * 1000 else 999, position + 1
                if kind == 0:
                    continue  # only_with_us
                if kind == 1:
                    fen += 1  # amount
                write(number, transaction, fen, _fee(fen) + (kind == 2))
        planted = min(PLANTED, -(-position // 1000))
        for number in range(planted):
            write(f"STRANGER-{number}", f"STRANGE-{number}", 888, _fee(888))
        yuan, fee = format_yuan(paid_fen), format_yuan(fees)
        summary = [str(count), yuan, "0.00", "0.00", f"{fee}000", yuan, "0.00"]
        file.write(f"{SUMMARY}\r\n{','.join(f'`{value}' for value in summary)}\r\n".encode())
    return dict.fromkeys(("only_with_us", "amount", "fee", "only_at_wechat"), planted)


def _fee(fen: int) -> int:
    return (fen * 60 + 5000) // 10_000


async def _polars(town: Town, bill: Path, ours: Path) -> dict[str, Any]:
    started = clock.now()
    query = _ORDERS.format(merchant=town.company.merchant.id)
    await town.owner.copy_from_query(query, output=str(ours), format="csv", header=True)
    exported_s = (clock.now() - started) / timedelta(seconds=1)
    found = _in_process("bench.polars_join", str(bill), str(ours))
    found["seconds"] += exported_s
    return found


def _in_process(module: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))
