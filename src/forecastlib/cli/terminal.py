"""Reading arguments from the command line, and printing results to the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import click

if TYPE_CHECKING:
    import pandas as pd
    from rich.text import Text

    from forecastlib.config import RunConfig

Format: TypeAlias = "str | Callable[[Any], str | Text]"
"""How to print a value: a format string such as ``"{:.0%}"``, or a function."""

FORMAT_OPTION = click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How to print the result.",
)


def split_settings(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Separate positional arguments from settings.

    Returns
    -------
    list of str
        The arguments without ``=``, and those that are symbols of Yahoo's currencies and futures, such as ``EURCHF=X``.
    dict of str
        The values of ``NAME=VALUE`` by name in lower case.

    Examples
    --------
    >>> split_settings(["^GSPC", "EPOCHS=5"])
    (['^GSPC'], {'epochs': '5'})
    """
    from forecastlib.config import SECTIONS

    known = {name for section in SECTIONS.values() for name in section.model_fields}
    positional, settings = [], {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or (value in ("X", "F") and name.lower() not in known):
            positional.append(argument)
        else:
            settings[name.lower()] = value
    return positional, settings


def split_list(text: str) -> list[str]:
    """Return the items of a comma-separated list."""
    return [item.strip() for item in text.split(",") if item.strip()]


def symbols_and_settings(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Separate symbols from settings; ``SYMBOL=A,B`` gives symbols as well.

    Examples
    --------
    >>> symbols_and_settings(["^GSPC", "epochs=5", "SYMBOL=^IXIC,^KS11"])
    (['^GSPC', '^IXIC', '^KS11'], {'epochs': '5'})
    """
    positional, settings = split_settings(arguments)
    return positional + split_list(settings.pop("symbol", "")), settings


def run_configs(arguments: Sequence[str]) -> list[RunConfig]:
    """Return one configuration for each symbol; without a symbol, one for the default symbol.

    Raises
    ------
    ConfigError
        If a setting is unknown or its value is not allowed.
    """
    from forecastlib.config import RunConfig

    symbols, settings = symbols_and_settings(arguments)
    by_symbol: list[dict[str, str]] = [{"symbol": symbol} for symbol in symbols] or [{}]
    return [RunConfig.from_parameters(**settings | symbol) for symbol in by_symbol]


def load_tensorflow() -> None:
    """Import TensorFlow without its messages about a missing GPU.

    Every command that needs TensorFlow in its own process calls this before it imports the rest of the library.
    """
    from forecastlib.processes import hidden_startup_messages

    with hidden_startup_messages():
        import forecastlib.models.lstm  # noqa: F401 - imports TensorFlow after the libraries that must come before it


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame in the types of JSON, to the last bit: dates as text, None for missing values."""
    import pandas as pd

    plain = frame.copy()
    for name, column in frame.items():
        if column.dtype.kind == "M":
            plain[name] = column.dt.strftime("%Y-%m-%d" if column.dt.tz is None else "%Y-%m-%dT%H:%M:%S.%fZ")
    # DataFrame.to_json would round floats to 15 digits, one or two too few.
    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in plain.to_dict("records")
    ]


def print_json(result: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Print a result for other programs to read."""
    click.echo(json.dumps(result, indent=2, ensure_ascii=False))


def print_table(
    rows: Sequence[Mapping[str, Any]], formats: Mapping[str, Format] | None = None, *, header: bool = True
) -> None:
    """Print rows as a table: text aligned to the left, everything else to the right.

    On a terminal that is too narrow, text is folded within its column; numbers are never shortened. Into a file or a
    pipe, the table is printed at its full width and without colours.

    Parameters
    ----------
    rows
        Values by column name; all rows have the same columns. None is printed as "-".
    formats
        How to print the values of a column, by its name; by default as ``str`` does.
    header
        Whether to print the names of the columns.
    """
    if not rows:
        return
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=header)
    columns = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        columns.append([_cell(value, (formats or {}).get(name, str)) for value in values])
        if any(isinstance(value, str) for value in values):
            table.add_column(name, overflow="fold")
        else:
            width = max(len(name), *map(len, columns[-1]))
            table.add_column(name, justify="right", no_wrap=True, min_width=width)
    for cells in zip(*columns, strict=True):
        table.add_row(*cells)

    console = Console(markup=False, highlight=False, emoji=False, force_jupyter=False)
    needed = Measurement.get(console, console.options.update(max_width=100_000), table)
    console.width = max(console.width, needed.minimum) if console.is_terminal else needed.maximum
    with console.capture() as capture:
        console.print(table, crop=False)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _cell(value: Any, form: Format) -> Text | str:
    if value is None:
        return "-"
    return form.format(value) if isinstance(form, str) else form(value)
