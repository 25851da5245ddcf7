"""What the commands have in common: how words on the command line are read, and answers printed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd

FORMAT_OPTION = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How to print the answer.",
)


def read_words(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Tell symbols from settings; SYMBOL=... gives symbols too, separated by commas."""
    settings = {name.lower(): value for name, _, value in (word.partition("=") for word in words if "=" in word)}
    named = [symbol.strip() for symbol in settings.pop("symbol", "").split(",") if symbol.strip()]
    return [*(word for word in words if "=" not in word), *named], settings


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows in JSON's types: dates as text, None for what is missing."""
    plain = frame.copy()
    for name, column in frame.items():
        if column.dtype.kind == "M":
            plain[name] = column.dt.strftime("%Y-%m-%d" if column.dt.tz is None else "%Y-%m-%dT%H:%M:%S.%fZ")
    found: list[dict[str, Any]] = json.loads(plain.to_json(orient="records", double_precision=15))
    return found


def print_json(answer: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Print an answer for programs."""
    click.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def print_pairs(pairs: Mapping[str, object]) -> None:
    """Print names and what they stand for, one below the other."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        click.echo(f"  {name:{width}}  {value}")


def print_table(rows: Sequence[Mapping[str, Any]], formats: Mapping[str, str] | None = None) -> None:
    """Print rows under their names, numbers to the right, "-" for what is missing."""
    if not rows:
        return
    shapes: dict[str, Callable[[Any], str]] = {name: text.format for name, text in (formats or {}).items()}
    cells = [{n: "-" if v is None else shapes.get(n, str)(v) for n, v in row.items()} for row in rows]
    widths = {name: max(len(name), *(len(row[name]) for row in cells)) for name in rows[0]}
    texts = {name for name, value in rows[0].items() if isinstance(value, str) and not value[:1].isdigit()}
    for row in [{name: name for name in widths}, *cells]:
        line = "  ".join(f"{row[n]:<{w}}" if n in texts else f"{row[n]:>{w}}" for n, w in widths.items())
        click.echo(line.rstrip())
