"""The commands for models: train, forecast, score, and manage the champion."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from forecastlib.cli.terminal import (
    FORMAT_OPTION,
    Format,
    load_tensorflow,
    print_json,
    print_table,
    records,
    run_configs,
    symbols_and_settings,
)
from forecastlib.errors import ConfigError, ModelNotFoundError
from forecastlib.formatting import format_error, format_interval, format_price

DAYS_UNTIL_STALE = 7
"""Age of the newest session, in calendar days, from which a forecast says how old it is."""

if TYPE_CHECKING:
    import pandas as pd

    from forecastlib.config import DataConfig


@click.command(
    "train",
    epilog="""\b
Examples:
  forecastlib train
  forecastlib train ^GSPC EPOCHS=50 LOOKBACK=90
  forecastlib train ^KS11 SOURCE=csv:data HORIZONS=5,10 --force-retrain
  forecastlib train ^IXIC --no-progress --format json
""",
)
@click.argument("arguments", nargs=-1, metavar="[SYMBOL]... [NAME=VALUE]...")
@click.option("--force-retrain", is_flag=True, help="Train even if the champion is up to date.")
@click.option("--no-progress", is_flag=True, help="Do not show a progress bar over epochs.")
@FORMAT_OPTION
def train_command(arguments: Sequence[str], force_retrain: bool, no_progress: bool, output_format: str) -> None:
    """Train a model, evaluate it against the baselines, log it to MLflow and register it.

    NAME=VALUE changes a setting of the run. The model becomes champion if it scores better than the present champion
    on the newest origins that neither was trained on; otherwise it becomes challenger. If the champion was trained
    with the same settings on the same prices, nothing is trained.
    """
    configs = run_configs(arguments)
    load_tensorflow()
    from forecastlib.workflows import train

    results = []
    for config in configs:
        result = train(config, force_retrain=force_retrain, progress=not no_progress)
        if output_format == "json":
            names = ("symbol", "status", "version", "run_id", "promoted", "reason", "metrics")
            results.append({name: getattr(result, name) for name in names})
            continue
        outcome = {"skipped": "not trained, the champion stays", "completed": "trained, now challenger"}
        click.echo(f"{result.symbol}: {'trained, now champion' if result.promoted else outcome[result.status]}")
        click.echo(f"  version  {result.version}\n  run      {result.run_id}\n  because  {result.reason}")
        horizons = [name.removeprefix("mae_") for name in result.metrics if re.fullmatch(r"mae_\d+d", name)]
        scores = ("mae", "skill", "hit_rate", "base_rate", "coverage_80", "coverage_95")
        rows = [{"horizon": h} | {score: result.metrics.get(f"{score}_{h}") for score in scores} for h in horizons]
        print_table(rows, {"mae": format_error, "skill": "{:+.3f}", **dict.fromkeys(scores[2:], "{:.0%}")})
    if output_format == "json":
        print_json(results)


@click.command(
    "forecast",
    epilog="""\b
Examples:
  forecastlib forecast ^IXIC
  forecastlib forecast ^IXIC --as-of 2018-06-29
  forecastlib forecast ^GSPC --version challenger --format json
