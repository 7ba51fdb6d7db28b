"""Named places at which a process can be made to end as if it had been killed there.

Before and after every commit and every outbound call there is one; the two doors (``models/unit_of_work.py`` and the
clients of WeChat) place them, so that whatever is written later has them too. Nothing happens unless one is armed,
which only a development process does (``LINLI_CRASH_AT``).
"""

import os
import re
import sys
from dataclasses import dataclass

EXIT_CODE = 137  # what a shell says of a process that was killed by signal 9
_FORM = re.compile(r"([\w.-]+\.(?:before|after)_(?:commit|call))(?::([1-9]\d{0,5}))?")


@dataclass
class _Armed:
    name: str
    passages: int  # how many are left, the last of which is the end


_armed: _Armed | None = None


def arm(where: str | None) -> None:
    """End this process at its n-th passage of ``name:n`` (without a number: the first); None disarms.

    Raises ValueError for text of another form. A name that is never passed does nothing.
    """
    global _armed
    if where is None:
        _armed = None
        return
    found = _FORM.fullmatch(where)
    if found is None:
        raise ValueError(
            "a crash point is written as <place>.before_commit:3 (or after_commit, before_call, after_call)"
        )
    _armed = _Armed(found[1], int(found[2] or 1))


def passing(name: str) -> None:
    """The process comes by here; if this is the passage that was armed, it ends at once: nothing is flushed, closed or
    rolled back."""
    if _armed is None or _armed.name != name:
        return
    _armed.passages -= 1
    if _armed.passages == 0:
        sys.stderr.write(f"crash point {name}\n")
        sys.stderr.flush()
        os._exit(EXIT_CODE)


def place_of_call(client: str, method: str, target: str) -> str:
    """The name of an outbound call: the client's, its method and the last word of its path, our numbers left out."""
    words = [part for part in target.partition("?")[0].split("/") if part.isascii() and part.replace("-", "").isalpha()]
    return f"{client}.{method}.{words[-1]}"
