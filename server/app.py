"""The app factory: settings in, a Sanic application out."""

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog
from jinja2 import Environment, FileSystemLoader, select_autoescape
from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import MethodNotAllowed, PayloadTooLarge, SanicException
from sanic.exceptions import NotFound as NoSuchRoute

import handlers.api  # noqa: F401 - importing declares every route
import payments
from handlers.route import all_routes
from kit import crash_point
from kit.errors import BodyTooLarge, MalformedJson, NotFound, Refusal, all_refusals
from models import broadcast, redis, secret
from models.database import connect, disconnect
from models.unit_of_work import drain
from server import openapi
from server.dispatch import InternalFault, handle, refuse
from server.log import configure_logs
from server.metric import watched
from server.settings import Settings
from services import health, miniprogram, rate_limit

VERSION = "0.1.0"
MAX_BODY_BYTES = 9 * 1024 * 1024
_PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=select_autoescape(default=True)
)

App = Sanic[Any, Any]
log = structlog.get_logger()


class NoSuchMethod(Refusal):
    """The path exists, the method does not."""

    status = 405
    zh = "不支持这种请求方式。"
    en = "The method is not allowed here."


def configure(settings: Settings) -> None:
    """Give every room what it needs to know of the settings; for the API, the worker and the command line alike."""
    crash_point.arm(settings.crash_at if settings.dev else None)
    secret.configure(settings.keyring())
    payments.configure(payments.PaymentSettings(settings.pay_base(), settings.callback_base(), dev=settings.dev))
    miniprogram.configure(settings.api_base())
    redis.configure(settings.redis())
    rate_limit.configure(counted=settings.rate_limits == "on")


async def open_resources(settings: Settings) -> None:
    """Open the database pool of this process."""
    await connect(settings.require_database_url(), pool_size=settings.pool_size)


async def close_resources() -> None:
    """Finish what is under way, then close pool and connections."""
    left = await drain()
    if left:
        log.error("ended_in_the_middle", units_of_work=left)
    await payments.close()
    await miniprogram.close()
    await redis.close()
    await disconnect()


def create_app(settings: Settings, *, own_database: bool = True) -> App:
    """The API. With ``own_database`` false the caller opens and closes the pool (tests do)."""
    app: App = Sanic("linli", configure_logging=False)
    app.config.FALLBACK_ERROR_FORMAT = "json"
    app.config.REQUEST_MAX_SIZE = MAX_BODY_BYTES
    app.config.REQUEST_TIMEOUT = 30
    app.config.RESPONSE_TIMEOUT = 90
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = 20
    app.config.ACCESS_LOG = False
    app.config.OAS = False
    app.ctx.trusted_proxies = settings.trusted_proxies
    for declared in all_routes():
        app.add_route(
            handle(declared),
            declared.path.replace("{", "<").replace("}", ":str>"),
            methods=[declared.method],
            name=openapi.operation_id(declared),
            strict_slashes=True,
        )
    _add_documents(app)
    _add_errors(app)
    if own_database:
        _own_database(app, settings)
    return app


def _own_database(app: App, settings: Settings) -> None:
    """Open everything when the process begins; at its end first say so, then finish what was begun, then close."""
    watching = AsyncExitStack()

    async def begin(_app: App) -> None:
        configure_logs(settings.log_level)
        configure(settings)
        await open_resources(settings)
        url, host, port = settings.require_database_url(), settings.metrics_host, settings.metrics_port
        broadcast.start(url)
        await watching.enter_async_context(watched("api", VERSION, url, host, port))
        log.info("started", process="api", version=VERSION, pid=os.getpid(), port=settings.port)

    async def leave(_app: App) -> None:
        """Whoever sends requests here reads /readyz and goes elsewhere; until then all are answered as ever."""
        health.begin_to_leave()
        log.info("leaving", process="api", drain_s=settings.draining_s())
        await asyncio.sleep(settings.draining_s())

    async def end(_app: App) -> None:
        await watching.aclose()
        await broadcast.stop()
        await close_resources()
        log.info("ended", process="api")

    app.before_server_start(begin)
    app.before_server_stop(leave)
    app.after_server_stop(end)


def _add_documents(app: App) -> None:
    document = openapi.document(all_routes(), VERSION)

    async def openapi_json(_request: Request) -> HTTPResponse:
        from sanic.response import json

        return json(document)

    async def docs(_request: Request) -> HTTPResponse:
        by_tag: dict[str, list[Any]] = {}
        for declared in all_routes():
            by_tag.setdefault(declared.tag, []).append(declared)
        page = _PAGES.get_template("docs.html").render(
            by_tag=sorted(by_tag.items()), document=document, refusals=all_refusals(), version=VERSION
        )
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'"}
        return HTTPResponse(page, content_type="text/html; charset=utf-8", headers=headers)

    app.add_route(openapi_json, "/openapi.json", methods=["GET"])
    app.add_route(docs, "/docs", methods=["GET"])


def _add_errors(app: App) -> None:
    """What the web server itself refuses, in our own words."""

    async def on_error(request: Request, error: Exception) -> HTTPResponse:
        if isinstance(error, NoSuchRoute):
            return refuse(request, NotFound())
        if isinstance(error, MethodNotAllowed):
            return refuse(request, NoSuchMethod())
        if isinstance(error, PayloadTooLarge):
            return refuse(request, BodyTooLarge(limit_bytes=MAX_BODY_BYTES))
        if isinstance(error, SanicException) and error.status_code < 500:
            return refuse(request, MalformedJson())
        return refuse(request, InternalFault(request_id=""))

    app.error_handler.add(Exception, on_error)
