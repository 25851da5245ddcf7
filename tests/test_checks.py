"""The framework of checks that the quality gate and the leak audit share."""

from dataclasses import replace
from html.parser import HTMLParser
from typing import ClassVar

import pandas as pd
import pytest

from forecastlib.checks import STATUS_COLOURS, Check, Finding, Outcome, Report, run_checks
from forecastlib.errors import ConfigError, DataQualityError

DAYS = pd.date_range("2024-01-01", periods=7, name="date")


def negative_values(numbers: list[int]) -> Outcome:
    found = [number for number in numbers if number < 0]
    return Outcome(
        "failed" if found else "passed",
        measured=len(found),
        affected=tuple(map(str, found)),
        dates=DAYS[: len(found)],
        detail=f"{len(found)} of {len(numbers)} numbers",
    )


def too_few(numbers: list[int]) -> Outcome:
    if not numbers:
        return Outcome("not applicable", detail="there are no numbers")
    return Outcome("failed" if len(numbers) < 3 else "passed", measured=len(numbers))


CHECKS = (
    Check("negative", negative_values, meaning="no number is negative", remedy="take the absolute values"),
    Check("few", too_few, severity="warning", meaning="there are enough numbers", remedy="add some"),
)


def report_on(numbers: list[int]) -> Report:
    return Report("numbers", run_checks(CHECKS, numbers))


def test_a_failed_check_has_the_status_of_its_severity_and_names_its_remedy():
    negative, few = run_checks(CHECKS, [-1, 2])
    assert (negative.status, negative.affected, negative.remedy) == ("failed", ("-1",), "take the absolute values")
    assert (few.status, few.measured, few.remedy) == ("warning", 2, "add some")


def test_a_passed_check_says_what_it_shows_and_has_no_remedy():
    negative, few = run_checks(CHECKS, [1, 2, 3])
    assert (negative.status, negative.meaning, negative.remedy) == ("passed", "no number is negative", "")
    assert few.status == "passed"


def test_checks_can_be_chosen_by_name_and_keep_their_order():
    assert [finding.check for finding in run_checks(CHECKS, [1], names=("few", "negative"))] == ["negative", "few"]
    assert [finding.check for finding in run_checks(CHECKS, [1], names=("few",))] == ["few"]


def test_an_unknown_check_is_an_error_that_names_the_nearest_one():
    with pytest.raises(ConfigError, match=r"unknown check 'negativ'; did you mean 'negative'\?"):
        run_checks(CHECKS, [1], names=("negativ",))
    with pytest.raises(ConfigError, match=r"unknown check 'fewer'; did you mean 'few'\?"):
        report_on([1]).finding("fewer")


def test_an_unknown_severity_is_an_error():
    with pytest.raises(ConfigError, match="unknown severity 'fatal'"):
        replace(CHECKS[0], severity="fatal")


def test_warnings_and_checks_that_do_not_apply_let_a_report_pass():
    assert report_on([1]).passed
    assert report_on([]).passed
    assert not report_on([-1, 2, 3]).passed


def test_an_error_check_that_could_not_run_does_not_pass():
    prevented = Outcome("not run", detail="another fault prevents it")
    assert not Report("numbers", (CHECKS[0].finding(prevented),)).passed
    assert Report("numbers", (CHECKS[1].finding(prevented),)).passed


def test_the_table_has_one_row_per_check():
    table = report_on([-1, -2]).checks
    assert table.columns.tolist() == [
        "check", "severity", "status", "measured", "affected", "first_dates", "detail", "meaning", "remedy"
    ]  # fmt: skip
    assert table.loc[0, ["check", "status", "measured", "affected", "first_dates"]].tolist() == [
        "negative", "failed", 2, "-1, -2", "2024-01-01, 2024-01-02"
    ]  # fmt: skip


def test_affected_lists_all_findings_and_the_texts_only_the_first():
    numbers = [-1, -2, -3, -4, -5, -6]
    report = report_on(numbers)
    assert report.affected() == {"negative": tuple(map(str, numbers))}
    finding = report.finding("negative")
    assert finding.affected_text == "-1, -2, -3, and 3 more"
    assert finding.dates_text == "2024-01-01, 2024-01-02, 2024-01-03, 2024-01-04, 2024-01-05, and 1 more"


def test_raising_names_each_failed_check_with_figures_and_remedy_but_no_warnings():
    class NumberReport(Report):
        error: ClassVar = DataQualityError
        expectation: ClassVar = "usable numbers"

    findings = run_checks(CHECKS, [-1, 2])
    with pytest.raises(DataQualityError) as raised:
        NumberReport("numbers", findings).raise_for_errors()
    assert str(raised.value) == (
        "expected usable numbers; got numbers: failed, 2 of 2 checks with findings:"
        "\n- negative: -1; 1 of 2 numbers; take the absolute values"
    )
    NumberReport("numbers", run_checks(CHECKS, [1])).raise_for_errors()


def test_raising_names_the_checks_that_could_not_run_if_none_failed():
    report = Report("numbers", (CHECKS[0].finding(Outcome("not run", detail="a column is missing")),))
    with pytest.raises(Exception, match="negative; a column is missing"):
        report.raise_for_errors()


def test_the_text_lists_the_checks_that_did_not_pass():
    assert repr(report_on([1, 2, 3])) == "numbers: passed, 0 of 2 checks with findings"
    assert repr(report_on([1])) == "numbers: passed, 1 of 2 checks with findings\n  warning  few; add some"


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows:
            self.rows[-1][-1] += data


def test_the_html_table_shows_every_check_and_escapes_everything():
    findings = [
        replace(finding, detail="<script>alert(1)</script>", remedy="a & b") for finding in report_on([-1]).findings
    ]
    cells = _Cells()
    cells.feed(Report("<b>", tuple(findings))._repr_html_())
    assert cells.tags == {"p", "b", "table", "thead", "tbody", "tr", "th", "td"}
    assert cells.rows == [
        ["check", "status", "affected", "detail", "meaning", "remedy"],
        ["negative", "✗ failed", "-1", "<script>alert(1)</script>", "no number is negative", "a & b"],
        ["few", "! warning", "", "<script>alert(1)</script>", "there are enough numbers", "a & b"],
    ]


def luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", sorted(set(STATUS_COLOURS.values())))
def test_colours_are_legible_on_the_light_and_the_dark_background_of_a_notebook(colour):
    on_white = 1.05 / (luminance(colour) + 0.05)
    on_dark = (luminance(colour) + 0.05) / (luminance("#111111") + 0.05)
    assert min(on_white, on_dark) >= 4.0


def test_findings_are_compared_by_value():
    assert run_checks(CHECKS, [-1]) == run_checks(CHECKS, [-1])
    assert isinstance(run_checks(CHECKS, [-1])[0], Finding)
