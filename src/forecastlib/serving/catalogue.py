"""What is registered, for callers to see."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from forecastlib.tracking.runs import connect, experiment_ids

_SHOWN = re.compile(r"(skill|mae|coverage_80|coverage_95)_\d+d")
_MOST_VERSIONS = 50
"""Versions of a model that are listed, the newest ones."""


def registered_models() -> list[dict[str, Any]]:
    """Return every registered model with its newest versions, their aliases, and their main scores on the test set."""
    client = connect()
    models = []
    for model in sorted(client.search_registered_models(), key=lambda one: str(one.name)):
        versions = client.search_model_versions(
            f"name = '{model.name}'", max_results=_MOST_VERSIONS, order_by=["version_number DESC"]
        )
        tagged = [one for one in versions if "symbol" in one.tags]
        if not tagged:
            continue  # being registered at this moment, or registered by something else
        scores = _scores_of_runs([str(one.run_id) for one in tagged])
        aliases = {alias: str(number) for alias, number in model.aliases.items()}
        models.append(
            {
                "symbol": tagged[0].tags["symbol"],
                "name": model.name,
                "versions": [
                    {
                        "number": int(one.version),
                        "version": one.tags.get("version", ""),
                        "aliases": sorted(alias for alias, number in aliases.items() if number == str(one.version)),
                        "run_id": one.run_id,
                        "created_at": _moment(one.creation_timestamp),
                        "reason": one.tags.get("reason"),
                        "metrics": scores.get(str(one.run_id), {}),
                    }
                    for one in tagged
                ],
            }
        )
    return models


def _moment(milliseconds: int) -> str:
    return f"{dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


def _scores_of_runs(run_ids: list[str]) -> dict[str, dict[str, float]]:
    client = connect()
    named = ", ".join(f"'{run_id}'" for run_id in run_ids)
    runs = client.search_runs(experiment_ids(client), f"attributes.run_id IN ({named})", max_results=len(run_ids))
    return {
        run.info.run_id: {name: value for name, value in run.data.metrics.items() if _SHOWN.fullmatch(name)}
        for run in runs
    }
