"""Champions: which version is it, which ones were, and since when.

An alias of MLflow says which version is champion now. Who was champion before is kept in tags of the registered model,
one for each change and never overwritten, as every MLflow store has them: SQLite, PostgreSQL or a server. A change by
other means than these functions, such as an alias set in MLflow's own pages, leaves no such tag.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd

from forecastlib.errors import ModelNotFoundError
from forecastlib.paths import file_lock, project_root
from forecastlib.tracking.registry.versions import CHAMPION, Registered, find, model_name
from forecastlib.tracking.runs import connect

CHALLENGER = "challenger"

_CHANGE = "champion."
_COLUMNS = ("number", "version", "since", "until", "change", "reason")


def promote(registered: Registered, reason: str) -> None:
    """Make a version the champion, and note when and why."""
    _crown(registered, "promoted", reason)


def challenge(registered: Registered, reason: str) -> None:
    """Make a version the challenger: the champion stays."""
    client = connect()
    client.set_registered_model_alias(registered.name, CHALLENGER, str(registered.number))
    _note(client, registered, "challenger_since", _now(), reason)


def history(symbol: str) -> pd.DataFrame:
    """Return who was champion when, oldest first.

    Returns
    -------
    DataFrame
        One row for each change: ``number`` and ``version`` of who became champion, ``since`` and ``until`` (UTC; NaT
        for the present one), ``change`` ("promoted" or "rolled back") and its ``reason``. No rows if there never was
        a champion.
    """
    changes = _changes(symbol)
    frame = pd.DataFrame(changes, columns=[name for name in _COLUMNS if name != "until"])
    frame["since"] = pd.to_datetime(frame["since"], utc=True).astype("datetime64[us, UTC]")
    return frame.assign(until=frame["since"].shift(-1))[list(_COLUMNS)].astype({"number": "int64"})


def roll_back(symbol: str, reason: str, *, to: str | None = None) -> Registered:
    """Make an earlier champion the champion again.

    Parameters
    ----------
    symbol
        Symbol.
    reason
        Why; it is kept in the history.
    to
        Number or tag ``v1.0.0_...`` of an earlier champion; None: the one before the present one. Doing so again goes
        one further back, never forth to what was rolled back from.

    Returns
    -------
    Registered
        The champion now.

    Raises
    ------
    ModelNotFoundError
        If there is no such earlier champion, or it was deleted.

    Examples
    --------
    Versions 1, 2 and 3 became champion in that order. Rolling back makes 2 champion, rolling back again 1.
    """
    with turn(symbol):
        changes = _changes(symbol)
        before = _predecessors(changes)
        earlier = {one["number"]: one["version"] for one in changes if one["number"] != changes[-1]["number"]}
        wanted = to or (str(before[-1]) if before else None)
        chosen = find(symbol, wanted) if wanted else None
        if chosen is None or chosen.number not in earlier:
            there = ", ".join(f"{number} ({version})" for number, version in earlier.items()) or "none"
            raise ModelNotFoundError(
                f"expected an earlier champion of {symbol!r} to go back to{f', {to}' if to else ''}; "
                f"earlier champions: {there}; see them with: forecastlib champion {symbol}"
            )
        _crown(chosen, "rolled back", reason)
    return chosen


@contextlib.contextmanager
def turn(symbol: str) -> Iterator[None]:
    """Let one process at a time decide who is champion of a symbol.

    It holds for all processes that use the same SQLite store, or with a server or another database, which offer no
    such lock, for those of the same project folder.
    """
    connect()
    uri = mlflow.get_tracking_uri()
    beside = Path(uri.removeprefix("sqlite:///")).parent if uri.startswith("sqlite:") else project_root() / "mlruns"
    with file_lock(beside / f"{model_name(symbol)}.lock"):
        yield


def _crown(registered: Registered, change: str, reason: str) -> None:
    client = connect()
    now = _now()
    client.set_registered_model_alias(registered.name, CHAMPION, str(registered.number))
    if _has_alias(client, registered, CHALLENGER):
        client.delete_registered_model_alias(registered.name, CHALLENGER)
    _note(client, registered, "champion_since", now, reason)
    entry = {
        "number": registered.number,
        "version": registered.tags.get("version", ""),
        "since": now,
        "change": change,
        "reason": reason,
    }
    # Named by the time, so that they sort, and that nobody has to count them first.
    client.set_registered_model_tag(registered.name, f"{_CHANGE}{now}".replace(":", ""), json.dumps(entry))


def _changes(symbol: str) -> list[dict[str, object]]:
    """Return the changes of champion, oldest first."""
    name = model_name(symbol)
    found = connect().search_registered_models(f"name = '{name}'")
    tags = found[0].tags if found else {}
    return [json.loads(value) for key, value in sorted(tags.items()) if key.startswith(_CHANGE)]


def _predecessors(changes: list[dict[str, object]]) -> list[object]:
    """Return the champions before the present one that were not rolled back from, oldest first."""
    line: list[object] = []
    for change in changes:
        if change["change"] == "rolled back" and change["number"] in line:
            del line[line.index(change["number"]) :]
        line.append(change["number"])
    return [number for number in line[:-1] if number != line[-1]]


def _has_alias(client: mlflow.MlflowClient, registered: Registered, alias: str) -> bool:
    aliases = client.get_registered_model(registered.name).aliases
    return str(aliases.get(alias)) == str(registered.number)


def _now() -> str:
    return f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def _note(client: mlflow.MlflowClient, registered: Registered, key: str, now: str, reason: str) -> None:
    client.set_model_version_tag(registered.name, str(registered.number), key, now)
    client.set_model_version_tag(registered.name, str(registered.number), "reason", reason)
