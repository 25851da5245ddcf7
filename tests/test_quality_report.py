import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from forecastlib.data.quality import check_quality
from forecastlib.data.sources import open_source
from forecastlib.errors import ConfigError, DataQualityError


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return open_source("bundled").fetch("^IXIC")


@pytest.fixture(scope="module")
def broken(prices) -> pd.DataFrame:
    changed = prices.copy()
    changed.iloc[10:20, 3] = np.nan
    return changed


def test_the_table_has_one_row_per_check(prices):
    report = check_quality(prices)
    columns = ["check", "severity", "status", "count", "first_dates", "weight", "loss", "detail", "meaning", "remedy"]
    assert list(report.checks.columns) == columns
    row = report.checks.set_index("check").loc["zero_volume"]
    assert (row["severity"], row["status"], row["count"]) == ("warning", "warning", 2)
    assert row["first_dates"] == "2015-05-12, 2018-01-09"
    assert row["remedy"]
    outliers = report.checks.set_index("check").loc["outliers", "first_dates"]
    assert outliers.startswith("2000-04-03, ") and outliers.endswith(", and 16 more")
    assert outliers.count("-") == 2 * 5
    assert (report.checks["meaning"] != "").all()


def test_a_finding_has_all_its_dates_and_an_unknown_check_is_an_error(prices):
    report = check_quality(prices)
    assert len(report.finding("outliers").dates) == 21
    assert report.finding("outliers").dates.is_monotonic_increasing
    assert report.finding("columns").dates.empty
    with pytest.raises(ConfigError, match=r"unknown check 'outlier'; did you mean 'outliers'\?"):
        report.finding("outlier")


def test_raising_names_each_error_with_its_figures_and_remedy(prices, broken):
    check_quality(prices).raise_for_errors()
    with pytest.raises(DataQualityError) as caught:
        check_quality(broken).raise_for_errors()
    message = str(caught.value)
    assert "missing_values: close; 10 of 5,031 rows; close in 10; fetch these days again" in message
    assert "outliers" not in message  # a warning
    with pytest.raises(DataQualityError, match=r"outliers: 2000-04-03, .* and 16 more; 21 of 5,031 rows"):
        check_quality(prices, strict=True).raise_for_errors()


def test_the_report_displays_itself_as_text_and_as_an_escaped_table(prices):
    named = prices.copy()
    named.attrs["symbol"] = "<script>"
    report = check_quality(named, calendar="NYSE")
    headline = "<script> (5,031 sessions, 1999-01-04 to 2018-12-31, calendar NYSE): passed, score 96.2 of 100"
    assert repr(report).startswith(f"{headline}\n")
    assert "warning  zero_volume: 2015-05-12, 2018-01-09; 2 of 5,031 rows" in repr(report)
    html = report._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert html.count("<tr>") == 1 + len(report.checks)
    assert "! warning" in html and "2015-05-12, 2018-01-09" in html


def test_the_report_says_why_it_used_its_calendar(prices):
    assert check_quality(prices).calendar_reason == "a known index"
    assert check_quality(prices, calendar="NYSE").calendar_reason == "set in the configuration"


def test_the_figure_marks_every_affected_date_on_the_line_of_its_check(prices):
    report = check_quality(prices)
    figure = report.plot()
    price, lines = figure.axes
    assert [label.get_text() for label in lines.get_yticklabels()] == [
        "outliers (21, warning)",
        "zero_volume (2, warning)",
    ]
    marked = {len(line.get_xdata()): set(line.get_ydata()) for line in lines.get_lines()}
    assert marked == {21: {0}, 2: {1}}
    assert len(price.get_lines()[0].get_xdata()) == len(prices)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=40)
    assert picture.getvalue().startswith(b"\x89PNG")


def test_errors_and_warnings_differ_in_marker_as_well_as_colour(broken):
    lines = check_quality(broken).plot().axes[1].get_lines()
    looks = {(line.get_color(), line.get_marker()) for line in lines}
    assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == 2


def test_a_figure_without_findings_says_so(prices):
    figure = check_quality(prices.loc["2016":"2017"]).plot()
    assert [text.get_text() for text in figure.axes[1].texts] == ["no affected dates"]


def test_importing_quality_loads_neither_matplotlib_nor_calendars():
    code = (
        "import sys; import forecastlib.data.quality; "
        "print([name for name in ('matplotlib', 'pandas_market_calendars', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
