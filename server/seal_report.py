"""``linli check --seals``, told to a person."""

from collections.abc import Sequence
from datetime import UTC, datetime

import typer

from services.seal_check import SealReport, check_seals


async def show_seals(since: str | None, known_heads: Sequence[str]) -> bool:
    """Verify the seals and print what came of it, progress to standard error; whether all is as it was sealed.

    Raises ValueError for a ``since`` that is no date.
    """
    moment = datetime.fromisoformat(since) if since else None
    if moment is not None and moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    report = await check_seals(since=moment, known_heads=known_heads, tell=lambda words: typer.echo(words, err=True))
    _print(report)
    return not report.faults


def _print(report: SealReport) -> None:
    broken = {fault.scope for fault in report.faults}
    for head in report.heads:
        gone = report.let_go.get(head.scope)
        note = f"  ({gone} rows let go by retention)" if gone is not None else ""
        typer.echo(f"{'BROKEN' if head.scope in broken else 'ok':6} {head.scope} {head.last_row} {head.digest}{note}")
    for fault in report.faults:
        rows = "; ".join(f"{what}: {', '.join(map(str, ids))}" for what, ids in fault.found.items())
        where = f"{fault.scope}, rows {fault.first_row} to {fault.last_row}" if fault.last_row else fault.scope
        typer.echo(f"BROKEN {where}: {fault.words}" + (f" ({rows})" if rows else ""))
    typer.echo(f"{report.rows_read} rows read again, {report.unsealed} not sealed yet")
