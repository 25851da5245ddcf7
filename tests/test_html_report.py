"""HTML reports: self-contained, readable offline, without log messages."""

import nbformat
import pytest

from forecastlib.runner import write_html

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture
def html(tmp_path):
    output = nbformat.v4.new_output
    cell = nbformat.v4.new_code_cell(
        "figure",
        outputs=[
            output("stream", name="stderr", text="training: 100%"),
            output("stream", name="stdout", text="a printed result"),
            output("display_data", data={"image/png": PIXEL}),
        ],
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Why? \N{EM DASH} 날짜"), cell])
    nbformat.write(notebook, tmp_path / "05_forecast.ipynb")
    return write_html(tmp_path / "05_forecast.ipynb")


def test_the_page_is_next_to_the_notebook_and_named_after_it(html):
    assert html.name == "05_forecast.html"
    assert f"<title>{html.parent.name} 05_forecast</title>" in html.read_text(encoding="utf-8")


def test_the_page_contains_figures_and_text(html):
    page = html.read_text(encoding="utf-8")
    assert f"data:image/png;base64,{PIXEL[:40]}" in page
    assert "날짜" in page
    assert "a printed result" in page


def test_the_page_loads_nothing_over_the_network(html):
    page = html.read_text(encoding="utf-8")
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page


def test_progress_bars_and_log_messages_stay_in_the_notebook(html):
    assert "training: 100%" not in html.read_text(encoding="utf-8")
    assert "training: 100%" in html.with_suffix(".ipynb").read_text(encoding="utf-8")
