"""The commands that judge the method: backtest and audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from forecastlib.cli.words import FORMAT_OPTION, print_json, read_words, records
from forecastlib.errors import ConfigError


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
    from forecastlib.evaluation.walkforward import backtest
    from forecastlib.pipeline import fetch
    from forecastlib.tracking.runs import connect

    if not all(seed.strip().isdigit() for seed in seeds.split(",")):
        raise ConfigError(f"expected seeds as whole numbers separated by commas, such as 0,1,2; got {seeds!r}")
    chosen = [int(seed) for seed in seeds.split(",")]
    symbols, settings = read_words(words)
    configs = [RunConfig.from_parameters(**settings | {"symbol": one}) for one in symbols or ("^IXIC",)]
    connect()  # first, so that an unusable store is reported before anything is computed
    answers = []
    for config in configs:
        prices, _ = fetch(config.data)
        result = backtest(prices, config, seeds=chosen, expanding=not rolling, progress=not no_progress, **options)
        if form == "json":
            verdicts = result.verdicts.drop(columns=["statistic"]).reset_index()
            scores = {"scores": records(result.scores.reset_index()), "verdicts": records(verdicts)}
            answers.append({"symbol": result.symbol, "run_id": result.run_id} | scores)
            continue
        click.echo(f"{result.symbol}: {len(result.folds)} folds, run {result.run_id}")
        click.echo(result.table().to_string())
        for model in result.models[1:]:
            for verdict in result.verdicts.xs(model, level="model")["verdict"]:
                click.echo(f"{model}, {verdict}")
    if form == "json":
        print_json(answers)


@click.command(
    "audit",
    epilog="""\b
Examples:
  forecastlib audit
  forecastlib audit ^GSPC
  forecastlib audit ^KS11 SOURCE=csv:data LOOKBACK=90 HORIZONS=5,10
""",
)
@click.argument("words", nargs=-1, metavar="[SYMBOL]... [NAME=VALUE]...")
def audit_command(words: Sequence[str]) -> None:
    """Look for leaks of the future on the way from prices to a score, and name the culprits.

    NAME=VALUE gives a setting of the run; SYMBOL=... takes several symbols too, separated by commas. Exits with 1 if
    anything leaks.
    """
    from forecastlib.auditing import audit
    from forecastlib.config import RunConfig
    from forecastlib.data.sources import fetch_prices

    symbols, settings = read_words(words)
    passed = True
    for chosen in [{"symbol": symbol} for symbol in symbols] or [{}]:
        config = RunConfig.from_parameters(**settings | chosen)
        report = audit(fetch_prices(config.data), config)
        click.echo(repr(report))
        passed &= report.passed
    if not passed:
        raise click.exceptions.Exit(1)
