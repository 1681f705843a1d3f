"""Finds the parts of a route that a fast path would skip. A route with such parts cannot have a fast path."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.params import BodyKwarg, HeaderParameter
from litestar.response import Response
from litestar.routes import HTTPRoute
from litestar.types import Empty
from litestar.typing import FieldDefinition

from infra.http.access import ACCESS, ANY_CALLER, PUBLIC, check_scope
from infra.http.parameters import HeaderCheck, StrictRequest

SKIPPED_ON_EVERY_LAYER: Final = (
    "after_request",
    "after_response",
    "cache_control",
    "dependencies",
    "dto",
    "etag",
    "guards",
    "middleware",
    "parameters",
    "response_class",
    "response_cookies",
    "response_headers",
    "return_dto",
)
SKIPPED_BELOW_THE_APP: Final = ("exception_handlers",)
"""Skipped on routers, controllers and routes. The app's own exception handlers count on the fast path, too."""
SKIPPED_ON_THE_APP: Final = (
    "after_exception",
    "allowed_hosts",
    "before_send",
    "compression_config",
    "cors_config",
    "csrf_config",
)
SKIPPED_ON_THE_ROUTE: Final = ("background", "cache", "cache_key_builder")


def skipped_by_fast_path(route: HTTPRoute, handler: HTTPRouteHandler) -> list[str]:
    """Name what Litestar does for this route, on any layer, and a fast path would not do.

    The route may have a fast path if the list is empty. Otherwise its phrases go into the message of FastPathRefused.
    """
    hook = handler.resolve_before_request()
    return [
        *_layers_skipped(handler),
        *_route_skipped(route, handler),
        *_parameters_skipped(handler.parsed_fn_signature.parameters, hook),
    ]


def _layers_skipped(handler: HTTPRouteHandler) -> Iterator[str]:
    app, *below = handler.ownership_layers
    for layer in (app, *below):
        names = [*SKIPPED_ON_EVERY_LAYER, *(SKIPPED_ON_THE_APP if layer is app else SKIPPED_BELOW_THE_APP)]
        if layer is handler:
            names += SKIPPED_ON_THE_ROUTE
        for name in names:
            value = getattr(layer, name, None)
            if name == "guards" and layer is app:
                value = [guard for guard in value or () if guard is not check_scope]  # it asks for a scope alone
            if value is not Empty and value:
                yield f"{name} of {_named(layer)}"


def _named(layer: Any) -> str:
    if isinstance(layer, HTTPRouteHandler):
        return "the route"
    return "the app" if isinstance(layer, Litestar) else f"the {type(layer).__name__} at {layer.path}"


def _route_skipped(route: HTTPRoute, handler: HTTPRouteHandler) -> Iterator[str]:
    if handler.has_sync_callable:
        yield "the thread of a synchronous handler"
    if not handler.parsed_return_field.is_subclass_of(Response):
        yield "the conversion of what the handler returns (it has to be a Response)"
    if handler.opt.get(ACCESS, ANY_CALLER) not in (ANY_CALLER, PUBLIC):
        yield f"the scope {handler.opt[ACCESS]}"
    if route.path_parameters:
        yield f"the parameters in {route.path}"
    if handler.media_type not in {"", "application/json"}:
        yield f"the media type {handler.media_type}"
    if not issubclass(handler.resolve_request_class(), StrictRequest):
        yield "how the request class decodes a body (it has to be a StrictRequest)"
    if handler.resolve_request_max_body_size() is None:
        yield "a body without limit"
    handlers = handler.app.exception_handlers
    if Exception not in handlers or any(isinstance(kind, int) for kind in handlers):
        yield "exception handlers of the app (they have to be by type, one of them for Exception)"


def _parameters_skipped(fields: Mapping[str, FieldDefinition], hook: Any) -> Iterator[str]:
    """Yield a phrase for each parameter, or use of `hook` (its `before_request`), that a fast path cannot handle.

    A handler must take `data` as a JSON body, and the header of its HeaderCheck if it has one. Every other parameter
    must be a header of type `str | None` with default None. A header may have a pattern, but no other constraint.
    """
    data = fields.get("data")
    if data is None or not isinstance(data.kwarg_definition, BodyKwarg):
        yield "a body that is not `data: JSONBody[...]`"
    elif data.kwarg_definition.media_type != "application/json":
        yield f"a body of type {data.kwarg_definition.media_type}"
    checked = hook.header.lower() if isinstance(hook, HeaderCheck) else ""
    taken = set()
    for name, field in fields.items():
        header = field.kwarg_definition
        if name == "data":
            continue
        if not isinstance(header, HeaderParameter):
            yield f"the parameter {name}, which is no header"
            continue
        header_name = header.name or name
        taken.add(header_name.lower())
        if replace(header, pattern=None).is_constrained:
            yield f"constraints of the header {header_name} besides its pattern"
        if header_name.lower() != checked and (field.annotation != (str | None) or field.default is not None):
            yield f"the header {header_name}, which is not `str | None = None`"
    if hook is not None and not isinstance(hook, HeaderCheck):
        yield "before_request, which is no HeaderCheck"
    elif hook is not None and checked not in taken:
        yield f"the check of {hook.header}, which is no parameter of the handler"
