"""报表导出: somebody of finance asks for a report as a file; a job makes it, and it is theirs for some days."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from uuid import UUID

import structlog

from kit import clock
from kit.errors import Refusal
from kit.paging import Page
from models import audit
from models.access import Act, Actor, require_somewhere
from models.base import get_visible
from models.job import enqueue_tx
from models.report_file import REPORT_FILE_MACHINE, ReportFile, ReportFileState, ReportFormat
from models.staff import Staff
from models.unit_of_work import unit_of_work
from services.listing import newest_first
from services.report_lines import Batch, Request, lines_of, title_of
from services.report_sheet import Sheet, new_sheet
from services.session import staff_actor

KEPT_DAYS = 3
MAX_ROWS = 500_000
_AT_ONCE = 3
_LEASE_S = 120
_MAX_ATTEMPTS = 3

# All but the content, which may be many megabytes.
_SHOWN = [name for name in ReportFile._meta.fields_map if name != "body"]

log = structlog.get_logger()


class TooManyReportFiles(Refusal):
    """Three at a time are made for one person."""

    zh = "您已有3份报表正在生成，请等其中一份完成后再申请。"
    en = "Three of your files are being made; wait for one of them."


class ReportFileNotReady(Refusal):
    zh = "报表还在生成，请稍候再下载。"
    en = "The file is still being made; fetch it in a moment."


class ReportFileGone(Refusal):
    """Too old, or it could not be made."""

    status = 410
    zh = "这份报表已经失效或未能生成，请重新申请。"
    en = "This file is no longer there, or could not be made; ask for a new one."


class _TooManyRows(Exception):
    pass


@unit_of_work
async def request_file(actor: Actor, report: str, request: Request, wanted: ReportFormat) -> ReportFile:
    """Have a report made as a file. Refuses NotPermitted as the report does, and TooManyReportFiles."""
    require_somewhere(actor, Act.JOURNAL_READ)
    staff = await Staff.select_for_update().get(id=actor.id)  # two requests at once are counted one after the other
    if await ReportFile.filter(staff_id=staff.id, state=ReportFileState.QUEUED).count() >= _AT_ONCE:
        raise TooManyReportFiles()
    file = await ReportFile.create(
        organization_id=staff.organization_id,
        staff_id=staff.id,
        report=report,
        format=wanted,
        request=request.document(),
        next_check_at=clock.now() + timedelta(seconds=_LEASE_S),  # the job comes first, the sweep where it did not
    )
    await _record_tx(actor, "report_file.request", file)
    await enqueue_tx("make_report_file", {"report_file_id": str(file.id)})
    return file


async def get_file(actor: Actor, file_id: UUID) -> ReportFile:
    """One of the caller's own files, without its content; NotFound otherwise."""
    return await get_visible(ReportFile.visible_to(actor).only(*_SHOWN), file_id)


async def list_files(actor: Actor, cursor: str | None, limit: int) -> Page[ReportFile]:
    """The caller's own files, newest first."""
    return await newest_first(ReportFile.visible_to(actor).only(*_SHOWN), cursor, limit)


@unit_of_work
async def fetch_file(actor: Actor, file_id: UUID) -> tuple[ReportFile, bytes]:
    """A file that is ready; that it was fetched is on record. Refuses NotFound, NotPermitted who may no longer read any
    journal, ReportFileNotReady, ReportFileGone."""
    file = await get_visible(ReportFile.visible_to(actor), file_id)
    require_somewhere(actor, Act.JOURNAL_READ)
    if file.state is ReportFileState.QUEUED:
        raise ReportFileNotReady()
    if file.body is None or file.next_check_at is None or file.next_check_at <= clock.now():
        raise ReportFileGone()
    await _record_tx(actor, "report_file.fetch", file)
    return file, file.body


async def make_file(file_id: UUID) -> ReportFileState | None:
    """Make a queued file; its state afterwards, None when there was nothing to do. A run that ended in the middle is
    taken up again by the sweep; after three it has failed."""
    file = await _take(file_id)
    if file is None:
        return None
    try:
        body, count = await _write(file)
    except Refusal as refusal:
        return await _fail(file_id, refusal.code)
    except _TooManyRows:
        return await _fail(file_id, "too_many_rows")
    return await _keep(file_id, body, count)


