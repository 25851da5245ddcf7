"""The page ``/docs``: the routes as OpenAPI describes them, as plain HTML that needs nothing from elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any


def docs_page(openapi: dict[str, Any]) -> str:
    """Return the documentation page of an OpenAPI description.

    Parameters
    ----------
    openapi
        As ``/openapi.json`` has it.
    """
    schemas = openapi["components"]["schemas"]
    routes = [
        _route(method.upper(), path, operation)
        for path, operations in openapi["paths"].items()
        for method, operation in operations.items()
    ]
    shapes = [_shape(name, schema) for name, schema in schemas.items()]
    title = escape(f"{openapi['info']['title']} {openapi['info']['version']}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="page.css">'
        f"<main><h1>{title}</h1><p>{escape(openapi['info']['description'])} The same for programs: "
        '<a href="openapi.json">openapi.json</a>.</p>'
        f"<h2>Routes</h2>{''.join(routes)}<h2>Shapes</h2>{''.join(shapes)}</main></html>"
    )


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = [
        (f"{one['name']} ({one['in']})", _type(one["schema"]), one.get("description", ""))
        for one in operation.get("parameters", [])
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    taken = f"<p>Takes {_type(body)}.</p>" if body else ""
    answers = [
        (status, _type(one.get("content", {}).get("application/json", {}).get("schema", {})), one["description"])
        for status, one in operation["responses"].items()
    ]
    description = "".join(f"<p>{escape(part)}</p>" for part in operation.get("description", "").split("\n\n"))
    parameters = _table(("parameter", "type", "meaning"), rows) if rows else ""
    return (
        f"<section><h3><code>{method} {escape(path)}</code></h3>{description}{taken}{parameters}"
        f"{_table(('status', 'answer', 'meaning'), answers)}</section>"
    )


def _shape(name: str, schema: dict[str, Any]) -> str:
    needed = set(schema.get("required", []))
    rows = [
        (field + ("" if field in needed else " (optional)"), _type(one), one.get("description", ""))
        for field, one in schema.get("properties", {}).items()
    ]
    examples = [f"<pre>{escape(json.dumps(example, indent=2))}</pre>" for example in schema.get("examples", [])]
    title, description = escape(name), escape(schema.get("description", ""))
    return (
        f'<section id="{title}"><h3><code>{title}</code></h3><p>{description}</p>'
        f"{''.join(examples)}{_table(('field', 'type', 'meaning'), rows) if rows else ''}</section>"
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, str, str]]) -> str:
    """Return a table; types are HTML already, the rest is text."""
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    lines = [f"<tr><td><code>{escape(a)}</code><td>{b}<td>{escape(c)}</tr>" for a, b, c in rows]
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _type(schema: dict[str, Any]) -> str:
    """Word the type of a schema, with a link to its shape."""
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
        for name, word in (("minimum", "from"), ("maximum", "to"), ("exclusiveMinimum", "above"), ("pattern", "like"))
        if name in schema
    ]
    return escape(" ".join([schema.get("format", schema.get("type", "anything")), *limits]))
