"""The benchmarks: sides run interleaved in separate processes, and the report shows what was measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks import measuring
from benchmarks.comparisons import COMPARISONS, OURS, Comparison, Side
from benchmarks.inputs import matrix_and_targets, prices, windows_of
from benchmarks.measuring import Result, measure
from benchmarks.report import describe_machine, epoch_gflop, markdown, peak_gflops, rows, write_report

from forecastlib.data.prices import require_prices

TESTS = Path(__file__).parent
MACHINE = {"processor": "a processor", "cores": "2"}


def training(ours: list[float], keras: list[float]) -> list[Result]:
    sides = COMPARISONS["training"].sides
    return [
        Result(sides[0], first=6.0, rounds=tuple(ours)),
        Result(sides[1], first=5.0, rounds=tuple(keras)),
        *(Result(side, missing="torch is not installed") for side in sides[2:]),
    ]


def test_ratios_are_computed_per_round_before_taking_the_median():
    ours, keras = training([1.0, 1.0, 3.0], [2.0, 4.0, 9.0])[:2]
    assert keras.ratio(ours) == 3.0
    assert keras.median == 4.0


def test_a_row_shows_whether_the_goal_is_reached():
    assert "| 4.00 x | >= 4 x | yes |" in rows("training", training([1.0, 1.0, 1.0], [4.5, 4.0, 3.0]))[1]
    assert "| 3.00 x | >= 4 x | no |" in rows("training", training([1.0], [3.0]))[1]
    (row,) = rows("import", [Result(COMPARISONS["import"].sides[0], first=1.0, rounds=(0.4, 0.6, 0.7))])
    assert "| 0.6 s (0.4 to 0.7) |  | <= 0.5 s | no |" in row


def test_the_row_of_a_side_that_is_not_installed_says_so():
    (row,) = [row for row in rows("training", training([1.0], [4.0])) if "nn.LSTM" in row]
    assert "torch is not installed" in row


def test_the_first_epoch_is_compared_with_that_of_keras():
    first = [row for row in rows("training", training([1.0], [4.0])) if "first epoch" in row]
    assert len(first) == 2
    assert "| 0.83 x | >= 0.667 x | yes |" in first[1]


def test_the_report_consists_of_a_table_with_the_machine_data_and_a_figure(tmp_path):
    results = {"training": training([0.5, 0.4], [2.0, 2.2])}
    paths = write_report(results, MACHINE, 400.0, tmp_path)
    assert [path.name for path in paths] == ["bench.md", "bench.json", "bench.png"]
    text = paths[0].read_text()
    assert "a processor" in text and "400 GFLOP/s" in text
    assert f"forecastlib {59.6 / 0.45 / 400:.0%}" in text
    saved = json.loads(paths[1].read_text())
    assert saved["comparisons"]["training"][0]["rounds"] == [0.5, 0.4]
    assert saved["comparisons"]["training"][4]["missing"] == "torch is not installed"
    assert paths[2].read_bytes().startswith(b"\x89PNG")
    assert markdown(results, MACHINE, 400.0) == text


def test_the_work_of_an_epoch_is_that_of_its_matrix_products():
    # One layer: the product of the inputs, forward and for its kernel; that of the state, also for the state before.
    assert epoch_gflop(10, 5, 3, (2,)) == pytest.approx(2 * 10 * 5 * (2 * 3 * 8 + 3 * 2 * 8) / 1e9)
    assert round(epoch_gflop(3296, 60, 152), 1) == 59.6


def test_calls_are_timed_unless_they_return_a_float():
    calls = []
    assert measure(lambda: calls.append(0), "s", calls=3) >= 0.0
    assert len(calls) == 3
    assert measure(lambda: 12.5, "MB") == 12.5
    assert 0.0 < measure(lambda: sum(range(200_000)), "s") < 10.0


def test_the_inputs_have_the_stated_sizes():
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
    assert {"processor", "cores", "python", "tensorflow", "torch"} <= set(describe_machine())
    assert peak_gflops(64, rounds=1) > 0.0


@pytest.mark.parametrize("name", COMPARISONS)
def test_the_code_of_every_side_exists_and_ours_is_the_first(name):
    assert COMPARISONS[name].sides[0].name == OURS
    for side in COMPARISONS[name].sides:
        module, _, function = side.setup.partition(":")
        assert f"\ndef {function}(" in (TESTS / "benchmarks" / f"{module}.py").read_text()


def test_sides_whose_packages_are_missing_are_not_run():
    lines: list[str] = []
    sides = (Side(OURS, "startup:import_forecastlib"), Side("x", "nowhere:nothing", packages=("no_such_package",)))
    ours, absent = measuring.run(Comparison("a task", "s", sides), 2, lines.append)
    assert len(ours.rounds) == 2 and all(0.0 < seconds < 60.0 for seconds in ours.rounds)
    assert ours.first is not None and ours.first > 0.0
    assert lines == ["forecastlib is ready", "round 1 of 2", "round 2 of 2"]
    assert absent.missing == "no_such_package is not installed" and absent.rounds == ()


def test_an_error_in_the_process_of_a_side_is_raised():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        measuring.run(Comparison("a task", "s", (Side(OURS, "startup:nothing"),)), 1)


def test_the_command_writes_the_report_of_the_selected_comparisons(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--rounds", "1", "--only", "import", "--output", str(tmp_path)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.startswith("| import forecastlib | forecastlib | ")
    assert json.loads((tmp_path / "bench.json").read_text())["comparisons"].keys() == {"import"}


@pytest.mark.parametrize("function", ["features", "pandas_features", "samples"])
def test_the_sides_of_preparation_run(function):
    from benchmarks import preparation

    assert measure(getattr(preparation, function)(), "ms") > 0.0
