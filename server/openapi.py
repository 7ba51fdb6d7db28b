"""The OpenAPI 3.1 document, made from the declared routes."""

import re
from collections.abc import Sequence
from typing import Any, TypeGuard

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from handlers.route import Route, Who
from kit.errors import BodyTooLarge, InvalidInput, MalformedJson, NotSignedIn, Refusal, all_refusals

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "A sentence for people, in Chinese or (Accept-Language) English"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable; branch on this"},
        "fields": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "code": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def document(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """The whole document."""
    models: set[type[BaseModel]] = {
        model for route in routes for model in (route.body, route.response, route.query) if _is_model(model)
    }
    pairs: list[tuple[type[BaseModel], Any]] = []
    for model in sorted(models, key=lambda one: one.__name__):
        inbound = any(model in (route.body, route.query) for route in routes)
        pairs.append((model, "validation" if inbound else "serialization"))
    refs, definitions = models_json_schema(pairs, ref_template="#/components/schemas/{model}")
    schemas = dict(definitions.get("$defs", {})) | {"Problem": _PROBLEM}
    by_model = {model: refs[model, mode] for model, mode in pairs}
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_model, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Linli 邻里",
            "version": version,
            "description": "Amounts are integers in fen. Ids are opaque. Refusals are application/problem+json with a "
            "stable `code`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"session": {"type": "http", "scheme": "bearer"}},
        },
    }


def _is_model(model: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(model, type) and issubclass(model, BaseModel)


def operation_id(route: Route) -> str:
    """``GET /api/v1/bills/{bill_id}`` → ``get_api_v1_bills_bill_id``."""
    return re.sub(r"\W+", "_", f"{route.method.lower()}_{route.path}").strip("_")


def _operation(route: Route, refs: dict[Any, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": operation_id(route),
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _parameters(route, refs, schemas),
        "responses": _responses(route, refs),
    }
    if route.description:
        operation["description"] = route.description
    if route.who is not Who.PUBLIC:
        operation["security"] = [{"session": []}]
        operation["x-who"] = str(route.who)
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": refs[route.body]}}}
    elif route.raw_type is not None:
        operation["requestBody"] = {"required": True, "content": {route.raw_type: {"schema": {"type": "string"}}}}
    return operation


def _parameters(route: Route, refs: dict[Any, Any], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    if route.query is not None:
        schema = schemas[refs[route.query]["$ref"].rsplit("/", 1)[-1]]
        for name, property_schema in schema.get("properties", {}).items():
            required = name in schema.get("required", ())
            found.append({"name": name, "in": "query", "required": required, "schema": property_schema})
    if route.replay is not None:
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": True,
                "description": "Your own unique text for this request; a repeat with the same body answers the same",
                "schema": {"type": "string", "minLength": 1, "maxLength": 128},
            }
        )
    return found


def _refusals(route: Route) -> list[type[Refusal]]:
    found = list(route.refusals)
    if route.who is not Who.PUBLIC:
        found.append(NotSignedIn)
        if route.who is not Who.RESIDENT and not route.enrolling:
            found.append(all_refusals()["second_factor_required"])
    if route.limits:
        found.append(all_refusals()["too_many_requests"])
    if route.body is not None:
        found += [MalformedJson, InvalidInput, BodyTooLarge]
        found += [kind for kind in all_refusals().values() if issubclass(kind, InvalidInput)]
    elif route.query is not None:
        found.append(InvalidInput)
    if route.replay is not None:
        known = all_refusals()
        found += [known[f"idempotency_key_{end}"] for end in ("missing", "reused")] + [known["request_in_progress"]]
    if "{" in route.path or route.who is not Who.PUBLIC:
        found.append(all_refusals()["not_found"])
    return sorted(set(found), key=lambda kind: (kind.status, kind.code))


def _responses(route: Route, refs: dict[Any, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": route.summary}
    if _is_model(route.response):
        good["content"] = {"application/json": {"schema": refs[route.response]}}
    elif route.status != 204:
        plain = "object" if route.content_type == "application/json" else "string"
        good["content"] = {route.content_type: {"schema": {"type": plain}}}
    answers: dict[str, Any] = {str(route.status): good}
    if route.waits:
        seconds = {"description": "Seconds", "schema": {"type": "integer"}}
        answers["202"] = {"description": "It is being made: ask again", "headers": {"Retry-After": seconds}}
    by_status: dict[int, list[type[Refusal]]] = {}
    for refusal in _refusals(route):
        by_status.setdefault(refusal.status, []).append(refusal)
    for status, refusals in by_status.items():
        answers[str(status)] = {
            "description": "；".join(f"`{refusal.code}` {refusal.en}" for refusal in refusals),
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    answers["default"] = {
        "description": "A fault of ours (5xx): repeat later",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    return answers
