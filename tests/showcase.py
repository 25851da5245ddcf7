"""Redraw the figures and the table of the README from the champions: ``PYTHONPATH=tests python -m showcase``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from forecastlib.evaluation.evaluate import Evaluation
from forecastlib.evaluation.score_table import RANDOM_WALK
from forecastlib.formatting import format_error
from forecastlib.paths import project_root
from forecastlib.plots import plot_forecast, plot_scores
from forecastlib.tracking import registry
from forecastlib.workflows import evaluate_test_set, fetch

BEGIN, END = "<!-- scores: written by make showcase -->", "<!-- /scores -->"


def write_showcase(symbols: Sequence[str], root: Path) -> list[Path]:
    """Write ``reports/showcase/`` and the table in the README, from the champion of each symbol.

    Parameters
    ----------
    symbols
        The figures show the first symbol; the table has rows for all symbols.
    root
        The project's root folder.

    Returns
    -------
    list of Path
        The files that were written.
    """
    folder = root / "reports" / "showcase"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    written = []
    for position, symbol in enumerate(symbols):
        model = registry.load(symbol)
        prices, _ = fetch(model.config.data)
        evaluation = evaluate_test_set(model, prices)
        rows += table_rows(evaluation, model.model.name)
        if position == 0:
            # An origin in the middle of the test set, so that the figure can show the outcome as well.
            origins = pd.DatetimeIndex(evaluation.forecasts["origin"].unique())
            figures = {
                "forecast": plot_forecast(model.predict(prices, origins[len(origins) // 2]), prices),
                "scores": plot_scores(evaluation),
            }
            for name, figure in figures.items():
                figure.savefig(folder / f"{name}.png")
                written.append(folder / f"{name}.png")
    table = "\n".join([*_HEADER, *rows]) + "\n"
    (folder / "scores.md").write_text(table, encoding="utf-8")
    readme = root / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), table), encoding="utf-8")
    return [*written, folder / "scores.md", readme]


_HEADER = (
    "| index | sessions ahead | MAE, combination | MAE, random walk | skill | verdict (Diebold-Mariano) "
    "| 80 % interval coverage | 95 % interval coverage |",
    "|---|---|---|---|---|---|---|---|",
)


def table_rows(evaluation: Evaluation, model: str) -> list[str]:
    """Return one Markdown row per horizon that compares the model with the random walk."""
    rows = []
    for horizon in evaluation.scores.index.unique("horizon"):
        scores, walk = evaluation.scores.loc[(model, horizon)], evaluation.scores.loc[(RANDOM_WALK, horizon)]
        test = evaluation.verdicts.loc[(model, horizon)]
        cells = [
            evaluation.symbol,
            str(horizon),
            format_error(scores["mae"]),
            format_error(walk["mae"]),
            f"{scores['skill']:+.3f}",
            f"{test['outcome']} the random walk, p = {test['p_value']:.3f}",
            f"{scores['coverage_80']:.0%}",
            f"{scores['coverage_95']:.0%}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def with_table(text: str, table: str) -> str:
    """Return a text in which the table between the two markers is replaced."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table}{END}{after}"


def main() -> None:
    """Write the files and print their names."""
    parser = argparse.ArgumentParser(prog="python -m showcase")
    parser.add_argument("symbols", nargs="*", default=["^GSPC", "^IXIC"], metavar="SYMBOL")
    for path in write_showcase(parser.parse_args().symbols, project_root()):
        print(path)


if __name__ == "__main__":
    main()
