"""From a declared route to a web server's handler: read, guard, validate, remember, call, render."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from uuid import UUID

import asyncpg
import structlog
from pydantic import BaseModel, ValidationError
from sanic import HTTPResponse, Request
from tortoise.exceptions import DBConnectionError

from handlers.route import Call, Reply, Route, Who
from kit import strict_json
from kit.errors import BodyTooLarge, MalformedJson, NotFound, NotSignedIn, Refusal, UnsupportedMediaType
from kit.ids import new_code
from models.access import Actor, ActorKind
from models.audit import request_id
from models.idempotency import Claim, working_for
from models.metric import count_request
from models.pool import DatabaseBusy, urgent
from models.unit_of_work import finish
from server.address import origin
from server.problem import invalid_input, problem
from services import idempotency, rate_limit
from services.health import is_leaving
from services.rate_limit import Limit, Per
from services.session import SecondFactorRequired, authenticate

log = structlog.get_logger()

_NOBODY = Actor(kind=ActorKind.RESIDENT, id=None)
_ALLOWED = {Who.RESIDENT: {ActorKind.RESIDENT}, Who.STAFF: {ActorKind.STAFF}, Who.ANY: set(ActorKind)}
_DATABASE_BUSY = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError, asyncpg.DeadlockDetectedError)
# What a server says that stops, starts, or has no room, and what the driver says when it is gone in mid-sentence.
_DATABASE_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,
    DBConnectionError,
    OSError,
)
_SLOW_MS = 500
_LONGEST_ID = 64


class InternalFault(Refusal):
    """A fault of ours. The log has it under the request's id."""

    status = 500
    zh = "系统出错了，请稍后再试。如果反复出现，请把编号告诉物业：{request_id}"
    en = "Something went wrong on our side."


class DatabaseAway(Refusal):
    """The database went away, perhaps in the middle of the work: what was being done may have been committed."""

    status = 503
    zh = "系统暂时不可用，请稍后再试。如果刚才的操作已经生效，重试不会重复扣款。"
    en = "The system is away for a moment; try again shortly. Repeating what was done already does no harm."
    retry_after_s = 3


class AnswerLate(Refusal):
    """The work takes longer than anybody waits. It goes on, and a repeat finds what became of it."""

    status = 503
    zh = "系统响应较慢，操作可能已经生效，请稍后刷新查看，重试不会重复扣款。"
    en = "This takes longer than usual and may yet be done; look again shortly. You will not be charged twice."
    retry_after_s = 5


def language_of(request: Request) -> str:
    """``en`` when the client asks for English first, else ``zh``."""
    return "en" if request.headers.get("accept-language", "").lower().startswith("en") else "zh"


def handle(route: Route) -> Callable[..., Coroutine[Any, Any, HTTPResponse]]:
    """The web server's handler of a declared route."""

    async def answer(request: Request, **path: str) -> HTTPResponse:
        started = time.perf_counter()
        code = request.headers.get("x-request-id", "")
        token = request_id.set(code if code.isalnum() and len(code) <= 64 else new_code(12))
        try:
            response = await _answer_or_refuse(route, request, path)
            response.headers["X-Request-Id"] = request_id.get()
            if is_leaving():
                _end_after_this(request)
            _note(route, response.status, started)
            return response
        finally:
            request_id.reset(token)

    return answer


def _end_after_this(request: Request) -> None:
    """Say ``Connection: close``, so that the next request of this client goes to a process that stays."""
    http: Any = request.stream
    http.keep_alive = False


def _note(route: Route, status: int, started: float) -> None:
    """One line a request; on the hot path of good answers only the slow ones. Every answer is counted."""
    took_s = time.perf_counter() - started
    count_request(route.method, route.path, status, took_s)
    took_ms = int(took_s * 1000)
    if status >= 400 or route.method != "GET" or took_ms > _SLOW_MS:
        log.info("request", method=route.method, route=route.path, status=status, took_ms=took_ms)


async def _answer_or_refuse(route: Route, request: Request, path: Mapping[str, str]) -> HTTPResponse:
    urgent.set(route.urgent)  # for every request: those of one connection share a context
    try:
        async with asyncio.timeout(route.answer_within_s):
            return await _answer(route, request, path)
    except Refusal as refusal:
        return refuse(request, refusal)
    except TimeoutError:
        log.error("answer_late", route=route.path, bound_s=route.answer_within_s)
        return refuse(request, AnswerLate())
    except _DATABASE_BUSY as error:
        log.warning("database_busy", route=route.path, kind=type(error).__name__)
        return refuse(request, DatabaseBusy())
    except Exception as error:
        if _is_away(error):
            # One line, not a traceback for every request of an outage.
            log.error("database_away", route=route.path, kind=type(error).__name__, said=str(error)[:200])
            return refuse(request, DatabaseAway())
        log.exception("fault", route=route.path)
        return refuse(request, InternalFault(request_id=request_id.get()))


