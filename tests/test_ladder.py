"""The ladder of leaks, from the naive recipe to the forecaster of this library."""

import itertools

import numpy as np
import pandas as pd
import pytest
import tiny

from forecastlib.auditing.ladder import NAIVE, NETWORK, SCORES, STEPS, leakage_ladder
from forecastlib.auditing.planted import scaling_of_all_rows, split_at_random, split_without_purge
from forecastlib.plots import plot_ladder
from forecastlib.recipe import Recipe


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return leakage_ladder(tiny.prices(), tiny.config(epochs=1), steps=(STEPS[0], *STEPS[-2:]), progress=False)


def test_every_step_fixes_one_part_and_keeps_the_earlier_fixes():
    leaking = [
        {
            name
            for name in ("features", "windows", "split", "scaling")
            if getattr(step.recipe, name) != getattr(Recipe(), name)
        }
        for step in STEPS
    ]
    assert leaking[0] == {"split", "windows", "scaling"}
    assert all(later <= earlier for earlier, later in itertools.pairwise(leaking))
    assert STEPS[1].recipe.split is split_without_purge and STEPS[3].recipe.scaling is scaling_of_all_rows
    assert leaking[-1] == leaking[-2] == leaking[-3] == set()
    assert [step.parameters for step in STEPS[-3:]] == [NAIVE, NETWORK, {}]


def test_a_random_division_puts_neighbours_of_nearly_every_test_window_into_the_training_set():
    windows = Recipe().prepare(tiny.prices(), tiny.config()).windows
    split = split_at_random(windows, tiny.config().split)
    parts = np.concatenate(list(split.sets().values()))
    assert sorted(parts) == np.flatnonzero(windows.labelled).tolist(), "every labelled sample is in one set"
    near = [np.abs(split.train - row).min() <= 2 for row in split.test]
    assert np.mean(near) > 0.95


@pytest.mark.slow
def test_each_step_is_scored_on_its_own_test_set_and_the_forecaster_comes_last(table):
    assert list(table.index.unique("step")) == [STEPS[0].name, STEPS[-2].name, STEPS[-1].name]
    assert table.columns.tolist() == list(SCORES)
    assert table.loc[STEPS[-2].name, "n"].equals(table.loc[STEPS[-1].name, "n"])
    assert (table["r2"] <= 1.0).all() and table.notna().all().all()
    samples = Recipe().prepare(tiny.prices(), tiny.config())
    assert table.loc[(STEPS[-1].name, 7), "n"] == len(samples.split.test)


@pytest.mark.slow
def test_the_last_step_has_the_scores_of_the_forecaster(table):
    forecaster = tiny.forecaster()
    test = forecaster.samples.test
    errors = [
        np.abs(test.to_prices(values) - test.to_prices(test.y)).mean(axis=0)
        for values in (forecaster.recipe.predict(forecaster.model, test).median(), np.zeros_like(test.y))
    ]
    step = leakage_ladder(tiny.prices(), tiny.config(), steps=STEPS[-1:], progress=False)
    np.testing.assert_allclose(step["skill"], 1.0 - errors[0] / errors[1], rtol=1e-9)


@pytest.mark.slow
def test_the_figure_shows_every_step_and_the_true_number_where_a_bar_is_cut(table):
    figure = plot_ladder(table)
    shown = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert shown == list(table.index.unique("step"))[::-1]
    numbers = {text.get_text().removeprefix("◂ ") for axes in figure.axes for text in axes.texts}
    assert {f"{value:+.2f}" for value in table["skill"]} <= numbers
