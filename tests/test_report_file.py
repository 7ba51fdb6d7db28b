"""Reports as files: made by a job, with progress, for who asked only, for some days."""

import csv
import io
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from openpyxl import load_workbook

from kit import clock
from models.access import Role
from models.audit import Audit
from models.report_file import ReportFile, ReportFileState
from models.staff import StaffRole
from services import report_file as service
from tests.conftest import Drain, SandboxControl
from tests.finance_town import FINANCE, this_month
from tests.surplus_home import surplus_home
from tests.world import Home, Person, World

REPORTS = {
    "collection": "?by=fee_item_month", "arrears": "?by=customer", "income": "", "balances": "",
    "trial-balance": f"?from_month={this_month()}", "cashiers": "", "journal": "",
}  # fmt: skip


async def ask(person: Person, report: str, form: str, query: str = "", **options: Any) -> Any:
    return await person.post(f"{FINANCE}/{report}/files{query}", {"format": form}, **options)


async def content(person: Person, file: dict[str, Any]) -> Any:
    return await person.get(f"{FINANCE}/files/{file['id']}/content")


async def test_every_report_as_a_file(world: World, sandbox: SandboxControl, drain: Drain, books: Any) -> None:
    """What stands in the file is what the page says, in both formats; amounts are numbers, names are text."""
    surplus = await surplus_home(world, sandbox, drain, bills=3)
    home, finance = surplus.home, surplus.finance
    home.customer.name = "=cmd|' /C calc'!A0"
    await home.customer.save()
    assert (await surplus.keep()).status_code == 201
    await drain()
    for report, query in REPORTS.items():
        csv_file, xlsx_file = [(await ask(finance, report, form, query)).json() for form in ("csv", "xlsx")]
        assert (csv_file["status"], csv_file["percent"]) == ("queued", 0)
        assert (await content(finance, csv_file)).json()["code"] == "report_file_not_ready"
        await drain()
        shown = (await finance.get(f"{FINANCE}/files/{xlsx_file['id']}")).json()
        assert (shown["status"], shown["percent"]) == ("ready", 100) and shown["expires_at"]
        in_csv = await content(finance, csv_file)
        lines = list(csv.reader(io.StringIO(in_csv.content.decode("utf-8-sig"), newline="")))
        in_xlsx = await content(finance, xlsx_file)
        sheet = load_workbook(io.BytesIO(in_xlsx.content)).worksheets[0]
        assert in_csv.headers["content-disposition"].endswith('.csv"') and len(in_xlsx.content) == shown["size_bytes"]
        assert shown["row_count"] == len(lines) - 2 == sheet.max_row - 2  # headings and totals apart
        await _adds_up(finance, report, query, lines, sheet)
    await _whose(world, home, finance, xlsx_file)


async def _adds_up(finance: Person, report: str, query: str, lines: list[list[str]], sheet: Any) -> None:
    amounts = [at for at, heading in enumerate(lines[0]) if heading.endswith("（元）")]
    assert amounts and lines[-1][0] == "合计"
    for at in amounts:
        column = [Decimal(line[at]) for line in lines[1:-1]]
        assert sum(column) == Decimal(lines[-1][at]), (report, lines[0][at])
        for line, cells in zip(lines[1:], sheet.iter_rows(min_row=2), strict=True):
            assert cells[at].data_type == "n" and Decimal(str(cells[at].value)) == Decimal(line[at])
    if report != "journal":
        totals = (await finance.get(f"{FINANCE}/{report}{query}")).json()["totals"]
        assert [Decimal(lines[-1][at]) * 100 for at in amounts] == [
            fen for name, fen in totals.items() if name.endswith("_fen")
        ]
    if report == "balances":
        assert "'=cmd|' /C calc'!A0" in {line[3] for line in lines[1:-1]}


