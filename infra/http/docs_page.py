"""The API's page at /schema: Swagger UI, whose files are installed, so that requests can be tried without a network."""

from functools import cache
from html import escape
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

from litestar import Request, Router, get
from litestar.datastructures import ResponseHeader
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.response import Response

from infra.http.document import document
from infra.http.problems import Problem

PACKAGE: Final = "flask-swagger-ui"
"""The package that ships Swagger UI's files. Its Python code is for Flask and is not imported."""
FILES: Final = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
START: Final = b"""SwaggerUIBundle({
  url: "/schema/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
"""
SECURITY: Final = [
    ResponseHeader(
        name="Content-Security-Policy",
        value="default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
        documentation_only=False,
    ),
    ResponseHeader(name="X-Content-Type-Options", value="nosniff", documentation_only=False),
]
"""Headers of what GET returns at /schema and below: the page asks nothing but this service, and no page frames it."""


class Document(JsonRenderPlugin):
    """/schema/openapi.json: the OpenAPI document of the app, made at the first request."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return self.render_json(request, _document(request.app))


class DocsPage(OpenAPIRenderPlugin):
    """/schema: the page, and the files that it loads."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the HTML page, in UTF-8."""
        return (
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(openapi_schema['info']['title'])}</title>"
            "<link rel=icon href='data:,'><link rel=stylesheet href=/schema/swagger-ui.css><div id=page></div>"
            "<script src=/schema/swagger-ui-bundle.js></script><script src=/schema/start.js></script>"
        ).encode()

    def receive_router(self, router: Router) -> None:
        """Add the routes of the files that the page loads."""

        @get("/start.js", media_type="text/javascript", sync_to_thread=False)
        def start() -> bytes:
            return START

        @get([f"/{name}" for name in FILES], sync_to_thread=False)
        def file(request: Request[Any, Any, Any]) -> Response[bytes]:
            name = request.url.path.rpartition("/")[2]
            return Response(_file(name), media_type=FILES[name])

        router.register(start)
        router.register(file)


_document = cache(document)


@cache
def _file(name: str) -> bytes:
    """Read a file of Swagger UI. Raises Problem, 404, if the package is not installed or lacks the file."""
    try:
        return Path(str(distribution(PACKAGE).locate_file(f"flask_swagger_ui/dist/{name}"))).read_bytes()
    except (ModuleNotFoundError, FileNotFoundError):
        raise Problem(404, "not-found", f"the package {PACKAGE} is not installed; `uv sync` installs it") from None
