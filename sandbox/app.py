"""The sandbox as a Sanic application."""

import secrets
from typing import Any

from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import SanicException
from sanic.log import logger

from sandbox import guard, platform_key, refund
from sandbox.answer import json_answer, pay_refusal
from sandbox.bill_api import bill_api, bill_control
from sandbox.certificate import certificate_api, certificate_control
from sandbox.clock import Clock
from sandbox.config import Config
from sandbox.context import Context
from sandbox.control import control
from sandbox.decider import Decider
from sandbox.delivery import Courier
from sandbox.error import ApiError, ControlError, PayError
from sandbox.fault import Faults
from sandbox.merchant import Merchants
from sandbox.miniprogram import miniprogram
from sandbox.miniprogram_control import miniprogram_control
from sandbox.page import page
from sandbox.pay_api import pay_api
from sandbox.refund_api import refund_api
from sandbox.refund_control import refund_control
from sandbox.store import Store

App = Sanic[Any, Any]

# A family of routes that comes later is one more blueprint here.
BLUEPRINTS = (
    *(pay_api, refund_api, bill_api, certificate_api, miniprogram),
    *(control, refund_control, bill_control, certificate_control, miniprogram_control, page),
)


def create_app(config: Config) -> App:
    """A sandbox that opens its state when the server starts and closes it when the server stops."""
    # Several may live in one test process, and Sanic wants each name once.
    app = Sanic(f"sandbox-{secrets.token_hex(4)}", configure_logging=False)
    app.config.update(MOTD=False, ACCESS_LOG=False, REQUEST_MAX_SIZE=1_000_000)
    # The slowest answer on demand must fit; an unanswered request must not hold up the end.
    app.config.update(KEEP_ALIVE_TIMEOUT=30, RESPONSE_TIMEOUT=700, GRACEFUL_SHUTDOWN_TIMEOUT=2)
    for blueprint in BLUEPRINTS:
        app.blueprint(blueprint)
    app.add_route(healthz, "/healthz", methods=["GET"])
    app.register_middleware(guard.check, "request")
    app.exception(PayError)(on_pay_error)
    app.exception(ApiError)(on_api_error)
    app.exception(ControlError)(on_control_error)
    app.exception(Exception)(on_exception)

    async def begin(app: App) -> None:
        open_state(app, config)

    app.before_server_start(begin)
    app.after_server_stop(close_state)
    return app


def open_state(app: App, config: Config) -> None:
    """Have the app be the WeChat of a state file: what was due in it goes on."""
    context = app.ctx.sandbox = open_context(config)
    context.courier.start()
    context.decider.start(lambda seq: refund.decide(context, seq))


async def close_state(app: App) -> None:
    """Stop what is under way and close the state file; another may be opened then."""
    opened: Context | None = getattr(app.ctx, "sandbox", None)
    if opened is not None:
        app.ctx.sandbox = None
        await opened.decider.stop()
        await opened.courier.stop()
        opened.store.close()


def open_context(config: Config) -> Context:
    """Open the state file and put the parts together."""
    store = Store(config.state)
    clock = Clock(store, config.speed)
    merchants = Merchants(store)
    platform_key.ensure_certificate(store, clock.now())
    courier = Courier(config, store, clock, merchants)
    return Context(config, store, clock, merchants, Faults(store), courier, Decider(store, clock))


async def healthz(request: Request) -> HTTPResponse:
    """Up and serving."""
    return json_answer({"status": "ok"})


async def on_pay_error(request: Request, error: PayError) -> HTTPResponse:
    """A refusal in WeChat Pay's words."""
    return pay_refusal(error)


async def on_api_error(request: Request, error: ApiError) -> HTTPResponse:
    """A refusal in the mini-program API's words."""
    return json_answer(error.body())


async def on_control_error(request: Request, error: ControlError) -> HTTPResponse:
    """A refusal of a control route."""
    return json_answer(error.body(), status=error.status)


async def on_exception(request: Request, error: Exception) -> HTTPResponse:
    """Unknown paths and methods, and mistakes of our own."""
    is_pay = request.path.startswith("/v3/")
    if isinstance(error, SanicException) and error.status_code < 500:
        # WeChat Pay answers an unknown path or method without a body.
        if is_pay:
            return HTTPResponse(status=error.status_code)
        return json_answer({"code": "not_served", "message": str(error)}, status=error.status_code)
    logger.error("sandbox failed at %s %s", request.method, request.path, exc_info=error)
    if is_pay:
        return pay_refusal(PayError(500, "SYSTEM_ERROR", "系统异常，请用相同参数重新调用"))
    return json_answer({"code": "sandbox_failed", "message": "沙箱内部错误。"}, status=500)
