"""``linli up``: the plan that the supervisor carries out."""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

from server.embedded_postgres import EmbeddedPostgres
from server.settings import Settings
from server.supervisor import Child, Step, port_answers, supervise


def run_all(settings: Settings) -> int:
    """Run everything on this machine until a signal; the exit code."""
    if not settings.dev:
        print("linli: `up` is for LINLI_ENV=dev; in production run serve and worker (docs/production.md)")
        return 1

    def guide() -> str:
        from services.demo import demo_guide

        return demo_guide(json.loads((settings.state / "demo.json").read_text()))

    return supervise(
        settings.state,
        lambda server: _plan(settings, server),
        guide,
        ports={"LINLI_PORT": settings.port, "LINLI_SANDBOX_PORT": settings.sandbox_port},
        database_url=settings.database_url.get_secret_value() if settings.database_url else None,
    )


def _plan(settings: Settings, server: EmbeddedPostgres | None) -> Iterator[Step | Child]:
    environment = {"LINLI_ENV": "dev", "LINLI_STATE": str(settings.state.absolute())}
    yield Step("migrate", _linli("migrate"), environment)
    if server is not None:
        environment |= {"DATABASE_URL": server.url("linli", "linli_app")}
    yield Child("sandbox", _linli("sandbox"), environment, ready=lambda: port_answers(settings.sandbox_port))
    yield Step("demo", _linli("demo"), environment)
    api = f"http://127.0.0.1:{settings.port}"
    yield Child("api", _linli("serve"), environment, ready=_answers_200(f"{api}/healthz"))
    yield Child("worker", _linli("worker"), environment, ready=_answers_200(f"{api}/readyz"))


def _linli(command: str) -> list[str]:
    return [sys.executable, "-m", "server.cli", command]


def _answers_200(url: str) -> Callable[[], bool]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask() -> bool:
        try:
            with opener.open(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    return ask
