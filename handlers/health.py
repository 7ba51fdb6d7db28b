"""Is the process alive; can it do its work."""

from handlers.route import Call, Out, Who, route
from kit.errors import Refusal
from services import health as service


class NotReady(Refusal):
    """``checks`` tells which."""

    status = 503
    zh = "系统正在启动或维护，请稍后再试。"
    en = "Not ready."
    retry_after_s = 5


class AliveOut(Out):
    status: str


class ReadyOut(Out):
    """Each check says ``ok`` or what is the matter."""

    status: str
    checks: dict[str, str]


@route("GET", "/healthz", who=Who.PUBLIC, tag="运行 operation", summary="进程存活", response=AliveOut)
async def healthz(call: Call) -> AliveOut:
    """Touches nothing: says only that the process answers."""
    return AliveOut(status="ok")


@route("GET", "/readyz", who=Who.PUBLIC, tag="运行 operation", summary="可以工作", response=ReadyOut,
       refusals=(NotReady,))  # fmt: skip
async def readyz(call: Call) -> ReadyOut:
    """Database answers, migrations are all applied, and a worker was seen within a minute."""
    checks = await service.checks()
    if any(result != "ok" for result in checks.values()):
        raise NotReady(checks=checks)
    return ReadyOut(status="ok", checks=checks)