""",
)
@click.argument("symbol", default="^IXIC")
@click.option("--as-of", help="The origin: the last session on or before this date.  [default: the newest session]")
@click.option("--version", default="champion", show_default=True, help="Alias, number or tag v1.0.0_... of a version.")
@click.option("--requested-by", help="Who requests it, for the ledger.  [default: the user of the operating system]")
@FORMAT_OPTION
def forecast_command(
    symbol: str, as_of: str | None, version: str, requested_by: str | None, output_format: str
) -> None:
    """Forecast SYMBOL with its champion: intervals, direction, confidence, and how earlier forecasts scored.

    The forecast is recorded in the ledger. Earlier forecasts whose target date has passed are settled first.
    """
    load_tensorflow()
    from forecastlib.forecasts import consistency
    from forecastlib.ledger import Ledger
    from forecastlib.workflows import forecast

    rows = forecast(symbol, as_of=as_of, version=version, requested_by=requested_by)
    first = rows.iloc[0]
    with Ledger() as ledger:
        card = ledger.scorecard(symbol=symbol, version=first["model_version"]).reset_index()
        left_out = ledger.count(symbol=symbol, version=first["model_version"], hindsight=True)
    agreement = float(consistency(rows["direction"].to_numpy()[None])[0])
    if output_format == "json":
        shared = ("symbol", "origin", "last_close", "model_version", "batch_id")
        result = {name: value for name, value in records(rows)[0].items() if name in shared}
        forecasts = records(rows.drop(columns=list(shared)))
        scores = {"scorecard": records(card), "left_out": left_out}
        print_json(result | {"consistency": agreement, "forecasts": forecasts} | scores)
        return
    age = (dt.date.today() - first["origin"].date()).days
    last_close = format_price(first["last_close"])
    click.echo(f"{symbol}: {last_close} on {first['origin']:%Y-%m-%d}, version {first['model_version']}\n")
    print_table(
        [
            {
                "sessions": row.horizon,
                "date": f"{row.target_date:%Y-%m-%d}",
                "call": row.direction,
                "price": row.predicted_price,
                "change": row.change_pct,
                "80 % interval": (row.lower_80, row.upper_80),
                "95 % interval": (row.lower_95, row.upper_95),
                "p(up)": row.p_up,
                "confidence": row.confidence,
            }
            for row in rows.itertuples()
        ],
        {
            "price": format_price,
            "change": "{:+.2f} %",
            **dict.fromkeys(("80 % interval", "95 % interval"), lambda ends: format_interval(*ends)),
            **dict.fromkeys(("p(up)", "confidence"), "{:.0%}"),
        },
    )
    click.echo(f"\nConsistency of the horizons: {agreement:.0%}")
    if as_of is None and age > DAYS_UNTIL_STALE:
        click.echo(f"The newest session is {age:,} days old: fetch newer prices, or read this as a hindsight forecast.")
    if card["n"].sum():
        click.echo("Scores of this version's forecasts so far:\n")
        _print_scorecard(card.drop(columns=["symbol", "model_version"]))
    elif card["pending"].sum():
        click.echo(f"None of the {card['pending'].sum()} recorded forecasts of this version is due yet.")
    _print_left_out(left_out)


@click.command(
    "score",
    epilog="""\b
Examples:
  forecastlib score
  forecastlib score ^IXIC --since 2018-01-01
  forecastlib score ^IXIC --hindsight
  forecastlib score ^KS11 SOURCE=csv:data --format json
