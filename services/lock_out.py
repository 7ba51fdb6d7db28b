"""The lock on a member of staff's account after wrong passwords and wrong codes.

It stands in the account's row, where no restart and no silence of another machine lifts it; managers see it and can.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

from kit import clock
from models.staff import Staff
from models.unit_of_work import row, unit_of_work

MAX_WRONG = 5
LOCKED_FOR = timedelta(minutes=15)

# Every attempt is counted before its password or code is looked at, so that of many at once only five are tried. A
# whole sign-in sets the count back. A disabled or locked account is not found, as an unknown one is not.
_COUNT = """
UPDATE staff SET
    failed_count = CASE WHEN locked_until <= $2 THEN 1 ELSE failed_count + 1 END,
    locked_until = CASE WHEN locked_until IS NULL AND failed_count + 1 >= $3 THEN $4::timestamptz END
WHERE {who} = $1 AND disabled_at IS NULL AND (locked_until IS NULL OR locked_until <= $2)
RETURNING id, password_hash, failed_count
"""
_COUNT_BY_NAME, _COUNT_BY_ID = _COUNT.format(who="username"), _COUNT.format(who="id")


@unit_of_work
async def count_attempt(who: str | UUID) -> dict[str, Any] | None:
    """Count an attempt on the account of that user name or id: its id and password hash; None when there is none that
    may be tried now."""
    now = clock.now()
    return await row(_COUNT_BY_ID if isinstance(who, UUID) else _COUNT_BY_NAME, who, now, MAX_WRONG, now + LOCKED_FOR)


async def forgive_tx(staff: Staff) -> None:
    """Afterwards nothing is counted and the account is not locked. The caller has locked the row."""
    staff.failed_count, staff.locked_until = 0, None
    await staff.save(update_fields=["failed_count", "locked_until"])


async def take_back_tx(staff: Staff) -> None:
    """Afterwards one attempt less is counted: it was right, and what was wrong before it still counts. A password alone
    does not forgive wrong codes, or whoever has it could try codes without end. The caller has locked the row."""
    staff.failed_count = max(staff.failed_count - 1, 0)
    if staff.failed_count < MAX_WRONG:
        staff.locked_until = None
    await staff.save(update_fields=["failed_count", "locked_until"])
