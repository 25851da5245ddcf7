"""The commands around models: train, forecast, score, and who is champion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from forecastlib.cli.words import FORMAT_OPTION, print_json, print_pairs, print_table, read_words, records
from forecastlib.errors import ConfigError, ModelNotFoundError

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
@click.argument("words", nargs=-1, metavar="[SYMBOL]... [NAME=VALUE]...")
@click.option("--force-retrain", is_flag=True, help="Train although an adequate champion exists.")
@click.option("--no-progress", is_flag=True, help="Show no bar over epochs.")
@FORMAT_OPTION
def train_command(words: Sequence[str], force_retrain: bool, no_progress: bool, form: str) -> None:
    """Train a model, evaluate it beside the baselines, log it to MLflow and register it.

    NAME=VALUE gives a setting of the run. The model becomes champion if it does better than the present one on the
    newest origins that neither has learned from, else challenger. If the champion comes from the same settings and the
    same prices, nothing is trained, and the answer says so.
    """
    from forecastlib.config import RunConfig
    from forecastlib.pipeline import train

    symbols, settings = read_words(words)
    configs = [RunConfig.from_parameters(**settings | {"symbol": one}) for one in symbols or ("^IXIC",)]
    answers = []
    for config in configs:
        result = train(config, force_retrain=force_retrain, progress=not no_progress)
        if form == "json":
            names = ("symbol", "status", "version", "run_id", "promoted", "reason", "metrics")
            answers.append({name: getattr(result, name) for name in names})
            continue
        done = {"skipped": "not trained, the champion stays", "completed": "trained, now challenger"}
        click.echo(f"{result.symbol}: {'trained, now champion' if result.promoted else done[result.status]}")
        print_pairs({"version": result.version, "run": result.run_id, "because": result.reason})
        horizons = [name.removeprefix("mae_") for name in result.metrics if name.startswith("mae_")]
        scores = ("mae", "skill", "directional_accuracy", "coverage_80", "coverage_95")
        rows = [{"horizon": h} | {one: result.metrics.get(f"{one}_{h}") for one in scores} for h in horizons]
        print_table(rows, {"mae": "{:,.1f}", "skill": "{:+.3f}"} | dict.fromkeys(scores[2:], "{:.0%}"))
    if form == "json":
        print_json(answers)


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
@click.option("--requested-by", help="Who asks, for the ledger.  [default: the user of the operating system]")
@FORMAT_OPTION
def forecast_command(symbol: str, as_of: str | None, version: str, requested_by: str | None, form: str) -> None:
    """Forecast SYMBOL with its champion: ranges, direction, confidence, and what its forecasts were worth so far.

    The forecast is recorded in the ledger. Earlier ones whose day has come are settled on the way.
    """
    from forecastlib.forecasting import forecast
    from forecastlib.ledger import Ledger
    from forecastlib.models.uncertainty import consistency

    rows = forecast(symbol, as_of=as_of, version=version, requested_by=requested_by)
    first = rows.iloc[0]
    with Ledger() as ledger:
        card = ledger.scorecard(symbol=symbol, version=first["model_version"]).reset_index()
        left_out = ledger.count(symbol=symbol, version=first["model_version"], hindsight=True)
    agreement = float(consistency(rows["direction"].to_numpy()[None])[0])
    if form == "json":
        shared = ("symbol", "origin", "last_close", "model_version", "batch_id")
        answer = {name: record for name, record in records(rows)[0].items() if name in shared}
        forecasts = records(rows.drop(columns=list(shared)))
        scores = {"scorecard": records(card), "left_out": left_out}
        print_json(answer | {"consistency": agreement, "forecasts": forecasts} | scores)
        return
    click.echo(
        f"{symbol}: {first['last_close']:,.2f} on {first['origin']:%Y-%m-%d}, version {first['model_version']}\n"
    )
    print_table(
        [
            {
                "sessions": row.horizon,
                "date": f"{row.target_date:%Y-%m-%d}",
                "call": row.direction,
                "price": f"{row.predicted_price:,.2f}",
                "change": f"{row.change_pct:+.2f} %",
                "80 % range": f"{row.lower_80:,.0f} to {row.upper_80:,.0f}",
                "95 % range": f"{row.lower_95:,.0f} to {row.upper_95:,.0f}",
                "p(up)": f"{row.p_up:.0%}",
                "confidence": f"{row.confidence:.0%}",
            }
            for row in rows.itertuples()
        ]
    )
    click.echo(f"\nThe horizons agree with each other to {agreement:.0%}.")
    if card["n"].sum():
        click.echo("What this version's forecasts were worth so far:\n")
        _print_scorecard(card.drop(columns=["symbol", "model_version"]))
    elif card["pending"].sum():
        click.echo(f"None of this version's {card['pending'].sum()} recorded forecasts has come due yet.")
    _say_left_out(left_out)


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
@click.argument("words", nargs=-1, metavar="[SYMBOL]... [NAME=VALUE]...")
@click.option("--version", help="Tag v1.0.0_... of a version.  [default: all]")
@click.option("--requested-by", help="Only what they asked for.")
@click.option("--since", help="Only origins from this date on.")
@click.option("--until", help="Only origins up to this date.")
@click.option("--hindsight", is_flag=True, help="Score forecasts of days gone by instead, as with --as-of.")
@FORMAT_OPTION
def score_command(words: Sequence[str], form: str, hindsight: bool, **filters: Any) -> None:
    """Settle recorded forecasts whose day has come, and score those that were made before anybody knew.

    By default of every symbol in the ledger. Prices come from the source that the symbol's champion was trained from,
    or as NAME=VALUE says, for instance SOURCE=yahoo.
    """
    import pandas as pd

    from forecastlib.data.sources import fetch_prices
    from forecastlib.ledger import Ledger

    symbols, settings = read_words(words)
    with Ledger() as ledger:
        known = ledger.symbols()
        for symbol in symbols:
            if symbol not in known:
                raise ModelNotFoundError(
                    f"expected a symbol of which forecasts are recorded; got {symbol!r}; there are {known or 'none'}; "
                    f"make one with: forecastlib forecast {symbol}"
                )
        chosen = symbols or known
        settled = 0
        for symbol in chosen:
            if ledger.count(symbol=symbol, settled=False):
                settled += ledger.settle(fetch_prices(_data_of(symbol, settings)))
        cards = [ledger.scorecard(symbol=symbol, **filters, hindsight=hindsight) for symbol in chosen]
        left_out = sum(ledger.count(symbol=symbol, **filters, hindsight=not hindsight) for symbol in chosen)
    card = pd.concat(cards).reset_index() if cards else ledger.scorecard().reset_index()
    if form == "json":
        print_json({"settled": settled, "scorecard": records(card), "left_out": left_out})
        return
    click.echo(f"{settled} forecasts settled now, {card['n'].sum()} scored; {card['pending'].sum()} are pending\n")
    _print_scorecard(card)
    if not hindsight:
        _say_left_out(left_out)


@click.command(
    "champion",
    epilog="""\b
