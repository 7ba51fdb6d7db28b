"""A hundred thousand lines in a file: what memory it takes, and that a worker's other jobs go on meanwhile."""

import asyncio
import io
import time
from typing import Any

import asyncpg
import psutil
import pytest
from openpyxl import load_workbook

from models.access import Role
from models.ledger import Entry
from models.report_file import ReportFile, ReportFormat
from services import report_file as service
from services.finance_report import Selection
from services.report_lines import JOURNAL, Request
from services.session import staff_actor
from tests.conftest import Drain, SandboxControl
from tests.finance_town import paid
from tests.world import World

LINES = 100_000
_MORE = """
INSERT INTO entries (community_id, legal_entity_id, kind, source_id, leg, debit_account_id, credit_account_id,
    amount_fen, occurred_at, posted_at, posted_on)
SELECT community_id, legal_entity_id, 'adjustment', gen_random_uuid(), 0, debit_account_id, credit_account_id, n,
    occurred_at, posted_at, posted_on FROM entries CROSS JOIN generate_series(1, $1::int) n
"""


@pytest.mark.parametrize("form", ReportFormat)
async def test_a_hundred_thousand_lines(
    world: World, sandbox: SandboxControl, drain: Drain, owner: asyncpg.Connection, form: ReportFormat
) -> None:
    home = await world.home()
    await paid(home, sandbox, drain, home.bills[0])
    await owner.execute(_MORE, LINES - 1)
    finance = await world.staff(home.company, Role.FINANCE)
    actor = await staff_actor(finance.staff.id, home.company.id)
    file = await service.request_file(actor, JOURNAL, Request("", Selection()), form)

    process = psutil.Process()
    before = process.memory_info().rss
    longest, peak = 0.0, 0

    async def others() -> None:
        nonlocal longest, peak
        while True:
            started = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - started)
            peak = max(peak, process.memory_info().rss - before)

    beside = asyncio.create_task(others())
    started = time.monotonic()
    await service.make_file(file.id)
    spent_s = time.monotonic() - started
    beside.cancel()

    made: Any = await ReportFile.get(id=file.id)
    body = bytes(made.body)
    print(f"{form}: {spent_s:.1f} s, {len(body) / 2**20:.1f} MiB, peak {peak / 2**20:.1f} MiB,"
          f" others waited {longest * 1000:.0f} ms at most")  # fmt: skip
    assert made.row_count == LINES
    # A few copies of the file itself pass through (asyncpg sends it whole); of the lines only some at a time do: all
    # of them as rows and cells take more than 150 MiB.
    assert peak < 32 * 2**20 + 4 * len(body)
    total = sum(await Entry.all().values_list("amount_fen", flat=True))  # type: ignore[arg-type]
    if form is ReportFormat.CSV:
        text = body.decode("utf-8-sig").splitlines()
        assert len(text) == LINES + 2 and f"{total / 100:.2f}" in text[-1]
    else:
        sheet = load_workbook(io.BytesIO(body), read_only=True).worksheets[0]
        *_, last = sheet.iter_rows(values_only=True)
        assert sheet.max_row == LINES + 2 or sheet.max_row is None
        assert last[8] == pytest.approx(total / 100)
