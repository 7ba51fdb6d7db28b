"""What every route needs, in one place."""

import re
from dataclasses import dataclass

from sanic import Request

from sandbox.clock import Clock
from sandbox.config import Config
from sandbox.decider import Decider
from sandbox.delivery import Courier
from sandbox.fault import Faults
from sandbox.merchant import Merchants
from sandbox.store import Store

OPENID = re.compile(r"[0-9A-Za-z_-]{1,128}")
APPID = re.compile(r"[0-9A-Za-z_-]{1,32}")


@dataclass(frozen=True)
class Context:
    """The opened sandbox."""

    config: Config
    store: Store
    clock: Clock
    merchants: Merchants
    faults: Faults
    courier: Courier
    decider: Decider

    def wake(self) -> None:
        """Let those who wait look at the clock again: it was moved."""
        self.courier.wake()
        self.decider.wake()


def context_of(request: Request) -> Context:
    """The sandbox that serves this request."""
    context: Context = request.app.ctx.sandbox
    return context
