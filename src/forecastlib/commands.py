"""The commands around models: train, forecast, score, and who is champion.

As in :mod:`forecastlib.cli`, which holds the other commands, imports stand inside the commands.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from forecastlib.errors import ConfigError, ModelNotFoundError

if TYPE_CHECKING:
    import pandas as pd

    from forecastlib.config import DataConfig

FORMAT_OPTION = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How to print the answer.",
)


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

    symbols, settings = _read(words)
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
        _print_pairs({"version": result.version, "run": result.run_id, "because": result.reason})
        horizons = [name.removeprefix("mae_") for name in result.metrics if name.startswith("mae_")]
        scores = ("mae", "skill", "directional_accuracy", "coverage_80", "coverage_95")
        rows = [{"horizon": h} | {one: result.metrics.get(f"{one}_{h}") for one in scores} for h in horizons]
        _print_table(rows, {"mae": "{:,.1f}", "skill": "{:+.3f}"} | dict.fromkeys(scores[2:], "{:.0%}"))
    if form == "json":
        _print_json(answers)


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
    from forecastlib.uncertainty import consistency

    rows = forecast(symbol, as_of=as_of, version=version, requested_by=requested_by)
    first = rows.iloc[0]
    with Ledger() as ledger:
        card = ledger.scorecard(symbol=symbol, version=first["model_version"]).reset_index()
        left_out = ledger.count(symbol=symbol, version=first["model_version"], hindsight=True)
    agreement = float(consistency(rows["direction"].to_numpy()[None])[0])
    if form == "json":
        shared = ("symbol", "origin", "last_close", "model_version", "batch_id")
        answer = {name: record for name, record in _records(rows)[0].items() if name in shared}
        forecasts = _records(rows.drop(columns=list(shared)))
        scores = {"scorecard": _records(card), "left_out": left_out}
        _print_json(answer | {"consistency": agreement, "forecasts": forecasts} | scores)
        return
    click.echo(
        f"{symbol}: {first['last_close']:,.2f} on {first['origin']:%Y-%m-%d}, version {first['model_version']}\n"
    )
    _print_table(
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

    from forecastlib.ledger import Ledger
    from forecastlib.sources import fetch_prices

    symbols, settings = _read(words)
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
        _print_json({"settled": settled, "scorecard": _records(card), "left_out": left_out})
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
    from forecastlib import registry

    if roll_back or to:
        registry.roll_back(symbol, str(reason), to=to)
    history = registry.history(symbol)
    if form == "json":
        _print_json({"symbol": symbol, "history": _records(history)})
        return
    if history.empty:
        click.echo(f"{symbol} has had no champion yet; train one with: forecastlib train {symbol}")
        return
    spans = history[["since", "until"]].apply(lambda moments: moments.dt.strftime("%Y-%m-%d %H:%M:%S"))
    _print_table(
        _records(history.assign(**spans.fillna({"until": "now"}))[["number", "version", *spans, "change", "reason"]])
    )


@click.command(
    "backtest",
    epilog="""\b
Examples:
  forecastlib backtest
  forecastlib backtest ^GSPC --folds 3 --seeds 0,1 EPOCHS=20
  forecastlib backtest ^IXIC --rolling --format json
""",
)
@click.argument("words", nargs=-1, metavar="[SYMBOL]... [NAME=VALUE]...")
@click.option("--folds", default=5, show_default=True, help="Test sets, one after the other to the end of the data.")
@click.option("--seeds", default="0,1,2", show_default=True, help="Seeds of the network, separated by commas.")
@click.option("--test-size", type=int, help="Origins in a test set.  [default: the data divided by folds + 1]")
@click.option("--rolling", is_flag=True, help="Let the training set roll instead of grow.")
@click.option("--workers", type=int, help="Processes.  [default: one a core, four at most]")
@click.option("--no-progress", is_flag=True, help="Show no bar over tasks.")
@FORMAT_OPTION
def backtest_command(
    words: Sequence[str], seeds: str, rolling: bool, no_progress: bool, form: str, **options: Any
) -> None:
    """Refit the model and every baseline along time, and judge their forecasts of what came after.

    NAME=VALUE gives a setting of the run. Every fold and seed is a nested MLflow run. What has been computed is kept in
    reports/SYMBOL/backtest/: after an interruption, the same command goes on where it stopped.
    """
    from forecastlib.config import RunConfig
    from forecastlib.pipeline import fetch
    from forecastlib.tracking import connect
    from forecastlib.walkforward import backtest

    if not all(seed.strip().isdigit() for seed in seeds.split(",")):
        raise ConfigError(f"expected seeds as whole numbers separated by commas, such as 0,1,2; got {seeds!r}")
    chosen = [int(seed) for seed in seeds.split(",")]
    symbols, settings = _read(words)
    configs = [RunConfig.from_parameters(**settings | {"symbol": one}) for one in symbols or ("^IXIC",)]
    connect()  # first: it enters the project's folder, where relative paths of sources begin
    answers = []
    for config in configs:
        prices, _ = fetch(config.data)
        result = backtest(prices, config, seeds=chosen, expanding=not rolling, progress=not no_progress, **options)
        if form == "json":
            verdicts = result.verdicts.drop(columns=["statistic"]).reset_index()
            scores = {"scores": _records(result.scores.reset_index()), "verdicts": _records(verdicts)}
            answers.append({"symbol": result.symbol, "run_id": result.run_id} | scores)
            continue
        click.echo(f"{result.symbol}: {len(result.folds)} folds, run {result.run_id}")
        click.echo(result.table().to_string())
        for model in result.models[1:]:
            for verdict in result.verdicts.xs(model, level="model")["verdict"]:
                click.echo(f"{model}, {verdict}")
    if form == "json":
        _print_json(answers)


COMMANDS = (train_command, forecast_command, score_command, champion_command, backtest_command)


def _read(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Tell symbols from settings; SYMBOL=... gives symbols too, separated by commas."""
    settings = {name.lower(): value for name, _, value in (word.partition("=") for word in words if "=" in word)}
    named = [symbol.strip() for symbol in settings.pop("symbol", "").split(",") if symbol.strip()]
    return [*(word for word in words if "=" not in word), *named], settings


def _data_of(symbol: str, settings: dict[str, str]) -> DataConfig:
    """Return where prices to settle with come from: as given, else as the champion was trained, up to the newest."""
    from forecastlib.config import RunConfig

    if settings:
        return RunConfig.from_parameters(**settings | {"symbol": symbol}).data
    from forecastlib import registry

    try:
        return registry.config_of(symbol).replace(end=None).data
    except ModelNotFoundError as error:
        raise ConfigError(f"{error}; or say where prices come from, for instance SOURCE=bundled") from error


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows in JSON's types: dates as text, None for what is missing."""
    plain = frame.copy()
    for name, column in frame.items():
        if column.dtype.kind == "M":
            plain[name] = column.dt.strftime("%Y-%m-%d" if column.dt.tz is None else "%Y-%m-%dT%H:%M:%S.%fZ")
    found: list[dict[str, Any]] = json.loads(plain.to_json(orient="records", double_precision=15))
    return found


def _print_json(answer: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    click.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def _print_pairs(pairs: Mapping[str, object]) -> None:
    width = max(map(len, pairs))
    for name, value in pairs.items():
        click.echo(f"  {name:{width}}  {value}")


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
    _print_table(_records(card), _SCORES)


def _print_table(rows: Sequence[Mapping[str, Any]], formats: Mapping[str, str] | None = None) -> None:
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
