"""``linli catch-up``, told to a person."""

from datetime import UTC, datetime

import typer

import payments


async def show_catch_up(since: str | None) -> bool:
    """Ask WeChat about everything since the backup and print how far it is; False when nothing is under way.

    With ``since`` books that came back without `linli restore` begin to catch up. Raises ValueError for a ``since``
    that is no moment, or not past.
    """
    if since is not None:
        moment = datetime.fromisoformat(since)
        await payments.begin_catch_up(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    report = await payments.catch_up(typer.echo)
    if report is None:
        typer.echo("nothing to catch up with: no restore is under way (see --since)")
        return False
    typer.echo(f"{report.asked} orders asked about, {report.settled} of them are paid")
    typer.echo(f"{report.read} days of bills compared, {report.only_at_wechat} lines in them that only WeChat knows")
    if report.only_at_wechat:
        typer.echo("each of those is a case of kind only_at_wechat under 差错, for finance to settle by hand")
    if report.gone:
        typer.echo(f"{report.gone} days are older than WeChat keeps: compare them by hand")
    if report.waiting:
        typer.echo(f"{report.waiting} days are not there yet: the worker goes on asking, or repeat this after 10:05")
    typer.echo("caught up" if report.finished else "not caught up yet")
    return True
