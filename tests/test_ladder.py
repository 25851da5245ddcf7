import itertools

import numpy as np
import pandas as pd
import pytest
import tiny
from forecastlib.auditing.recipe import Recipe
from forecastlib.samples.dataset import prepare

from forecastlib.auditing.ladder import NAIVE, STEPS, WEIGHED, climb, split_at_random
from forecastlib.auditing.planted import scaling_of_all_rows, split_without_purge
from forecastlib.plots import plot_ladder


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return climb(tiny.prices(), tiny.config(epochs=1), steps=(STEPS[0], STEPS[-1]), progress=False)


def test_every_step_repairs_one_part_and_keeps_the_repairs_before_it():
    wrong = [
        {
            name
            for name in ("features", "windows", "split", "scaling")
            if getattr(step.recipe, name) != getattr(Recipe(), name)
        }
        for step in STEPS
    ]
    assert wrong[0] == {"split", "windows", "scaling"}
    assert all(later <= earlier for earlier, later in itertools.pairwise(wrong))
    assert STEPS[1].recipe.split is split_without_purge and STEPS[3].recipe.scaling is scaling_of_all_rows
    assert wrong[-1] == set() and STEPS[-1].parameters == {} and STEPS[-2].parameters == NAIVE


def test_a_random_division_puts_neighbours_of_nearly_every_test_window_into_the_training_set():
    windows = prepare(tiny.prices(), tiny.config()).windows
    split = split_at_random(windows, tiny.config().split)
    parts = np.concatenate(list(split.sets().values()))
    assert sorted(parts) == np.flatnonzero(windows.labelled).tolist(), "every labelled sample is in one set"
    near = [np.abs(split.train - row).min() <= 2 for row in split.test]
    assert np.mean(near) > 0.95


@pytest.mark.slow
def test_each_step_is_scored_on_its_own_test_set_and_the_forecaster_comes_last(table):
    assert list(table.index.unique("step")) == [STEPS[0].name, STEPS[-1].name, WEIGHED]
    assert table.loc[STEPS[-1].name, "n"].equals(table.loc[WEIGHED, "n"])
    assert (table["r2"] <= 1.0).all() and table.notna().all().all()
    one = prepare(tiny.prices(), tiny.config())
    assert table.loc[(WEIGHED, 7), "n"] == len(one.split.test)


@pytest.mark.slow
def test_the_figure_shows_every_step_and_the_true_number_where_a_bar_is_cut(table):
    figure = plot_ladder(table)
    shown = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert shown == list(table.index.unique("step"))[::-1]
    numbers = {text.get_text().removeprefix("◂ ") for axes in figure.axes for text in axes.texts}
    assert {f"{value:+.2f}" for value in table["skill"]} <= numbers
