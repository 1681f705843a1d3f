"""The OpenAPI document of an app: Litestar's, made exact for its readers.

The schemas of bodies are msgspec's own, so they say what the decoder does. Patterns are ECMAScript's. Answers in JSON
have examples, and the headers that they declare (infra/http/answers.py, infra/http/examples.py). Each route also has
the answers of ON_EVERY_ROUTE and, if it takes a body, those of ON_ROUTES_WITH_A_BODY.
"""

import inspect
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final, cast

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec
from litestar.response import Response
from litestar.routes import HTTPRoute
from msgspec import Struct

from contracts.ids import ecma
from infra.http.access import ACCESS, ANY_CALLER, AUTHENTICATED, PUBLIC, forbidden, too_many, unauthorized
from infra.http.answers import HEADERS, REQUIRED, DocumentedAnswer, problems
from infra.http.examples import examples_by_name
from infra.http.idempotency_key import REPLAYED
from infra.http.origin_check import foreign_origin, no_json, unknown_host

REFERENCE: Final = "#/components/schemas/{name}"
ON_EVERY_ROUTE: Final = problems(408, 414, 431, 500, foreign_origin(), unknown_host())
ON_ROUTES_WITH_A_BODY: Final = problems(400, 413, no_json())
TOKEN: Final = "token"  # noqa: S105 - a name
"""The security scheme of an app whose callers need tokens."""
NOISE: Final = {"deprecated": False, "allowEmptyValue": False, "allowReserved": False, "headers": {}}
"""Members with the values that they have by default."""


