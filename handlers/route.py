"""One declaration per route: it validates, guards and documents.

A handler is declared with what it takes, gives and may refuse; the process makes the web server's routes, the session
guard and the OpenAPI document from the same declaration, so none of them can say something else.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from kit.errors import NotFound, Refusal
from kit.ids import parse_id
from kit.money import MAX_FEN
from kit.paging import DEFAULT_LIMIT, MAX_LIMIT
from models.access import Actor
from services.rate_limit import Limit

Item = TypeVar("Item")


class Who(StrEnum):
    """Whose session a route takes."""

    PUBLIC = "public"  # none
    RESIDENT = "resident"
    STAFF = "staff"
    ANY = "any"  # either


class Body(BaseModel):
    """Base of request bodies: unknown fields are refused, text is trimmed."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, frozen=True)


class Query(BaseModel):
    """Base of query strings: unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PageQuery(Query):
    """Cursor paging."""

    cursor: str | None = Field(None, max_length=500, description="从上一页的 next_cursor 继续")
    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)


class Out(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(frozen=True)


class PageOut(Out, Generic[Item]):
    """A page of a list."""

    items: list[Item]
    next_cursor: str | None = Field(description="null: this is the last page")


Id = Annotated[str, Field(description="Opaque id", examples=["01982c3e-7b1a-7c3e-9d54-0f1e2d3c4b5a"])]
"""An id in an answer. In a body it is any text: one that is not an id is simply not found."""

Fen = Annotated[int, Field(description="Amount in fen (1/100 yuan)", examples=[25068])]
"""An amount in an answer."""

PositiveFen = Annotated[int, Field(strict=True, gt=0, le=MAX_FEN, description="Amount in fen, at least 1")]
"""An amount in a body: a whole, positive number, never text or a fraction."""


@dataclass(frozen=True)
class Call:
    """A request as its handler sees it: validated and guarded."""

    actor: Actor
    body: Any = None
    query: Any = None
    path: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes = b""
    address: str = ""  # from where it comes, as far as limits go (server/address.py)
    language: str = "zh"

    def id(self, name: str) -> UUID:
        """The id in the path; NotFound for text that is not one, in the words of an unknown id."""
        parsed = parse_id(self.path[name])
        if parsed is None:
            raise NotFound()
        return parsed


@dataclass(frozen=True)
class Reply:
    """An answer that is not JSON: a page, a file, or nothing (204)."""

    body: bytes = b""
    status: int = 200
    content_type: str = "text/html; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True)
class Route:
    """A declared route. ``path`` writes parameters as ``{name}``. ``replay`` (given exactly for routes that take an
    Idempotency-Key) renders the resource that an earlier request with the same key made. ``makes`` is the noun under
    which that resource is audited: in the same transaction the key learns its id, so that not even a crash right after
    the commit makes a second one. Without it the id is noted afterwards, and a repeat after a crash runs the handler
    again, which must then find by itself what was committed."""

    method: str
    path: str
    summary: str
    handler: Handler
    who: Who
    tag: str
    body: type[BaseModel] | None = None
    query: type[Query] | None = None
    response: Any = None
    status: int = 200
    refusals: Sequence[type[Refusal]] = ()
    replay: Callable[[Call, UUID], Awaitable[Any]] | None = None
    makes: str = ""
    max_bytes: int = 64 * 1024
    answer_within_s: int = 30  # then the caller is told to look again; what is under way goes on to its end
    urgent: bool = False  # does not wait for a database connection behind the others
    raw_type: str | None = None  # a body that is not JSON: its content type
    content_type: str = "application/json"  # of the answer
    waits: bool = False  # may answer 202 with Retry-After until what was asked for is made
    description: str = ""
    limits: Sequence[Limit] = ()  # counted in this order; the first that is used up refuses
    enrolling: bool = False  # open to staff who still have to set their second factor up


_ROUTES: dict[tuple[str, str], Route] = {}


def route(method: str, path: str, *, who: Who, summary: str, tag: str, **options: Any) -> Callable[[Handler], Handler]:
    """Declare a route; the options are the fields of Route. The handler's docstring becomes its description."""

    def declare(handler: Handler) -> Handler:
        declared = Route(
            method=method,
            path=path,
            summary=summary,
            handler=handler,
            who=who,
            tag=tag,
            description=" ".join((handler.__doc__ or "").split()),
            **options,
        )
        if (method, path) in _ROUTES:
            raise ValueError(f"{method} {path} is declared twice")
        _ROUTES[method, path] = declared
        return handler

    return declare


def all_routes() -> list[Route]:
    """Every declared route, in order of declaration. Importing ``handlers.api`` declares them all."""
    return list(_ROUTES.values())
