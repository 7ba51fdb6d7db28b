"""``linli``: the command line."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from server.child import end_with_parent
from server.reconcile_command import reconcile
from server.settings import Settings, get_settings

T = TypeVar("T")

app = typer.Typer(
    name="linli",
    help="Linli 邻里: the backend that a property company runs its communities on.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
bills = typer.Typer(help="Bills.", no_args_is_help=True)
app.add_typer(bills, name="bills")
organization = typer.Typer(help="Property companies.", no_args_is_help=True)
app.add_typer(organization, name="organization")
keys = typer.Typer(help="Keys of phones, ID numbers and merchant secrets (docs/privacy.md).", no_args_is_help=True)
app.add_typer(keys, name="keys")
staff = typer.Typer(help="Accounts of staff.", no_args_is_help=True)
app.add_typer(staff, name="staff")
app.command()(reconcile)


def fail(sentence: str) -> NoReturn:
    """Say one sentence and end with 1."""
    typer.echo(f"linli: {sentence}", err=True)
    raise typer.Exit(1)


def settings_or_fail() -> Settings:
    """The settings, or one sentence that names what is wrong with them."""
    from pydantic import ValidationError

    try:
        return get_settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        fail(f"a setting is wrong: {'.'.join(map(str, first['loc'])) or 'environment'}: {first['msg']}")


def at_database(work: Callable[[Settings, bool], Coroutine[Any, Any, T]], *, alone: bool = False) -> T:
    """Run ``work`` with settings that name the database, and whether that is the embedded server. ``alone``: not while
    `linli up` runs."""
    from server.log import configure_logs
    from server.migration import make_embedded
    from server.supervisor import CannotRun, database

    settings = settings_or_fail()
    configure_logs("warning")
    try:
        if settings.database_url or not settings.dev:
            settings.require_database_url()
            return asyncio.run(work(settings, False))
        with database(settings.state, None, alone=alone) as server:
            assert server is not None
            if alone:
                asyncio.run(make_embedded(server.url("postgres")))
            named = settings.with_database(server.url("linli", "linli_app"), server.url("linli"))
            return asyncio.run(work(named, True))
    except (CannotRun, ValueError) as problem:
        fail(str(problem))


def in_database(work: Callable[[], Coroutine[Any, Any, Any]], *, configured: bool = True) -> Any:
    """Run ``work`` with the application's database open. In dev without DATABASE_URL that is the embedded server,
    the running one or one started for this command."""
    from server.app import close_resources, configure, open_resources

    async def run(settings: Settings, _embedded: bool) -> Any:
        if configured:
            configure(settings)
        await open_resources(settings)
        try:
            return await work()
        finally:
            await close_resources()

    return at_database(run)


@app.command()
def up() -> None:
    """Run everything on this machine: embedded PostgreSQL, migrations, demo data, API, worker and WeChat sandbox.

    For a laptop (LINLI_ENV=dev). Keeps the data of the last run; Ctrl-C ends it all.
    """
    from server.up import run_all

    raise typer.Exit(run_all(settings_or_fail()))


@app.command()
def serve() -> None:
    """Serve the API. A second process on the same database refuses to start."""
    from server.serve import run_api

    end_with_parent()
    problem = run_api(settings_or_fail())
    if problem:
        fail(problem)


@app.command()
def worker() -> None:
    """Run the jobs: consequences of payments, messages, and the janitor that asks WeChat."""
    from server.serve import run_worker

    end_with_parent()
    problem = run_worker(settings_or_fail())
    if problem:
        fail(problem)


@app.command()
def sandbox(
    speed: Annotated[int, typer.Option(help="Seconds of the callback schedule that pass in one second.")] = 1,
) -> None:
    """Run the WeChat sandbox (dev only): Pay APIv3, the mini-program API, and a page that plays the phone."""
    settings = settings_or_fail()
    if not settings.dev:
        fail("the sandbox is for LINLI_ENV=dev only")
    from sandbox.config import Config  # after the refusal: a production image does not hold it
    from sandbox.main import serve as serve_sandbox
    from sandbox.store import StateUnusable
    from server.postgres_home import private_folder

    end_with_parent()
    config = Config(
        private_folder(settings.state) / "sandbox.db",
        settings.sandbox_port,
        api_base=settings.callback_base(),
        speed=speed,
    )
    try:
        serve_sandbox(config)
    except (OSError, StateUnusable) as error:
        fail(str(error))


@app.command()
def migrate(
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be applied.")] = False,
) -> None:
    """Bring the database to this version. Safe to repeat; run it before the new version starts."""
    from server.migration import apply, pending, prepare_embedded
    from server.supervisor import CannotRun, database

    settings = settings_or_fail()
    try:
        if settings.database_url or not settings.dev:
            url = settings.require_database_url(owner=True)
            names = asyncio.run(pending(url) if plan else apply(url))
        else:
            with database(settings.state, None) as server:
                assert server is not None
                names = asyncio.run(prepare_embedded(server.url("postgres"), server.url("linli")))
    except (CannotRun, ValueError, OSError) as problem:
        fail(str(problem))
    verb = "would apply" if plan else "applied"
    typer.echo(f"{verb}: {', '.join(names)}" if names else "the database is up to date")


@app.command()
def demo() -> None:
    """Fill an empty database with demo data, or register what is there with the sandbox again (dev only)."""
    from server.demo import fill

    settings = settings_or_fail()
    if not settings.dev:
        fail("demo data is for LINLI_ENV=dev only")
    typer.echo(in_database(lambda: fill(settings)))


@app.command()
def reset() -> None:
    """Throw the demo away, so that the next `linli up` starts anew. Refuses a database without the demo mark."""
    from server.demo import reset as reset_demo

    settings = settings_or_fail()
    if not settings.dev:
        fail("there is nothing to reset: LINLI_ENV is not dev")
    problem = reset_demo(settings)
    if problem:
        fail(problem)
    typer.echo("the demo is gone; `make run` starts a new one")


@app.command()
def check(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
    seals: Annotated[bool, typer.Option("--seals", help="Read everything that is sealed again instead.")] = False,
    since: Annotated[str | None, typer.Option(help="With --seals: only what was sealed since, 2026-11-01.")] = None,
    head: Annotated[
        list[str] | None, typer.Option(help="With --seals: a digest noted earlier, that must still be there.")
    ] = None,
) -> None:
    """Check every invariant of the money (docs/ledger.md) on the live database. Ends with 1 when one is broken."""
    import payments
    from server.seal_report import show_seals

    if seals:
        if not in_database(lambda: show_seals(since, head or []), configured=False):
            raise typer.Exit(1)
        return

    found = in_database(lambda: payments.violations(), configured=False)
    if as_json:
        document = [{"number": one.number, "truth": one.truth, "found": one.found} for one in found]
        typer.echo(json.dumps(document, ensure_ascii=False, default=str, indent=2))
    else:
        for invariant in payments.INVARIANTS:
            broken = [one for one in found if one.number == invariant.number]
            typer.echo(f"{'BROKEN' if broken else 'ok':6} {invariant.number:4} {invariant.truth}")
            for one in broken:
                typer.echo("         " + ", ".join(f"{name}={value}" for name, value in one.found.items()))
    if found:
        raise typer.Exit(1)


@app.command()
def alarms() -> None:
    """Every alarm and whether it is on (docs/production.md says what to do). Ends with 1 when one is."""
    from services import alarm

    found = in_database(alarm.list_alarms, configured=False)
    for one in found:
        typer.echo(f"{'ON' if one.active else 'off':4} {one.alarm.severity.value:9} {one.alarm.name}")
        if one.active:
            typer.echo(f"       since {one.begun_at.isoformat(timespec='seconds')}")
            typer.echo(f"       {one.alarm.sentence(one.facts, 'zh')}")
            typer.echo(f"       {one.alarm.sentence(one.facts, 'en')}")
    if any(one.active for one in found):
        raise typer.Exit(1)


@app.command()
def backup(
    folder: Annotated[Path | None, typer.Argument(help="A folder that does not exist yet.")] = None,
) -> None:
    """Write everything as it is in one moment, with a manifest to measure a restore by. Nothing need be stopped."""
    from server.backup import back_up, default_folder, what_is_missing

    where = folder or default_folder()

    async def run(settings: Settings, _embedded: bool) -> dict[str, Any]:
        return await back_up(settings.require_database_url(owner=True), where, settings.keyring())

    manifest = at_database(run)
    typer.echo(f"{where}: {sum(manifest['rows'].values())} rows, {manifest['dump']['bytes']} bytes packed")
    typer.echo(f"sha256 {manifest['dump']['sha256']}")
    for one in manifest["seals"]:
        typer.echo(f"head   {one['scope']} {one['last_row']} {one['digest']}")
    typer.echo(what_is_missing(settings_or_fail().dev))


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="What `linli backup` wrote.")],
) -> None:
    """Bring a backup back into an empty database, verify it, and ask WeChat about everything since."""
    from server.app import close_resources, configure
    from server.catch_up_report import show_catch_up
    from server.restore import restore as restore_into

    async def run(settings: Settings, embedded: bool) -> bool:
        configure(settings)
        urls = settings.require_database_url(owner=True), settings.require_database_url()
        try:
            good = await restore_into(folder, *urls, settings.keyring(), typer.echo, embedded=embedded)
            await show_catch_up(None)
            return good
        finally:
            await close_resources()

    if not at_database(run, alone=True):
        fail("the restored books are not those of the backup: see above, and do not open them to anybody")


@app.command("catch-up")
def catch_up(
    since: Annotated[
        str | None, typer.Option(help="Begin: the books came back otherwise and are of this moment (ISO 8601).")
    ] = None,
) -> None:
    """After a restore: ask WeChat about everything since the backup. May be repeated; restore runs it itself."""
    from server.catch_up_report import show_catch_up

    if not in_database(lambda: show_catch_up(since)):
        raise typer.Exit(1)


@app.command()
def tour() -> None:
    """Play the story over HTTP against the running program, every step shown. Ends with 1 when a step is wrong."""
    from server.tour import play

    settings = settings_or_fail()
    path = settings.state / "demo.json"
    if not path.exists():
        fail(f"{path} is missing: start the program first (make run)")
    raise typer.Exit(asyncio.run(play(json.loads(path.read_text()))))


@bills.command("import")
def import_bills(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An .xlsx or .csv file.")],
    community: Annotated[str, typer.Option("--community", help="Its id, or its name where that is unique.")],
    commit: Annotated[bool, typer.Option("--commit", help="Do it. Without this, only say what would happen.")] = False,
) -> None:
    """Import bills from a spreadsheet: all rows or none. docs/bill-import.md explains the columns."""
    from server.bill_import import run_import

    text, good = in_database(lambda: run_import(file, community, commit=commit))
    typer.echo(text)
    if not good:
        raise typer.Exit(1)


@organization.command("open")
def open_organization(
    name: Annotated[str, typer.Argument(help="The company's name.")],
    username: Annotated[str, typer.Option(help="The first manager's user name.")],
    manager: Annotated[str, typer.Option(help="The first manager's name.")],
    password: Annotated[
        str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True, help="Asked for when not given.")
    ],
) -> None:
    """Begin a property company with its first manager, who does everything else over the API."""
    from kit.errors import Refusal
    from models.access import system_actor
    from services import organization as service
    from services.staff import NewStaff

    new = NewStaff(username, manager, password)
    try:
        opened, _ = in_database(lambda: service.open_organization(system_actor("linli organization open"), name, new))
    except Refusal as refusal:
        fail(refusal.sentence("en"))
    typer.echo(f"{opened.name} is open; {username} signs in at POST /api/v1/auth/staff")


@keys.command("status")
def key_status() -> None:
    """Say how many values are under each key. Ends with 1 while some are not under the keys that write."""
    from server.keys import show_status

    if not in_database(show_status):
        raise typer.Exit(1)


@keys.command("rotate")
def rotate_keys() -> None:
    """Write every value anew under the keys that write, while everything runs; may be ended and begun again."""
    from server.keys import run_rotation

    unreadable = in_database(run_rotation)
    for one in unreadable:
        typer.echo(f"unreadable: {one}")
    if unreadable:
        fail(f"no key of LINLI_FIELD_KEYS opens {len(unreadable)} values; keep every key until they are mended")


@staff.command("reset-second-factor")
def reset_second_factor(username: Annotated[str, typer.Argument(help="Whose phone is lost.")]) -> None:
    """Take the second factor of an account away: for a company's only manager, who has no other manager to ask."""
    from kit.errors import Refusal
    from models.access import system_actor
    from services.second_factor import reset_second_factor_of as reset

    async def work() -> None:
        await reset(system_actor("linli staff reset-second-factor"), username)

    try:
        in_database(work)
    except Refusal as refusal:
        fail(refusal.sentence("en"))
    typer.echo(f"{username} signs in with the password alone now; every session of the account is over")


def main() -> None:
    """The entry point of the ``linli`` script."""
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    app()


if __name__ == "__main__":
    main()