def document(app: Litestar) -> dict[str, Any]:
    """Make the OpenAPI document of this app, ready for JSON."""
    made = app.openapi_schema.to_schema()
    bodies: set[type[Struct]] = set()
    for path, method, handler in _handlers(app):
        operation = made["paths"][path][method]
        _add_answers(operation, handler)
        if (authentication := app.state.get(AUTHENTICATED)) is not None:
            _add_security(operation, handler, authentication.caller_header)
        for parameter in operation.get("parameters", ()):
            parameter["required"] = parameter["required"] or parameter["name"] in handler.opt.get(REQUIRED, ())
        bodies |= set(_bodies(handler))
    made["components"]["schemas"] = _schemas(bodies)
    for operation in (one for path in made["paths"].values() for one in path.values()):
        _add_examples(operation)
        operation["parameters"] = [_parameter(one) for one in operation.get("parameters", [])]
    if app.state.get(AUTHENTICATED):
        made["components"]["securitySchemes"] = {TOKEN: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    return cast(dict[str, Any], _tidy(made))


def _handlers(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                if handler.resolve_include_in_schema():
                    for method in handler.http_methods - {"OPTIONS"}:
                        yield route.path_format, method.lower(), handler


def _add_answers(operation: dict[str, Any], handler: HTTPRouteHandler) -> None:
    """Add to `operation` the answers of `handler` with their headers and examples, and those of ON_EVERY_ROUTE.

    An operation with a body also gets those of ON_ROUTES_WITH_A_BODY whose status the handler does not document.
    """
    answers = dict(handler.responses or {}) | ON_EVERY_ROUTE
    if "requestBody" in operation:
        answers = ON_ROUTES_WITH_A_BODY | answers
    documented = operation["responses"]
    documented.update(_documented(answers))
    usual = documented[str(handler.status_code)]
    if handler.status_code not in answers:
        usual["description"] = HTTPStatus(handler.status_code).phrase
    if any(one["name"] == "Idempotency-Key" for one in operation.get("parameters", [])):
        for status, made in documented.items():
            if status.startswith("2"):
                made["headers"] = dict(made.get("headers", {})) | {name: _header(name) for name in REPLAYED}
    operation["responses"] = dict(sorted(documented.items()))


def _documented(answers: Mapping[int, ResponseSpec]) -> dict[str, Any]:
    """Return these answers by status, with their headers and examples, as OpenAPI has them."""
    documented: dict[str, Any] = {}
    for status, answer in answers.items():
        schema = {"$ref": REFERENCE.format(name=answer.data_container.__name__)}  # type: ignore[union-attr]
        documented[str(status)] = made = {
            "description": answer.description,
            "content": {str(getattr(answer.media_type, "value", answer.media_type)): {"schema": schema}},
        }
        if isinstance(answer, DocumentedAnswer):
            made["headers"] = {name: _header(name) for name in answer.headers}
            (content,) = cast(dict[str, Any], made["content"]).values()
            content["examples"] = {name: {"value": msgspec.to_builtins(one)} for name, one in answer.bodies.items()}
    return documented


def _add_security(operation: dict[str, Any], handler: HTTPRouteHandler, caller_header: str) -> None:
    """Say which token the operation needs, and what is answered without it; the token names the caller, no header."""
    access = handler.opt.get(ACCESS, PUBLIC)
    operation["security"] = [{}] if access == PUBLIC else [{TOKEN: [] if access == ANY_CALLER else [access]}]
    operation["parameters"] = [
        one for one in operation.get("parameters", []) if one["name"].lower() != caller_header or one["in"] != "header"
    ]
    if access == PUBLIC:
        return
    refused = problems(
        unauthorized(), too_many(1), *([] if access == ANY_CALLER else [foreign_origin(), forbidden(access)])
    )
    for status, made in _documented(refused).items():
        operation["responses"][status] = made
    operation["responses"] = dict(sorted(operation["responses"].items()))


def _header(name: str) -> dict[str, Any]:
    return {"description": HEADERS[name], "schema": {"type": "string"}}


def _bodies(handler: HTTPRouteHandler) -> Iterator[type[Struct]]:
    """Yield the types of the bodies that the handler takes and answers, problems included; one may come twice."""
    data, returned = handler.parsed_data_field, handler.parsed_return_field
    if data is not None:
        yield data.annotation
    answered = returned.inner_types[0].annotation if returned.is_subclass_of(Response) else returned.annotation
    answers = [*(handler.responses or {}).values(), *ON_ROUTES_WITH_A_BODY.values()]
    for kind in (answered, *(answer.data_container for answer in answers)):
        if isinstance(kind, type) and issubclass(kind, Struct):
            yield kind


def _schemas(bodies: set[type[Struct]]) -> dict[str, Any]:
    """Return the JSON schemas, by name, of these types and of all that they contain.

    A field that an answer always has is required.
    """
    ordered = sorted(bodies, key=lambda body: body.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=REFERENCE)
    for name, kind in _contained(ordered).items():
        config = kind.__struct_config__
        if not (config.forbid_unknown_fields or config.omit_defaults):  # an answer with all its fields
            schemas[name]["required"] = list(kind.__struct_encode_fields__)
        if not config.forbid_unknown_fields:
            for field in schemas[name]["properties"].values():
                field.pop("default", None)  # only of what is sent
    return dict(sorted(schemas.items()))


def _contained(bodies: list[type[Struct]]) -> dict[str, type[Struct]]:
    found: dict[str, type[Struct]] = {}
    waiting: list[Any] = list(bodies)
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, Struct) and kind.__name__ not in found:
            found[kind.__name__] = kind
            waiting += [field.type for field in msgspec.structs.fields(kind)]
        waiting += getattr(kind, "__args__", ())
    return found


def _add_examples(operation: dict[str, Any]) -> None:
    """Give each body of `operation` that has no example the one of its type, if there is one."""
    examples = examples_by_name()
    for holder in (operation.get("requestBody", {}), *operation["responses"].values()):
        for content in holder.get("content", {}).values():
            name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
            if not content.get("examples") and name in examples:
                content["examples"] = {"example": {"value": msgspec.to_builtins(examples[name])}}


def _parameter(parameter: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the parameter whose schema has no null, as a parameter that is not sent is absent, never null.

    Of several other types in the schema's `oneOf` only the first is kept. The schema's description is left out.
    """
    schema = dict(parameter["schema"])
    schema.pop("description", None)
    kinds = [kind for kind in schema.pop("oneOf", []) if kind != {"type": "null"}]
    schema = {**(kinds[0] if kinds else {}), **schema}
    if isinstance(schema.get("type"), list):
        (schema["type"],) = (kind for kind in schema["type"] if kind != "null")
    if "enum" in schema:
        schema["enum"] = [value for value in schema["enum"] if value is not None]
    return {**parameter, "schema": schema}


def _tidy(value: Any) -> Any:
    """Return a copy of a part of the document: patterns as ECMAScript's, 1.0 as 1, descriptions without indents.

    Members of NOISE with the value that they have there are left out.
    """
    if isinstance(value, list):
        return [_tidy(one) for one in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, dict):
        return value
    tidy = {key: _tidy(one) for key, one in value.items() if key not in NOISE or one != NOISE[key]}
    if isinstance(tidy.get("pattern"), str):
        tidy["pattern"] = ecma(tidy["pattern"])
    if isinstance(tidy.get("description"), str):
        tidy["description"] = inspect.cleandoc(tidy["description"])
    return tidy