Examples:
  forecastlib champion ^IXIC
  forecastlib champion ^IXIC --roll-back --reason "misses every fall"
  forecastlib champion ^IXIC --to v1.0.0_20190102_030405 --reason "the last one that was any good"
""",
)
@click.argument("symbol", default="^IXIC")
@click.option("--roll-back", is_flag=True, help="Make the champion before the present one champion again.")
@click.option("--to", help="The earlier champion to go back to, by number or tag v1.0.0_...")
@click.option("--reason", help="Why; required to roll back.")
@FORMAT_OPTION
def champion_command(symbol: str, roll_back: bool, to: str | None, reason: str | None, form: str) -> None:
    """Show which versions of SYMBOL were champion, since when and why; or go back to an earlier one."""
    if (roll_back or to) and not reason:
        raise click.UsageError("say why with --reason, it is kept in the history")
    from forecastlib.tracking import registry

    if roll_back or to:
        registry.roll_back(symbol, str(reason), to=to)
    history = registry.history(symbol)
    if form == "json":
        print_json({"symbol": symbol, "history": records(history)})
        return
    if history.empty:
        click.echo(f"{symbol} has had no champion yet; train one with: forecastlib train {symbol}")
        return
    spans = history[["since", "until"]].apply(lambda moments: moments.dt.strftime("%Y-%m-%d %H:%M:%S"))
    print_table(
        records(history.assign(**spans.fillna({"until": "now"}))[["number", "version", *spans, "change", "reason"]])
    )


def _data_of(symbol: str, settings: dict[str, str]) -> DataConfig:
    """Return where prices to settle with come from: as given, else as the champion was trained, up to the newest."""
    from forecastlib.config import RunConfig

    if settings:
        return RunConfig.from_parameters(**settings | {"symbol": symbol}).data
    from forecastlib.tracking import registry

    try:
        return registry.config_of(symbol).replace(end=None).data
    except ModelNotFoundError as error:
        raise ConfigError(f"{error}; or say where prices come from, for instance SOURCE=bundled") from error


_SCORES = {
    **dict.fromkeys(("mae", "mae_random_walk"), "{:,.1f}"),
    **dict.fromkeys(("skill", "calibration_error"), "{:+.3f}"),
    "mape": "{:.2f} %",
    **dict.fromkeys(("hit_rate", "confidence", "coverage_80", "coverage_95"), "{:.0%}"),
}


def _say_left_out(count: int) -> None:
    """Say how many forecasts are not scored because whoever asked could know what came."""
    if count:
        click.echo(
            f"\n{count} forecasts were made of days gone by and are not scored; forecastlib score --hindsight does."
        )


def _print_scorecard(card: pd.DataFrame) -> None:
    print_table(records(card), _SCORES)
