"""Keep one PostgreSQL for as long as the process that asked for it lives, and not a moment longer.

The keeper is PostgreSQL's parent and holds the read end of a pipe whose write end its master holds. When the master
closes it, or dies in whatever way, the read end says so, and the keeper stops PostgreSQL as pg_ctl's fast mode would.
Run as a file by `python -I`: it needs the standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from typing import Any

# What to send to the postmaster, and how long to wait for its end: fast shutdown, immediate shutdown, the end.
STOPS = ((signal.SIGINT, 25.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))


def keep(order: dict[str, Any]) -> int:
    """Start the ordered server, wait until it ends or must end, clean up, and return the exit code."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    asked = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    for number in (*asked, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    identity = {} if order["uid"] is None else {"user": order["uid"], "group": order["gid"], "extra_groups": []}
    try:
        server = subprocess.Popen(  # noqa: S603 - the order comes from our own parent
            order["command"],
            cwd="/",
            env=order["environment"],
            stdin=subprocess.DEVNULL,
            stdout=order["log_fd"],
            stderr=order["log_fd"],
            start_new_session=True,
            **identity,
        )
        ordered_end = False
        while server.poll() is None and not ordered_end:
            ready, _, _ = select.select([order["master_fd"], woken], [], [])
            signals = os.read(woken, 64) if woken in ready else b""
            ordered_end = order["master_fd"] in ready or any(number in signals for number in asked)
        for number, patience in STOPS:
            if server.poll() is not None:
                break
            server.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(patience)
        return 0 if ordered_end else server.returncode or 1
    finally:
        for folder in order["remove"]:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(keep(json.loads(sys.argv[1])))