async def _whose(world: World, home: Home, finance: Person, file: dict[str, Any]) -> None:
    """A colleague with the same rights does not find it; who lost the right does not get it; it expires."""
    colleague = await world.staff(home.company, Role.FINANCE)
    for path in (f"files/{file['id']}", f"files/{file['id']}/content"):
        assert (await colleague.get(f"{FINANCE}/{path}")).status_code == 404
    assert (await colleague.get(f"{FINANCE}/files")).json()["items"] == []
    cashier = await world.staff(home.company, Role.CASHIER)
    assert (await ask(cashier, "income", "csv")).status_code == 403
    mine = [page async for page in _files(finance)]
    assert len(mine) == 14 and mine[0]["id"] == file["id"]
    told = await Audit.filter(target_id=file["id"]).order_by("id").values_list("act", flat=True)
    assert told == ["report_file.request", "report_file.fetch"]
    with clock.travel_to(clock.now() + timedelta(days=service.KEPT_DAYS, minutes=1)):
        assert await service.sweep_files() == 14
    assert await ReportFile.filter(state=ReportFileState.EXPIRED, body=None).count() == 14
    assert (await content(finance, file)).status_code == 410
    await StaffRole.filter(staff_id=finance.staff.id).delete()
    assert (await content(finance, file)).status_code == 403


async def _files(person: Person) -> Any:
    cursor = ""
    while True:
        page = (await person.get(f"{FINANCE}/files?limit=5{cursor}")).json()
        for one in page["items"]:
            yield one
        if page["next_cursor"] is None:
            return
        cursor = f"&cursor={page['next_cursor']}"


async def test_a_file_that_was_left_in_the_middle(world: World, drain: Drain, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same key is the same file; a run that breaks is taken up again, and given up after three."""
    finance = await world.staff(await world.company(), Role.FINANCE)
    first = (await ask(finance, "income", "csv", key="once")).json()
    assert (await ask(finance, "income", "csv", key="once")).json() == first
    for _ in range(2):
        assert (await ask(finance, "income", "csv")).status_code == 201
    assert (await ask(finance, "income", "csv")).json()["code"] == "too_many_report_files"
    await drain()
    assert await ReportFile.filter(state=ReportFileState.READY).count() == 3

    async def breaks(*_: Any) -> Any:
        raise OSError("no room on the disk")

    broken = (await ask(finance, "journal", "xlsx")).json()
    with monkeypatch.context() as patch:
        patch.setattr(service, "_write", breaks)
        with pytest.raises(OSError, match="no room"):
            await drain()
    assert await service.make_file(broken["id"]) is None  # somebody may be at it
    with clock.travel_to(clock.now() + timedelta(minutes=3)):
        assert await service.sweep_files() == 1
    assert (await finance.get(f"{FINANCE}/files/{broken['id']}")).json()["status"] == "ready"
    hopeless = (await ask(finance, "journal", "csv")).json()
    await ReportFile.filter(id=hopeless["id"]).update(attempts=3, next_check_at=clock.now())
    assert await service.sweep_files() == 1
    shown = (await finance.get(f"{FINANCE}/files/{hopeless['id']}")).json()
    assert (shown["status"], shown["problem"]) == ("failed", "given_up")
    assert (await content(finance, hopeless)).status_code == 410


async def test_a_report_that_is_too_long_and_a_right_that_was_lost(
    world: World, sandbox: SandboxControl, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = await world.home(bills=2)
    finance = await world.staff(home.company, Role.FINANCE)
    monkeypatch.setattr(service, "MAX_ROWS", 0)
    long = (await ask(finance, "arrears", "csv", "?by=room")).json()
    await drain()
    shown = (await finance.get(f"{FINANCE}/files/{long['id']}")).json()
    assert (shown["status"], shown["problem"]) == ("failed", "too_many_rows")
    lost = (await ask(finance, "arrears", "csv")).json()
    await StaffRole.filter(staff_id=finance.staff.id).delete()
    await drain()
    assert (await ReportFile.get(id=lost["id"])).problem == "not_permitted"
