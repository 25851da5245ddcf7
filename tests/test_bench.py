"""The benchmarks: that contenders take turns, that rows say what was measured, and that nothing grows with use."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from forecastlib.bench import WORKS, Measured, measure, write_report
from forecastlib.bench.data import matrix_and_targets, prices, windows_of
from forecastlib.bench.machine import describe, epoch_gflop, gemm_peak
from forecastlib.bench.measuring import measure as measure_work
from forecastlib.bench.report import markdown, rows
from forecastlib.bench.worker import prepare, take
from forecastlib.bench.works import OURS, Contender, Work
from forecastlib.data.prices import require_prices
from forecastlib.errors import ForecastError

FACTS = {"processor": "a processor", "cores": "2"}


def training(ours: list[float], keras: list[float]) -> list[Measured]:
    contenders = WORKS["training"].contenders
    return [
        Measured(contenders[0], first=6.0, turns=tuple(ours)),
        Measured(contenders[1], first=5.0, turns=tuple(keras)),
        *(Measured(one, missing="torch is not installed") for one in contenders[2:]),
    ]


def test_a_ratio_is_taken_within_each_round_before_the_median():
    ours, keras = training([1.0, 1.0, 3.0], [2.0, 4.0, 9.0])[:2]
    assert keras.times(ours) == 3.0
    assert keras.median == 4.0


def test_a_row_says_whether_what_must_be_reached_is_reached():
    found = rows("training", training([1.0, 1.0, 1.0], [4.5, 4.0, 3.0]))
    assert "| 4.00 x | >= 4 x | yes |" in found[1]
    assert "| 3.00 x | >= 4 x | no |" in rows("training", training([1.0], [3.0]))[1]
    limited = [Measured(WORKS["import"].contenders[0], first=1.0, turns=(0.4, 0.6, 0.7))]
    assert "0.6 s (0.4 to 0.7)" in rows("import", limited)[0] and "| <= 0.5 s | no |" in rows("import", limited)[0]


def test_a_peer_that_is_not_installed_says_so_in_its_row():
    (row,) = [row for row in rows("training", training([1.0], [4.0])) if "nn.LSTM" in row]
    assert "torch is not installed" in row


def test_the_first_epoch_is_told_beside_that_of_keras():
    found = [row for row in rows("training", training([1.0], [4.0])) if "first epoch" in row]
    assert len(found) == 2
    assert "| 0.83 x | >= 0.67 x | yes |" in found[1]


def test_the_report_is_a_table_with_the_machine_data_and_a_figure(tmp_path):
    results = {"training": training([0.5, 0.4], [2.0, 2.2])}
    paths = write_report(results, FACTS, 400.0, tmp_path)
    assert [path.name for path in paths] == ["bench.md", "bench.json", "bench.png"]
    text = paths[0].read_text()
    assert "a processor" in text and "400 GFLOP/s" in text
    assert f"forecastlib {59.7 / 0.45 / 400:.0%}" in text
    saved = json.loads(paths[1].read_text())
    assert saved["works"]["training"][0]["turns"] == [0.5, 0.4]
    assert saved["works"]["training"][4]["missing"] == "torch is not installed"
    assert paths[2].read_bytes().startswith(b"\x89PNG")
    assert markdown(results, FACTS, 400.0) == text


def test_the_work_of_an_epoch_is_that_of_its_products():
    # One layer: the input product forwards and for its kernel, the state product forwards, backwards, for its kernel.
    assert epoch_gflop(10, 5, 3, (2,)) == pytest.approx(2 * 10 * 5 * (2 * 3 * 8 + 3 * 2 * 8) / 1e9)
    assert round(epoch_gflop(3296), 1) == 59.6


def test_a_turn_is_timed_unless_it_tells_a_value_itself():
    calls = []
    assert take(lambda: calls.append(0), "s", repeats=3) >= 0.0
    assert len(calls) == 3
    assert take(lambda: 12.5, "MB", repeats=1) == 12.5
    seconds = take(lambda: sum(range(200_000)) and None, "s", repeats=1)
    assert 0.0 < seconds < 10.0


def test_the_data_of_all_contenders_is_of_the_stated_size():
    frame = prices(6300)
    require_prices(frame)
    assert len(frame) == 6300 and len(prices(400)) == 400
    np.testing.assert_array_equal(prices(400)["close"], frame["close"].tail(400))
    matrix, targets = matrix_and_targets()
    windows = windows_of(matrix)
    assert windows.shape == (3300, 60, 152) and targets.shape == (3300, 3)
    np.testing.assert_array_equal(windows[5], matrix[5:65])
    assert np.shares_memory(windows, matrix)


def test_the_machine_is_described():
    facts = describe()
    assert {"processor", "cores", "python", "tensorflow", "torch"} <= set(facts)
    assert math.isfinite(gemm_peak(64, rounds=1))


@pytest.mark.parametrize("name", WORKS)
def test_everything_that_is_measured_exists_and_ours_comes_first(name):
    work = WORKS[name]
    assert work.contenders[0].who == OURS
    for contender in work.contenders:
        module, _, function = contender.prepare.partition(":")
        text = (Path(__file__).parents[1] / f"src/forecastlib/bench/{module}.py").read_text()
        assert f"def {function.partition('(')[0]}(" in text


def test_contenders_take_turns_in_processes_of_their_own():
    told: list[str] = []
    (ours,) = measure("import", WORKS["import"], 2, told.append)
    assert len(ours.turns) == 2 and all(0.0 < seconds < 60.0 for seconds in ours.turns)
    assert ours.first is not None and ours.first > 0.0
    assert told == ["forecastlib is ready", "round 1 of 2", "round 2 of 2"]


def test_a_contender_whose_package_is_not_there_does_not_take_part():
    work = Work("import", "s", (WORKS["import"].contenders[0], Contender("x", "nowhere:nothing", ("no_such_package",))))
    _, absent = measure_work("import", work, 1)
    assert absent.missing == "no_such_package is not installed" and absent.turns == ()


def test_a_process_that_dies_tells_why():
    work = Work("import", "s", (Contender(OURS, "starting:import_library"),) * 7)
    with pytest.raises(ForecastError, match=r"import, contender 1 died with exit code 1:\n[\s\S]*IndexError"):
        measure("import", work, 1)


def test_what_is_measured_runs():
    for named in ("preparing:features", "preparing:pandas_features", "preparing:training_data"):
        assert prepare(named)() is None