def _is_away(error: Exception) -> bool:
    # An InterfaceError is a fault of ours, unless it says that the connection is closed.
    closed = isinstance(error, asyncpg.InterfaceError) and "clos" in str(error)
    return closed or isinstance(error, _DATABASE_AWAY)


def refuse(request: Request, refusal: Refusal) -> HTTPResponse:
    """The rendered refusal."""
    body, status, headers = problem(refusal, language_of(request), request_id.get())
    return HTTPResponse(body, status=status, headers=headers, content_type=headers.pop("Content-Type"))


async def _answer(route: Route, request: Request, path: Mapping[str, str]) -> HTTPResponse:
    if any(len(value) > _LONGEST_ID for value in path.values()):
        raise NotFound()  # every part of a path is an id, and none is as long as this
    actor = await _guard(route, request)
    call = Call(
        actor=actor,
        body=_body(route, request),
        query=_query(route, request),
        path=path,
        headers={name.lower(): value for name, value in request.headers.items()},
        raw=request.body,
        address=origin(request.ip, request.headers.getall("x-forwarded-for", []), request.app.ctx.trusted_proxies),
        language=language_of(request),
    )
    for limit in route.limits:
        await rate_limit.take(limit, _subject(limit, call))
    if route.replay is None:
        return render(route, await route.handler(call))
    return render(route, await _once(route, call, path, request))


def _subject(limit: Limit, call: Call) -> str:
    """Who shares the limit that a route is declared with."""
    if limit.per is Per.ADDRESS:
        return call.address
    if limit.per is Per.ACCOUNT:
        return str(call.body.username).lower()
    assert limit.per is Per.CALLER, f"{limit.name} is not for a route"
    return call.actor.label()


async def _guard(route: Route, request: Request) -> Actor:
    if route.who is Who.PUBLIC:
        return _NOBODY
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise NotSignedIn()
    actor = await authenticate(token.strip())
    if actor.kind not in _ALLOWED[route.who]:
        raise NotFound()  # the other side's routes do not exist for this one
    if actor.enrolment_needed and not route.enrolling:
        raise SecondFactorRequired()
    return actor


def _body(route: Route, request: Request) -> Any:
    if len(request.body) > route.max_bytes:
        raise BodyTooLarge(limit_bytes=route.max_bytes)
    if route.body is None:
        return None
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType(expected="application/json")
    document = strict_json.loads(request.body)
    if not isinstance(document, dict):
        raise MalformedJson()
    return _validated(route.body, document)


def _query(route: Route, request: Request) -> Any:
    given = {name: values[-1] for name, values in request.args.items()}
    if route.query is None:
        return None
    return _validated(route.query, given)


def _validated(model: type[BaseModel], document: Any) -> BaseModel:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise invalid_input(error) from None
    except RecursionError:
        raise MalformedJson() from None


async def _once(route: Route, call: Call, path: Mapping[str, str], request: Request) -> Any:
    """Run a route that takes an Idempotency-Key: once for the key, then the same resource again."""
    # A client that hangs up must not leave the key free while the work goes on: the whole of it is finished.
    return await finish(_claim_and_work(route, call, path, request))


async def _claim_and_work(route: Route, call: Call, path: Mapping[str, str], request: Request) -> Any:
    assert route.replay is not None
    # The path is part of what was asked: the same key on another bill is another request.
    concrete = route.path.format(**path)
    key_row, resource_id = await idempotency.claim(
        call.actor, route.method, concrete, request.headers.get("idempotency-key"), request.body
    )
    if resource_id is not None:
        return await route.replay(call, resource_id)
    claim = Claim(key_row, route.makes)
    try:
        with working_for(claim):
            made = await route.handler(call)
    except BaseException:
        # A 4xx is answered again by the rules and a 5xx may succeed: neither is remembered.
        await idempotency.release(key_row)
        raise
    if not claim.noted:
        await idempotency.remember(key_row, UUID(str(made.id)))
    return made


def render(route: Route, made: Any) -> HTTPResponse:
    """A handler's result as an answer: a model as JSON, a Reply as it says, nothing as 204."""
    if isinstance(made, Reply):
        return HTTPResponse(
            made.body or None, status=made.status, headers=dict(made.headers), content_type=made.content_type
        )
    if made is None:
        return HTTPResponse(status=204)
    assert isinstance(made, BaseModel), f"{route.path} must answer with a model"
    return HTTPResponse(
        made.model_dump_json(), status=route.status, headers={"Cache-Control": "no-store"},
        content_type="application/json",
    )  # fmt: skip
