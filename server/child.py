"""What each process under the supervisor does first: see to it that it does not outlive the supervisor."""

from __future__ import annotations

import os
import signal
import threading
import time

PARENT_PIPE = "LINLI_PARENT_PIPE"
GRACE_S = 10.0


def end_with_parent(grace_s: float = GRACE_S) -> None:
    """End this process when the supervisor ends, even by kill -9.

    The supervisor holds the write end of a pipe and never writes; LINLI_PARENT_PIPE names the read end here. Its end of
    file means that the supervisor is gone: this process then sends itself SIGTERM, to end as it would on request, and
    after `grace_s` seconds is killed with all that it started. Without the variable nothing happens. The variable is
    removed, so that what this process starts does not take the number for a pipe of its own.
    """
    descriptor = os.environ.pop(PARENT_PIPE, "")
    if descriptor:
        pipe = int(descriptor)
        os.set_inheritable(pipe, False)
        threading.Thread(target=_wait_for_end, args=(pipe, grace_s), name="end-with-parent", daemon=True).start()


def _wait_for_end(pipe: int, grace_s: float) -> None:
    while os.read(pipe, 1):
        continue
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