async def _write(file: ReportFile) -> tuple[bytes, int]:
    """The file and how many lines it has. Writing is work for a thread: the other jobs go on meanwhile."""
    actor = await staff_actor(file.staff_id, file.organization_id)
    sheet = new_sheet(file.format, title_of(file.report))
    making = lines_of(actor, file.report, Request.read(file.request))
    try:
        async with aclosing(making):
            done = await _fill(file.id, sheet, making)
        return await asyncio.to_thread(sheet.finish), done
    finally:
        sheet.close()


async def _fill(file_id: UUID, sheet: Sheet, making: AsyncIterator[Batch]) -> int:
    done = 0
    async for batch in making:
        if batch.row_count > MAX_ROWS:
            raise _TooManyRows
        await asyncio.to_thread(sheet.add, batch.lines)
        if batch.row_count:
            done += len(batch.lines)
            await _note(file_id, done, batch.row_count)
    return done


@unit_of_work
async def _take(file_id: UUID) -> ReportFile | None:
    """Lease a queued file, unless somebody is at it."""
    file = await ReportFile.select_for_update().get_or_none(id=file_id)
    if file is None or file.state is not ReportFileState.QUEUED or file.next_check_at is None:
        return None
    if file.attempts and file.next_check_at > clock.now():
        return None
    if file.attempts >= _MAX_ATTEMPTS or (await Staff.get(id=file.staff_id)).disabled_at is not None:
        await _fail_tx(file, "given_up")
        return None
    file.attempts += 1
    file.rows_done = 0
    file.next_check_at = clock.now() + timedelta(seconds=_LEASE_S)
    await file.save(update_fields=["attempts", "rows_done", "next_check_at"])
    return file


@unit_of_work
async def _note(file_id: UUID, done: int, row_count: int) -> None:
    """How far it is; whoever makes it keeps its lease by that."""
    lease = clock.now() + timedelta(seconds=_LEASE_S)
    await ReportFile.filter(id=file_id, state=ReportFileState.QUEUED).update(
        rows_done=done, row_count=row_count, next_check_at=lease
    )


@unit_of_work
async def _keep(file_id: UUID, body: bytes, count: int) -> ReportFileState:
    file = await ReportFile.select_for_update().get(id=file_id)
    if file.state is ReportFileState.QUEUED:  # else made twice
        now = clock.now()
        assigned = REPORT_FILE_MACHINE.enter(
            file, ReportFileState.READY, body=body, size_bytes=len(body), row_count=count, rows_done=count,
            ready_at=now, next_check_at=now + timedelta(days=KEPT_DAYS),
        )  # fmt: skip
        await file.save(update_fields=list(assigned))
    return file.state


@unit_of_work
async def _fail(file_id: UUID, problem: str) -> ReportFileState:
    file = await ReportFile.select_for_update().get(id=file_id)
    if file.state is ReportFileState.QUEUED:
        await _fail_tx(file, problem)
    return file.state


async def _fail_tx(file: ReportFile, problem: str) -> None:
    assigned = REPORT_FILE_MACHINE.enter(file, ReportFileState.FAILED, problem=problem, next_check_at=None)
    await file.save(update_fields=list(assigned))
    log.error("report_file_failed", report_file_id=str(file.id), problem=problem)


async def sweep_files(limit: int = 20) -> int:
    """Let files go whose days are over, and make those that a process left in the middle; how many were taken up."""
    gone = await _expire(limit)
    due = ReportFile.filter(state=ReportFileState.QUEUED, next_check_at__lte=clock.now()).order_by("id").limit(limit)
    ids = await due.values_list("id", flat=True)
    for file_id in ids:
        try:
            await make_file(file_id)  # type: ignore[arg-type]
        except Exception:  # one file's trouble must not keep the others waiting; its lease runs out
            log.exception("report_file_not_made", report_file_id=str(file_id))
    return gone + len(ids)


@unit_of_work
async def _expire(limit: int) -> int:
    due = ReportFile.filter(state=ReportFileState.READY, next_check_at__lte=clock.now()).order_by("id").limit(limit)
    found = await due.only(*_SHOWN).select_for_update(skip_locked=True)
    for file in found:
        assigned = REPORT_FILE_MACHINE.enter(file, ReportFileState.EXPIRED, body=None, next_check_at=None)
        await file.save(update_fields=list(assigned))
    return len(found)


async def _record_tx(actor: Actor, act: str, file: ReportFile) -> None:
    await audit.record_tx(
        actor,
        act,
        "report_file",
        file.id,
        organization_id=file.organization_id,
        after={"report": file.report, "format": file.format.value, "request": file.request},
    )