""",
)
@click.argument("arguments", nargs=-1, metavar="[SYMBOL]... [NAME=VALUE]...")
@click.option("--version", help="Tag v1.0.0_... of a version.  [default: all]")
@click.option("--requested-by", help="Only forecasts that this user requested.")
@click.option("--since", help="Only origins from this date on.")
@click.option("--until", help="Only origins up to this date.")
@click.option("--hindsight", is_flag=True, help="Score hindsight forecasts instead, such as those made with --as-of.")
@FORMAT_OPTION
def score_command(arguments: Sequence[str], output_format: str, hindsight: bool, **filters: Any) -> None:
    """Settle recorded forecasts whose target date has passed, and score those that were made before their outcome.

    By default for every symbol in the ledger. Prices come from the source that the champion of the symbol was trained
    on, or from the one given as NAME=VALUE, for instance SOURCE=yahoo.
    """
    import pandas as pd

    from forecastlib.data.sources import fetch_prices
    from forecastlib.ledger import Ledger

    symbols, settings = symbols_and_settings(arguments)
    with Ledger() as ledger:
        known = ledger.symbols()
        for symbol in symbols:
            if symbol not in known:
                raise ModelNotFoundError(
                    f"expected a symbol with recorded forecasts; got {symbol!r}; known: "
                    f"{', '.join(known) or 'none'}; make a forecast with: forecastlib forecast {symbol}"
                )
        selected = symbols or known
        settled = 0
        for symbol in selected:
            if ledger.count(symbol=symbol, settled=False):
                settled += ledger.settle(fetch_prices(_data_config(symbol, settings)))
        cards = [ledger.scorecard(symbol=symbol, **filters, hindsight=hindsight) for symbol in selected]
        left_out = sum(ledger.count(symbol=symbol, **filters, hindsight=not hindsight) for symbol in selected)
    card = pd.concat(cards).reset_index() if cards else ledger.scorecard().reset_index()
    if output_format == "json":
        print_json({"settled": settled, "scorecard": records(card), "left_out": left_out})
        return
    click.echo(f"{settled} forecasts settled now, {card['n'].sum()} scored, {card['pending'].sum()} pending\n")
    _print_scorecard(card)
    if not hindsight:
        _print_left_out(left_out)


def _data_config(symbol: str, settings: dict[str, str]) -> DataConfig:
    """Return the source of the prices to settle with: the given settings, else those of the champion up to today."""
    from forecastlib.config import RunConfig

    if settings:
        return RunConfig.from_parameters(**settings | {"symbol": symbol}).data
    from forecastlib.tracking import registry

    try:
        return registry.config_of(symbol).replace(end=None).data
    except ModelNotFoundError as error:
        raise ConfigError(f"{error}; or name a source of prices, for instance SOURCE=bundled") from error


_SCORE_FORMATS: dict[str, Format] = {
    **dict.fromkeys(("mae", "mae_random_walk"), format_error),
    **dict.fromkeys(("skill", "calibration_error"), "{:+.3f}"),
    "mape": "{:.2f} %",
    **dict.fromkeys(("hit_rate", "confidence", "coverage_80", "coverage_95"), "{:.0%}"),
}


def _print_scorecard(card: pd.DataFrame) -> None:
    print_table(records(card), _SCORE_FORMATS)


def _print_left_out(count: int) -> None:
    """Print how many forecasts are not scored because their outcome could be known when they were made."""
    if count:
        click.echo(f"\n{count} hindsight forecasts are not scored; to score them: forecastlib score --hindsight")


@click.command(
    "champion",
    epilog="""\b
Examples:
  forecastlib champion ^IXIC
  forecastlib champion ^IXIC --roll-back --reason "misses every fall"
  forecastlib champion ^IXIC --to v1.0.0_20190102_030405 --reason "the last version that beat the random walk"
  forecastlib champion ^IXIC --promote 4 --reason "corrected calendar"
""",
)
@click.argument("symbol", default="^IXIC")
@click.option("--roll-back", is_flag=True, help="Make the previous champion the champion again.")
@click.option("--to", help="Earlier champion to return to, by number or tag v1.0.0_...")
@click.option("--promote", help="Version to make champion by hand, by number or tag v1.0.0_...")
@click.option("--reason", help="Why; required for a change.")
@FORMAT_OPTION
def champion_command(
    symbol: str, roll_back: bool, to: str | None, promote: str | None, reason: str | None, output_format: str
) -> None:
    """Show which versions of SYMBOL were champion, since when and why; return to an earlier one, or promote another."""
    if (roll_back or to or promote) and not reason:
        raise click.UsageError("give a reason with --reason; it is recorded in the history")
    if promote and (roll_back or to):
        raise click.UsageError("give either --promote, or --roll-back or --to")
    from forecastlib.tracking import registry

    if promote:
        version = registry.find(symbol, promote)
        if version is None:
            raise ModelNotFoundError(
                f"expected a registered version of {symbol!r} to promote; got {promote!r}; MLflow lists them: make ui"
            )
        registry.promote(version, str(reason))
    elif roll_back or to:
        registry.roll_back(symbol, str(reason), to=to)
    history = registry.history(symbol)
    if output_format == "json":
        print_json({"symbol": symbol, "history": records(history)})
        return
    if history.empty:
        click.echo(f"{symbol} has no champion yet; train one with: forecastlib train {symbol}")
        return
    spans = history[["since", "until"]].apply(lambda moments: moments.dt.strftime("%Y-%m-%d %H:%M:%S"))
    print_table(
        records(history.assign(**spans.fillna({"until": "now"}))[["number", "version", *spans, "change", "reason"]])
    )
