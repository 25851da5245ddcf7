"""Prices as text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from forecastlib.drawing import price_axis
from forecastlib.formatting import format_error, format_interval, format_price


@pytest.mark.parametrize(
    ("price", "text"),
    [
        (7510.3, "7,510.30"),
        (123456.789, "123,456.79"),
        (34.5, "34.500"),
        (1.08347, "1.0835"),
        (0.9, "0.90000"),
        (0.00001, "0.000010000"),
        (1.5e-12, "1.5000e-12"),
        (-2506.849, "-2,506.85"),
        (0.0, "0.00"),
        (math.nan, "nan"),
    ],
)
def test_a_price_has_two_decimals_and_more_if_it_is_small(price, text):
    assert format_price(price) == text


@given(st.floats(min_value=1e-15, max_value=1e9))
def test_a_price_keeps_five_significant_digits(price):
    assert float(format_price(price).replace(",", "")) == pytest.approx(price, rel=5.1e-5)


def test_an_error_has_three_significant_digits():
    assert [format_error(error) for error in (1234.56, 51.63, 0.0123, 0.0000123)] == [
        "1,234.6",
        "51.6",
        "0.0123",
        "0.0000123",
    ]


def test_both_ends_of_an_interval_have_the_same_decimals():
    assert format_interval(2394.6, 2607.2) == "2,395 to 2,607"
    assert format_interval(0.98765, 1.0123) == "0.9877 to 1.0123"
    assert format_interval(0.0000098, 0.0000102) == "0.000009800 to 0.000010200"
    assert format_interval(1e-12, 2e-12) == "1.000e-12 to 2.000e-12"


@pytest.mark.parametrize(
    ("low", "high"), [(2300.0, 2600.0), (1.07, 1.14), (0.95, 1.05), (0.0000121, 0.0000129), (12.0, 14.0)]
)
@pytest.mark.parametrize("log", [False, True])
def test_ticks_of_a_price_axis_say_where_they_are(low, high, log):
    figure = Figure()
    axes = figure.subplots()
    axes.set_ylim(low, high)
    price_axis(axes, log=log)
    figure.canvas.draw()
    labels = [(tick.get_text(), y) for tick in axes.get_yticklabels(which="both") for _, y in [tick.get_position()]]
    shown = {float(text.replace(",", "")): y for text, y in labels if low <= y <= high}
    assert len(shown) >= 2
    assert list(shown) == pytest.approx(list(shown.values()), rel=1e-6)
