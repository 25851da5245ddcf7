"""The web page, and the documentation page ``/docs``; neither loads anything from another site."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

_PARTS = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def add_pages(app: FastAPI) -> None:
    """Add the routes of the page, its script and style, and the documentation."""
    folder = files("forecastlib.serving") / "page"

    def add(path: str, name: str, media_type: str) -> None:
        content = (folder / name).read_bytes()

        @app.get(path, include_in_schema=False)
        async def part() -> Response:
            return Response(content, media_type=media_type, headers=_HEADERS)

    for path, (name, media_type) in _PARTS.items():
        add(path, name, media_type)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()), headers=_HEADERS)


def docs_page(openapi: dict[str, Any]) -> str:
    """Return the HTML page of an OpenAPI description."""
    schemas = openapi["components"]["schemas"]
    routes = [
        _route(method.upper(), path, operation)
        for path, operations in openapi["paths"].items()
        for method, operation in operations.items()
    ]
    schema_sections = [_schema(name, schema) for name, schema in schemas.items()]
    title = escape(f"{openapi['info']['title']} {openapi['info']['version']}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="page.css">'
        f"<main><h1>{title}</h1><p>{escape(openapi['info']['description'])} For programs: "
        '<a href="openapi.json">openapi.json</a>.</p>'
        f"<h2>Routes</h2>{''.join(routes)}<h2>Schemas</h2>{''.join(schema_sections)}</main></html>"
    )


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = [
        (f"{parameter['name']} ({parameter['in']})", _type(parameter["schema"]), parameter.get("description", ""))
        for parameter in operation.get("parameters", [])
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    request = f"<p>Body: {_type(body)}.</p>" if body else ""
    responses = [
        (status, _type(response["content"]["application/json"]["schema"]), response["description"])
        for status, response in operation["responses"].items()
    ]
    description = "".join(f"<p>{escape(part)}</p>" for part in operation.get("description", "").split("\n\n"))
    parameters = _table(("parameter", "type", "meaning"), rows) if rows else ""
    return (
        f"<section><h3><code>{method} {escape(path)}</code></h3>{description}{request}{parameters}"
        f"{_table(('status', 'answer', 'meaning'), responses)}</section>"
    )


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = set(schema.get("required", []))
    rows = [
        (field + ("" if field in required else " (optional)"), _type(part), part.get("description", ""))
        for field, part in schema.get("properties", {}).items()
    ]
    examples = [f"<pre>{escape(json.dumps(example, indent=2))}</pre>" for example in schema.get("examples", [])]
    title, description = escape(name), escape(schema.get("description", ""))
    return (
        f'<section id="{title}"><h3><code>{title}</code></h3><p>{description}</p>'
        f"{''.join(examples)}{_table(('field', 'type', 'meaning'), rows) if rows else ''}</section>"
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, str, str]]) -> str:
    """Return a table of text, with HTML in the second column."""
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    lines = [f"<tr><td><code>{escape(a)}</code><td>{b}<td>{escape(c)}</tr>" for a, b, c in rows]
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _type(schema: dict[str, Any]) -> str:
    """Return the type of a value as HTML, with links to its schemas."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[1])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(escape(str(value)) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    limits = [
        f"{word} {schema[name]}"
        for name, word in (
            ("minimum", "from"),
            ("maximum", "to"),
            ("exclusiveMinimum", "above"),
            ("pattern", "like"),
        )
        if name in schema
    ]
    return escape(" ".join([schema.get("format", schema.get("type", "anything")), *limits]))
