"""The web page of the service, in a headless Chromium that cannot reach other addresses."""

import contextlib
import socket
import threading
from dataclasses import replace
from pathlib import Path

import browser
import pytest
import serving_project
import tiny
import uvicorn

from forecastlib.drawing import INK, RED, SKY
from forecastlib.serving.settings import KeyFile
from forecastlib.serving.trainings import Job

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no Chromium on the PATH"),
]

SOURCE = Path(serving_project.create_app.__code__.co_filename).parent / "page"


@contextlib.contextmanager
def listening(app):
    """Serve an application on a free local port, and yield its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as opened:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{opened.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture(scope="module")
def address(served):
    jobs = served.app.state.service.jobs
    for symbol, status, error in (("^IXIC", "started", None), ("^GSPC", "failed", "<b>no</b> prices")):
        request = {"training_days": 500, "sessions": 500, "start": "2017-01-03", "force_retrain": True}
        jobs.add(replace(Job.create(symbol, request, "ann"), status=status, error=error))
    with listening(served.app) as found:
        yield found


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser.chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(tab, address):
    tab.problems.clear()
    tab.requested.clear()
    tab.size(1000)
    tab.open(f"{address}/")
    tab.until("document.querySelector('#fan svg') && document.querySelector('#jobs tbody')")
    yield tab
    assert tab.problems == []


def cells(page, table):
    """Return the texts of a table by row."""
    rows = f"[...document.querySelectorAll('#{table} tbody tr')]"
    return page.read(f"{rows}.map((row) => [...row.cells].map((cell) => cell.textContent))")


def test_the_page_shows_the_symbol_its_champion_the_forecast_the_scorecard_and_the_trainings(page, served):
    version = tiny.forecaster().metadata.version
    assert page.read("document.querySelector('#symbols button').textContent").startswith(f"^IXICchampion {version}")
    answer = served.post("/predict", json={"symbol": "^IXIC"}).json()
    shown = cells(page, "horizons")
    assert [row[:2] for row in shown] == [[str(row["horizon"]), row["target_date"]] for row in answer["forecasts"]]
    assert shown[0][2] == f"{answer['forecasts'][0]['predicted_price']:,.1f}"
    page.until("document.querySelector('#scores tbody')")
    assert [row[:3] for row in cells(page, "scores")] == [["^IXIC", "7", version], ["^IXIC", "14", version]]
    jobs = cells(page, "jobs")
    assert [row[1] for row in jobs] == ["failed", "started"]
    assert jobs[0][-1] == "<b>no</b> prices"  # as text
    assert page.read("document.querySelectorAll('#jobs b').length") == 0


def test_the_page_says_how_many_hindsight_forecasts_are_scored_separately(page, served):
    served.post("/predict", json={"symbol": "^IXIC", "date": "2018-06-29"}).raise_for_status()
    count = served.get("/scorecard").json()["left_out"]
    assert count >= len(tiny.PARAMETERS["horizons"])
    page.open(page.read("location.href"))
    page.until(
        f"document.querySelector('#notice')?.textContent === '{count} hindsight forecasts are scored separately'"
    )


def test_the_fan_chart_has_the_colours_of_the_notebooks(page):
    def colour(selector, kind):
        return page.read(f"getComputedStyle(document.querySelector('#fan {selector}')).{kind}")

    def rgb(code):
        return f"rgb({', '.join(str(int(code[at : at + 2], 16)) for at in (1, 3, 5))})"

    assert [colour(name, "fill") for name in (".wide", ".narrow")] == [rgb(SKY)] * 2
    assert (colour(".close", "stroke"), colour(".line", "stroke")) == (rgb(INK), rgb(RED))
    points = page.read("document.querySelector('#fan .close').getAttribute('d').split('L').length")
    assert points == 90
    assert page.read("document.querySelectorAll('#fan .point').length") == 1 + len(tiny.PARAMETERS["horizons"])
    label = page.read("document.querySelector('#fan svg').getAttribute('aria-label')")
    assert label.startswith("^IXIC: forecast of 2018-12-31")


def test_nothing_is_loaded_from_other_sites(page, address):
    assert {url for url in page.requested if not url.startswith((address, "data:"))} == set()
    assert {f"{address}/", f"{address}/page.js", f"{address}/page.css"} <= set(page.requested)


def test_the_page_can_be_used_by_keyboard_only(page):
    page.read("document.activeElement.blur()")
    reached = []
    for _ in range(12):
        page.press("Tab")
        reached.append(page.read("document.activeElement.dataset.symbol || document.activeElement.className || ''"))
        if reached[-1] == "^IXIC":
            break
    assert reached[0] == "skip"
    assert reached[-1] == "^IXIC"
    assert page.read("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.read("document.querySelector('#fan').replaceChildren()")
    page.press("Enter")
    page.until("document.querySelector('#fan svg')")
    assert page.read("document.activeElement.getAttribute('aria-pressed')") == "true"


@pytest.mark.parametrize("width", [320, 390, 768])
def test_on_narrow_screens_only_tables_scroll_sideways(page, width):
    page.size(width)
    page.until(f"window.innerWidth === {width}")
    page.until(f"document.querySelector('#fan svg').viewBox.baseVal.width <= {width}")
    assert page.read("document.documentElement.scrollWidth") <= width
    # The figure is not scaled down, so its text has the stated size.
    scale = page.read(
        "(() => { const svg = document.querySelector('#fan svg');"
        " return svg.getBoundingClientRect().width / svg.viewBox.baseVal.width; })()"
    )
    assert scale > 0.95


def test_a_service_with_keys_asks_for_a_key(tab, served, tmp_path):
    keys = KeyFile(tmp_path / "keys.json")
    token = keys.add("ann")
    with (
        serving_project.client(serving_project.settings(keys=keys.path)) as client,
        listening(client.app) as address,
    ):
        tab.open(f"{address}/")
        tab.until("document.querySelector('#key')?.hidden === false")
        assert tab.read("document.querySelector('#notice').textContent") == "This service requires an API key."
        tab.read(f"document.querySelector('#token').value = {token!r}; document.querySelector('#key').requestSubmit()")
        tab.until("document.querySelector('#fan svg')")
        tab.until("document.querySelector('#key').hidden")
        assert token not in tab.read("document.body.innerHTML + document.cookie + location.href")


def test_without_a_model_the_page_says_how_to_train_one(tab, tmp_path):
    with (
        tiny.home(tmp_path),
        serving_project.client() as client,
        listening(client.app) as address,
    ):
        tab.open(f"{address}/")
        tab.until("document.querySelector('#notice')?.textContent.startsWith('No model has been trained yet')")
        tab.until("document.querySelector('#jobs').textContent === 'No training has been requested yet.'")


def test_the_documentation_loads_nothing_from_other_sites(tab, address):
    tab.open("about:blank")
    tab.until("location.href === 'about:blank'")
    tab.requested.clear()
    tab.open(f"{address}/docs")
    tab.until("document.querySelector('#PredictRequest')")
    assert {url for url in tab.requested if not url.startswith((address, "data:"))} == set()


def test_the_page_is_plain_html_with_one_script():
    html = (SOURCE / "page.html").read_text()
    assert html.count("<script") == 1
    assert "style=" not in html
