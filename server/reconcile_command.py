"""``linli reconcile``, as the command line takes it."""

from pathlib import Path
from typing import Annotated

import typer


def reconcile(
    file: Annotated[Path, typer.Argument(help="A trade bill or fund-flow bill as downloaded, plain or gzip.")],
    merchant: Annotated[str, typer.Option("--merchant", help="The merchant account's id, or its WeChat number.")],
    bill_on: Annotated[str | None, typer.Option("--date", help="The bill's day; the file tells it by itself.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable, complete.")] = False,
) -> None:
    """Compare one of WeChat's bills with the books (docs/reconciliation.md).

    Ends with 0 when everything is explained, 1 when something differs, 2 when the file cannot be read.
    """
    from server.cli import in_database
    from server.reconcile_report import run_reconcile

    text, code = in_database(lambda: run_reconcile(file, merchant, bill_on, as_json=as_json))
    typer.echo(text)
    if code:
        raise typer.Exit(code)
