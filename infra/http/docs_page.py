"""The API's documentation as one plain page: no script, nothing fetched, so it works without a network."""

from html import escape
from typing import Any

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1e21}
section{border:1px solid #d7dbe0;border-radius:6px;margin:1rem 0;padding:.2rem 1rem 1rem}
h2 code{background:#eef1f4;padding:.1rem .4rem;border-radius:4px}table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;border-top:1px solid #e6e9ec;padding:.25rem .5rem .25rem 0}
h3{margin:.8rem 0 .2rem;font-size:1rem}code{font-size:.92em}
"""


class DocsPage(OpenAPIRenderPlugin):
    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the HTML page, in UTF-8, made from the OpenAPI document that /schema/openapi.json serves, too."""
        schemas = openapi_schema.get("components", {}).get("schemas", {})
        title = escape(openapi_schema["info"]["title"])
        operations = "".join(
            _operation(method, path, operation)
            for path, methods in openapi_schema.get("paths", {}).items()
            for method, operation in methods.items()
            if isinstance(operation, dict)
        )
        types = "".join(_schema(name, schema) for name, schema in sorted(schemas.items()))
        return (
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
            f"<h1>{title}</h1><p>The same as <a href='/schema/openapi.json'>OpenAPI 3.1</a>.</p>"
            f"{operations}<h1>Types</h1>{types}"
        ).encode()


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [
        f"<section><h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation.get('summary', ''))}</p>"
    ]
    if operation.get("description"):
        parts.append(f"<p>{escape(operation['description'])}</p>")
    if parameters := operation.get("parameters"):
        parts.append(
            _table(
                "Parameters",
                [
                    (f"{item['name']} ({item['in']})", _type(item.get("schema", {})), item.get("description", ""))
                    for item in parameters
                ],
            )
        )
    bodies = operation.get("requestBody", {}).get("content", {}).values()
    parts += [f"<h3>Body</h3><p>{_type(media.get('schema', {}))}</p>" for media in bodies]
    parts.append(
        _table(
            "Answers",
            [
                (
                    status,
                    ", ".join(_type(media.get("schema", {})) for media in answer.get("content", {}).values()),
                    answer.get("description", ""),
                )
                for status, answer in sorted(operation.get("responses", {}).items())
            ],
        )
    )
    return "".join(parts) + "</section>"


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = [
        (field + ("" if field in required else " (optional)"), _type(of), of.get("description", ""))
        for field, of in schema.get("properties", {}).items()
    ]
    return f"<section id='{escape(name)}'>{_table(name, rows)}<p>{escape(schema.get('description', ''))}</p></section>"


def _table(heading: str, rows: list[tuple[str, str, str]]) -> str:
    """Return the HTML of a heading and a table. A row is a text, the HTML of a type, and another text.

    The heading and the texts are escaped here; the HTML of a type has to be escaped already.
    """
    body = "".join(
        f"<tr><td><code>{escape(first)}</code></td><td>{kind}</td><td>{escape(text)}</td></tr>"
        for first, kind, text in rows
    )
    return f"<h3>{escape(heading)}</h3><table>{body}</table>"


def _type(schema: dict[str, Any]) -> str:
    """Return escaped HTML for a JSON schema: a link for a reference, otherwise the type and its limits.

    A union is its choices joined by "or"; an array is "list of" its items.
    """
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"<a href='#{escape(name)}'>{escape(name)}</a>"
    for union in ("oneOf", "anyOf"):
        if union in schema:
            return " or ".join(_type(choice) for choice in schema[union])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    limits = [
        f"{name} {schema[name]}"
        for name in (
            "minimum",
            "maximum",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "pattern",
            "enum",
            "default",
        )
        if name in schema
    ]
    return escape(" ".join([str(schema.get("type", "any")), *limits]))
