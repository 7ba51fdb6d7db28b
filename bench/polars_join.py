"""``python -m bench.polars_join BILL OURS``: the bare join of a bill with exported payments by Polars, told as JSON."""

import json
import sys
import time
from pathlib import Path

import polars as pl


def _peak_kib() -> int:
    """Of this program alone: what getrusage tells begins with the one that started it."""
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1])


def main(bill: str, ours: str) -> None:
    """Read both, join them by number, count where amounts differ or a side is missing."""
    before, started = _peak_kib(), time.monotonic()
    lines = pl.read_csv(bill, infer_schema=False, truncate_ragged_lines=True, quote_char=None)
    said = lines.filter(pl.col("商户订单号").str.starts_with("`")).select(
        pl.col("商户订单号").str.strip_prefix("`").alias("out_trade_no"),
        (pl.col("订单金额").str.strip_prefix("`").str.replace(".", "", literal=True).cast(pl.Int64)).alias("fen"),
    )
    held = pl.read_csv(ours, schema_overrides={"received_fen": pl.Int64})
    both = said.join(held, on="out_trade_no", how="full", coalesce=True)
    differ = both.filter(pl.col("fen").is_null() | pl.col("received_fen").is_null()
                         | (pl.col("fen") != pl.col("received_fen"))).height  # fmt: skip
    document = {
        "seconds": time.monotonic() - started,
        "peak_mib": (_peak_kib() - before) / 1024,
        "differ": differ,
        "rows": said.height,
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main(*sys.argv[1:])
